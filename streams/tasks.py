"""Background tasks that have an owner: none is lost, none dies in silence.

Knows asyncio only. Used by clock, tail, bus, rooms and hub.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

RESTART_FIRST_S = 0.05
RESTART_LAST_S = 1.0
CANCEL_AGAIN_S = 0.5

T = TypeVar("T")

logger = logging.getLogger("streams.tasks")


def back_off_s(attempt: int) -> float:
    """Return how long to wait before attempt 1, 2, …: doubling, bounded, half of it jitter."""
    whole = min(RESTART_LAST_S, RESTART_FIRST_S * float(2 ** min(attempt - 1, 10)))
    return float(whole * (0.5 + random.random() / 2))


class Tasks:
    """A group of tasks that ends as one."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(
        self, work: Coroutine[Any, Any, T], name: str, *, expected: type[Exception] | None = None
    ) -> asyncio.Task[T]:
        """Run something that ends by itself; a failure is logged.

        An `expected` one is not: whoever awaits the task answers it.
        """
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}:{name}")
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, expected))
        return task

    def keep(self, run: Callable[[], Awaitable[None]], name: str) -> asyncio.Task[Any]:
        """Run something that must not end; when it fails it is started again after a back-off."""
        return self.spawn(self._again(run, name), name)

    async def close(self) -> None:
        """Cancel every task and wait until each has ended."""
        own = asyncio.current_task()
        while tasks := [task for task in self._tasks if task is not own and not task.done()]:
            for task in tasks:
                task.cancel()
            # Again when one goes on: a library below may have taken the cancellation for its own.
            _, stubborn = await asyncio.wait(tasks, timeout=CANCEL_AGAIN_S)
            for task in stubborn:
                logger.warning("%s goes on though cancelled", task.get_name())

    async def _again(self, run: Callable[[], Awaitable[None]], name: str) -> None:
        attempt = 0
        while True:
            began = time.monotonic()
            try:
                await run()
                logger.error("%s: %s ended by itself; starting it again", self._owner, name)
            except Exception:
                logger.exception("%s: %s failed; starting it again", self._owner, name)
            lasted = time.monotonic() - began
            attempt = 1 if lasted > 10 * RESTART_LAST_S else attempt + 1
            await asyncio.sleep(back_off_s(attempt))

    def _ended(self, task: asyncio.Task[Any], expected: type[Exception] | None) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if expected is None or not isinstance(error, expected):
            logger.error("%s failed", task.get_name(), exc_info=error)
