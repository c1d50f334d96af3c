"""How a connection is shown a stream: `welcome` after hello, `resync` after a loss.

Owns the one moment at which a snapshot, what followed it and live events meet without gap or
repeat (I7). It must never know frames or keys. Called by hub.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import Any

import msgspec

from streams.codec import Ready, framed
from streams.codes import Close, Code
from streams.permits import shown_name
from streams.ports import Identity, Refused, Standing
from streams.protocol import (
    ChatEvent,
    Event,
    Main,
    Order,
    Resync,
    Since,
    Welcome,
    You,
)
from streams.rooms import Room, Surroundings
from streams.session import Session
from streams.snapshots import Snapshot
from streams.tasks import back_off_s

TRIES_MAX = 5
LOOK_UPS_MAX = 64  # recoveries that read the log at the same time; the rest wait in line
REPLAYS_MAX = 4  # recoveries that read Postgres at the same time
RESYNC_AT_ONCE = 200  # connections whose orders are read together
CAUGHT_UP_WITHIN_S = 1.0

logger = logging.getLogger("streams.welcome")


class Personal(msgspec.Struct, frozen=True):
    """What only this user is shown."""

    life: int  # of the room when it began to be read: what was lost before, it has
    orders: list[Order]
    standing: Standing


class Trail(msgspec.Struct, frozen=True):
    """Everything after a client's position, up to a position of the log."""

    epoch: str
    seq: int
    cseq: int
    events: list[Ready]


