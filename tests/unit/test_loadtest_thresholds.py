"""Thresholds: what passes, what fails, and that nothing passes by being mistyped."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.result import Client, Limit, Result
from loadtest.thresholds import ThresholdError, judge, read
from loadtest.timings import Timer, Timing


def timing(*ms: float) -> Timing:
    timer = Timer()
    for one in ms:
        timer.note_us(one * 1000)
    return timer.written()


def a_result(**more: object) -> Result:
    fields: dict[str, object] = {
        "scenario": "flash",
        "title": "flash",
        "seed": 1,
        "duration_s": 12.5,
        "timings": {"order": timing(*range(1, 101)), "chat": Timing()},
        "figures": {"orders_per_s": 9100.5},
        "outcomes": {"order.reserved": 50, "sold_out": 3},
        "counts": {"reconnects": 0},
    }
    return Result(**(fields | more))  # type: ignore[arg-type]


def judged(name: str, rule: str, **more: object) -> Limit:
    (limit,) = judge(a_result(**more), {name: rule})
    return limit


def written(folder: Path, text: str) -> Path:
    path = folder / "limits.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_scenario_wins(tmp_path: Path) -> None:
    """Limits of the scenario replace those of all, by name; those of others do not count."""
    path = written(
        tmp_path,
        """
        [limits]
        "missing" = "== 0"
        timings.order.p99 = "<= 250"
        [flash.limits]
        "timings.order.p99" = "<= 100"
        "figures.to_last_order_s" = "<= 1.5"
        [soak.limits]
        "faults" = "< 1"
        """,
    )
    assert read(path, "flash") == {
        "missing": "== 0",
        "timings.order.p99": "<= 100",
        "figures.to_last_order_s": "<= 1.5",
    }
    assert read(path, "fanout") == {"missing": "== 0", "timings.order.p99": "<= 250"}


@pytest.mark.parametrize(
    ("name", "rule", "value", "passed"),
    [
        ("timings.order.p99", "<= 100", 99, True),
        ("timings.order.p99", "< 90", 99, False),
        ("timings.order.p99.9", "<= 101", 100, True),
        ("timings.order.p42.5", "<= 44", 43, True),
        ("timings.order.max", ">=99", 100, True),
        ("timings.order.mean", "> 60", 50.5, False),
        ("timings.order.count", "== 100", 100, True),
        ("figures.orders_per_s", ">= 9e3", 9100.5, True),
        ("outcomes.sold_out", ">= 1", 3, True),
        ("outcomes.order.reserved", "!= 50", 50, False),
        ("outcomes.rate_limited", "== 0", 0, True),
        ("counts.reconnects", "== 0", 0, True),
        ("missing", "== 0", 0, True),
        ("faults", "> 0", 0, False),
        ("unexpected", "== 0", 0, True),
        ("duration_s", "< 12.5", 12.5, False),
    ],
)
def test_values_are_held_against_rules(name: str, rule: str, value: float, passed: bool) -> None:
    """Each kind of value is found, and each operator means what it says."""
    limit = judged(name, rule)
    assert limit.value == pytest.approx(value, rel=0.001)
    assert (limit.passed, limit.why) == (passed, "")


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("timings.refusal.p99", "chat, order"),
        ("figures.order_per_s", "orders_per_s"),
        ("counts.reconects", "reconnects"),
    ],
)
def test_what_is_not_there_fails(name: str, there: str) -> None:
    """A limit on what this run has no value for fails, and says what there is."""
    for rule in (">= 0", "<= 1e9"):
        limit = judged(name, rule)
        assert (limit.passed, limit.value) == (False, None)
        assert limit.why.endswith(f"there are {there}")


def test_an_empty_timing_is_no_fast_one() -> None:
    """A kind that never occurred has no percentile to pass with."""
    limit = judged("timings.chat.p99", "<= 1")
    assert (limit.passed, limit.why) == (False, "nothing was timed in this run")
    assert judged("timings.chat.count", "== 0").passed
    assert judged("client.lag.p99", "<= 1").passed is False


def test_an_overloaded_client_judges_no_speed() -> None:
    """Speed is left open with the reason; what was sold is judged all the same."""
    busy = {"client": Client(overloads=["late by 80 ms"]), "missing": 2}
    for name in ("timings.order.p99", "figures.orders_per_s"):
        limit = judged(name, "<= 1", **busy)
        assert limit.passed is None
        assert limit.why == "the client was overloaded: late by 80 ms"
    assert judged("missing", "== 0", **busy).passed is False
    assert judged("outcomes.sold_out", ">= 1", **busy).passed
    assert judged("timings.order.count", "== 100", **busy).passed
    # What is not there at all is no question of speed.
    assert judged("timings.refusal.p99", "<= 1", **busy).passed is False


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('"timing.order.p99" = "<= 1"', "there are missing, faults"),
        ('"timings.order" = "<= 1"', "timings.<kind>"),
        ('"timings.order.p101" = "<= 1"', "timings.<kind>"),
        ('"timings.order.median" = "<= 1"', "timings.<kind>"),
        ('"outcomes.soldout" = ">= 1"', "there are order.reserved"),
        ('"client.cpu" = "<= 1"', "client.lag"),
        ('"missing.x" = "== 0"', "no such value"),
        ('"figures." = "== 0"', "no such value"),
        ('"missing" = "=< 0"', "<= < >= > == !="),
        ('"missing" = "0"', "<= < >= > == !="),
        ('"missing" = "== none"', '"none" is no number'),
        ('"timings.order.p99" = "<= 250 ms"', "units are those of the value"),
        ('"missing" = "== nan"', "bounds nothing"),
        ('"missing" = "<= inf"', "bounds nothing"),
        ('"missing" = 0', 'as in "== 0"'),
        ('"missing" = ["== 0"]', "a rule is text"),
    ],
)
@pytest.mark.parametrize("table", ["limits", "flash.limits", "soak.limits"])
def test_a_mistyped_limit_is_an_error(tmp_path: Path, table: str, line: str, told: str) -> None:
    """A name or rule that cannot be meant stops the run before it starts, in any table."""
    header = "" if table == "limits" else f"[{table}]"
    text = ["[limits]", '"faults" = "== 0"', header, "# why", line]
    path = written(tmp_path, "\n".join(text))
    with pytest.raises(ThresholdError, match="line 5: ") as caught:
        read(path, "flash")
    assert told in str(caught.value)
    assert line.split('"')[1] in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[limit]\n'missing' = '== 0'",
        "[flash.limit]\n'missing' = '== 0'",
        "'missing' = '== 0'",
        "limits = 3",
        "[limits\n",
        "[limits]\n'missing' = '== 0'\n'missing' = '== 1'",
        "\udcff",
    ],
)
def test_a_file_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    """A wrong table is not skipped, and rubbish is one clear error with the file's name."""
    path = tmp_path / "limits.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ThresholdError, match=r"limits\.toml"):
        read(path, "flash")
    with pytest.raises(ThresholdError, match="absent"):
        read(tmp_path / "absent", "flash")


