"""One connection of a viewer: a WebSocket in either subprotocol, or a stream of Server-Sent Events.

Owns the bytes. Frames are read by websockets' protocol without I/O, so that nothing of ours is
between the wire and who reads it. Must never know what an event means. Made by `watching`, one for
each connection.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from typing import Any, Literal, cast

import msgpack
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

Form = Literal["json", "msgpack", "events"]
#: Takes each payload with its id, where it has one.
Heard = Callable[[str | bytes, str | None], None]

MESSAGE_BYTES_MAX = 16 * 2**20
NARROW_BYTES = 4_096  # of a socket that can take but little: whoever sends to it must wait
CUT_OFF = 0  # in place of a close code: there was none
RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Link(asyncio.Protocol):
    """One connection, from dialling to its loss; `lost` is done then, with the close code."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.code = CUT_OFF
        self.fault: Exception | None = None  # what came was not the protocol

    async def dial(self, host: str, port: int, narrow: bool) -> None:
        """Connect; a `narrow` one has a receive buffer that is full soon."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if narrow:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
            await loop.sock_connect(sock, (host, port))
            await loop.create_connection(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self.lost.done():
            self.lost.set_result(self.code)

    def write(self, data: bytes) -> None:
        if self.transport is not None and data:
            self.transport.write(data)

    def leave(self) -> None:
        """Say goodbye, as far as one does."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Break off with RST, whatever was on its way."""
        if self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            self.transport.abort()

    def stop_reading(self) -> None:
        """Leave what comes to the kernel, and then to who sends it."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def read_on(self) -> None:
        """Read again."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()


class WebSocketLink(Link):
    """A WebSocket; the first frame that it sends is `hello`."""

    def __init__(self, heard: Heard, url: str, form: Form, hello: dict[str, Any]) -> None:
        super().__init__(heard)
        self.hello = hello
        self.msgpack = form == "msgpack"
        self.protocol = ClientProtocol(
            parse_uri(url),
            subprotocols=[Subprotocol(f"livecart.v1.{form}")],
            max_size=MESSAGE_BYTES_MAX,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.protocol.send_request(self.protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                if self.protocol.state is State.OPEN:
                    self.send(self.hello)
                else:
                    self.code = event.status_code
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.heard(bytes(event.data).decode(), None)
            elif isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                self.heard(bytes(event.data), None)
        self._flush()

    def eof_received(self) -> None:
        self.protocol.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.protocol.close_rcvd is not None:
            self.code = self.protocol.close_rcvd.code
        if not isinstance(self.protocol.parser_exc, EOFError):  # that is just the end
            self.fault = self.protocol.parser_exc
        super().connection_lost(exc)

    def send(self, command: dict[str, Any]) -> None:
        """Send one command; it is lost with a connection that is about to end."""
        if self.protocol.state is not State.OPEN:
            return
        if self.msgpack:
            self.protocol.send_binary(msgpack.packb(command))
        else:
            self.protocol.send_text(json.dumps(command).encode())
        self._flush()

    def leave(self) -> None:
        if self.protocol.state is State.OPEN:
            self.protocol.send_close(1000)
            self._flush()
        else:
            self.reset()

    def _flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self.write(data)
            elif self.transport is not None:  # the end of what we send
                self.transport.close()


class EventsLink(Link):
    """Server-Sent Events: HTTP/1.1, in chunks."""

    def __init__(self, heard: Heard, host: str, path: str, headers: dict[str, str]) -> None:
        super().__init__(heard)
        fields = {"host": host, "accept": "text/event-stream", **headers}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self.request = "\r\n".join([*lines, "", ""]).encode()
        self.answered = False
        self.coming = b""  # bytes of a head or of chunks that are not whole yet
        self.text = b""  # of events that are not whole yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.coming += data
        if not self.answered and not self._head():
            return
        while True:
            size, found, rest = self.coming.partition(b"\r\n")
            if not found or len(rest) < (length := int(size, 16)) + 2:
                break
            self.text += rest[:length]
            self.coming = rest[length + 2 :]
        *whole, self.text = self.text.split(b"\n\n")
        for event in whole:
            self._event(event.decode())

    def _head(self) -> bool:
        """Read the answer's head; tell whether events follow."""
        head, found, rest = self.coming.partition(b"\r\n\r\n")
        if not found:
            return False
        status = int(head.split(b" ", 2)[1])
        if status != 200:
            self.code = status
            self.reset()
            return False
        self.answered, self.coming = True, rest
        return True

    def _event(self, text: str) -> None:
        fields = dict(line.partition(": ")[::2] for line in text.split("\n"))
        if fields.get("event") == "close":
            self.code = json.loads(fields["data"])["code"]
        elif "data" in fields:
            self.heard(fields["data"], fields.get("id"))
