"""Values of one room of which only the newest matters: stock, viewers, reactions.

Owns their newest values and how often they are spread. Must never know Redis: what other hubs count
comes in through hub. Called by rooms and hub; the writing is `streams.lanes`'.
"""

from __future__ import annotations

import asyncio

from streams.codec import Ready
from streams.lanes import Lanes
from streams.protocol import Offer, Reactions, Stock, Viewers

STOCK_EVERY_S = 0.05
STOCK_SHARE = 12  # of the time, at most one part in so many goes into spreading stock
VIEWERS_EVERY_S = 1.0
OFFERS_MAX = 1_000  # with a stock value in memory; beyond, the oldest is forgotten

_VIEWERS, _REACTIONS = "viewers", "reactions"


class Conflated:
    """The conflated values of one room."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._stock: dict[str, Stock] = {}  # newest by offer
        self._stock_fresh: dict[str, None] = {}  # slots that were not spread yet
        self._stock_next_at = 0.0  # loop time of the next spreading
        self._stock_timer: asyncio.TimerHandle | None = None
        self._viewers_next_at = 0.0
        self._viewers = -1  # as last spread
        self._totals: dict[str, int] = {}
        self._reacting: dict[str, int] = {}  # not in the totals yet; as many as there are kinds

    # --- stock --------------------------------------------------------------------------------

    def put_stock(self, offer: str, left: int, version: int) -> bool:
        """Take what is left of an offer; tell whether that was news."""
        held = self._stock.get(offer)
        if held is not None and held.version >= version:
            return False
        if held is None and len(self._stock) >= OFFERS_MAX:
            oldest = next(iter(self._stock))
            del self._stock[oldest]
            self._lanes.newest.pop(_slot(oldest), None)
            self._stock_fresh.pop(_slot(oldest), None)
        stock = self._stock[offer] = Stock(offer=offer, left=left, version=version)
        self._lanes.newest[_slot(offer)] = Ready(stock)
        self._stock_fresh[_slot(offer)] = None
        if self._stock_timer is None:
            wait_s = self._stock_next_at - asyncio.get_running_loop().time()
            if wait_s <= 0:
                self._spread_stock()
            else:
                loop = asyncio.get_running_loop()
                self._stock_timer = loop.call_later(wait_s, self._spread_stock)
        return True

    def newer_stock(self, offers: list[Offer]) -> list[Ready]:
        """Return the stock values that are newer than a snapshot's offers."""
        newest = self._lanes.newest
        return [
            newest[_slot(offer.id)]
            for offer in offers
            if (stock := self._stock.get(offer.id)) is not None and stock.version > offer.version
        ]

    def idle(self) -> bool:
        """Tell whether every stock value was spread."""
        return not self._stock_fresh

    def _spread_stock(self) -> None:
        self._stock_timer = None
        loop = asyncio.get_running_loop()
        began = loop.time()
        slots, self._stock_fresh = list(self._stock_fresh), {}
        self._lanes.spread(slots)
        ended = loop.time()
        self._stock_next_at = ended + max(STOCK_EVERY_S, STOCK_SHARE * (ended - began))

    # --- viewers and reactions ------------------------------------------------------------------

    def put_viewers(self, count: int, now_s: float) -> None:
        """Spread the number of viewers when it changed, at most once a second."""
        if count == self._viewers or now_s < self._viewers_next_at:
            return
        self._viewers, self._viewers_next_at = count, now_s + VIEWERS_EVERY_S
        self._lanes.newest[_VIEWERS] = Ready(Viewers(count=count))
        self._lanes.spread([_VIEWERS])

    def react(self, kind: str, n: int) -> None:
        """Count reactions; they are spread with the next totals."""
        self._reacting[kind] = self._reacting.get(kind, 0) + n

    def take_reactions(self) -> list[tuple[str, int, int]]:
        """Return kind, total known and how many to add; they count as added."""
        taken, self._reacting = self._reacting, {}
        return [(kind, self._totals.get(kind, 0), n) for kind, n in taken.items()]

    def put_reactions(self, totals: dict[str, int]) -> None:
        """Spread new totals; a total never falls."""
        merged = {
            kind: max(totals.get(kind, 0), self._totals.get(kind, 0))
            for kind in sorted(totals.keys() | self._totals.keys())
        }
        if merged != self._totals:
            self._totals = merged
            self._lanes.newest[_REACTIONS] = Ready(Reactions(counts=dict(merged)))
            self._lanes.spread([_REACTIONS])

    def totals(self) -> list[Ready]:
        """Return the totals for a newcomer, nothing while there are none."""
        return [self._lanes.newest[_REACTIONS]] if self._totals else []

    def close(self) -> None:
        """End the pending spreading."""
        if self._stock_timer is not None:
            self._stock_timer.cancel()


def _slot(offer: str) -> str:
    return f"stock:{offer}"
