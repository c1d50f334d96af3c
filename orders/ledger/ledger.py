"""The ledger: every question and order that selling puts to Postgres.

Owns the calls of the SQL functions and the mapping of rows to records; knows no Redis and no
policy. Called by selling, keeper, rebuild and, for reads, by `livecart`. Raises `LedgerAway` when
Postgres is away or too busy; whether a change was made is then not known.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, cast

import asyncpg
import msgspec

from orders.ledger.queries import load
from orders.records import Offer, Once, Order, OrderStatus

SQL = load("orders.ledger", "sql/offers.sql") | load("orders.ledger", "sql/orders.sql")
OUTBOX = load("orders.ledger", "sql/outbox.sql")

#: SQLSTATE classes and codes that say "not now": connection, resources, operator intervention,
#: serialization, lock and statement timeouts, read-only standby.
TRANSIENT = ("08", "53", "57", "40", "55P03", "25006", "25P03", "25P04")


class LedgerAway(Exception):
    """Postgres did not answer, or cannot now; the outcome of a change is not known."""


class LedgerBusy(LedgerAway):
    """Postgres answered that a lock or a statement took too long: nothing was changed."""


class LedgerSlow(LedgerAway):
    """A read was not answered in time, be it for want of a turn."""


#: lock_not_available, query_canceled (a statement timeout)
BUSY = ("55P03", "57014")


def transient(error: BaseException) -> bool:
    """Tell whether an error of the driver means "not now" rather than "this is wrong" (R5)."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(TRANSIENT)
    if isinstance(error, ValueError):  # asyncpg could not encode an argument
        return False
    # InternalClientError is what asyncpg raises when a connection dies in the middle of a call.
    return isinstance(
        error,
        OSError | asyncio.TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError,
    )


class Line(msgspec.Struct, frozen=True):
    """One held buy that asks for a row."""

    id: str
    viewer: str
    key: str
    qty: int
    rank: int


class Admitted(msgspec.Struct, frozen=True):
    """What one admission call did; `outcomes` is None when every line was inserted."""

    outcomes: list[str] | None
    status: OrderStatus
    reserved_ms: int
    expires_ms: int | None
    left: int
    version: int
    told: bool  # facts wait to be published


class Active(msgspec.Struct, frozen=True):
    """An offer that the keeper compares with the gate."""

    id: str
    epoch: int
    movement: int
    closed: bool
    untold: bool  # closed, and it is not noted yet that the gate knows all


class Summed(msgspec.Struct, frozen=True):
    """What an offer in buckets sums to; nothing to be told unless it is `fresh`."""

    fresh: bool
    told: bool  # facts wait to be published
    stream: str
    left_units: int
    offer_version: int


class Told(msgspec.Struct, frozen=True):
    """A committed main event, still in the ledger's words."""

    n: int
    kind: str
    subject: str
    reason: str | None
    body: dict[str, Any] | None
    at: int


