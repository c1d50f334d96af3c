"""Tells viewers what was committed: orders privately, stock conflated, facts by way of the log.

Implements `orders.records.Listener`. Owns the turning of a committed fact into its main event and
its publishing, one run a stream at a time; what fails here the keeper tells again (R9). Knows no
SQL and no socket. Used in every server process (telling through the hub) and in the keeper (through
the bus alone).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import msgspec

from livecart import views
from livecart.catalog.store import Catalog
from orders import failpoints
from orders.ledger.ledger import Ledger, LedgerAway, Told
from orders.metrics import STOCK_LEFT
from orders.records import Buy, Figures, Order
from streams.bus import Bus
from streams.log import EventLog, tag_of
from streams.notes import OrdersNote, StockNote
from streams.ports import Caller, Fact, Refused
from streams.protocol import (
    CommentOrder,
    Main,
    OfferClosed,
    OfferOpened,
    OfferPaused,
    OfferRestocked,
    OfferScheduled,
    OfferSoldOut,
    OrderEvent,
    Pin,
    Pinned,
    Product,
    StreamEnded,
    StreamStarted,
    Unpinned,
)

STREAMS_AT_ONCE = 4  # publishing runs under way: they share the pool with selling
ROUNDS_MAX = 100  # reads of one run; the keeper goes on
OFFERS_GAUGED_MAX = 1_000  # label values of the stock gauge

log = logging.getLogger("livecart.announce")
_encode = msgspec.msgpack.Encoder().encode

Item = tuple[str, OrderEvent | CommentOrder, Caller | None]


class Asker:
    """The connection whose command makes the change under way: it is answered, and so not told.

    Unless its answer had to be `retry`: then it is told as everybody is, of what it missed too.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller: Caller | None = caller
        self._missed: list[OrderEvent] = []  # of its own user; a command makes a handful at most

    def left_out(self, viewer: str, event: OrderEvent) -> Caller | None:
        """Return the connection that this event is not told to."""
        if self._caller is not None and self._caller.identity.sub == viewer:
            self._missed.append(event)
        return self._caller

    def give_up(self) -> None:
        """Tell what was kept back, and keep nothing back from now on."""
        caller, self._caller = self._caller, None
        if caller is not None and not caller.closed:
            for event in self._missed:
                caller.send(event)


_asker: ContextVar[Asker | None] = ContextVar("asker", default=None)


class Teller(Protocol):
    """How news reaches connections (`streams.hub.Hub`, or `BusTeller` where there is no hub)."""

    def private(self, stream_id: str, items: Sequence[Item]) -> None:
        """Tell viewers of their orders: (viewer, event, who was answered already)."""

    def stock(self, stream_id: str, offer_id: str, left: int, version: int) -> None:
        """Tell what is left of an offer; the newest wins."""