class Greeter:
    """Shows streams to connections."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._look_ups = asyncio.Semaphore(LOOK_UPS_MAX)
        self._replays = asyncio.Semaphore(REPLAYS_MAX)
        self._resyncing: set[Room] = set()

    async def welcome(
        self, room: Room, session: Session, since: Since | None, re: int | None
    ) -> None:
        """Welcome whoever comes, from `since` on where that can be.

        `re`: the hello that is answered. Raise `Refused` when this user may not enter or the truth
        is away.
        """
        room.attach(session)  # before anything is read: what happens meanwhile is kept for it
        personal: Personal | None = None
        for _ in range(TRIES_MAX):
            if room.away:
                raise Refused(Code.RETRY)
            if personal is None or personal.life != room.life:
                personal = await self._meet(room, session)
            trail = None if since is None else await self._trail(room, since)
            if trail is None or since is None:
                snapshot = await room.snapshots.get()
            else:
                snapshot = await room.snapshots.get(since.seq, since.cseq)
            recovered = None if since is None else trail is not None
            if session.closed or self._welcome_now(
                room, session, re, recovered, snapshot, trail, personal
            ):
                return
        raise Refused(Code.RETRY)

    def resync(self, room: Room) -> None:
        """Send `resync` to everyone in the room who waits for it."""
        if room not in self._resyncing:
            self._resyncing.add(room)
            self._around.tasks.spawn(self._resync(room), f"resync {room.stream_id}")

    # --- welcome ------------------------------------------------------------------------------

    def _welcome_now(
        self,
        room: Room,
        session: Session,
        re: int | None,
        recovered: bool | None,
        snapshot: Snapshot,
        trail: Trail | None,
        personal: Personal,
    ) -> bool:
        """Send everything in one step, or nothing when it does not fit together any more."""
        events = _following(room, snapshot, trail)
        if events is None or not snapshot.life == personal.life == room.life:
            return False
        if recovered is not None:
            self._around.meter.recoveries[recovered] += 1
        you = session.identity
        welcome = Welcome(
            re=re,
            you=You(id=you.sub, role=you.role, name=shown_name(you)),
            recovered=recovered,
            **self._fields(room, snapshot, personal.orders, room.viewers() + 1),
        )
        if session.muted_until_ms > self._around.clock.now_ms():
            events.append(Ready(session.muted_event(), shared=False))
        self._show(room, session, snapshot, framed(welcome, session.socket.form), events)
        return True

    def _show(
        self, room: Room, session: Session, snapshot: Snapshot, first: bytes, events: list[Ready]
    ) -> None:
        form = session.socket.form
        values = [*room.conflated.newer_stock(snapshot.state.offers), *room.conflated.totals()]
        frames = [first, *(ready.frame(form) for ready in (*events, *values))]
        if session.live:  # chat that is on its way to it is of before this
            room.lanes.settle()
        session.show(b"".join(frames))
        if not session.closed:
            room.join(session)

    def _fields(
        self, room: Room, snapshot: Snapshot, orders: list[Order], viewers: int
    ) -> dict[str, Any]:
        state = snapshot.state
        return {
            "stream": state.stream,
            "epoch": snapshot.epoch,
            "seq": snapshot.seq,
            "cseq": snapshot.cseq,
            "now": self._around.clock.now_ms(),
            "pins": state.pins,
            "offers": state.offers,
            "orders": orders,
            "viewers": viewers,
            "heartbeat_ms": self._around.limits.heartbeat_ms,
        }

    async def _meet(self, room: Room, session: Session) -> Personal:
        """Read who comes; again after a loss, since notes of him may have been lost with it."""
        session.standing_known = False
        personal = await self._personal(room, session.identity)
        if personal.standing.banned:
            raise Refused(Code.FORBIDDEN, "You are banned from this stream.")
        session.learn(personal.standing)
        return personal

    async def _personal(self, room: Room, identity: Identity) -> Personal:
        life = room.life
        if identity.role == "guest":
            return Personal(life, [], Standing())
        source = self._around.source
        orders, standing = await asyncio.gather(
            source.orders(room.stream_id, identity.sub),
            source.standing(room.stream_id, identity.sub),
        )
        return Personal(life, orders, standing)

    async def _trail(self, room: Room, since: Since) -> Trail | None:
        """Return everything after `since`, None when not all of it is held."""
        if since.epoch == room.epoch and (since.seq > room.seq or since.cseq > room.cseq):
            await _catch_up(room)  # the hub that this client comes from was ahead of us
        if since.epoch != room.epoch or since.seq > room.seq or since.cseq > room.cseq:
            return None
        events = room.after(since.seq, since.cseq)
        if events is not None:
            return Trail(room.epoch, room.seq, room.cseq, events)
        async with self._look_ups:
            entries = await self._around.log.since(room.stream_id, since)
        if entries is not None:
            followed: list[Event] | None = [entry.event for entry in entries]
        else:
            async with self._replays:
                followed = await self._replay(room, since)
        if followed is None:
            return None
        seq, cseq = since.seq, since.cseq
        for event in followed:
            if isinstance(event, Main):
                seq = event.seq
            elif isinstance(event, ChatEvent):
                cseq = event.cseq
        if seq > room.seq or cseq > room.cseq:
            await _catch_up(room)
        trail = [Ready(event, shared=False) for event in followed]
        return Trail(since.epoch, seq, cseq, trail)

    async def _replay(self, room: Room, since: Since) -> list[Event] | None:
        """Return what followed `since` with main events of Postgres; None where that has a hole.

        The log keeps so many; Postgres has them all, but no chat: that must be in the log still.
        """
        upto, log = room.seq, self._around.log
        count = upto - since.seq
        if not 0 < count <= self._around.limits.replay_events_max:
            return None
        rest = await log.since(room.stream_id, Since(epoch=since.epoch, seq=upto, cseq=since.cseq))
        position = await log.position(room.stream_id)
        if rest is None or position.epoch != since.epoch or position.fact_n < 0:
            return None
        base_n = position.base_n
        facts = await self._around.source.facts(room.stream_id, base_n + since.seq, count)
        if [fact.n for fact in facts] != list(range(base_n + since.seq + 1, base_n + upto + 1)):
            return None
        events: list[Event] = []
        for fact in facts:
            assert isinstance(fact.event, Main)
            fact.event.seq = fact.n - base_n
            events.append(fact.event)
        self._around.meter.replayed += len(events)
        return [*events, *(entry.event for entry in rest)]

    # --- resync -------------------------------------------------------------------------------

    async def _resync(self, room: Room) -> None:
        attempt = 0
        try:
            while room.due:
                part = list(islice(room.due, RESYNC_AT_ONCE))
                try:
                    personal = await asyncio.gather(
                        *(self._personal(room, session.identity) for session in part)
                    )
                    snapshot = await room.snapshots.get(room.seq)
                    for session, own in zip(part, personal, strict=True):
                        if session in room.due:
                            self._resync_now(room, session, snapshot, own)
                    attempt = 0
                except Exception as fault:  # whatever it is: nobody else would send it
                    attempt += 1
                    if not isinstance(fault, Refused):
                        logger.exception("resync of %s failed; trying again", room.stream_id)
                    elif attempt == 1:
                        logger.warning("resync of %s waits: %s", room.stream_id, fault)
                    await asyncio.sleep(back_off_s(attempt))
        finally:
            self._resyncing.discard(room)

    def _resync_now(
        self, room: Room, session: Session, snapshot: Snapshot, personal: Personal
    ) -> None:
        if session.live:  # it was sent everything up to the room's position
            if snapshot.seq != room.seq:
                return  # a main event came meanwhile: it stays due, and is among the next
            snapshot = msgspec.structs.replace(snapshot, cseq=room.cseq)  # chat is no state
        events = _following(room, snapshot, None)
        if events is None or not snapshot.life == personal.life == room.life:
            return
        if personal.standing.banned:
            session.close(Close.FORBIDDEN, "banned")
            return
        session.learn(personal.standing)
        resync = Resync(**self._fields(room, snapshot, personal.orders, room.viewers()))
        self._show(room, session, snapshot, framed(resync, session.socket.form), events)


def _following(room: Room, snapshot: Snapshot, trail: Trail | None) -> list[Ready] | None:
    """Return the events to send after a snapshot, None when snapshot and room do not meet."""
    if snapshot.epoch != room.epoch:
        return None
    if trail is None:
        return room.after(snapshot.seq, snapshot.cseq)
    if trail.epoch != room.epoch:
        return None
    rest = room.after(trail.seq, trail.cseq)
    return None if rest is None else [*trail.events, *rest]


async def _catch_up(room: Room) -> None:
    try:
        async with asyncio.timeout(CAUGHT_UP_WITHIN_S):
            await room.caught_up()
    except TimeoutError as error:
        raise Refused(Code.RETRY) from error
