"""The one clock of the service: Redis TIME plus the monotonic time that has passed since.

A hub's wall clock decides nothing (R8). On a cluster the time is that of one server, the same for
every process: the one that has the first of `KEYS`. Only a process that never had the time asks
another while that one is away, in the same order as all. Knows nothing of streams. Used by session,
hub, log and, injected, by livecart.
"""

from __future__ import annotations

import asyncio
import time
from typing import cast

from streams.calls import CALL_TIMEOUT_S, Caller, Client, Script
from streams.ports import Refused
from streams.tasks import Tasks, back_off_s

KEYS = tuple(f"{{clock:{n:02d}}}" for n in range(64))  # in slots all over a cluster; hold nothing
READINGS = 3  # a refresh takes this many and believes the one with the smallest round trip


class RedisClock:
    """Tells the time of Redis without asking each time."""

    def __init__(self, redis: Client, *, refresh_s: float = 5.0) -> None:
        self._caller = Caller(redis, CALL_TIMEOUT_S)
        self._time = Script("time", prelude=False)
        self._refresh_s = refresh_s
        self._offset_ms: float | None = None  # Redis time minus monotonic time; None: never read
        self._tasks = Tasks("clock")

    async def start(self) -> None:
        """Take the first reading, trying until Redis answers; then keep refreshing."""
        attempt = 0
        while self._offset_ms is None:
            try:
                await self.refresh(KEYS[attempt % len(KEYS)])
            except Refused:
                attempt += 1
                await asyncio.sleep(back_off_s(attempt))
        self._tasks.keep(self._keep_fresh, "refresh")

    async def stop(self) -> None:
        """End the refreshing; `now_ms` goes on from the last reading."""
        await self._tasks.close()
        await self._caller.close()

    def now_ms(self) -> int:
        """Return the time of Redis, in ms since the Unix epoch."""
        if self._offset_ms is None:
            raise RuntimeError("the clock was not started")
        return int(self._offset_ms + time.monotonic() * 1000)

    async def refresh(self, key: str = KEYS[0]) -> None:
        """Read the time of the server that has a key; raise `Refused(RETRY)` when it is away."""
        readings = [await self._read(key) for _ in range(READINGS)]
        round_trip_ms, offset_ms = min(readings)
        held = self._offset_ms
        # Within what the round trip leaves unknown both are right: keeping the held one spares a
        # needless step, above all one backwards.
        if held is None or abs(offset_ms - held) > round_trip_ms / 2 + 1:
            self._offset_ms = offset_ms

    async def _read(self, key: str) -> tuple[float, float]:
        before = time.monotonic() * 1000
        reply = await self._caller.script(self._time, [key], [])
        after = time.monotonic() * 1000
        seconds, micros = (int(part) for part in cast("tuple[int, int]", reply))
        return after - before, seconds * 1000 + micros / 1000 - (before + after) / 2

    async def _keep_fresh(self) -> None:
        attempt = 0
        while True:
            await asyncio.sleep(back_off_s(attempt) if attempt else self._refresh_s)
            try:
                await self.refresh()
                attempt = 0
            except Refused:
                attempt += 1  # monotonic time carries on meanwhile
