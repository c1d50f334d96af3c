"""The contest of orders: our flash sale beside three ways to sell without a gate, on one Postgres.

Owns its rounds. Ours and the peers use the same database server, spawned for this, as durable as
it ever is. Speaks to livecart over the public protocol. Called by `compare`.
"""

from __future__ import annotations

from collections import defaultdict

import asyncpg
import redis.asyncio

from loadtest.bench.comparison import OURS, Contest, entries_of
from loadtest.bench.crowded import Options, rounds_of
from loadtest.bench.stations import Failed
from loadtest.hotrow import hot_row
from loadtest.peers import pgbench
from loadtest.peers.redis_decr import redis_decr
from loadtest.peers.skip_locked import skip_locked
from loadtest.sale import Flash, run_flash
from loadtest.server import Target, spawned

PEER_S = 4
UNITS_PER_VIEWER, BUYS_PER_VIEWER, LIMIT = 3, 5, 4
HOT_ROW, SKIP_LOCKED, REDIS_DECR = "Postgres hot row", "SKIP LOCKED", "Redis DECR + insert"
DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


async def orders(options: Options) -> Contest:
    """Durable orders a second: a whole sale to people, beside clients that do nothing but buy."""
    figures: dict[str, list[float]] = defaultdict(list)
    notes: dict[str, str] = {}
    async with spawned() as target:
        durable = await _settings(target, options.versions)
        for number in rounds_of(options):
            for name, sell in _SIDES.items():
                if name in options.absent:
                    continue
                found = await sell(options, target, notes)
                if found is None:
                    options.absent[name] = f"no pgbench; {pgbench.GET}"
                    options.announce(f"  {name} is left out: {options.absent[name]}")
                    continue
                figures[name].append(found)
                options.announce(f"  round {number}: {name} {found:,.0f} orders/s")
    units, buys = UNITS_PER_VIEWER * options.viewers, BUYS_PER_VIEWER * options.viewers
    return Contest(
        name="orders",
        what=f"{options.viewers:,} viewers send {buys:,} buys for {units:,} units at once, over"
        " WebSockets; from the first buy to the last order, each answered after its COMMIT.",
        unit="orders/s",
        rounds=len(figures[OURS]),
        entries=entries_of(figures, notes=notes),
        notes=[
            f"All on one Postgres with {durable}. Only livecart's buyers are people with sockets,"
            f" each limited to {LIMIT} units, and only its orders are answered, broadcast and"
            " audited; the peers are clients beside the server that look at no limit and at no key:"
            f" {pgbench.CLIENTS} of pgbench, or 64 tasks of one process.",
            "What no run without a crash shows: between `DECR` and `INSERT`, nothing keeps the"
            " unit. A process that is killed there has lost it for good, and a Redis that comes"
            " back with the state of a moment ago sells units twice. The hot row and `SKIP LOCKED`"
            " do neither: their step is one transaction.",
        ],
    )


async def _sale(options: Options, target: Target, notes: dict[str, str]) -> float | None:
    viewers = options.viewers
    run = await run_flash(
        Flash(
            viewers=viewers,
            units=UNITS_PER_VIEWER * viewers,
            per_viewer=LIMIT,
            buys=BUYS_PER_VIEWER,
        ),
        target,
    )
    if not run.passed:
        raise Failed(f"livecart's sale is not what it should be: {run.faults or run.unexpected}")
    notes[OURS] = f"{run.sale.sold:,} sold of {run.sale.buys:,} asked for, audited"
    return run.sale.orders_per_s


async def _hot_row(options: Options, target: Target, notes: dict[str, str]) -> float | None:
    found = await hot_row(target.database_url, PEER_S)
    notes[HOT_ROW] = f"{found.clients} clients, {found.tool}"
    return found.orders_per_s


async def _skip_locked(options: Options, target: Target, notes: dict[str, str]) -> float | None:
    found = await skip_locked(target.database_url, PEER_S)
    if found is None:
        return None
    options.versions["pgbench"] = found.version
    notes[SKIP_LOCKED] = f"{found.sold_twice} units sold twice, {found.lost} lost"
    return found.orders_per_s


async def _redis_decr(options: Options, target: Target, notes: dict[str, str]) -> float | None:
    units, buys = UNITS_PER_VIEWER * options.viewers, BUYS_PER_VIEWER * options.viewers
    found = await redis_decr(target.database_url, target.redis_url, units, buys)
    notes[REDIS_DECR] = f"{found.oversold} oversold, {found.lost} lost, as nothing crashed"
    return found.orders_per_s


_SIDES = {
    OURS: _sale,
    HOT_ROW: _hot_row,
    SKIP_LOCKED: _skip_locked,
    REDIS_DECR: _redis_decr,
}


async def _settings(target: Target, versions: dict[str, str]) -> str:
    """Return how durable the database is, and note what both servers are."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(target.database_url)
    try:
        versions["Postgres"] = str(await connection.fetchval("show server_version"))
        shown = [f"{name} {await connection.fetchval(f'show {name}')}" for name in DURABLE]
    finally:
        await connection.close()
    client = redis.asyncio.Redis.from_url(target.redis_url)
    try:
        info = await client.info("server")
    finally:
        await client.aclose()
    for name in ("valkey_version", "redis_version"):
        if name in info:
            versions[name.partition("_")[0].capitalize()] = str(info[name])
            break
    return ", ".join(shown)
