"""The keeper: finishes what a crash, a pause or the clock left undone.

Owns expiry, scheduled opening and closing, holds without a row (R1), the gate's lag (R4, R7), its
rebuild (R2), and the publishing of facts that nobody published (R9). Each effect is conditional in
Postgres or in a script, so two keepers at once are harmless; `livecart` runs one leader (R10).
Knows no sockets; what it commits it tells to its listener.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence

import msgspec

from orders import metrics
from orders.changes import Changes
from orders.ledger.ledger import Ledger, LedgerAway
from orders.rebuild import Rebuilder
from orders.records import Listener
from orders.stock.gate import Frozen, Gate, GateAway, GateBroken, Standing

log = logging.getLogger(__name__)


class KeeperLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How often the keeper looks and how much it does at once."""

    round_s: float = 0.25
    grace_ms: int = 2_000  # a hold without a row is nobody's business before (R1)
    stale_max: int = 2_000  # holds resolved in one round of one offer
    expire_max: int = 1_000  # orders ended under one lock
    offers_at_once: int = 8
    building_s: float = 2.0  # how long a rebuild of another process is left alone


class Keeper:
    """Looks after all offers, round by round."""

    def __init__(
        self,
        ledger: Ledger,
        gate: Gate,
        changes: Changes,
        rebuilder: Rebuilder,
        listener: Listener,
        limits: KeeperLimits | None = None,
    ) -> None:
        self._ledger = ledger
        self._gate = gate
        self._changes = changes
        self._rebuilder = rebuilder
        self._listener = listener
        self.limits = limits or KeeperLimits()
        self._behind_since: dict[str, float] = {}  # offers whose gate is of an older epoch

    async def run(self) -> None:
        """Look after the offers until cancelled; outages are waited out."""
        loop = asyncio.get_running_loop()
        away = False
        while True:
            started = loop.time()
            try:
                await self.round()
                if away:
                    log.warning("the keeper is at work again")
                away = False
            except (LedgerAway, GateAway) as error:
                if not away:
                    log.warning("the keeper waits: %s", error)
                away = True
            metrics.KEEPER_ROUND_S.observe(loop.time() - started)
            await asyncio.sleep(max(0.02, self.limits.round_s - (loop.time() - started)))

    async def round(self) -> None:
        """Do once all that is due. Raises `LedgerAway` or `GateAway`; the next round goes on."""
        errors: list[BaseException] = []
        for duty in (self.open_and_close, self.look_after_gate, self.expire, self.publish):
            try:
                await duty()
            except (LedgerAway, GateAway) as error:
                errors.append(error)  # Redis being away must not stop what needs Postgres alone
        if errors:
            raise errors[0]

    async def open_and_close(self) -> None:
        """Open and close scheduled offers whose time has come, by Postgres' clock (R8)."""
        due = await self._ledger.due_offers()
        await _each([self._open_or_close(offer, closes) for offer, _, closes in due])

    async def _open_or_close(self, offer: str, closes: bool) -> None:
        if closes:
            await self._changes.close_offer(offer, "scheduled", if_due=True)
        else:
            await self._changes.open_offer(offer, if_due=True)

    async def publish(self) -> None:
        """Publish facts that were committed and not published (R9)."""
        for stream in await self._ledger.lagging_streams():
            self._listener.told(stream)

    async def expire(self) -> None:
        """End reserved orders past their deadline, then give their units back in the gate."""
        due = await self._ledger.due_order_offers()
        metrics.KEEPER_LAG_S.set(max((late for _, late in due), default=0) / 1000)
        await _each([self._expire(offer) for offer, _ in due])

    async def _expire(self, offer: str) -> None:
        while ids := await self._ledger.expire(offer, self.limits.expire_max):
            metrics.EXPIRED.inc(len(ids))
            orders = await self._ledger.orders(ids)
            self._listener.changed(orders)
            await self._changes.settle(offer, orders[0].stream)

    # --- the gate --------------------------------------------------------------------------------

    async def look_after_gate(self) -> None:
        """Compare the gate with the ledger, offer by offer, and mend what differs."""
        offers = await self._ledger.active_offers()
        known = {offer for offer, *_ in offers}
        for gone in self._behind_since.keys() - known:
            del self._behind_since[gone]
        unwritten, stale = 0, 0
        slots = asyncio.Semaphore(self.limits.offers_at_once)

        async def look_after(offer: str, epoch: int, movement: int, closed: bool) -> None:
            nonlocal unwritten, stale
            async with slots:
                standing = await self._look_after(offer, epoch, movement, closed)
            if standing is not None:
                unwritten += standing.unwritten
                stale += len(standing.stale)

        await _each([look_after(*offer) for offer in offers])
        metrics.UNWRITTEN.set(unwritten)
        metrics.UNRESOLVED.set(stale)

    async def _look_after(
        self, offer: str, epoch: int, movement: int, closed: bool
    ) -> Standing | None:
        try:
            standing = await self._gate.probe(offer, self.limits.grace_ms, self.limits.stale_max)
            if isinstance(standing, Frozen):
                if closed:  # it is answered from its rows: there is nothing to tell the gate
                    await self._gate.forget(offer)
                    await self._ledger.gate_told(offer, movement)
                else:
                    await self._rebuild(offer, standing.epoch, epoch)
                return None
            if standing.epoch != epoch and not closed:
                await self._rebuild(offer, standing.epoch, epoch)
                return standing
            self._behind_since.pop(offer, None)
            if standing.movement < movement or closed:
                await self._rebuilder.follow(offer)
            if standing.stale:
                await self.resolve(offer, standing)
        except GateBroken as error:
            log.error("%s is frozen until the next round: %s", offer, error)
            return None
        return standing

    async def _rebuild(self, offer: str, gate_epoch: int, epoch: int) -> None:
        """Rebuild, unless another process seems to be at it."""
        now = asyncio.get_running_loop().time()
        since = self._behind_since.setdefault(offer, now)
        waiting_for_another = 0 < gate_epoch < epoch
        if now - since >= (self.limits.building_s if waiting_for_another else 0.0):
            del self._behind_since[offer]
            await self._rebuilder.rebuild(offer, gate_epoch)

    async def resolve(self, offer: str, standing: Standing) -> None:
        """Resolve holds that nobody finished: mark those that have a row, give the rest back (R1).

        The fence is committed before the rows are read: after that no admission under these ranks
        can make a row, so a missing row proves that there will be none.
        """
        highest = max(rank for _, rank in standing.stale)
        if not await self._ledger.fence(offer, standing.epoch, highest):
            return  # a rebuild is under way, which knows the rows itself
        orders = await self._ledger.orders([id_ for id_, _ in standing.stale])
        rows = {order.id: order.viewer for order in orders}
        orphans = [(id_, rank) for id_, rank in standing.stale if id_ not in rows]
        if rows:
            await self._gate.hold(offer, list(rows.items()), [])
        if orphans:
            released = await self._gate.release(offer, standing.epoch, orphans)
            if not isinstance(released, Frozen):
                metrics.FENCED.inc(released)
                log.info("gave back %d holds of %s that have no row", released, offer)


async def _each(work: Sequence[Coroutine[object, object, None]]) -> None:
    """Await all, so that one offer's trouble is not another's; then raise the first outage."""
    found = await asyncio.gather(*work, return_exceptions=True)
    for error in found:
        if isinstance(error, BaseException) and not isinstance(error, LedgerAway | GateAway):
            log.error("an offer could not be looked after", exc_info=error)
    for error in found:
        if isinstance(error, LedgerAway | GateAway):
            raise error
