"""Brings the gate to the ledger's state: movement by movement, or all of it anew.

Owns rules R2 (rebuild) and R4/R7 (movements). Called by changes after a commit and by the keeper
for what a crash left. Both calls are safe from several processes at once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Sequence
from contextvars import Context
from itertools import islice

from asyncpg import Record

from orders import failpoints, metrics
from orders.ledger.ledger import Ledger
from orders.ledger.snapshot import PAGE, snapshot
from orders.records import Order
from orders.stock.gate import Frozen, Gate, State, Step
from orders.stock.keys import key_field, record, staged

END_S = 2.0  # how long a run may take that is under way when the process ends
TOLD_MAX = 50_000  # orders remembered as told of while the gate cannot be; beyond, they are again

log = logging.getLogger(__name__)


class Rebuilder:
    """Follows and rebuilds the gate's state of offers."""

    def __init__(self, gate: Gate, ledger: Ledger) -> None:
        self._gate = gate
        self._ledger = ledger
        self._following: dict[str, asyncio.Task[bool]] = {}
        self._told: dict[str, set[str]] = {}  # by offer, orders that this process told of itself
        self._told_n = 0  # of all offers together
        self._tell: Callable[[Sequence[Order]], None] | None = None  # set by attach

    def attach(self, tell: Callable[[Sequence[Order]], None]) -> None:
        """Have the viewers of orders told whose movements another process left here."""
        self._tell = tell

    async def follow(self, offer: str, told: Collection[str] = ()) -> bool:
        """Apply the movements that the gate does not have; tell whether it has all now.

        Calls for one offer that come together share one run, begun after the last of them. `told`:
        orders whose viewers know already. Those of others must be told before the gate knows: who
        committed them may be dead, and the keeper looks only at what the gate lacks.
        """
        self._note_told(offer, told)
        running = self._following.get(offer)
        if running is not None:
            await asyncio.wait({running})
        if self._following.get(offer) in (None, running):
            # In a context of its own: it is everybody's run, not that of who asked first.
            task = asyncio.get_running_loop().create_task(self._follow(offer), context=Context())
            self._following[offer] = task
            task.add_done_callback(lambda t: self._forget(offer, t))
        return await asyncio.shield(self._following[offer])

    async def close(self) -> None:
        """Let the runs under way end: they are nobody's who could be waited for instead.

        One that takes longer is cut off; the keeper applies what it left. Nobody may ask for more
        by then, and what a run works with is closed after this.
        """
        if running := set(self._following.values()):
            _, late = await asyncio.wait(running, timeout=END_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def _forget(self, offer: str, task: asyncio.Task[bool]) -> None:
        if self._following.get(offer) is task:
            del self._following[offer]
        if not task.cancelled():
            task.exception()  # seen here; whoever waits is told by the shield

    async def _follow(self, offer: str) -> bool:
        standing = await self._gate.probe(offer, 1 << 40, 0)
        if isinstance(standing, Frozen):
            self._forget_told(offer)  # a rebuild has their movements in its snapshot
            return False
        at = standing.movement
        while True:
            known = set(self._told.get(offer, ()))
            # The row after the movements: its state is never older than the last of them.
            rows = await self._ledger.movements(offer, at)
            found = await self._ledger.offers([offer])
            if not found:
                return False
            if not rows:
                self._forget_told(offer, known)  # what was noted since may have movements yet
                if found[0].status == "closed":
                    await self._ledger.gate_told(offer, at)
                return True
            await failpoints.reach("follow.read")
            await self._tell_of_others(offer, _orders_named(rows))
            now = await self._gate.apply(
                offer,
                standing.epoch,
                (at, rows[-1]["n"]),
                State.of(found[0]),
                [step for row in rows for step in _steps(row)],
            )
            if isinstance(now, Frozen):
                return False
            at = now

    async def _tell_of_others(self, offer: str, named: Sequence[str]) -> None:
        """Tell rather twice than never; clients drop what they know by its version."""
        told = self._told.get(offer, ())
        await self._tell_of([order for order in named if order not in told])

    async def _tell_of(self, orders: Sequence[str]) -> None:
        if orders and self._tell is not None:
            self._tell(await self._ledger.orders(orders))

    def _note_told(self, offer: str, told: Collection[str]) -> None:
        if not told:
            return
        if self._told_n + len(told) > TOLD_MAX:
            self._told.clear()
            self._told_n = 0
        noted = self._told.setdefault(offer, set())
        before = len(noted)
        noted.update(told)
        self._told_n += len(noted) - before

    def _forget_told(self, offer: str, known: set[str] | None = None) -> None:
        """Forget those, or all, of an offer."""
        noted = self._told.pop(offer, set())
        left = set() if known is None else noted - known
        self._told_n -= len(noted) - len(left)
        if left:
            self._told[offer] = left

    async def rebuild(self, offer: str, gate_epoch: int = 0) -> bool:
        """Build the offer's state anew from Postgres; tell whether this one was installed (R2).

        `gate_epoch`: the epoch last seen in Redis. No lock is held meanwhile; movements that
        commit after the snapshot are applied at the end, by whoever comes first.
        """
        epoch = await self._ledger.raise_epoch(offer, gate_epoch)
        await failpoints.reach("rebuild.raised")
        stage = staged(offer, epoch, secrets.token_hex(4))
        viewers: dict[str, int] = {}
        holds = bound = 0
        async with snapshot(self._ledger, offer) as state:
            if state is None:
                return False
            rank = state.rank_floor
            async for page in state.pages():
                records: list[str] = []
                keys: list[str] = []
                for id_, viewer, key, qty, order_rank, live in page:
                    field = key_field(viewer, key)
                    keys += (field, id_)
                    rank = max(rank, order_rank)
                    if live:
                        records += (id_, record(order_rank, qty, field))
                        viewers[viewer] = viewers.get(viewer, 0) + qty
                holds += len(records) // 2
                bound += len(page)
                await failpoints.reach("rebuild.read")
                await self._gate.stage(offer, stage, records, keys, ())
        units = iter(viewers.items())
        while some := list(islice(units, PAGE)):
            await self._gate.stage(offer, stage, (), (), [part for pair in some for part in pair])
        # Before it is installed, as before a movement is applied: who is told of orders that the
        # waitlist got may be nobody else, since the gate that was to be brought them is lost.
        await self._tell_of(await self._ledger.brought_lately(offer))
        row = state.offer
        await failpoints.reach("rebuild.staged")
        installed = await self._gate.install(
            offer, stage, epoch, State.of(row), row.quantity - sum(viewers.values()),
            rank, row.last_movement, (holds, bound, len(viewers)),
        )  # fmt: skip
        if installed:
            metrics.REBUILT.inc()
            await failpoints.reach("rebuild.installed")
            log.info("rebuilt %s as epoch %d: %d orders", offer, epoch, bound)
            await self.follow(offer)
        return installed


def _orders_named(movements: Sequence[Record]) -> list[str]:
    named = [m for m in movements if m["kind"] not in ("lend", "borrow")]
    return [m["order_id"] for m in named if m["order_id"]]


def _steps(movement: Record) -> list[Step]:
    """Return a movement as the gate applies it."""
    id_, units = movement["order_id"], movement["units"]
    match movement["kind"]:
        case "release":
            return [(id_, units)]
        case "take" if movement["brings"] is not None:
            viewer, key, qty, rank = movement["brings"]
            return [(id_, units, record(int(rank), int(qty), key_field(viewer, key)))]
        case "lend":  # what was set aside comes back, if it is still there, and the units go
            return [(id_, -units), ("", units)]
    return [("", units)]
