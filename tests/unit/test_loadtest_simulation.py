"""A drop in simulated time: nothing appears or is lost, nothing comes before its cause."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.capacity import Assumed, Wish
from loadtest.simulation import (
    Core,
    Scene,
    Seen,
    World,
    drawn,
    share_before,
    shared_out,
    split,
    taken,
)
from loadtest.simulation_runs import (
    ANSWER_MAX_S,
    breaks_of,
    one_machine,
    outcome,
    percentiles,
    table,
)
from loadtest.trial import Sale
from tests.unit.loadtest_costs import calibration

unhurried = settings(max_examples=30, deadline=None)
COSTS = calibration()
SCENE = Scene(viewers=20_000, units=3_000, hubs=7, depth=2, buckets=4, gate_nodes=2, window_s=2.0)


def run(scene: Scene) -> Seen:
    return World(COSTS, scene).run()


@unhurried
@given(
    st.integers(1, 3_000),
    st.integers(1, 3_000),
    st.integers(1, 12),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.5, 3.0]),
    st.integers(0, 99),
)
def test_viewers_and_units_are_conserved(
    viewers: int, units: int, hubs: int, depth: int, window_s: float, seed: int
) -> None:
    """Everybody has the offer once and an answer to each tap; all units go that are wanted."""
    scene = Scene(
        viewers=viewers, units=units, hubs=hubs, depth=depth, window_s=window_s, seed=seed
    )
    seen = run(scene)
    sold, refused = (sum(n for _, n in part) for part in (seen.sold, seen.refused))
    assert sum(n for *_, n in seen.announced) == viewers
    assert seen.taps == sold + refused == len(seen.answers) == viewers
    assert sold == min(units, viewers)
    assert seen.impossible == 0


def test_no_latency_comes_before_its_cause() -> None:
    """Nobody taps before his hub has the offer, and no answer is before the first tap."""
    seen = run(SCENE)
    first_told = min(since for since, *_ in seen.announced)
    assert 0 < first_told <= seen.tapped_from
    assert min(at for at, _ in seen.sold + seen.refused) > seen.tapped_from
    assert seen.answers.percentile_ms(0) > 0
    assert min(seen.ended) > (seen.sold_out_at or 0) > 0


def test_a_seed_is_a_drop() -> None:
    """The same seed gives the same drop to the last figure, another one another."""
    assert run(SCENE).sold == run(SCENE).sold
    assert run(SCENE).refused != run(replace(SCENE, seed=2)).refused


def test_a_limit_of_each_viewer_refuses_the_rest() -> None:
    """With four of five buys that may be sold, and units for all, one of five is refused."""
    scene = Scene(viewers=1_000, units=10_000, hubs=1, buys=5, sold_share=0.8, window_s=0.0)
    seen = run(scene)
    assert sum(n for _, n in seen.refused) == pytest.approx(1_000, abs=20)


def test_more_levels_tell_the_log_node_less() -> None:
    """The root has all hubs at depth 1, about their square root at depth 2."""
    flat, tree = (World(COSTS, Scene(viewers=100, units=1, hubs=90, depth=d)) for d in (1, 2))
    flat.run()
    tree.run()
    assert (flat.root_children, len(flat.relays)) == (90, 0)
    assert (tree.root_children, len(tree.relays)) == (10, 10)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_hub_is_told_at_every_depth(depth: int) -> None:
    """A tree of any depth reaches each hub once, the deeper the later."""
    world = World(COSTS, Scene(viewers=10, units=1, hubs=50, depth=depth))
    times = world._tell(0.0)
    assert len(times) == 50
    assert min(times) > (depth - 1) * COSTS["hub_chat_event_s"]


def test_a_slower_lock_makes_the_last_order_later() -> None:
    """An offer that is one row waits for that row; buckets share the wait."""
    slow = calibration(postgres_call_s=0.05)
    wish = Wish(viewers=30_000, units=30_000, window_s=0.5)
    few = World(slow, Scene(viewers=30_000, units=30_000, hubs=10, window_s=0.5)).run()
    many = World(slow, Scene(viewers=30_000, units=30_000, hubs=10, window_s=0.5, buckets=8)).run()
    assert max(at for at, _ in many.sold) < max(at for at, _ in few.sold)
    assert outcome(slow, wish, Assumed(), 1, 1).sold == 30_000


def test_the_table_says_that_the_tree_is_a_model() -> None:
    """Whoever reads it is told what exists; every line has its sums and curves."""
    found = table(COSTS, Wish(viewers=1, units=500), Assumed(), 1, sizes=(5_000,), depths=(1, 2))
    assert "has no tree" in found.note
    assert [(one.viewers, one.depth) for one in found.outcomes] == [(5_000, 1), (5_000, 2)]
    for one in found.outcomes:
        assert one.sold + one.refused == one.taps == 5_000
        assert one.announce_p50_s <= one.announce_p99_s <= one.announce_last_s
        assert one.curves["delivered"][-1][1] == 5_000
        assert one.curves["sold"][-1][1] == 500
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found


def test_what_is_past_its_bound_is_named_worst_first() -> None:
    """Shares over 1 with the largest first, then lateness; what is within bounds is not."""
    shares = {"WAL": 1.5, "busiest hub": 3.0, "busiest gate node": 0.9}
    words = breaks_of(shares, 0.1, 2 * ANSWER_MAX_S, 0.1, 1.0)
    assert [one.partition(":")[0] for one in words[:2]] == ["busiest hub", "WAL"]
    assert len(words) == 3
    assert breaks_of({"WAL": 0.5}, 0.1, 0.1, 0.1, 1.0) == []


def test_a_sale_on_one_machine_takes_at_least_what_its_hub_does() -> None:
    """No simulated sale is faster than its one hub's processor time."""
    sale = Sale(viewers=2_000, units=3_000)
    least = sale.orders * COSTS["hub_order_s"] + sale.refusals * COSTS["hub_refusal_s"]
    assert least < one_machine(COSTS, sale, 1) < 10 * least


