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
#: What is due this much before the next look is looked at on its own.
EARLIER_S: Final = 0.0005
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
        self._arm(self._loop.time() + TICK_S)

    def at(self, due_ns: int, do: Do, what: int) -> None:
        """Have something done at a moment of `perf_counter_ns`, never before it."""
        self._count += 1
        heapq.heappush(self._heap, (due_ns, self._count, do, what))
        due_s = self._loop.time() + (due_ns - perf_counter_ns()) / 1e9
        if due_s < self._due_s - EARLIER_S and not self._ticking:
            self._timer.cancel()
            self._arm(due_s)

    def _tick(self) -> None:
        now_ns = perf_counter_ns()
        late_us = max(0.0, self._loop.time() - self._due_s) * 1e6
        self.lags.note_lateness_us(late_us, TICK_US)
        done = 0
        self._ticking = True
        while self._heap and self._heap[0][0] <= now_ns and done < A_TURN_MAX:
            due_ns, _, do, what = heapq.heappop(self._heap)
            do(what, due_ns)
            done += 1
        self._ticking = False
        wait_s = TICK_S
        if self._heap:
            wait_s = min(TICK_S, max(0.0, (self._heap[0][0] - perf_counter_ns()) / 1e9))
        self._arm(self._loop.time() + wait_s)

    def _arm(self, due_s: float) -> None:
        self._due_s = due_s
        self._timer = self._loop.call_at(due_s, self._tick)

    def close(self) -> None:
        """Do no more."""
        self._timer.cancel()
        self._heap.clear()
