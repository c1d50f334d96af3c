"""What buyers do with the orders that they got: pay, cancel, or let them lapse.

Owns the asking and the noting of the answers in the history's endings. A viewer cancels over its
socket; a payment is the host's call, as when it is made by hand. Judges nothing. Used by scenarios
that play an order's whole life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from loadtest.endings import Ask, now_ms
from loadtest.frames import Heard, OrderHeard
from loadtest.swarm import Swarm
from loadtest.viewer import Viewer
from loadtest.web import Api

AT_ONCE_MAX = 16  # calls of the host under way
CALL_TIMEOUT_S = 3.0  # a silent call is given up; what became of it is not known

#: What to do with a buy's order, and how many seconds after it was got; None: nothing.
Choice = tuple[Literal["pay", "cancel"], float] | None


class Customers:
    """Acts on each order as soon as its buyer is told of it."""

    def __init__(self, swarm: Swarm, host: Api, choose: Callable[[int], Choice]) -> None:
        self._swarm = swarm
        self._host = host
        self._choose = choose
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        swarm.on_order = self.got

    def got(self, buy: int, order: OrderHeard) -> None:
        """Take an order that a viewer was just told of."""
        choice = self._choose(buy)
        self.act(self._swarm.viewers[buy // self._swarm.history.buys_each], order, choice)

    def act(self, viewer: Viewer, order: OrderHeard, choice: Choice) -> None:
        """Do what was chosen with an order, in its time."""
        if choice is None or order.status != "reserved":
            return
        task = asyncio.get_running_loop().create_task(self._do(choice, viewer.number, order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def rest(self) -> None:
        """Wait until everything has an answer, or is known to have none."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def _do(
        self, choice: tuple[Literal["pay", "cancel"], float], by: int, order: OrderHeard
    ) -> None:
        what, delay_s = choice
        await asyncio.sleep(delay_s)
        if what == "pay":
            async with self._slots:
                await self._pay(order)
        else:
            await self._cancel(by, order)

    async def _pay(self, order: OrderHeard) -> None:
        endings = self._swarm.endings_of(order.offer)
        ask = endings.ask(order.id, "pay")
        try:
            status, answer = await self._host.send(
                "POST", f"/v1/orders/{order.id}/pay", timeout_s=CALL_TIMEOUT_S
            )
        except (OSError, TimeoutError):
            return
        ask.answered_ms = now_ms()
        ask.answer = f"order.{answer['status']}" if status == 200 else str(answer.get("code", ""))
        if status == 200:
            endings.told(order.id, answer["status"], answer["version"])

    async def _cancel(self, viewer: int, order: OrderHeard) -> None:
        ask = self._swarm.endings_of(order.offer).ask(order.id, "cancel")
        answered = asyncio.Event()

        def done(heard: Heard | None) -> None:
            if heard is not None:
                _note(ask, heard)
            answered.set()

        self._swarm.ask(self._swarm.viewers[viewer], {"type": "cancel", "order": order.id}, done)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await answered.wait()
        except TimeoutError:
            return


def _note(ask: Ask, heard: Heard) -> None:
    ask.answered_ms = now_ms()
    ask.answer = f"order.{heard.order.status}" if heard.order is not None else heard.code
