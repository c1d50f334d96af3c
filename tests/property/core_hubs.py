"""The state machine's hubs: they hold, admit, mark, undo and die, one call a rule.

Owns what hubs know between two calls, and what each answer must be by the books. Called by
test_core_machine, which adds everybody else.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from orders.ledger.bundles import BundleLine
from orders.ledger.ledger import Line
from orders.stock.gate import Frozen
from orders.stock.keys import key_field
from tests.property.book import Book, bundle_words
from tests.property.world import World

T = TypeVar("T")

HUBS = st.sampled_from(("h1", "h2"))
VIEWERS = st.sampled_from(("ann", "bob", "é"))
KEYS = st.sampled_from(("a", "b", ":a"))
BUYS = st.lists(st.tuples(VIEWERS, KEYS, st.integers(1, 2)), min_size=1, max_size=3)
PICK = st.integers(0, 30)
_ids = itertools.count(1)


class Flying(NamedTuple):
    """A hold on its way to admission."""

    hub: str
    offer: str
    epoch: int
    line: Line
    fresh: bool
    sent: bool


class HubRules(RuleBasedStateMachine):
    """What hubs do with two offers; `books` is what Postgres held after the last rule."""

    def __init__(self, runner: asyncio.Runner, world: World) -> None:
        super().__init__()
        self._runner = runner
        self.world = world
        self.books: dict[str, Book] = {}
        self.flying: list[Flying] = []
        self.together: list[list[Flying]] = []  # the lines of bundles
        self.marks: dict[tuple[str, str], dict[str, str]] = {}  # by (hub, offer): id -> viewer
        self.acknowledged: dict[str, tuple[str, str]] = {}  # id -> (viewer, key)
        self.doubtful = False  # the gate may not know yet that there are fewer
        self.torn = False  # there are rows that the gate never had holds of
        self.ran = 0  # rules

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    @property
    def offer(self) -> str:
        """The first offer: the one that a host changes."""
        return self.world.offer

    @property
    def now(self) -> Book:
        """What is so of the first offer."""
        return self.books[self.offer]

    @initialize(units=st.integers(1, 4), per_viewer=st.integers(1, 3))
    def begin(self, units: int, per_viewer: int) -> None:
        """Put two offers on sale."""
        self.run(self.world.begin(units, per_viewer, offers=2))
        self.books = self.run(Book.read(self.world))

    # --- what hubs do ------------------------------------------------------------------------

    @rule(hub=HUBS, buys=BUYS)
    def hold(self, hub: str, buys: list[tuple[str, str, int]]) -> None:
        """One hold call: marks what is to be marked, and asks for a batch of buys."""
        self.run(self._held(hub, buys))

    @rule(hub=HUBS)
    def mark(self, hub: str) -> None:
        """Calls that only mark."""
        for offer in self.world.offers:
            self.run(self._hold(hub, [], offer))

    @rule(hub=HUBS, viewer=VIEWERS, key=KEYS, qty=st.integers(1, 2))
    def hold_bundle(self, hub: str, viewer: str, key: str, qty: int) -> None:
        """One hold call after the other for the lines of a bundle."""
        buy = [(viewer, key, qty)]
        lines = [self.run(self._hold(hub, buy, offer)) for offer in self.world.offers]
        if all(lines):
            self.together.append([flying for line in lines for flying in line])
        else:
            self.flying += [flying for line in lines for flying in line]  # to be undone, or not

    async def _held(self, hub: str, buys: list[tuple[str, str, int]]) -> None:
        self.flying += await self._hold(hub, buys, self.offer)

    async def _hold(self, hub: str, buys: list[tuple[str, str, int]], offer: str) -> list[Flying]:
        now, flying = self.books[offer], list[Flying]()
        marks = self.marks.pop((hub, offer), {})
        ids = [f"or_{next(_ids)}" for _ in buys]
        decided = await self.world.process(hub).gate.hold(
            offer,
            list(marks.items()),
            [(v, q, i, key_field(v, k)) for (v, k, q), i in zip(buys, ids, strict=True)],
        )
        if isinstance(decided, Frozen):
            return []
        given = [rank for word, rank, _ in decided.lines if word in ("held", "adopted")]
        above = max((row.rank for row in now.rows.values()), default=0)
        if decided.epoch == now.epoch and not self.torn:
            assert all(rank > max(above, now.fence) for rank in given)
        assert given == sorted(set(given))
        for (viewer, key, qty), (word, rank, id_) in zip(buys, decided.lines, strict=True):
            bound = now.bound(viewer, key)
            if word in ("held", "adopted"):
                line = Line(id_, viewer, key, qty, rank)
                flying.append(Flying(hub, offer, decided.epoch, line, word == "held", False))
            elif word == "replay":
                assert bound is not None
                assert bound.id == id_
                self.acknowledged[id_] = viewer, key
            else:
                assert word.startswith("park") or bound is None or self.torn
                assert word != "closed" or now.status == "closed"
        return flying

    @precondition(lambda self: self.flying)
    @rule(
        picks=st.lists(PICK, min_size=1, max_size=3),
        how=st.sampled_from(("told", "told", "lost", "unknown")),
    )
    def admit(self, picks: list[int], how: str) -> None:
        """One admission of held buys; `lost`: its answer, `unknown`: and its sender forgets."""
        first = self.flying[picks[0] % len(self.flying)]
        batch: list[Flying] = []
        for one in (self.flying[n % len(self.flying)] for n in picks):
            same = one[:3] == first[:3]
            if same and all(one.line.id != other.line.id for other in batch):
                batch.append(one)
        batch.sort(key=lambda one: one.line.rank)
        self.run(self._admit(batch, how))

    @precondition(lambda self: len(self.flying) > 1)
    @rule(hub=HUBS)
    def admit_all(self, hub: str) -> None:
        """One admission of all that a busy hub holds of an offer."""
        mine = [one for one in self.flying if one.hub == hub]
        batch = {one.line.id: one for one in mine if one[:3] == mine[0][:3]}
        if batch:
            self.run(self._admit(sorted(batch.values(), key=lambda one: one.line.rank), "told"))

    async def _admit(self, batch: list[Flying], how: str) -> None:
        hub, offer = self.world.process(batch[0].hub), batch[0].offer
        lines = [one.line for one in batch]
        admitted = await hub.ledger.admit(offer, batch[0].epoch, lines)
        words = admitted.outcomes or ["ok"] * len(batch)
        assert words == self.books[offer].admits(batch[0].epoch, lines)
        self.flying = [one for one in self.flying if one not in batch]
        self._judge_second_line(words)
        if how == "lost":
            self.flying += [one._replace(sent=True) for one in batch]
        elif how == "told":
            for one, word in zip(batch, words, strict=True):
                await self._told(one, word)

    def _judge_second_line(self, words: Sequence[str | None]) -> None:
        """The ledger refuses for stock or limit only what the gate could not know of."""
        if not self.doubtful and not self.torn:
            assert not {"sold_out", "limit_reached"} & set(words), "the gate let too many pass"

    async def _told(self, one: Flying, word: str | None) -> None:
        """Do what a hub does that hears what became of a line."""
        line = one.line
        bound = self.books[one.offer].bound(line.viewer, line.key)
        if word == "ok":
            self.acknowledged[line.id] = line.viewer, line.key
        if word == "ok" or (bound is not None and bound.id == line.id):
            self.marks.setdefault((one.hub, one.offer), {})[line.id] = line.viewer
        elif word not in ("epoch", "fenced") and one.fresh and not one.sent:
            gate = self.world.process(one.hub).gate
            await gate.release(one.offer, one.epoch, [(line.id, line.rank)])

    @precondition(lambda self: self.together)
    @rule(pick=PICK, how=st.sampled_from(("told", "told", "lost", "unknown")))
    def admit_bundle(self, pick: int, how: str) -> None:
        """One admission of a bundle: all of it or none."""
        self.run(self._admit_bundle(self.together.pop(pick % len(self.together)), how))

    async def _admit_bundle(self, bundle: list[Flying], how: str) -> None:
        ledger = self.world.process(bundle[0].hub).selling.bundles.ledger
        lines = [BundleLine(one.offer, one.epoch, one.line) for one in bundle]
        expected = bundle_words(self.books, lines)
        words = [one.word for one in await ledger.admit(f"bu_{next(_ids)}", lines)]
        assert words == expected
        self._judge_second_line(words)
        if how == "lost":
            self.together.append([one._replace(sent=True) for one in bundle])
        elif how == "told":
            for one, word in zip(bundle, words, strict=True):
                await self._told(one, word)

    @precondition(lambda self: self.ran % 8 == 5)
    @rule(buys=BUYS)
    def forge(self, buys: list[tuple[str, str, int]]) -> None:
        """Rows that the gate never let pass: the second line alone must keep I1 and I3."""
        above = max((row.rank for row in self.now.rows.values()), default=0)
        rank = max(above, self.now.fence) + 1_000
        lines = {  # each key once a call
            (viewer, key): Line(f"or_{next(_ids)}", viewer, key, qty, rank + n)
            for n, (viewer, key, qty) in enumerate(buys)
        }
        batch = sorted(lines.values(), key=lambda line: line.rank)
        ledger = self.world.process("host").ledger
        admitted = self.run(ledger.admit(self.offer, self.now.epoch, batch))
        words = admitted.outcomes or ["ok"] * len(batch)
        assert words == self.now.admits(self.now.epoch, batch)
        self.torn = self.torn or "ok" in words

    @precondition(lambda self: any(one.fresh and not one.sent for one in self.flying))
    @rule(pick=PICK)
    def undo(self, pick: int) -> None:
        """A hub gives back a hold that it never sent (R1)."""
        unsent = [one for one in self.flying if one.fresh and not one.sent]
        one = unsent[pick % len(unsent)]
        self.flying.remove(one)
        gate = self.world.process(one.hub).gate
        self.run(gate.release(one.offer, one.epoch, [(one.line.id, one.line.rank)]))

    @precondition(lambda self: self.ran % 8 == 7)
    @rule(hub=HUBS)
    def crash(self, hub: str) -> None:
        """A hub forgets what it was about to do."""
        self.flying = [one for one in self.flying if one.hub != hub]
        self.together = [bundle for bundle in self.together if bundle[0].hub != hub]
        self.marks = {at: marks for at, marks in self.marks.items() if at[0] != hub}
