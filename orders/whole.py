"""The whole of an offer whose units are spread over buckets: its own row, and what is told of it.

Owns when that row is brought to the sums of its buckets, and the telling of the figures: no batch
of a bucket knows them. Called by selling after sales, by changes and the keeper; what is not done
here the keeper does in its next round. Knows no Redis.
"""

from __future__ import annotations

import asyncio
import logging

from orders.ledger.ledger import Ledger, LedgerAway
from orders.records import Figures, Listener

log = logging.getLogger(__name__)

SUM_EVERY_S = 0.1  # how often one process sums one offer up while it sells


async def sum_up(ledger: Ledger, listener: Listener, offer: str) -> None:
    """Bring an offer's row to what its buckets have, and tell; raises `LedgerAway`."""
    now = await ledger.settle_buckets(offer)
    if now.fresh:
        listener.figures(Figures(offer, now.stream, now.left_units, now.offer_version))
    if now.told:
        listener.told(now.stream)


class Whole:
    """Sums one offer up while this process sells it."""

    def __init__(self, offer: str, ledger: Ledger, listener: Listener) -> None:
        self._offer = offer
        self._ledger = ledger
        self._listener = listener
        self._changed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Tell whether all that is known here was summed up."""
        return self._task is None

    def changed(self) -> None:
        """Have it summed up soon: now, or a moment after the last time."""
        self._changed = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._changed:
                self._changed = False
                await sum_up(self._ledger, self._listener, self._offer)
                await asyncio.sleep(SUM_EVERY_S)
        except LedgerAway as error:
            log.warning("the sums of %s are left to the keeper: %s", self._offer, error)
        except Exception:
            log.exception("%s could not be summed up", self._offer)
        finally:
            self._task = None

    def close(self) -> None:
        """Leave the rest to the keeper."""
        if self._task is not None:
            self._task.cancel()
