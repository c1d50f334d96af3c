"""The auditor: judges a sale by queries of its own, never by what the server says about itself.

Owns the reading for the invariants I1-I6, I8, I10 and I11 from Postgres, Redis and, where one is
given, a History of what buyers saw; judge says what it means, waiting judges the waitlist and
draws a draw. It imports nothing of `orders` or `livecart`: it knows the documented names in SQL
and in Redis, and the public HTTP. Called by the scenarios and the demo.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import asyncpg
from redis.exceptions import RedisError

from loadtest.draws import judge_draw
from loadtest.gates import Gates
from loadtest.history import Asked, History
from loadtest.judge import (
    DURABILITY,
    LIVE,
    Audit,
    Finding,
    OfferRow,
    Row,
    examples,
    judge_durability,
    judge_gate,
    judge_history,
    judge_no_unit_lost,
)
from loadtest.judge_bundles import BundleRow, judge_bundles
from loadtest.judge_endings import Release, judge_acts, judge_endings, judge_releases
from loadtest.parts import Part, judge_parts, parts_of
from loadtest.waiting import judge_waitlist
from loadtest.web import Api, ApiError

POLL_S = 0.2
CONNECT_WAIT_S = 30.0

#: The offer beside the sum over its live orders, in one statement and so in one snapshot.
OFFER_SQL = """
select o.quantity, o.taken, o.per_viewer, o.epoch, o.status,
       coalesce((select sum(r.qty) from orders r
                 where r.offer = o.id
                   and r.status in ('reserved', 'confirmed', 'shipped')), 0)::bigint as live
from offers o where o.id = $1
"""
#: Viewers who hold more than one viewer may.
OVER_LIMIT_SQL = """
select r.viewer, sum(r.qty) as held from orders r join offers o on o.id = r.offer
where r.offer = $1 and r.status in ('reserved', 'confirmed', 'shipped')
group by r.viewer, o.per_viewer having sum(r.qty) > o.per_viewer
"""
#: Keys with more than one row: the same buy, sold twice.
TWICE_SQL = """
select viewer, key, count(*) as times from orders where offer = $1
group by viewer, key having count(*) > 1
"""
#: Ranks that no order, or more than one, may have.
RANK_SQL = """
select rank, count(*) as times from orders where offer = $1
group by rank having count(*) > 1 or rank is null or rank < 1
"""
ROWS_SQL = """
select id, viewer, key, qty, status, rank,
       (extract(epoch from reserved_at) * 1000)::bigint as reserved_ms,
       (extract(epoch from expires_at) * 1000)::bigint as expires_ms
from orders where offer = $1
"""
#: Orders whose deadline has passed for so long that the keeper should have ended them.
OVERDUE_SQL = """
select id from orders where offer = $1 and status = 'reserved'
   and expires_at < clock_timestamp() - make_interval(secs => $2)
"""
OVERDUE_S = 1.0
#: Orders under the keys of bundles, and all others that say they are of the same bundles.
BUNDLE_ROWS_SQL = """
with own as (
    select r.* from orders r join unnest($1::text[], $2::text[]) as k (viewer, key)
      on r.viewer = k.viewer and r.key = k.key
)
select id, viewer, key, offer, qty, bundle from own
union
select r.id, r.viewer, r.key, r.offer, r.qty, r.bundle from orders r
 where r.bundle in (select bundle from own)
