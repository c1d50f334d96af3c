"""The snapshot that newcomers of one room are shown, read once for a crowd.

Owns when Postgres is read again, and the order of the two readings: the log's position first, the
state after it, so that the state has at least the effect of everything up to that position (I7).
Must never know a session. Called by welcome.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from streams.codes import Code
from streams.ports import Refused, RoomState

if TYPE_CHECKING:
    from streams.rooms import Room

SHARE = 4  # of the time, at most one part in so many goes into reading snapshots of a room
READS_MAX = 4  # in a row, when the log moves to another epoch meanwhile


class Snapshot(msgspec.Struct, frozen=True):
    """The state of a stream and the position that it has the effect of, at least."""

    life: int
    epoch: str
    seq: int
    cseq: int
    state: RoomState
    read_at: float  # monotonic time at which the reading began
    took_s: float


class Snapshots:
    """Reads and keeps the newest snapshot of one room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._newest: Snapshot | None = None
        self._reading: asyncio.Task[Snapshot] | None = None

    async def get(self, seq: int = 0, cseq: int = 0) -> Snapshot:
        """Return a snapshot of the room's present epoch, at this position or later."""
        for _ in range(READS_MAX):
            newest = self._newest
            if newest is not None and self._good(newest, seq, cseq) and not self._stale(newest):
                return newest
            if self._reading is None:
                tasks = self._room.around.tasks
                self._reading = tasks.spawn(self._read(), "snapshot", expected=Refused)
            snapshot = await asyncio.shield(self._reading)
            if self._good(snapshot, seq, cseq):
                return snapshot
        raise Refused(Code.RETRY)

    def _good(self, snapshot: Snapshot, seq: int, cseq: int) -> bool:
        room = self._room
        return (
            snapshot.life == room.life
            and snapshot.epoch == room.epoch
            and snapshot.seq >= seq
            and snapshot.cseq >= cseq
            and room.covers(snapshot.seq, snapshot.cseq)
        )

    def _stale(self, snapshot: Snapshot) -> bool:
        age_s = time.monotonic() - snapshot.read_at
        if self._room.changed:
            return age_s > SHARE * snapshot.took_s
        return age_s > self._room.around.limits.snapshot_age_s

    async def _read(self) -> Snapshot:
        room = self._room
        try:
            for _ in range(READS_MAX):
                began, room.changed = time.monotonic(), False
                life, epoch, seq, cseq = room.life, room.epoch, room.seq, room.cseq
                state = await room.around.source.room(room.stream_id)
                if state is None:
                    raise Refused(Code.NOT_FOUND)
                if not await self._settled(state, epoch):
                    continue
                took_s = time.monotonic() - began
                self._newest = Snapshot(life, epoch, seq, cseq, state, began, took_s)
                room.slow(state.stream.chat_every_s or 0, began)
                return self._newest
            raise Refused(Code.RETRY)
        except BaseException:
            room.changed = True
            raise
        finally:
            self._reading = None

    async def _settled(self, state: RoomState, epoch: str) -> bool:
        """Fix which fact the log goes on with, where it is in a fresh epoch and nobody did yet.

        Else a fact that was committed after the state was read could be published after a later
        one, which the log would take for its beginning, and this room would never hear of it.
        """
        room = self._room
        if room.fact_n >= 0 or state.fact_n is None:
            return True
        position = await room.around.log.settle(room.stream_id, epoch, state.fact_n)
        if position.epoch != epoch:
            room.doubt()
            await room.caught_up()
            return False
        if state.fact_n < position.base_n:
            return False
        if room.epoch == epoch:
            room.fact_n = max(room.fact_n, state.fact_n)
        return True
