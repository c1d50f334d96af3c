"""The buckets of an offer whose units are spread, as the audit sees them.

They are rows of `offers` that name their offer, each with a gate of its own.

Owns the reading of them and what must hold between them and their offer. It knows the documented
names in SQL and nothing of `orders`; an older schema has no such rows. Called by audit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from loadtest.judge import Breach, Finding, OfferRow, finding

#: Each bucket beside the sum over the live orders in it, in one statement and so in one snapshot.
PARTS_SQL = """
select p.id, p.quantity, p.taken, p.per_viewer, p.epoch, p.status, coalesce(l.units, 0) as live,
       coalesce(l.ids, '{}') as ids
from offers p left join (
    select (to_jsonb(r) ->> 'bucket')::int as bucket, sum(r.qty)::bigint as units,
           array_agg(r.id) as ids
    from orders r where r.offer = $1 and r.status in ('reserved', 'confirmed', 'shipped')
    group by 1) l on l.bucket = (to_jsonb(p) ->> 'bucket')::int
where to_jsonb(p) ->> 'parent' = $1 order by p.id
"""


@dataclass(slots=True, frozen=True)
class Part:
    """One bucket with its live orders; or an offer that has none, as its only part."""

    id: str
    row: OfferRow
    live: frozenset[str]


async def parts_of(connection: asyncpg.Connection, offer: str) -> list[Part]:
    """Return the buckets of an offer; none of one that has a gate itself."""
    found = []
    for row in await connection.fetch(PARTS_SQL, offer):
        id_, *figures, ids = row.values()
        found.append(Part(id_, OfferRow(*figures), frozenset(ids)))
    return found


def judge_parts(
    whole: OfferRow, parts: list[Part], beyond: Sequence[Breach] = (), began_ms: int = 0
) -> Finding:
    """Judge the buckets in one snapshot: their units are the offer's, and none oversold.

    `beyond`: orders that went beyond the quantity of the whole.
    """
    wrong = [
        Breach(
            f"{part.id}: live {part.row.live}, taken {part.row.taken},"
            f" quantity {part.row.quantity}",
            at_ms=time.time_ns() // 1_000_000,
        )
        for part in parts
        if not part.row.live == part.row.taken <= part.row.quantity
    ]
    for name in ("quantity", "live"):
        units = sum(getattr(part.row, name) for part in parts)
        if units != getattr(whole, name):
            wrong.append(Breach(f"{name} {getattr(whole, name)}, of its buckets {units}"))
    return finding(
        "I1",
        f"live quantity = taken ≤ quantity in each of {len(parts)} buckets, and in sum",
        [*beyond, *wrong],
        began_ms,
        f"live {whole.live}, quantity {whole.quantity}",
    )
