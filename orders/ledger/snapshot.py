"""An offer and all its orders as of one moment, read in pages: what a gate is built from (R2).

Owns the REPEATABLE READ transaction and its end. Called by rebuild alone. Raises `LedgerAway`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from asyncpg.cursor import Cursor

from orders.ledger.ledger import SQL, Ledger, LedgerAway, offer_of, transient
from orders.records import Offer

PAGE = 500  # orders at a time: whoever shares this process waits for milliseconds, not for all
SNAPSHOT_S = 30.0  # for all of it, what is done between the pages included


class Snapshot:
    """The offer's row, the ranks below which none is given, and its orders, a page at a time."""

    def __init__(self, offer: Offer, rank_floor: int, orders: Cursor[Any]) -> None:
        self.offer = offer
        self.rank_floor = rank_floor
        self._orders = orders

    async def pages(self) -> AsyncIterator[list[asyncpg.Record]]:
        """Yield (id, viewer, key, qty, rank, live) of every order, terminal ones too."""
        while page := await self._orders.fetch(PAGE):
            yield page


@asynccontextmanager
async def snapshot(ledger: Ledger, offer: str) -> AsyncIterator[Snapshot | None]:
    """Open a snapshot; None: there is no such offer. No lock is held meanwhile."""
    try:
        async with (
            asyncio.timeout(SNAPSHOT_S),
            ledger.pool.acquire(timeout=ledger.acquire_s) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            found = await connection.fetch(SQL["offers_by_id"], [offer])
            if not found:
                yield None
                return
            rank_floor = await connection.fetchval(SQL["rebuild_floor"], offer)
            orders = await connection.cursor(SQL["rebuild_orders"], offer)
            yield Snapshot(offer_of(found[0]), rank_floor, orders)
    except Exception as error:
        if transient(error):
            raise LedgerAway(repr(error)) from error
        raise
