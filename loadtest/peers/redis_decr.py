"""The peer that counts in Redis and writes to Postgres: `DECR`, then an `INSERT` of its own.

Owns a scratch key and schema, the process that sells, and the count of what came of it. This is
what is written first when a row is too slow: redis-py and an asyncpg pool, 64 tasks in one
process. Nothing joins the two steps: a process that is killed between them loses the unit, and a
Redis that is restored from a moment ago sells some again. No viewer's limit is looked at.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from dataclasses import dataclass

import asyncpg
import msgspec
import redis.asyncio

from loadtest.peers.pgbench import run_program

TASKS = 64
CONNECTIONS = 16  # of the pool, as many clients as pgbench has

_SCHEMA = """
create schema {schema};
create table {schema}.decr_order (
    id bigint generated always as identity primary key,
    viewer int not null, qty int not null,
    reserved_at timestamptz not null default clock_timestamp());
"""
_INSERT = "insert into {schema}.decr_order (viewer, qty) values ($1, 1)"


class Told(msgspec.Struct):
    """What the selling process says."""

    sold: int
    seconds: float  # from the first buy to the last order


@dataclass(slots=True, frozen=True)
class RedisDecr:
    """How fast it sold, and what became of the units."""

    orders_per_s: float
    orders: int
    oversold: int  # orders beyond the units
    lost: int  # units that were counted and have no order


async def redis_decr(database_url: str, redis_url: str, units: int, buys: int) -> RedisDecr:
    """Sell so many units to so many buys, on these two servers."""
    name = f"decr_{secrets.token_hex(4)}"
    client = redis.asyncio.Redis.from_url(redis_url)
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
    try:
        await connection.execute(_SCHEMA.format(schema=name))
        await client.set(name, units)
        try:
            told = await _process(database_url, redis_url, name, buys)
            orders = int(await connection.fetchval(f"select count(*) from {name}.decr_order"))
            counted = units - max(0, int(await client.get(name) or 0))
        finally:
            await client.delete(name)
            await connection.execute(f"drop schema {name} cascade")
    finally:
        await connection.close()
        await client.aclose()
    return RedisDecr(
        told.sold / told.seconds, orders, max(0, orders - units), max(0, counted - orders)
    )


async def _process(database_url: str, redis_url: str, name: str, buys: int) -> Told:
    """Run the selling in a process of its own, so that it has a processor to itself."""
    addresses = {"LIVECART_DATABASE_URL": database_url, "LIVECART_REDIS_URL": redis_url}
    output = await run_program(
        *(sys.executable, "-m", "loadtest.peers.redis_decr", name, str(buys)),
        environment={**os.environ, **addresses},
    )
    return msgspec.json.decode(output, type=Told)


async def sell(database_url: str, redis_url: str, name: str, buys: int) -> Told:
    """Buy, each task one after the other, until all have been tried."""
    client = redis.asyncio.Redis.from_url(redis_url)
    insert, numbers, sold, last = _INSERT.format(schema=name), iter(range(buys)), 0, 0.0
    async with asyncpg.create_pool(
        database_url, min_size=CONNECTIONS, max_size=CONNECTIONS
    ) as pool:
        started = time.perf_counter()

        async def buyer() -> None:
            nonlocal sold, last
            for viewer in numbers:
                if await client.decr(name) < 0:
                    continue
                await pool.execute(insert, viewer)
                sold, last = sold + 1, time.perf_counter()

        await asyncio.gather(*(buyer() for _ in range(TASKS)))
    await client.aclose()
    return Told(sold, last - started)


def main() -> None:
    """Entry of the process that sells."""
    import uvloop

    addresses = os.environ["LIVECART_DATABASE_URL"], os.environ["LIVECART_REDIS_URL"]
    told = uvloop.run(sell(*addresses, sys.argv[1], int(sys.argv[2])))
    sys.stdout.buffer.write(msgspec.json.encode(told))


if __name__ == "__main__":
    main()
