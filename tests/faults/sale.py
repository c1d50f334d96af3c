"""Plays one plan on a server: the crowd, the host, the faults.

Owns the order of a run up to the last answer. Knows how no fault is done and what no invariant
means: `verdict` judges what is left behind. Called by `verdict` alone.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from loadtest.bundles import BundleBuyers
from loadtest.customers import Customers
from loadtest.endings import Deed, Endings, now_ms
from loadtest.faults import NotDone
from loadtest.frames import DIALECTS, OrderHeard
from loadtest.history import History
from loadtest.patience import Patience
from loadtest.sale import add_offer, set_up
from loadtest.server import until
from loadtest.swarm import Swarm
from loadtest.viewer import Viewer
from loadtest.web import ApiError, make_token
from tests.faults.plan import NEVER_READS, TWICE, Plan, Strike
from tests.faults.striking import once_there
from tests.faults.tree import Tree

CONNECT_S = 20.0
ANSWERS_S = 30.0  # for every buy to have its final answer, faults included
FIRES_S = 3.0  # for a point that is reached behind the last answer
LATEST_S = 0.15  # a fault that waits for answers strikes so long after its burst all the same
PATIENCE = Patience(
    dials_at_once_max=512,
    handshake_timeout_s=2.0,
    back_off_min_s=0.05,
    back_off_max_s=0.5,
    answer_timeout_s=2.0,
    retry_max_s=0.5,
    attempts_max=10_000,
)


class Struck(msgspec.Struct):
    """One fault of a run, and whether it was seen to happen."""

    what: str
    kind: str
    at_ms: int = 0
    in_flight: int = 0
    evidence: str = ""  # '' when it did not fire


class Sale:
    """One run under way."""

    def __init__(self, plan: Plan, tree: Tree) -> None:
        self.plan = plan
        self.tree = tree
        self.target = tree.target
        tag = f"{plan.seed}-{secrets.token_hex(2)}"
        names = [f"v{tag}-{n}" for n in range(plan.viewers + plan.bundlers)]
        self.history = History(names, plan.buys_each, plan.qtys(), tag)
        self.tag = tag
        self.history.endings.payment = plan.payment
        self.history.endings.quantity = plan.units
        self.struck: list[Struck] = []
        self.resolved_s = 0.0  # from all processes being back to no hold without a row
        self._first_struck = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._host_turn = asyncio.Lock()  # its acts follow each other, or their sum is not known
        draw = random.Random(f"crowd {plan.seed}")
        numbers = list(range(plan.viewers))
        draw.shuffle(numbers)
        deaf = int(plan.deaf * plan.viewers)
        self.deaf = numbers[:deaf]
        self.leavers = numbers[deaf : deaf + int(plan.leavers * plan.viewers)]

    async def set_up(self) -> None:
        """Make the stream and the offer, and have the crowd connected."""
        plan = self.plan
        self.stage = await set_up(
            self.target, plan.units, plan.per_viewer, plan.hold_s, plan.payment, plan.buckets
        )
        swarm = self.swarm = Swarm(
            f"{self.target.ws}/v1/streams/{self.stage.stream}/ws",
            [make_token(self.target.secret, viewer, "viewer") for viewer in self.history.viewers],
            self.history,
            DIALECTS["msgpack" if plan.seed % 2 else "json"],
            PATIENCE,
        )
        swarm.copies = plan.copies
        swarm.deaf = frozenset(self.deaf)
        swarm.build(self.stage.offer)
        await self._set_up_bundles()
        await swarm.connect(CONNECT_S)

    @property
    def beside_buckets(self) -> int:
        """Bundles reach over a spread offer and a whole one, or over two that are spread."""
        return 2 if self.plan.buckets > 2 else 1

    @property
    def gates(self) -> list[str]:
        """What has a gate of its own, by the name of its keys: each offer, or its buckets."""
        spread = zip(self.offers, (self.plan.buckets, self.beside_buckets), strict=True)
        return [
            offer if buckets == 1 else f"{offer}~{n + 1}"
            for offer, buckets in spread for n in range(buckets)
        ]  # fmt: skip

    async def _set_up_bundles(self) -> None:
        """A second offer, which only bundles are bought of, and who buys them."""
        plan, stage, swarm = self.plan, self.stage, self.swarm
        other = await add_offer(
            stage.host, stage.stream, plan.beside, plan.per_viewer, plan.hold_s, plan.payment,
            self.beside_buckets,
        )  # fmt: skip
        self.offers = (stage.offer, other)
        numbers = range(plan.viewers, plan.viewers + plan.bundlers)
        self.bundles = BundleBuyers(
            swarm, numbers, plan.bundles_each, plan.lines(self.offers), f"{self.tag}b"
        )
        self.history.beside.append(self.bundles.histories[stage.offer])
        self.other = self.bundles.histories[other]
        self.other.endings.payment, self.other.endings.quantity = plan.payment, plan.beside
        swarm.beside[other] = self.other.endings
        opening = partial(stage.host.call, "POST", f"/v1/offers/{other}/open")
        await self._act("open", 0, opening, self.other.endings)

    async def sell(self) -> None:
        """Open, and run to the last answer; raises TimeoutError when that does not come."""
        customers = Customers(self.swarm, self.stage.host, self.plan.chooser())
        self._react(customers)
        await self._act("open", 0, self.stage.open)
        self.opened = time.monotonic()
        self._spawn(self._leave())
        self._host()
        await self._bursts()
        await self._all_answered()
        await customers.rest()
        await self._faults_end()

    def _react(self, customers: Customers) -> None:
        """Orders of bundles are paid, cancelled or left alone as others are, each by itself."""
        draws = random.Random(f"react {self.plan.seed}")

        def got(viewer: Viewer, order: OrderHeard) -> None:
            draw, delay_s = draws.random(), draws.random() * self.plan.react_s
            if draw < self.plan.pay:
                customers.act(viewer, order, ("pay", delay_s))
            elif draw < self.plan.pay + self.plan.cancel:
                customers.act(viewer, order, ("cancel", delay_s))

        self.bundles.on_order = got

    async def close(self) -> None:
        """End what is under way; the crowd goes home."""
        await self.bundles.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.tree.clear()
        await self.swarm.close()

    # --- the crowd -------------------------------------------------------------------------------

    async def _bursts(self) -> None:
        first = 0
        for number, (at_s, buys) in enumerate(self.plan.bursts):
            await self._until(at_s)
            unanswered = self.history.unanswered
            due = [strike for strike in self.plan.strikes if strike.burst == number]
            await self._send(first, buys, [strike for strike in due if strike.point])
            self.bundles.send(number * self.plan.bundles, self.plan.bundles)
            for strike in due:
                if not strike.point:
                    after = unanswered - int(strike.share * buys * self.plan.viewers)
                    self._spawn(self._strike_later(strike, after))
            first += buys

    async def _send(self, first: int, buys: int, shots: Sequence[Strike]) -> None:
        """Every viewer sends the next of its buys, in one write.

        Shots are laid when a third has: a crowd is on the wire, and most of it is still to come.
        """
        swarm, each = self.swarm, self.plan.buys_each
        for viewer in swarm.viewers[: self.plan.viewers]:
            start = viewer.number * each + first
            swarm.send(viewer, range(start, start + buys))
            if viewer.number == self.plan.viewers // 3:
                for shot in shots:
                    self._spawn(self._strike(shot))
            if viewer.number % 50 == 49:
                await asyncio.sleep(0)

    async def _strike_later(self, strike: Strike, unanswered: int) -> None:
        """Strike once so many buys have their answer, or a little later."""
        await until(lambda: self.history.unanswered <= unanswered, LATEST_S)
        await self._strike(strike)

    async def _leave(self) -> None:
        """Some vanish at the first fault, and never learn what became of their buys."""
        await self._first_struck.wait()
        self.swarm.leave(self.leavers)

    async def _all_answered(self) -> None:
        """Wait for the last answer of those who listen."""
        history, silent = self.history, set(self.deaf)
        listening = [viewer for viewer in self.swarm.viewers if viewer.number not in silent]
        if not await until(lambda: not any(v.open_buys for v in listening), ANSWERS_S):
            raise TimeoutError
        await self.bundles.rest()
        for viewer in self.deaf:
            for buy in history.of_viewer(viewer):
                history.give_up(buy, "deaf")

    # --- the host --------------------------------------------------------------------------------

    def _host(self) -> None:
        plan, stage = self.plan, self.stage
        call = partial(stage.host.call, timeout_s=2.0, deadline_s=ANSWERS_S)
        path = f"/v1/offers/{stage.offer}"
        if plan.restock:
            at_s, units = plan.restock
            restock = partial(call, "POST", f"{path}/restock", {"add": units}, f"r{plan.seed}")
            self._spawn(self._act_at(at_s, "restock", units, restock))
        if plan.lower:
            at_s, units = plan.lower
            lower = partial(call, "PATCH", path, {"quantity": units})
            self._spawn(self._act_at(at_s, "quantity", units, lower))
        if plan.pause:
            self._spawn(self._pause(*plan.pause, call, path))
        if plan.close is not None:
            self._spawn(
                self._act_at(plan.close, "close", 0, partial(call, "POST", f"{path}/close"))
            )

    async def _pause(
        self, at_s: float, seconds: float, call: Callable[..., Awaitable[object]], path: str
    ) -> None:
        await self._until(at_s)
        async with self._host_turn:
            await self._act("pause", 0, partial(call, "POST", f"{path}/pause"))
            await asyncio.sleep(seconds)
            await self._act("resume", 0, partial(call, "POST", f"{path}/resume"))

    async def _act_at(
        self,
        at_s: float,
        what: Deed,
        units: int,
        call: Callable[[], Awaitable[object]],
    ) -> None:
        await self._until(at_s)
        async with self._host_turn:
            await self._act(what, units, call)

    async def _act(
        self,
        what: Deed,
        units: int,
        call: Callable[[], Awaitable[object]],
        endings: Endings | None = None,
    ) -> None:
        act = (endings or self.history.endings).act(what, units)
        try:
            await call()
            act.answer = "ok"
        except ApiError as error:
            act.answer = error.code
        act.answered_ms = now_ms()

    # --- faults ----------------------------------------------------------------------------------

    async def _strike(self, strike: Strike) -> None:
        """Have a fault done, and note what shows that it was."""
        struck = Struck(strike.what, strike.kind, now_ms())
        self.struck.append(struck)
        try:
            if strike.point:
                struck.evidence = await self._at_point(strike, struck)
            elif strike.what in (TWICE, NEVER_READS):
                await asyncio.sleep(0.02)
                struck.evidence = self._client_fault(strike.what)
                self._first_struck.set()
            else:
                self._first_struck.set()
                struck.evidence = await once_there(self.tree, strike)
        except NotDone as error:
            struck.evidence = ""
            struck.what += f" ({error})"

    async def _at_point(self, strike: Strike, struck: Struck) -> str:
        name = self.tree.lay(strike.what)
        fired = await self.tree.fired(name)
        struck.at_ms = fired.at_ms
        self._first_struck.set()
        if strike.seconds:
            await self.tree.go_on(fired.pid, strike.seconds)
        return f"log of {fired.pid}: {name}"

    def _client_fault(self, what: str) -> str:
        if what == TWICE:
            return "every frame written twice"
        paused = self.swarm.tally["deaf"]
        return f"{paused} connections are not read" if paused else ""

    async def _faults_end(self) -> None:
        """Wait until what was begun is over; a point that was not reached by now will not be."""
        longest_s = max(strike.seconds for strike in self.plan.strikes)
        await until(lambda: all(one.evidence for one in self.struck), longest_s + FIRES_S)

    # --- small -----------------------------------------------------------------------------------

    async def _until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, self.opened + at_s - time.monotonic()))

    def _spawn(self, work: Awaitable[None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))
