"""Compares gates with rows, name by name, and mends what stands in two looks a grace apart (R11).

Owns the walk over an offer in bounded pieces, the second look, and the mending; what counts as a
difference is compare's. A gate is read first and its rows after, with what the gate had been told
by then: so a busy sale shows next to nothing even at the first look, and is never frozen for it.
Called by the keeper, a piece a round, and by `livecart reconcile`, a whole offer at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Literal

import msgspec

from orders import compare, metrics
from orders.compare import Difference, Kind
from orders.ledger.books import Books, Row, Seen
from orders.ledger.ledger import Ledger
from orders.rebuild import Rebuilder
from orders.stock.gate import Frozen, Gate
from orders.stock.keys import key_field
from orders.stock.sight import Sight

SCANNED: tuple[Literal["holds", "keys", "viewers"], ...] = ("holds", "keys", "viewers")
OF_ROWS: tuple[Kind, ...] = ("row_without_hold", "hold_of_ended", "hold", "unmarked", "key")
#: What an offer is summed up by, on both sides; `unwritten` are holds whose rows are on their way.
FIGURES = ("epoch", "status", "quantity", "left", "holds", "keys", "viewers", "unwritten",
           "highest rank", "movement")  # fmt: skip
Figure = tuple[str, object, object]  # its name, in Redis, in Postgres; None: there is none


class ReconcileLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much is looked at in one piece, and how often."""

    page: int = 500  # names in one script call: a fraction of a millisecond of Redis
    grace_s: float = 2.0  # between the two looks
    work_s: float = 0.02  # after which a round of the background begins no further piece
    pause_s: float = 10.0  # between two walks over all offers in the background,
    rebuilt_pause_s: float = 60.0  # and before an offer that was rebuilt for it is looked at again
    kind_max: int = 1_000  # differences of one kind that are kept of an offer
    unwritten_max: int = 5_000  # more unwritten holds than these are not named: look another time


class Found:
    """The differences of one look; of each kind so many, the rest is counted."""

    def __init__(self, kind_max: int) -> None:
        self._kind_max = kind_max
        self._kinds: dict[str, int] = {}
        self.all: dict[tuple[str, ...], Difference] = {}
        self.more = 0

    def add(self, differences: Iterable[Difference]) -> None:
        """Take in what a comparison found."""
        for one in differences:
            n = self._kinds.get(one.kind, 0)
            if one.identity in self.all:
                continue
            if n < self._kind_max:
                self._kinds[one.kind] = n + 1
                self.all[one.identity] = one
            else:
                self.more += 1


class Gone(Exception):
    """The offer has no state in the gate that could be compared further."""


