"""What a run sees from step to step: pulses of its processes, and the curves they make.

Owns how pulses of several client processes become one, and how a run of any length keeps to a
bounded number of steps. It measures nothing and draws nothing: the crowd and the sampler fill
pulses in, the live view shows each, and the trace turns all of them into the result's lines.

A gauge is named `group:name`, as in `cpu:worker 1` or `stock:left`; the group is a line's group.
Units: `cpu` cores, `memory` MiB, `lag` ms, `stock` units, `connections` connections; a name of
the group `server` ends in its own (`orders per second`, `commit ms`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import msgspec

from loadtest.result import Line
from loadtest.timings import Timing, merged

#: Steps that a trace keeps; an hour of seconds.
STEPS_MAX: Final = 3600
#: The kind of timing that is the client's own: how late its timers fired.
LAG: Final = "client lag"
#: Percentiles of each step that become lines.
SHOWN: Final = ("p50", "p99", "max")
UNITS: Final = {
    "connections": "connections",
    "stock": "units",
    "cpu": "cores",
    "memory": "MiB",
    "lag": "ms",
}
ENDINGS: Final = {" per second": "/s", " ms": "ms", " MiB": "MiB", " s": "s"}

Column = list[float | None]


class Pulse(msgspec.Struct, kw_only=True):
    """One step of one process, or of all together.

    `counts` and `outcomes` are totals since the run began; `timings` are of this step alone.
    """

    at_s: float = 0.0  # since the run began: the end of the step
    counts: dict[str, int] = {}  # `commands`, `answers`, `events`, `connects`, `orders` …
    outcomes: dict[str, int] = {}  # final answers: `order.reserved`, `sold_out` …
    timings: dict[str, Timing] = {}
    gauges: dict[str, float] = {}


def add(pulses: Iterable[Pulse]) -> Pulse:
    """Make one pulse of those of several processes for the same step.

    Counts, outcomes and gauges of `connections` add up, timings merge. Of another gauge that two
    processes name alike, the later one's is taken: both looked at the same thing.
    """
    ordered = sorted(pulses, key=lambda pulse: pulse.at_s)
    whole = Pulse(at_s=ordered[-1].at_s if ordered else 0.0)
    timings: dict[str, list[Timing]] = {}
    for pulse in ordered:
        for totals, more in ((whole.counts, pulse.counts), (whole.outcomes, pulse.outcomes)):
            for name, count in more.items():
                totals[name] = totals.get(name, 0) + count
        for kind, timing in pulse.timings.items():
            if timing.count:
                timings.setdefault(kind, []).append(timing)
        for name, value in pulse.gauges.items():
            before = whole.gauges.get(name, 0.0) if name.startswith("connections:") else 0.0
            whole.gauges[name] = before + value
    for kind, found in timings.items():
        whole.timings[kind] = found[0] if len(found) == 1 else merged(found)
    return whole


def split(gauge: str) -> tuple[str, str]:
    """Return the group and the name of a gauge; ValueError when it names no group."""
    group, colon, name = gauge.partition(":")
    if not (group and colon and name):
        raise ValueError(f"a gauge is named group:name, not {gauge!r}")
    return group, name


def unit_of(group: str, name: str) -> str:
    """Return the unit of a gauge; empty for a plain number."""
    if group in UNITS:
        return UNITS[group]
    return next((unit for ending, unit in ENDINGS.items() if name.endswith(ending)), "")


class Rates:
    """Turns totals into rates, from one pulse to the next."""

    def __init__(self) -> None:
        self._at_s = 0.0  # of the latest pulse
        # Of each count its highest total and when it was seen. One process' pulse that is late
        # makes a total fall and rise again, which must not be counted twice.
        self._totals: dict[str, tuple[int, float]] = {}

    def of(self, pulse: Pulse) -> dict[str, float]:
        """Return how much each count grew in a second; nothing of one that fell, or of no time."""
        if pulse.at_s <= self._at_s:
            return {}
        rates = {}
        for name, count in pulse.counts.items():
            before, then_s = self._totals.get(name, (0, self._at_s))
            if count >= before:
                rates[name] = (count - before) / (pulse.at_s - then_s)
                self._totals[name] = (count, pulse.at_s)
        self._at_s = pulse.at_s
        return rates


class Trace:
    """The steps of a run as columns, one value a step; None where there was nothing.

    A run that outlasts its steps joins neighbours and goes on in steps of twice the length. A
    joined rate is the mean. A joined percentile is the worse of the two, never better than what
    was measured: the exact percentiles of the whole run are in its result's timings.
    """

    def __init__(self, step_s: float = 1.0, steps_max: int = STEPS_MAX) -> None:
        """Raise ValueError for a step of no length, or fewer than two steps."""
        if step_s <= 0 or steps_max < 2:
            raise ValueError("a trace needs a step of some length, and room for two")
        self.step_s = step_s
        self._late_s = step_s / 2  # that a pulse may come after the end of its step
        self._steps_max = steps_max
        self._length = 0  # steps so far; a column may be shorter
        self._columns: dict[tuple[str, str, str], Column] = {}  # by group, name, unit
        self._at_s = 0.0  # of the latest pulse
        self._rates = Rates()

    def __len__(self) -> int:
        return self._length

    def note(self, pulse: Pulse) -> None:
        """Take the merged pulse of a step; one that is not later than the last is left out."""
        if pulse.at_s <= self._at_s:
            return
        index = self._index(pulse.at_s)
        self._length = max(self._length, index + 1)
        for name, rate in self._rates.of(pulse).items():
            self._put(index, "throughput", name, "/s", rate)
        for kind, timing in pulse.timings.items():
            group, its = ("lag", "all clients") if kind == LAG else ("latency", kind)
            for percentile in SHOWN:
                if percentile in timing.percentiles_ms:
                    value = timing.percentiles_ms[percentile]
                    self._put(index, group, f"{its} {percentile}", "ms", value)
        for gauge, value in pulse.gauges.items():
            group, name = split(gauge)
            self._put(index, group, name, unit_of(group, name), value)
        self._at_s = pulse.at_s

    def lines(self) -> list[Line]:
        """Return the curves, each with a value for every step of `step_s`."""
        return [
            Line(
                name=name,
                unit=unit,
                group=group,
                values=[
                    None if value is None else round(value, 3)
                    for value in column + [None] * (self._length - len(column))
                ],
            )
            for (group, name, unit), column in self._columns.items()
        ]

    def _index(self, at_s: float) -> int:
        """The step that ends at a moment; joins steps until there is room for it."""
        while (index := self._index_now(at_s)) >= self._steps_max:
            for (group, name, _), column in self._columns.items():
                pairs = zip(column[::2], [*column[1::2], None], strict=False)
                column[:] = [_joined(group, name, one, other) for one, other in pairs]
            self._length = (self._length + 1) // 2
            self.step_s *= 2
        return index

    def _index_now(self, at_s: float) -> int:
        return max(0, math.ceil((at_s - self._late_s) / self.step_s) - 1)

    def _put(self, index: int, group: str, name: str, unit: str, value: float) -> None:
        column = self._columns.setdefault((group, name, unit), [])
        column += [None] * (index + 1 - len(column))
        column[index] = _joined(group, name, column[index], value)


def _joined(group: str, name: str, one: float | None, other: float | None) -> float | None:
    """One value for two steps; the second is the later one."""
    if one is None or other is None:
        return other if one is None else one
    if group in ("latency", "lag", "memory"):
        return max(one, other)
    if group in ("stock", "connections") or name.endswith("connections"):
        return other
    return (one + other) / 2
