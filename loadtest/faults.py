"""Faults in the middle of a sale, done to a server that the harness itself spawned.

Owns how each is done; which invariants must then hold is the audit's. Acts only on pids of a
Target with a `data_dir`, never on a process found by name. Each fault returns what shows that it
was done, in a few words, or raises `NotDone`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final, Literal

import asyncpg
from redis.asyncio import Redis

from loadtest.server import Target, state_of, tree, until

STOPPED_S: Final = 10.0
COPY_AGE_S: Final = 0.3
NOTICED_S: Final = 5.0

Part = Literal["worker", "keeper", "redis", "postgres"]
Fault = Callable[[Target], Awaitable[str]]


class NotDone(Exception):
    """A fault could not be done; the message says why."""


class NotThere(NotDone):
    """What it would strike is not there now; it may come back."""


# --- processes ---


async def kill(
    target: Target, part: Part, number: signal.Signals = signal.SIGKILL, which: int = 0
) -> str:
    """Kill -9 of one process; of Postgres, every one at once: no backend finishes anything."""
    return await kill_all(processes(target, part, which), number)


async def stop(target: Target, part: Part, seconds: float = STOPPED_S) -> str:
    """SIGSTOP, and SIGCONT after some seconds; of Postgres, every process."""
    return await stop_all(processes(target, part), seconds)


async def kill_all(pids: Sequence[int], number: signal.Signals = signal.SIGKILL) -> str:
    """Send every process the signal at once; returns when the first is gone."""
    for pid in pids:
        _send(pid, number)
    return await _ended(pids[0], number.name)


async def stop_all(pids: Sequence[int], seconds: float) -> str:
    """SIGSTOP to each, and SIGCONT after some seconds."""
    for pid in pids:
        _send(pid, signal.SIGSTOP)
    try:
        await until_state(pids[0], "T")
        await asyncio.sleep(seconds)
    finally:
        for pid in pids:
            _send(pid, signal.SIGCONT)
    return f"pid {pids[0]} stopped for {seconds:g} s"


async def restart_postgres(target: Target) -> str:
    """Immediate shutdown, as by `pg_ctl stop -m immediate`: recovery at the next start."""
    pid = processes(target, "postgres")[0]
    _send(pid, signal.SIGQUIT)
    return await _ended(pid, "SIGQUIT")


async def drain_worker(target: Target, which: int = 0) -> str:
    """SIGTERM of a worker, as at a deploy: it answers what it has and sends its viewers away."""
    pid = processes(target, "worker", which)[0]
    _send(pid, signal.SIGTERM)
    return await _ended(pid, "SIGTERM", 30.0)


# --- connections and memory ---


async def flush_all(target: Target) -> str:
    """FLUSHALL: Redis lives and has forgotten everything."""
    async with Redis.from_url(target.redis_url) as redis:
        keys = await redis.dbsize()
        await redis.flushall()
    return f"{keys} keys forgotten"


async def drop_redis(target: Target) -> str:
    """CLIENT KILL of every connection, whatever is under way on it."""
    async with Redis.from_url(target.redis_url) as redis:
        dropped = 0
        for kind in ("normal", "pubsub"):
            dropped += int(await redis.client_kill_filter(_type=kind, skipme=True))
    if not dropped:
        raise NotDone("Redis had no connections")
    return f"{dropped} connections to Redis dropped"


async def drop_postgres(target: Target) -> str:
    """pg_terminate_backend of every other session of the database."""
    connection = await asyncpg.connect(target.database_url)
    try:
        dropped = await connection.fetchval(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
    if not dropped:
        raise NotDone("Postgres had no sessions")
    return f"{dropped} sessions of Postgres ended"


# --- the append-only file ---


async def truncate_aof(target: Target, bytes_cut: int = 4_096) -> str:
    """Redis dies, and the last bytes of its append-only file are gone with it."""

    def cut(folder: Path) -> str:
        newest = max(folder.glob("*.incr.aof"), key=lambda path: path.stat().st_mtime_ns)
        size = newest.stat().st_size
        kept = max(0, size - bytes_cut)
        os.truncate(newest, kept)
        return f"{size - kept} of {size} bytes of its file cut"

    return await _swapped(target, cut)


async def stale_aof(target: Target, age_s: float = COPY_AGE_S) -> str:
    """Redis dies, and comes back with a copy of its file that was taken a while before."""
    assert target.data_dir is not None
    folder = _aof(target)
    copy = target.data_dir / f"aof-{os.urandom(4).hex()}"
    shutil.copytree(folder, copy)
    await asyncio.sleep(age_s)

    def restore(present: Path) -> str:
        size = sum(path.stat().st_size for path in present.iterdir())
        stale = sum(path.stat().st_size for path in copy.iterdir())
        shutil.rmtree(present)
        copy.rename(present)
        return f"a copy of {stale} bytes restored over {size}"

    return await _swapped(target, restore)


async def _swapped(target: Target, change: Callable[[Path], str]) -> str:
    """Stop Redis, change its files, then kill it: whoever starts it again finds the change."""
    pid = processes(target, "redis")[0]
    _send(pid, signal.SIGSTOP)
    try:
        await until_state(pid, "T")
        what = change(_aof(target))
    finally:
        _send(pid, signal.SIGKILL)
    return f"{await _ended(pid, 'SIGKILL')}; {what}"


def _aof(target: Target) -> Path:
    if target.data_dir is None:
        raise ValueError("faults are only done to a server that was spawned for the run")
    return target.data_dir / "redis" / "appendonlydir"


# --- pids ---


def processes(target: Target, part: Part, which: int = 0) -> list[int]:
    """The processes of a part that a fault strikes, as they are now; raises `NotDone`.

    Of the workers one, counted from 0 among those that live; of Postgres all with the postmaster
    first.
    """
    pids = target.pids_now()
    if part == "worker":
        found: Sequence[int | None] = pids.workers
    elif part == "postgres":
        found = tree(pids.postgres) if pids.postgres is not None else []
    else:
        found = [pids.keeper if part == "keeper" else pids.redis]
    living = [pid for pid in found if pid is not None and state_of(pid)]
    if not living:
        raise NotThere(f"there is no {part} process of ours")
    return [living[which % len(living)]] if part == "worker" else living


async def until_state(pid: int, state: str) -> None:
    """Wait until a process is in one of these states of `/proc`; raises `NotDone`."""
    if not await until(lambda: state_of(pid) in state, NOTICED_S):
        raise NotDone(f"pid {pid} is in state {state_of(pid)!r}, not {state}")


async def _ended(pid: int, how: str, within_s: float = 0.0) -> str:
    """Wait until a process is gone, or waits to be buried."""
    if not await until(lambda: state_of(pid) in ("", "Z"), within_s or NOTICED_S):
        raise NotDone(f"pid {pid} outlived {how}")
    return f"pid {pid} ended by {how}"


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it ended with its parent, or was started anew: judged by who waits for it


class FaultName(StrEnum):
    """Faults as the command line names them."""

    KILL_WORKER = "kill-worker"
    STOP_WORKER = "stop-worker"
    DRAIN_WORKER = "drain-worker"
    KILL_KEEPER = "kill-keeper"
    STOP_KEEPER = "stop-keeper"
    KILL_POSTGRES = "kill-postgres"
    STOP_POSTGRES = "stop-postgres"
    RESTART_POSTGRES = "restart-postgres"
    DROP_POSTGRES = "drop-postgres"
    KILL_REDIS = "kill-redis"
    STOP_REDIS = "stop-redis"
    DROP_REDIS = "drop-redis"
    FLUSHALL = "flushall"
    TRUNCATE_AOF = "truncate-aof"
    STALE_AOF = "stale-aof"


FAULTS: dict[FaultName, Fault] = {
    FaultName.KILL_WORKER: partial(kill, part="worker"),
    FaultName.STOP_WORKER: partial(stop, part="worker"),
    FaultName.DRAIN_WORKER: drain_worker,
    FaultName.KILL_KEEPER: partial(kill, part="keeper"),
    FaultName.STOP_KEEPER: partial(stop, part="keeper"),
    FaultName.KILL_POSTGRES: partial(kill, part="postgres"),
    FaultName.STOP_POSTGRES: partial(stop, part="postgres"),
    FaultName.RESTART_POSTGRES: restart_postgres,
    FaultName.DROP_POSTGRES: drop_postgres,
    FaultName.KILL_REDIS: partial(kill, part="redis"),
    FaultName.STOP_REDIS: partial(stop, part="redis"),
    FaultName.DROP_REDIS: drop_redis,
    FaultName.FLUSHALL: flush_all,
    FaultName.TRUNCATE_AOF: truncate_aof,
    FaultName.STALE_AOF: stale_aof,
}
