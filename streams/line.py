"""One server's pub/sub connection: asks it for the channels that are wanted there, and reads.

Owns the connection and what was asked for on it. Channels are sharded ones (`SSUBSCRIBE`): on a
cluster a channel is heard at the server that has its slot, and that server says so when it gives
the slot away. Ends with its connection. Must never know a note. Used by bus.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.crc import key_slot
from redis.exceptions import MovedError

from streams.calls import AWAY, CALL_TIMEOUT_S, drop

PING_EVERY_S = 2.0  # a connection that hangs rather than closes is given up after two of these

logger = logging.getLogger("streams.bus")


class Channel:
    """One channel that is listened to."""

    __slots__ = ("attempts", "confirmed", "line", "lost", "rooms")

    def __init__(self) -> None:
        self.rooms = 1  # how often it was added
        self.attempts = 0  # to find its server, since it was confirmed last
        self.confirmed = asyncio.Event()  # set while the server is known to send it to us
        self.lost = False  # it was confirmed once, and then no more
        self.line: Line | None = None  # where it is wanted; None: its server is being looked for

    def confirm(self) -> bool:
        """Take the server's word; tell whether something may have been missed."""
        # A second confirmation: the client library had reconnected behind our back.
        again = self.lost or self.confirmed.is_set()
        self.attempts, self.lost = 0, False
        self.confirmed.set()
        return again

    def lose(self) -> None:
        """Note that its server does not send it any more."""
        self.line = None
        if self.confirmed.is_set():
            self.confirmed.clear()
            self.lost = True


class LineListener(Protocol):
    """What a line tells."""

    def line_heard(self, name: str, data: bytes) -> None:
        """Take a message of a channel that is wanted."""

    def line_missed(self, name: str) -> None:
        """Messages of this channel may have been missed; from now on it is heard again."""

    def line_moved(self, names: Iterable[str]) -> None:
        """These channels are heard elsewhere; the line wants them no more."""


class Line:
    """One connection."""

    def __init__(self, redis: Redis, listener: LineListener) -> None:
        self._redis = redis  # a client of this server alone, and the line's own
        self._listener = listener
        self.wanted: dict[str, Channel] = {}
        # What was asked for. One that was removed and added again is another channel: it waits for
        # a confirmation of its own.
        self._asked: dict[str, Channel] = {}
        self._leaving: Counter[str] = Counter()  # UNSUBSCRIBEs that have no answer yet
        self._asking = asyncio.Lock()  # one SUBSCRIBE or UNSUBSCRIBE at a time, in order
        self._pubsub: PubSub | None = None  # None: not connected yet, or no more

    async def run(self) -> None:
        """Listen until the connection is lost, which raises what is in `AWAY`."""
        pubsub = self._redis.pubsub()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await pubsub.ping()
            self._pubsub = pubsub
            await self.ask()
            await self._read(pubsub)
        finally:
            self._pubsub = None
            await drop(pubsub)
            await drop(self._redis)

    async def ask(self) -> None:
        """Ask the server for what is wanted, and to leave out what is not any more."""
        async with self._asking:
            pubsub = self._pubsub
            if pubsub is None:  # once connected it asks for what is wanted then
                return
            wanted, asked = dict(self.wanted), self._asked
            self._asked = wanted
            try:
                for name, channel in list(wanted.items()):  # a call each: their slots differ
                    if asked.get(name) is not channel:
                        await pubsub.ssubscribe(name)
                    if self._pubsub is not pubsub:  # lost meanwhile: it would connect by itself
                        return
                for name in asked.keys() - wanted.keys():
                    if self._pubsub is not pubsub:
                        return
                    self._leaving[name] += 1
                    await pubsub.sunsubscribe(name)
            except AWAY as error:  # that closed the connection, so the reader notices
                logger.warning("the bus could not subscribe: %s", error)

    async def _read(self, pubsub: PubSub) -> None:
        silent_reads = 0
        while True:
            try:
                message = await pubsub.get_message(timeout=PING_EVERY_S)
            except MovedError as moved:
                names = {*self._asked, *self._leaving}
                self._gone(name for name in names if key_slot(name.encode()) == moved.slot_id)
                continue
            if message is not None:
                silent_reads = 0
                self._take(message)
                continue
            silent_reads += 1
            if silent_reads > 1:
                raise TimeoutError("no answer to a ping")
            await pubsub.ping()

    def _take(self, message: dict[str, Any]) -> None:
        kind, name = message["type"], message["channel"]
        name = name.decode() if isinstance(name, bytes) else name
        channel = self.wanted.get(name)
        if kind == "smessage":
            if channel is not None:
                self._listener.line_heard(name, message["data"])
        elif kind == "ssubscribe":
            if channel is not None and channel.confirm():
                self._listener.line_missed(name)
        elif kind == "sunsubscribe":
            heard = channel is not None and channel.confirmed.is_set()
            if self._leaving[name] and not heard:
                self._leaving[name] -= 1
            else:  # the server has given the slot away
                self._gone([name])

    def _gone(self, names: Iterable[str]) -> None:
        moved = list(names)
        for name in moved:
            self._asked.pop(name, None)
            self._leaving.pop(name, None)
        wanted = [name for name in moved if self.wanted.pop(name, None) is not None]
        self._listener.line_moved(wanted)