def test_a_bare_name_is_the_same_name(tmp_path: Path) -> None:
    """Names are the same with and without quotes, though TOML reads the latter as tables."""
    path = written(tmp_path, '[limits]\ntimings.order.p99.9 = "<= 1"\nmissing = "== x"\n')
    with pytest.raises(ThresholdError, match="line 3: missing"):
        read(path, "flash")


def test_a_result_is_judged_by_what_was_checked() -> None:
    """Limits that never went through a file are checked as well."""
    with pytest.raises(ThresholdError, match="outcomes"):
        judge(a_result(), {"outcome.sold_out": ">= 1"})


def test_the_documented_file_is_one(tmp_path: Path) -> None:
    """The file in the docs is read as it stands there."""
    page = Path(__file__).parents[2] / "docs" / "loadtest-report.md"
    text = page.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    assert read(written(tmp_path, text), "flash") == {
        "missing": "== 0",
        "timings.order.p99": "<= 1500",
        "outcomes.sold_out": ">= 1",
        "figures.orders_per_s": ">= 9000",
        "figures.to_last_order_s": "<= 1.5",
    }


def test_only_what_the_client_spoilt_is_not_judged() -> None:
    """A client that was late for deliveries may still have measured its orders; then they count."""
    client = Client(overloads=["31% of delivery"], spoilt=["delivery"])
    timings = {}
    for kind, took_us in (("order", 9_000), ("delivery", 90_000)):
        timer = Timer()
        timer.note_us(took_us)
        timings[kind] = timer.written()
    result = Result(scenario="s", title="t", seed=1, client=client, timings=timings)
    result.figures = {"to_last_order_s": 1.0, "reach_skew_ms": 5.0}
    names = ("timings.order.p99", "timings.delivery.p99", *(f"figures.{n}" for n in result.figures))
    judged = {limit.name: limit.passed for limit in judge(result, dict.fromkeys(names, "<= 10"))}
    assert judged == dict(zip(names, (True, None, True, None), strict=True))
    seen: list[str] = [result.verdict]  # no limit on speed was set: any of it counts
    for name in ("figures.to_last_order_s", "figures.reach_skew_ms"):
        result.limits = judge(result, {name: "<= 10"})
        seen.append(result.verdict)
    assert seen == ["overloaded", "passed", "overloaded"]
