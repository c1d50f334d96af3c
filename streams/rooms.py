"""One room: a stream's connections on this hub, and how far its log was delivered to them.

Owns the position delivered so far, a small memory of the newest entries, and the rule that
sequenced events reach each live connection in order, without gap or repeat (I7): what does not
follow is looked up in the stream's own log, and what cannot be looked up ends in `resync` (R9).
Must never know SQL or frames. Called by hub; what a newcomer is shown is `streams.welcome`'s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

import msgspec

from streams.addresses import Network
from streams.clock import RedisClock
from streams.codec import Ready
from streams.conflated import Conflated
from streams.lanes import Lanes
from streams.log import EventLog, Logged, Position, tag_of
from streams.memory import Memory
from streams.metrics import RESYNCS, Meter
from streams.pace import Rate, Turns
from streams.ports import Caller, Clerk, Identity, Refused, RoomSource
from streams.protocol import ChatEvent, Main, Since
from streams.session import Session
from streams.snapshots import Snapshots
from streams.talk import Talk
from streams.tasks import Tasks, back_off_s

EARLY_ENTRIES_MAX = 1_000  # kept while what is missing is looked up; beyond, it is again

logger = logging.getLogger("streams.rooms")


class HubLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one hub process; livecart.settings fills them in."""

    connections_max: int = 20_000
    user_connections_max: int = 200
    address_connections_max: int = 10_000
    connects: Rate = Rate(5_000, 10_000)  # new connections
    proxies: tuple[Network, ...] = ()  # whose word of whence a connection comes is taken
    heartbeat_ms: int = 20_000
    hello_deadline_ms: int = 5_000
    tick_ms: int = 100
    queue_bytes_max: int = 256 * 1024
    queues_bytes_max: int = 256 * 2**20  # for all connections of the process
    deflate: bool = False
    # Of each sequence of a room, what is kept in memory for those who come back: as many entries as
    # the log keeps, within these bounds. With frames and objects an entry takes about 700 bytes and
    # three times its payload: 16 MB a sequence at the most, 2 MB where the log is full of chat.
    # Reading them when a room opens holds Redis up for about 5 µs each.
    memory_entries_max: int = 5_000
    memory_bytes_max: int = 4 * 2**20  # of payload
    memory_ms: int = 3_600 * 1_000  # since it came
    replay_events_max: int = 10_000  # main events that are read from Postgres for one viewer
    room_linger_s: float = 5.0  # how long a room without connections is kept
    presence_every_s: float = 0.5  # with the lease below: right within 2 s after a hub was killed
    presence_lease_ms: int = 1_400
    audience_every_s: float = 1.0  # with it, users and peaks are told
    heads_every_s: float = 1.0
    reactions_every_s: float = 0.5
    snapshot_age_s: float = 1.0  # an older one is read again for the next newcomer


class Surroundings(msgspec.Struct, frozen=True):
    """What rooms work with; one for all rooms of a hub."""

    log: EventLog
    source: RoomSource
    clock: RedisClock
    limits: HubLimits
    tasks: Tasks
    meter: Meter
    hub_lost: Callable[[Room], None]  # every viewer of that room needs a `resync`
    clerk: Clerk | None = None


