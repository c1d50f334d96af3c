"""Who publishes a stream's video (migration 0022): the calls of its SQL functions.

Owns no rule; those are in `functions/15_ingest.sql`. Called by `changes` (what starts or ends a
stream), by the keeper and by routes. Raises `LedgerAway` as the ledger does.
"""

from __future__ import annotations

from orders.ledger.ledger import Ledger
from orders.ledger.queries import load

SQL = load("orders.ledger", "sql/ingest.sql")


async def stream_of(ledger: Ledger, key_hash: bytes, before: bool = False) -> str | None:
    """Return the stream that a key is of, None when it is nobody's; `before`: or was, till now."""
    rows = await ledger.rows(SQL["stream_by_key"], key_hash, before)
    return str(rows[0]["stream"]) if rows else None


async def rekey(ledger: Ledger, stream: str, key_hash: bytes) -> str:
    """Give a stream another key; `ok`, or `not_found` or `conflict` (it has ended)."""
    return await ledger.word("key_ingest", stream, key_hash)


async def stop(ledger: Ledger, stream: str, session: str | None, grace_s: float) -> str:
    """Note that a publisher went, None: all of them; the keeper ends the stream after the grace."""
    return await ledger.word("stop_ingest", stream, session, grace_s)


async def due(ledger: Ledger) -> list[str]:
    """Return streams whose grace is over."""
    return [row["stream"] for row in await ledger.rows(SQL["due_ingests"])]
