"""The HTML report: whole, offline, and text stays text whatever a result holds."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs
from rich.console import Console
from typer.testing import CliRunner

from loadtest import summary
from loadtest.charts import html, write_html
from loadtest.cli import app
from loadtest.judge import Audit, Finding
from loadtest.plots import LINES_MAX, MOMENTS_MAX, plots, safe
from loadtest.pulse import Pulse, Trace
from loadtest.result import Client, Limit, Line, Moment, Result, write
from loadtest.timings import Timer, Timing

EVIL = "\"><script>alert(1)</script><img src='http://x/' onerror=alert(2)><b>&amp;[/red]\x1b[2J"
EMPTY = Result(scenario="soak", title="nothing", seed=0)


def timing(*ms: float) -> Timing:
    timer = Timer()
    for one in ms:
        timer.note_us(one * 1000)
    return timer.written()


def a_result(steps: int = 5, evil: str = "") -> Result:
    """A run with all there can be, every name of which ends with `evil`."""
    trace = Trace()
    for n in range(1, steps + 1):
        trace.note(
            Pulse(
                at_s=n,
                counts={"events" + evil: n * 900, "orders": n * 20, "retries": 0},
                timings={"order" + evil: timing(n, 3 * n)},
                gauges={
                    f"{group}:{name}{evil}": float(n)
                    for group, name in (
                        ("stock", "left"),
                        ("connections", "open"),
                        ("cpu", "worker 1"),
                        ("cpu", "client 1"),
                        ("memory", "redis"),
                        ("lag", "client 1"),
                        ("server", "commit ms"),
                        ("server", "holds without a row"),
                    )
                },
            )
        )
    return Result(
        scenario="flash" + evil,
        title="Flash 限量茶具組" + evil,
        seed=7,
        began_ms=1_795_906_800_000,
        duration_s=steps,
        configuration={"viewers": 300, "network" + evil: {"loss": 0.01, "via": evil}},
        machine={"processor" + evil: "two cores" + evil},
        outcomes={"order.reserved": 12_345, "sold_out" + evil: 3, "muted": 0},
        counts={"events" + evil: 4500},
        figures={"orders_per_s" + evil: 9012.4},
        timings={"order" + evil: timing(*range(1, 200)), "chat": Timing()},
        step_s=trace.step_s,
        lines=trace.lines(),
        moments=[Moment(at_s=2.5, what="the offer opens" + evil)],
        client=Client(cpu_share=[0.7], lag=timing(1, 2), overloads=["late" + evil] if evil else []),
        audits=[
            Audit("of_1" + evil, {"fsync": "on" + evil}, [Finding("I1", "c" + evil, None, evil)])
        ],
        faults=["I7" + evil] if evil else [],
        unexpected={"not_open" + evil: 1} if evil else {},
        limits=[Limit(name="missing" + evil, rule="== 0", value=0, passed=True, why=evil)],
    )


class Reader(HTMLParser):
    """What a browser would make of a page: tags, their attributes, scripts and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._in = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in != "style":
            self.text += data + "\n"


@pytest.fixture(scope="module")
def page() -> str:
    return html(a_result())


def without_library(page: str) -> str:
    library = get_plotlyjs()
    assert page.count(library) == 1
    return page.replace(library, "")


def test_the_report_asks_nobody(page: str) -> None:
    """plotly.js is inside once; no tag, style or script loads anything from anywhere."""
    own = without_library(page)
    assert not re.search(r"https?:|//cdn|@import|url\(|\bfetch\b|XMLHttp|import\(", own)
    for tag, attributes in Reader(page).tags:
        assert tag not in ("link", "img", "iframe", "object", "base")
        assert not attributes.keys() & {"src", "href", "srcset", "action", "style"}


def test_its_policy_allows_only_its_own_scripts(page: str) -> None:
    """The content policy refuses every request, and every script but the two that are meant."""
    tags = [attributes for tag, attributes in Reader(page).tags if tag == "meta"]
    (policy,) = [str(tag["content"]) for tag in tags if "http-equiv" in tag]
    assert policy.startswith("default-src 'none'; ")
    assert len(re.findall(r"'sha256-[\w+/]{43}='", policy)) == 2
    assert not re.search(r"script-src[^;]*unsafe", policy)


