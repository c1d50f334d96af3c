"""What the ledger is asked about the waitlist: who joins, who leaves, who waits.

Owns the calls of `join_waitlist` and its kin and the mapping of rows; knows no Redis and no policy.
Called by `orders.waitlist`. Raises `LedgerAway` as the ledger does: whether somebody joined is then
not known, and joining again with the same key finds out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from orders.ledger.ledger import Ledger
from orders.ledger.queries import load
from orders.records import Entry

SQL = load("orders.ledger", "sql/waitlist.sql")


class Ask(NamedTuple):
    """A viewer's wish for units of one offer."""

    viewer: str
    key: str
    qty: int


class Entered(NamedTuple):
    """What the ledger says to one, in its own words; `place` is from 1, 0 where there is none."""

    word: str
    place: int


class WaitlistLedger:
    """Asks Postgres about the waitlist."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def join(
        self, offer: str, epoch: int, ranks: Sequence[int], asks: Sequence[Ask]
    ) -> list[Entered]:
        """Put viewers on the list, each with his rank; committed when it returns (R3).

        `offer`: where they are at home, a bucket where it has any.
        """
        rows = await self._ledger.rows(
            "select * from join_waitlist($1, $2, $3, $4, $5, $6)",
            offer,
            epoch,
            [ask.viewer for ask in asks],
            [ask.key for ask in asks],
            [ask.qty for ask in asks],
            list(ranks),
        )
        return [Entered(row["word"], row["place"] or 0) for row in rows]

    async def leave(self, offer: str, viewer: str) -> str:
        """Take a viewer off the list; return the SQL function's word."""
        return await self._ledger.word("leave_waitlist", offer, viewer)

    async def drop(self, stream: str, viewer: str) -> int:
        """Take a viewer off all lists of a stream; return how many he was on."""
        rows = await self._ledger.rows("select drop_waiter($1, $2)", stream, viewer)
        return int(rows[0][0])

    async def entries(self, of: Sequence[tuple[str, str]]) -> list[Entry]:
        """Return the entries of these (offer, viewer), in any order."""
        offers, viewers = [offer for offer, _ in of], [viewer for _, viewer in of]
        return [Entry(**row) for row in await self._ledger.rows(SQL["entries_of"], offers, viewers)]

    async def page(
        self, offer: str, viewer: str | None, after_rank: int, limit: int
    ) -> list[Entry]:
        """Return a page of an offer's entries, first come first; None does not filter."""
        rows = await self._ledger.rows(SQL["entries_page"], offer, viewer, after_rank, limit)
        return [Entry(**row) for row in rows]
