"""The keeper: finishes what a crash, a pause or the clock left undone.

Owns expiry, scheduled opening and closing, the end of streams whose video stopped, holds without a
row (R1), the gate's lag (R4, R7), its rebuild (R2), the publishing of facts that nobody published
(R9), and reconcile in the background (R11). Each effect is conditional in Postgres or in a script,
so two keepers at once are harmless; `livecart` runs one leader (R10). Knows no sockets; what it
commits it tells to its listener.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence

import msgspec

from orders import failpoints, metrics
from orders.changes import Changes
from orders.deadline import end_if_cancelled
from orders.health import GateHealth
from orders.ledger import ingest, sales
from orders.ledger.ledger import Active, Ledger, LedgerAway
from orders.ledger.money import Money
from orders.ledger.retention import make_partition
from orders.lending import PREFIX, Lending
from orders.rebuild import Rebuilder
from orders.reconcile import Reconciler
from orders.records import Listener
from orders.rounds import Rounds
from orders.stock.gate import Frozen, Gate, GateAway, GateBroken, Standing
from orders.whole import sum_up

log = logging.getLogger(__name__)

PARTITIONS_EVERY_S = 3_600.0
LOOK_S = 0.05  # between two looks at the clock, on top of a round


class KeeperLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How often the keeper looks and how much it does at once."""

    round_s: float = 0.25
    grace_ms: int = 2_000  # a hold without a row is nobody's business before (R1)
    lag_grace_s: float = 0.5  # nor is a movement that the gate lacks: who made it may be at it
    stale_max: int = 2_000  # holds resolved in one call
    expire_max: int = 1_000  # orders ended under one lock
    offers_at_once: int = 8
    fault_pause_s: float = 1.0  # before a duty is tried again that failed as nobody foresaw
    building_s: float = 2.0  # how long a rebuild of another process is left alone
    late_every_s: float = 60.0  # between two looks for orders that were not shipped in time


