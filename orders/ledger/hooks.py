"""What the ledger is asked about outbound webhooks: endpoints, the outbox, deliveries.

Owns the calls of the functions of 12_hooks.sql and the mapping of rows; knows no HTTP, no key that
secrets are sealed with, and no policy. Called by `livecart`. Raises `LedgerAway` as the ledger
does: whether a change was made is then not known, and each may be made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from orders.ledger.ledger import Ledger, Told
from orders.ledger.queries import load

SQL = load("orders.ledger", "sql/hooks.sql")

DeliveryState = Literal["pending", "delivered", "dead"]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants to hear of what; times in ms."""

    id: str
    shop: str
    url: str
    events: list[str]
    enabled: bool
    created_at: int
    description: str | None = None
    disabled_at: int | None = None
    disabled_why: Literal["host", "gone", "failing"] | None = None
    failing_since: int | None = None
    delivered_at: int | None = None  # the last success, to some seconds


class Row(msgspec.Struct, frozen=True):
    """A row of the outbox: changed orders, or one fact."""

    n: int
    shop: str
    stream: str
    at: int
    orders: list[str] | None
    versions: list[int] | None
    names: list[str] | None
    fact: int | None


class Event(msgspec.Struct, frozen=True):
    """What is told of one row of the outbox, its body frozen."""

    row: int
    id: str
    type: str
    body: str


class Waiting(NamedTuple):
    """An endpoint with something due."""

    id: str
    shop: str
    failures: int  # in a row


class Claimed(msgspec.Struct, frozen=True):
    """A delivery that is ours while its lease lasts."""

    n: int
    webhook: str
    event: str
    type: str
    body: str
    attempt: int  # ever; it fences the outcome
    tries: int  # since it was made, or replayed; this one included


