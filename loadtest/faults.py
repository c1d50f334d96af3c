"""Faults in the middle of a sale, done to a server that the harness itself spawned.

Owns how each is done; which invariants must then hold is the audit's. Acts only on pids of a
Target with `pids`, never on a process found by name.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final

from redis.asyncio import Redis

from loadtest.server import Target, tree

STOPPED_S: Final = 10.0

Fault = Callable[[Target], Awaitable[None]]


async def kill_worker(target: Target) -> None:
    """kill -9 of the first worker."""
    os.kill(_worker(target), signal.SIGKILL)


async def stop_worker(target: Target) -> None:
    """SIGSTOP of the first worker, SIGCONT ten seconds later."""
    pid = _worker(target)
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(STOPPED_S)
    finally:
        os.kill(pid, signal.SIGCONT)


async def kill_postgres(target: Target) -> None:
    """kill -9 of every Postgres process at once: no backend finishes anything."""
    assert target.pids is not None
    if target.pids.postgres is None:
        raise ValueError("this server runs no Postgres of its own")
    for pid in tree(target.pids.postgres):
        _kill(pid)


async def kill_redis(target: Target) -> None:
    """kill -9 of Redis; its append-only file may lack the last second."""
    assert target.pids is not None
    if target.pids.redis is None:
        raise ValueError("this server runs no Redis of its own")
    os.kill(target.pids.redis, signal.SIGKILL)


async def flush_all(target: Target) -> None:
    """FLUSHALL: Redis lives and has forgotten everything."""
    redis = Redis.from_url(target.redis_url)
    try:
        await redis.flushall()
    finally:
        await redis.aclose()


class FaultName(StrEnum):
    """Faults as the command line names them."""

    KILL_WORKER = "kill-worker"
    STOP_WORKER = "stop-worker"
    KILL_POSTGRES = "kill-postgres"
    KILL_REDIS = "kill-redis"
    FLUSHALL = "flushall"


FAULTS: dict[FaultName, Fault] = {
    FaultName.KILL_WORKER: kill_worker,
    FaultName.STOP_WORKER: stop_worker,
    FaultName.KILL_POSTGRES: kill_postgres,
    FaultName.KILL_REDIS: kill_redis,
    FaultName.FLUSHALL: flush_all,
}


def _worker(target: Target) -> int:
    assert target.pids is not None
    return target.pids.workers[0]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it ended with its parent, which is what was wanted
