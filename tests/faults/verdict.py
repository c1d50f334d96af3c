"""Judges a played sale: does the run count, do the invariants hold, and is it at rest in time?

Owns what makes a run count: every fault was seen to fire, and at least IN_FLIGHT_MIN buys were on
the wire without a final answer when the plan's own did. What an invariant means is the audit's.
Called by `seeded` and by the tests.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from contextlib import aclosing
from dataclasses import replace
from typing import Literal

import asyncpg
import msgspec

from loadtest.audit import audit, audit_bundles
from loadtest.gates import Gates
from loadtest.history import History
from loadtest.httpcrowd import HttpCrowd
from loadtest.judge import Audit, Finding, examples
from loadtest.viewer import READY
from loadtest.web import make_token
from tests.faults.plan import Plan
from tests.faults.sale import ANSWERS_S, CONNECT_S, PATIENCE, Sale, Struck
from tests.faults.tree import Tree

IN_FLIGHT_MIN = 100
REST_S = 12.0  # for everything to agree
RESOLVED_S = 5.0  # I11: holds without a row, once all processes are back
TOLD_S = 5.0  # for the last news to reach the last viewer
PROBES_MAX = 100
LONG_HOLD_S = 60  # beyond, nobody waits for orders to expire
POLL_S = 0.05


class Result(msgspec.Struct):
    """One run as it is kept."""

    seed: int
    kind: str
    plan: str
    verdict: Literal["held", "broken", "not counted"]
    buys: int
    orders: int
    bundles: int  # that became orders
    seconds: float
    resolved_s: float  # from all processes being back to no hold without a row
    slowest_s: float  # from a buy to its answer, `retry` too
    struck: list[Struck]
    broken: list[str]
    why: str = ""  # it did not count
    uncounted: list[str] = []  # why earlier plays of the same seed did not count


async def play(plan: Plan, tree: Tree) -> Result:
    """Play a plan and judge it; the server is whole again when it returns."""
    started = time.monotonic()
    await tree.well()
    sale = Sale(plan, tree)
    broken: list[str] = []
    await sale.set_up()
    try:
        try:
            await sale.sell()
        except TimeoutError:
            broken.append(f"I10 every buy has an answer: {_unanswered(sale)}")
        await tree.well()
        findings = await findings_of(sale)
    finally:
        await sale.close()
    await sale.stage.host.call("POST", f"/v1/streams/{sale.stage.stream}/end")
    broken += [f"{f.name} {f.claim}: {f.detail}" for f in findings if f.passed is False]
    broken += [f"protocol: {fault}" for fault in sale.swarm.faults]
    for struck in sale.struck:
        struck.in_flight = sale.history.in_flight(struck.at_ms)
    why = _uncounted(plan, sale.struck, tree)
    return Result(
        seed=plan.seed,
        kind=plan.kind,
        plan=plan.line(),
        verdict="broken" if broken else "not counted" if why else "held",
        buys=sum(1 for written in sale.history.written_ns if written),
        orders=sum(1 for order in sale.history.order if order),
        bundles=sum(1 for asked in sale.bundles.asked if asked.bundle),
        seconds=round(time.monotonic() - started, 2),
        resolved_s=sale.resolved_s,
        slowest_s=round(sale.swarm.slowest_ns / 1e9, 2),
        struck=sale.struck,
        broken=broken,
        why=why,
    )


def _unanswered(sale: Sale) -> str:
    history = sale.history
    return examples(
        f"{history.keys[n]} of {viewer.number}"
        for viewer in sale.swarm.viewers
        for n in history.of_viewer(viewer.number)
        if history.sent_ns[n] and not history.final_ns[n]
    )


# --- does it count? ---


def _uncounted(plan: Plan, struck: list[Struck], tree: Tree) -> str:
    """Why a run proves nothing, or ''."""
    for one in struck:
        if not one.evidence:
            return f"{one.what} did not fire"
        died = re.match(r"pid (\d+) ended", one.evidence)
        if died and not tree.death_noted(int(died[1])):
            return f"no log has the death of pid {died[1]}"
    if len(struck) < len(plan.strikes):
        return "a fault was not begun"
    crowd = max((one.in_flight for one in struck if one.kind == plan.kind), default=0)
    return "" if crowd >= IN_FLIGHT_MIN else f"{crowd} buys in flight at {plan.kind}"


# --- do the invariants hold? ---


async def findings_of(sale: Sale) -> list[Finding]:
    """The audit at rest, what viewers know, and a last crowd that buys what is left."""
    target = sale.target
    sale.resolved_s = resolved_s = await _resolved(sale)
    await all_ended(sale)
    found, other = [
        await audit(
            target.database_url, offer, history,
            http_url=target.http, gate_url=target.gate_url, rest_wait_s=REST_S,
        )
        for offer, history in zip(sale.offers, (sale.history, sale.other), strict=True)
    ]  # fmt: skip
    found.findings += [replace(f, claim=f"{f.claim} (the offer beside)") for f in other.findings]
    found.findings.append(await audit_bundles(target.database_url, sale.bundles.asked))
    found.findings.append(
        Finding(
            "I11",
            f"every hold without a row is resolved within {RESOLVED_S:g} s",
            resolved_s <= RESOLVED_S,
            f"after {resolved_s:.1f} s",
        )
    )
    found.findings += await _told(sale)
    if found.passed and sale.plan.close is None:
        found.findings += await _buy_the_rest(sale, found)
    return found.findings


async def _resolved(sale: Sale) -> float:
    """How long it takes until the gate has no hold without a row."""
    started = time.monotonic()
    async with aclosing(Gates(sale.target.gate_url)) as gates:
        for name in sale.gates:
            while (gate := await gates.read(name)) and gate.unwritten:
                if time.monotonic() - started > REST_S:
                    break
                await asyncio.sleep(POLL_S)
    return round(time.monotonic() - started, 2)


async def all_ended(sale: Sale) -> None:
    """Where holds are short, wait until the last order was paid, cancelled, or has expired."""
    if sale.plan.payment == "none" or sale.plan.hold_s > LONG_HOLD_S:
        return
    connection = await asyncpg.connect(sale.target.database_url)
    open_sql = "select count(*) from orders where offer = any($1) and status = 'reserved'"
    ends = time.monotonic() + sale.plan.hold_s + REST_S
    try:
        while await connection.fetchval(open_sql, sale.offers):
            if time.monotonic() > ends:
                return  # the audit says which
            await asyncio.sleep(POLL_S)
    finally:
        await connection.close()


async def _told(sale: Sale) -> list[Finding]:
    """Viewers who are there know their orders, and are at the same place of the event log."""
    connection = await asyncpg.connect(sale.target.database_url)
    rows_sql = "select id, viewer, status from orders where offer = any($1)"
    try:
        rows = await connection.fetch(rows_sql, sale.offers)
    finally:
        await connection.close()
    ends = time.monotonic() + TOLD_S
    asked: dict[str, list[str]] = {}
    endings = (sale.history.endings, sale.other.endings)
    for ask in (ask for one in endings for ask in one.asks):
        took_ms = ask.answered_ms - ask.sent_ms if ask.answered_ms else None
        asked.setdefault(ask.order, []).append(f"{ask.what}: {ask.answer or None} in {took_ms} ms")
    while True:
        viewers = [
            viewer
            for viewer in sale.swarm.viewers
            if viewer.phase == READY and not viewer.gone and viewer.number not in sale.swarm.deaf
        ]
        names = {sale.history.viewers[viewer.number] for viewer in viewers}
        latest: dict[str, tuple[int, str]] = {}
        for news in (news for one in endings for news in one.news):
            latest[news.order] = max(latest.get(news.order, (0, "")), (news.version, news.status))
        unknown = [
            f"{row['id']} of {row['viewer']} is {row['status']},"
            f" told {latest.get(row['id'], (0, 'nothing'))[1]}; asked {asked.get(row['id'])}"
            for row in rows
            if row["viewer"] in names and latest.get(row["id"], (0, ""))[1] != row["status"]
        ]
        places = {(viewer.epoch, viewer.seq) for viewer in viewers}
        if (not unknown and len(places) <= 1) or time.monotonic() > ends:
            break
        await asyncio.sleep(POLL_S)
    return [
        Finding("told", "who is there knows its orders", not unknown, examples(unknown)),
        Finding(
            "I7", "all are at one place of the log", len(places) <= 1, examples(map(str, places))
        ),
    ]


async def _buy_the_rest(sale: Sale, found: Audit) -> list[Finding]:
    """I5 asked of the server itself: at rest exactly what is left is sold, and then no more."""
    target, left = sale.target, found.quantity - found.live
    qty = sale.plan.per_viewer
    buys = min(PROBES_MAX, left // qty + 3)
    tag = f"rest-{secrets.token_hex(3)}"
    history = History([f"{tag}-{n}" for n in range(buys)], 1, qty, tag)
    tokens = [make_token(target.secret, viewer, "viewer") for viewer in history.viewers]
    crowd = HttpCrowd(target.http, tokens, history, 16, PATIENCE)
    crowd.build(sale.stage.offer)
    try:
        await crowd.connect(CONNECT_S)
        await crowd.volley()
        async with asyncio.timeout(ANSWERS_S):
            await history.done.wait()
    finally:
        await crowd.close()
    sold = sum(1 for order in history.order if order)
    due = min(buys, left // qty)
    others = sorted(set(history.tally) - {"order.reserved", "order.confirmed", "sold_out"})
    lapsed = await _lapsed(sale, history.viewers)
    whole = await audit(
        target.database_url, sale.stage.offer, http_url=target.http, gate_url=target.gate_url,
        rest_wait_s=REST_S,
    )  # fmt: skip
    return [
        Finding(
            "I5",
            "at rest exactly what is left is sold",
            due <= sold <= due + lapsed and not others,
            f"{left} left, {buys} buys of {qty}: {sold} sold, {due} due,"
            f" {lapsed} expired meanwhile {others or ''}",
        ),
        *(finding for finding in whole.findings if finding.passed is False),
    ]


async def _lapsed(sale: Sale, viewers: list[str]) -> int:
    """How many orders of these viewers have expired: their units could be sold once more."""
    connection = await asyncpg.connect(sale.target.database_url)
    expired_sql = "select count(*) from orders where viewer = any($1) and status = 'expired'"
    try:
        return int(await connection.fetchval(expired_sql, viewers))
    finally:
        await connection.close()
