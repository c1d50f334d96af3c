"""uvicorn's HTTP protocol with four gaps closed: see below.

Owns nothing but the moment between the first byte of a request and the application, or `Wire`. It
must never know a path or a message. Passed to uvicorn as `http=Head`; `Wire` works without it.
`Outlet` does not.

- uvicorn with httptools keeps headers of any total size, so one connection could fill memory.
- uvicorn drops what follows an upgrade request in the same read. A client may not send frames
  before the answer (RFC 6455, 4.1); one that does would wait on a `hello` that nobody saw.
- ASGI has no way to say how much of an answer waits, nor to drop a client that does not take it:
  an application finds the transport in its state, and may have itself told as a `Writer`.
- asyncio leaves Nagle's algorithm on for sockets that were made without naming TCP, as uvicorn
  makes its own: the body of an answer would wait 40 ms for its head to be acknowledged.
  uvloop does not.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio.trsock import TransportSocket
from typing import Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX = 64 * 1024  # beside one read of the event loop (256 KiB)

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


def undelay(transport: asyncio.BaseTransport) -> None:
    """Have the kernel send at once what it is given."""
    sock = transport.get_extra_info("socket")
    if isinstance(sock, TransportSocket) and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Writer(Protocol):
    """Who writes an answer to the transport itself (`streams.outlet.Outlet`)."""

    def paused(self) -> None:
        """Written bytes wait for the client."""

    def resumed(self) -> None:
        """None wait any more."""


class Head(HttpToolsProtocol):
    """One HTTP connection, until it ends or becomes a WebSocket."""

    _head_bytes: int | None = None  # of an unfinished head; None between heads
    _frames_at: int | None = None  # where the frames begin in what was read last

    writer: Writer | None = None  # of the answer under way, where ASGI does not write it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Delay nothing."""
        super().connection_made(transport)
        undelay(transport)

    def pause_writing(self) -> None:
        """Tell the writer too."""
        super().pause_writing()
        if self.writer is not None:
            self.writer.paused()

    def resume_writing(self) -> None:
        """Tell the writer too."""
        super().resume_writing()
        if self.writer is not None:
            self.writer.resumed()

    def on_message_begin(self) -> None:
        """Start to count."""
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Stop counting: bodies have their own limit."""
        super().on_headers_complete()
        self._head_bytes = None

    def data_received(self, data: bytes) -> None:
        """Read as uvicorn does, then bound the head or pass on what came after it."""
        super().data_received(data)
        if self._frames_at is not None:
            if frames := data[self._frames_at :]:
                self.transport.get_protocol().data_received(frames)  # type: ignore[attr-defined]
        elif self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        """Note where the head ends, and let go of the parser."""
        upgrade = sys.exception()
        assert isinstance(upgrade, httptools.HttpParserUpgrade)
        super().handle_websocket_upgrade()
        self._frames_at = upgrade.args[0]
        # Parser and protocol refer to each other; free both now instead of at the next collection.
        self.parser = None  # type: ignore[assignment]
