"""What a hub does again and again: the wheel, heads of logs, presence, reactions, metrics.

Owns the loops; a failing one is logged and started again. On a cluster each tag is seen to by
itself: a server that is lost or hangs is waited for by its own streams alone. Called by hub.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

from streams.calls import Client, share_of
from streams.counts import USERS_LEASE_MS
from streams.metrics import MEMORY_BYTES, WAITING_BYTES
from streams.notes import ReactionsNote
from streams.ports import Refused
from streams.tasks import Tasks

if TYPE_CHECKING:
    from streams.hub import Hub
    from streams.rooms import Room

METRICS_EVERY_S = 1.0
#: How long a round waits for those that take long: leases are to be renewed in time.
PATIENCE_S = 0.1

Tags = dict[str, list["Room"]]


class Upkeep:
    """The loops of one hub."""

    def __init__(self, hub: Hub, redis: Client) -> None:
        self._hub = hub
        self._redis = redis

    def start(self, tasks: Tasks) -> None:
        """Begin all loops."""
        tasks.keep(self._tick, "tick")
        tasks.keep(self._check_heads, "heads")
        tasks.keep(self._count_viewers, "presence")
        tasks.keep(self._count_reactions, "reactions")
        tasks.keep(self._tell_audience, "audience")

    async def resign(self) -> None:
        """Give up this hub's leases, so that its viewers are not counted a moment longer."""

        async def resign(tags: Tags) -> None:
            for rooms in tags.values():
                try:
                    await self._hub.counts.present([(room.stream_id, 0) for room in rooms])
                except Refused:
                    return  # they end by themselves

        await asyncio.gather(*(resign(tags) for tags in self.shares().values()))

    def shares(self) -> dict[str, Tags]:
        """Return all rooms by their tags, those together that are seen to one after the other."""
        shares: dict[str, Tags] = {}
        for tag, rooms in self._hub.by_tag.items():
            shares.setdefault(share_of(self._redis, tag), {})[tag] = list(rooms.values())
        return shares

    async def _tick(self) -> None:
        hub = self._hub
        metrics_at = 0.0
        while True:
            await asyncio.sleep(hub.limits.tick_ms / 1000)
            now_s = time.monotonic()
            hub.wheel.tick(now_s, hub.clock.now_ms())
            for room in list(hub.rooms.values()):
                empty = room.empty_since
                if empty is not None and now_s - empty > hub.limits.room_linger_s:
                    hub.close_room(room)
            if now_s >= metrics_at:
                metrics_at = now_s + METRICS_EVERY_S
                for room in hub.rooms.values():
                    room.forget(now_s)
                hub.meter.flush(len(hub.sessions), len(hub.rooms))
                written = sum(session.socket.waiting_bytes() for session in hub.sessions)
                WAITING_BYTES.set(written + hub.backlogs.account.bytes)
                MEMORY_BYTES.set(sum(room.memory_bytes() for room in hub.rooms.values()))

    async def _check_heads(self) -> None:
        hub = self._hub

        async def check(tags: Tags) -> None:
            for tag, rooms in tags.items():
                seen = hub.tail.seen(tag)
                reached = [room.reached() for room in rooms]  # more may come while it is asked
                try:
                    newest, heads = await hub.log.positions(tag, [r.stream_id for r in rooms])
                except Refused:
                    for room in (room for rooms in tags.values() for room in rooms):
                        room.away = True
                    return
                hub.tail.compare(tag, seen, newest)
                for room, head, before in zip(rooms, heads, reached, strict=True):
                    room.away = seen is None
                    room.check(head, before)

        rounds = _Rounds(self, hub.tasks, check)
        while True:
            await asyncio.sleep(hub.limits.heads_every_s)
            await rounds.go()

    async def _count_viewers(self) -> None:
        hub = self._hub

        async def count(tags: Tags) -> None:
            for rooms in tags.values():
                counted = [(room, len(room.sessions)) for room in rooms]
                try:
                    sums = await hub.counts.present(
                        [(room.stream_id, own) for room, own in counted]
                    )
                except Refused:
                    return  # what was known last holds
                for (room, own), total in zip(counted, sums, strict=True):
                    room.others = max(0, total - own)

        rounds = _Rounds(self, hub.tasks, count)
        while True:
            await rounds.go()
            for room in hub.rooms.values():
                room.conflated.put_viewers(room.viewers(), time.monotonic())
            await asyncio.sleep(hub.limits.presence_every_s)

    async def _tell_audience(self) -> None:
        """Say who is here, for whoever asks how many users there are; and keep the peaks."""
        hub = self._hub

        async def tell(tags: Tags) -> None:
            for room in (room for rooms in tags.values() for room in rooms):
                if room.users and time.monotonic() - room.told_users_at > USERS_LEASE_MS / 2000:
                    room.told_users_at = time.monotonic()
                    try:
                        await hub.counts.tell_users(room.stream_id, list(room.users))
                    except Refused:
                        room.told_users_at = 0.0
                        return

        rounds = _Rounds(self, hub.tasks, tell)
        while True:
            await asyncio.sleep(hub.limits.audience_every_s)
            peaks = {
                stream_id: room.viewers()
                for stream_id, room in hub.rooms.items()
                if room.viewers() > room.peak
            }
            await rounds.go()
            if peaks:
                try:
                    await hub.source.peaks(peaks)
                except Refused:
                    continue  # the next time
                for stream_id, viewers in peaks.items():
                    if stream_id in hub.rooms:
                        hub.rooms[stream_id].peak = viewers

    async def _count_reactions(self) -> None:
        hub = self._hub

        async def count(tags: Tags) -> None:
            for room in (room for rooms in tags.values() for room in rooms):
                taken = room.conflated.take_reactions()
                if not taken:
                    continue
                try:
                    totals = await hub.counts.react(room.stream_id, taken)
                except Refused:
                    for kind, _, n in taken:
                        room.react(kind, n)
                    return
                room.conflated.put_reactions(totals)
                note = ReactionsNote(room.stream_id, totals)
                hub.bus.publish_newest(room.tag, (room.stream_id,), note)

        rounds = _Rounds(self, hub.tasks, count)
        while True:
            await asyncio.sleep(hub.limits.reactions_every_s)
            await rounds.go()


class _Rounds:
    """One thing that is done for the rooms of every share, again and again."""

    def __init__(
        self, upkeep: Upkeep, tasks: Tasks, see_to: Callable[[Tags], Coroutine[None, None, None]]
    ) -> None:
        self._upkeep = upkeep
        self._tasks = tasks
        self._see_to = see_to
        self._under_way: dict[str, asyncio.Task[None]] = {}  # by share

    async def go(self) -> None:
        """See to each share once, but to none that is still being seen to from a round before."""
        begun: list[asyncio.Task[None]] = []
        for share, tags in self._upkeep.shares().items():
            if share not in self._under_way:
                self._under_way[share] = self._tasks.spawn(self._once(share, tags), "see to rooms")
                begun.append(self._under_way[share])
        if begun:
            await asyncio.wait(begun, timeout=PATIENCE_S)

    async def _once(self, share: str, tags: Tags) -> None:
        try:
            await self._see_to(tags)
        finally:
            del self._under_way[share]
