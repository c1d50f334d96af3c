"""Buys that wait: an unwritten hold may still change what they are to be told (R6).

A plain value without I/O. Two reasons to wait: for anybody's hold (`stock`), or for one of their
own viewer (`own`: his limit, or the same key). Called by counter alone.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from orders.records import Buy


class Parking:
    """The parked buys of one offer on this hub, in the order of their arrival."""

    __slots__ = ("_own", "_stock")

    def __init__(self) -> None:
        self._stock: deque[Buy] = deque()
        self._own: dict[str, list[Buy]] = {}  # by viewer

    def __bool__(self) -> bool:
        return bool(self._stock or self._own)

    def park(self, buy: Buy, own: bool, now_s: float) -> None:
        """Let a buy wait; the time of its first parking counts."""
        buy.parked_at = buy.parked_at or now_s
        if own:
            self._own.setdefault(buy.viewer, []).append(buy)
        else:
            self._stock.append(buy)

    def all(self) -> list[Buy]:
        """Take everybody out."""
        buys = [*self._stock, *(buy for buys in self._own.values() for buy in buys)]
        self._stock.clear()
        self._own.clear()
        return buys

    def fitting(self, left: int) -> list[Buy]:
        """Take out those for whom units seem to be there, first come first."""
        taken, waiting = [], deque[Buy]()
        for buy in self._stock:
            if buy.qty <= left:
                left -= buy.qty
                taken.append(buy)
            else:
                waiting.append(buy)
        self._stock = waiting
        return taken

    def of(self, viewer: str) -> list[Buy]:
        """Take out those who wait for this viewer's own hold."""
        return self._own.pop(viewer, [])

    def some(self, viewers_max: int) -> list[Buy]:
        """Take out those of the viewers who wait longest: their holds may be another hub's."""
        viewers = list(islice(self._own, viewers_max))
        return [buy for viewer in viewers for buy in self._own.pop(viewer)]

    def overdue(self, since_s: float) -> list[Buy]:
        """Take out those who were parked before that time."""
        late = [buy for buy in self._stock if buy.parked_at < since_s]
        if late:
            self._stock = deque(buy for buy in self._stock if buy.parked_at >= since_s)
        for viewer, buys in list(self._own.items()):
            if any(buy.parked_at < since_s for buy in buys):
                late += [buy for buy in buys if buy.parked_at < since_s]
                rest = [buy for buy in buys if buy.parked_at >= since_s]
                if rest:
                    self._own[viewer] = rest
                else:
                    del self._own[viewer]
        return late
