"""The ledger of money: what payments ask of Postgres.

Owns the calls of the SQL functions of 11_money and the mapping of their rows; decides nothing and
knows no provider. Called by the cashier and, for reads, by `livecart`. Raises `LedgerAway` as the
ledger does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import msgspec

from orders.ledger.ledger import Ledger, settled
from orders.ledger.queries import load
from orders.payments.port import PaymentState, Seen
from orders.records import Order

SQL = load("orders.ledger", "sql/money.sql")
PAGE = 1_000  # rows of a long list at once

MoveKind = Literal["capture", "void", "refund"]


class Beginning(msgspec.Struct, frozen=True):
    """What became of the wish to pay; the rest is None unless the word is `ok` or `again`."""

    word: str
    payment: str | None
    ref: str | None
    amount_minor: int | None
    currency: str | None
    shop: str | None
    about: str | None


class Heard(msgspec.Struct, frozen=True):
    """What a provider's word did."""

    word: str  # ok, again, unknown
    payment: str | None
    changed: list[str]  # orders that are in another state now


class Next(msgspec.Struct, frozen=True):
    """What is to be done about a payment's money; the fields of the other kinds are None."""

    what: Literal["move", "replace", "wait", "nothing"]
    move: str | None  # the key to ask the provider under
    kind: MoveKind | None
    amount_minor: int | None
    ref: str | None
    provider: str
    currency: str
    asked_s_ago: float | None  # since it was asked for first
    tries: int | None
    order_id: str | None  # that is to be replaced
    offer: str | None
    stream: str | None
    viewer: str | None
    qty: int | None


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """A payment's row; amounts in minor units of `currency`, times in ms."""

    id: str
    shop: str
    stream: str
    viewer: str
    provider: str
    ref: str | None
    amount_minor: int
    currency: str
    state: Literal["new"] | PaymentState
    authorised_minor: int
    captured_minor: int
    refunded_minor: int
    disputed: bool
    odd: str | None
    created_at: int
    settled_at: int | None
    orders: list[str]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of an order's timeline."""

    at: int
    what: str
    who: str
    was: str | None = None
    now: str | None = None
    why: str | None = None


class Return(msgspec.Struct, frozen=True, kw_only=True):
    """A request to send an order back."""

    id: str
    order_id: str
    viewer: str
    reason: str
    photo_url: str | None
    state: Literal["asked", "accepted", "refused"]
    note: str | None
    at: int
    decided_at: int | None
    decided_by: str | None


