"""What Postgres says of a sale, by queries of the audit's own.

Owns the SQL over the documented names, and nothing of `orders`; docs/audit.md has the same queries
for anybody to run. Judges only what a query itself can: each row of such a one is a breach, with
its order, key, viewer and moment. Called by audit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import asyncpg

from loadtest.history import Asked
from loadtest.judge import Breach, OfferRow, Row
from loadtest.judge_bundles import BundleRow
from loadtest.judge_deliveries import Fact
from loadtest.judge_endings import Release

POLL_S: Final = 0.2
CONNECT_WAIT_S: Final = 30.0
OVERDUE_S: Final = 1.0
#: Rows of a query for breaches that are read; BREACHES_KEPT_MAX of them are shown at the most.
BREACHES_READ_MAX: Final = 1_000

_LIVE = "('reserved', 'confirmed', 'shipped')"
#: The offer beside the sum over its live orders, in one statement and so in one snapshot.
OFFER_SQL = f"""
select o.quantity, o.taken, o.per_viewer, o.epoch, o.status,
       coalesce((select sum(r.qty) from orders r
                 where r.offer = o.id and r.status in {_LIVE}), 0)::bigint as live
from offers o where o.id = $1
"""
#: Live orders, in the order of their birth, from the one on that went beyond the quantity.
BEYOND_SQL = f"""
select s.id, s.key, s.viewer, s.at_ms, s.so_far || ' units of ' || o.quantity || ' with it'
from (select r.id, r.key, r.viewer, (extract(epoch from r.reserved_at) * 1000)::bigint as at_ms,
             sum(r.qty) over (order by r.reserved_at, r.rank) as so_far
      from orders r where r.offer = $1 and r.status in {_LIVE}) s
join offers o on o.id = $1 where s.so_far > o.quantity order by s.so_far
"""
#: Viewers who hold more than one viewer may: the last order of each, and all of them.
OVER_LIMIT_SQL = f"""
select (array_agg(r.id order by r.reserved_at desc, r.rank desc))[1],
       (array_agg(r.key order by r.reserved_at desc, r.rank desc))[1], r.viewer,
       (extract(epoch from max(r.reserved_at)) * 1000)::bigint,
       'holds ' || sum(r.qty) || ' of ' || o.per_viewer || ' allowed, with '
           || string_agg(r.id, ' ' order by r.reserved_at, r.rank)
from orders r join offers o on o.id = r.offer
where r.offer = $1 and r.status in {_LIVE}
group by r.viewer, o.per_viewer having sum(r.qty) > o.per_viewer order by r.viewer
"""
#: Keys with more than one row: the same buy, sold twice.
TWICE_SQL = """
select (array_agg(id order by reserved_at desc, rank desc))[1], key, viewer,
       (extract(epoch from max(reserved_at)) * 1000)::bigint,
       count(*) || ' orders of one key: ' || string_agg(id, ' ' order by reserved_at, rank)
from orders where offer = $1 group by viewer, key having count(*) > 1 order by viewer, key
"""
#: Ranks that no order, or more than one, may have.
RANK_SQL = """
select (array_agg(id order by reserved_at desc, id desc))[1],
       (array_agg(key order by reserved_at desc, id desc))[1],
       (array_agg(viewer order by reserved_at desc, id desc))[1],
       (extract(epoch from max(reserved_at)) * 1000)::bigint,
       'rank ' || coalesce(rank::text, 'none') || ' × ' || count(*) || ': '
           || string_agg(id, ' ' order by reserved_at, id)
from orders where offer = $1
group by rank having count(*) > 1 or rank is null or rank < 1 order by rank
"""
ROWS_SQL = """
select id, viewer, key, qty, status, coalesce(rank, 0) as rank,
       (extract(epoch from reserved_at) * 1000)::bigint as reserved_ms,
       (extract(epoch from expires_at) * 1000)::bigint as expires_ms
from orders where offer = $1
"""
#: Orders whose deadline has passed for so long that the keeper should have ended them.
OVERDUE_SQL = """
select id, key, viewer, (extract(epoch from expires_at) * 1000)::bigint,
       'still reserved; this was its deadline'
