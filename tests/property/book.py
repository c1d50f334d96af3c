"""What Postgres holds of one offer, read by plain queries, and what it may answer and become.

The plain model of the ledger: rules R1, R3 and R4 said as simply as can be. Knows no Redis. Called
by the state machine after every rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from orders.ledger.bundles import BundleLine
from orders.ledger.ledger import Line
from tests.property.world import World

LIVE = ("reserved", "confirmed", "shipped")
EXTENDS = 3  # as `world.MAKE` has it

#: Every way of a status; what is not here stays as it is (I8).
WAYS = {
    ("reserved", "confirmed"),
    ("reserved", "cancelled"),
    ("reserved", "expired"),
    ("confirmed", "cancelled"),
}

OFFERS = """
    select o.id, o.quantity, o.taken, o.confirmed, o.per_viewer, o.status, o.epoch, o.fence_rank,
           o.version, o.last_movement, m.n, m.back, m.added
      from offers o
     cross join lateral (
        select count(*) as n, coalesce(sum(units) filter (where kind = 'release'), 0) as back,
               coalesce(sum(units) filter (where kind = 'quantity'), 0) as added
          from movements where offer = o.id) m
     where o.id = any ($1)
"""
ORDERS = """
    select offer, id, viewer, key, qty, rank, bundle, status, version, extended,
           status = 'reserved' and expires_at <= clock_timestamp() as due
      from orders where offer = any ($1) order by offer, rank
"""


class Row(NamedTuple):
    """One order."""

    id: str
    viewer: str
    key: str
    qty: int
    rank: int
    bundle: str | None
    status: str
    version: int
    extended: int
    due: bool  # its time is over

    def extends(self, version: int) -> str:
        """Say what an extension must answer."""
        if 1 <= version <= self.extended and self.status in LIVE:
            return "again"
        may = self.status == "reserved" and self.extended < EXTENDS and not self.due
        return "ok" if may and version == self.version else "conflict"


class Book(NamedTuple):
    """An offer with its orders and the sums of its movements."""

    quantity: int
    taken: int
    confirmed: int
    per_viewer: int
    status: str
    epoch: int
    fence: int
    version: int
    movement: int
    movements: int
    back: int  # units that movements gave back
    added: int  # and by which they changed the quantity
    rows: dict[str, Row]

    @classmethod
    async def read(cls, world: World) -> dict[str, Book]:
        """Ask the database; return the book of each of the world's offers."""
        offers = await world.fetch(OFFERS, world.offers)
        orders = await world.fetch(ORDERS, world.offers)
        rows: dict[str, dict[str, Row]] = {offer: {} for offer in world.offers}
        for offer, *row in orders:
            rows[offer][row[0]] = Row._make(row)
        return {offer: cls._make([*book, rows[offer]]) for offer, *book in offers}

    def live(self, viewer: str | None = None) -> int:
        """Return the units of live orders, of one viewer or of all."""
        return sum(
            row.qty
            for row in self.rows.values()
            if row.status in LIVE and viewer in (None, row.viewer)
        )

    def bound(self, viewer: str, key: str) -> Row | None:
        """Return the order of a key."""
        return next((r for r in self.rows.values() if (r.viewer, r.key) == (viewer, key)), None)

    def refuses(self, epoch: int, line: Line, taken: int, has: int) -> str | None:
        """Say why a line with a new key has no row: `taken` units are gone, `has` are his."""
        if self.status == "closed":
            return "closed"
        if epoch != self.epoch:
            return "epoch"
        if self.status == "paused":
            return "not_open"
        if line.rank <= self.fence:
            return "fenced"
        if has + line.qty > self.per_viewer:
            return "limit_reached"
        return "sold_out" if taken + line.qty > self.quantity else None

    def admits(self, epoch: int, lines: Iterable[Line]) -> list[str]:
        """Say what an admission must answer."""
        words: list[str] = []
        taken, of = self.taken, {line.viewer: self.live(line.viewer) for line in lines}
        for line in lines:
            word = self.refuses(epoch, line, taken, of[line.viewer])
            if self.bound(line.viewer, line.key):
                word = "again"
            elif word is None:
                taken, of[line.viewer] = taken + line.qty, of[line.viewer] + line.qty
            words.append(word or "ok")
        return words

    def check(self) -> None:
        """Assert what holds at any time (I1, I3, I6, I10)."""
        rows = self.rows.values()
        assert self.taken == self.live() <= self.quantity
        assert self.confirmed == sum(r.qty for r in rows if r.status in ("confirmed", "shipped"))
        for viewer in {row.viewer for row in rows}:
            assert self.live(viewer) <= self.per_viewer
        assert len({row.rank for row in rows}) == len(rows)
        assert len({(row.viewer, row.key) for row in rows}) == len(rows)
        assert self.movements == self.movement + 1  # number 0 is what there was at first
        assert self.back == sum(row.qty for row in rows if row.status not in LIVE)
        assert self.added == self.quantity
        if self.status not in ("closed", "paused"):
            assert self.status == ("sold_out" if self.taken == self.quantity else "open")

    def follows(self, before: Book) -> None:
        """Assert that nothing went back, and that what is terminal stayed (I2, I8)."""
        assert self.epoch >= before.epoch
        assert self.fence >= before.fence
        assert self.movement >= before.movement
        assert self.version >= before.version
        assert before.status != "closed" or self.status == "closed"
        for id_, old in before.rows.items():
            new = self.rows[id_]
            assert new[:6] == old[:6]
            assert new.version >= old.version
            assert new.status == old.status or (old.status, new.status) in WAYS


def bundle_words(books: Mapping[str, Book], lines: Sequence[BundleLine]) -> list[str | None]:
    """Say what the admission of a bundle must answer: all of it, or none."""
    viewer, key = lines[0].line.viewer, lines[0].line.key
    bound = [books[one.offer].bound(viewer, key) for one in lines]
    if any(bound):
        pairs = zip(bound, lines, strict=True)
        whole = all(row is not None and row.qty == one.line.qty for row, one in pairs)
        of = {row.bundle for row in bound if row is not None}
        return ["again" if whole and len(of) == 1 and None not in of else "key_reused"] * len(lines)
    refused = [
        books[one.offer].refuses(
            one.epoch, one.line, books[one.offer].taken, books[one.offer].live(viewer)
        )
        for one in lines
    ]
    return refused if any(refused) else ["ok"] * len(lines)
