"""How pulses become one, and how a run's steps become curves of a bounded length."""

from __future__ import annotations

import pytest

from loadtest.pulse import Pulse, Trace, add, split, unit_of
from loadtest.result import Line
from loadtest.timings import Timer, Timing


def timing(*ms: float) -> Timing:
    timer = Timer()
    for one in ms:
        timer.note_us(one * 1000)
    return timer.written()


def curves(trace: Trace) -> dict[str, list[float | None]]:
    return {f"{line.group}:{line.name}": line.values for line in trace.lines()}


def line_of(trace: Trace, name: str) -> Line:
    return next(line for line in trace.lines() if line.name == name)


def test_pulses_of_several_processes_add_up() -> None:
    """Counts, outcomes and open connections add, timings merge, other gauges are the latest."""
    whole = add([
        Pulse(
            at_s=2.1,
            counts={"commands": 3},
            outcomes={"sold_out": 1},
            timings={"order": timing(1, 2), "chat": timing(9)},
            gauges={"connections:open": 10, "stock:left": 4, "lag:client 2": 2},
        ),
        Pulse(
            at_s=2.0,
            counts={"commands": 4, "events": 1},
            outcomes={"sold_out": 2},
            timings={"order": timing(30)},
            gauges={"connections:open": 5, "stock:left": 9, "lag:client 1": 1},
        ),
    ])  # fmt: skip
    assert whole.at_s == 2.1
    assert whole.counts == {"commands": 7, "events": 1}
    assert whole.outcomes == {"sold_out": 3}
    assert whole.timings["order"].count == 3
    assert whole.timings["order"].percentiles_ms["max"] == pytest.approx(30, rel=0.001)
    assert whole.timings["chat"].count == 1
    assert whole.gauges == {
        "connections:open": 15,
        "stock:left": 4,
        "lag:client 1": 1,
        "lag:client 2": 2,
    }
    assert add([]) == Pulse()


def test_a_merged_pulse_keeps_no_hold_on_its_parts() -> None:
    """What is merged does not change the pulses that it was made of."""
    part = Pulse(at_s=1, counts={"commands": 3}, gauges={"connections:open": 1})
    add([part, part])
    assert part == Pulse(at_s=1, counts={"commands": 3}, gauges={"connections:open": 1})


def test_rates_are_differences_and_a_missing_step_is_none() -> None:
    """A rate is over the time since the count was last seen; a step without a pulse has none."""
    trace = Trace()
    trace.note(Pulse(at_s=1.0, counts={"commands": 100}, gauges={"cpu:worker 1": 0.5}))
    trace.note(Pulse(at_s=2.0, counts={"commands": 300}))
    trace.note(Pulse(at_s=4.0, counts={"commands": 500}, timings={"order": timing(5)}))
    found = curves(trace)
    assert found["throughput:commands"] == [100, 200, None, 100]
    assert found["cpu:worker 1"] == [0.5, None, None, None]
    assert found["latency:order p99"] == [None, None, None, pytest.approx(5, rel=0.001)]
    assert {name for name in found if name.startswith("latency")} == {
        "latency:order p50",
        "latency:order p99",
        "latency:order max",
    }
    assert len(trace) == 4


def test_a_pulse_may_be_a_little_late_or_early() -> None:
    """Pulses never come on the dot; each still has a step of its own, without gaps."""
    trace = Trace()
    for at_s in (1.03, 2.2, 2.97, 4.45, 4.6):
        trace.note(Pulse(at_s=at_s, gauges={"stock:left": at_s}))
    assert curves(trace)["stock:left"] == [1.03, 2.2, 2.97, 4.45, 4.6]


def test_a_process_that_is_late_is_not_counted_twice() -> None:
    """A total that falls and comes back counts what was gained since it was highest."""
    trace = Trace()
    for at_s, count in ((1, 1000), (2, 400), (3, 1200)):
        trace.note(Pulse(at_s=at_s, counts={"events": count}))
    assert curves(trace)["throughput:events"] == [1000, None, 100]


def test_a_pulse_that_is_not_later_is_left_out() -> None:
    """Time only goes on."""
    trace = Trace()
    trace.note(Pulse(at_s=2, counts={"events": 10}))
    trace.note(Pulse(at_s=2, counts={"events": 90}))
    trace.note(Pulse(at_s=1, counts={"events": 5}))
    assert curves(trace)["throughput:events"] == [None, 5]


def test_lines_have_their_units() -> None:
    """A line's unit comes from its group, or from what a server's figure ends with."""
    gauges = {"memory:redis": 1.0, "server:commit ms": 2.0, "server:orders per second": 3.0}
    trace = Trace()
    trace.note(Pulse(at_s=1, counts={"events": 1}, gauges=gauges))
    units = {line.name: (line.group, line.unit) for line in trace.lines()}
    assert units == {
        "events": ("throughput", "/s"),
        "redis": ("memory", "MiB"),
        "commit ms": ("server", "ms"),
        "orders per second": ("server", "/s"),
    }
    assert unit_of("server", "holds without a row") == ""


def test_the_clients_lag_is_not_the_servers_latency() -> None:
    """How late the client's timers fired is drawn with its gauges, apart from what it measured."""
    trace = Trace()
    trace.note(Pulse(at_s=1, timings={"client lag": timing(4), "order": timing(9)}))
    groups = {line.name: line.group for line in trace.lines()}
    assert (groups["all clients p99"], groups["order p99"]) == ("lag", "latency")


@pytest.mark.parametrize("gauge", ["left", ":left", "stock:", ""])
def test_a_gauge_without_a_group_is_an_error(gauge: str) -> None:
    """No gauge gets lost by its name."""
    with pytest.raises(ValueError, match="group:name"):
        split(gauge)


def test_a_long_run_joins_its_steps() -> None:
    """Beyond its room a trace doubles its step: rates are means, percentiles never get better."""
    trace = Trace(step_s=1, steps_max=4)
    total = 0
    for at_s, gained, ms in ((1, 10, 5), (2, 30, 50), (3, 5, 7), (4, 5, 6), (5, 100, 1)):
        total += gained
        trace.note(
            Pulse(
                at_s=at_s,
                counts={"events": total},
                timings={"order": timing(ms)},
                gauges={"stock:left": 100 - at_s, "lag:client 1": ms, "cpu:redis": at_s},
            )
        )
    assert (trace.step_s, len(trace)) == (2, 3)
    found = curves(trace)
    assert found["throughput:events"] == [20, 5, 100]
    assert found["latency:order p99"] == [pytest.approx(ms, rel=0.001) for ms in (50, 7, 1)]
    assert found["lag:client 1"] == [50, 7, 1]
    assert found["stock:left"] == [98, 96, 95]
    assert found["cpu:redis"] == [1.5, 3.5, 5]


def test_a_trace_stays_bounded() -> None:
    """However long a run is, and whatever gap is in it, a trace has room for its steps."""
    trace = Trace(step_s=1, steps_max=10)
    for at_s in range(1, 200):
        trace.note(Pulse(at_s=at_s, counts={"events": at_s * 7}))
        assert len(trace) <= 10
    assert trace.step_s == 32
    assert {round(value or 0, 3) for value in line_of(trace, "events").values} == {7}
    trace.note(Pulse(at_s=1e6, counts={"events": 10**7}))
    assert len(trace) <= 10
    assert len(line_of(trace, "events").values) == len(trace)


def test_a_trace_needs_a_step() -> None:
    """A step of no length would be no step."""
    with pytest.raises(ValueError, match="step"):
        Trace(step_s=0)
