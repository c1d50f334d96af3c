"""Two results side by side: ratios, directions, and what is neither difference nor comparison."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from loadtest.cli import app
from loadtest.difference import Change, Difference, compare, show
from loadtest.result import Client, Result, write
from loadtest.timings import Timer, Timing


def timing(values_ms: Sequence[float]) -> Timing:
    timer = Timer()
    for one in values_ms:
        timer.note_us(one * 1000)
    return timer.written()


def a_result(scale: float = 1.0, **more: object) -> Result:
    """A run whose latencies are `scale` times 1 … 1,000 ms."""
    fields: dict[str, object] = {
        "scenario": "flash",
        "title": "flash",
        "seed": 1,
        "configuration": {"viewers": 300, "network": {"loss": 0.01}},
        "machine": {"cores": "2"},
        "timings": {"order": timing([scale * n for n in range(1, 1001)])},
        "figures": {"orders_per_s": 9000.0, "to_last_order_s": 1.5, "rank": 4.0},
        "outcomes": {"order.reserved": 900},
    }
    return Result(**(fields | more))  # type: ignore[arg-type]


def change(found: Difference, name: str) -> Change:
    return next(change for change in found.changes if change.name == name)


def test_nothing_differs_from_itself() -> None:
    """A result against itself is the same in every row, with no warning."""
    found = compare(a_result(), a_result(), worse_than=1.0)
    assert {change.mark for change in found.changes} == {"same"}
    assert {change.ratio for change in found.changes} == {1.0}
    assert (found.warnings, found.worse) == ([], [])


def test_the_direction_is_the_units() -> None:
    """Rates are better when larger, times when smaller; of the rest nothing is known."""
    better = {"orders_per_s": 9900.0, "to_last_order_s": 1.2, "rank": 2.0}
    found = compare(a_result(), a_result(0.5, figures=better))
    assert change(found, "figures.orders_per_s").mark == "better"
    assert change(found, "figures.orders_per_s").ratio == 1.1
    assert change(found, "figures.to_last_order_s").mark == "better"
    assert change(found, "figures.rank").mark == ""
    assert change(found, "timings.order.p99").mark == "better"
    assert change(found, "timings.order.p99").ratio == pytest.approx(0.5, rel=0.002)
    back = compare(a_result(0.5, figures=better), a_result())
    marks = {change.name: change.mark for change in back.changes}
    assert {marks[name] for name in ("figures.orders_per_s", "timings.order.max")} == {"worse"}
    assert marks["outcomes.order.reserved"] == "same"


@pytest.mark.parametrize("scale", [1.0009, 0.9991, 1.0])
def test_what_the_histogram_cannot_tell_apart_is_the_same(scale: float) -> None:
    """No difference within the histogram's resolution is called one."""
    found = compare(a_result(), a_result(scale))
    marks = [change.mark for change in found.changes if change.name.startswith("timings.")]
    assert marks == ["same"] * 5
    tiny = {"ping": timing([0.001] * 1000)}, {"ping": timing([0.003] * 1000)}
    found = compare(a_result(timings=tiny[0]), a_result(timings=tiny[1]))
    assert change(found, "timings.ping.p50").mark == "same"


def test_a_real_difference_is_one() -> None:
    """One per cent is more than the histogram's resolution."""
    found = compare(a_result(), a_result(1.01))
    marks = [change.mark for change in found.changes if change.name.startswith("timings.")]
    assert marks == ["worse"] * 5


def test_a_percentile_of_few_is_not_judged() -> None:
    """The p99 of fifty values is their largest by another name."""
    one, other = (timing([scale * n for n in range(1, 51)]) for scale in (1, 2))
    found = compare(a_result(timings={"order": one}), a_result(timings={"order": other}))
    marks = {change.name.rpartition(".")[2]: change.mark for change in found.changes[3:7]}
    assert (marks["p50"], marks["p90"], marks["p99"]) == ("worse", "worse", "few")


def test_a_figure_of_several_parts_has_its_direction() -> None:
    """The unit stands before the part that a figure is of."""
    one, other = {"cpu_s.worker 1": 2.0, "reads_per_s.hub": 2.0}, {"cpu_s.worker 1": 3.0}
    found = compare(a_result(figures=one), a_result(figures=other | {"reads_per_s.hub": 1.0}), 1.2)
    assert {change.mark for change in found.changes[:2]} == {"worse"}
    assert found.worse == ["figures.reads_per_s.hub"]


