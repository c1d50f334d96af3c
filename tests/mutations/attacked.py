"""A sale under attack: what may be done to it, what its buyers saw, and the audit of it.

Owns the ways in which a sale is disturbed beyond its plan, each a step of what `attacks` does, and
the asking of the auditor. Knows no planted bug.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from functools import partial
from random import Random
from time import perf_counter_ns

from loadtest.audit import audit, audit_bundles, audit_deliveries
from loadtest.customers import Customers
from loadtest.frames import Heard
from loadtest.history import WAITLISTED, History
from loadtest.httpcrowd import HttpCrowd
from loadtest.judge import Finding
from loadtest.viewer import READY
from loadtest.web import make_token
from tests.faults.plan import Plan, Strike
from tests.faults.sale import PATIENCE, Sale
from tests.faults.tree import Tree
from tests.faults.verdict import all_ended
from tests.mutations.onlookers import Onlookers

ANSWERS_S = 12.0  # a server that answers no more is judged by what it did until then
REST_S = 5.0
PROBES_MAX = 60

Found = list[tuple[str, Finding]]


class Attacked(Sale):
    """One sale under attack, with what its buyers and onlookers saw."""

    def __init__(self, plan: Plan, tree: Tree) -> None:
        super().__init__(plan, tree)
        self.random = Random(plan.seed)

    async def sell(self) -> None:
        """Open, and run to the last answer, or until it is plain that there will be none."""
        customers = Customers(self.swarm, self.stage.host, self.plan.chooser())
        self._react(customers)
        self.onlookers = Onlookers(self.target, self.stage.stream)
        await self.onlookers.connect()
        await self._act("open", 0, self.stage.open)
        self.opened = time.monotonic()
        self._spawn(self._leave())
        self._host()
        await self._bursts()
        try:
            async with asyncio.timeout(ANSWERS_S):
                await self._all_answered()
                await customers.rest()
        except TimeoutError:
            return
        if self.plan.strikes:
            await self._faults_end()

    async def send_again(self) -> None:
        """Every viewer sends each of its keys once more, whatever came of it."""
        for viewer in self.swarm.viewers[: self.plan.viewers]:
            if viewer.phase == READY:
                self.swarm.send(viewer, self.history.of_viewer(viewer.number))
        await self._quiet()

    async def buy_the_rest(self, names: Sequence[str] = ()) -> None:
        """Newcomers buy what is left, and then some, or these viewers do, one unit each.

        What they are told is judged with the rest.
        """
        tag = f"rest-{secrets.token_hex(3)}"
        history = History(list(names) or [f"{tag}-{n}" for n in range(PROBES_MAX)], 1, 1, tag)
        tokens = [make_token(self.target.secret, viewer, "viewer") for viewer in history.viewers]
        crowd = HttpCrowd(self.target.http, tokens, history, 16, PATIENCE)
        crowd.build(self.stage.offer)
        self.history.beside.append(history)
        try:
            async with asyncio.timeout(ANSWERS_S / 2):
                await crowd.connect(5.0)
                await crowd.volley()
                await history.done.wait()
        except TimeoutError:
            return
        finally:
            await crowd.close()

    async def wait_in_line(self, numbers: Sequence[int], qty: int = 1) -> None:
        """These viewers join the waitlist, one after the other; an order may come of it."""
        names = [self.history.viewers[number] for number in numbers]
        history = History(names, 1, qty, f"{self.tag}w{secrets.token_hex(2)}")
        self.history.beside.append(history)
        for n, number in enumerate(numbers):
            viewer, answered = self.swarm.viewers[number], asyncio.Event()

            def done(heard: Heard | None, n: int = n, answered: asyncio.Event = answered) -> None:
                if heard is not None:
                    order, now_ns = heard.order, perf_counter_ns()
                    if order is not None:
                        status = f"order.{order.status}"
                        history.note(n, now_ns, status, order.id, order.rank, order.expires_at)
                    else:
                        word = WAITLISTED if heard.type == WAITLISTED else heard.code
                        history.note(n, now_ns, word, "", 0)
                answered.set()

            history.sent_ns[n] = history.written_ns[n] = perf_counter_ns()
            history.attempts[n] += self.swarm.copies
            command = {"type": "waitlist", "offer": self.stage.offer, "qty": qty}
            self.swarm.ask(viewer, {**command, "key": history.keys[n]}, done)
            try:
                async with asyncio.timeout(2):
                    await answered.wait()
            except TimeoutError:
                continue

    async def restock(self, units: int, name: str) -> None:
        """The host adds units."""
        path, key = f"/v1/offers/{self.stage.offer}/restock", f"{self.tag}-{name}"
        host = self.stage.host
        await self._act("restock", units, partial(host.call, "POST", path, {"add": units}, key))

    async def restock_twice(self, units: int) -> None:
        """The host adds units, and sends the same command again."""
        path = f"/v1/offers/{self.stage.offer}/restock"
        key = f"twice-{self.tag}"
        call = partial(self.stage.host.call, "POST", path, {"add": units}, key)
        await self._act("restock", units, call)
        await call()

    async def strike(self, what: str, seconds: float = 0.0) -> None:
        """Have a fault done now."""
        await self._strike(Strike(what, seconds=seconds))

    async def ended(self) -> None:
        """Wait until the last order was paid, cancelled, or has expired."""
        await self.tree.well()
        await all_ended(self)

    async def _quiet(self) -> None:
        """Wait for the answers to what was just sent; some may never come."""
        last = -1
        while last != len(self.history.answers):
            last = len(self.history.answers)
            await asyncio.sleep(0.4)

    async def judged(self) -> Found:
        """What the auditor finds, of both offers, the bundles and the events."""
        found: Found = []
        for offer, history in zip(self.offers, (self.history, self.other), strict=True):
            one = await audit(
                self.target.database_url, offer, history,
                http_url=self.target.http, gate_url=self.target.gate_url, rest_wait_s=REST_S,
            )  # fmt: skip
            found += ((offer, finding) for finding in one.findings)
        await self.onlookers.rested()
        url = self.target.database_url
        found.append(("bundles", await audit_bundles(url, self.bundles.asked)))
        told = await audit_deliveries(url, self.stage.stream, self.onlookers.deliveries)
        return found + [(self.stage.stream, finding) for finding in told]
