"""The books of an offer: every movement of its units, and what its gate must know by them.

Owns the reads behind `livecart ledger` and reconcile, and their records; changes nothing, knows no
Redis. Called by reconcile and by `livecart`. Raises `LedgerAway` as the ledger does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec

from orders.ledger.ledger import Ledger
from orders.ledger.queries import load

SQL = load("orders.ledger", "sql/books.sql")

#: An order by name, as the gate's records have it.
Row = tuple[str, str, str, int, int]  # id, viewer, key, qty, rank


class Entry(msgspec.Struct, frozen=True):
    """One movement of an offer's units, and the counters after it."""

    at: datetime
    n: int | None  # its number among the movements; None: an admission, which its order's row is
    rank: int | None
    what: str
    quantity_change: int
    taken_change: int
    why: str
    order: str | None
    viewer: str | None
    epoch: int | None
    quantity: int
    taken: int


class Sums(msgspec.Struct, frozen=True):
    """An offer's counters beside what its movements and its orders sum to."""

    quantity: int
    taken: int
    confirmed: int
    last_movement: int
    quantity_moved: int
    taken_moved: int
    taken_named: int
    confirmed_named: int
    movements_last: int
    movements_many: int

    def differences(self) -> list[str]:
        """Say what does not agree; nothing when the books are in order."""
        pairs = (
            ("quantity", self.quantity, "its movements", self.quantity_moved),
            ("taken", self.taken, "its movements", self.taken_moved),
            ("taken", self.taken, "its live orders", self.taken_named),
            ("confirmed", self.confirmed, "its confirmed orders", self.confirmed_named),
            ("last_movement", self.last_movement, "its last movement", self.movements_last),
            ("movements", self.last_movement + 1, "those there", self.movements_many),
        )
        return [
            f"{what} is {says}, by {other} {found}"
            for what, says, other, found in pairs
            if says != found
        ]


class Seen(msgspec.Struct, frozen=True):
    """At what a gate stood when it was read: what the rows must explain, and no more."""

    movement: int
    rank: int
    unwritten: dict[str, int]  # order id to its units


class Books:
    """Asks for one offer at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # --- the ledger as people read it ------------------------------------------------------------

    async def entries(self, offer: str, last: int | None) -> list[Entry]:
        """Return the last movements of an offer, oldest first; None: all of them."""
        rows = await self._ledger.rows(SQL["entries"], offer, last)
        return [Entry(*row) for row in reversed(rows)]

    async def sums(self, offer: str) -> Sums | None:
        """Return what must agree, as of one moment; None: there is no such offer."""
        rows = await self._ledger.rows(SQL["sums"], offer)
        return Sums(*rows[0]) if rows else None

    # --- what a gate must know -------------------------------------------------------------------

    async def rank_floor(self, offer: str) -> int:
        """Return the rank that a gate which is read from now on must have come to."""
        rows = await self._ledger.rows(SQL["rank_floor"], offer)
        return int(rows[0][0]) if rows else 0

    async def brought_after(self, offer: str, movement: int) -> set[str]:
        """Return the orders that later movements bring to a gate that stands there."""
        return {row[0] for row in await self._ledger.rows(SQL["brought_after"], offer, movement)}

    async def outline(self, offer: str, seen: Seen) -> tuple[int, int] | None:
        """Return the (quantity, units that are named) that a gate must have had."""
        rows = await self._ledger.rows(
            SQL["outline"],
            offer,
            seen.movement,
            seen.rank,
            list(seen.unwritten),
            list(seen.unwritten.values()),
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else None

    async def counts(self, offer: str) -> tuple[int, int, int]:
        """Return how many live orders, bound keys and viewers an offer has."""
        row = (await self._ledger.rows(SQL["counts"], offer))[0]
        return row[0], row[1], row[2]

    async def rows_after(self, offer: str, rank: int, limit: int) -> list[Row]:
        """Return a page of an offer's orders, terminal ones too, by rank."""
        return _rows(await self._ledger.rows(SQL["rows_after"], offer, rank, limit))

    async def rows_by_id(self, offer: str, ids: Sequence[str]) -> list[Row]:
        """Return those of the orders that exist, in any order."""
        return _rows(await self._ledger.rows(SQL["rows_by_id"], offer, list(ids)))

    async def held(self, offer: str, seen: Seen, ids: Sequence[str]) -> set[str]:
        """Return which of the orders a gate must have had holds of."""
        rows = await self._ledger.rows(
            SQL["held_ids"], offer, seen.movement, seen.rank, list(seen.unwritten), list(ids)
        )
        return {row[0] for row in rows}

    async def viewer_sums(self, offer: str, seen: Seen, viewers: Sequence[str]) -> dict[str, int]:
        """Return the units that a gate must have had for each of the viewers; 0 is left out."""
        rows = await self._ledger.rows(
            SQL["viewer_sums"], offer, seen.movement, seen.rank, list(seen.unwritten), list(viewers)
        )
        return {row[0]: row[1] for row in rows}


def _rows(found: Sequence[asyncpg.Record]) -> list[Row]:
    return [(r[0], r[1], r[2], r[3], r[4]) for r in found]
