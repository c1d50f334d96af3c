"""What the ledger is asked about bundles: orders of several offers that are made together or not.

Owns the call of `admit_bundle` and the mapping of its rows; knows no Redis and no policy. Called by
`orders.bundles`. Raises `LedgerAway` as the ledger does: whether the orders were made is then not
known, and calling again with the same key finds out.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from orders.ledger.ledger import Ledger, Line
from orders.ledger.queries import load
from orders.records import Order

SQL = load("orders.ledger", "sql/orders.sql")


class BundleLine(msgspec.Struct, frozen=True):
    """A held line of a bundle that asks for a row: which offer, held under which epoch."""

    offer: str
    epoch: int
    line: Line


class Judged(msgspec.Struct, frozen=True):
    """What admission says of one line; `word` is None when another line is why it was refused."""

    word: str | None
    left: int
    version: int
    told: bool  # facts wait to be published
    order: Order | None  # that has this key, made now or before


class BundleLedger:
    """Asks Postgres about bundles."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def admit(self, bundle: str, lines: Sequence[BundleLine]) -> list[Judged]:
        """Make an order of each line, or none; committed when it returns (R3)."""
        first = lines[0].line  # viewer and key are the same in all
        rows = await self._ledger.rows(
            "select b.word, b.left_units, b.offer_version, b.told, (b.now).*"
            " from admit_bundle($1, $2, $3, $4, $5, $6, $7, $8) b",
            bundle,
            first.viewer,
            first.key,
            [line.offer for line in lines],
            [line.epoch for line in lines],
            [line.line.id for line in lines],
            [line.line.qty for line in lines],
            [line.line.rank for line in lines],
        )
        return [_judged(row) for row in rows]

    async def orders(self, bundles: Sequence[str]) -> dict[str, list[Order]]:
        """Return the orders of those of the bundles that exist."""
        found: dict[str, list[Order]] = {}
        for row in await self._ledger.rows(SQL["orders_of_bundles"], list(bundles)):
            found.setdefault(row["bundle"], []).append(Order(**row))
        return found


def _judged(row: asyncpg.Record) -> Judged:
    word, left, version, told, *columns = row.items()
    order = None if row["id"] is None else Order(**dict(columns))
    return Judged(word[1], left[1], version[1], told[1], order)
