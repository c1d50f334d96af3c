"""Lists of orders: every filter gives what a plain reading gives, by an index, page by page."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from orders.ledger.ledger import Ledger
from orders.ledger.lists import SHELVES, Filter, orders_page
from orders.ledger.pool import open_pool
from orders.records import Order
from tests.orders_rig import STATES, World, build, fill


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """Connections to a database of the test's own."""
    pool = await open_pool(database_url, 2)
    try:
        yield pool
    finally:
        await pool.close()


_SCANS = (
    "select sum(seq_scan) as seq_scan, sum(idx_scan) as idx_scan from pg_stat_xact_user_tables"
    " where relname = 'orders'"
)


async def _made(pool: asyncpg.Pool[asyncpg.Record], orders: int) -> World:
    world = await build(pool)
    await fill(pool, world, orders)
    return world


async def _whole(ledger: Ledger, wanted: Filter, limit: int) -> list[Order]:
    """Return a list to its end, by pages."""
    found: list[Order] = []
    while True:
        page = await orders_page(ledger, wanted, found[-1].id if found else None, limit)
        found += page
        if len(page) < limit:
            return found


def _passes(order: Order, shop: str, wanted: Filter) -> bool:
    """Judge an order by the meaning of the filters, not by shelves."""
    sought = wanted.sought
    return all(
        [
            wanted.viewer in (None, order.viewer),
            wanted.shop in (None, shop),
            wanted.streams is None or order.stream in wanted.streams,
            wanted.offer in (None, order.offer),
            wanted.product in (None, order.product),
            wanted.status in (None, order.status),
            wanted.paid in (None, order.captured_at is not None),
            wanted.refunded in (None, order.refunded_minor is not None),
            wanted.late in (None, order.late_at is not None),
            wanted.since is None or order.reserved_at >= wanted.since,
            wanted.until is None or order.reserved_at < wanted.until,
            sought is None or order.id == sought or order.viewer.startswith(sought),
        ]
    )


