"""What a hub says to the others: notes gathered, sealed in few messages and published in order.

Owns what waits to be said, and its bound. Nothing here is a promise: what was dropped is told, and
who hears that resyncs. Must never know who listens. Used by bus.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable

import msgspec
from redis.asyncio import Redis

from streams.calls import Caller, command
from streams.notes import Envelope, LostNote, Note, channel_of
from streams.ports import Refused
from streams.tasks import back_off_s

NOTES_WAITING_MAX = 5_000  # beyond, what waits is dropped and the other hubs resync
NOTES_PER_MESSAGE_MAX = 200
NEWEST_EVERY_S = 0.05

logger = logging.getLogger("streams.bus")


class Mouth:
    """Says the notes of some tags, one batch after the other."""

    def __init__(self, hub_id: str, caller: Caller) -> None:
        self._hub_id = hub_id
        self._caller = caller
        self._encoder = msgspec.msgpack.Encoder()
        self._waiting: list[tuple[str, Note]] = []
        self._newest: dict[tuple[str, ...], tuple[str, Note]] = {}  # tag and note by slot
        self._newest_at = 0.0  # loop time from which the newest may be sent again
        self._dropped: set[str] = set()  # tags of which notes were dropped
        self._wake = asyncio.Event()

    def say(self, tag: str, note: Note) -> None:
        """Send a note as soon as possible; never blocks."""
        if len(self._waiting) >= NOTES_WAITING_MAX:
            self._dropped.update(waiting for waiting, _ in self._waiting)
            self._waiting.clear()
            logger.error("the bus dropped notes of %d tags", len(self._dropped))
        self._waiting.append((tag, note))
        self._wake.set()

    def say_newest(self, tag: str, slot: tuple[str, ...], note: Note) -> None:
        """Send the newest note of a slot, at most every NEWEST_EVERY_S."""
        self._newest[slot] = (tag, note)
        self._wake.set()

    async def run(self) -> None:
        """Send what is said, for good."""
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
            (channel_of(tag), self._encoder.encode(Envelope(self._hub_id, held[i : i + step])))
            for step in (NOTES_PER_MESSAGE_MAX,)
            for tag, held in by_tag.items()
            for i in range(0, len(held), step)
        ]

    async def _deliver(self, messages: list[tuple[str, bytes]]) -> None:
        """Publish until Redis takes it; twice is harmless, each note is absolute."""

        async def run() -> None:
            redis = self._caller.redis
            if isinstance(redis, Redis):
                async with redis.pipeline(transaction=False) as pipe:
                    for channel, message in messages:
                        pipe.spublish(channel, message)
                    await pipe.execute()
            else:  # of one tag, and so hardly ever more than one
                for channel, message in messages:
                    await command(redis, "SPUBLISH", channel, message)

        attempt = 0
        while True:
            try:
                await self._caller.call(run)
                return
            except Refused:
                attempt += 1
                await asyncio.sleep(back_off_s(attempt))