class Target(msgspec.Struct, frozen=True):
    """Where an endpoint is, and what signs for it, the newest first."""

    id: str
    url: str
    sealed: list[bytes]
    now_ms: int  # when this was read, on Postgres' clock


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt went."""

    attempt: int
    at: int
    duration_ms: int
    status: int | None = None
    error: str | None = None
    answer: str | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to one endpoint."""

    n: int
    event: str
    type: str
    state: DeliveryState
    created_at: int
    attempts: int
    body: str
    due_at: int | None = None
    last: Attempt | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt went, to be noted."""

    ok: bool
    duration_ms: int
    status: int | None = None
    error: str | None = None
    answer: str | None = None


class Noted(NamedTuple):
    """What follows from an attempt."""

    word: str  # delivered, again, dead, stale
    disabled: str | None  # why the endpoint was switched off by it


class Backlog(NamedTuple):
    """How far behind the telling is, in seconds; and endpoints that are off for their failures."""

    outbox_s: float
    delivery_s: float
    disabled: int


class HookLedger:
    """Asks Postgres about webhooks."""

    def __init__(self, ledger: Ledger) -> None:
        self._rows = ledger.rows
        self._word = ledger.word

    # --- endpoints -------------------------------------------------------------------------------

    async def create(
        self, id_: str, shop: str, url: str, events: Sequence[str], description: str | None,
        sealed: bytes, endpoints_max: int,
    ) -> str:  # fmt: skip
        """Add an endpoint; the word is ok, or too_many."""
        of_orders, of_facts = _of(events)
        return await self._word(
            "create_webhook", id_, shop, url, list(events), of_orders, of_facts, description,
            sealed, endpoints_max,
        )  # fmt: skip

    async def revise(
        self, id_: str, *, url: str | None, events: Sequence[str] | None,
        description: str | None, enabled: bool | None,
    ) -> str:  # fmt: skip
        """Change what is not None; the word is ok, or not_found."""
        of_orders, of_facts = (None, None) if events is None else _of(events)
        return await self._word(
            "revise_webhook", id_, url, None if events is None else list(events), of_orders,
            of_facts, description, enabled,
        )  # fmt: skip

    async def rotate(self, id_: str, sealed: bytes, overlap_s: float, secrets_max: int) -> str:
        """Sign with another secret, beside those before for a while; ok, not_found or too_many."""
        return await self._word("rotate_webhook", id_, sealed, overlap_s, secrets_max)

    async def delete(self, id_: str) -> str:
        """Tell it nothing more; the word is ok, or not_found."""
        return await self._word("delete_webhook", id_)

    async def endpoint(self, id_: str) -> Endpoint | None:
        """Return an endpoint, None when there is none."""
        rows = await self._rows(SQL["webhook"], id_)
        return Endpoint(**rows[0]) if rows else None

    async def endpoints_page(
        self, shop: str | None, before: str | None, limit: int
    ) -> list[Endpoint]:
        """Return a page of endpoints, newest first."""
        rows = await self._rows(SQL["webhooks_page"], shop, before, limit)
        return [Endpoint(**row) for row in rows]

    # --- from the outbox to deliveries -----------------------------------------------------------

    async def outbox(self, limit: int) -> list[Row]:
        """Return rows that wait; another sender may return the same ones."""
        return [Row(*row) for row in await self._rows(SQL["outbox"], limit)]

    async def put_off(self, row: int, seconds: float) -> None:
        """Leave a row for later that cannot be read now."""
        await self._rows(SQL["put_off"], row, seconds)

    async def facts(self, of: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Told]:
        """Return those of the facts (stream, n) that exist."""
        streams, numbers = [stream for stream, _ in of], [n for _, n in of]
        return {
            (r["stream"], r["n"]): Told(
                r["n"],
                r["kind"],
                r["subject"],
                r["reason"],
                None if r["body"] is None else msgspec.json.decode(r["body"]),
                r["at"],
            )
            for r in await self._rows(SQL["facts_by_n"], streams, numbers)
        }

    async def make(self, rows: Sequence[int], events: Sequence[Event]) -> int:
        """Make deliveries of the events and take their rows away; return how many were made."""
        made = await self._rows(
            "select make_deliveries($1, $2, $3, $4, $5)",
            list(rows),
            [event.row for event in events],
            [event.id for event in events],
            [event.type for event in events],
            [event.body for event in events],
        )
        return int(made[0][0])

    # --- from deliveries to their ends -----------------------------------------------------------

    async def waiting(self) -> list[Waiting]:
        """Return the endpoints that something is due for and that may be sent to now."""
        return [Waiting(*row) for row in await self._rows(SQL["waiting"])]

    async def claim(self, many: dict[str, int], lease_s: float) -> list[Claimed]:
        """Take so many due deliveries of each endpoint; nobody else gets them for `lease_s`."""
        rows = await self._rows(
            "select * from claim_deliveries($1, $2, $3)",
            list(many), list(many.values()), lease_s,
        )  # fmt: skip
        return [Claimed(*row) for row in rows]

    async def targets(self, webhooks: Sequence[str]) -> dict[str, Target]:
        """Return where these endpoints are and what signs for them now."""
        rows = await self._rows(SQL["targets"], list(webhooks))
        return {row["id"]: Target(*row) for row in rows}

    async def note(self, claimed: Claimed, outcome: Outcome, wait_s: float, life_s: float) -> Noted:
        """Write down how an attempt went; it is tried again in `wait_s`, at most for `life_s`."""
        rows = await self._rows(
            "select * from note_delivery($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            claimed.n, claimed.attempt, outcome.ok, outcome.status, outcome.error, outcome.answer,
            outcome.duration_ms, wait_s, life_s,
        )  # fmt: skip
        return Noted(*rows[0])

    async def sweep(self, life_s: float, kept_s: float, limit: int) -> int:
        """End what is over and delete what was kept for long; return how many rows that were."""
        rows = await self._rows("select sweep_hooks($1, $2, $3)", life_s, kept_s, limit)
        return int(rows[0][0])

    async def backlog(self) -> Backlog:
        """Return how far behind the telling is."""
        return Backlog(*(await self._rows(SQL["backlog"]))[0])

    # --- the log of deliveries -------------------------------------------------------------------

    async def test(self, webhook: str, event: str, type_: str, body: str) -> int | None:
        """Make a delivery that nothing is the cause of; None when the endpoint is off."""
        rows = await self._rows(SQL["test_delivery"], webhook, event, type_, body)
        return int(rows[0][0]) if rows else None

    async def deliveries_page(
        self, webhook: str, *, state: DeliveryState | None = None, n: int | None = None,
        before: int | None = None, limit: int = 1,
    ) -> list[Delivery]:  # fmt: skip
        """Return a page of an endpoint's deliveries, newest first, each with its last attempt."""
        rows = await self._rows(SQL["deliveries_page"], webhook, state, n, before, limit)
        made = []
        for row in rows:
            values = dict(row)
            attempt, at = values.pop("attempt"), values.pop("at")
            rest = {name: values.pop(name) for name in ("duration_ms", "status", "error", "answer")}
            last = None if attempt is None else Attempt(attempt=attempt, at=at, **rest)
            made.append(Delivery(last=last, **values))
        return made

    async def attempts(self, delivery: int) -> list[Attempt]:
        """Return how a delivery went, the newest first, a hundred at most."""
        return [Attempt(**row) for row in await self._rows(SQL["attempts"], delivery)]

    async def replay(
        self, webhook: str, *, n: int | None, since_ms: int | None, dead_only: bool, limit: int
    ) -> tuple[int, int | None]:
        """Send ended deliveries again; return how many, and the time to go on from if any."""
        row = (
            await self._rows(
                "select many, last_ms from replay_deliveries($1, $2, $3, $4, $5)",
                webhook, n, since_ms, dead_only, limit,
            )
        )[0]  # fmt: skip
        return row[0], row[1]


def _of(events: Sequence[str]) -> tuple[bool, bool]:
    """Tell whether a filter may let events of orders through, and of offers or streams."""
    kinds = {event.partition(".")[0] for event in events}
    return "order" in kinds, bool(kinds - {"order"})
