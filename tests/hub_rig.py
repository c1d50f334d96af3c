"""A hub on a real Redis with plain collaborators: what a stream is, who a token is, who sells.

The socket is an end in memory that reads frames as a client would; Redis is real. Used by the tests
of session, lanes and hub only; it knows nothing of livecart.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy as copy
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from orders.stock.cluster import ClusterClient
from streams.bus import Bus
from streams.clock import RedisClock
from streams.codec import BINARY_FORMS, EVENTS, JSON, MSGPACK
from streams.codes import Code
from streams.hub import Hub
from streams.log import EventLog, LogLimits
from streams.pace import Pace, Rate, Rates
from streams.places import Place
from streams.ports import Caller, Clerk, Ear, Fact, Identity, Refused, RoomState, Standing
from streams.protocol import (
    AnyCommand,
    Buy,
    Offer,
    OfferClosed,
    Ok,
    Order,
    OrderReserved,
    OrderStatus,
    Product,
    Since,
    Stream,
)
from streams.rooms import HubLimits

WAIT_S = 10.0  # for a condition that a working hub meets in milliseconds
QUICK = HubLimits(
    heads_every_s=0.1,
    presence_every_s=0.1,
    audience_every_s=0.1,
    reactions_every_s=0.05,
    tick_ms=20,
)

Event = dict[str, Any]


class Screen:
    """One client's end of a connection, in memory."""

    def __init__(self, *, binary: bool = False, form: int | None = None) -> None:
        self.form = form if form is not None else MSGPACK if binary else JSON
        self.binary = self.form in BINARY_FORMS
        self.ids: list[str | None] = []  # of the events, where they are Server-Sent
        self._place = Place(None)
        self.heard_at = asyncio.get_running_loop().time()
        self.waiting = 0  # bytes that this client has not taken; the test sets it
        self.events: list[Event] = []
        self.pings = 0
        self.held = False
        self.closed_with: int | None = None
        self.ear: Ear | None = None
        self._next_id = 0

    # --- ports.Socket

    def write(self, frame: bytes) -> None:
        """Read the frames at once."""
        if self.closed_with is None:
            self._take(frame)

    def write_apart(self, frames: bytes) -> None:
        """Read the frames at once."""
        if self.closed_with is None:
            self._take(frames)

    def waiting_bytes(self) -> int:
        """Answer as the test has set."""
        return self.waiting

    def ping(self) -> None:
        """Count."""
        self.pings += 1

    def close(self, code: int, reason: str = "") -> None:
        """Remember the first code; the connection is lost a moment later."""
        if self.closed_with is None:
            self.closed_with = int(code)
            assert self.ear is not None
            asyncio.get_running_loop().call_soon(self.ear.lost)

    def hold(self) -> None:
        """Remember."""
        self.held = True

    def listen(self) -> None:
        """Remember."""
        self.held = False

    def abort(self) -> None:
        """End at once."""
        self.close(1006)

    # --- the client

    def sleep(self) -> None:
        """Take nothing more."""
        assert self.ear is not None
        self.waiting = 1
        self.ear.stalled()

    def awake(self) -> None:
        """Take all that waits."""
        assert self.ear is not None
        self.waiting = 0
        self.ear.drained()

    def say(self, type_: str, **fields: Any) -> int:
        """Send a command and return its id."""
        if self.form == EVENTS and "since" in fields:
            self._place = Place(msgspec.convert(fields["since"], Since))
        self._next_id += 1
        message = {"type": type_, "id": self._next_id, **fields}
        self.say_raw(
            msgspec.msgpack.encode(message) if self.binary else json.dumps(message).encode()
        )
        return self._next_id

    def say_raw(self, payload: bytes) -> None:
        """Send any payload in the subprotocol's kind of frame."""
        assert self.ear is not None
        self.heard_at = asyncio.get_running_loop().time()
        self.ear.received(payload, self.binary)

    def of(self, type_: str) -> list[Event]:
        """Return the events of a type."""
        return [event for event in self.events if event["type"] == type_]

    async def get(self, type_: str, count: int = 1) -> Event:
        """Wait for the n-th event of a type and return it."""
        await until(lambda: len(self.of(type_)) >= count, f"{count} {type_}")
        return self.of(type_)[count - 1]

    async def answer(self, re: int) -> Event:
        """Wait for the answer to a command."""
        await until(lambda: any(e.get("re") == re for e in self.events), f"answer to {re}")
        return next(event for event in self.events if event.get("re") == re)

    async def closing(self) -> int:
        """Wait for the close and return its code."""
        await until(lambda: self.closed_with is not None, "close")
        assert self.closed_with is not None
        return self.closed_with

    def _take(self, frames: bytes) -> None:
        if self.form == EVENTS:
            for id_, payload in server_sent(self._place.number(frames)):
                self.ids.append(id_)
                self.events.append(self._decode(payload))
        else:
            self.events.extend(self._decode(payload) for payload in payloads(frames))

    def _decode(self, payload: bytes) -> Event:
        event: Event = (msgspec.msgpack if self.binary else msgspec.json).decode(payload)
        return event


