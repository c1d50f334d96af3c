"""Orders by the hundred for tests of lists, sums and exports: written by SQL, not by selling.

Owns the making of a small world of shops, streams, offers and orders in every state; what is asked
of it is judged by the tests' own plain reading of the same rows.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from orders.ids import Ids
from orders.records import OrderStatus

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
STATES: tuple[OrderStatus, ...] = (
    "reserved", "confirmed", "shipped", "expired", "cancelled", "refunded",
)  # fmt: skip

_INSERT = """
insert into orders (id, offer, stream, viewer, key, qty, unit_price_minor, status, rank,
                    reserved_at, expires_at, confirmed_at, captured_at, refunded_minor,
                    shipped_at, late_at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[],
                     $7::bigint[], $8::text[], $9::bigint[], $10::timestamptz[],
                     $11::timestamptz[], $12::timestamptz[], $13::timestamptz[], $14::bigint[],
                     $15::timestamptz[], $16::timestamptz[])
"""


@dataclass
class World:
    """What was made; ids in the order of their making."""

    streams: list[str]
    products: list[str]
    offers: list[str]


async def build(pool: asyncpg.Pool[asyncpg.Record], streams: int = 3, offers: int = 3) -> World:
    """Make streams of `shop` and one of `other`, each with some offers of a product each."""
    world = World([], [], [])
    for n in range(streams + 1):
        stream, shop = f"st_{n}", "shop" if n < streams else "other"
        ended = BEGIN + timedelta(hours=n + 1) if n < streams - 1 else None
        await pool.execute(
            "insert into streams (id, shop, title, status, created_at, ended_at)"
            " values ($1, $2, 'Show', $3, $4, $5)",
            stream, shop, "ended" if ended else "live", BEGIN - timedelta(days=1), ended,
        )  # fmt: skip
        world.streams.append(stream)
        for m in range(offers):
            product, offer = f"pr_{n}_{m}", f"of_{n}_{m}"
            await pool.execute(
                "insert into products (id, shop, sku, title, price_minor, currency, tax_bp)"
                " values ($1, $2, $3, $4, 2900, $5, $6)",
                product, shop, f"SKU-{n}-{m}", f"Thing {n}.{m}", "JPY" if m == 1 else "TWD",
                500 if m else None,
            )  # fmt: skip
            await pool.execute(
                "insert into offers (id, stream, product, price_minor, quantity, per_viewer,"
                " status, hold_s, payment, announced)"
                " values ($1, $2, $3, 2900, 1000000, 1000, 'open', 600, 'required', true)",
                offer, stream, product,
            )  # fmt: skip
            world.products.append(product)
            world.offers.append(offer)
    return world


async def fill(
    pool: asyncpg.Pool[asyncpg.Record], world: World, orders: int, seed: int = 1, batch: int = 7
) -> None:
    """Add orders in all states; those of a batch have one time, as those of one admission have."""
    chance = random.Random(seed)
    rank = int(await pool.fetchval("select coalesce(max(rank), 0) from orders"))
    at = await pool.fetchval("select coalesce(max(reserved_at), $1) from orders", BEGIN)
    ids = Ids(lambda: int(at.timestamp() * 1000) + chance.randrange(-3000, 3000))
    rows = []
    for n in range(orders):
        if n % batch == 0:
            at += timedelta(microseconds=chance.randrange(1, 40_000_000))
            place = chance.randrange(len(world.offers))
        rank += 1
        status = chance.choice(STATES)
        paid = status == "refunded" or (
            status in ("confirmed", "shipped", "cancelled") and chance.random() < 0.6
        )
        qty = chance.randint(1, 3)
        back = {True: qty * 2900, False: chance.choice([None, None, 100])}[status == "refunded"]
        rows.append((
            ids.new("or"), world.offers[place], _stream_of(world, place),
            f"viewer-{chance.randrange(12):02d}", f"k{rank}", qty, 2900, status, rank, at,
            at + timedelta(hours=1) if status == "reserved" else None,
            at + timedelta(seconds=9) if status in ("confirmed", "shipped", "refunded") else None,
            at + timedelta(seconds=9) if paid else None,
            back if paid else None,
            at + timedelta(days=2) if status == "shipped" else None,
            at + timedelta(days=3) if status == "confirmed" and chance.random() < 0.2 else None,
        ))  # fmt: skip
    for begin in range(0, len(rows), batch):
        await pool.execute(_INSERT, *zip(*rows[begin : begin + batch], strict=True))


def _stream_of(world: World, offer: int) -> str:
    return world.streams[offer * len(world.streams) // len(world.offers)]
