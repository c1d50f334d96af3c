"""The audit of a draw: every score computed again, and who had to win by them.

Owns what must hold of a draw before and after it is held, judged with `hashlib` and `hmac` alone.
It knows the documented names in SQL and nothing of `orders`. Called by audit.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import asyncpg

from loadtest.judge import Finding, examples

DRAW_SQL = """
select o.seed_hash, o.seed, encode(d.seed, 'hex') as secret, d.entries, d.winners, d.units,
       (select f.body ->> 'seed_hash' from facts f where f.subject = o.id order by f.n limit 1)
           as first_told,
       (select coalesce(sum(m.units), 0) from movements m where m.offer = o.id
           and m.kind = 'quantity' and m.n < coalesce(
               (select min(b.n) from movements b where b.offer = o.id and b.kind = 'state'
                   and b.reason = 'opened'), 0)) as quantity
from offers o join draws d on d.offer = o.id where o.id = $1
"""
ENTRIES_SQL = """
select viewer, qty, score, rank, won from draw_entries where offer = $1 order by place
"""
#: What the draw itself handed over.
DRAWN_SQL = """
select r.viewer, r.qty, r.rank from movements m join orders r on r.id = m.order_id
where m.offer = $1 and m.kind = 'take' and m.reason = 'drawn' order by m.n
"""
#: Orders, which nobody may have before it.
ORDERS_SQL = "select count(*) from orders where offer = $1"


async def judge_draw(connection: asyncpg.Connection, offer: str) -> list[Finding]:
    """Judge an offer's draw in the snapshot that the connection has open; nothing for a sale."""
    row = await connection.fetchrow(DRAW_SQL, offer)
    if row is None:
        return []
    entries = await connection.fetch(ENTRIES_SQL, offer)
    drawn = await connection.fetch(DRAWN_SQL, offer)
    kept = hashlib.sha256(bytes.fromhex(row["secret"])).hexdigest() == row["seed_hash"]
    told = row["first_told"] in (None, row["seed_hash"]) and row["seed"] in (None, row["secret"])
    findings = [
        Finding("draw", "the seed is the one committed to", kept and told, row["seed_hash"])
    ]
    if row["seed"] is None:
        orders = await connection.fetchval(ORDERS_SQL, offer)
        sold = f"{len(entries)} drawn, {orders} orders"
        claim = "nobody has anything before the draw"
        return [*findings, Finding("draw", claim, not entries and not orders, sold)]
    return [*findings, *_held(bytes.fromhex(row["seed"]), row, entries, drawn)]


def _held(
    seed: bytes,
    row: asyncpg.Record,
    entries: Sequence[asyncpg.Record],
    drawn: Sequence[asyncpg.Record],
) -> list[Finding]:
    """Judge what a draw that was held found."""
    scores = {e["viewer"]: hmac.digest(seed, e["viewer"].encode(), "sha256") for e in entries}
    wrong = [e["viewer"] for e in entries if e["score"] != scores[e["viewer"]]]
    by_score = sorted(entries, key=lambda e: scores[e["viewer"]])
    ranks = [e["rank"] for e in entries]
    left = row["quantity"]
    had_to_win = []
    for entry in by_score:
        if entry["qty"] <= left:
            left -= entry["qty"]
            had_to_win.append((entry["viewer"], entry["qty"], entry["rank"]))
    won = [(e["viewer"], e["qty"], e["rank"]) for e in entries if e["won"]]
    got = [tuple(one) for one in drawn]
    counts = (row["entries"], row["winners"], row["units"])
    return [
        Finding(
            "draw",
            "scores are HMAC-SHA256(seed, viewer), one a viewer, in order, as their ranks are",
            not wrong
            and len(scores) == len(entries)
            and [e["viewer"] for e in entries] == [e["viewer"] for e in by_score]
            and ranks == sorted(set(ranks)),
            examples(wrong),
        ),
        Finding(
            "draw",
            "exactly the lowest that fit won, and have an order each",
            had_to_win == won == got,
            examples(str(one) for one in {*had_to_win} ^ {*got}),
        ),
        Finding(
            "draw",
            "what is told of it is what was found",
            counts == (len(entries), len(won), row["quantity"] - left),
            str(counts),
        ),
    ]
