"""What hubs tell each other that is not sequenced: Redis pub/sub, one channel per log tag in use.

Owns one pub/sub connection and one sender. Nothing here is a promise: after a lost connection the
listener is told which tags may have missed something, and resyncs. Must never know a session or a
room. Called by hub, which delivers its own notes itself before it publishes them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal, Protocol

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from streams.calls import AWAY, Caller, sibling
from streams.codes import Code
from streams.ports import Refused
from streams.tasks import Tasks, back_off_s

NOTES_WAITING_MAX = 5_000  # beyond, what waits is dropped and the other hubs resync
NOTES_PER_MESSAGE_MAX = 200
NEWEST_EVERY_S = 0.05
PING_EVERY_S = 2.0  # a connection that hangs rather than closes is given up after two of these
CALL_TIMEOUT_S = 1.0

ControlKind = Literal["mute", "unmute", "ban"]

logger = logging.getLogger("streams.bus")


class StockNote(msgspec.Struct, tag="stock", frozen=True):
    stream: str
    offer: str
    left: int
    version: int


class ReactionsNote(msgspec.Struct, tag="reactions", frozen=True):
    stream: str
    counts: dict[str, int]


class OrdersNote(msgspec.Struct, tag="orders", frozen=True):
    """Order events of one commit batch, each still encoded: most are for nobody here."""

    stream: str
    items: list[tuple[str, msgspec.Raw]]


class ControlNote(msgspec.Struct, tag="control", frozen=True):
    stream: str
    kind: ControlKind
    user: str
    until_ms: int | None = None


class SlowNote(msgspec.Struct, tag="slow", frozen=True):
    stream: str
    every_s: int


class LostNote(msgspec.Struct, tag="lost", frozen=True):
    """Notes of this tag were dropped by their sender."""


Note = StockNote | ReactionsNote | OrdersNote | ControlNote | SlowNote | LostNote


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    origin: str
    notes: list[Note]


class BusListener(Protocol):
    """Whom the bus tells."""

    def bus_read(self, tag: str, note: Note) -> None:
        """Take a note of another hub."""

    def bus_lost(self, tag: str) -> None:
        """Notes of this tag may have been missed; the bus is back."""


class _Channel:
    """One tag that is listened to."""

    __slots__ = ("confirmed", "lost", "rooms")

    def __init__(self) -> None:
        self.rooms = 1  # how often the tag was added
        self.confirmed = asyncio.Event()  # set while the server is known to send us this tag
        self.lost = False  # the connection broke since the tag was first confirmed


class Bus:
    """One process' ear and mouth among the hubs."""

    def __init__(self, redis: Redis) -> None:
        self.hub_id = secrets.token_hex(8)
        self._caller = Caller(redis, CALL_TIMEOUT_S)
        self._sibling = sibling(redis, socket_timeout_s=CALL_TIMEOUT_S, connections_max=2)
        self._tasks = Tasks("bus")
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(_Envelope)
        self._listener: BusListener | None = None  # set by start
        self._channels: dict[str, _Channel] = {}  # by channel name, what is wanted
        # By channel name, what was asked for on the present connection. One that was removed and
        # added again is another channel: it waits for a confirmation of its own.
        self._asked: dict[str, _Channel] = {}
        self._asking = asyncio.Lock()  # one SUBSCRIBE or UNSUBSCRIBE at a time, in order
        self._pubsub: PubSub | None = None  # None: no connection at the moment
        self._waiting: list[tuple[str, Note]] = []
        self._newest: dict[tuple[str, ...], tuple[str, Note]] = {}  # tag and note by slot
        self._newest_at = 0.0  # loop time from which the newest may be sent again
        self._dropped: set[str] = set()  # tags of which notes were dropped
        self._wake = asyncio.Event()

    def start(self, listener: BusListener) -> None:
        """Begin to listen and to send."""
        self._listener = listener
        self._tasks.keep(self._listen, "listen")
        self._tasks.keep(self._send, "send")

    async def close(self) -> None:
        """End both."""
        await self._tasks.close()
        await self._caller.close()
        await self._sibling.aclose()

    # --- speaking -----------------------------------------------------------------------------

    def publish(self, tag: str, note: Note) -> None:
        """Send a note as soon as possible; never blocks."""
        if len(self._waiting) >= NOTES_WAITING_MAX:
            self._dropped.update(waiting for waiting, _ in self._waiting)
            self._waiting.clear()
            logger.error("the bus dropped notes of %d tags", len(self._dropped))
        self._waiting.append((tag, note))
        self._wake.set()

    def publish_newest(self, tag: str, slot: tuple[str, ...], note: Note) -> None:
        """Send the newest note of a slot, at most every NEWEST_EVERY_S."""
        self._newest[slot] = (tag, note)
        self._wake.set()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            notes, self._waiting = self._waiting, []
            if self._newest:
                if (now := loop.time()) >= self._newest_at:
                    notes += self._newest.values()
                    self._newest = {}
                    self._newest_at = now + NEWEST_EVERY_S
                else:
                    loop.call_later(self._newest_at - now, self._wake.set)
            if notes:
                await self._deliver(self._seal(notes))
            if self._dropped:
                lost, self._dropped = self._dropped, set()
                await self._deliver(self._seal((tag, LostNote()) for tag in lost))

    def _seal(self, notes: Iterable[tuple[str, Note]]) -> list[tuple[str, bytes]]:
        by_tag: defaultdict[str, list[Note]] = defaultdict(list)
        for tag, note in notes:
            by_tag[tag].append(note)
        return [
            (_channel(tag), self._encoder.encode(_Envelope(self.hub_id, held[i : i + step])))
            for step in (NOTES_PER_MESSAGE_MAX,)
            for tag, held in by_tag.items()
            for i in range(0, len(held), step)
        ]

    async def _deliver(self, messages: list[tuple[str, bytes]]) -> None:
        """Publish until Redis takes it; twice is harmless, each note is absolute."""

        async def run() -> None:
            async with self._caller.redis.pipeline(transaction=False) as pipe:
                for channel, message in messages:
                    pipe.publish(channel, message)
                await pipe.execute()

        attempt = 0
        while True:
            try:
                await self._caller.call(run)
                return
            except Refused:
                attempt += 1
                await asyncio.sleep(back_off_s(attempt))

    # --- listening ----------------------------------------------------------------------------

    async def add(self, tag: str) -> None:
        """Listen to a tag; returns once the server confirmed it."""
        channel = self._channels.get(_channel(tag))
        if channel is not None:
            channel.rooms += 1
        else:
            channel = self._channels[_channel(tag)] = _Channel()
            self._tasks.spawn(self._reconcile(), "subscribe")
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await channel.confirmed.wait()
        except TimeoutError as error:
            self.remove(tag)
            raise Refused(Code.RETRY) from error
        except asyncio.CancelledError:
            self.remove(tag)
            raise

    def remove(self, tag: str) -> None:
        """Undo one `add`."""
        channel = self._channels[_channel(tag)]
        channel.rooms -= 1
        if channel.rooms == 0:
            del self._channels[_channel(tag)]
            self._tasks.spawn(self._reconcile(), "unsubscribe")

    async def _reconcile(self) -> None:
        async with self._asking:
            pubsub = self._pubsub
            if pubsub is None:  # the next connection begins with what is wanted then
                return
            wanted, asked = dict(self._channels), self._asked
            missing = [name for name, channel in wanted.items() if asked.get(name) is not channel]
            surplus = asked.keys() - wanted.keys()
            self._asked = wanted
            try:
                if missing:
                    await pubsub.subscribe(*missing)
                if surplus:
                    await pubsub.unsubscribe(*surplus)
            except AWAY as error:  # that closed the connection, so the listener notices
                logger.warning("the bus could not subscribe: %s", error)

    async def _listen(self) -> None:
        attempt = 0
        while True:
            pubsub = self._sibling.pubsub()
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    # A channel of our own keeps the connection in subscribed state.
                    self._asked = dict(self._channels)
                    await pubsub.subscribe(f"hub:{self.hub_id}", *self._asked)
                self._pubsub = pubsub
                await self._reconcile()
                attempt = 0
                await self._read(pubsub)
            except AWAY as error:
                if attempt == 0:
                    logger.warning("the bus is away: %s", error)
                attempt += 1
            finally:
                self._pubsub = None
                self._asked = {}
                for channel in self._channels.values():
                    if channel.confirmed.is_set():
                        channel.confirmed.clear()
                        channel.lost = True
                await self._drop(pubsub)
            await asyncio.sleep(back_off_s(attempt))

    async def _read(self, pubsub: PubSub) -> None:
        silent_reads = 0
        while True:
            message = await pubsub.get_message(timeout=PING_EVERY_S)
            if message is not None:
                silent_reads = 0
                self._take(message)
                continue
            silent_reads += 1
            if silent_reads > 1:
                raise TimeoutError("no answer to a ping")
            await pubsub.ping()

    def _take(self, message: dict[str, Any]) -> None:
        listener = self._listener
        assert listener is not None
        name = message["channel"]
        name = name.decode() if isinstance(name, bytes) else name
        channel = self._channels.get(name)
        if channel is None:
            return
        if message["type"] == "subscribe":
            # A second confirmation: the client library had reconnected behind our back.
            again = channel.lost or channel.confirmed.is_set()
            channel.lost = False
            channel.confirmed.set()
            if again:
                listener.bus_lost(_tag(name))
        elif message["type"] == "message":
            self._open(listener, _tag(name), message["data"])

    def _open(self, listener: BusListener, tag: str, data: bytes) -> None:
        try:
            envelope = self._decoder.decode(data)
        except msgspec.MsgspecError:  # of a newer release: what it says can be read in Postgres
            logger.exception("a note cannot be read")
            listener.bus_lost(tag)
            return
        if envelope.origin != self.hub_id:
            for note in envelope.notes:
                listener.bus_read(tag, note)

    async def _drop(self, pubsub: PubSub) -> None:
        try:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
        except AWAY as error:
            logger.info("closing a broken pub/sub connection: %s", error)


def _channel(tag: str) -> str:
    return f"{tag}:bus"


def _tag(channel: str) -> str:
    return channel.removesuffix(":bus")
