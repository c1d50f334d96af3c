"""What a run looks like while it is played: rates, percentiles, codes, the server's side, moments.

Owns the picture and the plain lines that stand for it where nothing can be redrawn. It is told
pulses and moments and draws those alone; it asks nobody and knows no clock. Called by `run`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.pulse import LAG, Pulse, Rates, split
from loadtest.result import Moment
from loadtest.timings import Timing
from loadtest.wording import clock, number, printable, words

PLAIN_LINE_S: Final = 1.0
EARLY_S: Final = 0.1  # that a line may come before its second is over
WIDE: Final = 112  # columns, from which the picture has two halves
ROWS_MAX: Final = 8
MOMENTS_MAX: Final = 6
BUSY: Final = 0.9  # of a core
SPARKS: Final = "▁▂▃▄▅▆▇█"
SPARKS_MAX: Final = 24
BLANK: Final = "–"
#: What is read first; other counts follow.
FIRST: Final = ("commands", "answers", "orders", "events", "connects", "reconnects")
HEADING: Final = "bold cyan"


class View:
    """The state of a run as it is seen; a rich renderable, right from 80 columns on."""

    def __init__(self, title: str, about: str = "", duration_s: float | None = None) -> None:
        """`about`: one line under the title; `duration_s`: where it is known how long it takes."""
        self.title = title
        self.about = about
        self.duration_s = duration_s
        self.pulse = Pulse()  # the latest
        self.moments: deque[Moment] = deque(maxlen=MOMENTS_MAX)
        self.moments_seen = 0
        self._rates = Rates()
        self._now: dict[str, float] = {}  # rate of each count
        self._peaks: dict[str, float] = {}
        self._past: dict[str, deque[float]] = {}
        self._timings: dict[str, Timing] = {}  # of the latest step that had any of the kind
        self._worst_ms: dict[str, float] = {}
        self._timed: dict[str, int] = {}

    def note(self, pulse: Pulse) -> None:
        """Take the merged pulse of a step."""
        self._now |= (rates := self._rates.of(pulse))
        for name, rate in rates.items():
            self._peaks[name] = max(rate, self._peaks.get(name, 0.0))
            self._past.setdefault(name, deque(maxlen=SPARKS_MAX)).append(rate)
        for kind, timing in pulse.timings.items():
            if timing.count and kind != LAG:  # it is in the gauges, by process
                self._timings[kind] = timing
                most_ms = timing.percentiles_ms.get("max", 0.0)
                self._worst_ms[kind] = max(most_ms, self._worst_ms.get(kind, 0.0))
                self._timed[kind] = self._timed.get(kind, 0) + timing.count
        self.pulse = pulse

    def happened(self, moment: Moment) -> None:
        """Take what happened; the latest ones are shown."""
        self.moments.append(moment)
        self.moments_seen += 1

    def line(self) -> str:
        """Return the state as one line of text."""
        rates = [f"{name} {self._now[name]:,.0f}/s" for name in self._counts()[:4]]
        slow = [
            f"{kind} p99 {_ms(timing.percentiles_ms.get('p99'))} ms"
            for kind, timing in self.pulse.timings.items()
            if timing.count and kind != LAG
        ]
        codes = [f"{name} {count:,}" for name, count in _largest(self.pulse.outcomes)[:4]]
        stock = [f"stock {name} {value:,.0f}" for name, value in self._gauges("stock")]
        busy = [f"{name} {share:.2f}" for name, share in self._gauges("cpu") if share >= BUSY]
        if busy:
            busy[0] = f"busy: {busy[0]}"
        told = "; ".join(", ".join(part) for part in (rates, slow[:3], codes, stock, busy) if part)
        return printable(f"{clock(self.pulse.at_s)}  {told}".rstrip())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it in the width there is."""
        width = options.max_width
        wide = width >= WIDE
        half = (width - 4) // 2 if wide else width
        left: list[Table | None] = [self._rate_table(half), self._timing_table(half)]
        right = [self._outcome_table(half), self._machine_table(half), self._server_table(half)]
        yield self._head(width)
        if wide:
            halves = Table.grid(padding=(0, 4, 0, 0))
            halves.add_column(width=half)
            halves.add_column(width=half)
            halves.add_row(_stack([*left, self._moment_table(half)]), _stack(right))
            yield halves
        else:
            yield _stack([*left, *right, self._moment_table(width)])

    def _head(self, width: int) -> RenderableType:
        head = Table.grid(expand=True)
        head.add_column(overflow="ellipsis", no_wrap=True)
        head.add_column(justify="right", no_wrap=True)
        ends = f" of {clock(self.duration_s)}" if self.duration_s else ""
        head.add_row(words(self.title, "bold"), Text(clock(self.pulse.at_s) + ends, "bold"))
        rows: list[RenderableType] = [head]
        if self.about:
            rows.append(words(self.about, "dim"))
        if self.duration_s:
            done = min(self.pulse.at_s, self.duration_s)
            bar = Table.grid()
            bar.add_row(ProgressBar(self.duration_s, done, width, complete_style="cyan"))
            rows.append(bar)
        return Group(*rows, "")

    def _counts(self) -> list[str]:
        known = [name for name in FIRST if name in self._now]
        return known + sorted(self._now.keys() - set(known))

    def _rate_table(self, width: int) -> Table | None:
        names = self._counts()[:ROWS_MAX]
        table = _table(width, "per second", "now", "peak", "total", "")
        sparks = min(SPARKS_MAX, max(8, width - 56))
        for name in names:
            past = list(self._past[name])[-sparks:]
            table.add_row(
                words(name),
                Text(f"{self._now[name]:,.0f}", "bold"),
                f"{self._peaks[name]:,.0f}",
                f"{self.pulse.counts.get(name, 0):,}",
                Text(spark(past, self._peaks[name]).rjust(sparks), "cyan"),
            )
        return table if names else None

    def _timing_table(self, width: int) -> Table | None:
        table = _table(width, "latency, ms", "p50", "p99", "worst", "count")
        for kind in list(self._timings)[:ROWS_MAX]:
            shares = self._timings[kind].percentiles_ms
            # What was measured in an earlier step stays to be read, but paler.
            style = "bold" if kind in self.pulse.timings else "dim"
            table.add_row(
                words(kind),
                Text(_ms(shares.get("p50")), style),
                Text(_ms(shares.get("p99")), style),
                _ms(self._worst_ms[kind]),
                f"{self._timed[kind]:,}",
            )
        return table if self._timings else None

    def _outcome_table(self, width: int) -> Table | None:
        found = _largest(self.pulse.outcomes)
        if not found:
            return None
        rest = sum(count for _, count in found[ROWS_MAX:])
        shown = [*found[:ROWS_MAX], *([(f"{len(found) - ROWS_MAX} more", rest)] if rest else [])]
        whole = sum(count for _, count in found) or 1
        table = _table(width, "answers", "count", "share", "")
        bars = min(SPARKS_MAX, max(8, width - 44))
        for name, count in shown:
            style = "green" if name.startswith("order.") else "yellow"
            table.add_row(
                words(name),
                Text(f"{count:,}", "bold"),
                f"{count / whole:.1%}",
                _bar(count / whole, bars, style),
            )
        return table

    def _machine_table(self, width: int) -> Table | None:
        """The parts of the server with the processes of the client under them."""
        cpu, memory, lag = (dict(self._gauges(group)) for group in ("cpu", "memory", "lag"))
        parts = sorted(dict.fromkeys([*cpu, *memory, *lag]), key=lambda p: p.startswith("client"))
        table = _table(width, "machine", "cores", "MiB", "late ms", "")
        for part in parts[: 2 * ROWS_MAX]:
            share = cpu.get(part)
            table.add_row(
                words(part),
                Text(BLANK if share is None else f"{share:.2f}", "bold"),
                f"{memory[part]:,.0f}" if part in memory else BLANK,
                _ms(lag[part]) if part in lag else "",
                _bar(share or 0.0, 10, "red" if (share or 0.0) >= BUSY else "green"),
            )
        return table if parts else None

    def _server_table(self, width: int) -> Table | None:
        """What the server says of itself, with what is known of stock and connections."""
        rows = [(f"connections {name}", value) for name, value in self._gauges("connections")]
        rows += [(f"stock {name}", value) for name, value in self._gauges("stock")]
        rows += [(f"server: {name}", value) for name, value in self._gauges("server")]
        if not rows:
            return None
        table = Table.grid(padding=(0, 2, 0, 0))
        columns = 2 if width >= 76 else 1
        for _ in range(columns):
            table.add_column(no_wrap=True, overflow="ellipsis")
            table.add_column(justify="right", no_wrap=True)
        rows = rows[: columns * ROWS_MAX]
        height = -(-len(rows) // columns)
        for n in range(height):
            cells: list[RenderableType] = []
            for name, value in rows[n::height]:
                cells += [words(name, "dim"), Text(number(value), "bold")]
            table.add_row(*cells)
        return table

    def _moment_table(self, width: int) -> Table | None:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(justify="right", no_wrap=True)
        table.add_column(max_width=width - 14, overflow="ellipsis", no_wrap=True)
        for moment in self.moments:
            latest = moment is self.moments[-1]
            table.add_row(
                Text(f"{moment.at_s:.1f} s", "dim"),
                words(moment.what, "bold" if latest else "dim"),
            )
        return table if self.moments else None

    def _gauges(self, group: str) -> list[tuple[str, float]]:
        found = [(*split(gauge), value) for gauge, value in self.pulse.gauges.items()]
        return [(name, value) for its, name, value in found if its == group]


class Screen:
    """Keeps a view on a terminal for as long as its block lasts."""

    def __init__(self, view: View, console: Console) -> None:
        self._view = view
        self._console = console
        self._live = (
            Live(view, console=console, auto_refresh=False) if console.is_terminal else None
        )
        self._told_at_s = EARLY_S - PLAIN_LINE_S  # the first pulse is told at once
        self._moments_told = 0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def refresh(self) -> None:
        """Draw it as it is now; in plain lines at most one a second, and one for each moment."""
        view = self._view
        if self._live is not None:
            self._live.refresh()
            return
        new = min(view.moments_seen - self._moments_told, len(view.moments))
        for moment in list(view.moments)[len(view.moments) - new :]:
            self._say(f"{clock(moment.at_s)}  {printable(moment.what)}")
        self._moments_told = view.moments_seen
        at_s = view.pulse.at_s
        if at_s > 0 and at_s >= self._told_at_s + PLAIN_LINE_S - EARLY_S:
            self._told_at_s = at_s
            self._say(view.line())

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def spark(values: Sequence[float], most: float) -> str:
    """Draw values as a row of small bars, the highest of which is `most`."""
    top = len(SPARKS) - 1
    return "".join(SPARKS[min(top, round(v / most * top)) if most > 0 else 0] for v in values)


def _ms(value: float | None) -> str:
    return BLANK if value is None else number(value)


def _largest(found: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def _table(width: int, heading: str, *columns: str) -> Table:
    """A table without lines, whose first column takes what the others leave."""
    table = Table(box=None, width=width, padding=(0, 2, 0, 0), pad_edge=False, header_style=HEADING)
    table.add_column(heading, ratio=1, no_wrap=True, overflow="ellipsis")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _bar(share: float, width: int, style: str) -> Text:
    return Text(("━" * min(width, round(share * width))).ljust(width), style)


def _stack(parts: Iterable[RenderableType | None]) -> Group:
    """One under the other, with a blank line after each; those that are absent leave none."""
    rows: list[RenderableType] = []
    for part in parts:
        if part is not None:
            rows += [part, ""]
    return Group(*rows)
