"""Two results side by side: what differs, by how much, and whether that is better or worse.

Owns which figures are better when they are smaller, when two values are the same as far as was
measured, and what makes two runs no fair comparison. It reads no file. Called by `compare`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.result import Result
from loadtest.timings import DIGITS, Timing
from loadtest.wording import number, printable, reasons_of_sale, words

#: Two values of a histogram may each be off by one of its steps: 0.1 %, and at least 1 µs.
RESOLUTION: Final = 2 * 10.0**-DIGITS
RESOLUTION_MS: Final = 0.002
#: Smaller changes of other figures are no change: so much is lost by writing them.
EQUAL: Final = 1e-6
PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}

Mark = Literal["better", "worse", "same", "few", "gone", "new", ""]
MARKS: Final[Mapping[Mark, Text]] = {
    "better": Text("better", "green"),
    "worse": Text("worse", "red"),
    "same": Text("same", "dim"),
    "few": Text("too few", "dim"),
    "gone": Text("only in A", "yellow"),
    "new": Text("only in B", "yellow"),
    "": Text(""),
}


class Change(msgspec.Struct, kw_only=True):
    """One value in both results; `ratio` is B over A, and None where there is none."""

    name: str  # as in a thresholds file
    a: float | None
    b: float | None
    ratio: float | None = None
    mark: Mark = ""


class Difference(msgspec.Struct, kw_only=True):
    """All that differs between A and B, and why they may not be comparable."""

    a: str  # titles
    b: str
    changes: list[Change] = []
    warnings: list[str] = []
    worse: list[str] = []  # beyond the ratio that was asked for


def compare(a: Result, b: Result, worse_than: float | None = None) -> Difference:
    """Hold B against A.

    `worse_than`: a ratio above which a p99 or a throughput figure (`…_per_s`) that is worse is
    listed in `worse`; one that B does not have at all is listed as well.
    """
    found = Difference(a=a.title, b=b.title, warnings=_warnings(a, b))
    for name in dict.fromkeys([*a.figures, *b.figures]):
        smaller = _smaller_is_better(name)
        found.changes.append(
            _change(f"figures.{name}", a.figures.get(name), b.figures.get(name), smaller)
        )
    for kind in dict.fromkeys([*a.timings, *b.timings]):
        found.changes += _timed(kind, a.timings.get(kind), b.timings.get(kind))
    for name in dict.fromkeys([*a.outcomes, *b.outcomes]):
        one, other = a.outcomes.get(name, 0), b.outcomes.get(name, 0)
        found.changes.append(_change(f"outcomes.{name}", one, other, None))
    if worse_than is not None:
        found.worse = [change.name for change in found.changes if _is_beyond(change, worse_than)]
    return found


def _smaller_is_better(figure: str) -> bool | None:
    """The direction that a figure's unit gives it; None where it gives none."""
    its = figure.partition(".")[0]  # without the part that it is of
    if its.endswith("_per_s"):
        return False
    return True if its.endswith(("_s", "_ms", "_us", "_mib", "_bytes")) else None


def _change(name: str, a: float | None, b: float | None, smaller_is_better: bool | None) -> Change:
    change = Change(name=name, a=a, b=b)
    if a is None or b is None:
        change.mark = "new" if a is None else "gone"
        return change
    change.ratio = round(b / a, 4) if a else None
    if abs(a - b) <= EQUAL * max(abs(a), abs(b)):
        change.mark = "same"
    elif smaller_is_better is not None:
        change.mark = "better" if (b < a) == smaller_is_better else "worse"
    return change


def _timed(kind: str, a: Timing | None, b: Timing | None) -> Iterable[Change]:
    for percentile, share in PERCENTILES.items():
        one, other = _of(a, percentile), _of(b, percentile)
        if one is None and other is None:
            continue
        change = _change(f"timings.{kind}.{percentile}", one, other, True)
        if a is not None and b is not None and one is not None and other is not None:
            if abs(one - other) <= max(RESOLUTION_MS, RESOLUTION * max(one, other)):
                change.mark = "same"
            elif share < 1 and min(a.count, b.count) * (1 - share) < 1:
                change.mark = "few"  # none lies above it: it is the largest, by another name
        yield change


def _of(timing: Timing | None, percentile: str) -> float | None:
    return timing.percentiles_ms.get(percentile) if timing is not None and timing.count else None


def _is_beyond(change: Change, worse_than: float) -> bool:
    name = change.name
    gated = (name.startswith("timings.") and name.endswith(".p99")) or (
        name.startswith("figures.") and name.split(".")[1].endswith("_per_s")
    )
    if not gated or change.mark not in ("worse", "gone"):
        return False
    a, b = change.a, change.b
    if a is None or b is None:
        return True
    return b > a * worse_than if name.startswith("timings.") else a > b * worse_than


def _warnings(a: Result, b: Result) -> list[str]:
    """What makes it no fair comparison."""
    found = []
    for name, result in (("A", a), ("B", b)):
        if result.client.overloads:
            why = "; ".join(result.client.overloads)
            found.append(f"{name}: the client was overloaded, so its figures are its own: {why}")
        if wrong := reasons_of_sale(result):
            found.append(f"{name} is of a broken run: {wrong[0]}")
    if a.scenario != b.scenario:
        found.append(f"different scenarios: {a.scenario} and {b.scenario}")
    found += _differing(
        "option", {**a.configuration, "seed": a.seed}, {**b.configuration, "seed": b.seed}
    )
    found += _differing("machine", a.machine, b.machine)
    return found


def _differing(what: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    missing = "not given"
    return [
        f"{what} {name}: {_plain(a.get(name, missing))} and {_plain(b.get(name, missing))}"
        for name in dict.fromkeys([*a, *b])
        if a.get(name, missing) != b.get(name, missing)
    ]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def show(console: Console, difference: Difference) -> None:
    """Print it as a table, the warnings before it."""
    for warning in difference.warnings:
        console.print(words(f"differs: {warning}", "yellow"))
    table = Table(title_justify="left")
    for heading in ("", "A", "B", "B / A", ""):
        table.add_column(heading, justify="right" if heading else "left")
    group = ""
    for change in difference.changes:
        its, _, rest = change.name.partition(".")
        if its != group:
            table.add_section()
            group = its
        table.add_row(
            words(rest),
            "–" if change.a is None else number(change.a),
            "–" if change.b is None else number(change.b),
            "" if change.ratio is None else f"{change.ratio:.3f}",
            MARKS[change.mark],
        )
    console.print(Text("A: ").append(printable(difference.a), "bold"))
    console.print(Text("B: ").append(printable(difference.b), "bold"))
    console.print(table)
    for name in difference.worse:
        console.print(words(f"worse than allowed: {name}", "red"))
