"""Any history of the reservation core, on real servers, against a plain model.

Hubs hold, admit, mark, undo and die; answers get lost; keepers, rebuilds, reconcile and changes go
on call by call, each call a rule of its own, so that anything may happen between any two; the clock
jumps; Redis forgets, comes back as another run or as an old copy. After every rule the database is
read by plain queries and judged; now and then, and at the end, all is finished and must agree.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from livecart.embedded import Running
from tests.property.book import Book, Row
from tests.property.choices import FAULTS, Choice
from tests.property.core_hubs import KEYS, PICK, HubRules
from tests.property.stepping import stepping
from tests.property.world import World

DEPTH = int(os.environ.get("PROOF_DEPTH", "0"))
SEED = int(os.environ.get("PROOF_SEED", "1"))
PICKS = st.lists(PICK, min_size=1, max_size=3)
SHRINK = bool(os.environ.get("PROOF_SHRINK"))


class Core(HubRules):
    """Hubs, and whoever else changes an offer, an order or Redis."""

    def __init__(self, runner: asyncio.Runner, world: World) -> None:
        super().__init__(runner, world)
        self.restocked: dict[str, int] = {}
        self.begun = 0
        self.calm = 0  # rules since Redis forgot something

    # --- what goes on call by call -----------------------------------------------------------

    @precondition(lambda self: len([p for p in self.world.steps.processes if p.tasks]) < 3)
    @rule(what=st.sampled_from(("look_after", "look_after", "rebuild", "follow", "reconcile")))
    def start(self, what: str) -> None:
        """A keeper, or whoever follows a change, begins; it waits before its first call."""
        self.run(self._start(what))

    async def _start(self, what: str) -> None:
        self.begun += 1
        works = {
            "look_after": self.world.look_after,
            "rebuild": self.world.rebuild,
            "follow": self.world.follow,
            "reconcile": self.world.reconcile,
        }
        self.world.start(f"p{self.begun}", works[what])
        await self._settle(None)

    @precondition(lambda self: self.world.steps.choices((), False))
    @rule(picks=st.lists(PICK, min_size=1, max_size=4), fault=st.sampled_from((None, *FAULTS)))
    def step(self, picks: list[int], fault: str | None) -> None:
        """Some calls of them, in any order; the last may fail."""
        for n, pick in enumerate(picks):
            fails = (fault,) if fault is not None and n == len(picks) - 1 else ()
            choices = self.world.steps.choices(fails, False)
            choices = [choice for choice in choices if choice.kind == fault] or choices
            if choices:
                self.run(self._settle(choices[pick % len(choices)]))

    @precondition(lambda self: self.world.steps.choices((), False))
    @rule(pick=PICK)
    def finish(self, pick: int) -> None:
        """All calls of one of them, one after the other."""
        first = self.world.steps.choices((), False)
        name = first[pick % len(first)].process
        while mine := [c for c in self.world.steps.choices((), False) if c.process == name]:
            self.run(self._settle(mine[0]))

    async def _settle(self, choice: Choice | None) -> None:
        steps = self.world.steps
        steps.deciding = True
        if choice is not None:
            steps.take(choice)
        await steps.idle()
        steps.deciding = False
        for actor in [actor for actor in self.world.actors if actor.done()]:
            self.world.actors.remove(actor)
            if not actor.cancelled():
                actor.result()

    # --- changes whose sender dies before he tells the gate ------------------------------------

    @property
    def rows(self) -> list[Row]:
        """All orders there are."""
        return [row for book in self.books.values() for row in book.rows.values()]

    @precondition(lambda self: self.rows)
    @rule(pick=PICK, how=st.sampled_from(("pay", "cancel", "by host")))
    def end(self, pick: int, how: str) -> None:
        """Pay and cancel win while the row is reserved; the host may end a paid one too (I8)."""
        row = self.rows[pick % len(self.rows)]
        ledger = self.world.process("host").ledger
        if how == "pay":
            expected = {"reserved": "ok", "confirmed": "again"}.get(row.status, "conflict")
            word, order = self.run(ledger.pay(row.id))
        else:
            ends = row.status == "reserved" or (how == "by host" and row.status == "confirmed")
            expected = "ok" if ends else "conflict"
            word, order = self.run(ledger.cancel(row.id, how == "by host", None))
        assert word == expected
        assert order is not None
        if word != "conflict":
            assert order.status == ("confirmed" if how == "pay" else "cancelled")

    @precondition(lambda self: self.rows)
    @rule(pick=PICK, version=st.integers(0, 3))
    def extend(self, pick: int, version: int) -> None:
        """A viewer asks for more time, once for each version that he saw."""
        row = self.rows[pick % len(self.rows)]
        word, order = self.run(self.world.process("host").ledger.extend(row.id, version))
        assert word == row.extends(version)
        assert order is not None
        assert order.version == row.version + (word == "ok")

    @precondition(lambda self: self.rows)
    @rule(picks=PICKS, limit=st.integers(1, 3), second=st.booleans())
    def expire(self, picks: list[int], limit: int, second: bool) -> None:
        """The clock jumps past some deadlines, or back before them; so many of these end (R8)."""
        offer = self.world.offers[int(second)]
        rows = self.books[offer].rows
        due = {self.rows[n % len(self.rows)].id for n in picks}
        self.run(
            self.world.fetch(
                "update orders set expires_at = case when id = any ($1) then now() - interval"
                " '1 h' else now() + interval '1 h' end where status = 'reserved' and"
                " offer = any ($2)", list(due), self.world.offers,
            )
        )  # fmt: skip
        ended = self.run(self.world.process("host").ledger.expire(offer, limit))
        reserved = {id_ for id_ in due if id_ in rows and rows[id_].status == "reserved"}
        assert {order.id for order in ended} <= reserved
        assert len(ended) == min(limit, len(reserved))

    @rule(by=st.integers(-2, 2))
    def set_quantity(self, by: int) -> None:
        """The host says how many there are, never below what is taken (R7)."""
        before, quantity = self.now, max(0, self.now.quantity + by)
        possible = before.status != "closed" and quantity >= before.taken
        changed = "again" if before.quantity == quantity else "ok"
        self._host("set_quantity", quantity, "host", expected=changed if possible else "conflict")
        after = self.now_in_rows()
        assert after.quantity == (quantity if possible else before.quantity)
        self.doubtful = self.doubtful or after.quantity < before.quantity

    @rule(key=KEYS, units=st.integers(1, 3))
    def restock(self, key: str, units: int) -> None:
        """The host adds some, once per key."""
        before, known = self.now, self.restocked.get(key)
        expected = "conflict" if before.status == "closed" else "ok"
        if known is not None:
            expected = "again" if known == units else "key_reused"
        self._host("restock", key, units, expected=expected)
        if expected == "ok":
            self.restocked[key] = units
        added = units if expected == "ok" else 0
        assert self.now_in_rows().quantity == before.quantity + added

    @rule(resumes=st.booleans())
    def pause(self, resumes: bool) -> None:
        """The host sells no more for a while, or sells on."""
        if resumes:
            words = {"paused": "ok", "closed": "conflict"}
            self._host("resume_offer", expected=words.get(self.now.status, "again"))
        else:
            words = {"open": "ok", "paused": "again"}
            self._host("pause_offer", None, expected=words.get(self.now.status, "conflict"))

    @precondition(lambda self: self.ran > 20)
    @rule(certain=st.sampled_from((False, False, False, True)))
    def close(self, certain: bool) -> None:
        """The host closes the offer for good."""
        if certain:
            expected = "again" if self.now.status == "closed" else "ok"
            self._host("close_offer", None, False, expected=expected)

    def _host(self, function: str, *args: object, expected: str) -> None:
        ledger = self.world.process("host").ledger
        assert self.run(ledger.word(function, self.offer, *args)) == expected

    def now_in_rows(self) -> Book:
        """Read the first offer's book anew."""
        return self.run(Book.read(self.world))[self.offer]

    @precondition(lambda self: self.flying or self.together or self.ran % 4 == 3)
    @rule()
    def keep(self) -> None:
        """A keeper does a whole round between two steps of everybody else."""
        self.run(self.world.look_after(self.world.process("keeper")))

    # --- what befalls Redis --------------------------------------------------------------------

    @precondition(lambda self: self.calm > 10)
    @rule(what=st.sampled_from(("wipe", "restart", "copy", "restore")))
    def befall(self, what: str) -> None:
        """Redis forgets all, comes back as another run, or comes back from a copy of earlier."""
        self.calm = 0
        self.run(self._befall(what))

    async def _befall(self, what: str) -> None:
        world = self.world
        if what == "copy":
            await world.copy()
            return
        with world.steps.loop.asking():
            await {"wipe": world.flush, "restart": world.rerun, "restore": world.come_back}[what]()

    # --- what must be so -------------------------------------------------------------------------

    @precondition(lambda self: self.ran % 16 == 15)
    @rule(finished=st.booleans())
    def rest(self, finished: bool) -> None:
        """Everybody stops where he is, or finishes; the keeper comes to rest (I4, I5, I11)."""
        self.run(self._rest(finished))

    async def _rest(self, finished: bool) -> None:
        steps = self.world.steps
        while finished and (choices := steps.choices((), False)):
            await self._settle(choices[0])
        for process in [p for p in steps.processes if p.name != "judge"]:
            process.die()
        self.flying.clear()
        self.together.clear()
        self.marks.clear()
        await asyncio.sleep(0)
        steps.processes = [p for p in steps.processes if p.alive]
        await self.world.come_to_rest()
        if self.torn:
            await self.world.reconcile(self.world.process("judge"))
            await self.world.come_to_rest()
        self.torn = False
        for offer in self.world.offers:
            await self.world.at_rest(offer)

    @invariant()
    def holds(self) -> None:
        """What Postgres holds is right, and has become so in a right way."""
        if not self.books:
            return
        self.calm += 1
        self.ran += 1
        before, self.books = self.books, self.run(Book.read(self.world))
        rows: dict[str, Row] = {}
        for offer, book in self.books.items():
            book.follows(before[offer])
            book.check()
            rows |= book.rows
        bundles = [row.bundle for row in rows.values() if row.bundle is not None]
        assert all(bundles.count(one) == len(self.books) for one in bundles)
        assert not self.world.broken, self.world.broken
        for id_, mine in self.acknowledged.items():
            assert (rows[id_].viewer, rows[id_].key) == mine

    def teardown(self) -> None:
        """Come to rest, and sell what is left."""
        if not self.books:
            return
        try:
            self.run(self._rest(False))
            for offer in self.world.offers:
                self.run(self.world.sell_the_rest(offer))
            self.holds()
        finally:
            self.run(self.world.end())


