"""One process' hub: its connections, its rooms, and what other hubs and the log tell it.

Owns every session and room of the process and the tasks that keep them right. It must never know
SQL, prices or stock rules: livecart hands it a doorkeeper, a source of room state and a handler of
commands, and tells it of committed changes. Called by wire (`ports.Front`), session and livecart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

import msgspec

from streams.addresses import Addresses
from streams.backlog import Backlogs
from streams.bus import Bus
from streams.calls import Client
from streams.clock import RedisClock
from streams.codec import Ready
from streams.codes import Close, Code
from streams.counts import Counts
from streams.log import EventLog, Logged, read_tail, tag_of
from streams.metrics import Meter
from streams.notes import (
    ControlKind,
    ControlNote,
    LostNote,
    Note,
    OrdersNote,
    ReactionsNote,
    SlowNote,
    StockNote,
)
from streams.pace import Bucket, Kind, Pace
from streams.permits import guest
from streams.ports import (
    Caller,
    Clerk,
    Doorkeeper,
    Handler,
    Identity,
    Refused,
    RoomSource,
    Socket,
)
from streams.protocol import (
    INT_MAX,
    AnyPrivate,
    CommentOrder,
    Draining,
    Hello,
    OrderEvent,
    Since,
)
from streams.rooms import HubLimits, Room, Surroundings
from streams.session import Session, Stage
from streams.tail import Fields, Tail
from streams.tasks import Tasks
from streams.upkeep import Upkeep
from streams.welcome import Greeter
from streams.wheel import Wheel

DRAIN_STEP_S = 0.05
DRAIN_RETRY_AFTER_MS = 1_000

logger = logging.getLogger("streams.hub")
_encode = msgspec.msgpack.Encoder().encode
_private = msgspec.msgpack.Decoder(AnyPrivate)


class Hub:
    """Every connection of this process."""

    def __init__(
        self,
        *,
        redis: Client,
        log: EventLog,
        bus: Bus,
        clock: RedisClock,
        doorkeeper: Doorkeeper,
        source: RoomSource,
        handler: Handler,
        limits: HubLimits | None = None,
        pace: Pace | None = None,
        clerk: Clerk | None = None,
    ) -> None:
        self.limits = limits or HubLimits()
        self.log = log
        self.bus = bus
        self.clock = clock
        self.handler = handler
        self.meter = Meter()
        self.backlogs = Backlogs(self.limits.queue_bytes_max, self.limits.queues_bytes_max)
        self.pace = pace or Pace()
        self.addresses = Addresses(self.limits.address_connections_max, self.limits.proxies)
        self._connects = Bucket(self.limits.connects)
        self.tasks = Tasks("hub")
        self.wheel = Wheel(self.limits)
        self.rooms: dict[str, Room] = {}  # by stream
        self.by_tag: dict[str, dict[str, Room]] = {}  # by tag and stream: who hears the tail
        self.sessions: dict[Session, None] = {}  # every connection, welcomed or not
        self.tail = Tail(redis, self)
        self.counts = Counts(redis, bus.hub_id, self.limits.presence_lease_ms)
        self._doorkeeper = doorkeeper
        self.source = source
        self._around = Surroundings(
            log, source, clock, self.limits, self.tasks, self.meter, self._resync, clerk
        )
        self._greeter = Greeter(self._around)
        self._upkeep = Upkeep(self, redis)
        self._opening: dict[str, asyncio.Task[Room]] = {}  # by stream, one opening for a crowd
        self._draining = False
        self._unflushed: list[Session] = []  # those with replies of this turn of the loop

    async def start(self) -> None:
        """Begin the upkeep; the clock is started by its owner."""
        self.bus.start(self)
        self._upkeep.start(self.tasks)

    async def drain(self, grace_s: float) -> None:
        """Tell everyone to go elsewhere, and end the connections spread over the grace."""
        self._draining = True
        ready = Ready(Draining(retry_after_ms=DRAIN_RETRY_AFTER_MS))
        for session in list(self.sessions):
            session.socket.write(ready.frame(session.socket.form))
        steps = max(1, int(grace_s / DRAIN_STEP_S))
        share = -(-len(self.sessions) // steps)
        while self.sessions:
            for session in list(self.sessions)[: max(1, share)]:
                session.close(Close.DRAINING, "draining")
            if self.sessions:
                await asyncio.sleep(DRAIN_STEP_S)

    async def stop(self) -> None:
        """End every connection and task; `drain` comes first where there is time."""
        self._draining = True
        for session in list(self.sessions):
            session.close(Close.DRAINING, "draining")
        await self._upkeep.resign()
        await self.tasks.close()
        await self.tail.close()
        await self.bus.close()
        await self.counts.close()
        for room in self.rooms.values():
            room.close()
        self.meter.flush(0, 0)

    # --- wire's side (ports.Front) ------------------------------------------------------------

    def client(self, peer: str, forwarded: str) -> str:
        """Return whose address counts: the peer's, or what a trusted proxy says."""
        return self.addresses.client(peer, forwarded)

    def turns_away(self, client: str) -> bool:
        """Tell whether a new connection from there is to be answered HTTP 503, and count it."""
        limit = self._limit_met(client)
        if limit is not None:
            self.meter.turned_away[limit] += 1
        return limit is not None

    def deflates(self) -> bool:
        """Tell whether messages may be deflated where a client offers it."""
        return self.limits.deflate

    def _limit_met(self, client: str) -> str | None:
        if self._draining:
            return "draining"
        if len(self.sessions) >= self.limits.connections_max:
            return "process"
        if self.addresses.full(client):
            return "address"
        return "rate" if self._connects.wait_ms("", self.now_s()) else None

    def overloaded(self) -> bool:
        """Tell whether no new connection is taken at all."""
        return self._draining or len(self.sessions) >= self.limits.connections_max

    def accept(
        self, socket: Socket, stream_id: str, header_token: str | None, client: str
    ) -> Session:
        """Make the session of a connection whose handshake was just answered."""
        session = Session(self, socket, stream_id, header_token, client)
        self.sessions[session] = None
        self.addresses.enter(client)
        self.wheel.add(session, self.now_s())
        if self._draining:
            session.close(Close.DRAINING, "draining")
        return session

    # --- sessions' side -----------------------------------------------------------------------

    def greet(self, session: Session, hello: Hello) -> None:
        """Answer a hello, later; `session.open` follows, or the connection is ended."""
        self.tasks.spawn(self._greet(session, hello), "greet")

    async def enter(self, session: Session, since: Since | None) -> None:
        """Welcome a connection that says no hello, since its request has said all.

        Raise `Refused`, and forget it then; it may be closed all the same when this returns.
        """
        session.stage = Stage.GREETING
        try:
            await self._welcome(session, session.header_token, since, None)
        except BaseException:
            session.lost()
            raise

    def wait_ms(self, user: str, kind: Kind) -> int:
        """Count a user's command; return 0, or for how long it comes too early."""
        return self.pace.wait_ms(user, kind, self.now_s())

    def now_s(self) -> float:
        """Return the time that bounds are counted by."""
        return time.monotonic()  # as the loop has it, whose asking costs a system call

    def flush_soon(self, session: Session) -> None:
        """Have a connection's replies written at the end of this turn of the loop."""
        if not self._unflushed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unflushed.append(session)

    def _flush(self) -> None:
        sessions, self._unflushed = self._unflushed, []
        for session in sessions:
            session.flush()

    def forget(self, session: Session) -> None:
        """Drop a connection that has ended; a second time does nothing."""
        if session in self.sessions:
            del self.sessions[session]
            self.addresses.leave(session.client)
            self.wheel.discard(session)
        if session.room is not None:
            session.room.leave(session)

    async def verify(self, token: str, stream_id: str) -> Identity:
        """Return whom a token speaks for here and now; raise `Refused`."""
        identity = await self._doorkeeper.verify(token)
        if identity.exp_ms is not None and identity.exp_ms <= self.clock.now_ms():
            raise Refused(Code.UNAUTHENTICATED, "The token has expired.")
        if not identity.may_enter(stream_id):
            raise Refused(Code.FORBIDDEN, "The token is for other streams.")
        return identity

    async def _greet(self, session: Session, hello: Hello) -> None:
        try:
            token = hello.token if hello.token is not None else session.header_token
            await self._welcome(session, token, hello.since, hello.id)
        except Refused as refused:
            session.refuse_hello(hello.id, refused)
        except Exception:
            logger.exception("hello failed")
            session.refuse_hello(hello.id, Refused(Code.INTERNAL))

    async def _welcome(
        self, session: Session, token: str | None, since: Since | None, re: int | None
    ) -> None:
        session.enter_as(guest() if token is None else await self.verify(token, session.stream_id))
        while session.stream_id not in self.rooms:  # again, should it be dropped just now
            await self._room(session.stream_id)
        if not session.closed:
            room = self.rooms[session.stream_id]
            self._make_room_for(room, session)
            await self._greeter.welcome(room, session, since, re)
        if not session.closed:
            self.wheel.expire_at(session, session.identity.exp_ms)
            session.open()

    def _make_room_for(self, room: Room, session: Session) -> None:
        if len(room.users.get(session.identity.sub, ())) >= self.limits.user_connections_max:
            self.meter.turned_away["user"] += 1
            raise Refused(Code.RATE_LIMITED, "Too many connections of one user.")

    # --- rooms --------------------------------------------------------------------------------

    async def _room(self, stream_id: str) -> Room:
        opening = self._opening.get(stream_id)
        if opening is None:
            opening = self.tasks.spawn(self._open(stream_id), "open", expected=Refused)
            self._opening[stream_id] = opening
            opening.add_done_callback(lambda _: self._opening.pop(stream_id, None))
        return await asyncio.shield(opening)

    async def _open(self, stream_id: str) -> Room:
        state = await self.source.room(stream_id)
        if state is None:  # before any key is touched: made-up ids leave nothing in Redis
            raise Refused(Code.NOT_FOUND)
        room = Room(self._around, stream_id, state.stream.shop)
        # The tail and the bus first, the position after them: what comes in between is heard.
        await self.tail.add(room.tag)
        try:
            await self.bus.add(room.tag)
            try:
                self.by_tag.setdefault(room.tag, {})[stream_id] = room
                await room.open()
                room.others = (await self.counts.present([(stream_id, 0)]))[0]
            except BaseException:
                self._unlist(room)
                self.bus.remove(room.tag)
                raise
        except BaseException:
            self.tail.remove(room.tag)
            raise
        self.rooms[stream_id] = room
        return room

    def close_room(self, room: Room) -> None:
        """Drop a room that has been empty for a while."""
        self._unlist(room)
        self.rooms.pop(room.stream_id, None)
        self.tail.remove(room.tag)
        self.bus.remove(room.tag)
        room.close()

    def _unlist(self, room: Room) -> None:
        rooms = self.by_tag.get(room.tag, {})
        rooms.pop(room.stream_id, None)
        if not rooms:
            self.by_tag.pop(room.tag, None)

    def _resync(self, room: Room) -> None:
        self._greeter.resync(room)

    # --- livecart's side ----------------------------------------------------------------------

    def stock(self, stream_id: str, offer_id: str, left: int, version: int) -> None:
        """Tell viewers what is left of an offer; after each commit batch, the newest wins."""
        self._put_stock(self.rooms.get(stream_id), offer_id, left, version)
        note = StockNote(stream_id, offer_id, left, version)
        self.bus.publish_newest(tag_of(stream_id), (stream_id, offer_id), note)

    def private(
        self, stream_id: str, items: Sequence[tuple[str, OrderEvent | CommentOrder, Caller | None]]
    ) -> None:
        """Tell viewers of their orders: (viewer, event without `re`, who was answered already)."""
        if not items:
            return
        room = self.rooms.get(stream_id)
        notes: list[tuple[str, msgspec.Raw]] = []
        for viewer, event, exclude in items:
            notes.append((viewer, msgspec.Raw(_encode(event))))
            sessions = room.users.get(viewer, ()) if room is not None else ()
            if room is not None and any(session is not exclude for session in sessions):
                room.whisper(viewer, Ready(event, shared=False), exclude)
        self.bus.publish(tag_of(stream_id), OrdersNote(stream_id, notes))

    async def turn_ms(self, stream_id: str, user: Identity, key: str) -> int:
        """Count a message in slow mode of somebody without a connection; raise `Refused`."""
        room = self.rooms.get(stream_id) or await self._room(stream_id)
        await room.snapshots.get()  # says whether the chat is slow
        return room.turn_ms(user, key, self.now_s())

    async def react(self, stream_id: str, kind: str, n: int) -> None:
        """Count the reactions of somebody without a connection; raise `Refused`."""
        room = self.rooms.get(stream_id) or await self._room(stream_id)
        room.react(kind, n)

    def hasten(self, stream_id: str) -> None:
        """Have a stream's chat wait for what its host is just doing, a moment at the most."""
        if (room := self.rooms.get(stream_id)) is not None:
            room.lanes.hush()

    def relent(self, stream_id: str) -> None:
        """Let the chat go on: what the host did is nothing that anybody is told of."""
        if (room := self.rooms.get(stream_id)) is not None:
            room.lanes.relent()

    def control(
        self, stream_id: str, kind: ControlKind, user: str, until_ms: int | None = None
    ) -> None:
        """Mute, unmute or ban a user on all connections to a stream; until None: until undone."""
        self._control(self.rooms.get(stream_id), kind, user, until_ms)
        self.bus.publish(tag_of(stream_id), ControlNote(stream_id, kind, user, until_ms))

    def slow(self, stream_id: str, every_s: int) -> None:
        """Let each user of a stream speak once in so many seconds; 0: as they like."""
        if (room := self.rooms.get(stream_id)) is not None:
            room.slow(every_s)
        self.bus.publish(tag_of(stream_id), SlowNote(stream_id, every_s))

    def _put_stock(self, room: Room | None, offer_id: str, left: int, version: int) -> None:
        if room is not None and room.conflated.put_stock(offer_id, left, version):
            room.changed = True

    def _control(
        self, room: Room | None, kind: ControlKind, user: str, until_ms: int | None
    ) -> None:
        if room is None:
            return
        for session in room.users.get(user, ()):
            if kind == "ban":
                session.close(Close.FORBIDDEN, "banned")
                continue
            muted = INT_MAX if until_ms is None else until_ms
            session.mute(muted if kind == "mute" else self.clock.now_ms())
            session.whisper(Ready(session.muted_event(), shared=False))

    # --- what the tail and the bus tell -------------------------------------------------------

    def tail_read(self, tag: str, entries: list[Fields]) -> None:
        """Hand what was appended to the rooms that it is for."""
        rooms = self.by_tag.get(tag, {})
        by_room: dict[Room, list[Logged]] = {}
        for fields in entries:
            room = rooms.get(fields[b"s"].decode())
            if room is not None and (logged := read_tail(fields)) is not None:
                by_room.setdefault(room, []).append(logged)
        for room, logged_entries in by_room.items():
            room.take(logged_entries)

    def tail_away(self, tag: str) -> None:
        """Send newcomers elsewhere; those who are connected stay."""
        for room in self.by_tag.get(tag, {}).values():
            room.away = True

    def tail_back(self, tag: str) -> None:
        """Look up what the rooms missed."""
        for room in self.by_tag.get(tag, {}).values():
            room.away = False
            room.doubt()

    def bus_read(self, tag: str, note: Note) -> None:
        """Deliver a note of another hub."""
        if isinstance(note, LostNote):
            self.bus_lost(tag)
            return
        room = self.rooms.get(note.stream)
        if room is None:
            return
        if isinstance(note, StockNote):
            self._put_stock(room, note.offer, note.left, note.version)
        elif isinstance(note, SlowNote):
            room.slow(note.every_s)
        elif isinstance(note, ReactionsNote):
            room.conflated.put_reactions(note.counts)
        elif isinstance(note, OrdersNote):
            for viewer, raw in note.items:
                if viewer in room.users:
                    room.whisper(viewer, Ready(_private.decode(raw), shared=False))
        else:
            self._control(room, note.kind, note.user, note.until_ms)

    def bus_lost(self, tag: str) -> None:
        """Private events may have been missed: show everyone the truth anew."""
        for room in self.by_tag.get(tag, {}).values():
            room.miss_private()
