"""What the ledger is asked about draws: what came of one, and who took part.

Owns the reads and the mapping of rows; a draw is made, entered and held by functions in Postgres.
The secret is in none of these reads. Called by `livecart`. Raises `LedgerAway` as the ledger does.
"""

from __future__ import annotations

from orders.draws import Draw, DrawEntry
from orders.ledger.ledger import Ledger
from orders.ledger.queries import load

SQL = load("orders.ledger", "sql/draws.sql")


async def draw_of(ledger: Ledger, offer: str) -> Draw | None:
    """Return the draw of an offer; None: it has none."""
    rows = await ledger.rows(SQL["draw"], offer)
    return Draw(**rows[0]) if rows else None


async def draw_entries(
    ledger: Ledger, offer: str, viewer: str | None, after_place: int, limit: int
) -> list[DrawEntry]:
    """Return a page of who took part, lowest score first; None does not filter."""
    rows = await ledger.rows(SQL["draw_entries"], offer, viewer, after_place, limit)
    return [DrawEntry(**row) for row in rows]
