"""An event loop that says when everybody waits, and whose clock stands until somebody moves it.

Owns the loop and its clock; knows no servers and no steps. Called by `stepping`.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Selector(selectors.DefaultSelector):
    """Blocks only for real answers; else says that everybody waits."""

    def __init__(self, everybody_waits: Callable[[float | None], None]) -> None:
        super().__init__()
        self.answers_due = 0  # of real servers
        self._everybody_waits = everybody_waits

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.answers_due:
            return super().select(1.0)
        self._everybody_waits(timeout)
        return []


class SteppedLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still until somebody moves it."""

    def __init__(self) -> None:
        self._now = 1_000.0
        self._waiter: asyncio.Future[float | None] | None = None
        self._watch = _Selector(self._all_wait)
        super().__init__(self._watch)

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self._now += seconds

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Within this, somebody waits for a real server: the clock stands, nobody is idle."""
        self._watch.answers_due += 1
        try:
            yield
        finally:
            self._watch.answers_due -= 1

    async def everybody_waits(self) -> float | None:
        """Return when nothing goes on by itself: the time until the next timer, None without."""
        self._waiter = self.create_future()
        return await self._waiter

    def _all_wait(self, until_timer_s: float | None) -> None:
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            if not waiter.done():
                waiter.set_result(until_timer_s)
        elif until_timer_s is not None:  # nobody decides: time goes by
            self.pass_time(until_timer_s)
        else:
            raise RuntimeError("everybody waits for somebody")