@unhurried
@given(st.integers(0, 10**6), st.integers(1, 2_000))
def test_parts_sum_up(total: int, parts: int) -> None:
    """A number shared out is the number, in parts that differ by one at the most."""
    found = shared_out(total, parts)
    assert (sum(found), len(found)) == (total, parts)
    assert max(found) - min(found) <= 1


@unhurried
@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(0, 99))
def test_what_is_drawn_is_part_of_it(count: int, share: float, seed: int) -> None:
    """Between none and all, and about its share of it."""
    found = drawn(random.Random(seed), count, share)
    middle, width = count * share, (count * share * (1 - share)) ** 0.5
    assert 0 <= found <= count
    assert abs(found - middle) <= 7 * width + 7


@unhurried
@given(st.floats(0, 5), st.floats(0, 5), st.floats(-1, 11), st.floats(-1, 11))
def test_the_share_of_taps_only_grows(
    spread_s: float, window_s: float, one: float, other: float
) -> None:
    """None before the offer, all at the end, and never fewer later."""
    early, late = sorted((one, other))
    low, high = (share_before(at, spread_s, window_s) for at in (early, late))
    assert 0.0 <= low <= high + 1e-9 <= 1.0 + 1e-8
    assert share_before(spread_s + window_s, spread_s, window_s) == 1.0


def test_a_core_does_one_thing_after_the_other() -> None:
    """What comes while it is busy waits, what comes later does not."""
    core = Core()
    assert [core.take(0.0, 1.0), core.take(0.5, 1.0), core.take(5.0, 1.0)] == [1.0, 2.0, 6.0]
    assert (core.busy_s, core.waited_s) == (3.0, 0.5)


def test_a_queue_is_taken_from_the_front() -> None:
    """In order, with a part of what does not fit whole."""
    queue = deque([(1.0, 5), (2.0, 5)])
    assert taken(queue, 7) == [(1.0, 5), (2.0, 2)]
    assert list(queue) == [(2.0, 3)]
    assert split([(1.0, 2), (2.0, 2)], 3) == ([(1.0, 2), (2.0, 1)], [(2.0, 1)])


def test_percentiles_of_spans() -> None:
    """Half of two equal spans is where the first ends."""
    spans = [(0.0, 1.0, 100), (1.0, 2.0, 100)]
    assert percentiles(spans, (0.25, 0.5, 1.0)) == pytest.approx([0.5, 1.0, 2.0])
