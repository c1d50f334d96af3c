"""Buys whose bucket has too little left, while another bucket of their offer may have it.

Owns when units are borrowed for them and when they are told `sold_out`: not before Postgres, in one
statement over all buckets, has fewer free units than they want. Units on their way between two
buckets are counted there, and so are those of holds that have no row yet (R6); whoever waits for
such asks again. Called by counter alone, one of these for each bucket that is sold here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from orders.deadline import within
from orders.ledger.ledger import LedgerAway, LedgerBusy
from orders.records import Buy, Offer, Refused, Why
from orders.stock.gate import GateAway

if TYPE_CHECKING:
    from orders.selling import Selling

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

    @property
    def busy(self) -> bool:
        """Tell whether anybody waits here, or units are on their way."""
        return self._task is not None

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
        limits = self._selling.limits
        try:
            while self._waiting:
                if not await self._round(self.all()):
                    await asyncio.sleep(limits.poll_s)  # what there is, is held by others so far
        finally:
            self._task = None

    async def _round(self, buys: list[Buy]) -> bool:
        """Serve those who wait; tell whether anything changed for them."""
        selling = self._selling
        since = asyncio.get_running_loop().time() - selling.limits.park_s
        for buy in buys:
            if buy.parked_at < since:
                selling.answer(buy, selling.retry())
        buys = [buy for buy in buys if buy.parked_at >= since]
        try:
            free = await selling.in_time(selling.ledger.free_in_buckets(self._offer.id))
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
        return await self._borrow(rest, free) if rest else True

    async def _borrow(self, buys: list[Buy], free: dict[str, int]) -> bool:
        """Get units and have the buys ask again; they are answered in time, whatever happens."""
        selling = self._selling
        call = asyncio.get_running_loop().create_task(
            selling.lending.borrow(self._home, free, sum(buy.qty for buy in buys))
        )
        in_time = await within(call, selling.limits.answer_s)
        if not in_time:
            for buy in buys:
                selling.answer(buy, selling.retry())
        moved = 0
        try:
            moved = await call
        except Exception as error:  # noqa: BLE001 - told to the buyers
            if isinstance(error, GateAway):
                selling.gate_health.failed(self._home, error)
            elif isinstance(error, LedgerAway) and not isinstance(error, LedgerBusy):
                selling.ledger_health.failed(error)
            if in_time:
                for buy in buys:
                    selling.answer(buy, selling.excuse(error))
            return True
        if in_time:
            self._again(buys)
        return moved > 0
