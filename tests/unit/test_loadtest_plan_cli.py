"""The commands `calibrate` and `plan`: what they print, write and leave with."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from loadtest import calibration as files
from loadtest import capacity, plan_report, prediction, simulation_report, simulation_runs
from loadtest.cli import app
from loadtest.prediction import Held
from loadtest.trial import Sale
from tests.unit.loadtest_costs import calibration

RUNNER = CliRunner()


@pytest.fixture
def costs(tmp_path: Path) -> Path:
    """A calibration's file."""
    path = tmp_path / "calibration.json"
    files.write(path, calibration())
    return path


def told(what: object) -> str:
    """What a report prints, without colours."""
    console = Console(file=StringIO(), width=200)
    if isinstance(what, capacity.CapacityPlan):
        plan_report.show_plan(console, what)
    elif isinstance(what, simulation_runs.Table):
        simulation_report.show(console, what)
    elif isinstance(what, files.Calibration):
        plan_report.show_calibration(console, what)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_plan_that_fits_leaves_with_0_and_one_that_does_not_with_1(costs: Path) -> None:
    """The exit status says whether a limit is passed; the JSON says which."""
    small = RUNNER.invoke(
        app, ["plan", "--calibration", str(costs), "--viewers", "1000", "--drop", "100", "--json"]
    )
    assert small.exit_code == 0
    found = msgspec.json.decode(small.stdout, type=capacity.CapacityPlan)
    assert (found.feasible, found.orders) == (True, 100)
    large = RUNNER.invoke(
        app,
        ["plan", "--calibration", str(costs), "--viewers", "100000000", "--drop", "9000000"],
    )
    assert large.exit_code == 1
    assert "a limit above is passed" in large.stdout


def test_a_calibration_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """Whoever has none is told how to make one."""
    found = RUNNER.invoke(app, ["plan", "--calibration", str(tmp_path / "none.json")])
    assert found.exit_code == 2
    assert "livecart-loadtest calibrate" in found.output
    assert "Traceback" not in found.output


def test_too_many_viewers_of_a_calibration_are_refused() -> None:
    """No calibration has more than a thousand."""
    found = RUNNER.invoke(app, ["calibrate", "--viewers", "1001"])
    assert found.exit_code == 2
    assert "1000" in found.output


def test_a_prediction_is_written_down(costs: Path, tmp_path: Path) -> None:
    """`--predict` writes the file that `--verify` reads, and says what is in it."""
    out = tmp_path / "p.json"
    arguments = ["--calibration", str(costs), "--viewers", "8000", "--drop", "10000"]
    found = RUNNER.invoke(app, ["plan", *arguments, "--predict", str(out)])
    assert found.exit_code == 0
    sale = prediction.read(out).sale
    assert (sale.viewers, sale.units, sale.buys, sale.per_viewer) == (8_000, 10_000, 5, 4)
    assert "first buy to last answer" in found.stdout


def test_without_simpy_one_line_says_what_is_missing(
    costs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan itself needs no extra; its simulation says which one it needs."""
    monkeypatch.setitem(sys.modules, "simpy", None)
    for name in ("loadtest.simulation", "loadtest.simulation_runs", "loadtest.simulation_report"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = RUNNER.invoke(app, ["plan", "--calibration", str(costs), "--simulate"])
    assert found.exit_code == 2
    assert "livecart[loadtest]" in found.output


def test_a_report_of_a_plan_has_its_limits_and_assumptions() -> None:
    """Every limit by name, what breaks first, and where each figure is from."""
    found = capacity.plan(calibration(), capacity.Wish(viewers=50_000, units=5_000))
    text = told(found)
    assert all(limit.name in text for limit in found.limits)
    assert f"first to break: {found.breaks_first}" in text
    assert "(measured)" in text
    assert "(assumed)" in text


def test_a_report_of_a_simulation_says_what_the_tree_is() -> None:
    """Nobody takes a model for what is there."""
    wish = capacity.Wish(viewers=1, units=50)
    table = simulation_runs.table(
        calibration(), wish, capacity.Assumed(), 1, sizes=(500,), depths=(1,)
    )
    text = told(table)
    assert "livecart has no tree" in text
    assert "500, depth 1:" in text


def test_a_calibration_among_others_is_marked() -> None:
    """Elapsed times of a machine that was busy with something else are said to be of that, too."""
    assert "% of a core meanwhile" not in told(calibration())
    assert "others used 80% of a core meanwhile" in told(calibration(others_share=0.8))


def test_errors_are_told_with_their_figures() -> None:
    """Each figure with its error, and how many are right."""
    console = Console(file=StringIO(), width=200)
    foretold = prediction.predict(calibration(), Sale(viewers=10, units=5))
    held = [
        Held(name="elapsed_s", unit="s", predicted=1.5, measured=1.0, least=1.0, most=1.0),
        Held(name="hub_cpu_s", unit="s", predicted=1.1, measured=1.0, least=1.0, most=1.0),
    ]
    plan_report.show_held(console, foretold, held)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "+50%" in text
    assert "1 of 2 within 20%" in text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "s", "0 ns"),
        (3.21e-5, "s", "32.1 µs"),
        (0.5, "s", "500 ms"),
        (12.0, "s", "12 s"),
        (1_500.0, "bytes", "1.5 kB"),
        (float("inf"), "s", "never"),
        (0.25, "of a core", "0.25 of a core"),
    ],
)
def test_a_figure_has_a_unit_of_its_size(value: float, unit: str, text: str) -> None:
    """Nobody counts zeros."""
    assert plan_report.amount(value, unit) == text