class BusTeller:
    """Tells the hubs of other processes."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def private(self, stream_id: str, items: Sequence[Item]) -> None:
        """Publish order events; there is nobody to leave out here."""
        if items:
            notes = [(viewer, msgspec.Raw(_encode(event))) for viewer, event, _ in items]
            self._bus.publish(tag_of(stream_id), OrdersNote(stream_id, notes))

    def stock(self, stream_id: str, offer_id: str, left: int, version: int) -> None:
        """Publish the newest figures of an offer."""
        note = StockNote(stream_id, offer_id, left, version)
        self._bus.publish_newest(tag_of(stream_id), (stream_id, offer_id), note)


@contextmanager
def asked_by(caller: Caller) -> Iterator[Asker]:
    """Leave out one connection from what the changes begun inside are told to."""
    asker = Asker(caller)
    token = _asker.set(asker)
    try:
        yield asker
    finally:
        _asker.reset(token)


class Announcer:
    """Hears what selling and the keeper committed, and tells it."""

    def __init__(self, ledger: Ledger, catalog: Catalog, events: EventLog) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._log = events
        self._teller: Teller | None = None  # set by `attach`, before anything is sold
        self._running: dict[str, asyncio.Task[None]] = {}  # by stream
        self._again: set[str] = set()  # streams told of while their run was under way
        self._slots = asyncio.Semaphore(STREAMS_AT_ONCE)
        self._gauged: set[str] = set()

    def attach(self, teller: Teller) -> None:
        """Tell through this from now on; the hub is built after what it is told by."""
        self._teller = teller

    # --- orders.records.Listener -----------------------------------------------------------------

    def sold(self, sales: Sequence[tuple[Buy, Order]], figures: Figures | None) -> None:
        """Tell each buyer's other connections, and everybody what is left."""
        if self._teller is not None:
            self._teller.private(
                sales[0][1].stream,
                [(order.viewer, views.order_event(order), _caller(buy)) for buy, order in sales],
            )
        if figures is not None:
            self.figures(figures)

    def changed(self, orders: Sequence[Order]) -> None:
        """Tell each order's viewer."""
        if self._teller is None:
            return
        asker = _asker.get()
        by_stream: dict[str, list[Item]] = {}
        for order in orders:
            event = views.order_event(order)
            left_out = None if asker is None else asker.left_out(order.viewer, event)
            by_stream.setdefault(order.stream, []).append((order.viewer, event, left_out))
        for stream, items in by_stream.items():
            self._teller.private(stream, items)

    def figures(self, figures: Figures) -> None:
        """Tell what is left of an offer."""
        if self._teller is not None:
            self._teller.stock(figures.stream, figures.offer, figures.left, figures.version)
        if figures.offer in self._gauged or len(self._gauged) < OFFERS_GAUGED_MAX:
            self._gauged.add(figures.offer)
            STOCK_LEFT.labels(figures.offer).set(figures.left)

    def told(self, stream: str) -> None:
        """Publish the stream's facts, soon."""
        if stream in self._running:
            self._again.add(stream)
            return
        self._running[stream] = asyncio.get_running_loop().create_task(
            self._run(stream), name=f"publish {stream}"
        )

    # --- publishing ------------------------------------------------------------------------------

    async def _run(self, stream: str) -> None:
        try:
            async with self._slots:
                self._again.add(stream)
                while stream in self._again:
                    self._again.discard(stream)
                    await self.publish(stream)
        except (LedgerAway, Refused) as away:
            log.warning("the facts of %s wait for the keeper: %s", stream, away)
        except Exception:
            log.exception("the facts of %s could not be published", stream)
        finally:
            # Nothing was awaited since the last look at `_again`: who tells from here starts anew.
            self._again.discard(stream)
            self._running.pop(stream, None)

    async def publish(self, stream: str) -> None:
        """Append to the log what it lacks; raise `LedgerAway` or `Refused` when that fails."""
        after: int | None = None
        for _ in range(ROUNDS_MAX):
            facts = await self._ledger.facts(stream, after)
            if not facts:
                return
            events = await events_of(facts, self._catalog)
            await failpoints.reach("publish.read")
            highest = await self._log.append_facts(
                stream, [Fact(n=f.n, event=e) for f, e in zip(facts, events, strict=True)]
            )
            last = facts[-1].n
            if highest < last:  # the log lost some that were published before: from there again
                if after is not None and highest <= after:
                    raise RuntimeError(f"the log of {stream} stays at fact {highest}")
                after = highest
                continue
            await failpoints.reach("publish.appended")
            await self._ledger.mark_published(stream, last)
            after = last
        log.warning("%s has more facts than one run publishes; the keeper goes on", stream)

    async def close(self) -> None:
        """Wait for the runs under way; each is bounded by its calls."""
        if self._running:
            await asyncio.wait(set(self._running.values()), timeout=2.0)
        for task in list(self._running.values()):
            task.cancel()


async def events_of(facts: Sequence[Told], catalog: Catalog) -> list[Main]:
    """Return the main events of committed facts; raises `LedgerAway`."""
    wanted = [fact.body["product"] for fact in facts if fact.body is not None]
    products = await catalog.products(wanted)
    events = [
        _event(fact, None if fact.body is None else products[fact.body["product"]])
        for fact in facts
    ]
    for fact, event in zip(facts, events, strict=True):
        # Where the video is may have come with its publisher, after everybody had his `welcome`.
        # Not in the fact: the release before could not read one that has more to say.
        if isinstance(event, StreamStarted):
            stream = await catalog.stream(fact.subject)
            event.playback_url = None if stream is None else stream.playback_url
            if fact.reason == "video" and stream is not None and stream.started_at is not None:
                event.at = stream.started_at  # it has not started anew
    return events


def _caller(buy: Buy) -> Caller | None:
    """Return the connection that a buy came by; one over HTTP has a future for a tag."""
    return None if isinstance(buy.tag, asyncio.Future) else buy.tag


def _event(fact: Told, product: Product | None) -> Main:
    """Return the main event of a committed fact."""
    at, reason, subject = fact.at, fact.reason, fact.subject
    match fact.kind:
        case "stream.started":
            return StreamStarted(at=at, reason=reason)
        case "stream.ended":
            return StreamEnded(at=at, reason=reason)
        case "unpinned":
            return Unpinned(at=at, pin=subject)
        case "offer.sold_out":
            return OfferSoldOut(at=at, offer=subject, reason=reason)
        case "offer.paused":
            return OfferPaused(at=at, offer=subject, reason=reason)
        case "offer.closed":
            return OfferClosed(at=at, offer=subject, reason=reason)
    if fact.body is None or product is None:
        raise ValueError(f"fact {fact.n} of kind {fact.kind} lacks its body")
    if fact.kind == "pinned":
        pin = Pin(
            id=subject,
            product=product,
            position=0,
            offer=fact.body["offer"],
            media_at=fact.body["media_at"],
        )
        return Pinned(at=at, pin=pin)
    offer = views.offer_of_fact(fact.body, product)
    match fact.kind:
        case "offer.scheduled":
            return OfferScheduled(at=at, offer=offer, reason=reason)
        case "offer.opened":
            return OfferOpened(at=at, offer=offer, reason=reason)
        case "offer.restocked":
            return OfferRestocked(at=at, offer=offer, reason=reason)
    raise ValueError(f"fact {fact.n} is of the unknown kind {fact.kind}")