def test_the_report_holds_the_whole_run(page: str) -> None:
    """Verdict, figures, answers, limits, audit, moments, configuration and machine are in it."""
    text = Reader(page).text
    for told in (
        *("PASSED", "Flash 限量茶具組", "seed 7", "2026-11-28", "9,012/s"),
        *("order.reserved", "12,345", "missing", "== 0", "of_1", "fsync = on", "not judged"),
        *("the offer opens", "2.50 s", "viewers", "300", '{"loss":0.01,"via":""}'),
        *("processor", "two cores", "p99.9"),
    ):
        assert told in text, told


def test_every_part_has_its_chart() -> None:
    """What there is data of is drawn, and nothing else; rarer counts get a chart of their own."""
    assert [plot.title for plot in plots(a_result())] == [
        "Throughput, /s",
        "Throughput, the rarer, /s",
        "Latency over time, ms",
        "Percentiles, ms",
        "Final answers",
        "Stock, units",
        "Connections",
        "Processor, cores",
        "Memory, MiB",
        "How late the client's own timers fired, ms",
        "The server: commit ms",
        "The server: holds without a row",
    ]
    assert plots(EMPTY) == []


@pytest.mark.parametrize("evil", ["", EVIL])
def test_plotly_knows_every_word_of_a_chart(evil: str) -> None:
    """Traces and layouts hold nothing that plotly does not know."""
    for plot in plots(a_result(evil=evil)):
        assert go.Figure(data=plot.traces, layout=plot.layout).data, plot.title


def test_a_run_of_nothing_has_a_report() -> None:
    """Where parts are absent the page has no empty section, table or chart."""
    reader = Reader(html(EMPTY))
    assert "PASSED" in reader.text
    assert "nothing" in reader.text
    assert [tag for tag, _ in reader.tags].count("table") == 1  # of the client
    assert msgspec.json.decode(reader.scripts[0]) == []


def texts(spec: Any) -> list[str]:
    """All strings of a chart."""
    if isinstance(spec, dict):
        return [text for value in spec.values() for text in texts(value)]
    if isinstance(spec, list):
        return [text for value in spec for text in texts(value)]
    return [spec] if isinstance(spec, str) else []


def test_text_stays_text(tmp_path: Path) -> None:
    """Markup in any name of a result is shown, not obeyed: in the page and in its charts."""
    path = tmp_path / "report.html"
    write_html(path, a_result(evil=EVIL))
    page = path.read_text(encoding="utf-8")
    reader = Reader(page)
    assert len(reader.scripts) == 3
    assert not any(tag == "img" for tag, _ in reader.tags)
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert reader.text.count(EVIL) > 20
    drawn = msgspec.json.decode(reader.scripts[0])
    for plot in drawn:
        for text in texts([plot["traces"], plot["layout"]]):
            assert "<" not in text.replace("<extra></extra>", "")
    assert any("&lt;script" in text for text in texts(drawn))
    assert "<" not in reader.scripts[0]


def test_long_names_are_clipped_before_they_are_escaped() -> None:
    """No entity is cut in two."""
    assert safe("a\n b<" + "c" * 100, 6) == "a b&lt;c…"


def test_huge_runs_stay_readable() -> None:
    """Too many lines, moments or answers are not all drawn; all moments are listed."""
    many = Result(
        scenario="soak",
        title="huge",
        seed=1,
        outcomes={f"code_{n}": n for n in range(300)},
        lines=[
            Line(name=f"part {n}", unit="cores", group="cpu", values=[n / 10, None, 1.0])
            for n in range(300)
        ],
        moments=[Moment(at_s=n / 100, what=f"moment {n}") for n in range(400)],
    )
    answers, processor = plots(many)
    assert len(answers.traces[0]["x"]) == LINES_MAX
    assert len(processor.traces) == LINES_MAX
    assert "of 300" in processor.note
    assert len(processor.layout["shapes"]) == MOMENTS_MAX
    assert len(processor.layout["annotations"]) < 40
    assert "moment 399" in html(many)


