"""Many small reads as few large ones: while one read is under way, the next batch gathers.

Called by selling and by `livecart` for reads that a crowd asks for at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Coalesced(Generic[K, V]):
    """Answers `get(key)` from batched calls of `load(keys)`; a key that it leaves out gives None.

    A caller that is cancelled or gives up never cancels the batch that it is in. `apart_s`: between
    the beginnings of two batches while callers wait, so that a crowd's are large.
    """

    def __init__(
        self,
        load: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]],
        batch_max: int = 500,
        waiting_max: int = 50_000,
        apart_s: float = 0.0,
    ) -> None:
        self._load = load
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._apart_s = apart_s
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """Return what `load` has for the key; raises what `load` raised, or OverflowError."""
        future = self._waiting.get(key)
        if future is None:
            if len(self._waiting) >= self._waiting_max:
                raise OverflowError("too many reads are waiting")
            loop = asyncio.get_running_loop()
            future = self._waiting[key] = loop.create_future()
            if self._task is None:
                self._task = loop.create_task(self._run())
        return await asyncio.shield(future)

    async def _run(self) -> None:
        try:
            while self._waiting:
                began_s = time.monotonic()
                keys = list(self._waiting)[: self._batch_max]
                batch = {key: self._waiting.pop(key) for key in keys}
                try:
                    found = await self._load(keys)
                except Exception as error:  # noqa: BLE001 - told to every caller
                    for future in batch.values():
                        future.set_exception(error)
                        future.exception()  # seen: a caller that left need not be told
                else:
                    for key, future in batch.items():
                        future.set_result(found.get(key))
                wait_s = began_s + self._apart_s - time.monotonic()
                if 0 < len(self._waiting) < self._batch_max and wait_s > 0:
                    await asyncio.sleep(wait_s)
        finally:
            self._task = None