class Room:
    """The connections of one stream on this hub."""

    def __init__(self, around: Surroundings, stream_id: str, shop: str) -> None:
        limits, kept = around.limits, around.log.limits
        self.around = around
        self.stream_id = stream_id
        self.shop = shop
        self.tag = tag_of(stream_id)
        self.sessions: dict[Session, None] = {}  # welcomed
        self.due: dict[Session, None] = {}  # those of them that wait for a `resync`
        self.lanes = Lanes()
        self.conflated = Conflated(self.lanes)
        self.snapshots = Snapshots(self)
        self.talk = Talk(around.log, stream_id, around.tasks, around.clerk)
        self.epoch = ""  # with seq, cseq: the position delivered to those who are live
        self.seq = 0
        self.cseq = 0
        self.fact_n = -1  # -1: no snapshot nor entry fixed yet which fact comes next
        self.life = 0  # grows with each loss: what began to be read before is void
        self.changed = False  # something happened that a snapshot read before may lack
        self.away = False  # the log cannot be read: newcomers are sent elsewhere
        self.others = 0  # viewers on other hubs
        self.users: dict[str, tuple[Session, ...]] = {}  # who hears a user's private events
        self.empty_since: float | None = time.monotonic()
        self.chat_turns: Turns | None = None  # while the chat is slow
        self._chat_every_s = 0
        self._slowed_at = 0.0  # monotonic time; of a snapshot read before, the word on it is old
        self.peak = 0  # viewers at once, as far as it is kept
        self.told_users_at = 0.0  # monotonic time; 0: who is here has changed since it was told
        self._head: Position | None = None  # of the log, when it was last looked at
        entries_max, bytes_max = limits.memory_entries_max, limits.memory_bytes_max
        self._main = Memory(min(kept.main_entries_max, entries_max), bytes_max)
        self._chat = Memory(min(kept.chat_entries_max, entries_max), bytes_max)
        self._opening = True
        self._following: asyncio.Task[object] | None = None  # looks up what is missing
        self._private_lost = False  # a `resync` is to come for private events
        self._missed = False  # something may be missing that nobody looks up yet
        self._early: list[Logged] = []  # came while it did, or while opening

    # --- who is here ----------------------------------------------------------------------------

    def attach(self, session: Session) -> None:
        """Let a connection hear its user's private events and the host's orders about it."""
        session.room = self
        user = session.identity.sub
        self.users[user] = (*self.users.get(user, ()), session)
        self.told_users_at = 0.0
        self.empty_since = None

    def join(self, session: Session) -> None:
        """Fan out to a connection from now on; it was shown everything up to the position."""
        self.sessions[session] = None
        self.due.pop(session, None)
        self.lanes.add(session)

    def leave(self, session: Session) -> None:
        """Forget a connection."""
        session.room = None
        rest = tuple(s for s in self.users.get(session.identity.sub, ()) if s is not session)
        if rest:
            self.users[session.identity.sub] = rest
        else:
            self.users.pop(session.identity.sub, None)
            self.told_users_at = 0.0
        self.sessions.pop(session, None)
        self.due.pop(session, None)
        self.lanes.discard(session)
        if not self.users:
            self.empty_since = time.monotonic()

    def viewers(self) -> int:
        """Return the connections of this stream on all hubs."""
        return self.others + len(self.sessions)

    def slow(self, every_s: int, read_at: float | None = None) -> None:
        """Let each user speak once in so many seconds; `read_at`: when that began to be read."""
        if every_s == self._chat_every_s or (read_at is not None and read_at < self._slowed_at):
            return
        self._chat_every_s, self._slowed_at = every_s, time.monotonic()
        self.chat_turns = Turns(every_s) if every_s else None

    def turn_ms(self, user: Identity, key: str, now_s: float) -> int:
        """Count a message in slow mode, which hosts are not bound by; 0, or how long to wait."""
        if self.chat_turns is None or user.may_host(self.shop):
            return 0
        return self.chat_turns.wait_ms(user.sub, key, now_s)

    def react(self, kind: str, n: int) -> None:
        """Count a viewer's reactions."""
        self.conflated.react(kind, n)

    def whisper(self, user: str, ready: Ready, exclude: Caller | None = None) -> None:
        """Send a private event to a user's connections but one."""
        for session in self.users.get(user, ()):
            if session is not exclude:
                session.whisper(ready)

    def close(self) -> None:
        """End what is under way here."""
        self.conflated.close()
        self.lanes.close()

    # --- the log --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Read the position and what leads up to it; entries may come from the tail already."""
        limits = self.around.limits
        position, entries = await self.around.log.recent(
            self.stream_id, limits.memory_entries_max, limits.memory_bytes_max
        )
        self._restart(position, entries)
        self._opening = False
        if not self._take_early() or self._missed:
            self.doubt()

    def take(self, entries: Iterable[Logged]) -> None:
        """Take entries from the tail and deliver those that follow."""
        if self._opening or self._following is not None:
            self._early.extend(entries)
            if len(self._early) > EARLY_ENTRIES_MAX:
                self._early.clear()
                self._missed = True
        elif not self._deliver(entries):
            self.doubt()

    def doubt(self) -> None:
        """Look up in the stream's own log what may be missing here."""
        self._missed = True
        if self._following is None and not self._opening:
            self._following = self.around.tasks.spawn(self._follow(), f"follow {self.stream_id}")

    async def caught_up(self) -> None:
        """Look up what may be missing, and return when nothing is."""
        self.doubt()
        if self._following is not None:
            await asyncio.shield(self._following)

    def reached(self) -> Since:
        """Return the position delivered so far."""
        return Since(epoch=self.epoch, seq=self.seq, cseq=self.cseq)

    def check(self, head: Position, reached: Since) -> None:
        """Compare with the log's head, as looked at every second; `reached` before looking."""
        if reached.epoch != self.epoch:
            return  # the room began anew meanwhile: this head says nothing of it
        before, self._head = self._head, head
        # What the head had a second ago must have come through the tail by now.
        late = before is not None and (self.seq < before.seq or self.cseq < before.cseq)
        ahead = head.seq < reached.seq or head.cseq < reached.cseq
        if head.epoch != self.epoch or late or ahead:
            self.doubt()

    def covers(self, seq: int, cseq: int) -> bool:
        """Tell whether everything delivered after a position of this epoch is in memory."""
        main, chat = self.seq - seq, self.cseq - cseq
        return 0 <= main <= len(self._main) and 0 <= chat <= len(self._chat)

    def after(self, seq: int, cseq: int) -> list[Ready] | None:
        """Return what was delivered after a position of this epoch, None if not all is in memory.

        The position must not be beyond the room's own.
        """
        if not self.covers(seq, cseq):
            return None
        main, chat = self.seq - seq, self.cseq - cseq
        return self._main.newest(main) + self._chat.newest(chat)

    def forget(self, now_s: float) -> None:
        """Have nothing in memory for too long; the log may still have it."""
        before_s = now_s - self.around.limits.memory_ms / 1000
        self._main.forget(before_s)
        self._chat.forget(before_s)

    def memory_bytes(self) -> int:
        """Return the payload bytes of the entries in memory."""
        return self._main.bytes + self._chat.bytes

    def miss_private(self) -> None:
        """Private events may be lost: `resync`, once it is known that the log itself goes on."""
        self._private_lost = True
        self.doubt()

    def lose(self) -> None:
        """Have everyone sent a `resync`; who is live hears the log meanwhile."""
        self.life += 1
        self._private_lost = False
        RESYNCS.inc()
        for session in self.sessions:
            session.standing_known = False  # it is read again, with the orders
            self.due[session] = None
        self.around.hub_lost(self)

    def _follows(self, entry: Logged, fresh: list[Ready], now_s: float) -> bool:
        """Take one entry if it is the next one, or known already; else tell that it is not."""
        event = entry.event
        if entry.epoch != self.epoch:
            return False
        if isinstance(event, Main):
            if event.seq <= self.seq:
                return True
            if event.seq != self.seq + 1:
                return False
            self.seq = event.seq
            memory = self._main
            self.changed = True
            if self.fact_n < 0:
                self.fact_n = entry.n
        else:
            assert isinstance(event, ChatEvent)
            if event.cseq <= self.cseq:
                return True
            if event.cseq != self.cseq + 1:
                return False
            self.cseq = event.cseq
            memory = self._chat
        ready = Ready(event)
        memory.add(ready, entry.size, now_s)
        fresh.append(ready)
        return True

    def _deliver(self, entries: Iterable[Logged]) -> bool:
        """Deliver entries as far as they follow; tell whether all of them did."""
        fresh: list[Ready] = []
        unsettled = self.fact_n < 0
        now_s = time.monotonic()
        follows = all(self._follows(entry, fresh, now_s) for entry in entries)
        if fresh and len(self.lanes):
            main = [ready for ready in fresh if isinstance(ready.event, Main)]
            chat = fresh if not main else [r for r in fresh if not isinstance(r.event, Main)]
            if main:
                self.lanes.pour(main)
            if chat:
                self.lanes.pour_chat(chat, self.cseq)
            self.around.meter.messages_out += len(self.lanes) * len(fresh)
        self.around.meter.delivered += len(fresh)
        if unsettled and self.fact_n > 1 and self.users:
            # The log began in the middle, and no snapshot said what it had: any may have a hole.
            self.lose()
        return follows

    async def _follow(self) -> None:
        attempt = 0
        try:
            while self._missed:
                self._missed = False
                try:
                    await self._look_up()
                    if not self._take_early():
                        self._missed = True
                    if self._private_lost:
                        self.lose()
                    attempt = 0
                except Exception as fault:  # whatever it is: viewers would wait for good
                    attempt += 1
                    self._missed = True
                    if not isinstance(fault, Refused):
                        logger.exception("looking up %s failed; trying again", self.stream_id)
                    elif attempt == 1:
                        logger.warning("the log of %s: %s", self.stream_id, fault)
                    await asyncio.sleep(back_off_s(attempt))
        finally:
            self._following = None

    def _take_early(self) -> bool:
        """Deliver what came meanwhile, as far as it follows; tell whether all of it did.

        Looking it up again would never end while lines come faster than the log answers.
        """
        early, self._early = self._early, []
        return self._deliver(early)

    async def _look_up(self) -> None:
        log, stream_id = self.around.log, self.stream_id
        entries = await log.since(stream_id, self.reached())
        if entries is not None and self._deliver(entries):
            return
        limits = self.around.limits
        position, held = await log.recent(
            stream_id, limits.memory_entries_max, limits.memory_bytes_max
        )
        if position.epoch == self.epoch and (position.seq < self.seq or position.cseq < self.cseq):
            position, held = await log.begin(stream_id, self.epoch), []
        logger.warning("the log of %s was lost: resync", stream_id)
        self._restart(position, held)
        for session in self.sessions:  # nothing that follows is of use before the `resync`
            session.live = False
            self.lanes.discard(session)
        self.lose()

    def _restart(self, position: Position, entries: Iterable[Logged]) -> None:
        self.epoch, self.seq, self.cseq = position.epoch, position.seq, position.cseq
        self.fact_n = position.fact_n
        self._head = None
        self.lanes.forget_chat()  # of the epoch that was lost
        self._main.clear()
        self._chat.clear()
        now_s = time.monotonic()
        for entry in entries:
            memory = self._main if isinstance(entry.event, Main) else self._chat
            memory.add(Ready(entry.event), entry.size, now_s)