class Keeper:
    """Looks after all offers, each duty in its own time: none waits for another's trouble."""

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
        self._apart_since: dict[str, float] = {}  # offers whose gate is of another epoch
        self._lagging: dict[str, tuple[int, float]] = {}  # movement that the gate stays at, since
        self._rebuilds: dict[str, asyncio.Task[None]] = {}  # under way, by offer
        self.reconciler = Reconciler(
            ledger, gate, rebuilder, resolve=self._resolve_stale, follow=self._apply_left
        )
        self._rounds = Rounds(self.reconciler)
        self._partitions_due_s = 0.0  # when to look next, by the loop's clock
        self._health = GateHealth(gate)
        self._lending = Lending(gate, ledger, rebuilder, self._health)
        self._money = Money(ledger)
        self._late_looked: float | None = None  # loop time

    @property
    def _duties(self) -> tuple[Callable[[], Awaitable[bool]], ...]:
        """What there is to do; each tells whether there is more of it at once."""
        return (
            self.open_and_close, self.look_after_gate, self.expire, self.look_after_buckets,
            self.publish, self.look_for_late, self.fold_sales, self.end_unfed,
        )  # fmt: skip

    async def run(self) -> None:
        """Look after the offers until cancelled; outages are waited out."""
        try:
            async with asyncio.TaskGroup() as group:
                for duty in (*self._duties, self.reconcile):
                    group.create_task(self._keep(duty), name=f"keeper:{duty.__name__}")
                group.create_task(self._keep(self.make_partitions), name="keeper:make_partitions")
        finally:
            self._lending.close()
            self._health.close()
            if rebuilds := set(self._rebuilds.values()):
                for task in rebuilds:
                    task.cancel()
                await asyncio.wait(rebuilds)

    async def _keep(self, duty: Callable[[], Awaitable[bool]]) -> None:
        """Do one duty again and again."""
        loop = asyncio.get_running_loop()
        name, away = duty.__name__, False
        while True:
            end_if_cancelled()
            started, more = loop.time(), False
            try:
                more = await duty()
                if away:
                    log.warning("the keeper is at work again: %s", name)
                away = False
            except (LedgerAway, GateAway) as error:
                if not away:
                    log.warning("the keeper waits with %s: %s", name, error)
                away = True
            except Exception:
                # Orders must expire whatever one duty stumbles over; it is tried again, and seen.
                log.exception("the keeper failed with %s", name)
                metrics.KEEPER_FAILED.labels(name).inc()
                await asyncio.sleep(self.limits.fault_pause_s)
            took_s = loop.time() - started
            metrics.KEEPER_ROUND_S.labels(name).observe(took_s)
            if not more:
                await asyncio.sleep(max(0.02, self.limits.round_s - took_s))

    async def round(self) -> None:
        """Do once all that is due, to the end; reconcile never is. Raises as its duties do."""
        errors: list[BaseException] = []
        for duty in self._duties:
            try:
                while await duty():
                    pass
            except (LedgerAway, GateAway) as error:
                errors.append(error)  # Redis being away must not stop what needs Postgres alone
        await asyncio.gather(*self._rebuilds.values())
        if errors:
            raise errors[0]

    async def open_and_close(self) -> bool:
        """Open and close scheduled offers whose time has come, by Postgres' clock (R8).

        What is due before the next look is waited for: every screen counts down to that moment.
        """
        due = await self._ledger.due_offers(self.limits.round_s + LOOK_S)
        await _each([self._open_or_close(*offer) for offer in due])
        return False

    async def _open_or_close(self, offer: str, closes: bool, in_ms: int) -> None:
        await asyncio.sleep(in_ms / 1000)
        if closes:
            await self._changes.close_offer(offer, "scheduled", if_due=True)
        else:
            await self._changes.open_offer(offer, if_due=True)

    async def publish(self) -> bool:
        """Publish facts that were committed and not published (R9)."""
        for stream in await self._ledger.lagging_streams():
            self._listener.told(stream)
        return False

    async def fold_sales(self) -> bool:
        """Add what changed of the sales to their sums, so that reading these stays cheap."""
        return await sales.fold(self._ledger)

    async def end_unfed(self) -> bool:
        """End streams whose video stopped, and whose publisher did not come back in time."""

        async def end(stream: str) -> None:
            await self._changes.end_ingest(stream)

        for stream in await ingest.due(self._ledger):
            await _each([end(stream)], f"{stream} could not be ended")
        return False

    async def reconcile(self) -> bool:
        """Compare offers with the gate, name by name; a little each round (R11)."""
        await self._rounds.step()
        return False

    async def make_partitions(self) -> bool:
        """Make what partitions will be wanted, where there are any; looks once an hour."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._partitions_due_s:
            return False
        made = await make_partition(self._ledger)
        if not made:
            self._partitions_due_s = now_s + PARTITIONS_EVERY_S
        return made

    async def expire(self) -> bool:
        """End reserved orders past their deadline, then give their units back in the gate."""
        due = await self._ledger.due_order_offers()
        metrics.KEEPER_LAG_S.set(max((late for _, late in due), default=0) / 1000)
        whole: list[str] = []
        await _each([self._expire(offer, whole) for offer, _ in due])
        return bool(whole)

    async def _expire(self, offer: str, whole: list[str]) -> None:
        """End one batch, so that an offer with many is not all others' delay."""
        orders = await self._ledger.expire(offer, self.limits.expire_max)
        if not orders:
            return
        if len(orders) == self.limits.expire_max:
            whole.append(offer)
        metrics.EXPIRED.inc(len(orders))
        await failpoints.reach("expire.committed")
        self._listener.changed(orders)
        await self._changes.settle(offer, orders[0].stream, [order.id for order in orders])

    async def look_for_late(self) -> bool:
        """Note confirmed orders that were not shipped in the time that their offer gave."""
        now = asyncio.get_running_loop().time()
        if self._late_looked is not None and now - self._late_looked < self.limits.late_every_s:
            return False
        orders = await self._money.mark_late(self.limits.expire_max)
        self._listener.changed(orders)
        if len(orders) == self.limits.expire_max:
            return True
        self._late_looked = now
        return False

    # --- buckets ---------------------------------------------------------------------------------

    async def look_after_buckets(self) -> bool:
        """Sum up the offers that have any, and bring units to where somebody waits (R12)."""
        for offer in await self._ledger.apart_buckets():
            await sum_up(self._ledger, self._listener, offer)
        for bucket, units, offer in await self._ledger.waited_for():
            free = (await self._ledger.free_in_buckets([offer])).get(offer, {})
            free = self._lending.within_reach(free)
            if bucket not in free or sum(free.values()) < units:
                continue  # a part of it would serve nobody, and be out of others' reach
            try:
                await self._lending.borrow(bucket, free, units - free[bucket])
            except (GateAway, GateBroken) as error:
                log.warning("%s cannot borrow for who waits there: %s", bucket, error)
                if isinstance(error, GateAway):
                    self._health.failed(bucket, error)
        return False

    # --- the gate --------------------------------------------------------------------------------

    async def look_after_gate(self) -> bool:
        """Compare the gate with the ledger, offer by offer, and mend what differs."""
        offers = await self._ledger.active_offers()
        known = {offer.id for offer in offers}
        for seen in (self._apart_since, self._lagging):
            for gone in seen.keys() - known:
                del seen[gone]
        unwritten, stale = 0, 0
        slots = asyncio.Semaphore(self.limits.offers_at_once)

        async def look_after(offer: Active) -> None:
            nonlocal unwritten, stale
            async with slots:
                standing = await self._look_after(offer)
            if standing is not None:
                unwritten += standing.unwritten
                stale += len(standing.stale)

        await _each([look_after(offer) for offer in offers if offer.id not in self._rebuilds])
        metrics.UNWRITTEN.set(unwritten)
        metrics.UNRESOLVED.set(stale)
        return False

    async def _look_after(self, offer: Active) -> Standing | None:
        limits = self.limits
        try:
            standing = await self._gate.probe(offer.id, limits.grace_ms, limits.stale_max)
            if isinstance(standing, Frozen):
                if offer.closed:  # it is answered from its rows: there is nothing to tell the gate
                    await self._gate.forget(offer.id)
                    await self._ledger.gate_told(offer.id, offer.movement)
                else:
                    self._rebuild(offer, standing.epoch, 0 < standing.epoch < offer.epoch)
                return None
            if standing.epoch != offer.epoch and not offer.closed:
                self._rebuild(offer, standing.epoch, True)
                return standing
            self._apart_since.pop(offer.id, None)
            await self._catch_up(offer, standing)
            await self._resolve_all(offer.id, standing)
        except GateBroken as error:
            log.error("%s is frozen until the next round: %s", offer.id, error)
            return None
        return standing

    async def _catch_up(self, offer: Active, standing: Standing) -> None:
        """Apply movements that a crash left, once whoever made them had the time to."""
        if standing.movement >= offer.movement:
            self._lagging.pop(offer.id, None)
            if offer.untold:
                await self._ledger.gate_told(offer.id, standing.movement)
            return
        now = asyncio.get_running_loop().time()
        at, since = self._lagging.get(offer.id, (-1, 0.0))
        if at != standing.movement:
            self._lagging[offer.id] = standing.movement, now
            since = now
        if now - since >= self.limits.lag_grace_s:
            await failpoints.reach("catch_up.due")
            await self._apply_left(offer.id)

    async def _apply_left(self, offer: str) -> None:
        """Apply the movements that the gate lacks; who applies them tells of their orders (R4)."""
        for now_is in await self._ledger.offers([offer]):
            await self._changes.settle(offer, now_is.stream)

    def _rebuild(self, offer: Active, gate_epoch: int, patiently: bool) -> None:
        """Rebuild behind everything else; `patiently`: unless another process is at it."""
        now = asyncio.get_running_loop().time()
        since = self._apart_since.setdefault(offer.id, now)
        if now - since >= (self.limits.building_s if patiently else 0.0):
            del self._apart_since[offer.id]
            task = asyncio.create_task(self._rebuilt(offer.id, gate_epoch))
            self._rebuilds[offer.id] = task
            task.add_done_callback(lambda _: self._rebuilds.pop(offer.id))

    async def _rebuilt(self, offer: str, gate_epoch: int) -> None:
        try:
            await self._rebuilder.rebuild(offer, gate_epoch)
        except (LedgerAway, GateAway, GateBroken) as error:
            log.warning("%s could not be rebuilt yet: %s", offer, error)
        except Exception:
            log.exception("%s could not be rebuilt", offer)

    async def _resolve_stale(self, offer: str) -> None:
        standing = await self._gate.probe(offer, self.limits.grace_ms, self.limits.stale_max)
        if isinstance(standing, Standing):
            await self._resolve_all(offer, standing)

    async def _resolve_all(self, offer: str, standing: Standing) -> None:
        """Resolve the stale holds, more than one call names too."""
        limits = self.limits
        while standing.stale and await self.resolve(offer, standing):
            again = await self._gate.probe(offer, limits.grace_ms, limits.stale_max)
            if len(standing.stale) < limits.stale_max or isinstance(again, Frozen):
                break
            standing = again

    async def resolve(self, offer: str, standing: Standing) -> bool:
        """Resolve holds that nobody finished: mark those that have a row, give the rest back (R1).

        Tells whether it did; not while a rebuild, which knows the rows itself, is under way.

        The fence is committed before the rows are read: after that no admission under these ranks
        can make a row, so a missing row proves that there will be none.
        """
        highest = max(rank for _, rank in standing.stale)
        if not await self._ledger.fence(offer, standing.epoch, highest):
            return False
        await failpoints.reach("fence.raised")
        orders = await self._ledger.orders([id_ for id_, _ in standing.stale])
        rows = {order.id: order.viewer for order in orders}
        lent = [id_ for id_, _ in standing.stale if id_.startswith(PREFIX)]
        moved = await self._ledger.transfers(lent) if lent else set()  # a movement drops these
        orphans = [
            (id_, rank) for id_, rank in standing.stale if id_ not in rows and id_ not in moved
        ]
        await failpoints.reach("fence.read")
        if rows:
            await self._gate.hold(offer, list(rows.items()), [])
            await failpoints.reach("fence.marked")
        if orphans:
            released = await self._gate.release(offer, standing.epoch, orphans)
            if not isinstance(released, Frozen):
                metrics.FENCED.inc(released)
                log.info("gave back %d holds of %s that have no row", released, offer)
        return True


async def _each(
    work: Sequence[Coroutine[object, object, None]],
    what: str = "an offer could not be looked after",
) -> None:
    """Await all, so that one's trouble is not another's; then raise the first outage.

    `what`: how the log calls a trouble that is no outage.
    """
    found = await asyncio.gather(*work, return_exceptions=True)
    for error in found:
        if isinstance(error, BaseException) and not isinstance(error, LedgerAway | GateAway):
            log.error(what, exc_info=error)
    for error in found:
        if isinstance(error, LedgerAway | GateAway):
            raise error
