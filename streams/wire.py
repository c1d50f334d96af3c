"""The uvicorn `ws` class: one small object a connection, from the handshake to the last byte.

Owns the socket: handshake, frames, back-pressure and the closing of a connection. It must never
know a message: payloads go to an `Ear` as they are, ready frames come from it. Made by uvicorn,
which passes the `Front` as `app_state["hub"]`; written to by `session` and `hub`.

Whole, unfragmented data frames and pongs take the fast path here. Fragments, pings and closes go to
websockets' sans-I/O `ServerProtocol`, which is made when one comes and dropped when it is done.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, cast

from websockets.frames import Close as CloseFrame
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN

from streams.codec import DEFLATED_FORMS, JSON, JSON_DEFLATED, MSGPACK, MSGPACK_DEFLATED
from streams.codes import Close
from streams.deflate import TooLarge, unpack
from streams.handshake import NoUpgrade, overloaded, shake_hands
from streams.head import undelay
from streams.protocol import FRAME_BYTES_MAX
from streams.unusual import Unusual

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled wheel on this platform
    from websockets.utils import apply_mask

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from streams.ports import Ear, Front

CLOSE_TIMEOUT_S = 5.0  # for the peer to take what was written and to close its side
UNSENT_BYTES_MAX = 16 * 1024  # in the kernel, beside what is on its way and not acknowledged yet
APART_WITHIN_S = 60.0  # for the peer to take a snapshot; three times a heartbeat
PONGS_BYTES_MAX = 64 * 1024  # that a client has not taken, then it is not read
REASON_BYTES_MAX = 123  # RFC 6455: a control frame has 125 bytes, the code takes two
PROTOCOL_ERROR = 1002

#: Linux' own; elsewhere the kernel takes what it likes, and urgent frames wait behind it.
_NOTSENT_LOWAT: int | None = (
    getattr(socket, "TCP_NOTSENT_LOWAT", 25) if sys.platform == "linux" else None
)

_PING = bytes((0x89, 0))
_BINARY, _PONG = 0x82, 0x8A
_WHOLE = frozenset((0x81, 0x82))  # an unfragmented text or binary message
_LEGAL_FIRST_BYTES = frozenset((0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A))
#: And with RSV1 what is deflated, which the first frame of a message says.
_DEFLATED_FIRST_BYTES = _LEGAL_FIRST_BYTES | {0x41, 0x42, 0xC1, 0xC2}
_DEFLATED_WHOLE = frozenset((0xC1, 0xC2))
_DEFLATED_BINARY = 0xC2
_CONTROL = 0x08  # the bit of the opcode

_log = logging.getLogger("livecart.wire")


def tune(transport: asyncio.BaseTransport) -> None:
    """Have the kernel send at once what it is given, and keep little of it unsent."""
    undelay(transport)
    sock = transport.get_extra_info("socket")
    if _NOTSENT_LOWAT is not None and sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT_BYTES_MAX)


class Wire(asyncio.Protocol):
    """One viewer's connection; implements `ports.Socket`."""

    __slots__ = (
        "_app_state",
        "_closer",
        "_connections",
        "_ear",
        "_held",
        "_over",
        "_patience",
        "_tail",
        "_transport",
        "_unusual",
        "form",
        "heard_at",
    )

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        # uvicorn's own set: it calls `shutdown` on each at the end, and waits until it is empty.
        self._connections: set[Any] = server_state.connections
        # None once the handshake was answered.
        self._app_state: dict[str, Any] | None = app_state
        # None before the handshake, and again once it was told `lost`.
        self._ear: Ear | None = None
        # The beginning of a frame whose end has not come; shorter than header + FRAME_BYTES_MAX,
        # or all that was read before it was held.
        self._tail: bytes | None = None
        # True while nothing is read: the client takes no answers.
        self._held = False
        # Set while a fragmented message is under way.
        self._unusual: Unusual | None = None
        # True once nothing more is written or heard; the rest is waiting for the peer to finish.
        self._over = False
        # Set while that wait lasts: aborts a peer that does not finish.
        self._closer: asyncio.TimerHandle | None = None
        # Set while a snapshot drains: tells the ear when that takes too long.
        self._patience: asyncio.TimerHandle | None = None
        self.form = JSON
        self.heard_at = time.monotonic()

    # --- called by the event loop ------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket over from uvicorn's HTTP protocol."""
        self._transport = cast(asyncio.Transport, transport)
        tune(transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Take the rebuilt request, then frames; what comes after the end is read and dropped."""
        if self._over:
            return
        if self._ear is not None:
            self.heard_at = time.monotonic()
            if self._tail is not None:
                data, self._tail = self._tail + data, None
            if self._held:
                self._tail = data
            else:
                self._read_frames(self._ear, data)
        elif self._app_state is not None:
            head, _, rest = data.partition(b"\r\n\r\n")
            self._shake_hands(head, self._app_state["hub"])
            if rest:
                self.data_received(rest)

    def eof_received(self) -> None:
        """Let the transport close itself once it has written what waits, within bounds."""
        self._over = True
        self._lose()
        if self._closer is None and self._transport.get_write_buffer_size():
            self._closer = asyncio.get_running_loop().call_later(
                CLOSE_TIMEOUT_S, self._transport.abort
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._connections.discard(self)
        self._over = True
        self._lose()
        if self._closer is not None:
            self._closer.cancel()
            self._closer = None
        self._end_patience()

    def pause_writing(self) -> None:
        """Tell the ear that bytes wait; not now, since this comes in the middle of a write."""
        asyncio.get_running_loop().call_soon(self._stall)

    def resume_writing(self) -> None:
        """Tell the ear that nothing waits any more, no snapshot either."""
        self._end_patience()
        if self._ear is not None and not self._over:
            if self._held:  # it took what was written: it is there
                self.heard_at = time.monotonic()
            self._ear.drained()

    def shutdown(self) -> None:
        """End the connection; called by uvicorn for each one when the server stops."""
        self.close(Close.DRAINING, "draining")

    # --- called by session and hub (ports.Socket) --------------------------------------------

    def write(self, frame: bytes) -> None:
        """Write one or more ready frames; does nothing once closing."""
        if not self._over:
            self._transport.write(frame)

    def write_apart(self, frames: bytes) -> None:
        """Write a snapshot, however large, which is to be taken within APART_WITHIN_S."""
        self.write(frames)
        if self._patience is None and not self._over and self.waiting_bytes():
            self._patience = asyncio.get_running_loop().call_later(APART_WITHIN_S, self._choke)

    def waiting_bytes(self) -> int:
        """Return how many written bytes the kernel has not taken yet."""
        return self._transport.get_write_buffer_size()

    def hold(self) -> None:
        """Read nothing for now, so that a client who reads no answers sends no more either."""
        if not self._held and not self._over and not self._transport.is_closing():
            self._held = True
            self._transport.pause_reading()

    def listen(self) -> None:
        """Read on, first what was read already."""
        if self._held:
            self._held = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._ear is not None and self._tail is not None and not self._over and not self._held:
            data, self._tail = self._tail, None
            self._read_frames(self._ear, data)

    def ping(self) -> None:
        """Write a WebSocket ping."""
        self.write(_PING)

    def close(self, code: int, reason: str = "") -> None:
        """Write a close frame after what waits, and end the connection within CLOSE_TIMEOUT_S.

        The ear hears nothing more but `lost`, when the socket is gone.
        """
        if not self._over:
            reason = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
            payload = CloseFrame(int(code), reason).serialize()
            self._transport.write(Frame(Opcode.CLOSE, payload).serialize(mask=False))
            self._finish()

    def abort(self) -> None:
        """Drop the connection at once, unwritten bytes with it."""
        self._over = True
        self._transport.abort()

    # --- the handshake -----------------------------------------------------------------------

    def _shake_hands(self, head: bytes, front: Front) -> None:
        self._app_state = None
        verdict = shake_hands(head, front.deflates())
        client = ""
        if not isinstance(verdict, NoUpgrade):
            address = self._transport.get_extra_info("peername")
            peer = str(address[0]) if isinstance(address, tuple) else ""  # "": a Unix socket
            client = front.client(peer, verdict.forwarded)
            if front.turns_away(client):
                verdict = overloaded()
        self._transport.write(verdict.response)
        if isinstance(verdict, NoUpgrade):
            self._finish()
            return
        if verdict.deflated:
            self.form = MSGPACK_DEFLATED if verdict.binary else JSON_DEFLATED
        else:
            self.form = MSGPACK if verdict.binary else JSON
        self._transport.set_write_buffer_limits(high=0, low=0)  # told of every byte that waits
        self._ear = front.accept(self, verdict.stream_id, verdict.token, client)

    # --- frames ------------------------------------------------------------------------------

    def _read_frames(self, ear: Ear, data: bytes) -> None:
        """Hear every whole frame; keep the beginning of one, once its header is found in order."""
        at, end = 0, len(data)
        deflated = self.form in DEFLATED_FORMS
        legal = _DEFLATED_FIRST_BYTES if deflated else _LEGAL_FIRST_BYTES
        while end - at >= 2:
            first, length = data[at], data[at + 1] - 0x80
            body = at + 6  # after two bytes of header and four of mask
            if length < 0 or first not in legal:
                self._end(PROTOCOL_ERROR, "not a masked frame, or an unknown kind of frame")
                return
            if length >= 126:
                if first & _CONTROL:
                    self._end(PROTOCOL_ERROR, "control frame too long")
                    return
                body += 2 if length == 126 else 8
                if end < body - 4:
                    break
                length = int.from_bytes(data[at + 2 : body - 4], "big")
                gathered = 0 if self._unusual is None else len(self._unusual.message)
                if gathered + length > FRAME_BYTES_MAX:
                    self._end(Close.TOO_LARGE, "message too large")
                    return
            after = body + length
            if after > end:
                break
            if first in _WHOLE and self._unusual is None:
                mask = data[body - 4 : body]
                ear.received(apply_mask(data[body:after], mask), first == _BINARY)
            elif first in _DEFLATED_WHOLE and self._unusual is None:
                mask = data[body - 4 : body]
                self._take_deflated(ear, apply_mask(data[body:after], mask), first)
            elif first != _PONG:
                self._take_unusual(ear, data[at:after])
            at = after
            if self._over:  # the ear closed, or the peer did
                return
            if self._held:
                break
        if at < end:
            self._tail = data[at:] if at else data

    def _take_deflated(self, ear: Ear, data: bytes, first: int) -> None:
        try:
            payload = unpack(data, FRAME_BYTES_MAX)
        except TooLarge:
            self._end(Close.TOO_LARGE, "message too large")
        except ValueError as error:
            self._end(PROTOCOL_ERROR, str(error))
        else:
            ear.received(payload, first == _DEFLATED_BINARY)

    def _take_unusual(self, ear: Ear, frame: bytes) -> None:
        """Let websockets judge one whole frame that is a fragment, a ping or a close."""
        unusual = self._unusual or Unusual(self.form in DEFLATED_FORMS)
        message = unusual.take(frame)
        if unusual.too_large():
            self._unusual = None
            self._end(Close.TOO_LARGE, "message too large")
            return
        for piece in unusual.machine.data_to_send():
            if piece:
                self._transport.write(piece)
                if self._transport.get_write_buffer_size() > PONGS_BYTES_MAX:
                    self.hold()
        if unusual.machine.state is not OPEN:
            self._unusual = None
            self._lose()
            self._finish()
        else:
            self._unusual = unusual if unusual.fragmented else None
            if message is not None:
                ear.received(*message)

    # --- the end -----------------------------------------------------------------------------

    def _end(self, code: int, reason: str) -> None:
        """Close because of what the peer sent."""
        _log.debug("closing %d: %s", code, reason)
        self.close(code, reason)
        self._lose()

    def _stall(self) -> None:
        if self._ear is not None and not self._over and self.waiting_bytes():
            self._ear.stalled()

    def _end_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _choke(self) -> None:
        if self._ear is not None and not self._over:
            self._ear.choked()

    def _lose(self) -> None:
        """Tell the ear, once, that nothing more will be heard or taken."""
        ear, self._ear = self._ear, None
        if ear is not None:
            ear.lost()

    def _finish(self) -> None:
        """Close our side, then read and drop until the peer closes its own, within bounds.

        Closing a socket with unread input would make the kernel send RST, and the peer lose the
        answer that was just written.
        """
        self.listen()
        self._over = True
        self._tail = None
        if self._transport.is_closing():
            return
        self._closer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)
        if self._transport.can_write_eof():
            try:
                self._transport.write_eof()
            except OSError:  # the peer has broken off, and the transport has not heard of it yet
                self._transport.abort()
        else:  # TLS: no half-closing; the transport flushes, then closes
            self._transport.close()
