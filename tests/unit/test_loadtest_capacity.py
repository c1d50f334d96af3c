"""The formulas of a plan: more of anything never needs less, and what breaks is named."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.capacity import BUCKETS_MAX, Assumed, CapacityPlan, Model, Wish, plan
from tests.unit.loadtest_costs import FIGURES, calibration

unhurried = settings(max_examples=30, deadline=None)
COSTS = calibration()
VIEWERS = st.integers(1, 20_000_000)
UNITS = st.integers(1, 200_000)
MILLIONS = Wish(viewers=2_000_000, units=50_000)


@unhurried
@given(VIEWERS, VIEWERS, UNITS)
def test_more_viewers_never_need_fewer_hubs(one: int, other: int, units: int) -> None:
    """Where both crowds fit at all, the larger has at least as many hubs, nodes and buckets."""
    small, large = (
        Model(COSTS, Wish(viewers=viewers, units=units), Assumed())
        for viewers in sorted((one, other))
    )
    if large.hubs():
        assert 0 < small.hubs() <= large.hubs()
    assert small.gate_nodes() <= large.gate_nodes()
    assert small.taps_per_s <= large.taps_per_s


@unhurried
@given(VIEWERS, UNITS, UNITS)
def test_more_units_never_write_less(viewers: int, one: int, other: int) -> None:
    """WAL, locks and the log node are used at least as much by a larger drop."""
    few, many = (
        Model(COSTS, Wish(viewers=viewers, units=units), Assumed())
        for units in sorted((one, other))
    )
    assert few.orders <= many.orders
    for name in ("row locks", "WAL", "Postgres cores", "a hub's fixed work"):
        assert few.shares()[name] <= many.shares()[name] * (1 + 1e-9)
    assert few.to_last_order_s() <= many.to_last_order_s() + 1e-9


@unhurried
@given(VIEWERS, st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_more_headroom_never_needs_fewer_hubs(viewers: int, one: float, other: float) -> None:
    """Less of each core to be used means at least as many cores."""
    spare, full = (
        Model(COSTS, Wish(viewers=viewers, units=1_000, headroom=headroom), Assumed()).hubs()
        for headroom in sorted((one, other))
    )
    assert not spare or full <= spare


@unhurried
@given(st.sampled_from(sorted(name for name in FIGURES if name.startswith("hub_"))))
def test_a_dearer_hub_never_needs_fewer(name: str) -> None:
    """No cost of a hub has a formula that gains from it."""
    dear = calibration(1_000, **{name: FIGURES[name] * 1.5})
    assert plan(dear, MILLIONS).hubs >= plan(COSTS, MILLIONS).hubs


@unhurried
@given(VIEWERS, UNITS)
def test_no_hub_is_given_more_than_it_takes(viewers: int, units: int) -> None:
    """Each hub's core stays within the headroom, its viewers within bounds and announcement."""
    found = plan(COSTS, Wish(viewers=viewers, units=units))
    if not found.hubs:
        assert not found.feasible
        return
    assert found.hubs * found.viewers_per_hub >= viewers
    assert found.viewers_per_hub <= 20_000
    assert found.viewers_per_hub * FIGURES["delivery_s"] <= found.wish.announce_s + 1e-9
    assert found.tiers[0].share <= found.wish.headroom + 1e-6


@unhurried
@given(VIEWERS, UNITS)
def test_orders_are_no_more_than_units_or_buys(viewers: int, units: int) -> None:
    """Nothing is sold that nobody wants, or that is not there; buckets are 1 to 64."""
    found = plan(COSTS, Wish(viewers=viewers, units=units))
    assert found.orders == min(units, viewers)
    assert 1 <= found.buckets <= BUCKETS_MAX


def test_buckets_lift_the_lock() -> None:
    """An offer that wants more orders a second than one row lock lets through has buckets."""
    calm = Wish(viewers=10_000, units=10_000, window_s=60)
    hasty = Wish(viewers=1_000_000, units=100_000, window_s=1)
    assert plan(COSTS, calm).buckets == 1
    assert plan(COSTS, hasty).buckets > 1


def test_a_lock_lets_through_what_its_transaction_takes() -> None:
    """500 orders in 20 µs each, 1 ms a call and 0.5 ms a COMMIT: 500 in 11.5 ms."""
    assert Model(COSTS, MILLIONS, Assumed()).lock_orders_per_s() == pytest.approx(500 / 0.0115)


def test_what_breaks_first_is_what_is_full_with_the_fewest_viewers() -> None:
    """A plan that is feasible breaks later than it is; its first limit is the least."""
    found = plan(COSTS, Wish(viewers=100_000, units=5_000))
    at = {limit.name: limit.breaks_at_viewers for limit in found.limits}
    assert found.feasible
    assert at[found.breaks_first] == min(at.values()) > 100_000


def test_a_limit_is_full_where_it_is_said_to_be() -> None:
    """At the viewers that a limit names, its share is 1."""
    found = plan(COSTS, MILLIONS)
    for limit in found.limits:
        if not math.isfinite(limit.breaks_at_viewers):
            continue
        factor = limit.breaks_at_viewers / MILLIONS.viewers
        units = round(MILLIONS.units * factor)
        there = Wish(viewers=round(limit.breaks_at_viewers), units=units)
        assert Model(COSTS, there, Assumed()).shares()[limit.name] == pytest.approx(1, rel=0.02)


def test_a_log_node_of_no_strength_breaks_first() -> None:
    """A cost that is made a thousand times as high is what is named."""
    found = plan(calibration(redis_lease_s=1e-3), MILLIONS)
    assert found.breaks_first == "log node, core"
    assert not found.feasible


def test_each_assumption_has_a_figure_and_a_source() -> None:
    """Sentences end, have a digit where they state a figure, and say where it is from."""
    found = plan(COSTS, MILLIONS).assumptions
    assert {one.source for one in found} == {"measured", "assumed", "given"}
    assert all(one.text.endswith(".") for one in found)
    measured = [one for one in found if one.source == "measured"]
    assert all(any(letter.isdigit() for letter in one.text) for one in measured)


def test_a_plan_is_of_faster_cores_when_told_so() -> None:
    """Cores twice as fast need about half the hubs."""
    slow: CapacityPlan = plan(COSTS, MILLIONS)
    fast = plan(COSTS, MILLIONS, Assumed(speed=2.0))
    assert slow.hubs / 2.5 < fast.hubs < slow.hubs / 1.5
