"""The auditor: judges a sale by queries of its own, never by what the server says about itself.

Owns the order of an audit: what holds always at once, what holds at rest when it has come, what
buyers were told where a History is given, what viewers were delivered where that is. postgres and
gates read, the judges say what it means. It imports nothing of `orders` or `livecart`: it knows
the documented names in SQL and in Redis, and the public HTTP. Called by the command `audit`, the
scenarios and the demo.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import asyncpg
from redis.exceptions import RedisError

from loadtest import judge_answers, judge_deliveries, postgres
from loadtest.deliveries import Deliveries
from loadtest.draws import judge_draw
from loadtest.gates import Gates
from loadtest.history import Asked, History
from loadtest.judge import (
    DURABILITY,
    LIVE,
    Audit,
    Breach,
    Finding,
    OfferRow,
    Row,
    finding,
    judge_durability,
    judge_gate,
)
from loadtest.judge_answers import judge_history, judge_no_unit_lost
from loadtest.judge_bundles import judge_bundles
from loadtest.judge_endings import judge_acts, judge_endings, judge_releases
from loadtest.parts import Part, judge_parts, parts_of
from loadtest.postgres import OVERDUE_S, POLL_S
from loadtest.waiting import FITS_SOMEWHERE_SQL, judge_waitlist
from loadtest.web import Api, ApiError

NO_REDIS = "not judged: no Redis address"
#: Of more ids than these that differ, the rest are counted and not looked up.
LOOKED_UP_MAX = 100


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
    judged. Raises OSError or asyncpg's errors when Postgres cannot be asked.
    """
    result = Audit(offer)
    connection = await postgres.connect(database_url)
    try:
        result.settings = {
            name: str(await connection.fetchval(f"show {name}")) for name in DURABILITY
        }
        result.findings.append(judge_durability(result.settings))
        if await postgres.offer_row(connection, offer) is None:
            result.findings.append(Finding("I1", "the offer is a row", False, f"no {offer}"))
            return result
        result.began_ms = await _began(connection, offer, history)
        result.findings += await _always(connection, offer, result.began_ms)
        started = time.monotonic()
        wrong = await _wait_for_rest(connection, offer, http_url, gate_url, rest_wait_s)
        rest_s = time.monotonic() - started
        result.rest_s = None if wrong else rest_s
        result.findings += _rest_findings(wrong, rest_s, bool(gate_url), result.began_ms)
        # What was told before the rows are read must be in them; orders go on to expire meanwhile.
        told = list(history.endings.news) if history is not None else []
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            row = await postgres.offer_row(connection, offer)
            rows = await postgres.order_rows(connection, offer)
            released = await postgres.releases(connection, offer)
            buckets = len(await parts_of(connection, offer)) or 1
    finally:
        await connection.close()
    assert row is not None
    result.rows, result.quantity, result.live = len(rows), row.quantity, row.live
    buys = list(history.buys()) if history is not None else []
    if history is None:
        result.findings += judge_answers.unjudged()
    else:
        endings = replace(history.endings, news=told)
        result.findings += judge_history(rows, buys, history.contradictions(), buckets)
        result.findings += judge_endings(rows, buys, endings)
        result.findings += judge_acts(row, buys, endings, rows)
        ever, _ = endings.quantities()
        result.findings.append(judge_no_unit_lost(row, rows, buys, min(ever, default=row.quantity)))
    if released is not None and (history is not None or released):
        result.findings += judge_releases(rows, released, buys)
    return result


async def _began(connection: asyncpg.Connection, offer: str, history: History | None) -> int:
    """Return the run's first moment: of the first buy, or else of the first order."""
    rows = await postgres.order_rows(connection, offer)
    born = min((row.reserved_ms for row in rows if row.reserved_ms), default=0)
    return (judge_answers.began(history.buys()) if history is not None else 0) or born


async def audit_bundles(database_url: str, asked: Sequence[Asked]) -> Finding:
    """Judge bundles as they are at rest; their offers are audited each by itself."""
    connection = await postgres.connect(database_url)
    try:
        return judge_bundles(asked, await postgres.bundle_rows(connection, asked))
    finally:
        await connection.close()


async def audit_deliveries(
    database_url: str, stream: str, told: Deliveries, began_ms: int = 0
) -> list[Finding]:
    """Judge what the viewers of a stream were delivered, beside what Postgres keeps of it (I7)."""
    connection = await postgres.connect(database_url)
    try:
        facts = await postgres.facts_of(connection, stream)
    finally:
        await connection.close()
    return judge_deliveries.judge_deliveries(told, facts, began_ms)


# --- what holds always ---


