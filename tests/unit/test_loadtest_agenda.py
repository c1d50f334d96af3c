"""What is due when: nothing early, nothing lost, and a late process is late in its own lags."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import agenda
from loadtest.agenda import A_TURN_MAX, EARLIER_NS, TICK_NS, Agenda
from tests.property.stepped_loop import SteppedLoop

MS = 1_000_000

Story = Callable[[SteppedLoop, Agenda], Coroutine[Any, Any, None]]


def told(story: Story) -> None:
    """Tell a story on a loop whose clock moves when there is nothing to do, or when it is moved."""
    with asyncio.Runner(loop_factory=SteppedLoop) as runner, pytest.MonkeyPatch.context() as patch:
        loop = runner.get_loop()
        assert isinstance(loop, SteppedLoop)
        patch.setattr(agenda, "perf_counter_ns", lambda: now_ns(loop))

        async def whole() -> None:
            book = Agenda()
            try:
                await story(loop, book)
            finally:
                book.close()

        runner.run(whole())


def now_ns(loop: SteppedLoop) -> int:
    return round(loop.time() * 1e9)


@given(
    st.lists(
        st.tuples(
            st.integers(-20, 200) | st.sampled_from((10, 100)),  # ms until it is due
            st.integers(0, 30) | st.just(0),  # ms that doing it takes
            st.integers(-20, 50) | st.none(),  # ms until what follows it is due
        ),
        max_size=30,
    )
)
@settings(max_examples=60, deadline=None)
def test_each_thing_is_done_once_in_its_order_and_never_early(
    plan: list[tuple[int, int, int | None]],
) -> None:
    """Each is told the moment it was due, however late, and a later one is not done before it."""

    async def story(loop: SteppedLoop, book: Agenda) -> None:
        began_ns = now_ns(loop)
        done: list[int] = []
        due: dict[int, int] = {}

        def plan_one(what: int, after_ms: int) -> None:
            due[what] = began_ns + after_ms * MS
            book.at(due[what], do, what)

        def do(what: int, due_ns: int) -> None:
            assert due_ns == due[what]
            assert now_ns(loop) >= due_ns
            assert all(other == what or due[other] >= due_ns for other in due.keys() - done)
            done.append(what)
            if what < len(plan):
                _, takes_ms, then_ms = plan[what]
                loop.pass_time(takes_ms / 1000)
                if then_ms is not None:
                    plan_one(len(plan) + what, (now_ns(loop) - began_ns) // MS + max(0, then_ms))

        for what, (after_ms, _, _) in enumerate(plan):
            plan_one(what, after_ms)
        await asyncio.sleep(3.0)
        assert sorted(done) == sorted(due)

    told(story)


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_an_idle_process_is_punctual(afters_s: list[float]) -> None:
    """Without anything else to do each thing is done within half a millisecond of its moment."""

    async def story(loop: SteppedLoop, book: Agenda) -> None:
        late_ns: list[int] = []
        for after_s in afters_s:
            due_ns = now_ns(loop) + int(after_s * 1e9)
            book.at(due_ns, lambda what, due_ns: late_ns.append(now_ns(loop) - due_ns), 0)
        await asyncio.sleep(1.0)
        assert len(late_ns) == len(afters_s)
        assert max(late_ns) <= EARLIER_NS
        assert book.lags.written().percentiles_ms["max"] <= EARLIER_NS / MS

    told(story)


def test_a_stopped_process_counts_every_look_that_it_missed() -> None:
    """After 300 ms in which nothing ran, its lags tell of all thirty ticks, each as late as it was.

    One late tick among many would hide in a percentile: that is coordinated omission again.
    """

    async def story(loop: SteppedLoop, book: Agenda) -> None:
        await asyncio.sleep(0.1)
        before = len(book.lags)
        loop.pass_time(0.3 + TICK_NS / 1e9)
        await asyncio.sleep(0.001)
        lags = book.lags.written()
        assert lags.count - before in (30, 31)
        assert lags.percentiles_ms["max"] == pytest.approx(300, rel=0.01)
        assert lags.percentiles_ms["p95"] == pytest.approx(290, rel=0.05)
        assert lags.mean_ms == pytest.approx(sum(range(0, 310, 10)) / lags.count, rel=0.05)

    told(story)


def test_a_backlog_is_the_process_own_lag() -> None:
    """What is done late because so much was due at once shows in the lags, not in ticks alone."""

    async def story(loop: SteppedLoop, book: Agenda) -> None:
        due_ns = now_ns(loop) + TICK_NS
        for what in range(3 * A_TURN_MAX):
            book.at(due_ns, lambda what, due_ns: loop.pass_time(0.001), what)
        await asyncio.sleep(1.0)
        assert book.lags.written().percentiles_ms["max"] == pytest.approx(400, rel=0.02)

    told(story)


def test_sockets_have_their_turn_between_many_things() -> None:
    """However much is due, the loop goes round after so many of them."""

    async def story(loop: SteppedLoop, book: Agenda) -> None:
        done, seen = [0], []

        def one(what: int, due_ns: int) -> None:
            done[0] += 1
            loop.call_soon(lambda: seen.append(done[0]))

        due_ns = now_ns(loop)
        for what in range(2 * A_TURN_MAX + 1):
            book.at(due_ns, one, what)
        await asyncio.sleep(0.1)
        assert sorted(set(seen)) == [A_TURN_MAX, 2 * A_TURN_MAX, 2 * A_TURN_MAX + 1]

    told(story)


def test_what_fails_is_told_to_the_loop_and_the_rest_is_done() -> None:
    """One thing that raises neither hides its fault nor holds up what is due after it."""

    async def story(loop: SteppedLoop, book: Agenda) -> None:
        faults: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: faults.append(context))
        done: list[int] = []

        def one(what: int, due_ns: int) -> None:
            if what == 1:
                raise KeyError("of ours")
            done.append(what)
            if what == 2:
                book.at(due_ns, one, 3)

        for what in range(3):
            book.at(now_ns(loop), one, what)
        await asyncio.sleep(0.1)
        assert [type(fault["exception"]) for fault in faults] == [KeyError]
        assert done == [0, 2, 3]

    told(story)


def test_nothing_is_done_after_the_end() -> None:
    """A closed agenda does no more, whatever was due."""

    async def story(loop: SteppedLoop, book: Agenda) -> None:
        done: list[int] = []
        book.at(now_ns(loop) + 5 * MS, lambda what, due_ns: done.append(what), 0)
        book.close()
        looks = len(book.lags)
        await asyncio.sleep(0.1)
        assert done == []
        assert len(book.lags) == looks

    told(story)