class Ledger:
    """Asks Postgres over one pool."""

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        timeout_s: float = 5.0,
        acquire_s: float = 0.8,
    ) -> None:
        self.pool = pool
        self.timeout_s = timeout_s  # of one statement, lock waits included
        self.acquire_s = acquire_s  # of getting a connection, connecting included

    async def rows(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """Return what a statement gives; raise `LedgerAway` when that cannot be had now."""
        try:
            return await self._fetch(sql, args)
        except Exception as error:
            if isinstance(error, asyncpg.PostgresError) and error.sqlstate in BUSY:
                raise LedgerBusy(repr(error)) from error
            if transient(error):
                raise LedgerAway(repr(error)) from error
            raise

    async def _fetch(self, sql: str, args: tuple[object, ...]) -> list[asyncpg.Record]:
        connection = await self.pool.acquire(timeout=self.acquire_s)
        try:
            return await connection.fetch(sql, *args, timeout=self.timeout_s)
        except BaseException as error:
            answered = isinstance(error, asyncpg.PostgresError) and (
                error.sqlstate in BUSY or not transient(error)
            )
            if not answered:
                # A late answer must never meet the next caller. The pool itself may have taken a
                # dead connection back already, and then forbids the call.
                with contextlib.suppress(asyncpg.InterfaceError):
                    connection.terminate()
            raise
        finally:
            await self.pool.release(connection, timeout=self.acquire_s)

    async def ping(self) -> None:
        """Return when Postgres answers."""
        await self.rows("select 1")

    async def word(self, function: str, *args: object) -> str:
        """Call one of the SQL functions that answer with a word."""
        marks = ", ".join(f"${i + 1}" for i in range(len(args)))
        return cast(str, (await self.rows(f"select {function}({marks})", *args))[0][0])

    # --- selling -----------------------------------------------------------------------------

    async def admit(self, offer: str, epoch: int, lines: Sequence[Line]) -> Admitted:
        """Make rows for held buys of one offer, in rank order; committed when it returns (R3)."""
        row = (
            await self.rows(
                "select * from admit($1, $2, $3, $4, $5, $6, $7)",
                offer,
                epoch,
                [line.id for line in lines],
                [line.viewer for line in lines],
                [line.key for line in lines],
                [line.qty for line in lines],
                [line.rank for line in lines],
            )
        )[0]
        return Admitted(*row)

    async def create_offer(
        self,
        offer: str,
        stream: str,
        product: str,
        price_minor: int,
        quantity: int,
        per_viewer: int,
        opens_at: int | None,
        closes_at: int | None,
        hold_s: int,
        payment: str,
        keyword: str | None,
        keyword_form: str | None,
        keyword_mode: str,
        extends: int,
        waitlist_max: int,
        waitlist_hold_s: int,
        mode: str,
        eligibility: str,
        buckets: int,
        ship_within_h: int | None,
        once: Once | None,
    ) -> tuple[str, str]:
        """Make an offer's row; times in ms. Return the SQL function's word, and the offer's id.

        That is another than `offer` where the key of `once` has one already: the word is `again`.
        """
        rows = await self.rows(
            SQL["create_offer"],
            offer, stream, product, price_minor, quantity, per_viewer, opens_at, closes_at, hold_s,
            payment, keyword, keyword_form, keyword_mode, extends, waitlist_max, waitlist_hold_s,
            mode, eligibility, buckets, ship_within_h, once and once.key, once and once.digest,
        )  # fmt: skip
        return rows[0]["word"], rows[0]["id"]

    async def cancel(
        self, order: str, by_host: bool, reason: str | None, who: str | None = None
    ) -> tuple[str, Order | None]:
        """End one order; return the SQL function's word, and the order as it is then."""
        sql = "select c.word, (c.now).* from cancel($1, $2, $3, $4) c"
        return settled(await self.rows(sql, order, by_host, reason, who))

    async def pay(self, order: str, who: str | None = None) -> tuple[str, Order | None]:
        """Note one order as paid by hand; return the SQL function's word, and the order then."""
        return settled(await self.rows("select c.word, (c.now).* from pay($1, $2) c", order, who))

    async def extend(
        self, order: str, version: int, who: str | None = None
    ) -> tuple[str, Order | None]:
        """Move one order's deadline; return the SQL function's word, and the order then."""
        sql = "select c.word, (c.now).* from extend($1, $2, $3) c"
        return settled(await self.rows(sql, order, version, who))

    async def expire(self, offer: str, limit: int) -> list[Order]:
        """End due orders of one offer; return them."""
        return [_order(r) for r in await self.rows("select * from expire($1, $2)", offer, limit)]

    async def fence(self, offer: str, epoch: int, rank: int) -> bool:
        """Refuse ranks up to `rank` from now on; False when the epoch is another by now (R1)."""
        rows = await self.rows("select fence($1, $2, $3)", offer, epoch, rank)
        return cast(bool, rows[0][0])

    async def gate_told(self, offer: str, movement: int) -> None:
        """Note that the gate knows a closed offer up to this movement."""
        await self.rows(SQL["gate_told"], offer, movement)

    async def raise_epoch(self, offer: str, gate_epoch: int) -> int:
        """Begin a rebuild; return its epoch (R2)."""
        return cast(int, (await self.rows("select raise_epoch($1, $2)", offer, gate_epoch))[0][0])

    # --- reads -------------------------------------------------------------------------------

    async def offers(self, ids: Sequence[str]) -> list[Offer]:
        """Return those of the offers that exist."""
        return [offer_of(r) for r in await self.rows(SQL["offers_by_id"], list(ids))]

    async def offers_of_stream(self, stream: str) -> list[Offer]:
        """Return the stream's offers, newest first, drafts and closed ones too."""
        return [offer_of(r) for r in await self.rows(SQL["offers_of_stream"], stream)]

    async def orders(self, ids: Sequence[str]) -> list[Order]:
        """Return those of the orders that exist, in any order."""
        return [_order(r) for r in await self.rows(SQL["orders_by_id"], list(ids))]

    async def orders_by_key(self, keys: Sequence[tuple[str, str, str]]) -> list[Order]:
        """Return the orders bound to these (offer, viewer, key), in any order."""
        return [
            _order(r)
            for r in await self.rows(
                SQL["orders_by_key"],
                [k[0] for k in keys],
                [k[1] for k in keys],
                [k[2] for k in keys],
            )
        ]

    async def orders_of_viewers(
        self, stream: str, viewers: Sequence[str], limit: int
    ) -> list[Order]:
        """Return each viewer's newest orders in the stream, newest first."""
        rows = await self.rows(SQL["orders_of_viewers"], stream, list(viewers), limit)
        return [_order(r) for r in rows]

    async def order_shop(self, order: str) -> tuple[str, str, str, str] | None:
        """Return an order's (shop, viewer, offer, stream)."""
        rows = await self.rows(SQL["order_shop"], order)
        return tuple(rows[0]) if rows else None

    # --- what the keeper looks after ---------------------------------------------------------

    async def active_offers(self) -> list[Active]:
        """Return what the gate decides about, or decided lately."""
        return [Active(*r) for r in await self.rows(SQL["active_offers"])]

    async def due_offers(self, ahead_s: float) -> list[tuple[str, bool, int]]:
        """Return (id, closes, in how many ms) of offers that open or close within `ahead_s`."""
        return [tuple(r) for r in await self.rows(SQL["due_offers"], ahead_s)]

    async def due_order_offers(self) -> list[tuple[str, int]]:
        """Return (offer, ms late) of offers with reserved orders past their deadline."""
        return [tuple(r) for r in await self.rows(SQL["due_order_offers"])]

    # --- buckets -----------------------------------------------------------------------------

    async def free_in_buckets(self, offers: Sequence[str]) -> dict[str, dict[str, int]]:
        """Return the free units of each bucket, by offer, as of one moment."""
        found: dict[str, dict[str, int]] = {}
        for offer, bucket, units in await self.rows(SQL["free_in_buckets"], list(offers)):
            found.setdefault(offer, {})[bucket] = units
        return found

    async def transfer(
        self, id_: str, lender: str, borrower: str, units: int, epoch: int, rank: int
    ) -> str:
        """Bring units that the lender's gate set aside to another bucket; return the word."""
        return await self.word("transfer", id_, lender, borrower, units, epoch, rank)

    async def transfers(self, ids: Sequence[str]) -> set[str]:
        """Return those of the transfers that were made."""
        return {r[0] for r in await self.rows(SQL["transfers"], list(ids))}

    async def settle_buckets(self, offer: str) -> Summed:
        """Bring an offer's own row to what its buckets have; return what is told of that."""
        rows = await self.rows("select * from settle_buckets($1)", offer)
        return Summed(**rows[0])

    async def apart_buckets(self) -> list[str]:
        """Return offers whose own row is behind what their buckets have."""
        return [r[0] for r in await self.rows(SQL["apart_buckets"])]

    async def waited_for(self) -> list[tuple[str, int, str]]:
        """Return (bucket, units, offer) where somebody waits for what other buckets have."""
        return [tuple(r) for r in await self.rows(SQL["waited_for"])]

    # --- outboxes ----------------------------------------------------------------------------

    async def movements(self, offer: str, after: int) -> list[asyncpg.Record]:
        """Return (n, kind, units, order_id, brings) of the movements after `after`, in order.

        `brings`: viewer, key, qty and rank of an order that the waitlist got.
        """
        return await self.rows(SQL["movements_after"], offer, after)

    async def brought_lately(self, offer: str) -> list[str]:
        """Return orders that the waitlist got and whose viewers may not know of them."""
        return [r[0] for r in await self.rows(SQL["brought_lately"], offer)]

    async def facts(self, stream: str, after: int | None) -> list[Told]:
        """Return the stream's facts after `after`, or after what is known to be published."""
        if after is None:
            head = await self.rows(OUTBOX["facts_published"], stream)
            after = head[0][0] if head else 0
        rows = await self.rows(OUTBOX["facts_after"], stream, after)
        return [
            Told(
                r["n"],
                r["kind"],
                r["subject"],
                r["reason"],
                None if r["body"] is None else msgspec.json.decode(r["body"]),
                r["at"],
            )
            for r in rows
        ]

    async def mark_published(self, stream: str, n: int) -> None:
        """Note that the log has the stream's facts up to `n`."""
        await self.rows(OUTBOX["mark_published"], stream, n)

    async def lagging_streams(self) -> list[str]:
        """Return streams whose facts wait to be published."""
        return [r[0] for r in await self.rows(OUTBOX["lagging_streams"])]


def offer_of(row: asyncpg.Record) -> Offer:
    """Return the record of a row of `offers_by_id`."""
    return Offer(**row)


def _order(row: asyncpg.Record) -> Order:
    return Order(**row)


def settled(rows: list[asyncpg.Record]) -> tuple[str, Order | None]:
    """Return the word of a function that changes an order, and the order as it is then."""
    word, *columns = rows[0].items()
    return word[1], None if rows[0]["id"] is None else Order(**dict(columns))
