"""Figures of rounds: those of one server, and what is said of them beside another's.

Pure; knows no socket and starts nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loadtest.bench.asks import Answer

Row = tuple[str, str]  # what, and how much of it


@dataclass
class Series:
    """The rounds of one server."""

    figures: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    cpu_s: float = 0.0

    def add(self, answer: Answer, cpu_s: float, figure: float) -> None:
        """Take one round, in which the server used so much of its processor."""
        self.figures.append(figure)
        self.answers.append(answer)
        self.cpu_s += cpu_s

    @property
    def busy(self) -> str:
        """Say what the server spent on each thing, and how busy the crowd was."""
        each_us = self.cpu_s / sum(a.n for a in self.answers) * 1e6
        shares = [100 * a.cpu_s / a.wall_s for a in self.answers]
        return f"server {each_us:.1f} µs each, client {statistics.median(shares):.0f} % busy"


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which this part of them is."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def spread(values: Sequence[float], unit: str = "") -> str:
    """Return the median and both ends of some figures."""
    what = f"{statistics.median(values):,.0f}{unit}"
    return f"{what} ({min(values):,.0f} to {max(values):,.0f})"


def beside(name: str, series: dict[str, Series]) -> str:
    """Return how many times as fast as this peer livecart was, round by round."""
    pairs = zip(series["livecart"].figures, series[name].figures, strict=True)
    ratios = [ours / theirs for ours, theirs in pairs]
    return f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def table(series: dict[str, Series], detail: Callable[[Series], str]) -> list[Row]:
    """Return a line for each server; the peers' ends with livecart's ratio to it."""
    rows = []
    for name, one in series.items():
        told = [spread(one.figures, "/s"), detail(one), one.busy]
        if name != "livecart":
            told.append(beside(name, series))
        rows.append((f"  {name}", "; ".join(part for part in told if part)))
    return rows


def waits(one: Series) -> str:
    """Say how long an event took, or a burst, to its first and to its last viewer."""
    firsts = [s for answer in one.answers for s in answer.firsts_s]
    lasts = [s for answer in one.answers for s in answer.lasts_s]
    first_ms, last_ms = statistics.median(firsts) * 1e3, statistics.median(lasts) * 1e3
    return f"first viewer after {first_ms:.1f} ms, last {last_ms:.1f} ms"


def latency(lasts_s: Sequence[float]) -> str:
    """Say how long it took to the last viewer."""
    p50, p99 = quantile(lasts_s, 0.5) * 1e3, quantile(lasts_s, 0.99) * 1e3
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
