"""A real uvicorn server on port 0 with `Wire`, and a front that records what it hears.

Used by the contract tests of `streams.wire` and by nothing else; it knows no room and no token.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from streams.ports import Ear, Socket
from streams.wire import Wire

WAIT_S = 10.0  # for a condition that a working server meets in milliseconds


@dataclass
class Heard:
    """The ear of one connection."""

    front: Recorder
    socket: Socket
    stream_id: str
    token: str | None
    peer: str
    messages: list[tuple[bytes, bool]] = field(default_factory=list)
    losses: int = 0
    stalls: int = 0
    drains: int = 0
    chokes: int = 0

    def received(self, payload: bytes, binary: bool) -> None:
        """Keep the message, then do what the test wants done."""
        self.messages.append((payload, binary))
        self.front.on_message(self, payload, binary)

    def stalled(self) -> None:
        """Count."""
        self.stalls += 1

    def drained(self) -> None:
        """Count."""
        self.drains += 1

    def choked(self) -> None:
        """Count."""
        self.chokes += 1

    def lost(self) -> None:
        """Count, since it may happen once."""
        self.losses += 1


@dataclass
class Recorder:
    """A `ports.Front` that accepts everyone."""

    full: bool = False
    deflate: bool = False
    ears: list[Heard] = field(default_factory=list)
    on_accept: Callable[[Heard], None] = lambda ear: None
    on_message: Callable[[Heard, bytes, bool], None] = lambda ear, payload, binary: None

    def client(self, peer: str, forwarded: str) -> str:
        return peer

    def turns_away(self, client: str) -> bool:
        """Answer as the test has set."""
        return self.full

    def deflates(self) -> bool:
        """Answer as the test has set."""
        return self.deflate

    def accept(self, socket: Socket, stream_id: str, header_token: str | None, peer: str) -> Ear:
        """Make an ear that records."""
        ear = Heard(self, socket, stream_id, header_token, peer)
        self.ears.append(ear)
        self.on_accept(ear)
        return ear


@dataclass
class Running:
    """A server under test."""

    front: Recorder
    server: uvicorn.Server
    port: int

    @property
    def url(self) -> str:
        """Return the address of the stream's socket."""
        return f"ws://127.0.0.1:{self.port}/v1/streams/st_1/ws"

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 - any condition, of the server's or the test's
                await asyncio.sleep(0.001)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Running]:
    """Serve until the block ends, then stop as uvicorn stops."""
    front = Recorder()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["hub"] = front
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await send({"type": "http.response.start", "status": 418, "headers": []})
            await send({"type": "http.response.body", "body": b"plain http"})

    config = uvicorn.Config(app, **{"ws": Wire, "log_config": None, "lifespan": "on"} | options)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stopped = asyncio.create_task(_serve(server, listening))
        running = Running(front, server, listening.getsockname()[1])
        await running.until(lambda: server.started or stopped.done())
        try:
            yield running
        finally:
            server.should_exit = True
            await asyncio.wait_for(stopped, WAIT_S)


def _serve(server: uvicorn.Server, listening: socket.socket) -> Coroutine[Any, Any, None]:
    return server._serve([listening])
