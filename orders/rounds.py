"""Reconcile in the background: all offers in turn, a little each round, and what stands is mended.

Owns whose turn it is and when the second look is due; judges nothing itself. Called by the keeper.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator

from orders import metrics
from orders.reconcile import Found, Reconciler
from orders.stock.gate import GateBroken

SHOWN_MAX = 20  # differences of an offer that are written to the log

log = logging.getLogger(__name__)


class Rounds:
    """Walks over the offers; each step is bounded, and may raise `LedgerAway` or `GateAway`."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._turns: deque[str] = deque()
        self._walk: tuple[str, Found, AsyncIterator[None]] | None = None
        self._second: deque[tuple[float, str, Found]] = deque()  # looks due from this time on
        self._rest_until = 0.0
        self._rebuilt: dict[str, float] = {}  # offers that were rebuilt for a difference, and when
        self._standing: dict[str, int] = {}  # differences of each offer that stood last

    async def step(self) -> None:
        """Do pieces until the time of a round is spent, or nothing is due."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._reconciler.limits.work_s
        while await self._piece(loop.time()) and loop.time() < ends:
            pass

    async def _piece(self, now: float) -> bool:
        """Do one piece; tell whether there was one."""
        if self._second and self._second[0][0] <= now:
            _, offer, found = self._second.popleft()
            await self._judge(offer, found, now)
        elif self._walk is not None:
            await self._go_on(*self._walk, now)
        elif self._turns:
            offer, found = self._turns.popleft(), Found(self._reconciler.limits.kind_max)
            self._walk = offer, found, self._reconciler.walk(offer, found)
        elif now >= self._rest_until:
            await self._begin(now)
        else:
            return False
        return True

    async def _begin(self, now: float) -> None:
        """Line up all offers that the gate decides about, or decided lately."""
        limits = self._reconciler.limits
        self._rest_until = now + limits.pause_s
        self._rebuilt = {o: t for o, t in self._rebuilt.items() if now - t < limits.rebuilt_pause_s}
        offers = await self._reconciler.offers()
        self._turns.extend(offer for offer in offers if offer not in self._rebuilt)
        for gone in self._standing.keys() - set(offers):
            self._stands(gone, 0)

    async def _go_on(self, offer: str, found: Found, walk: AsyncIterator[None], now: float) -> None:
        self._walk = None  # an outage ends it here, and the offer waits for its next turn
        try:
            await anext(walk)
        except StopAsyncIteration:
            if found.all:
                self._second.append((now + self._reconciler.limits.grace_s, offer, found))
            else:
                self._stands(offer, 0)
        except GateBroken as error:
            log.error("%s could not be compared: %s", offer, error)
        else:
            self._walk = offer, found, walk

    async def _judge(self, offer: str, found: Found, now: float) -> None:
        """Look a second time, and mend what still stands."""
        try:
            standing = await self._reconciler.standing(offer, found)
            if standing:
                way = await self._reconciler.mend(offer, standing)
                if way == "rebuild":
                    self._rebuilt[offer] = now
                log.warning("%s: %d differences, mended by: %s", offer, len(standing), way)
                for one in standing[:SHOWN_MAX]:
                    log.warning("%s: %s", offer, one)
                standing = await self._reconciler.standing(offer, found)
            self._stands(offer, len(standing))
        except GateBroken as error:
            log.error("%s could not be compared: %s", offer, error)

    def _stands(self, offer: str, differences: int) -> None:
        """Keep the gauge: what stands now, after the mending."""
        self._standing.pop(offer, None)
        if differences:
            self._standing[offer] = differences
        metrics.DIFFERENCES.set(sum(self._standing.values()))
