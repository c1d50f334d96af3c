"""What a run looks like while it is played: rates, percentiles, codes, the server's side, moments.

Owns what is kept of pulses and moments to be seen, and the plain lines that stand for the picture
where nothing can be redrawn. It is told both; it asks nobody and knows no clock. Called by `run`.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Final, Self

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live

from loadtest.picture import BUSY, SPARKS_MAX, Picture, largest, milliseconds, shapes
from loadtest.pulse import LAG, Pulse, Rates, split
from loadtest.result import Moment
from loadtest.timings import Timing
from loadtest.wording import clock, printable

PLAIN_LINE_S: Final = 1.0
EARLY_S: Final = 0.1  # that a line may come before its second is over
MOMENTS_MAX: Final = 6
#: What is read first; other counts follow.
FIRST: Final = ("commands", "answers", "orders", "events", "connects", "reconnects")


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
        self.now: dict[str, float] = {}  # rate of each count
        self.peaks: dict[str, float] = {}
        self.past: dict[str, deque[float]] = {}
        self.timings: dict[str, Timing] = {}  # of the latest step that had any of the kind
        self.worst_ms: dict[str, float] = {}
        self.timed: dict[str, int] = {}

    def note(self, pulse: Pulse) -> None:
        """Take the merged pulse of a step."""
        self.now |= (rates := self._rates.of(pulse))
        for name, rate in rates.items():
            self.peaks[name] = max(rate, self.peaks.get(name, 0.0))
            self.past.setdefault(name, deque(maxlen=SPARKS_MAX)).append(rate)
        for kind, timing in pulse.timings.items():
            if timing.count and kind != LAG:  # it is in the gauges, by process
                self.timings[kind] = timing
                most_ms = timing.percentiles_ms.get("max", 0.0)
                self.worst_ms[kind] = max(most_ms, self.worst_ms.get(kind, 0.0))
                self.timed[kind] = self.timed.get(kind, 0) + timing.count
        self.pulse = pulse

    def happened(self, moment: Moment) -> None:
        """Take what happened; the latest ones are shown."""
        self.moments.append(moment)
        self.moments_seen += 1

    def line(self) -> str:
        """Return the state as one line of text."""
        rates = [f"{name} {self.now[name]:,.0f}/s" for name in self.counts()[:4]]
        slow = [
            f"{kind} p99 {milliseconds(timing.percentiles_ms.get('p99'))} ms"
            for kind, timing in self.pulse.timings.items()
            if timing.count and kind != LAG
        ]
        codes = [f"{name} {count:,}" for name, count in largest(self.pulse.outcomes)[:4]]
        stock = [f"stock {name} {value:,.0f}" for name, value in self.gauges("stock")]
        busy = [f"{name} {share:.2f}" for name, share in self.gauges("cpu") if share >= BUSY]
        if busy:
            busy[0] = f"busy: {busy[0]}"
        told = "; ".join(", ".join(part) for part in (rates, slow[:3], codes, stock, busy) if part)
        return printable(f"{clock(self.pulse.at_s)}  {told}".rstrip())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it in the room there is: as much as a terminal is high, all of it elsewhere."""
        picture: RenderableType = ""
        for shape in shapes(options.max_width):
            picture = Picture(self, shape).drawn()
            lines = console.render_lines(picture, options, pad=False)
            if not console.is_terminal or len(lines) <= console.height:
                break
        yield picture

    def counts(self) -> list[str]:
        """Return the names of all counts, those that are read first before the others."""
        known = [name for name in FIRST if name in self.now]
        return known + sorted(self.now.keys() - set(known))

    def gauges(self, group: str) -> list[tuple[str, float]]:
        """Return the latest gauges of a group by name."""
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
