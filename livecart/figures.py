"""What buys came to in each stream, on all processes: orders admitted, and refusals by their code.

Owns the numbers between selling, which counts in plain integers, and Redis, which is told once a
second; a second's numbers are lost with a process that is killed, and nothing but a host's screen
depends on them. Knows no SQL. Built by `app`; fed by `orders.selling`, asked by `api.figures`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from orders.records import Why
from streams.counts import Counts
from streams.ports import Refused
from streams.tasks import Tasks

TELL_S = 1.0  # between two rounds to Redis
STREAMS_MAX = 2_000  # told of in one round; of more the numbers are lost
ORDERS = "orders"  # the word for what was admitted, beside the codes of refusals
REPLAYED = "replayed"

_REFUSALS = frozenset(why.value for why in Why)


@dataclass(frozen=True, slots=True)
class Tally:
    """What the buys of one stream came to since its start."""

    orders: int
    orders_last_10_s: int
    refusals: dict[str, int]  # by code


class Figures:
    """The numbers of one process, on their way to those of all."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._new: dict[str, Counter[str]] = {}  # by stream, not told yet
        self._tasks = Tasks("figures")

    def start(self) -> None:
        """Begin to tell Redis."""
        self._tasks.keep(self._tell_on, "tell")

    async def close(self) -> None:
        """Tell what is left, and end."""
        await self._tasks.close()
        await self._tell()

    def count(self, tally: Mapping[tuple[str | None, str], int]) -> None:
        """Take numbers by stream and outcome, as selling has them."""
        for (stream, outcome), n in tally.items():
            if stream is None or outcome == REPLAYED:
                continue
            if stream not in self._new and len(self._new) >= STREAMS_MAX:
                continue
            word = outcome if outcome in _REFUSALS else ORDERS
            self._new.setdefault(stream, Counter())[word] += n

    async def of(self, stream: str) -> Tally:
        """Return what all processes told of a stream; raise `Refused(RETRY)`."""
        lately, totals = await self._counts.tally(stream, {}, 0)
        orders = totals.pop(ORDERS, 0)
        return Tally(orders=orders, orders_last_10_s=lately, refusals=totals)

    async def _tell_on(self) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            await self._tell()

    async def _tell(self) -> None:
        told, self._new = self._new, {}
        while told:
            stream = next(iter(told))
            words = told.pop(stream)
            try:
                await self._counts.tally(stream, words, words[ORDERS])
            except Refused:  # that server is away: the next round begins with the others
                for kept, of in (*told.items(), (stream, words)):
                    self.count({(kept, word): n for word, n in of.items()})
                return
