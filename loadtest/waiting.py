"""The audit of the waitlist (R12), by queries of its own.

Owns what must hold of entries and of the orders that came of them, in any snapshot of Postgres:
units are handed over in the transaction that frees them, so there is no moment at which it may be
untrue. It knows the documented names in SQL and nothing of `orders`. Called by audit.
"""

from __future__ import annotations

import asyncpg

from loadtest.judge import Finding, examples

_LIVE = "('reserved', 'confirmed', 'shipped')"

#: The row that an entry lives under: the offer's, or its bucket's where it is in one.
_HOME = "w.offer || coalesce('~' || nullif((to_jsonb(w) ->> 'bucket')::int, 0), '')"
#: Who would have to have units by now: they are free, he may have them, and the offer sells.
FITS_SQL = f"""
select w.viewer, w.qty, o.quantity - o.taken as free
from waitlist w join offers o on o.id = {_HOME}
where w.offer = $1 and w.left_at is null and w.qty <= o.quantity - o.taken
  and o.status in ('open', 'sold_out') and (o.closes_at is null or o.closes_at > now())
  and w.qty + coalesce((select sum(r.qty) from orders r where r.offer = w.offer
                        and r.viewer = w.viewer and r.status in {_LIVE}), 0) <= o.per_viewer
  and not exists (select 1 from standings s where s.stream = o.stream and s.viewer = w.viewer
                  and s.banned)
order by w.rank
"""
#: The offer's own figures beside its entries.
COUNT_SQL = """
select o.status,
       coalesce((select sum(p.waiting) from offers p where to_jsonb(p) ->> 'parent' = o.id),
                o.waiting) as waiting, o.waitlist_max,
       (select count(*) from waitlist w where w.offer = o.id and w.left_at is null) as entries,
       (select count(distinct w.viewer) from waitlist w
        where w.offer = o.id and w.left_at is null) as viewers
from offers o where o.id = $1
"""
#: Entries that have what they wait for, or stand where somebody else does.
SHARED_SQL = """
select w.viewer, r.id from waitlist w join orders r on r.offer = w.offer
   and (r.rank = w.rank or (r.viewer = w.viewer and r.key = w.key))
where w.offer = $1 and w.left_at is null
union all
select w.viewer, b.viewer from waitlist w join waitlist b on b.offer = w.offer
   and b.rank = w.rank and b.viewer > w.viewer and b.left_at is null
where w.offer = $1 and w.left_at is null
"""
#: Movements that hand units over, and are not one order of just so many of them.
TAKEN_SQL = """
select m.n, m.order_id from movements m
where (m.offer = $1 or m.offer like $1 || '~%') and m.kind = 'take'
  and (not exists (select 1 from orders r where r.id = m.order_id and r.offer = $1
                   and r.qty = -m.units)
       or exists (select 1 from movements b where b.offer = m.offer and b.n < m.n
                  and b.order_id = m.order_id))
"""


async def judge_waitlist(connection: asyncpg.Connection, offer: str) -> list[Finding]:
    """Judge an offer's waitlist in the snapshot that the connection has open."""
    fits = await connection.fetch(FITS_SQL, offer)
    row = await connection.fetchrow(COUNT_SQL, offer)
    shared = await connection.fetch(SHARED_SQL, offer)
    taken = await connection.fetch(TAKEN_SQL, offer)
    assert row is not None
    counted = row["waiting"] == row["entries"] == row["viewers"]
    bounded = row["entries"] <= (0 if row["status"] == "closed" else row["waitlist_max"])
    return [
        Finding(
            "R12",
            "nobody who fits waits beside free units",
            not fits,
            examples(f"{r['viewer']} waits for {r['qty']} of {r['free']} free" for r in fits),
        ),
        Finding(
            "R12",
            "entries are counted, bounded, one a viewer, and gone once it is closed",
            counted and bounded,
            f"{row['status']}: {row['waiting']} counted, {row['entries']} entries of"
            f" {row['viewers']} viewers, {row['waitlist_max']} allowed",
        ),
        Finding(
            "R12",
            "no entry has the key of its viewer's order, nor anybody's rank",
            not shared,
            examples(f"{r[0]} and {r[1]}" for r in shared),
        ),
        Finding(
            "R12",
            "what was handed over is an order, once",
            not taken,
            examples(f"movement {r['n']}: {r['order_id']}" for r in taken),
        ),
    ]
