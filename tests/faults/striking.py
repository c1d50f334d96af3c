"""Faults from outside, done to the server that they are meant for as soon as it is there.

Owns who is struck by which fault, and how long a part is waited for that another fault has just
struck. How a fault is done is `loadtest.faults`'. Used by `sale` and `deliveries`.
"""

from __future__ import annotations

import asyncio
import time

import asyncpg
from redis.exceptions import RedisError

from loadtest import faults
from loadtest.faults import FAULTS, FaultName, NotDone, NotThere
from tests.faults.plan import Strike
from tests.faults.tree import Tree

BACK_S = 5.0  # for what a fault is to strike, and another has just struck, to be there again


async def once_there(tree: Tree, strike: Strike) -> str:
    """Have a fault done, and return what shows that it was; raises `NotDone`."""
    ends = time.monotonic() + BACK_S
    while True:
        try:
            return await _from_outside(tree, strike)
        except (NotThere, OSError, RedisError, asyncpg.PostgresError) as error:
            if time.monotonic() > ends:
                raise NotDone(repr(error)) from error
        await asyncio.sleep(0.05)


async def _from_outside(tree: Tree, strike: Strike) -> str:
    target, name = tree.target, FaultName(strike.what)
    if name in (FaultName.KILL_KEEPER, FaultName.STOP_KEEPER):
        pid = tree.leader()
        if name is FaultName.STOP_KEEPER:
            return await faults.stop_all([pid], strike.seconds)
        return await faults.kill_all([pid])
    if name in (FaultName.STOP_WORKER, FaultName.STOP_REDIS, FaultName.STOP_POSTGRES):
        return await FAULTS[name](target, seconds=strike.seconds)  # type: ignore[call-arg]
    if name in (FaultName.KILL_WORKER, FaultName.DRAIN_WORKER):
        return await FAULTS[name](target, which=strike.which)  # type: ignore[call-arg]
    if name is FaultName.TRUNCATE_AOF:
        return await faults.truncate_aof(target, strike.bytes_cut)
    if name is FaultName.STALE_AOF:
        return await faults.stale_aof(target, strike.seconds)
    return await FAULTS[name](target)
