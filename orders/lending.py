"""Units that go from one bucket of an offer to another, each transfer under an id of its own.

Owns the order of steps: the lender's gate sets units aside, one transaction moves them, both gates
follow. Between the first and the second step they are an unwritten hold: what becomes of one whose
process dies there is decided as of every hold, behind a fence (R1). After the second the movements
at both ends say it all, and the keeper applies what nobody did (R4). In Postgres units are never
under way: who asks there whether an offer is sold out counts all of them. Called by borrowing and
keeper. Raises `LedgerAway`, and `GateAway` or `GateBroken` of the borrower's gate; what was begun
is then finished elsewhere. A lender whose gate is away is passed over.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping

from orders import failpoints, metrics
from orders.health import GateHealth
from orders.ledger.ledger import Ledger
from orders.rebuild import Rebuilder
from orders.stock.gate import Frozen, Gate, GateAway, GateBroken

log = logging.getLogger(__name__)

PREFIX = "tf_"
LENDER_S = 0.4  # for a lender's gate to answer: another bucket may have what is needed


class Lending:
    """Moves units between the buckets of offers."""

    def __init__(
        self, gate: Gate, ledger: Ledger, rebuilder: Rebuilder, health: GateHealth | None = None
    ) -> None:
        self._gate = gate
        self._ledger = ledger
        self._rebuilder = rebuilder
        self._health = health  # None: who asks comes again later anyway

    async def borrow(self, home: str, free: Mapping[str, int], need: int) -> int:
        """Bring about `need` units to a bucket, most from where most are free; return how many.

        `free`: units by bucket, as Postgres has them; some may be held and not written yet.
        """
        moved = 0
        for lender in sorted(free, key=lambda bucket: -free[bucket]):
            if moved >= need or free[lender] < 1:
                break
            if lender != home and self._well(lender):
                moved += await self._from(lender, home, need - moved)
        if not moved and free.get(home, 0) > 0:
            await self._rebuilder.follow(home)  # it may have come, and the gate not know
        return moved

    async def _from(self, lender: str, home: str, need: int) -> int:
        id_ = PREFIX + secrets.token_hex(12)
        try:
            async with asyncio.timeout(LENDER_S):
                lent = await self._gate.lend(lender, id_, need)
        except (GateAway, GateBroken, TimeoutError) as error:
            self._failed(lender, error)
            return 0  # what it may have set aside all the same, the keeper gives back
        if isinstance(lent, Frozen) or lent.units < 1:
            return 0
        await failpoints.reach("lend.held")
        word = await self._ledger.transfer(id_, lender, home, lent.units, lent.epoch, lent.rank)
        if word != "ok":
            log.info("%d units of %s stay there: %s", lent.units, lender, word)
            await self._gate.release(lender, lent.epoch, [(id_, lent.rank)])
            return 0
        metrics.LENT.inc(lent.units)
        await failpoints.reach("transfer.committed")
        await self._rebuilder.follow(home)
        await failpoints.reach("transfer.borrowed")
        try:
            async with asyncio.timeout(LENDER_S):
                await self._rebuilder.follow(lender)
        except (GateAway, GateBroken, TimeoutError) as error:
            self._failed(lender, error)
        return lent.units

    def _well(self, bucket: str) -> bool:
        return self._health is None or self._health.well(bucket)

    def _failed(self, lender: str, error: Exception) -> None:
        log.warning("%s cannot lend, or does not know that it did: %r", lender, error)
        if self._health is not None and not isinstance(error, GateBroken):
            self._health.failed(lender, error)