class Money:
    """Asks Postgres about payments."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # --- paying ----------------------------------------------------------------------------------

    async def begin(
        self, payment: str, provider: str, viewer: str, orders: Sequence[str]
    ) -> Beginning:
        """Note that a viewer is about to pay for these orders."""
        sql = "select * from begin_payment($1, $2, $3, $4)"
        rows = await self._ledger.rows(sql, payment, provider, viewer, list(orders))
        return Beginning(*rows[0])

    async def give_up(self, payment: str) -> None:
        """Note that the provider will not begin a payment: the next try is another one."""
        await self._ledger.rows(SQL["give_up"], payment)

    async def hear(
        self, provider: str, seen: Seen, event: str | None = None, kind: str | None = None
    ) -> Heard:
        """Note a provider's word on a payment, and let its orders follow, each event once."""
        rows = await self._ledger.rows(
            "select * from money_heard($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            provider, event, kind, seen.ref, seen.payment, seen.state, seen.amount_minor,
            seen.currency, seen.capturable_minor, seen.captured_minor, seen.refunded_minor,
            seen.disputed,
        )  # fmt: skip
        return Heard(*rows[0])

    async def note_event(self, provider: str, event: str, kind: str) -> None:
        """Note an event that concerns no payment."""
        await self._ledger.rows(SQL["note_event"], provider, event, kind)

    async def next(self, payment: str, lease_s: float) -> Next | None:
        """Claim what is to be done about a payment, for so long; None: there is no such payment."""
        rows = await self._ledger.rows("select * from money_next($1, $2)", payment, lease_s)
        return Next(*rows[0]) if rows else None

    async def moved(self, move: str, error: str | None) -> list[str]:
        """Note what became of a move; return the orders that ended by it."""
        rows = await self._ledger.rows("select money_moved($1, $2)", move, error)
        return list(rows[0][0])

    async def kept_for_nothing(self, payment: str) -> bool:
        """Tell whether a payment is known as authorised, and no order lives or may live by it."""
        return bool(await self._ledger.rows(SQL["kept_for_nothing"], payment))

    async def refunds_failed(
        self, provider: str, ref: str, moves: Sequence[str], refunded_minor: int
    ) -> None:
        """Note that refunds came to nothing, by their keys; others are back, this much in all."""
        await self._ledger.rows(
            "select refunds_failed($1, $2, $3, $4)", provider, ref, list(moves), refunded_minor
        )

    async def replace(self, payment: str, old: str, new: str) -> str:
        """Let a new order stand for one that was paid too late; return the word."""
        return await self._ledger.word("replace_order", payment, old, new)

    async def refuse_late(self, payment: str, old: str) -> str:
        """Give up on an order that was paid too late; return the word."""
        return await self._ledger.word("refuse_late", payment, old)

    async def due(self, limit: int) -> list[str]:
        """Return payments that fell due, the oldest first."""
        return [row[0] for row in await self._ledger.rows(SQL["due_payments"], limit)]

    # --- after the sale --------------------------------------------------------------------------

    async def refund(
        self,
        order: str,
        key: str | None,
        amount_minor: int | None,
        restock: bool,
        reason: str | None,
        who: str,
    ) -> tuple[str, Order | None]:
        """Give money of an order back; return the word, and the order as it is then."""
        sql = "select c.word, (c.now).* from refund($1, $2, $3, $4, $5, $6) c"
        rows = await self._ledger.rows(sql, order, key, amount_minor, restock, reason, who)
        return settled(rows)

    async def ship(
        self, order: str, carrier: str | None, tracking: str | None, who: str
    ) -> tuple[str, Order | None]:
        """Note an order as shipped; return the word, and the order as it is then."""
        sql = "select c.word, (c.now).* from ship($1, $2, $3, $4) c"
        return settled(await self._ledger.rows(sql, order, carrier, tracking, who))

    async def mark_late(self, limit: int) -> list[Order]:
        """Note orders that were not shipped in time; return them."""
        rows = await self._ledger.rows("select * from mark_late($1)", limit)
        return [Order(**row) for row in rows]

    async def ask_return(
        self, id_: str, order: str, viewer: str, reason: str, photo_url: str | None
    ) -> tuple[str, Return | None]:
        """Note that a viewer wants to send an order back; return the word and the request."""
        rows = await self._ledger.rows(SQL["ask_return"], id_, order, viewer, reason, photo_url)
        return _returned(rows[0])

    async def decide_return(
        self, id_: str, state: str, note: str | None, who: str
    ) -> tuple[str, Return | None]:
        """Note the shop's answer; return the word and the request."""
        rows = await self._ledger.rows(SQL["decide_return"], id_, state, note, who)
        return _returned(rows[0])

    async def returns(self, order: str) -> list[Return]:
        """Return the requests of an order, newest first."""
        return [Return(**row) for row in await self._ledger.rows(SQL["returns_of"], order)]

    async def return_order(self, id_: str) -> str | None:
        """Return the order that a request is about."""
        rows = await self._ledger.rows(SQL["return_order"], id_)
        return rows[0][0] if rows else None

    # --- reads -----------------------------------------------------------------------------------

    async def payments(self, ids: Sequence[str]) -> list[Payment]:
        """Return those of the payments that exist, in any order."""
        return [Payment(**r) for r in await self._ledger.rows(SQL["payments_by_id"], list(ids))]

    async def stuck(self) -> int:
        """Return how many payments' money should move and was refused to, or answered nothing."""
        found: int = (await self._ledger.rows(SQL["stuck_payments"]))[0]["payments"]
        return found

    async def payments_of(self, order: str) -> list[Payment]:
        """Return the payments of an order, newest first."""
        return [Payment(**r) for r in await self._ledger.rows(SQL["payments_of_order"], order)]

    async def timeline(self, order: str) -> list[Step]:
        """Return what happened to an order, oldest first."""
        return [Step(**row) for row in await self._ledger.rows(SQL["timeline"], order)]

    async def since(self, provider: str, since_ms: int) -> AsyncIterator[Payment]:
        """Go through a provider's payments that were begun since then, oldest first."""
        after = ""
        while True:
            rows = await self._ledger.rows(SQL["payments_since"], provider, since_ms, after, PAGE)
            for row in rows:
                yield Payment(**row)
            if len(rows) < PAGE:
                return
            after = rows[-1]["id"]

    # --- contacts --------------------------------------------------------------------------------

    async def keep_contact(self, order: str, shop: str, sealed: bytes) -> None:
        """Keep where an order goes to, sealed; the newest counts."""
        await self._ledger.rows(SQL["keep_contact"], order, shop, sealed)

    async def contact(self, order: str) -> bytes | None:
        """Return the sealed contact of an order; None: there is none, or no more."""
        rows = await self._ledger.rows(SQL["contact_of"], order)
        return rows[0][0] if rows else None

    async def erase_contact(self, order: str) -> bool:
        """Forget where an order goes to; tell whether there was anything."""
        return bool(await self._ledger.rows(SQL["erase_contact"], order))


def _returned(row: Any) -> tuple[str, Return | None]:
    word, *columns = row.items()
    return word[1], None if row["id"] is None else Return(**dict(columns))
