"""Buys whose bucket has too little left, while another bucket of their offer may have it.

Owns when units are borrowed for them and when they are told `sold_out`: not before Postgres, in one
statement over all buckets, has fewer free units than they want. Units on their way between two
buckets are counted there, and so are those of holds that have no row yet (R6); whoever waits for
such asks again. Called by counter alone, one of these for each bucket that is sold here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from orders.deadline import within
from orders.ledger.ledger import LedgerAway, LedgerBusy
from orders.records import Buy, Offer, Refused, Why
from orders.stock.gate import GateAway, GateBroken

if TYPE_CHECKING:
    from orders.selling import Selling

log = logging.getLogger(__name__)

PAUSES_MAX = 8  # times `poll_s` between two rounds that found nothing to be had

_SOLD_OUT = Refused(Why.SOLD_OUT)


class Borrowing:
    """Gathers the buys of one bucket that are short of units; one round after the other."""

    def __init__(
        self, offer: Offer, home: str, selling: Selling, again: Callable[[Sequence[Buy]], None]
    ) -> None:
        self._offer = offer
        self._home = home
        self._selling = selling
        self._again = again  # takes those who are to ask the gate once more
        self._waiting: list[Buy] = []
        self._task: asyncio.Task[None] | None = None
        self._call: asyncio.Task[int] | None = None  # transfers under way

    @property
    def busy(self) -> bool:
        """Tell whether anybody waits here, or units are on their way."""
        return self._task is not None or self._call is not None

    def put(self, buy: Buy) -> None:
        """Take a buy that the gate of its bucket has too little for."""
        loop = asyncio.get_running_loop()
        buy.parked_at = buy.parked_at or loop.time()
        self._waiting.append(buy)
        if self._task is None:
            self._task = loop.create_task(self._run())

    def all(self) -> list[Buy]:
        """Take everybody out who waits for the next round."""
        buys, self._waiting = self._waiting, []
        return buys

    async def _run(self) -> None:
        pauses = 1
        try:
            while self._waiting:
                if await self._round(self.all()):
                    pauses = 1
                else:  # what there is, is held by others so far
                    await asyncio.sleep(self._selling.limits.poll_s * pauses)
                    pauses = min(2 * pauses, PAUSES_MAX)
        finally:
            self._task = None

    async def _round(self, buys: list[Buy]) -> bool:
        """Serve those who wait; tell whether anything changed for them."""
        selling = self._selling
        since = asyncio.get_running_loop().time() - selling.limits.park_s
        late = self._call is not None  # transfers that take too long: nobody waits behind them
        self._retry([buy for buy in buys if late or buy.parked_at < since])
        buys = [] if late else [buy for buy in buys if buy.parked_at >= since]
        if not buys:
            return False
        try:
            free = await selling.in_time(selling.free_reads.get(self._offer.id)) or {}
        except Exception as error:  # noqa: BLE001 - told to the buyers
            for buy in buys:
                selling.answer(buy, selling.excuse(error))
            return True
        rest: list[Buy] = []
        total = sum(free.values())
        for buy in buys:
            if free and buy.qty > total:
                selling.answer(buy, _SOLD_OUT)
            else:
                rest.append(buy)  # of one that is closed, too: the gate will say so
        return await self._borrow(rest, free, total) if rest else True

    async def _borrow(self, buys: list[Buy], free: Mapping[str, int], total: int) -> bool:
        """Get units and have the buys ask again; they are answered in time, whatever happens."""
        selling = self._selling
        need = min(sum(buy.qty for buy in buys), total)
        call = asyncio.get_running_loop().create_task(
            selling.lending.borrow(self._home, free, need)
        )
        self._call = call
        call.add_done_callback(self._ended)
        if not await within(call, selling.limits.answer_s):
            self._retry(buys)
            return False
        if call.exception() is not None:
            self._retry(buys)
            return True
        self._again(buys)
        return call.result() > 0

    def _ended(self, call: asyncio.Task[int]) -> None:
        """Take note of how transfers ended, however late."""
        self._call = None
        if call.cancelled() or (error := call.exception()) is None:
            return
        if isinstance(error, GateAway):
            self._selling.gate_health.failed(self._home, error)
        elif isinstance(error, LedgerAway):
            if not isinstance(error, LedgerBusy):
                self._selling.ledger_health.failed(error)
        elif not isinstance(error, GateBroken):
            log.error("nothing could be borrowed for %s", self._home, exc_info=error)

    def _retry(self, buys: Sequence[Buy]) -> None:
        for buy in buys:
            self._selling.answer(buy, self._selling.retry())
