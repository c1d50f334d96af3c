"""What the hub asks about a stream: its state, a viewer's orders, a user's standing.

Implements `streams.ports.RoomSource` over catalog and ledger; thousands of hellos at once become a
few queries. Knows no socket. Called by the hub, and by the HTTP routes for bans.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeVar

from livecart import views
from livecart.announce import events_of
from livecart.catalog.store import Catalog
from orders.coalesce import Coalesced
from orders.ledger.ledger import Ledger, LedgerAway
from streams.codes import Code
from streams.ports import Fact, Refused, RoomState, Standing
from streams.protocol import ORDERS_IN_WELCOME_MAX, Order
from streams.tasks import Tasks

BANS_AGE_S = 1.0  # how long after a ban an HTTP call of the banned may still get through
BANS_KEPT_MAX = 1_000  # streams whose bans are remembered
OFFERS_KEPT_MAX = 10_000  # offers whose stream is remembered

Of = tuple[str, str]  # (stream, user)
T = TypeVar("T")
NO_STANDING = Standing()
CROWD_S = 0.01  # for which a crowd's readings gather: each costs more than those it is for


class Rooms:
    """Reads the truth about streams for newcomers."""

    def __init__(self, catalog: Catalog, ledger: Ledger) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._orders: Coalesced[Of, list[Order]] = Coalesced(self._load_orders, apart_s=CROWD_S)
        self._standings: Coalesced[Of, Standing] = Coalesced(self._load_standings, apart_s=CROWD_S)
        self._ban_reads: Coalesced[str, frozenset[str]] = Coalesced(self._load_bans)
        self._reading_bans: set[str] = set()  # streams whose list is read behind the old one
        self._tasks = Tasks("rooms")
        self._stream_of: dict[str, str] = {}  # by offer; an offer never moves
        self._bans: dict[str, tuple[frozenset[str], float]] = {}  # by stream, until monotonic time

    async def room(self, stream_id: str) -> RoomState | None:
        """Return the state now, or None when there is no such stream."""
        return await _or_retry(self._catalog.room(stream_id))

    async def orders(self, stream_id: str, viewer: str) -> list[Order]:
        """Return the viewer's newest orders of the stream."""
        return await _or_retry(self._orders.get((stream_id, viewer))) or []

    async def standing(self, stream_id: str, user: str) -> Standing:
        """Return whether the user is muted or banned."""
        return await _or_retry(self._standings.get((stream_id, user))) or NO_STANDING

    async def facts(self, stream_id: str, after_n: int, count: int) -> list[Fact]:
        """Return facts of a stream after one, in order, so many at the most."""
        return await _or_retry(self._read_facts(stream_id, after_n, count))

    async def _read_facts(self, stream_id: str, after_n: int, count: int) -> list[Fact]:
        found: list[Fact] = []
        while len(found) < count:
            part = await self._ledger.facts(stream_id, after_n)
            if not part:
                break
            events = await events_of(part, self._catalog)
            found += [Fact(n=told.n, event=e) for told, e in zip(part, events, strict=True)]
            after_n = part[-1].n
        return found[:count]

    async def peaks(self, viewers: Mapping[str, int]) -> None:
        """Keep how many viewers streams have, where that is more than ever."""
        await _or_retry(self._catalog.note_peaks(viewers))

    async def stream_of(self, offer: str) -> str | None:
        """Return the stream of an offer, None when there is no such offer."""
        stream = self._stream_of.get(offer)
        if stream is None:
            found = await _or_retry(self._catalog.offer(offer))
            if found is None:
                return None
            if len(self._stream_of) >= OFFERS_KEPT_MAX:
                self._stream_of.clear()
            stream = self._stream_of[offer] = found.stream
        return stream

    async def banned(self, stream_id: str) -> frozenset[str]:
        """Return who is banned from a stream, as of the last two seconds."""
        now = time.monotonic()
        known = self._bans.get(stream_id)
        if known is None or known[1] + BANS_AGE_S <= now:
            return await self._read_bans(stream_id)
        if known[1] <= now and stream_id not in self._reading_bans:
            self._reading_bans.add(stream_id)  # in a crowd, nobody waits for the next reading
            self._tasks.spawn(self._read_bans(stream_id), "bans", expected=Refused)
        return known[0]

    async def _read_bans(self, stream_id: str) -> frozenset[str]:
        try:
            banned = await _or_retry(self._ban_reads.get(stream_id)) or frozenset()
        finally:
            self._reading_bans.discard(stream_id)
        if len(self._bans) >= BANS_KEPT_MAX:
            self._bans.clear()
        self._bans[stream_id] = (banned, time.monotonic() + BANS_AGE_S)
        return banned

    async def _load_orders(self, keys: Sequence[Of]) -> dict[Of, list[Order]]:
        found: defaultdict[Of, list[Order]] = defaultdict(list)
        for stream, viewers in _by_stream(keys).items():
            for order in await self._ledger.orders_of_viewers(
                stream, viewers, ORDERS_IN_WELCOME_MAX
            ):
                found[stream, order.viewer].append(views.order(order))
        return found

    async def _load_standings(self, keys: Sequence[Of]) -> dict[Of, Standing]:
        found: dict[Of, Standing] = {}
        for stream, users in _by_stream(keys).items():
            for user, standing in (await self._catalog.standings(stream, users)).items():
                found[stream, user] = standing
        return found

    async def _load_bans(self, streams: Sequence[str]) -> dict[str, frozenset[str]]:
        return {stream: await self._catalog.banned(stream) for stream in streams}


def _by_stream(keys: Sequence[Of]) -> dict[str, list[str]]:
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    for stream, user in keys:
        grouped[stream].append(user)
    return grouped


async def _or_retry(reading: Awaitable[T]) -> T:
    try:
        return await reading
    except (LedgerAway, OverflowError) as error:
        raise Refused(Code.RETRY) from error
