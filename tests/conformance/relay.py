"""What lies between a client and a server, and what can happen there.

Owns one listening port: connections can be cut, answers held back, single frames lost, WebSocket
refused as some networks do. Reads the frames that pass (RFC 6455, uncompressed). Used by the
conformance tests and by nothing else; knows no protocol above frames.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_UPGRADE = re.compile(rb"^upgrade:\s*websocket\s*$", re.IGNORECASE | re.MULTILINE)
_EXTENSIONS = re.compile(rb"^sec-websocket-extensions:.*\r\n", re.IGNORECASE | re.MULTILINE)
_BROKEN = (OSError, asyncio.IncompleteReadError)


class Relay:
    """Passes everything on to `target`, a port of this machine, unless told otherwise."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.blocked = False  # WebSocket does not get through
        self.away = False  # nobody is there
        self.lose: Callable[[str], bool] = lambda text: False  # of what the server says
        self.said: list[str] = []  # what clients said over WebSocket
        self.asked: list[bytes] = []  # request lines of connections that were made
        self._flow = asyncio.Event()
        self._flow.set()
        self._writers: set[asyncio.StreamWriter] = set()

    def hold(self) -> None:
        """Keep back what the server says from now on."""
        self._flow.clear()

    def release(self) -> None:
        """Let it through again."""
        self._flow.set()

    def cut(self) -> None:
        """Break every connection, without a word."""
        for writer in list(self._writers):
            writer.transport.abort()

    def count(self, word: str) -> int:
        """Return how many messages of clients had a word in them."""
        return sum(word in text for text in self.said)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        if self.away:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            await self._pass(reader, writer)
        except _BROKEN:
            pass  # either side is gone
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b"\r\n")[0])
        upgraded = _UPGRADE.search(head.replace(b"\r\n", b"\n")) is not None
        if upgraded and self.blocked:
            writer.write(REFUSED)
            await writer.drain()
            return
        there, onward = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers.add(onward)
        try:
            onward.write(_EXTENSIONS.sub(b"", head) if upgraded else head)
            if upgraded:
                ways = (self._frames_up(reader, onward), self._frames_down(there, writer))
            else:
                ways = (self._bytes_up(reader, onward), self._bytes_down(there, writer))
            tasks = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception) and not isinstance(ended, _BROKEN):
                    raise ended
        finally:
            self._writers.discard(onward)
            onward.close()

    async def _bytes_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            writer.write(chunk)

    async def _bytes_down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            await self._flow.wait()
            writer.write(chunk)
            await writer.drain()

    async def _frames_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            raw, text = await _frame(reader)
            self.said.append(text)
            writer.write(raw)

    async def _frames_down(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(await reader.readuntil(b"\r\n\r\n"))
        while True:
            raw, text = await _frame(reader)
            await self._flow.wait()
            if not self.lose(text):
                writer.write(raw)
                await writer.drain()


async def _frame(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """Read one frame: as it came, and its text; empty for what is no text."""
    raw = await reader.readexactly(2)
    kind, size = raw[0] & 0x0F, raw[1] & 0x7F
    if size >= 126:
        longer = await reader.readexactly(2 if size == 126 else 8)
        raw, size = raw + longer, int.from_bytes(longer)
    mask = await reader.readexactly(4) if raw[1] & 0x80 else b""
    body = await reader.readexactly(size)
    plain = bytes(byte ^ mask[n % 4] for n, byte in enumerate(body)) if mask else body
    return raw + mask + body, plain.decode() if kind == 1 else ""


@asynccontextmanager
async def relaying(target: int) -> AsyncIterator[Relay]:
    """Relay until the block ends."""
    relay = Relay(target)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        relay.release()
        relay.cut()
        server.close()
        await server.wait_closed()
