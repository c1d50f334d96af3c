"""Viewers who buy bundles: units of several offers, all or none, under one key until it is final.

Owns the sending, the sending again and the noting: of each line in the history of its offer, of the
whole in `asked`. Judges nothing. The viewers are ones of a Swarm that send nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter_ns

from loadtest.frames import Heard, OrderHeard
from loadtest.history import PASSING, Asked, History
from loadtest.swarm import Swarm
from loadtest.viewer import READY, Viewer

#: What a line is told that was not the reason of its bundle's refusal.
REFUSED_WITH_OTHERS = "bundle_refused"


class BundleBuyers:
    """Sends bundles and notes what came of them."""

    def __init__(
        self, swarm: Swarm, numbers: Sequence[int], each: int, lines: Sequence[dict[str, int]],
        run: str,
    ) -> None:  # fmt: skip
        """`numbers`: which viewers of the swarm, `each` with so many of the bundles in `lines`."""
        assert len(lines) == len(numbers) * each
        names = [swarm.history.viewers[number] for number in numbers]
        self.histories = {
            offer: History(names, each, [line[offer] for line in lines], run) for offer in lines[0]
        }
        keys = next(iter(self.histories.values())).keys
        self.asked = [
            Asked(names[n // each], keys[n], line) for n, line in enumerate(lines)
        ]  # those that were never sent too
        #: Called with a viewer of the swarm and an order that it got.
        self.on_order: Callable[[Viewer, OrderHeard], None] = lambda viewer, order: None
        self._swarm = swarm
        self._numbers = numbers
        self._each = each
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, first: int, count: int = 1) -> None:
        """Have every viewer send `count` of its bundles from its `first` on."""
        for start in range(0, len(self.asked), self._each):
            for n in range(start + first, start + first + count):
                task = asyncio.get_running_loop().create_task(self._buy(n))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def rest(self) -> None:
        """Wait until every bundle that was sent has its final answer."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """Ask no more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _buy(self, n: int) -> None:
        viewer = self._swarm.viewers[self._numbers[n // self._each]]
        patience, attempts = self._swarm.patience, 0
        viewer.open_buys += 1  # a silent connection is given up as any buyer's is
        while not (self.asked[n].bundle or self.asked[n].code):
            attempts += 1
            heard = await self._ask(viewer, n)
            if heard is None:
                await asyncio.sleep(patience.back_off_min_s)
            elif heard.code in PASSING:
                await asyncio.sleep(patience.retry_s(attempts, heard.retry_after_ms))
        viewer.open_buys -= 1

    async def _ask(self, viewer: Viewer, n: int) -> Heard | None:
        """Send it once; None when the connection ended first, or there is none."""
        swarm, asked = self._swarm, self.asked[n]
        answered: asyncio.Future[Heard | None] = asyncio.get_running_loop().create_future()

        def done(heard: Heard | None) -> None:
            if heard is not None:
                self._note(viewer, n, heard)
            if not answered.done():
                answered.set_result(heard)

        if viewer.phase != READY or viewer.transport is None:
            return None
        viewer.last_ns = now_ns = perf_counter_ns()
        for history in self.histories.values():
            history.sent_ns[n] = history.sent_ns[n] or now_ns
            history.written_ns[n] = history.written_ns[n] or now_ns
            history.attempts[n] += swarm.copies
        lines = [{"offer": offer, "qty": qty} for offer, qty in asked.lines.items()]
        swarm.ask(viewer, {"type": "buy", "key": asked.key, "lines": lines}, done)
        return await answered

    def _note(self, viewer: Viewer, n: int, heard: Heard) -> None:
        """Write an answer down, line by line."""
        now_ns, asked = perf_counter_ns(), self.asked[n]
        if heard.type == "bundle":
            asked.bundle = heard.bundle
            for order in heard.orders or ():
                first = self.histories[order.offer].note(
                    n, now_ns, f"order.{order.status}", order.id, order.rank, order.expires_at
                )
                if first:
                    self.on_order(viewer, order)
            return
        if heard.code not in PASSING:
            asked.code = heard.code
        at_fault = list(asked.lines)[int(heard.field[6:-1])] if heard.field else None
        for offer, history in self.histories.items():
            code = heard.code if at_fault in (offer, None) else REFUSED_WITH_OTHERS
            history.note(n, now_ns, code, "", 0)
