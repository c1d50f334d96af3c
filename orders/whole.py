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


class Wholes:
    """Sums up the offers that this process changes, each at once and then now and again."""

    def __init__(self, ledger: Ledger, listener: Listener) -> None:
        self._ledger = ledger
        self._listener = listener
        self._changed: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def changed(self, offer: str) -> None:
        """Have an offer summed up soon: now, or a moment after the last time."""
        self._changed.add(offer)
        if offer not in self._tasks:
            self._tasks[offer] = asyncio.get_running_loop().create_task(self._run(offer))

    async def _run(self, offer: str) -> None:
        try:
            while offer in self._changed:
                self._changed.discard(offer)
                await sum_up(self._ledger, self._listener, offer)
                await asyncio.sleep(SUM_EVERY_S)
        except LedgerAway as error:
            log.warning("the sums of %s are left to the keeper: %s", offer, error)
        except Exception:
            log.exception("%s could not be summed up", offer)
        finally:
            self._changed.discard(offer)
            del self._tasks[offer]

    async def close(self) -> None:
        """Leave the rest to the keeper."""
        if tasks := list(self._tasks.values()):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
