"""A viewer's stream of Server-Sent Events over HTTP, where WebSocket does not get through.

Owns the writing side of one such connection: what is written when, how much may wait for the
client, and the end, which is told in words since HTTP has no close codes. It must never know a room
or a token. Made by livecart's route, inside the HTTP call that it answers; written to by `session`
and `hub`.

Events are written to the transport itself, in chunks of HTTP/1.1: ASGI's `send` would have to be
awaited, which takes a task and a queue for each connection, and does not tell what waits. Head and
end go through ASGI, so that the server knows that the call is under way, and when it is over.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from streams.codec import EVENTS
from streams.codes import HELLO_CLOSE, Close, Code
from streams.head import Head
from streams.places import Place
from streams.ports import Ear, Refused
from streams.protocol import Since
from streams.wire import APART_WITHIN_S, CLOSE_TIMEOUT_S, tune

Message = MutableMapping[str, Any]  # of ASGI
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

RETRY_MIN_MS, RETRY_MAX_MS = 1_000, 5_000  # a browser's pause; drawn, so that crowds spread

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would gather events until its buffer is full
    (b"connection", b"close"),  # who comes back may land on a process that is not about to end
]
_CHUNKED = (b"transfer-encoding", b"chunked")
_COMMENT = b":\n\n"

#: What a connection is refused with that was ended before it was welcomed; others: `retry`.
_REFUSED = {close: code for code, close in reversed(HELLO_CLOSE.items())}


class Ended(msgspec.Struct, frozen=True):
    """Why a stream ended, as the last event (`close`) tells it: a WebSocket's code and reason."""

    code: int
    reason: str


