"""The readers of the tails: one blocking XREAD per tag in use, not per room.

Owns the blocking connections and how far each tail was read. It promises no completeness: a room
sees a gap in its own numbers and refills it from its own log. On a cluster each tail is read at the
server that has it, and begun again where that changes: ids are each server's own. Must never know a
session. Used by hub, which is told of entries, of a tail gone away and of one that is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol, cast

from redis.asyncio import Redis

from streams.calls import AWAY, CALL_TIMEOUT_S, Caller, Client, command, drop, lone, server_of
from streams.codes import Code
from streams.log import tail_key
from streams.ports import Refused
from streams.tasks import Tasks, back_off_s

BLOCK_MS = 1_000
ENTRIES_PER_READ_MAX = 500

logger = logging.getLogger("streams.tail")

Fields = Mapping[bytes, bytes]


class TailListener(Protocol):
    """What a tail tells."""

    def tail_read(self, tag: str, entries: list[Fields]) -> None:
        """Take what was appended under a tag, in order."""

    def tail_away(self, tag: str) -> None:
        """The tail cannot be read."""

    def tail_back(self, tag: str) -> None:
        """The tail is read again, from its present end: what was in between, the rooms look up."""


class _Reader:
    """One tag's reader."""

    __slots__ = ("ready", "rooms", "seen", "task")

    def __init__(self) -> None:
        self.rooms = 1  # how often the tag was added
        self.seen: bytes | None = None  # id of the last entry read, None: not known
        self.ready = asyncio.Event()  # set once `seen` is known for the first time
        self.task: asyncio.Task[object] | None = None  # set right after birth


class Tail:
    """Reads the tails of the tags that are in use."""

    def __init__(self, redis: Client, listener: TailListener) -> None:
        self._caller = Caller(redis, CALL_TIMEOUT_S)
        self._listener = listener
        self._readers: dict[str, _Reader] = {}
        self._tasks = Tasks("tail")

    async def add(self, tag: str) -> None:
        """Read a tag from now on; returns once the point from which on is fixed."""
        reader = self._readers.get(tag)
        if reader is not None:
            reader.rooms += 1
        else:
            reader = self._readers[tag] = _Reader()
            current = reader
            reader.task = self._tasks.keep(lambda: self._read(tag, current), tag)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await reader.ready.wait()
        except TimeoutError as error:
            self.remove(tag)
            raise Refused(Code.RETRY) from error
        except asyncio.CancelledError:
            self.remove(tag)
            raise

    def remove(self, tag: str) -> None:
        """Undo one `add`; the last one ends the reading."""
        reader = self._readers[tag]
        reader.rooms -= 1
        if reader.rooms == 0:
            del self._readers[tag]
            if reader.task is not None:
                reader.task.cancel()

    def seen(self, tag: str) -> bytes | None:
        """Return the id of the last entry read, None when it is not known."""
        reader = self._readers.get(tag)
        return reader.seen if reader is not None else None

    def compare(self, tag: str, seen: bytes | None, newest: str) -> None:
        """Begin a tail again whose last id, `newest`, is behind what was `seen` before asking.

        After a loss of memory the server may give ids anew; rooms drop what they have already.
        """
        reader = self._readers.get(tag)
        if reader is None or reader.seen is None or seen is None:
            return
        if _id(newest) < _id(seen):
            reader.seen = b"0-0"

    async def close(self) -> None:
        """End every reader."""
        await self._tasks.close()
        await self._caller.close()
        self._readers.clear()

    async def _read(self, tag: str, reader: _Reader) -> None:
        attempt = 0
        blocking: Redis | None = None  # a client of the server that has this tail
        try:
            while True:
                try:
                    if reader.seen is None or blocking is None:
                        reader.seen = await self._end(tag)
                        blocking = self._client(tag)
                        reader.ready.set()
                        self._listener.tail_back(tag)
                    asked = reader.seen
                    entries = await self._next(blocking, tag, asked)
                    attempt = 0
                except (*AWAY, Refused) as error:  # also MOVED: its tail is another server's now
                    if attempt == 0:
                        logger.warning("the tail %s is away: %s", tag, error)
                    reader.seen = None
                    self._listener.tail_away(tag)
                    if blocking is not None:
                        await drop(blocking)
                    attempt += 1
                    await asyncio.sleep(back_off_s(attempt))
                    continue
                if entries:
                    if reader.seen == asked:  # else `compare` moved it meanwhile
                        reader.seen = entries[-1][0]
                    self._listener.tail_read(tag, [fields for _, fields in entries])
        finally:
            if blocking is not None:
                await drop(blocking)

    def _client(self, tag: str) -> Redis:
        redis = self._caller.redis
        server = server_of(redis, tail_key(tag))  # known by now: `_end` was sent there
        return lone(redis, server, socket_timeout_s=BLOCK_MS / 1000 + CALL_TIMEOUT_S)

    async def _next(self, blocking: Redis, tag: str, seen: bytes) -> list[tuple[bytes, Fields]]:
        arguments = ("COUNT", ENTRIES_PER_READ_MAX, "BLOCK", BLOCK_MS, "STREAMS", tail_key(tag))
        reply = await command(blocking, "XREAD", *arguments, seen)
        if not reply:
            return []
        streams = cast("list[tuple[bytes, list[tuple[bytes, Fields]]]]", reply)
        return streams[0][1]

    async def _end(self, tag: str) -> bytes:
        redis, key = self._caller.redis, tail_key(tag)
        reply = await self._caller.call(
            lambda: command(redis, "XREVRANGE", key, "+", "-", "COUNT", 1)
        )
        newest = cast("list[tuple[bytes, Fields]]", reply)
        return newest[0][0] if newest else b"0-0"


def _id(text: str | bytes) -> tuple[int, int]:
    whole = text.decode() if isinstance(text, bytes) else text
    ms, _, count = whole.partition("-")
    return int(ms or 0), int(count or 0)