def payloads(data: bytes) -> Iterable[bytes]:
    """Split unmasked server frames, and inflate those that are deflated (RSV1)."""
    at = 0
    while at < len(data):
        length, start = data[at + 1], at + 2
        if length == 126:
            length, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
        elif length == 127:
            length, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
        payload = data[start : start + length]
        if data[at] & 0x40:
            payload = zlib.decompress(payload + b"\x00\x00\xff\xff\x03\x00", wbits=-zlib.MAX_WBITS)
        yield payload
        at = start + length


def server_sent(data: bytes) -> Iterable[tuple[str | None, bytes]]:
    """Split Server-Sent Events into their ids and what they say."""
    assert data.endswith(b"\n\n")
    for block in data[:-2].split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
        assert fields.keys() <= {b"id", b"data"}
        yield fields[b"id"].decode() if b"id" in fields else None, fields[b"data"]


async def until(condition: Callable[[], object], what: str = "condition") -> None:
    """Wait until a condition holds."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


@dataclass
class Truth:
    """A `ports.RoomSource` of one stream."""

    stream_id: str = field(default_factory=lambda: f"st_{secrets.token_hex(8)}")
    offers: list[Offer] = field(default_factory=list)
    fact_n: int | None = None
    own: dict[str, list[Order]] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    written: list[Fact] = field(default_factory=list)
    peak: dict[str, int] = field(default_factory=dict)
    chat_every_s: int | None = None
    away: bool = False
    reads: int = 0
    gate: asyncio.Event | None = None  # when set to an event, readings of the room wait for it

    async def room(self, stream_id: str) -> RoomState | None:
        """Return the state as the test has set it."""
        self.reads += 1
        self._look()
        state = RoomState(
            stream=Stream(
                id=stream_id,
                shop="shop",
                title="A show",
                status="live",
                chat_every_s=self.chat_every_s,
            ),
            pins=[],
            offers=list(self.offers),
            fact_n=self.fact_n,
        )
        if self.gate is not None:
            await self.gate.wait()
        return state if stream_id == self.stream_id else None

    async def facts(self, stream_id: str, after_n: int, count: int) -> list[Fact]:
        """Return what the test has written down."""
        self._look()
        return [copy(fact) for fact in self.written if fact.n > after_n][:count]

    async def peaks(self, viewers: Mapping[str, int]) -> None:
        """Keep the most."""
        self._look()
        for stream_id, count in viewers.items():
            self.peak[stream_id] = max(count, self.peak.get(stream_id, 0))

    async def orders(self, stream_id: str, viewer: str) -> list[Order]:
        """Return the viewer's orders."""
        self._look()
        return list(self.own.get(viewer, []))

    async def standing(self, stream_id: str, user: str) -> Standing:
        """Return the user's standing."""
        self._look()
        return self.standings.get(user, Standing())

    def _look(self) -> None:
        if self.away:
            raise Refused(Code.RETRY)


class Gate:
    """A `ports.Doorkeeper`: a token reads `role/sub`, `role/sub/exp_ms` or `role/sub//stream`."""

    async def verify(self, token: str) -> Identity:
        """Take the token apart."""
        role, _, rest = token.partition("/")
        sub, _, more = rest.partition("/")
        exp_ms, _, stream = more.partition("/")
        if role not in ("viewer", "host", "admin", "service"):
            raise Refused(Code.UNAUTHENTICATED)
        return Identity(
            sub=sub,
            role=role,
            name=sub.title(),
            shop=sub,
            exp_ms=int(exp_ms) if exp_ms else None,
            streams=frozenset([stream]) if stream else None,
        )