def _filters(orders: list[Order], world: World) -> list[Filter]:
    """Return each filter alone, within a shop and a stream, and many of them together."""
    middle = sorted(order.reserved_at for order in orders)[len(orders) // 2]
    single: list[dict[str, Any]] = [
        {}, *({"status": status} for status in STATES),
        {"paid": True}, {"paid": False}, {"refunded": True}, {"refunded": False}, {"late": True},
        {"late": False}, {"since": middle}, {"until": middle}, {"offer": world.offers[0]},
        {"product": world.products[1]}, {"product": "pr_none"}, {"viewer": "viewer-03"},
        {"sought": "viewer-0"}, {"sought": orders[5].id}, {"sought": "nobody"},
    ]  # fmt: skip
    scopes: list[dict[str, Any]] = [
        {}, {"shop": "shop"}, {"shop": "shop", "streams": [world.streams[0]]},
        {"shop": "shop", "streams": world.streams[:2]}, {"streams": []}, {"shop": "none"},
    ]  # fmt: skip
    found = [scope | one for scope, one in itertools.product(scopes, single)]
    chance = random.Random(7)
    for _ in range(150):
        together: dict[str, Any] = {}
        for one in chance.sample(single, 3):
            together |= one
        found.append(chance.choice(scopes[:4]) | together)
    return [Filter(**fields) for fields in found]


async def test_every_filter_gives_what_a_plain_reading_gives(
    pool: asyncpg.Pool[asyncpg.Record],
) -> None:
    """Alone and together, filters give exactly the orders that they mean, newest first."""
    world = await _made(pool, 350)
    ledger = Ledger(pool)
    rows = await pool.fetch(
        "select r.*, s.shop from order_rows r join streams s on s.id = r.stream"
        " join orders x on x.id = r.id order by x.reserved_at desc, x.id desc"
    )
    shops = {row["id"]: row["shop"] for row in rows}
    orders = [Order(**{k: v for k, v in row.items() if k != "shop"}) for row in rows]
    for wanted in _filters(orders, world):
        meant = [order for order in orders if _passes(order, shops[order.id], wanted)]
        if wanted.viewer is not None:  # a viewer's list goes by id
            meant.sort(key=lambda order: order.id, reverse=True)
        found = await _whole(ledger, wanted, 40)
        assert [order.id for order in found] == [order.id for order in meant], wanted


async def test_no_list_reads_the_table_from_end_to_end(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """No filter ends in a sequential scan of the orders, with statistics or without."""
    world = await _made(pool, 350)
    orders = [Order(**row) for row in await pool.fetch("select * from order_rows")]
    for analysed in (False, True):
        if analysed:
            await pool.execute("analyze")
        async with pool.acquire() as connection, connection.transaction():
            before = await connection.fetchrow(_SCANS)
            for wanted in _filters(orders, world):
                await connection.fetch(
                    "select * from orders_page($1, $2, $3, $4, $5, $6::smallint[], from_ms($7),"
                    " from_ms($8), $9, null, 20)",
                    wanted.viewer, wanted.shop, wanted.streams, wanted.offer, wanted.product,
                    wanted.shelves, wanted.since, wanted.until, wanted.sought,
                )  # fmt: skip
            after = await connection.fetchrow(_SCANS)
        assert before is not None
        assert after is not None
        assert after["seq_scan"] == before["seq_scan"]
        assert after["idx_scan"] > before["idx_scan"]


async def test_pages_are_whole_while_orders_come_in(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Paging through a list meets each order that was there once, whatever comes meanwhile."""
    world = await _made(pool, 120)
    ledger, wanted = Ledger(pool), Filter(shop="shop")
    there = {order.id for order in await _whole(ledger, wanted, 200)}
    seen: list[str] = []
    for n in itertools.count():
        page = await orders_page(ledger, wanted, seen[-1] if seen else None, 7)
        seen += [order.id for order in page]
        if len(page) < 7:
            break
        await fill(pool, world, 5, seed=n + 100)
    assert len(seen) == len(set(seen))
    assert set(seen) == there


async def test_shelves_are_the_same_in_both_places(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Postgres puts an order of each state and marks where the filters look for it."""
    for status, marks in itertools.product(STATES, range(8)):
        shelf = await pool.fetchval(
            "select shelf($1, case when $2 then now() end, case when $3 then 5 else 0 end,"
            " case when $4 then now() end)",
            status, bool(marks & 1), bool(marks & 2), bool(marks & 4),
        )  # fmt: skip
        whole = status in ("reserved", "expired")
        assert shelf == SHELVES[status] + (0 if whole else marks)
        wanted = Filter(status=status) if whole else Filter(
            status=status, paid=bool(marks & 1), refunded=bool(marks & 2), late=bool(marks & 4)
        )  # fmt: skip
        assert wanted.shelves == [shelf]


@pytest.mark.parametrize("known", [0, 10, 100, 1_000])
async def test_the_indexes_of_lists_lead_no_sale_astray(
    pool: asyncpg.Pool[asyncpg.Record], known: int
) -> None:
    """Admission looks up each viewer's own orders, though an index of lists has fewer pages."""
    world = await build(pool, streams=1, offers=1)
    await pool.execute("update streams set status = 'live'")
    if known:  # while they all lie on one shelf, as at the beginning of a sale
        await _sell(pool, world, known, 1)
        await pool.execute("vacuum analyze orders")
    async with pool.acquire() as connection, connection.transaction():
        for n in range(3):  # the table grows under a plan that is kept
            await _sell(connection, world, 1_000, 5_000 + 1_000 * n)
        before = await connection.fetchval(_FETCHED)
        await _sell(connection, world, 100, 20_000)
        assert await connection.fetchval(_FETCHED) - before < 300


_FETCHED = "select idx_tup_fetch from pg_stat_xact_user_tables where relname = 'orders'"


async def _sell(asked: Any, world: World, orders: int, first: int) -> None:
    """Admit orders of one offer, a viewer each."""
    numbers = range(first, first + orders)
    row = await asked.fetchrow(
        "select outcomes from admit($1, 1, $2, $3, $4, $5, $6)",
        world.offers[0], [f"or_{n}" for n in numbers], [f"viewer-{n}" for n in numbers],
        [f"k{n}" for n in numbers], [1 for _ in numbers], list(numbers),
    )  # fmt: skip
    assert row["outcomes"] is None