def test_the_percentile_curve_is_as_wide_as_its_nines() -> None:
    """Each value stands where one in so many is slower, up to the slowest of all."""
    (curve,) = [plot.traces[0] for plot in plots(a_result()) if plot.title == "Percentiles, ms"]
    assert curve["x"][0] == 1
    assert curve["x"][-1] == 199
    assert curve["y"][-1] == pytest.approx(199, rel=0.001)
    for one_in, value in ((2, 100), (10, 180)):
        at = next(n for n, x in enumerate(curve["x"]) if x >= one_in)
        assert curve["y"][at] == pytest.approx(value, abs=3)


def test_a_value_without_neighbours_is_seen() -> None:
    """A line cannot show what stands alone between two missing steps: a point does."""
    lines = [
        Line(name="gaps", unit="units", group="stock", values=[None, 3, None, 4]),
        Line(name="whole", unit="units", group="stock", values=[1, 3, None, None]),
    ]
    (plot,) = plots(Result(scenario="s", title="t", seed=1, lines=lines))
    assert [trace["mode"] for trace in plot.traces] == ["lines+markers", "lines"]


def test_a_step_stands_at_its_end() -> None:
    """Values and moments share one clock: the value of a step is drawn where the step ends."""
    stock = next(plot for plot in plots(a_result()) if plot.title.startswith("Stock"))
    assert stock.traces[0]["x"] == [1, 2, 3, 4, 5]
    assert stock.layout["shapes"][0]["x0"] == 2.5


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (a_result(), "PASSED"),
        (a_result(evil=EVIL), "FAILED"),
        (Result(scenario="s", title="t", seed=1, client=Client(overloads=["late"])), "OVERLOADED"),
        (EMPTY, "PASSED"),
    ],
)
def test_the_summary_ends_with_the_verdict(result: Result, verdict: str) -> None:
    """A person reads why at the end, and no word of a result moves the cursor."""
    console = Console(width=100, record=True, file=StringIO())
    summary.show(console, result)
    text = console.export_text()
    assert verdict in text
    assert "\x1b[2J" not in text
    if result.faults:
        assert "the server broke the protocol: I7" in text
        assert "the client was overloaded: late" in text


def test_of_many_audits_those_that_hold_are_one_line() -> None:
    """What is broken or was not judged is told whole; the same fault is told once, with a count."""
    good, bad = Finding("I1", "live = taken", True), Finding("I4", "all agree", False, "1 lost")
    result = Result(
        scenario="mixed",
        title="an evening",
        seed=1,
        audits=[Audit("of_1", findings=[good, good]), Audit("of_2", findings=[good, bad])],
        faults=["seq 3 after 1"] * 25,
    )
    console = Console(width=100, record=True, file=StringIO())
    summary.show(console, result)
    text = console.export_text()
    assert "audit of of_1: all 2 claims hold" in text
    assert text.count("live = taken") == 1
    assert "of_2: I4 is broken, all agree: 1 lost" in text
    assert text.count("seq 3 after 1") == 1
    assert "(25 times)" in text


def test_the_command_writes_the_report(tmp_path: Path) -> None:
    """`report` prints the summary and writes the page beside the result, or where it is told."""
    source = tmp_path / "run.json"
    write(source, a_result())
    done = CliRunner().invoke(app, ["report", str(source)])
    assert done.exit_code == 0
    assert "PASSED" in done.output
    assert (tmp_path / "run.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    other = tmp_path / "other.html"
    assert CliRunner().invoke(app, ["report", str(source), "--out", str(other)]).exit_code == 0
    assert other.is_file()


def test_what_is_no_result_is_one_line(tmp_path: Path) -> None:
    """A file that is absent, or none of ours, is said in one line with status 2."""
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"scenario": 3}')
    for path in (wrong, tmp_path / "absent.json"):
        done = CliRunner().invoke(app, ["report", str(path)])
        assert done.exit_code == 2
        assert done.output.count("\n") == 1
        assert path.name in done.output
