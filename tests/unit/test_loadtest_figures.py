"""Headline numbers of a play, and when a client is said to have been its own bottleneck."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from loadtest.asks import Seen
from loadtest.figures import LAG_P99_MS_MAX, Spoilt, client_of, figures_of, reach_of
from loadtest.history import History
from loadtest.hosting import Act
from loadtest.pulse import LAG
from loadtest.timings import Timer, Timing

MS = 1_000_000


def timing(ms: float, count: int = 1) -> Timing:
    timer = Timer()
    timer.note_us(ms * 1000, count)
    return timer.written()


def sale(*after_ms: int) -> History:
    """Of two viewers' buys, answered with an order so many ms after the first was sent; 0: sold out
    at once.
    """
    history = History(["ann", "bob"], len(after_ms) // 2, 1, "run")
    for buy, ms in enumerate(after_ms):
        history.sent_ns[buy] = 10 * MS
        what = "order.reserved" if ms else "sold_out"
        order = f"or_{buy}" if ms else ""
        history.note(buy, (10 + (ms or 1)) * MS, what, order, buy if ms else 0)
    return history


def test_of_several_offers_the_worst_number_is_told() -> None:
    """A play with a quick drop and a slow one is as slow as the slow one; units add up."""
    found = figures_of({"of_1": sale(10, 20), "of_2": sale(100, 0, 400, 200)})
    assert found["to_last_order_s"] == pytest.approx(0.4)
    assert found["to_last_answer_s"] == pytest.approx(0.4)
    assert found["units"] == 5
    assert found["orders_per_s"] == pytest.approx(3 / 0.4)


def test_a_play_without_buys_has_no_figures_of_a_sale() -> None:
    """Nothing is made up where nobody bought."""
    assert figures_of({}) == {}
    assert figures_of({"of_1": History(["ann"], 1, 1, "run")}) == {}


def acts(*due_ms: int, kind: str = "pinned") -> list[Act]:
    return [Act(kind, ms * MS) for ms in due_ms]


def seen(*first_last_ms: tuple[int, int], start: int = 1) -> dict[tuple[str, int], Sequence[Seen]]:
    """Events of two processes: the one saw it first, the other saw it last."""
    return {
        ("pinned", number): [
            Seen(number, "pinned", 0, first * MS, first * MS, 3),
            Seen(number, "pinned", 0, last * MS, last * MS, 2),
            Seen(number, "pinned", 0, 0, 0, 0),
        ]
        for number, (first, last) in enumerate(first_last_ms, start)
    }


def reach(acted: list[Act], saw: dict[tuple[str, int], Sequence[Seen]]) -> set[float]:
    """How long it took to reach the last viewer, in ms: each length that there was."""
    timers: dict[str, Timer] = {}
    reach_of(acted, saw, timers)
    if "reach" not in timers:
        return set()
    return {round(ms) for _, ms in timers["reach"].curve()}


def test_reach_is_from_the_hosts_asking_to_the_last_viewer() -> None:
    """Over all processes: the skew between first and last, and what that is in deliveries."""
    timers: dict[str, Timer] = {}
    found = reach_of(acts(100, 200), seen((110, 130), (205, 215)), timers)
    assert found == {"reach_skew_ms": 15, "deliveries_per_s": (5 / 0.02 + 5 / 0.01) / 2}
    assert timers["reach"].percentile_ms(0) == pytest.approx(15, rel=0.01)
    assert timers["reach"].percentile_ms(100) == pytest.approx(30, rel=0.01)


@pytest.mark.parametrize(
    ("acted", "saw", "reached_ms"),
    [
        pytest.param((100, 200, 300), ((210, 220), (310, 330)), {20, 30}, id="before the crowd"),
        pytest.param((100, 200, 300), ((110, 120), (210, 230)), {20, 30}, id="after it"),
        pytest.param((100, 110), ((120, 130), (121, 140)), {30}, id="two under way"),
        pytest.param((), ((110, 120),), set(), id="of nobody"),
        pytest.param((100,), (), set(), id="never seen"),
    ],
)
def test_an_act_that_nobody_saw_is_left_out(
    acted: tuple[int, ...], saw: tuple[tuple[int, int], ...], reached_ms: set[int]
) -> None:
    """An event is measured from its own act, whatever was done before the crowd came."""
    found = reach(acts(*acted), seen(*saw, start=1 + len(acted) - len(saw)))
    assert found == reached_ms


def test_events_of_different_kinds_are_not_mixed_up() -> None:
    """An opening between two pins is measured by itself."""
    saw = seen((110, 120), (310, 330))
    saw["offer.opened", 7] = [Seen(7, "offer.opened", 0, 205 * MS, 250 * MS, 4)]
    acted = [*acts(100), *acts(200, kind="offer.opened"), *acts(300)]
    assert reach(acted, saw) == {20, 30, 50}


def spoilt(*steps: tuple[float, float, int]) -> list[str]:
    """What is said of steps with such a lag, such an order latency, and so many orders."""
    found = Spoilt()
    for lag_ms, order_ms, orders in steps:
        found.note({LAG: timing(lag_ms), "order": timing(order_ms, orders) if orders else Timing()})
    return found.reasons()


def test_a_client_that_was_late_when_it_measured_says_so() -> None:
    """Lag that is a good part of what was measured in the same step is the client's own."""
    (reason,) = spoilt((1, 100, 80), (50, 150, 20))
    assert reason.startswith("20% of order was measured while the client's own timers were late")
    assert "p99 up to 50 ms" in reason


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([(50, 1_000, 100)], id="little beside what the server took"),
        pytest.param([(LAG_P99_MS_MAX - 1, 20, 100)], id="little at all"),
        pytest.param([(500, 100, 9), (1, 100, 91)], id="when little was measured"),
        pytest.param([(500, 0, 0), (1, 100, 100)], id="while people came"),
        pytest.param([], id="never"),
    ],
)
def test_a_lag_that_spoilt_nothing_is_not_held_against_it(
    steps: list[tuple[float, float, int]],
) -> None:
    """A late timer is no overload by itself: it has to be in what was measured."""
    assert spoilt(*steps) == []


@pytest.mark.parametrize(
    ("shares", "overloaded"),
    [
        ([0.95, 0.99, 1.0], True),
        ([0.1, 0.95, 0.99, 1.0, 0.1], True),
        ([0.95, 0.99, 0.5, 1.0, 1.0], False),
        ([0.89] * 10, False),
    ],
)
def test_a_process_that_used_a_whole_core_says_so(shares: list[float], overloaded: bool) -> None:
    """For three steps on end, in any one of the processes; a busy moment is none."""
    client = client_of({"cpu:client 0": [0.2], "cpu:client 50": shares}, Timer(), Spoilt(), 0.5)
    assert bool(client.overloads) is overloaded
    assert all("client 50 used a whole core for 1.5 s" in reason for reason in client.overloads)
    assert client.processes == 2
    assert client.cpu_share == [0.2, max(shares)]