def test_what_only_one_has_is_said() -> None:
    """A figure or a kind that is in one result alone has no ratio, and a word for it."""
    found = compare(
        a_result(figures={"orders_per_s": 1.0}, timings={}),
        a_result(figures={"events_per_s": 1.0}),
    )
    assert change(found, "figures.orders_per_s").mark == "gone"
    assert change(found, "figures.events_per_s").mark == "new"
    assert change(found, "timings.order.p50").mark == "new"
    assert change(found, "timings.order.p50").ratio is None


def test_a_ratio_to_nothing_is_none() -> None:
    """An outcome that is new is counted from 0, and has no ratio."""
    found = compare(a_result(), a_result(outcomes={"sold_out": 4}))
    new, old = change(found, "outcomes.sold_out"), change(found, "outcomes.order.reserved")
    assert (new.a, new.b, new.ratio) == (0, 4, None)
    assert (old.a, old.b, old.ratio) == (900, 0, 0)


def test_each_differing_option_is_named() -> None:
    """Configuration, seed, machine, scenario, overload and failure are told, each by name."""
    other = a_result(
        scenario="viya",
        seed=2,
        configuration={"viewers": 500, "network": {"loss": 0.01}, "workers": 2},
        machine={"cores": "8"},
        client=Client(overloads=["late by 80 ms"]),
        missing=1,
    )
    warnings = compare(a_result(), other).warnings
    assert warnings == [
        "B: the client was overloaded, so its figures are its own: late by 80 ms",
        "B is of a broken run: 1 commands have no final answer",
        "different scenarios: flash and viya",
        "option viewers: 300 and 500",
        "option seed: 1 and 2",
        "option workers: not given and 2",
        "machine cores: 2 and 8",
    ]


@pytest.mark.parametrize(
    ("other", "worse"),
    [
        (a_result(1.19), []),
        (a_result(1.3), ["timings.order.p99"]),
        (a_result(0.5), []),
        (a_result(figures={"orders_per_s": 7600.0}), []),
        (a_result(figures={"orders_per_s": 7400.0}), ["figures.orders_per_s"]),
        (a_result(figures={"orders_per_s": 0.0}), ["figures.orders_per_s"]),
        (a_result(figures={}), ["figures.orders_per_s"]),
        (a_result(timings={}), ["timings.order.p99"]),
        (a_result(outcomes={}), []),
    ],
)
def test_only_what_is_worse_by_more_counts(other: Result, worse: list[str]) -> None:
    """The gate looks at p99 and rates, in their direction; what vanished is worse."""
    assert compare(a_result(), other, worse_than=1.2).worse == worse


def test_the_table_reads_left_to_right() -> None:
    """A, B, their ratio and its meaning stand in one row, warnings before them."""
    console = Console(width=100, record=True, file=StringIO())
    show(console, compare(a_result(), a_result(2.0, seed=3, title="x\x1b[2J [/red]"), 1.2))
    text = console.export_text()
    row = next(line for line in text.splitlines() if "order.p50" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "order.p50",
        "500",
        "1,000",
        "2.000",
        "worse",
    ]
    assert text.index("differs: option seed: 1 and 3") < text.index("order.p50")
    assert "worse than allowed: timings.order.p99" in text
    assert "\x1b" not in text


def test_the_command_says_it_by_its_status(tmp_path: Path) -> None:
    """0 whatever differs, 1 beyond the ratio that was asked for, 2 for what is no result."""
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    write(one, a_result())
    write(other, a_result(1.5))

    def status(*arguments: str) -> int:
        return CliRunner().invoke(app, ["compare", *arguments]).exit_code

    assert status(str(one), str(other)) == 0
    assert status(str(one), str(other), "--worse-than", "1.2") == 1
    assert status(str(other), str(one), "--worse-than", "1.2") == 0
    assert status(str(one), str(tmp_path / "absent")) == 2
    done = CliRunner().invoke(app, ["compare", str(one), str(other), "--json"])
    found = msgspec.json.decode(done.stdout, type=Difference)
    assert change(found, "timings.order.p50").mark == "worse"


def test_without_the_extra_there_is_one_line(tmp_path: Path) -> None:
    """Where the extra is not installed, help is printed and a report says how to get it."""
    program = """if True:
        import sys
        sys.modules |= dict.fromkeys(("hdrh", "plotly", "simpy"))
        from loadtest.cli import app
        app(["--help"], standalone_mode=False)
        app(sys.argv[1:])
    """
    argv = [sys.executable, "-c", program, "report", str(tmp_path / "a.json")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "compare" in done.stdout
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "make loadtest" in done.stderr
