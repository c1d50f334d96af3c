"""The tables of the live view, drawn of its state in the room there is.

Owns how each part looks and which shapes the whole can take: in one column or in two halves, with
more or fewer rows. It keeps no state and measures nothing. Called by loadtest/live.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.wording import clock, number, words

if TYPE_CHECKING:
    from loadtest.live import View

WIDE: Final = 112  # columns, from which two halves have room for everything
MARKED: Final = 50  # columns of a half, from which it has sparks and bars
GAP: Final = 4  # columns between two halves
ROWS: Final = (8, 6, 5, 4, 3)  # of a table; the fewer, the lower the terminal
SPARKS: Final = "▁▂▃▄▅▆▇█"
SPARKS_MAX: Final = 24
BAR: Final = 10  # columns of a whole core
BUSY: Final = 0.9  # of a core
BLANK: Final = "–"
HEADING: Final = "bold cyan"


class Shape(NamedTuple):
    """How the room is used."""

    width: int
    halves: bool
    rows_max: int


def shapes(width: int) -> Iterator[Shape]:
    """Yield what can be tried, the roomiest first."""
    if width < WIDE:
        yield Shape(width, halves=False, rows_max=ROWS[0])
    for rows_max in ROWS:
        yield Shape(width, halves=True, rows_max=rows_max)


class Picture:
    """One view in one shape."""

    def __init__(self, view: View, shape: Shape) -> None:
        self._view = view
        self._shape = shape
        self._rows_max = shape.rows_max
        self._width = (shape.width - GAP) // 2 if shape.halves else shape.width
        self._marks = self._width >= MARKED

    def drawn(self) -> RenderableType:
        """The whole."""
        measured = [self.rates(), self.timings()]
        seen = [self.outcomes(), self.machine(), self.gauges()]
        if not self._shape.halves:
            return Group(self.head(), stacked([*measured, *seen, self.moments()]))
        halves = Table.grid(padding=(0, GAP, 0, 0))
        halves.add_column(width=self._width)
        halves.add_column(width=self._width)
        halves.add_row(stacked([*measured, self.moments()]), stacked(seen))
        return Group(self.head(), halves)

    def head(self) -> RenderableType:
        """Title and time, what it is about, and how far it has come where that is known."""
        view, width = self._view, self._shape.width
        ends = f" of {clock(view.duration_s)}" if view.duration_s else ""
        title = Table.grid(expand=True)
        title.add_column(overflow="ellipsis", no_wrap=True)
        title.add_column(justify="right", no_wrap=True)
        title.add_row(words(view.title, "bold"), Text(clock(view.pulse.at_s) + ends, "bold"))
        rest = Table.grid()
        rest.add_column(overflow="ellipsis", no_wrap=True, max_width=width)
        if view.about:
            rest.add_row(words(view.about, "dim"))
        if view.duration_s:
            done = min(view.pulse.at_s, view.duration_s)
            rest.add_row(ProgressBar(view.duration_s, done, width, complete_style="cyan"))
        rest.add_row("")
        return Group(title, rest)

    def rates(self) -> Table | None:
        """How often things happened in the last step, with the highest and the past."""
        view = self._view
        names = view.counts()[: self._rows_max]
        sparks = min(SPARKS_MAX, self._width - 56) if self._width >= 64 else 8
        table = self._table("per second", "now", "peak", "total", mark=sparks)
        for name in names:
            past = list(view.past[name])[-sparks:]
            self._add_row(
                table,
                words(name),
                Text(f"{view.now[name]:,.0f}", "bold"),
                f"{view.peaks[name]:,.0f}",
                f"{view.pulse.counts.get(name, 0):,}",
                mark=Text(spark(past, view.peaks[name]).rjust(sparks), "cyan"),
            )
        return table if names else None

    def timings(self) -> Table | None:
        """Percentiles of the newest step that had any; the worst and the count of the whole run."""
        view = self._view
        table = self._table("latency, ms", "p50", "p99", "worst", "count")
        for kind in list(view.timings)[: self._rows_max]:
            shares = view.timings[kind].percentiles_ms
            # What was measured in an earlier step stays to be read, but paler.
            style = "bold" if kind in view.pulse.timings else "dim"
            table.add_row(
                words(kind),
                Text(milliseconds(shares.get("p50")), style),
                Text(milliseconds(shares.get("p99")), style),
                milliseconds(view.worst_ms[kind]),
                f"{view.timed[kind]:,}",
            )
        return table if view.timings else None

    def outcomes(self) -> Table | None:
        """Final answers by their code, the most frequent first."""
        found, most = largest(self._view.pulse.outcomes), self._rows_max
        whole = sum(count for _, count in found) or 1
        rest = sum(count for _, count in found[most:])
        shown = [*found[:most], *([(f"{len(found) - most} more", rest)] if rest else [])]
        bars = min(SPARKS_MAX, max(8, self._width - 44))
        table = self._table("answers", "count", "share", mark=bars)
        for name, count in shown:
            self._add_row(
                table,
                words(name),
                Text(f"{count:,}", "bold"),
                f"{count / whole:.1%}",
                mark=_bar(count / whole, bars, _style_of(name)),
            )
        return table if found else None

    def machine(self) -> Table | None:
        """The parts of the server with the processes of the client under them."""
        groups = [dict(self._view.gauges(group)) for group in ("cpu", "memory", "lag")]
        cpu, memory, lag = groups
        parts = sorted(dict.fromkeys([*cpu, *memory, *lag]), key=lambda p: p.startswith("client"))
        table = self._table("machine", "cores", "MiB", "late ms", mark=BAR)
        for part in parts[: 2 * self._rows_max]:
            share = cpu.get(part, 0.0)
            self._add_row(
                table,
                words(part),
                Text(f"{share:.2f}" if part in cpu else BLANK, "bold"),
                f"{memory[part]:,.0f}" if part in memory else BLANK,
                milliseconds(lag[part]) if part in lag else "",
                mark=_bar(share, BAR, "red" if share >= BUSY else "green"),
            )
        return table if parts else None

    def gauges(self) -> Table | None:
        """Connections and stock, and what the server says of itself."""
        view = self._view
        rows = [(f"connections {name}", value) for name, value in view.gauges("connections")]
        rows += [(f"stock {name}", value) for name, value in view.gauges("stock")]
        rows += [(f"server: {name}", value) for name, value in view.gauges("server")]
        columns = 2 if self._width >= 76 else 1
        table = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(columns):
            table.add_column(no_wrap=True, overflow="ellipsis")
            table.add_column(justify="right", no_wrap=True)
        shown = rows[: columns * self._rows_max]
        height = -(-len(shown) // columns)
        for n in range(height):
            cells: list[RenderableType] = []
            for name, value in shown[n::height]:
                cells += [words(name, "dim"), Text(number(value), "bold")]
            table.add_row(*cells)
        return table if rows else None

    def moments(self) -> Table | None:
        """What happened last, the latest at the end."""
        shown = list(self._view.moments)[-self._rows_max :]
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(justify="right", no_wrap=True)
        table.add_column(max_width=self._width - 14, overflow="ellipsis", no_wrap=True)
        for moment in shown:
            style = "bold" if moment is shown[-1] else "dim"
            table.add_row(Text(f"{moment.at_s:.1f} s", "dim"), words(moment.what, style))
        return table if shown else None

    def _table(self, heading: str, *columns: str, mark: int = 0) -> Table:
        """A table without lines, whose first column takes what the others leave.

        `mark`: columns of a last one for sparks or bars, where there is room for them.
        """
        table = Table(
            box=None,
            width=self._width,
            padding=(0, 2 if self._marks else 1, 0, 0),
            pad_edge=False,
            header_style=HEADING,
        )
        table.add_column(heading, ratio=1, no_wrap=True, overflow="ellipsis")
        for column in columns:
            table.add_column(column, justify="right", no_wrap=True)
        if mark and self._marks:
            table.add_column("", width=mark, no_wrap=True)
        return table

    def _add_row(self, table: Table, *cells: RenderableType, mark: Text) -> None:
        table.add_row(*cells, *([mark] if self._marks else []))


def spark(values: Sequence[float], most: float) -> str:
    """Draw values as a row of small bars, the highest of which is `most`."""
    top = len(SPARKS) - 1
    return "".join(SPARKS[min(top, round(v / most * top)) if most > 0 else 0] for v in values)


def milliseconds(value: float | None) -> str:
    """Write a latency that there may not be."""
    return BLANK if value is None else number(value)


def largest(found: dict[str, int]) -> list[tuple[str, int]]:
    """Order counts by their size, and those alike by name."""
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def stacked(parts: Iterable[Table | None]) -> Group:
    """Put parts under each other with a blank line between; those that are absent leave none."""
    rows: list[RenderableType] = []
    for part in parts:
        if part is not None:
            rows += ["", part] if rows else [part]
    return Group(*rows)


def _style_of(outcome: str) -> str:
    return "green" if outcome.startswith("order.") else "yellow"


def _bar(share: float, width: int, style: str) -> Text:
    return Text("━" * min(width, round(share * width)), style)