@pytest.fixture
def stepped(servers: Running, template: str) -> Iterator[tuple[asyncio.Runner, World]]:
    """A loop that can be stepped, and a world on it, on a database of this test's own."""
    with stepping() as runner:
        world = runner.run(World.open(servers, template, "core_machine"))
        yield runner, world
        runner.run(world.steps.close())


@pytest.mark.timeout(300 + 1_800 * DEPTH)
def test_any_history_of_the_core(
    stepped: tuple[asyncio.Runner, World], record_property: Callable[[str, object], None]
) -> None:
    """Whatever happens in whatever order, each answer is right and I1 to I6, I8, I10, I11 hold."""
    played = rules = 0

    class Counted(Core):
        def teardown(self) -> None:
            nonlocal played, rules
            played, rules = played + 1, rules + self.ran
            super().teardown()

    started = time.monotonic()
    phases = (Phase.generate, *((Phase.shrink,) if SHRINK else ()))
    try:
        run_state_machine_as_test(
            seed(SEED)(lambda: Counted(*stepped)),  # type: ignore[arg-type]
            settings=settings(
                max_examples=3_000 * DEPTH or 115,
                stateful_step_count=40,
                database=None,
                phases=phases,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    except BaseException as error:
        error.add_note(
            f"history {played}. To replay it, and (with PROOF_SHRINK=1) to have it made short:\n"
            f"PROOF_SEED={SEED} PROOF_DEPTH={DEPTH} .venv/bin/python -m pytest"
            " tests/property/test_core_machine.py"
        )
        raise
    record_property(
        "covered",
        f"the core: {played} histories of {rules} rules, drawn with seed {SEED};"
        f" {time.monotonic() - started:.1f} s",
    )
