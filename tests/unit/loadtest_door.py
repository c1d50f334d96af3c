"""An HTTP server that answers what it is told to: for tests of the harness's own clients."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

#: (attempt of this key, key) -> status and body; None: hang up; a status of 0: say nothing.
Answer = Callable[[int, str], tuple[int, Any] | None]


class Door:
    """An HTTP server that answers what it is told to."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: dict[str, list[bytes]] = defaultdict(list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
                body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
                key = fields.get(b"idempotency-key", b"").decode()
                self.seen[key].append(head + body)
                answer = self.answer(len(self.seen[key]), key)
                if answer is None:
                    return
                if answer[0]:
                    await self.say(writer, *answer)
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    async def say(self, writer: asyncio.StreamWriter, status: int, body: Any) -> None:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(content)))
        await writer.drain()  # in two pieces: a client must wait for the body
        writer.write(content)


def order(key: str) -> tuple[int, Any]:
    return 201, {"id": f"or_{key}", "rank": 1, "key": key, "status": "reserved"}


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[tuple[Door, str]]:
    door = Door(answer)
    server = await asyncio.start_server(door.serve, "127.0.0.1", 0)
    async with server:
        yield door, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
