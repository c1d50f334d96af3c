"""What hosts list: orders by what they are, newest first.

Owns the filters, and which shelves of orders they want (migration 0013); the way to the rows is
`orders_page` in Postgres. Called by routes and by exports. Raises `LedgerAway` as the ledger does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from orders.ledger.ledger import Ledger
from orders.ledger.queries import load
from orders.records import Order, OrderStatus

SQL = load("orders.ledger", "sql/lists.sql")

#: The lowest number of each state's shelves; the first two states have one each, the others eight.
SHELVES: dict[OrderStatus, int] = {
    "reserved": 0,
    "expired": 8,
    "confirmed": 16,
    "shipped": 24,
    "cancelled": 32,
    "refunded": 40,
}
_WHOLE: tuple[OrderStatus, ...] = ("reserved", "expired")
_PAID, _REFUNDED, _LATE = 1, 2, 4  # bits of the other shelves


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which orders; None does not filter."""

    viewer: str | None = None
    shop: str | None = None
    streams: Sequence[str] | None = None
    offer: str | None = None
    product: str | None = None
    status: OrderStatus | None = None
    paid: bool | None = None  # whether its money has moved
    refunded: bool | None = None  # whether any of it was given back
    late: bool | None = None  # whether it was not shipped in time
    since: int | None = None  # ms of its admission, from here on
    until: int | None = None  # and before this
    sought: str | None = None  # its id, or how its viewer's begins

    @property
    def shelves(self) -> list[int]:
        """Where orders lie that are in this state and have these marks."""
        return [
            shelf
            for status, first in SHELVES.items()
            if self.status in (None, status)
            for shelf in _shelves(status, first)
            if all(
                wanted is None or wanted == bool(shelf & bit)
                for wanted, bit in (
                    (self.paid, _PAID),
                    (self.refunded, _REFUNDED),
                    (self.late, _LATE),
                )
            )
        ]


def _shelves(status: OrderStatus, first: int) -> Iterator[int]:
    yield from range(first, first + (1 if status in _WHOLE else 8))


async def orders_page(
    ledger: Ledger, wanted: Filter, before: str | None = None, limit: int = 50
) -> list[Order]:
    """Return a page of orders, newest first; `before`: the last order of the page before."""
    rows = await ledger.rows(
        SQL["orders_page"], wanted.viewer, wanted.shop, _array(wanted.streams), wanted.offer,
        wanted.product, wanted.shelves, wanted.since, wanted.until, wanted.sought, before, limit,
    )  # fmt: skip
    return [Order(**row) for row in rows]


def _array(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)