async def _always(connection: asyncpg.Connection, offer: str, began_ms: int) -> list[Finding]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        row = await postgres.offer_row(connection, offer)
        assert row is not None
        twice = await postgres.breaches(connection, postgres.TWICE_SQL, offer)
        over = await postgres.breaches(connection, postgres.OVER_LIMIT_SQL, offer)
        ranks = await postgres.breaches(connection, postgres.RANK_SQL, offer)
        beyond = await postgres.breaches(connection, postgres.BEYOND_SQL, offer)
        parts = await parts_of(connection, offer)
        waitlist = await judge_waitlist(connection, offer, began_ms)
        draw = await judge_draw(connection, offer)
    figures = f"live {row.live}, taken {row.taken}, quantity {row.quantity}"
    if parts:  # the offer's own sum follows them
        sold = judge_parts(row, parts, beyond, began_ms)
    else:
        if not row.live == row.taken <= row.quantity and not beyond:
            beyond.append(Breach(figures, at_ms=time.time_ns() // 1_000_000))
        sold = finding("I1", "live quantity = taken ≤ quantity", beyond, began_ms, figures)
    return [
        sold,
        finding("I3", f"no viewer holds more than {row.per_viewer}", over, began_ms),
        finding("I6", "ranks are unique and count from 1", ranks, began_ms),
        finding("I10", "no key has two orders", twice, began_ms),
        *waitlist,
        *draw,
    ]


# --- what holds at rest ---


async def _wait_for_rest(
    connection: asyncpg.Connection, offer: str, http_url: str, gate_url: str, wait_s: float
) -> dict[str, list[Breach]]:
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
) -> dict[str, list[Breach]]:
    row = await postgres.offer_row(connection, offer)
    assert row is not None
    wrong: dict[str, list[Breach]] = {}
    parts = await parts_of(connection, offer)
    if gates is not None:
        try:
            await _gates_differ(connection, offer, row, parts, gates, wrong)
        except (RedisError, OSError) as error:
            wrong["I4"] = [Breach(f"Redis: {error}")]
    if parts and row.taken != row.live and "I4" not in wrong:
        what = f"the offer says taken {row.taken}, its buckets {row.live}"
        wrong["I4"] = [Breach(what)]
    if api is not None and "I4" not in wrong:
        try:
            told = (await api.call("GET", f"/v1/offers/{offer}"))["left"]
        except ApiError as error:
            wrong["I4"] = [Breach(str(error))]
        else:
            if told != row.quantity - row.live:
                what = f"HTTP says left {told}, Postgres {row.quantity - row.live}"
                wrong["I4"] = [Breach(what)]
    if parts and (waiting := await postgres.breaches(connection, FITS_SOMEWHERE_SQL, offer)):
        wrong["R12"] = waiting
    overdue = await postgres.breaches(connection, postgres.OVERDUE_SQL, offer, OVERDUE_S)
    if overdue:
        wrong["I8"] = overdue
    return wrong


async def _gates_differ(
    connection: asyncpg.Connection,
    offer: str,
    row: OfferRow,
    parts: Sequence[Part],
    gates: Gates,
    wrong: dict[str, list[Breach]],
) -> None:
    """Add what each gate of the offer does not have as Postgres does."""
    rows = {one.id: one for one in await postgres.order_rows(connection, offer)}
    live = frozenset(one.id for one in rows.values() if one.status in LIVE)
    for part in parts or [Part(offer, row, live)]:
        gate = await gates.read(part.id)
        strange = [] if gate is None else sorted((gate.held ^ part.live) | set(gate.unwritten))
        named = await _owners(strange[:LOOKED_UP_MAX], rows, gates, part.id)
        for name, found in judge_gate(part.row, part.live, gate, named).items():
            where = f"{part.id}: " if parts else ""
            read_ms = time.time_ns() // 1_000_000  # what is no order's has this moment
            wrong.setdefault(name, []).extend(
                replace(one, what=f"{where}{one.what}", at_ms=one.at_ms or read_ms) for one in found
            )


async def _owners(
    ids: Sequence[str], rows: Mapping[str, Row], gates: Gates, gate: str
) -> dict[str, Breach]:
    """Say whose these orders are: by their rows, or by what Redis holds under their ids."""
    named = {}
    for id_ in ids:
        if id_ in rows:
            one = rows[id_]
            named[id_] = Breach("", id_, one.key, one.viewer, one.reserved_ms or None)
    unknown = [id_ for id_ in ids if id_ not in rows]
    for id_, (viewer, key) in (await gates.owners(gate, unknown)).items():
        named[id_] = Breach("", id_, key, viewer)
    return named


def _rest_findings(
    wrong: Mapping[str, list[Breach]], rest_s: float, with_redis: bool, began_ms: int
) -> list[Finding]:
    agreed = f"after {rest_s:.1f} s"
    agree = "left + live = quantity; Redis, Postgres and HTTP agree, id by id"
    judged = [
        finding(
            "I8",
            f"no order is reserved {OVERDUE_S:g} s past its deadline",
            wrong.get("I8", []),
            began_ms,
            agreed,
        ),
        finding(
            "I4",
            agree,
            wrong.get("I4", []),
            began_ms,
            agreed if with_redis else f"{agreed}, without Redis",
        ),
    ]
    if "R12" in wrong:
        claim = "at rest nobody who fits waits beside free units of another bucket"
        judged.append(finding("R12", claim, wrong["R12"], began_ms))
    if not with_redis:
        return [*judged, Finding("I11", "no hold is without a row", None, NO_REDIS)]
    held = finding("I11", "no hold is without a row", wrong.get("I11", []), began_ms, agreed)
    return [*judged, held]
