"""The audit of the waitlist (R12), by queries of its own.

Owns what must hold of entries and of the orders that came of them, in any snapshot of Postgres:
units are handed over in the transaction that frees them, so there is no moment at which it may be
untrue. It knows the documented names in SQL and nothing of `orders`. Called by audit.
"""

from __future__ import annotations

import asyncpg

from loadtest.judge import Finding, finding
from loadtest.postgres import breaches

_LIVE = "('reserved', 'confirmed', 'shipped')"

#: The row that an entry lives under: the offer's, or its bucket's where it is in one.
_HOME = "w.offer || coalesce('~' || nullif((to_jsonb(w) ->> 'bucket')::int, 0), '')"
#: When an entry joined, where the schema says.
_JOINED = "(extract(epoch from (to_jsonb(w) ->> 'joined_at')::timestamptz) * 1000)::bigint"
#: Who would have to have units by now: they are free, he may have them, and the offer sells.
FITS_SQL = f"""
select '' as id, w.key, w.viewer, {_JOINED},
       'waits for ' || w.qty || ' of ' || o.quantity - o.taken || ' free'
from waitlist w join offers o on o.id = {_HOME}
where w.offer = $1 and w.left_at is null and w.qty <= o.quantity - o.taken
  and o.status in ('open', 'sold_out') and (o.closes_at is null or o.closes_at > now())
  and w.qty + coalesce((select sum(r.qty) from orders r where r.offer = w.offer
                        and r.viewer = w.viewer and r.status in {_LIVE}), 0) <= o.per_viewer
  and not exists (select 1 from standings s where s.stream = o.stream and s.viewer = w.viewer
                  and s.banned)
order by w.rank
"""
#: The same over all buckets of a spread offer, which the keeper brings units between: at rest.
FITS_SOMEWHERE_SQL = f"""
select '' as id, w.key, w.viewer, {_JOINED},
       'waits for ' || w.qty || ' of ' || f.free || ' free in all buckets'
from waitlist w join offers o on o.id = w.offer
join (select to_jsonb(p) ->> 'parent' as offer, sum(p.quantity - p.taken) as free
      from offers p where to_jsonb(p) ->> 'parent' = $1 group by 1) f on f.offer = o.id
where w.offer = $1 and w.left_at is null and w.qty <= f.free
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
SHARED_SQL = f"""
select r.id, w.key, w.viewer, {_JOINED} as at_ms, 'has the key, or rank ' || w.rank || ', of '
       || r.id from waitlist w join orders r on r.offer = w.offer
   and (r.rank = w.rank or (r.viewer = w.viewer and r.key = w.key))
where w.offer = $1 and w.left_at is null
union all
select '', w.key, w.viewer, {_JOINED}, 'has rank ' || w.rank || ', as ' || b.viewer || ' has'
from waitlist w join waitlist b on b.offer = w.offer
   and b.rank = w.rank and b.viewer > w.viewer and b.left_at is null
where w.offer = $1 and w.left_at is null order by at_ms
"""
#: Movements that hand units over, and are not one order of just so many of them.
TAKEN_SQL = """
select m.order_id, r.key, r.viewer, (extract(epoch from m.at) * 1000)::bigint,
       'movement ' || m.n || ' of ' || -m.units || ' units: '
       || coalesce('an order of ' || r.qty || ', or its second', 'no order')
from movements m left join orders r on r.id = m.order_id and r.offer = $1
where (m.offer = $1 or m.offer like $1 || '~%') and m.kind = 'take'
  and (not exists (select 1 from orders r where r.id = m.order_id and r.offer = $1
                   and r.qty = -m.units)
       or exists (select 1 from movements b where b.offer = m.offer and b.n < m.n
                  and b.order_id = m.order_id))
order by m.n
"""
#: Orders that were handed over while somebody with a lower rank, who wanted no more, waited beside
#: them: only of viewers without any other order, whom no limit can have kept from it.
PASSED_OVER_SQL = f"""
select r.id, r.key, r.viewer, (extract(epoch from m.at) * 1000)::bigint,
       'served at rank ' || r.rank || '; ' || w.viewer || ' (' || w.key || ') waits at rank '
       || w.rank || ' for ' || w.qty
from waitlist w join movements m on m.kind = 'take' and m.offer = {_HOME}
   join orders r on r.id = m.order_id
   join offers o on o.id = {_HOME}
where w.offer = $1 and w.left_at is null and w.rank < r.rank and w.qty <= r.qty
  and w.qty <= o.per_viewer
  and coalesce((to_jsonb(w) ->> 'joined_at')::timestamptz < m.at, true)
  and not exists (select 1 from orders x where x.offer = w.offer and x.viewer = w.viewer)
  and not exists (select 1 from standings s where s.stream = o.stream and s.viewer = w.viewer)
order by m.n
"""


async def judge_waitlist(
    connection: asyncpg.Connection, offer: str, began_ms: int = 0
) -> list[Finding]:
    """Judge an offer's waitlist in the snapshot that the connection has open."""
    fits = await breaches(connection, FITS_SQL, offer)
    row = await connection.fetchrow(COUNT_SQL, offer)
    shared = await breaches(connection, SHARED_SQL, offer)
    taken = await breaches(connection, TAKEN_SQL, offer)
    passed = await breaches(connection, PASSED_OVER_SQL, offer)
    assert row is not None
    counted = row["waiting"] == row["entries"] == row["viewers"]
    bounded = row["entries"] <= (0 if row["status"] == "closed" else row["waitlist_max"])
    return [
        finding("R12", "nobody who fits waits beside free units", fits, began_ms),
        Finding(
            "R12",
            "entries are counted, bounded, one a viewer, and gone once it is closed",
            counted and bounded,
            f"{row['status']}: {row['waiting']} counted, {row['entries']} entries of"
            f" {row['viewers']} viewers, {row['waitlist_max']} allowed",
        ),
        finding(
            "R12",
            "no entry has the key of its viewer's order, nor anybody's rank",
            shared,
            began_ms,
        ),
        finding("R12", "what was handed over is an order, once", taken, began_ms),
        finding("R12", "who joined first is served first", passed, began_ms),
    ]