class Outlet:
    """One viewer's stream of events; implements `ports.Socket`."""

    __slots__ = (
        "_early",
        "_ended",
        "_loop",
        "_patience",
        "_place",
        "_taken",
        "_transport",
        "_written",
        "ear",
        "form",
        "heard_at",
    )

    def __init__(self, transport: asyncio.Transport, since: Since | None) -> None:
        self._transport = transport
        # Where the client is: from where it came back on.
        self._place = Place(since)
        self._loop = asyncio.get_running_loop()
        self.form = EVENTS
        # Set by whoever made this, as soon as there is one.
        self.ear: Ear | None = None
        self.heard_at = time.monotonic()
        # What is written before the head of the answer; None once that is out.
        self._early: list[bytes] | None = []
        # Set while a snapshot drains: tells the ear when that takes too long.
        self._patience: asyncio.TimerHandle | None = None
        # Bytes given to the transport, and how many of them the kernel had taken at the last look.
        self._written = self._taken = 0
        # Done when nothing more is written: why, or None when the client is gone.
        self._ended: asyncio.Future[Ended | None] = self._loop.create_future()

    async def run(self, receive: Receive, send: Send, silence_ms: int) -> None:
        """Answer the call: its head, then events until either side ends it.

        `silence_ms`: after so long without an acknowledgement a client counts as gone.
        """
        headers = [*HEADERS, _CHUNKED]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        protocol = self._transport.get_protocol()
        assert isinstance(protocol, Head)
        protocol.writer = self
        self._begin(silence_ms)
        listening = asyncio.create_task(self._listen(receive), name="outlet")
        try:
            ended = await self._ended
        finally:
            protocol.writer = None
            listening.cancel()
            self._lose()
        if ended is None:
            return
        # A client that does not take the rest would keep it, and its connection, for good.
        closer = self._loop.call_later(CLOSE_TIMEOUT_S, self._transport.abort)
        last = b"event: close\ndata: %b\n\n" % msgspec.json.encode(ended)
        await send({"type": "http.response.body", "body": last, "more_body": False})
        if not self._transport.get_write_buffer_size():
            closer.cancel()

    def refusal(self) -> Refused | None:
        """Return what to answer in place of a stream that was ended already, None if it was not."""
        if not self._ended.done():
            return None
        ended = self._ended.result()
        code = Code.RETRY if ended is None else _REFUSED.get(Close(ended.code), Code.RETRY)
        return Refused(code)

    # --- called by session and hub (ports.Socket) --------------------------------------------

    def write(self, frame: bytes) -> None:
        """Write one or more events; does nothing once it has ended."""
        if self._ended.done():
            return
        if self._early is not None:
            self._early.append(frame)
            return
        self._put(frame)

    def write_apart(self, frames: bytes) -> None:
        """Write a snapshot, however large, which is to be taken within APART_WITHIN_S."""
        self.write(frames)
        if self._early is None and not self._ended.done():
            self._be_patient()

    def waiting_bytes(self) -> int:
        """Return how many written bytes the kernel has not taken yet."""
        if self._early is not None:
            return sum(map(len, self._early))
        return self._transport.get_write_buffer_size()

    def hold(self) -> None:
        """There is nothing to read."""

    def listen(self) -> None:
        """Nor then."""

    def ping(self) -> None:
        """Write a comment, and look whether the client takes what it is sent."""
        if self._early is not None:
            return
        now, waiting = time.monotonic(), self._transport.get_write_buffer_size()
        taken = self._written - waiting
        if not waiting or taken > self._taken:
            self.heard_at = now
        self._taken = taken
        self.write(_COMMENT)

    def close(self, code: int, reason: str = "") -> None:
        """End the stream after what waits, with a last event that says why."""
        self._end(Ended(int(code), reason))

    def abort(self) -> None:
        """Drop the connection at once."""
        self._transport.abort()
        self._end(None)

    # --- called by the HTTP protocol (head.Writer) -------------------------------------------

    def paused(self) -> None:
        """Tell the ear that bytes wait; not now, since this comes in the middle of a write."""
        self._loop.call_soon(self._stall)

    def resumed(self) -> None:
        """Tell the ear that nothing waits any more, no snapshot either."""
        self._end_patience()
        if self.ear is not None and not self._ended.done():
            self.ear.drained()

    # --- within ------------------------------------------------------------------------------

    def _begin(self, silence_ms: int) -> None:
        tune(self._transport)
        _give_up_after(self._transport, silence_ms)
        self._transport.set_write_buffer_limits(high=0, low=0)  # told of every byte that waits
        early, self._early = self._early, None
        retry_ms = random.randint(RETRY_MIN_MS, RETRY_MAX_MS)
        self._put(b"".join([b"retry: %d\n\n" % retry_ms, *(early or ())]))
        self._be_patient()

    def _put(self, frames: bytes) -> None:
        if self._transport.is_closing():
            # The server does not say so when another request waits behind this one.
            self._end(None)
            return
        frames = self._place.number(frames)
        chunk = b"%x\r\n%b\r\n" % (len(frames), frames)
        self._written += len(chunk)
        self._transport.write(chunk)

    def _be_patient(self) -> None:
        if self._patience is None and self._transport.get_write_buffer_size():
            self._patience = self._loop.call_later(APART_WITHIN_S, self._choke)

    def _end_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _stall(self) -> None:
        if (
            self.ear is not None
            and not self._ended.done()
            and self._transport.get_write_buffer_size()
        ):
            self.ear.stalled()

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass  # a body, which nobody asked for
        self._end(None)

    def _end(self, ended: Ended | None) -> None:
        if not self._ended.done():
            self._ended.set_result(ended)

    def _choke(self) -> None:
        if self.ear is not None and not self._ended.done():
            self.ear.choked()

    def _lose(self) -> None:
        self._end_patience()
        ear, self.ear = self.ear, None
        if ear is not None:
            ear.lost()


def _give_up_after(transport: asyncio.Transport, silence_ms: int) -> None:
    """Have the kernel give up a client that vanished: it would try for a quarter of an hour."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family == socket.AF_UNIX:
        return
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silence_ms)
