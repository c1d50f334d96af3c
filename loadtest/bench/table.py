"""A comparison as people read it: a table in the terminal, and a page of the docs.

Owns presentation only. Says plainly where livecart is behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtest.bench.comparison import OURS, Comparison, Entry

QUIET_MAX = 0.5  # of a processor: what others may use before figures are not to be trusted
HEADS = ("what", "side", "median (lowest to highest)", "ratio", "")
MACHINE = ("processor", "cores", "memory", "system")
#: What the ratio column means.
RATIO = "A ratio says how many times as good livecart is: as fast, or as small."


class Row(NamedTuple):
    """One line: a side of a contest."""

    what: str  # of the contest's first line
    side: str
    figure: str
    ratio: str
    note: str


def rows(comparison: Comparison) -> Iterator[Row]:
    """Give a line for each side of each contest."""
    for contest in comparison.contests:
        for number, entry in enumerate(contest.entries):
            what = "" if number else f"{contest.name}, {contest.unit}"
            yield Row(what, entry.name, figure_of(entry), ratio_of(entry), entry.note)


def figure_of(entry: Entry) -> str:
    """Return `62,700 (61,000 to 64,100)`; one figure when there was one round."""
    median = number(entry.figure)
    if entry.low == entry.high:
        return median
    return f"{median} ({number(entry.low)} to {number(entry.high)})"


def ratio_of(entry: Entry) -> str:
    """Return `1.84 (1.67 to 2.02)`, with what says that livecart is behind."""
    if entry.ratio is None or entry.ratio_low is None or entry.ratio_high is None:
        return "" if entry.name == OURS else "too little to compare"
    told = f"{entry.ratio:.2f}"
    if entry.ratio_low != entry.ratio_high:
        told += f" ({entry.ratio_low:.2f} to {entry.ratio_high:.2f})"
    return f"{told}, behind" if entry.behind else told


def number(value: float) -> str:
    """Return a figure with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def verdict(comparison: Comparison) -> str:
    """Return a sentence on where livecart is behind."""
    behind = [
        f"{contest.name} beside {entry.name} ({entry.ratio:.2f})"
        for contest in comparison.contests
        for entry in contest.behind
    ]
    if not behind:
        return "livecart is behind nobody here."
    return f"livecart is behind in: {'; '.join(behind)}."


def busy(comparison: Comparison) -> str:
    """Return a sentence when others used the machine as the run began; '' when it was quiet."""
    if comparison.load_before <= QUIET_MAX:
        return ""
    return (
        f"The machine was not quiet: a load of {comparison.load_before:.1f} in the minute before,"
        " when nothing of this ran yet. Repeat it before believing a figure."
    )


def skipped(comparison: Comparison) -> list[str]:
    """Return a sentence for everything that is not in the table, and why."""
    return [
        *(f"{name}, which is not here: {why}" for name, why in comparison.absent.items()),
        *(f"{name}, which did not come through: {why}" for name, why in comparison.failed.items()),
        *(f"{name}: {why}" for name, why in comparison.left_out.items()),
    ]


def show(console: Console, comparison: Comparison) -> None:
    """Print the table and what belongs to it."""
    table = Table(title="livecart beside its peers", title_justify="left")
    for head in HEADS[:-1]:
        table.add_column(head)
    for row in rows(comparison):
        if row.what:
            table.add_section()
        table.add_row(*(escape(cell) for cell in row[:-1]))
    console.print(table)
    for row in rows(comparison):
        if row.note:
            console.print(f"{row.side}: {row.note}", markup=False)
    for line in (RATIO, verdict(comparison), busy(comparison)):
        if line:
            console.print(line, markup=False)
    for line in skipped(comparison):
        console.print(f"not in the table: {line}", markup=False)
    console.print(machine(comparison), markup=False)


def machine(comparison: Comparison) -> str:
    """Return a line on what it ran on."""
    known = comparison.machine
    told = ", ".join(f"{name} {known[name]}" for name in MACHINE if name in known)
    return f"{told}; {comparison.took_s:.0f} s"


def markdown(comparison: Comparison) -> str:
    """Return the page of the docs."""
    parts = [
        "# Benchmarks",
        "`make bench` writes this page: every figure is of one run, on one machine, which server"
        " and load share. Each round has every side once; a ratio is that of two figures of the"
        " same round, and the median of the rounds is shown with both ends. "
        + RATIO
        + " Absolute figures move"
        " with the machine: compare along a contest only. How the sides are run is in"
        " [performance.md](performance.md).",
        _grid(HEADS, rows(comparison)),
        verdict(comparison),
    ]
    if word := busy(comparison):
        parts.append(word)
    for contest in comparison.contests:
        rounds = f"{contest.rounds} rounds" if contest.rounds > 1 else "once"
        parts.append(" ".join((f"**{contest.name}**, {rounds}: {contest.what}", *contest.notes)))
    if lines := skipped(comparison):
        parts.append("Not in the table:\n\n" + "\n".join(f"- {line}" for line in lines))
    told = ", ".join(f"{name}: {value}" for name, value in comparison.options.items())
    run = f"{comparison.began}, {comparison.took_s:.0f} s ({told})"
    facts = {"run": run, **comparison.machine, **comparison.versions}
    parts += ["## Machine and versions", _grid(("", ""), facts.items())]
    return "\n\n".join(parts) + "\n"


def _grid(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    ruled = ["---"] * len(heads)
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
        for line in (heads, ruled, *lines)
    )