from orders where offer = $1 and status = 'reserved'
   and expires_at < clock_timestamp() - make_interval(secs => $2) order by expires_at
"""
#: Orders under the keys of bundles, and all others that say they are of the same bundles.
BUNDLE_ROWS_SQL = """
with own as (
    select r.* from orders r join unnest($1::text[], $2::text[]) as k (viewer, key)
      on r.viewer = k.viewer and r.key = k.key
), named as (
    select * from own union select r.* from orders r where r.bundle in (select bundle from own)
)
select id, viewer, key, offer, qty, bundle,
       (extract(epoch from reserved_at) * 1000)::bigint as reserved_ms from named
"""
HAS_SQL = "select to_regclass($1) is not null"
#: Movements that gave an order's units back.
RELEASES_SQL = """
select order_id as "order", units, (extract(epoch from at) * 1000)::bigint as at_ms
from movements where (offer = $1 or offer like $1 || '~%') and kind = 'release' order by n
"""
#: Main events, as they are kept.
FACTS_SQL = """
select n, kind, coalesce(subject, ''), coalesce(reason, ''),
       (extract(epoch from at) * 1000)::bigint
from facts where stream = $1 order by n
"""
OFFERS_SQL = """
select id from offers o where stream = $1 and to_jsonb(o) ->> 'parent' is null order by id
"""


async def connect(database_url: str, wait_s: float = CONNECT_WAIT_S) -> asyncpg.Connection:
    """Connect; a server that is just recovering is waited for so long."""
    ends = time.monotonic() + wait_s
    while True:
        try:
            return await asyncpg.connect(database_url)
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            if time.monotonic() > ends:
                raise
            await asyncio.sleep(POLL_S)


async def offer_row(connection: asyncpg.Connection, offer: str) -> OfferRow | None:
    """Read one offer; None when there is none."""
    row = await connection.fetchrow(OFFER_SQL, offer)
    return OfferRow(**dict(row)) if row is not None else None


async def order_rows(connection: asyncpg.Connection, offer: str) -> list[Row]:
    """Read all orders of an offer."""
    return [Row(**dict(row)) for row in await connection.fetch(ROWS_SQL, offer)]


async def breaches(connection: asyncpg.Connection, sql: str, *args: object) -> list[Breach]:
    """Ask a query whose rows are breaches: order, key, viewer, moment, what."""
    rows = await connection.fetch(f"{sql.rstrip()} limit {BREACHES_READ_MAX}", *args)
    return [
        Breach(what, order or "", key or "", viewer or "", at_ms)
        for order, key, viewer, at_ms, what in map(tuple, rows)
    ]


async def bundle_rows(connection: asyncpg.Connection, asked: Sequence[Asked]) -> list[BundleRow]:
    """Read the orders of these bundles, and others that say they are of them."""
    rows = await connection.fetch(
        BUNDLE_ROWS_SQL, [one.viewer for one in asked], [one.key for one in asked]
    )
    return [BundleRow(**dict(row)) for row in rows]


async def releases(connection: asyncpg.Connection, offer: str) -> list[Release] | None:
    """Read what was given back; None when the schema does not keep it."""
    if not await connection.fetchval(HAS_SQL, "movements"):
        return None
    return [Release(*row) for row in await connection.fetch(RELEASES_SQL, offer)]


async def facts_of(connection: asyncpg.Connection, stream: str) -> list[Fact] | None:
    """Read a stream's main events; None when the schema does not keep them."""
    if not await connection.fetchval(HAS_SQL, "facts"):
        return None
    return [Fact(*row) for row in await connection.fetch(FACTS_SQL, stream)]


async def offers_of(database_url: str, stream: str) -> list[str]:
    """Name the offers of a stream."""
    connection = await connect(database_url)
    try:
        return [str(row["id"]) for row in await connection.fetch(OFFERS_SQL, stream)]
    finally:
        await connection.close()
