"""The charts of a report as plotly understands them: plain traces and layouts, made of a result.

Owns what is drawn with what, and in which order. Colours and fonts are the page's, which knows
whether it is dark; a trace only says by its `meta` which colour of the row is its own. Every text
that comes from a result is escaped here, since plotly takes markup in its texts.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from loadtest.result import Line, Moment, Result
from loadtest.timings import Timer

NAME_CHARS_MAX: Final = 48
LINES_MAX: Final = 12  # of one chart
MOMENTS_MAX: Final = 100  # drawn; all are listed under the charts
#: Two moments nearer than this share of the run cannot both be named on a phone.
APART: Final = 0.035
#: A line whose peak is this much smaller than the largest gets a chart with others like it.
SMALL: Final = 1 / 15
NINES: Final = ("0", "50", "90", "99", "99.9", "99.99", "99.999", "99.9999")
GOOD, BAD = 2, 3  # of the row of colours

Spec = dict[str, Any]


class Plot(msgspec.Struct, kw_only=True):
    """One chart; `title` and `note` are plain text."""

    title: str
    note: str = ""
    traces: list[Spec]
    layout: Spec


def plots(result: Result) -> list[Plot]:
    """Return the charts that there is something to draw of, the most asked for first."""
    groups: dict[str, list[Line]] = {}
    for line in result.lines:
        if any(value is not None for value in line.values):
            groups.setdefault(line.group, []).append(line)
    time = _Time(result)
    many, few = _by_size([line for line in groups.pop("throughput", []) if _peak(line) > 0])
    server: dict[str, list[Line]] = {}
    for line in groups.pop("server", []):
        if _peak(line) > 0:
            server.setdefault(line.unit, []).append(line)
    found = [
        time.plot("Throughput", "/s", many),
        time.plot("Throughput, the rarer", "/s", few),
        _latency(time, groups.pop("latency", [])),
        _percentiles(result),
        _outcomes(result),
        time.plot("Stock", "units", groups.pop("stock", []), line={"shape": "hv"}),
        time.plot("Connections", "", groups.pop("connections", [])),
        time.plot("Processor", "cores", groups.pop("cpu", [])),
        time.plot("Memory", "MiB", groups.pop("memory", [])),
        time.plot("How late the client's own timers fired", "ms", groups.pop("lag", [])),
        *(
            time.plot("The server: " + ", ".join(line.name for line in alike), "", alike)
            for lines in server.values()
            for alike in _by_size(lines)
        ),
        *(time.plot(group, lines[0].unit, lines) for group, lines in groups.items()),
    ]
    return [plot for plot in found if plot is not None]


def safe(text: str, chars_max: int = NAME_CHARS_MAX) -> str:
    """Return text that plotly shows as it is, on one line, clipped."""
    line = " ".join(text.split())
    return html.escape(line if len(line) <= chars_max else line[: chars_max - 1] + "…", quote=False)


class _Time:
    """What all charts over time share: the steps, and the moments."""

    def __init__(self, result: Result) -> None:
        self.step_s = result.step_s
        drawn = sorted(result.moments, key=lambda moment: moment.at_s)[:MOMENTS_MAX]
        steps = max((len(line.values) for line in result.lines), default=0)
        self.ends_s = max([steps * self.step_s, *(moment.at_s for moment in drawn), 0.001])
        self.shapes = [_upright(moment) for moment in drawn]
        self.names: list[Spec] = []
        named_s = float("-inf")
        for moment in drawn:
            if moment.at_s - named_s >= self.ends_s * APART:
                late = moment.at_s > self.ends_s * (1 - APART)
                self.names.append(_named(moment, late))
                named_s = moment.at_s

    def trace(self, its: Line, colour: int, **more: Any) -> Spec:
        """One line; a step's value stands at the step's end."""
        return {
            "type": "scatter",
            "mode": "lines+markers" if _is_alone(its.values) else "lines",
            "marker": {"size": 6},
            "name": safe(its.name),
            "x": [round((n + 1) * self.step_s, 3) for n in range(len(its.values))],
            "y": its.values,
            "meta": colour,
            **more,
        }

    def plot(self, title: str, unit: str, lines: Sequence[Line], **more: Any) -> Plot | None:
        """A chart of lines with one unit; None without any."""
        shown = sorted(lines, key=_peak, reverse=True)[:LINES_MAX]
        shown = [line for line in lines if line in shown]
        left_out = f"The largest {len(shown)} of {len(lines)}." if len(lines) > len(shown) else ""
        traces = []
        for n, line in enumerate(shown):
            dashed = {"dash": "dot"} if line.name.startswith("client") else {}
            traces.append(self.trace(line, n, line={**more.get("line", {}), **dashed}))
        return self.framed(title, unit, traces, left_out)

    def framed(self, title: str, unit: str, traces: list[Spec], note: str = "") -> Plot | None:
        """The frame of a chart over time, with the moments in it."""
        layout: Spec = {
            "xaxis": {"range": [0, self.ends_s], "ticksuffix": " s"},
            "yaxis": {"rangemode": "tozero"},
            "shapes": self.shapes,
            "annotations": self.names,
            "hovermode": "x unified",
        }
        named = f"{title}, {unit}" if unit else title
        return Plot(title=named, note=note, traces=traces, layout=layout) if traces else None


def _upright(moment: Moment) -> Spec:
    return {
        "type": "line",
        "x0": moment.at_s,
        "x1": moment.at_s,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"width": 1, "dash": "dot"},
    }


def _named(moment: Moment, late: bool) -> Spec:
    """The name along its line; before it where there is no room behind."""
    return {
        "x": moment.at_s, "yref": "paper", "y": 1, "text": safe(moment.what, 28),
        "textangle": -90, "xanchor": "right" if late else "left", "yanchor": "top",
        "showarrow": False, "font": {"size": 10},
        "hovertext": safe(f"{moment.at_s:.2f} s: {moment.what}", 120),
    }  # fmt: skip


def _is_alone(values: Sequence[float | None]) -> bool:
    """Whether some value has no neighbour that a line could go to."""
    around = [None, *values, None]
    return any(
        value is not None and around[n] is None and around[n + 2] is None
        for n, value in enumerate(values)
    )


def _by_size(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """The large ones, and those that beside them would lie on the floor."""
    largest = max(map(_peak, lines), default=0.0)
    small = [line for line in lines if _peak(line) < largest * SMALL]
    return [line for line in lines if line not in small], small


def _peak(line: Line) -> float:
    return max((value for value in line.values if value is not None), default=0.0)


def _latency(time: _Time, lines: Iterable[Line]) -> Plot | None:
    """Each kind in a colour of its own, with one name for all of its percentiles."""
    kinds: dict[str, list[tuple[str, Line]]] = {}
    for line in lines:
        kind, _, measure = line.name.rpartition(" ")
        kinds.setdefault(kind, []).append((measure, line))
    looks: dict[str, Spec] = {"p50": {"width": 1}, "max": {"width": 1, "dash": "dot"}}
    traces = [
        time.trace(
            line,
            n,
            legendgroup=safe(kind),
            showlegend=measure not in looks,
            line=looks.get(measure, {"width": 2.4}),
        )
        for n, (kind, measured) in enumerate(list(kinds.items())[:LINES_MAX])
        for measure, line in measured
    ]
    note = "From the moment each was due. Thin: p50; thick: p99; dotted: the largest."
    plot = time.framed("Latency over time", "ms", traces, note)
    if plot is not None:
        plot.layout["yaxis"] = {"type": "log", "dtick": "D2"}
    return plot


def _percentiles(result: Result) -> Plot | None:
    """The percentile curve: each further nine is as wide as the one before."""
    traces: list[Spec] = []
    most = 2.0
    for n, (kind, timing) in enumerate(list(result.timings.items())[:LINES_MAX]):
        if not timing.histogram:
            continue
        curve = Timer(timing).curve()
        # The largest is one of so many; 100 % itself would be infinitely far away.
        xs = [1 / max(1 - share / 100, 1 / timing.count) for share, _ in curve]
        most = max([most, *xs])
        traces.append({
            "type": "scatter", "mode": "lines", "name": safe(kind), "meta": n,
            "x": [round(x, 4) for x in xs], "y": [ms for _, ms in curve],
            "customdata": [f"{share:.6g} %" for share, _ in curve],
            "hovertemplate": "%{customdata}: %{y:,.2f} ms",
        })  # fmt: skip
    places = [1, 2, *(10**n for n in range(1, len(NINES) - 1))]  # one behind so many
    layout: Spec = {
        "xaxis": {"type": "log", "tickvals": places, "ticktext": list(NINES), "tickangle": 0},
        "yaxis": {"type": "log", "dtick": "D2"},
        "hovermode": "closest",
    }
    note = "The whole run; how long all but so many waited at most."
    return (
        Plot(title="Percentiles, ms", note=note, traces=traces, layout=layout) if traces else None
    )


def _outcomes(result: Result) -> Plot | None:
    ordered = sorted(result.outcomes.items(), key=lambda item: item[1])
    found = [(name, count) for name, count in ordered if count][-LINES_MAX:]
    trace: Spec = {
        "type": "bar",
        "orientation": "h",
        "cliponaxis": False,
        "x": [count for _, count in found],
        "y": [safe(name) for name, _ in found],
        "text": [f"{count:,}" for _, count in found],
        "textposition": "auto",
        "textangle": 0,
        "insidetextanchor": "end",
        "meta": [GOOD if name.startswith("order.") else BAD for name, _ in found],
        "hovertemplate": "%{y}: %{x:,}<extra></extra>",
    }
    layout: Spec = {"yaxis": {"automargin": True, "type": "category"}, "showlegend": False}
    return Plot(title="Final answers", traces=[trace], layout=layout) if found else None
