"""Latencies of a run: HDR histograms in microseconds, which add up over processes and machines.

Owns how a latency is counted, written down and read again. A latency is measured from the moment
at which its command was due, never from when a busy client got round to it: who waits before
sending hides exactly the waiting that a user would feel (coordinated omission). The histograms
are HdrHistogram's (three significant digits, 1 µs to one hour) in its V2 compressed form, base64.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from hdrh.histogram import HdrHistogram

LOWEST_US: Final = 1
HIGHEST_US: Final = 3_600_000_000
DIGITS: Final = 3
#: Percentiles that are shown; 100 is the largest.
SHARES: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0)


class Timing(msgspec.Struct, kw_only=True):
    """One kind of latency as it is written down; `percentiles_ms` by name (`p50`, `p99.9`, `max`).

    `histogram` holds all there is: percentiles of several runs come from adding histograms, never
    from averaging percentiles.
    """

    count: int = 0
    mean_ms: float = 0.0
    percentiles_ms: dict[str, float] = {}
    histogram: str = ""


class Timer:
    """A histogram that is still being filled."""

    __slots__ = ("_histogram", "_sum_us")

    def __init__(self, timing: Timing | None = None) -> None:
        """Start empty, or go on with what was written down."""
        self._histogram: Any = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        # The library finds the mean by walking every bucket in Python: 85 ms each time.
        self._sum_us = 0.0
        if timing is not None:
            self.add(timing)

    def __len__(self) -> int:
        return int(self._histogram.get_total_count())

    def note_us(self, microseconds: float, times: int = 1) -> None:
        """Count a latency; what lies beyond the scale is counted at its end."""
        value = min(max(int(microseconds), LOWEST_US), HIGHEST_US)
        self._histogram.record_value(value, times)
        self._sum_us += value * times

    def note_lateness_us(self, microseconds: float, interval_us: int) -> None:
        """Count how late a tick was, and with it those that should have been in the meantime."""
        value = min(max(int(microseconds), LOWEST_US), HIGHEST_US)
        self._histogram.record_corrected_value(value, interval_us)
        ticks = max(1, -(-value // interval_us))  # of a late one, each interval less than the last
        self._sum_us += ticks * value - interval_us * ticks * (ticks - 1) / 2

    def add(self, timing: Timing) -> None:
        """Add another process' latencies of the same kind."""
        if timing.histogram:
            self._histogram.decode_and_add(timing.histogram.encode())
            self._sum_us += timing.mean_ms * 1000 * timing.count

    def percentile_ms(self, share: float) -> float:
        """Return the smallest latency that `share` percent do not exceed; 0 without any."""
        if not len(self):
            return 0.0
        return round(float(self._histogram.get_value_at_percentile(share)) / 1000, 3)

    def curve(self) -> list[tuple[float, float]]:
        """Return the percentile curve: (percentile, ms), from 0 to the largest, densest there."""
        if not len(self):
            return []
        steps = self._histogram.get_percentile_iterator(10)
        return [
            (step.percentile_level_iterated_to, step.value_iterated_to / 1000) for step in steps
        ]

    def written(self) -> Timing:
        """Return it as it is written down."""
        if not len(self):
            return Timing()
        found = self._histogram.get_percentile_to_value_dict(list(SHARES))
        return Timing(
            count=len(self),
            mean_ms=round(self._sum_us / len(self) / 1000, 3),
            percentiles_ms={name_of(share): round(found[share] / 1000, 3) for share in SHARES},
            histogram=self._histogram.encode().decode(),
        )


def name_of(share: float) -> str:
    """Name a percentile: `p50`, `p99.9`, `max`."""
    return "max" if share == 100 else f"p{share:g}"


def merged(timings: Iterable[Timing]) -> Timing:
    """Add latencies of one kind up."""
    timer = Timer()
    for timing in timings:
        timer.add(timing)
    return timer.written()