@dataclass
class Desk:
    """A `ports.Handler` that keeps commands, and sells."""

    commands: list[AnyCommand] = field(default_factory=list)

    def handle(self, caller: Caller, command: AnyCommand) -> None:
        """Answer at once."""
        self.commands.append(command)
        if isinstance(command, Buy):
            order = an_order(caller.stream_id, caller.identity.sub, key=command.key)
            caller.send(OrderReserved(order=order, re=command.id))
        else:
            caller.send(Ok(re=command.id))


def an_order(
    stream_id: str, viewer: str, *, key: str = "k", version: int = 1, status: str = "reserved"
) -> Order:
    """Return an order of one unit."""
    return Order(
        id=f"or_{key}",
        stream=stream_id,
        offer="of_1",
        product="pr_1",
        viewer=viewer,
        qty=1,
        unit_price_minor=100,
        amount_minor=100,
        currency="TWD",
        status=msgspec.convert(status, OrderStatus),
        rank=1,
        key=key,
        version=version,
        reserved_at=1,
    )


def an_offer(stream_id: str, *, left: int = 10, version: int = 1) -> Offer:
    """Return an open offer of ten units."""
    product = Product(id="pr_1", shop="shop", sku="A", title="A", price_minor=100, currency="TWD")
    return Offer(
        id="of_1",
        stream=stream_id,
        product=product,
        price_minor=100,
        currency="TWD",
        quantity=10,
        left=left,
        reserved=10 - left,
        confirmed=0,
        per_viewer=10,
        status="open",
        hold_s=600,
        payment="required",
        epoch=1,
        version=version,
    )


def closed(n: int) -> OfferClosed:
    """Return the n-th main event of a test."""
    return OfferClosed(at=n, offer=f"of_{n}")


def connect_redis(redis_url: str) -> Redis:
    """Return a client as livecart makes it."""
    return Redis.from_url(
        redis_url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )


@dataclass
class Stage:
    """One hub under test."""

    hub: Hub
    log: EventLog
    truth: Truth
    desk: Desk

    def connect(
        self, stream_id: str | None = None, *, binary: bool = False, form: int | None = None
    ) -> Screen:
        """Open a connection that has not said hello."""
        screen = Screen(binary=binary, form=form)
        screen.ear = self.hub.accept(screen, stream_id or self.truth.stream_id, None, "127.0.0.1")
        return screen

    async def enter(self, token: str | None = None, *, binary: bool = False) -> Screen:
        """Open a connection and have it welcomed."""
        screen = self.connect(binary=binary)
        screen.say("hello", **({} if token is None else {"token": token}))
        await screen.get("welcome")
        return screen


_AS_YOU_LIKE = Rate(1e6, 1_000_000)
#: Bounds that no test meets by chance.
EASY = Rates(sell=_AS_YOU_LIKE, host=_AS_YOU_LIKE, chat=_AS_YOU_LIKE, react=_AS_YOU_LIKE)


@asynccontextmanager
async def open_stage(
    redis_at: str | ClusterClient,
    truth: Truth,
    limits: HubLimits = QUICK,
    log_limits: LogLimits | None = None,
    rates: Rates | None = None,
    clerk: Clerk | None = None,
) -> AsyncIterator[Stage]:
    """Run a hub on the server at a URL, or on a cluster."""
    redis = connect_redis(redis_at) if isinstance(redis_at, str) else redis_at
    log, clock, desk = EventLog(redis, log_limits), RedisClock(redis), Desk()
    hub = Hub(
        redis=redis,
        log=log,
        bus=Bus(redis),
        clock=clock,
        doorkeeper=Gate(),
        source=truth,
        handler=desk,
        limits=limits,
        pace=Pace(rates or EASY),
        clerk=clerk,
    )
    await clock.start()
    await hub.start()
    try:
        yield Stage(hub, log, truth, desk)
    finally:
        await hub.stop()
        await clock.stop()
        await log.close()
        await redis.aclose()
