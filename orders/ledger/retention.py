"""What grows by itself: partitions made ahead of time, and old rows that nobody needs any more.

Owns both duties; decides nothing by itself: what goes, and how old it must be, is the caller's.
Called by the keeper and by `livecart prune`. Raises `LedgerAway` as the ledger does.
"""

from __future__ import annotations

from collections.abc import Iterable

from orders.ledger.ledger import Ledger
from orders.ledger.queries import load

SCHEMA = load("orders.ledger", "sql/schema.sql")
SQL = load("orders.ledger", "sql/retention.sql")
#: Rows that one transaction deletes; others have their turn in between.
BATCH = 2_000
#: What may go, by its name: how many rows of it are that old, and how a batch of them is deleted.
PRUNED = ("facts", "payment_events")


async def make_partition(ledger: Ledger) -> bool:
    """Make the next partition that is lacking; tell whether one was."""
    return (await ledger.rows(SCHEMA["make_partition"]))[0][0] is not None


async def count(ledger: Ledger, older_than_days: int) -> dict[str, int]:
    """Return how many rows `prune` would delete."""
    return {name: (await ledger.rows(SQL[f"old_{name}"], older_than_days))[0][0] for name in PRUNED}


async def prune(
    ledger: Ledger, older_than_days: int, names: Iterable[str] = PRUNED, batch: int = BATCH
) -> dict[str, int]:
    """Delete what is that old, batch by batch; return how many rows of each went."""
    gone: dict[str, int] = {}
    for name in names:
        gone[name] = 0
        while found := (await ledger.rows(SQL[f"prune_{name}"], older_than_days, batch))[0][0]:
            gone[name] += found
    return gone