class Reconciler:
    """Looks at offers, each in pieces or at once."""

    def __init__(
        self,
        ledger: Ledger,
        gate: Gate,
        rebuilder: Rebuilder,
        *,
        resolve: Callable[[str], Awaitable[None]],
        follow: Callable[[str], Awaitable[None]],
        limits: ReconcileLimits | None = None,
    ) -> None:
        self.books = Books(ledger)
        self.limits = limits or ReconcileLimits()
        self._ledger = ledger
        self._gate = gate
        self._rebuilder = rebuilder
        self._resolve = resolve  # gives stale holds back behind the fence, or marks them (R1)
        self._follow = follow  # applies the movements that the gate lacks, and tells of them (R4)

    async def offers(self) -> list[str]:
        """Return the offers, and buckets, that the gate decides about, or decided lately."""
        return [one.id for one in await self._ledger.active_offers()]

    async def gates(self, offers: Sequence[str]) -> list[str]:
        """Return what has a gate of its own: these offers, or their buckets. Unknown ids stay."""
        known = {offer.id: offer.homes for offer in await self._ledger.offers(offers)}
        return [home for offer in offers for home in known.get(offer, [offer])]

    # --- one offer at once -----------------------------------------------------------------------

    async def differences(self, offer: str) -> list[Difference]:
        """Return what is different in two looks a grace apart; nothing at once when all agrees."""
        found = Found(self.limits.kind_max)
        async for _ in self.walk(offer, found):
            pass
        if not found.all:
            return []
        await asyncio.sleep(self.limits.grace_s)
        return await self.standing(offer, found)

    async def mend(self, offer: str, standing: Sequence[Difference]) -> str:
        """Do what mends these; return its name, or "none" when nothing here can.

        Each way is safe in the middle of a sale, and from several processes at once.
        """
        found = await self._ledger.offers([offer])
        ways = {one.mend for one in standing}
        if not found or ways <= {"none"}:
            return "none"
        metrics.MENDED.inc(len(standing))
        seen = await self._gate.inspect(offer)
        if "rebuild" in ways or isinstance(seen, Frozen):
            await self._rebuilder.rebuild(offer, seen.epoch)
            if not found[0].active:
                await self._gate.forget(offer)
            return "rebuild"
        if "resolve" in ways:
            await self._resolve(offer)
        if "follow" in ways:
            await self._follow(offer)
        return "resolve" if "resolve" in ways else "follow"

    async def figures(self, offer: str) -> list[Figure]:
        """Return an offer's figures on both sides; they are read one after the other."""
        sight = await self._gate.inspect(offer, unwritten_max=self.limits.unwritten_max)
        rows = await self._ledger.offers([offer])
        if not rows:
            return []
        live, bound, buyers = await self.books.counts(offer)
        row, floor = rows[0], await self.books.rank_floor(offer)
        says = (row.epoch, row.status, row.quantity, row.left, live, bound, buyers, None, floor,
                row.last_movement)  # fmt: skip
        has: tuple[object, ...] = (None,) * len(FIGURES)
        if isinstance(sight, Sight):
            has = (sight.epoch, sight.status, sight.quantity, sight.left, sight.holds_n,
                   sight.keys_n, sight.viewers_n, sight.unwritten_n, sight.rank,
                   sight.movement)  # fmt: skip
        return list(zip(FIGURES, has, says, strict=True))

    # --- the first look --------------------------------------------------------------------------

    async def walk(self, offer: str, found: Found) -> AsyncIterator[None]:
        """Compare all of an offer, in bounded pieces: it yields after each."""
        try:
            await self._outline(offer, found)
            yield
            rank = 0
            while page := await self.books.rows_after(offer, rank, self.limits.page):
                rank = page[-1][4]
                await self._rows(offer, page, found)
                yield
            async for _ in self._scan(offer, found):
                yield
        except Gone:
            return

    async def _scan(self, offer: str, found: Found) -> AsyncIterator[None]:
        """Compare what the gate has names for, whether or not a row has."""
        cursor = 0
        for which in SCANNED:
            while True:
                cursor, part = await self._gate.scan(offer, which, cursor, self.limits.page)
                if which == "holds":
                    await self._holds(offer, list(part), found)
                elif which == "keys":
                    await self._keys(offer, part, found)
                else:
                    await self._viewers(offer, list(part), found)
                yield
                if cursor == 0:
                    break

    # --- the second look -------------------------------------------------------------------------

    async def standing(self, offer: str, first: Found) -> list[Difference]:
        """Return what is still as it was at the first look."""
        again = Found(self.limits.kind_max)
        by_kind: dict[str, list[Difference]] = {}
        for one in first.all.values():
            by_kind.setdefault(one.kind, []).append(one)
        ids = {one.subject for kind in OF_ROWS for one in by_kind.get(kind, [])}
        try:
            await self._outline(offer, again)
            for some in self._pages(ids):
                await self._rows(offer, await self.books.rows_by_id(offer, some), again)
            for some in self._pages(one.subject for one in by_kind.get("hold_without_row", [])):
                await self._holds(offer, some, again)
            bound = {one.subject: one.redis for one in by_kind.get("key_without_row", [])}
            for some in self._pages(bound):
                await self._keys(offer, {field: bound[field] for field in some}, again)
            for some in self._pages(one.subject for one in by_kind.get("viewer", [])):
                await self._viewers(offer, some, again)
        except Gone:
            pass
        return [one for identity, one in again.all.items() if identity in first.all]

    def _pages(self, names: Iterable[str]) -> Iterable[list[str]]:
        rest = iter(names)
        while some := list(islice(rest, self.limits.page)):
            yield some

    # --- the pieces: the gate first, then what the rows explain of it ---------------------------

    async def _outline(self, offer: str, found: Found) -> None:
        floor = await self.books.rank_floor(offer)
        sight = await self._gate.inspect(offer, unwritten_max=self.limits.unwritten_max)
        rows = await self._ledger.offers([offer])
        if not rows:
            raise Gone
        sums = await self.books.sums(offer)
        assert sums is not None
        found.add(Difference("books", what, "", "", "none") for what in sums.differences())
        row = rows[0]
        if not row.active and isinstance(sight, Frozen):
            raise Gone  # it is answered from its rows: there is nothing to compare
        if isinstance(sight, Frozen):
            found.add([Difference("state", "the whole", f"epoch {sight.epoch}", str(row.epoch))])
            raise Gone
        if sight.epoch != row.epoch and row.active:
            found.add([Difference("epoch", "epoch", str(sight.epoch), str(row.epoch))])
            raise Gone
        explained = await self.books.outline(offer, seen_at(sight))
        assert explained is not None
        found.add(compare.counters(sight, row, floor, *explained))
        if sight.movement == row.last_movement:
            found.add(compare.terms(sight, row))
        found.add(compare.waiting(sight))

    async def _rows(self, offer: str, page: Sequence[Row], found: Found) -> None:
        ids = [row[0] for row in page]
        viewers = list(dict.fromkeys(row[1] for row in page))
        fields = [key_field(row[1], row[2]) for row in page]
        sight = await self._see(offer, ids, fields, viewers)
        unwritten = {
            id_: 0 for id_, at in zip(ids, sight.unwritten_since, strict=True) if at is not None
        }
        seen = Seen(sight.movement, sight.rank, unwritten)
        coming = await self.books.brought_after(offer, sight.movement)
        found.add(compare.rows(page, sight, await self.books.held(offer, seen, ids), coming))
        await self._units(offer, viewers, sight, found)

    async def _holds(self, offer: str, ids: Sequence[str], found: Found) -> None:
        known = {row[0] for row in await self.books.rows_by_id(offer, ids)}
        unknown = [id_ for id_ in ids if id_ not in known]
        if unknown:
            sight = await self._see(offer, unknown)
            found.add(compare.holds(unknown, sight, known))

    async def _keys(self, offer: str, bound: dict[str, str], found: Found) -> None:
        known = {row[0] for row in await self.books.rows_by_id(offer, list(bound.values()))}
        unknown = {field: id_ for field, id_ in bound.items() if id_ not in known}
        if unknown:
            sight = await self._see(offer, list(unknown.values()), list(unknown))
            found.add(compare.keys(unknown, sight, known))

    async def _viewers(self, offer: str, viewers: Sequence[str], found: Found) -> None:
        await self._units(offer, viewers, await self._see(offer, viewers=viewers), found)

    async def _units(self, offer: str, viewers: Sequence[str], sight: Sight, found: Found) -> None:
        seen = Seen(sight.movement, sight.rank, {})
        expected = await self.books.viewer_sums(offer, seen, viewers)
        found.add(compare.viewers(viewers, sight, expected))

    async def _see(
        self,
        offer: str,
        ids: Sequence[str] = (),
        fields: Sequence[str] = (),
        viewers: Sequence[str] = (),
    ) -> Sight:
        sight = await self._gate.inspect(offer, ids, fields, viewers)
        if isinstance(sight, Frozen):
            raise Gone
        return sight


def seen_at(sight: Sight) -> Seen:
    """Return what a reading with its unwritten holds named stands at."""
    holds = sight.unwritten.holds if sight.unwritten is not None else {}
    units = {id_: held.qty for id_, held in holds.items() if held is not None}
    return Seen(sight.movement, sight.rank, units)
