"""What the benches of the core stand on: servers of their own, seeded offers, a quiet shop.

Owns the making of many rows at once (by SQL, not by selling) and the keeper's real process. Called
by the benches alone; pytest collects nothing here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import asyncpg

from livecart.embedded import Running, running
from orders.ids import Ids
from orders.ledger.migrate import migrate
from orders.records import Buy, Figures, Offer, Order
from orders.stock.keys import keys_of
from tests.shop import Shop

ROOT = Path(__file__).parents[2]

#: Reserved orders of one unit, a viewer each, with ids and keys as long as real ones. Their
#: deadlines are spread over $4 seconds, from $3 on.
_SEED = """
insert into orders (id, offer, stream, viewer, key, qty, unit_price_minor, status, rank,
                    reserved_at, expires_at)
select 'or_' || md5(o.id || '/' || i)::char(26), o.id, o.stream, 'viewer-' || lpad(i::text, 7, '0'),
       gen_random_uuid(), 1, o.price_minor, 'reserved', i, clock_timestamp(),
       $3::timestamptz + make_interval(secs => $4::float * i / $2::float)
  from generate_series(1, $2::integer) i, offers o where o.id = $1
"""


class Row(NamedTuple):
    """One line of the table."""

    what: str
    figure: str
    wanted: str = ""
    holds: bool | None = None  # what was wanted; None: nothing was


class Quiet:
    """A listener that keeps nothing."""

    def sold(self, sales: Sequence[tuple[Buy, Order]], figures: Figures | None) -> None:
        """Nobody listens."""

    def changed(self, orders: Sequence[Order]) -> None:
        """Nobody listens."""

    def figures(self, figures: Figures) -> None:
        """Nobody listens."""

    def told(self, stream: str) -> None:
        """Nobody listens."""


@contextmanager
def servers() -> Iterator[Running]:
    """Both embedded servers, durable as ever, in a folder that goes afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="lc-bench-"))
    try:
        with running(folder) as urls:
            yield urls
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def open_shop(urls: Running) -> AsyncIterator[Shop]:
    """A shop with one hub whose news nobody hears, on an emptied Redis."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(urls.database_url)
    try:
        await migrate(connection)
    finally:
        await connection.close()
    shop = Shop(urls.database_url, urls.redis_url)
    hub = await shop.hub()
    hub.selling.listener = Quiet()
    await shop.redis.flushall()
    try:
        yield shop
    finally:
        await shop.close()


def new_ids() -> Ids:
    """Ids as the server makes them."""
    return Ids(lambda: int(time.time() * 1000))


async def seed(
    shop: Shop, offer: Offer, orders: int, deadlines_from: datetime, over_s: float
) -> None:
    """Give an offer so many live orders; their gate has to be rebuilt."""
    await shop.fetch("update offers set taken = taken + $2 where id = $1", offer.id, orders)
    await shop.fetch(_SEED, offer.id, orders, deadlines_from, over_s)


async def now(shop: Shop) -> datetime:
    """Return the time by Postgres' clock, which alone expires orders."""
    found: datetime = (await shop.fetch("select clock_timestamp()"))[0][0]
    return found


async def lose(shop: Shop, offer: str) -> None:
    """Take an offer's gate away, and nothing else."""
    await shop.redis.unlink(*keys_of(offer))


async def is_built(shop: Shop, offer: str) -> bool:
    """Tell whether the offer has a gate."""
    return await shop.redis.hget(keys_of(offer).state, "epoch") is not None


@asynccontextmanager
async def a_keeper(urls: Running) -> AsyncIterator[None]:
    """The keeper's real process, leading by the time it is needed."""
    environ = {
        **os.environ,
        "LIVECART_REDIS_URL": urls.redis_url,
        "LIVECART_DATABASE_URL": urls.database_url,
        "LIVECART_LOG_LEVEL": "error",
    }
    command = (sys.executable, "-m", "livecart.worker")
    process = await asyncio.create_subprocess_exec(*command, env=environ, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()