"""
HAS_MOVEMENTS_SQL = "select to_regclass('movements') is not null"
#: Movements that gave an order's units back.
RELEASES_SQL = """
select order_id as "order", units, (extract(epoch from at) * 1000)::bigint as at_ms
from movements where (offer = $1 or offer like $1 || '~%') and kind = 'release' order by n
"""


async def audit(
    database_url: str,
    offer: str,
    history: History | None = None,
    *,
    http_url: str = "",
    gate_url: str = "",
    rest_wait_s: float = 30.0,
) -> Audit:
    """Judge `offer`; what holds always at once, what holds at rest within `rest_wait_s`.

    `gate_url`: the Redis that holds are on, or any node of the cluster; without it Redis is not
    judged.
    """
    result = Audit(offer)
    connection = await _connect(database_url)
    try:
        result.settings = {
            name: str(await connection.fetchval(f"show {name}")) for name in DURABILITY
        }
        result.findings.append(judge_durability(result.settings))
        if await _offer_row(connection, offer) is None:
            result.findings.append(Finding("I1", "the offer is a row", False, f"no {offer}"))
            return result
        result.findings += await _always(connection, offer)
        started = time.monotonic()
        wrong = await _wait_for_rest(connection, offer, http_url, gate_url, rest_wait_s)
        rest_s = time.monotonic() - started
        result.rest_s = None if wrong else rest_s
        result.findings += _rest_findings(wrong, rest_s, bool(gate_url))
        rows = await _rows(connection, offer)
        row = await _offer_row(connection, offer)
        assert row is not None
        result.rows, result.quantity, result.live = len(rows), row.quantity, row.live
        if history is not None:
            result.findings += await _history_findings(connection, offer, row, rows, history)
    finally:
        await connection.close()
    return result


async def audit_bundles(database_url: str, asked: Sequence[Asked]) -> Finding:
    """Judge bundles as they are at rest; their offers are audited each by itself."""
    connection = await _connect(database_url)
    try:
        rows = await connection.fetch(
            BUNDLE_ROWS_SQL, [one.viewer for one in asked], [one.key for one in asked]
        )
    finally:
        await connection.close()
    return judge_bundles(asked, [BundleRow(**dict(row)) for row in rows])


async def _history_findings(
    connection: asyncpg.Connection,
    offer: str,
    row: OfferRow,
    rows: list[Row],
    history: History,
) -> list[Finding]:
    """Hold the rows, as they are at rest, against what was said to those outside."""
    buys, endings = list(history.buys()), history.endings
    ever, _ = endings.quantities()
    buckets = len(await parts_of(connection, offer)) or 1
    found = judge_history(rows, buys, history.contradictions(), buckets)
    found += judge_endings(rows, buys, endings)
    found += judge_acts(row, buys, endings)
    found.append(judge_no_unit_lost(row, rows, buys, min(ever, default=row.quantity)))
    if await connection.fetchval(HAS_MOVEMENTS_SQL):
        moved = await connection.fetch(RELEASES_SQL, offer)
        found += judge_releases(rows, [Release(*release) for release in moved], buys)
    return found


# --- what holds always ---


async def _always(connection: asyncpg.Connection, offer: str) -> list[Finding]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        row = await _offer_row(connection, offer)
        assert row is not None
        twice = await connection.fetch(TWICE_SQL, offer)
        over = await connection.fetch(OVER_LIMIT_SQL, offer)
        ranks = await connection.fetch(RANK_SQL, offer)
        parts = await parts_of(connection, offer)
        waitlist = await judge_waitlist(connection, offer)
        draw = await judge_draw(connection, offer)
    whole = Finding(
        "I1",
        "live quantity = taken ≤ quantity",
        row.live == row.taken <= row.quantity,
        f"live {row.live}, taken {row.taken}, quantity {row.quantity}",
    )
    return [
        judge_parts(row, parts) if parts else whole,
        Finding(
            "I3",
            f"no viewer holds more than {row.per_viewer}",
            not over,
            examples(f"{r['viewer']} holds {r['held']}" for r in over),
        ),
        Finding(
            "I6",
            "ranks are unique and count from 1",
            not ranks,
            examples(f"rank {r['rank']} × {r['times']}" for r in ranks),
        ),
        Finding(
            "I10",
            "no key has two orders",
            not twice,
            examples(f"{r['viewer']} {r['key']} × {r['times']}" for r in twice),
        ),
        *waitlist,
        *draw,
    ]


# --- what holds at rest ---


async def _wait_for_rest(
    connection: asyncpg.Connection, offer: str, http_url: str, gate_url: str, wait_s: float
) -> dict[str, str]:
    """Poll until Postgres, Redis and HTTP agree; returns what still differs, by invariant."""
    gates = Gates(gate_url) if gate_url else None
    api = Api(http_url) if http_url else None
    ends = time.monotonic() + wait_s
    try:
        while True:
            wrong = await _differences(connection, offer, api, gates)
            if not wrong or time.monotonic() >= ends:
                return wrong
            await asyncio.sleep(POLL_S)
    finally:
        if gates is not None:
            await gates.aclose()


async def _differences(
    connection: asyncpg.Connection, offer: str, api: Api | None, gates: Gates | None
) -> dict[str, str]:
    row = await _offer_row(connection, offer)
    assert row is not None
    wrong: dict[str, str] = {}
    parts = await parts_of(connection, offer)
    if gates is not None:
        if not parts:
            live = frozenset(r.id for r in await _rows(connection, offer) if r.status in LIVE)
        judged = parts or [Part(offer, row, live)]
        try:
            for part in judged:
                found = judge_gate(part.row, part.live, await gates.read(part.id))
                for name, what in found.items():
                    where = f"{part.id}: {what}" if parts else what
                    wrong[name] = f"{wrong[name]}; {where}" if name in wrong else where
        except (RedisError, OSError) as error:
            wrong["I4"] = f"Redis: {error}"
    if parts and row.taken != row.live and "I4" not in wrong:
        wrong["I4"] = f"the offer says taken {row.taken}, its buckets {row.live}"
    if api is not None and "I4" not in wrong:
        try:
            told = (await api.call("GET", f"/v1/offers/{offer}"))["left"]
        except ApiError as error:
            wrong["I4"] = str(error)
        else:
            if told != row.quantity - row.live:
                wrong["I4"] = f"HTTP says left {told}, Postgres {row.quantity - row.live}"
    overdue = await connection.fetch(OVERDUE_SQL, offer, OVERDUE_S)
    if overdue:
        wrong["I8"] = f"{len(overdue)} overdue: {examples(r['id'] for r in overdue)}"
    return wrong


def _rest_findings(wrong: dict[str, str], rest_s: float, with_redis: bool) -> list[Finding]:
    agreed = f"after {rest_s:.1f} s"
    holds = wrong.get("I11", agreed) if with_redis else "not judged: no Redis address"
    return [
        Finding(
            "I8",
            f"no order is reserved {OVERDUE_S:g} s past its deadline",
            "I8" not in wrong,
            wrong.get("I8", agreed),
        ),
        Finding(
            "I4",
            "left + live = quantity; Redis, Postgres and HTTP agree, id by id",
            "I4" not in wrong,
            wrong.get("I4", agreed if with_redis else f"{agreed}, without Redis"),
        ),
        Finding(
            "I11", "no hold is without a row", "I11" not in wrong if with_redis else None, holds
        ),
    ]


# --- reading ---


async def _connect(database_url: str) -> asyncpg.Connection:
    """Connect; a server that is just recovering is waited for."""
    ends = time.monotonic() + CONNECT_WAIT_S
    while True:
        try:
            return await asyncpg.connect(database_url)
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            if time.monotonic() > ends:
                raise
            await asyncio.sleep(POLL_S)


async def _offer_row(connection: asyncpg.Connection, offer: str) -> OfferRow | None:
    row = await connection.fetchrow(OFFER_SQL, offer)
    return OfferRow(**dict(row)) if row is not None else None


async def _rows(connection: asyncpg.Connection, offer: str) -> list[Row]:
    return [Row(**dict(row)) for row in await connection.fetch(ROWS_SQL, offer)]
