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
from collections.abc import Coroutine, Mapping

from orders import failpoints, metrics
from orders.deadline import within
from orders.health import GateHealth
from orders.ledger.ledger import Ledger, LedgerAway
from orders.rebuild import Rebuilder
from orders.stock.gate import Frozen, Gate, GateAway, GateBroken, Lent

log = logging.getLogger(__name__)

PREFIX = "tf_"
LENDER_S = 0.4  # for a lender's gate to answer: another bucket may have what is needed


class Lending:
    """Moves units between the buckets of offers."""

    def __init__(
        self, gate: Gate, ledger: Ledger, rebuilder: Rebuilder, health: GateHealth
    ) -> None:
        self._gate = gate
        self._ledger = ledger
        self._rebuilder = rebuilder
        self._health = health
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def under_way(self) -> bool:
        """Tell whether something is left to be done of transfers that nobody waits for."""
        return bool(self._tasks)

    def within_reach(self, free: Mapping[str, int]) -> dict[str, int]:
        """Return those of the buckets whose gates answer, as far as is known."""
        return {bucket: n for bucket, n in free.items() if self._health.well(bucket)}

    async def borrow(self, home: str, free: Mapping[str, int], need: int) -> int:
        """Bring about `need` units to a bucket, most from where most are free; return how many.

        `free`: units by bucket, as Postgres has them; some may be held and not written yet.
        """
        moved = 0
        for lender in sorted(free, key=lambda bucket: -free[bucket]):
            if moved >= need or free[lender] < 1:
                break
            if lender != home and self._health.well(lender):
                moved += await self._from(lender, home, need - moved)
        if not moved and free.get(home, 0) > 0:
            await self._rebuilder.follow(home)  # it may have come, and the gate not know
        return moved

    async def _from(self, lender: str, home: str, need: int) -> int:
        id_ = PREFIX + secrets.token_hex(12)
        loop = asyncio.get_running_loop()
        call = loop.create_task(self._gate.lend(lender, id_, need, _after(home, lender)))
        if not await within(call, LENDER_S):
            self._spawn(self._late(lender, id_, call))
            return 0
        try:
            lent = call.result()
        except (GateAway, GateBroken) as error:
            # What it may have set aside all the same, the keeper gives back.
            log.warning("%s cannot lend: %r", lender, error)
            if isinstance(error, GateAway):
                self._health.failed(lender, error)
            return 0
        if isinstance(lent, Frozen) or lent.units < 1:
            return 0
        await failpoints.reach("lend.held")
        word = await self._ledger.transfer(id_, lender, home, lent.units, lent.epoch, lent.rank)
        if word != "ok":
            log.info("%d units of %s stay there: %s", lent.units, lender, word)
            self._spawn(self._give_back(lender, id_, lent))
            return 0
        metrics.LENT.inc(lent.units)
        await failpoints.reach("transfer.committed")
        await self._rebuilder.follow(home)
        await failpoints.reach("transfer.borrowed")
        self._spawn(self._follow(lender))  # its gate has them set aside until then
        return lent.units

    async def _late(self, lender: str, id_: str, call: asyncio.Task[Lent | Frozen]) -> None:
        """Wait for units that nobody waits for any more: they were sent to no transfer (R1)."""
        try:
            lent = await call
        except (GateAway, GateBroken) as error:
            log.warning("%s did not lend in time: %r", lender, error)
            self._health.failed(lender, error)
            return
        if isinstance(lent, Lent) and lent.units > 0:
            await self._give_back(lender, id_, lent)

    async def _give_back(self, lender: str, id_: str, lent: Lent) -> None:
        try:
            await self._gate.release(lender, lent.epoch, [(id_, lent.rank)])
        except (GateAway, GateBroken) as error:
            log.warning("%d units of %s are left to the keeper: %s", lent.units, lender, error)

    async def _follow(self, lender: str) -> None:
        try:
            await self._rebuilder.follow(lender)
        except (GateAway, GateBroken, LedgerAway) as error:
            log.warning("the gate of %s does not know yet what it lent: %s", lender, error)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Leave the rest to the keeper."""
        for task in list(self._tasks):
            task.cancel()


def _after(home: str, lender: str) -> bool:
    """Tell whether a bucket comes after another of its offer (lend.lua)."""
    return int(home.rpartition("~")[2]) > int(lender.rpartition("~")[2])
