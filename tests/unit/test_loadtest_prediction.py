"""Calibrations and predictions as they are written down, and what counts as right."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import calibration as files
from loadtest import prediction
from loadtest.costs import Plan, own_again
from loadtest.prediction import Held, calls_of, hold, predict
from loadtest.trial import Sale
from tests.unit.loadtest_costs import calibration

unhurried = settings(max_examples=30, deadline=None)
COSTS = calibration()
SALE = Sale(viewers=8_000, units=10_000)


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Nothing of it is lost, and every cost that a plan needs is there."""
    files.write(tmp_path / "c.json", COSTS)
    assert files.read(tmp_path / "c.json") == COSTS
    assert COSTS.costs.keys() == files.COSTS.keys()


def test_a_calibration_that_lacks_a_cost_says_which(tmp_path: Path) -> None:
    """One of an older release is not read as if the cost were nothing."""
    costs = {name: cost for name, cost in COSTS.costs.items() if name != "commit_s"}
    files.write(tmp_path / "c.json", msgspec.structs.replace(COSTS, costs=costs))
    with pytest.raises(files.CalibrationUnreadable, match="commit_s"):
        files.read(tmp_path / "c.json")


def test_more_than_a_thousand_viewers_are_no_calibration() -> None:
    """Neither its crowd nor one of its sales may be larger, and none is foretold from one."""
    with pytest.raises(ValueError, match="1000"):
        Plan(viewers=1_001)
    with pytest.raises(ValueError, match="1000"):
        Plan(sales=(Sale(viewers=1_001, units=1),))
    with pytest.raises(ValueError, match="1000"):
        predict(calibration(viewers_max=1_001), SALE)


def test_no_sale_of_a_calibration_has_more_viewers_than_said() -> None:
    """A calibration with 400 viewers plays none with more."""
    assert max(sale.viewers for sale in Plan(viewers=400).all_sales) == 400


@unhurried
@given(st.integers(1, 500), st.integers(1, 3_000), st.integers(1, 8), st.integers(1, 8))
def test_each_buy_is_sold_or_refused(viewers: int, units: int, most: int, buys: int) -> None:
    """Orders and refusals are all buys; no more ask again than are refused."""
    sale = Sale(viewers=viewers, units=units, per_viewer=most, buys=buys)
    assert sale.orders + sale.refusals == viewers * buys
    assert 0 <= own_again(sale) <= sale.refusals
    assert calls_of(sale) > 0


@unhurried
@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_a_larger_sale_takes_longer(one: int, other: int) -> None:
    """More viewers for the same units take no less of anything."""
    small, large = (
        predict(COSTS, Sale(viewers=viewers, units=1_000)).figures
        for viewers in sorted((one, other))
    )
    for name in ("elapsed_s", "hub_cpu_s", "rest_bytes", "connect_cpu_s", "pin_skew_s"):
        assert small[name].value <= large[name].value + 1e-9


def test_nothing_is_done_faster_than_all_cores_can() -> None:
    """Where little waits for little, the sum of all processors over the cores is the least."""
    quick = calibration(elapsed_work_times=0.1, elapsed_sale_s=0.0, elapsed_order_s=0.0)
    figures = predict(quick, SALE).figures
    parts = ("hub_cpu_s", "redis_cpu_s", "postgres_cpu_s", "client_cpu_s")
    assert figures["elapsed_s"].value == pytest.approx(sum(figures[p].value for p in parts) / 2)


def test_a_prediction_is_read_as_it_was_written(tmp_path: Path) -> None:
    """What is held against a run is what was written before it."""
    foretold = predict(COSTS, SALE)
    prediction.write(tmp_path / "p.json", foretold)
    assert prediction.read(tmp_path / "p.json") == foretold
    (tmp_path / "p.json").write_text("{}")
    with pytest.raises(prediction.PredictionUnreadable):
        prediction.read(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("predicted", "error", "passed"),
    [(1.0, 0.0, True), (1.2, 0.2, True), (0.75, -0.25, False), (1.3, 0.3, False)],
)
def test_an_error_is_a_share_of_what_was_measured(
    predicted: float, error: float, passed: bool
) -> None:
    """A fifth too much is within the bound, a quarter too little is not."""
    held = Held(name="x", unit="s", predicted=predicted, measured=1.0, least=1.0, most=1.0)
    assert held.error == pytest.approx(error)
    assert held.passed is passed


def test_each_figure_is_held_against_the_median() -> None:
    """One run that was disturbed does not decide; none of what was foretold is left out."""
    foretold = predict(COSTS, SALE)
    found = {name: [one.value, one.value, one.value * 9] for name, one in foretold.figures.items()}
    held = hold(foretold, found)
    assert [one.name for one in held] == list(foretold.figures)
    assert all(one.passed and one.most == pytest.approx(9 * one.least) for one in held)
