"""Sums of sales: exactly what a plain sum over the orders gives, whatever happens to these."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from orders.ledger import sales
from orders.ledger.ledger import Ledger
from orders.ledger.pool import open_pool
from orders.records import Accepted
from tests.orders_rig import build, fill
from tests.shop import Shop

LIVE = ("reserved", "confirmed", "shipped")
Sums = dict[tuple[Any, ...], list[int]]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """Connections to a database of the test's own."""
    pool = await open_pool(database_url, 4)
    try:
        yield pool
    finally:
        await pool.close()


def _plain(rows: list[asyncpg.Record]) -> Sums:
    """Sum up orders one by one, by what each figure means."""
    found: Sums = defaultdict(lambda: [0] * 7)
    for row in rows:
        live, captured = row["status"] in LIVE, row["captured_at"] is not None
        amount = row["qty"] * row["unit_price_minor"]
        due = amount - (row["refunded_minor"] or 0) if live else 0
        figures = [
            1, not live, live and not captured, row["qty"] if live else 0,
            amount if captured else 0, amount - due if captured else 0, 0 if captured else due,
        ]  # fmt: skip
        currency = row["currency"]
        minute = int(row["at"].timestamp()) // 60 * 60_000
        for key in ((currency,), ("product", row["product"]), (minute, currency)):
            found[key] = [a + int(b) for a, b in zip(found[key], figures, strict=True)]
    return found


def _told(summary: sales.Summary) -> Sums:
    def figures(of: sales.Figures) -> list[int]:
        return [
            of.orders, of.ended, of.unpaid, of.units, of.captured_minor, of.refunded_minor,
            of.unpaid_minor,
        ]  # fmt: skip

    return {
        **{(of.currency,): figures(of) for of in summary.totals},
        **{("product", product): figures(of) for product, of in summary.products},
        **{(at, of.currency): figures(of) for at, of in summary.minutes},
    }


async def _agree(pool: asyncpg.Pool[asyncpg.Record], stream: str) -> Sums:
    """Hold a summary to the plain sum over the same rows, read in the same moment; return it."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        rows = await connection.fetch(
            "select r.*, x.reserved_at as at from order_rows r join orders x on x.id = r.id"
            " where r.stream = $1", stream,
        )  # fmt: skip
        told = _told(await sales.summary(_Asked(connection), stream))  # type: ignore[arg-type]
    assert told == _plain(rows)
    return told


class _Asked:
    """A ledger that asks over one connection, within its transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def rows(self, sql: str, *args: object) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self._connection.fetch(sql, *args)
        return found


async def test_sums_are_those_of_the_rows(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Sums by currency, product and minute are exact, before, between and after folding."""
    world = await build(pool)
    for seed in range(3):
        await fill(pool, world, 100, seed=seed)
        for stream in world.streams:
            assert await _agree(pool, stream)
        await pool.fetchval("select fold_sales($1)", 5 if seed == 1 else 10_000)
        for stream in world.streams:
            assert await _agree(pool, stream)
    while await sales.fold(Ledger(pool)):
        pass
    assert await pool.fetchval("select count(*) from sales_steps") == 0


async def test_sums_follow_all_that_happens_to_orders(shop: Shop) -> None:
    """Buys, payments, refunds, cancels and expiry are in the sums at once, and exactly once."""
    hub = await shop.hub()
    stream = await shop.stream()
    offers = [
        await shop.offer(60, stream=stream, per_viewer=60, payment=payment)
        for payment in ("required", "required", "none")
    ]
    chance = random.Random(5)
    pool, changes = hub.ledger.pool, hub.changes

    async def live(viewer: str) -> None:
        for n in range(6):
            bought = await hub.buy(chance.choice(offers).id, viewer, chance.randint(1, 2))
            if not isinstance(bought, Accepted):
                continue
            order = bought.order.id
            match chance.randrange(6):
                case 0:
                    await changes.cancel(order, True, "changed my mind")
                case 1:
                    await pool.execute("select expire_now($1)", order)
                case 2 | 3:
                    await changes.pay(order)
                    if n % 2:
                        await changes.cancel(order, True, None)
                case 4:
                    await changes.pay(order)
                    amount = None if n % 2 else 100
                    await pool.fetch("select * from refund($1, $2, $3, $4, null, 'host')",
                                     order, f"k{n}", amount, bool(n % 2))  # fmt: skip

    await pool.execute(
        "create function expire_now(p text) returns void language plpgsql as $$ begin"
        " update orders set expires_at = now() - interval '1 s' where id = p;"
        " perform expire((select offer from orders where id = p), 10); end $$"
    )
    async with asyncio.TaskGroup() as group:
        for n in range(12):
            group.create_task(live(f"v{n}"))

        async def fold() -> None:
            for _ in range(10):
                await sales.fold(hub.ledger)
                await _agree(pool, stream)

        group.create_task(fold())
    told = await _agree(pool, stream)
    everything = told["TWD",]
    assert all(figure > 0 for figure in everything), everything
    await hub.keeper.round()  # which folds the rest
    assert await pool.fetchval("select count(*) from sales_steps") == 0
    assert await _agree(pool, stream) == told


async def test_a_summary_does_not_wait_for_a_fold(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """While one folds, sums are whole, sales are counted, and a second fold steps back."""
    world = await build(pool)
    await fill(pool, world, 50)
    async with pool.acquire() as connection, connection.transaction():
        assert await connection.fetchval("select fold_sales(10000)") > 0
        assert not await sales.fold(Ledger(pool))
        await fill(pool, world, 20, seed=2)
        assert await _agree(pool, world.streams[0])
    assert await _agree(pool, world.streams[0])
