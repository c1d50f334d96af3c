"""Peers beside livecart, for real and small: each does its work; how fast is no test's business."""

from __future__ import annotations

import asyncpg

from loadtest.bench.compare import compare
from loadtest.bench.crowded import Options
from loadtest.bench.stations import chosen, starters
from loadtest.peers.redis_decr import redis_decr
from loadtest.peers.skip_locked import skip_locked

VIEWERS = 20
PEERS = ["plain Starlette", "Socket.IO"]


async def test_a_contest_is_held() -> None:
    """livecart, plain Starlette and Socket.IO each reach every viewer, and are put side by side."""
    said: list[str] = []
    options = Options(VIEWERS, 1, chosen(starters("python3"), PEERS), said.append)
    found = await compare(options, ["fan-out"])
    (contest,) = found.contests
    assert [one.name for one in contest.entries] == ["livecart", *PEERS]
    assert all(one.figure > 0 for one in contest.entries)
    assert not found.absent
    assert not found.failed
    assert {"orders", "connects", "memory", "reservations"} == set(found.left_out)
    assert {"python-socketio", "starlette"} <= set(found.versions)
    assert {"processor", "cores", "memory"} <= set(found.machine)
    assert any("round 1: Socket.IO" in line for line in said)


async def left_behind(database_url: str, like: str) -> int:
    """Return how many schemas have such a name."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
    try:
        asked = "select count(*) from information_schema.schemata where schema_name like $1"
        return int(await connection.fetchval(asked, like))
    finally:
        await connection.close()


async def test_skip_locked_sells_each_unit_once(database_url: str) -> None:
    """Sixteen clients never sell a unit twice, and the scratch schema is gone after it."""
    found = await skip_locked(database_url, duration_s=1)
    assert found is not None
    assert found.orders > 0
    assert found.orders_per_s > 0
    assert (found.sold_twice, found.lost) == (0, 0)
    assert await left_behind(database_url, "skip_locked%") == 0


async def test_redis_decr_sells_what_there_is(database_url: str, redis_url: str) -> None:
    """As long as nothing crashes, the count and the rows agree, and nothing is left behind."""
    found = await redis_decr(database_url, redis_url, units=30, buys=100)
    assert (found.orders, found.oversold, found.lost) == (30, 0, 0)
    assert await left_behind(database_url, "decr%") == 0
