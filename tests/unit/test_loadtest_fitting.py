"""Unit costs are told apart: what was put in comes out, and a cost is never negative."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.fitting import fit, middle
from loadtest.meters import Reading, parse_metrics
from loadtest.trial import Sale

unhurried = settings(max_examples=30, deadline=None)
SIZES = [
    {"sale": 1.0, "order": orders, "refusal": refusals}
    for orders, refusals in ((0.0, 1_250.0), (1_250.0, 0.0), (3_000.0, 0.0), (1_500.0, 3_500.0))
]
COST = st.floats(1e-6, 1e-3)


@unhurried
@given(st.floats(1e-3, 0.1), COST, COST)
def test_what_was_put_in_comes_out(sale: float, order: float, refusal: float) -> None:
    """Sums of three costs over several sizes give the three costs back."""
    true = {"sale": sale, "order": order, "refusal": refusal}
    used = [sum(true[name] * count for name, count in row.items()) for row in SIZES]
    assert fit(SIZES, used) == pytest.approx(true, rel=1e-6)


def test_a_cost_that_would_be_negative_is_none() -> None:
    """Noise that makes less of more is no gain: that cost is 0, and the others fit without it."""
    found = fit([{"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0}], [1.0, 0.9])
    assert found["b"] == 0.0
    assert found["a"] == pytest.approx(0.95, abs=0.01)


def test_sizes_that_cannot_tell_costs_apart_are_refused() -> None:
    """Two costs that always come together have no values of their own."""
    with pytest.raises(ValueError, match="do not tell"):
        fit([{"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 4.0}], [1.0, 2.0])


def test_the_median_is_taken_of_each_number() -> None:
    """Of three records, also nested and in lists, each number is the middle one."""
    readings = [Reading(hub_cpu_s=one, wal_bytes=-one) for one in (1.0, 9.0, 2.0)]
    assert middle(readings) == Reading(hub_cpu_s=2.0, wal_bytes=-2.0)
    sales = [[Sale(viewers=viewers, units=5)] for viewers in (3, 1, 2)]
    assert middle(sales) == [Sale(viewers=2, units=5)]


def test_two_readings_are_what_happened_in_between() -> None:
    """Each counter is subtracted."""
    before, after = Reading(hub_cpu_s=1.0, asks=10), Reading(hub_cpu_s=1.5, asks=25)
    assert after.since(before) == Reading(hub_cpu_s=0.5, asks=15)


def test_counters_are_found_in_the_metrics_of_a_server() -> None:
    """Sums of the histograms that count, also before the first buy, when they are not there."""
    page = b"# HELP x\nlivecart_hold_batch_buys_sum 512.0\nlivecart_hold_batch_buys_count 2.0\n"
    assert parse_metrics(page) == {"asks": 512.0, "hold_calls": 2.0, "admissions": 0.0}
    assert set(parse_metrics(b"").values()) == {0.0}
