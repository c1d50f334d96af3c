"""What is done to the servers of a sale in the middle of it; shared by the sales of one kind."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable

import psutil
from redis.asyncio import Redis

from livecart.embedded import Running

Outage = Callable[[Running, Redis], Awaitable[None]]


async def nothing(servers: Running, redis: Redis) -> None:
    """The sale itself, as the yardstick."""


async def redis_is_killed(servers: Running, redis: Redis) -> None:
    """kill -9: it comes back with its file, under another run id; some holds may be lost."""
    os.kill(servers.supervisor.pids()["redis"], signal.SIGKILL)


async def redis_forgets_everything(servers: Running, redis: Redis) -> None:
    """FLUSHALL: the same run id with nothing in it."""
    await redis.flushall()


async def postgres_is_killed(servers: Running, redis: Redis) -> None:
    """kill -9 of the postmaster and all its backends, in the middle of admissions."""
    parent = psutil.Process(servers.supervisor.pids()["postgres"])
    for process in [parent, *parent.children(recursive=True)]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


OUTAGES: tuple[Outage, ...] = (
    nothing, redis_is_killed, redis_forgets_everything, postgres_is_killed,
)  # fmt: skip
