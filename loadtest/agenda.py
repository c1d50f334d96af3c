"""What is to be done when, in one process: a heap, one timer, and how late things were.

Owns punctuality. Each thing is told the moment at which it was due, so that a latency counts from
there; how late the process itself was is kept as `lags`, which tells a busy client from a slow
server. Knows nothing of what is done. The audience's.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from time import perf_counter_ns
from typing import Final

from loadtest.timings import Timer

#: How often the process looks how late it is, when there is nothing else to do.
TICK_S: Final = 0.01
TICK_US: Final = int(TICK_S * 1e6)
TICK_NS: Final = int(TICK_S * 1e9)
#: What is due this much before the next look is looked at on its own.
EARLIER_NS: Final = 500_000
#: Things done before sockets have their turn.
A_TURN_MAX: Final = 200

Do = Callable[[int, int], None]  # (what, when it was due)


class Agenda:
    """Lives on one loop, from the first `at` to `close`."""

    def __init__(self) -> None:
        self.lags = Timer()
        self._heap: list[tuple[int, int, Do, int]] = []
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._ticking = False
        self._arm(perf_counter_ns() + TICK_NS)

    def at(self, due_ns: int, do: Do, what: int) -> None:
        """Have something done at a moment of `perf_counter_ns`, never before it."""
        self._count += 1
        heapq.heappush(self._heap, (due_ns, self._count, do, what))
        if due_ns < self._look_ns - EARLIER_NS and not self._ticking:
            self._timer.cancel()
            self._arm(due_ns)

    def _tick(self) -> None:
        now_ns = perf_counter_ns()
        # The loop's own time stands still within a turn, which may be the very one that was long.
        self.lags.note_lateness_us(max(0, now_ns - self._look_ns) / 1000, TICK_US)
        done = 0
        self._ticking = True
        try:
            while self._heap and self._heap[0][0] <= now_ns and done < A_TURN_MAX:
                due_ns, _, do, what = heapq.heappop(self._heap)
                done += 1
                do(what, due_ns)
        finally:
            self._ticking = False
            next_ns = perf_counter_ns() + TICK_NS
            self._arm(min(next_ns, self._heap[0][0]) if self._heap else next_ns)

    def _arm(self, look_ns: int) -> None:
        """Look again at a moment; when it is past, things are late, and sockets have their turn."""
        self._look_ns = look_ns
        wait_s = max(0, look_ns - perf_counter_ns()) / 1e9
        self._timer = self._loop.call_later(wait_s, self._tick)

    def close(self) -> None:
        """Do no more."""
        self._timer.cancel()
        self._heap.clear()
