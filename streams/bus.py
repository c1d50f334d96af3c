"""What hubs tell each other that is not sequenced: Redis pub/sub, one channel per log tag in use.

Owns which channels are listened to, and at which server. Nothing here is a promise: after a lost
connection, or when a channel went to another server, the listener is told which tags may have
missed something, and resyncs. Must never know a session or a room. Called by hub, which delivers
its own notes itself before it publishes them.

The channels are sharded ones everywhere (`SSUBSCRIBE`, `SPUBLISH`; Redis 7): on one server they are
what others are, and on a cluster a note goes to the servers of its slot instead of to all.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable
from typing import Protocol

import msgspec

from streams.calls import AWAY, CALL_TIMEOUT_S, Caller, Client, command, lone, server_of, share_of
from streams.codes import Code
from streams.line import Channel, Line
from streams.mouth import Mouth
from streams.notes import Envelope, Note, channel_of, tag_of_channel
from streams.ports import Refused
from streams.tasks import Tasks, back_off_s

logger = logging.getLogger("streams.bus")


class BusListener(Protocol):
    """Whom the bus tells."""

    def bus_read(self, tag: str, note: Note) -> None:
        """Take a note of another hub."""

    def bus_lost(self, tag: str) -> None:
        """Notes of this tag may have been missed; the bus is back."""


class Bus:
    """One process' ear and mouth among the hubs."""

    def __init__(self, redis: Client) -> None:
        self.hub_id = secrets.token_hex(8)
        self.caller = Caller(redis, CALL_TIMEOUT_S)
        self._tasks = Tasks("bus")
        self._decoder = msgspec.msgpack.Decoder(Envelope)
        self._listener: BusListener | None = None  # set by start
        self._channels: dict[str, Channel] = {}  # by name, what is wanted
        self._lines: dict[str, Line] = {}  # by server, each with a connection or about to have it
        self._mouths: dict[str, Mouth] = {}  # by share: a server that is lost holds up no other

    def start(self, listener: BusListener) -> None:
        """Begin to listen."""
        self._listener = listener

    async def close(self) -> None:
        """End listening and speaking."""
        await self._tasks.close()
        await self.caller.close()

    # --- speaking -----------------------------------------------------------------------------

    def publish(self, tag: str, note: Note) -> None:
        """Send a note as soon as possible; never blocks."""
        self._mouth(tag).say(tag, note)

    def publish_newest(self, tag: str, slot: tuple[str, ...], note: Note) -> None:
        """Send the newest note of a slot, some times a second at the most."""
        self._mouth(tag).say_newest(tag, slot, note)

    def _mouth(self, tag: str) -> Mouth:
        share = share_of(self.caller.redis, tag)
        mouth = self._mouths.get(share)
        if mouth is None:
            mouth = self._mouths[share] = Mouth(self.hub_id, self.caller)
            self._tasks.keep(mouth.run, f"send {share}")
        return mouth

    # --- listening ----------------------------------------------------------------------------

    async def add(self, tag: str) -> None:
        """Listen to a tag; returns once the server confirmed it."""
        name = channel_of(tag)
        channel = self._channels.get(name)
        if channel is not None:
            channel.rooms += 1
        else:
            channel = self._channels[name] = Channel()
            self._tasks.spawn(self._place(name, channel), "subscribe")
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
        name = channel_of(tag)
        channel = self._channels[name]
        channel.rooms -= 1
        if channel.rooms == 0:
            del self._channels[name]
            if channel.line is not None:
                del channel.line.wanted[name]
                self._tasks.spawn(channel.line.ask(), "unsubscribe")

    async def _place(self, name: str, channel: Channel) -> None:
        """Have a channel listened to at the server that has it, once there is one."""
        redis = self.caller.redis

        def wanted() -> bool:
            return self._channels.get(name) is channel and channel.line is None

        while wanted():
            if channel.attempts:
                await asyncio.sleep(back_off_s(channel.attempts))
            channel.attempts += 1
            try:
                # Who answers has the channel's slot; a client that was sent on knows it by now.
                await self.caller.call(lambda: command(redis, "EXISTS", name))
                if wanted():
                    line = channel.line = self._line(server_of(redis, name))
                    line.wanted[name] = channel
                    await line.ask()
                return
            except (*AWAY, Refused):
                continue

    def _line(self, server: str) -> Line:
        line = self._lines.get(server)
        if line is None:
            redis = lone(self.caller.redis, server, socket_timeout_s=CALL_TIMEOUT_S)
            line = self._lines[server] = Line(redis, self)
            self._tasks.spawn(self._listen(server, line), f"listen at {server}")
        return line

    async def _listen(self, server: str, line: Line) -> None:
        try:
            await line.run()
        except AWAY as error:
            logger.warning("the bus is away: %s: %s", server, error)
        except Exception:
            logger.exception("listening at %s failed; beginning again", server)
        del self._lines[server]
        self.line_moved(list(line.wanted))

    # --- what a line tells (line.LineListener) --------------------------------------------------

    def line_heard(self, name: str, data: bytes) -> None:
        """Open a message."""
        listener, tag = self._listener, tag_of_channel(name)
        assert listener is not None
        try:
            envelope = self._decoder.decode(data)
        except msgspec.MsgspecError:  # of a newer release: what it says can be read in Postgres
            logger.exception("a note cannot be read")
            listener.bus_lost(tag)
            return
        if envelope.origin != self.hub_id:
            for note in envelope.notes:
                listener.bus_read(tag, note)

    def line_missed(self, name: str) -> None:
        """Tell who listens."""
        assert self._listener is not None
        self._listener.bus_lost(tag_of_channel(name))

    def line_moved(self, names: Iterable[str]) -> None:
        """Look for the server that has these channels now."""
        for name in names:
            channel = self._channels[name]
            channel.lose()
            self._tasks.spawn(self._place(name, channel), "subscribe again")
