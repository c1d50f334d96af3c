"""Holds of one offer that go back: this hub's own, which no admission can make rows of any more.

Owns when that is asked for: one call after the other, each with what came meanwhile. A crowd of
refused bundles would otherwise use up the connections to Redis, and look like an outage. What
cannot be given back here, the keeper gives back behind a fence (R1). Called by counter alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from orders import failpoints
from orders.stock.gate import Gate, GateAway, GateBroken

log = logging.getLogger(__name__)


class Undo:
    """Gives holds back by (id, rank at the most), under the epoch that they were taken under."""

    def __init__(self, offer: str, gate: Gate, batch_max: int) -> None:
        self._offer = offer
        self._gate = gate
        self._batch_max = batch_max
        self._waiting: deque[tuple[int, str, int]] = deque()  # (epoch, id, rank)
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Tell whether holds wait to be given back."""
        return self._task is not None

    def add(self, epoch: int, id_: str, rank: int) -> None:
        """Have a hold given back, soon."""
        self._waiting.append((epoch, id_, rank))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting:
                epoch = self._waiting[0][0]
                holds: list[tuple[str, int]] = []
                while self._waiting and self._waiting[0][0] == epoch:
                    holds.append(self._waiting.popleft()[1:])
                    if len(holds) == self._batch_max:
                        break
                await self._release(epoch, holds)
        finally:
            self._task = None

    async def _release(self, epoch: int, holds: list[tuple[str, int]]) -> None:
        await failpoints.reach("undo.due")
        try:
            await self._gate.release(self._offer, epoch, holds)
        except (GateAway, GateBroken) as error:
            log.warning("%d holds of %s are left to the keeper: %s", len(holds), self._offer, error)
