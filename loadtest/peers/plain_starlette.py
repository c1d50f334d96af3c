"""The fan-out peer: plain Starlette on uvicorn, `send_bytes` to one socket after the other.

Speaks just enough MessagePack of protocol v1 that the harness treats it like livecart: `hello` is
welcomed, `pin` is broadcast as `pinned`, `chat` as it is, `ping` answered. No token, no log, no
order is looked at: all that would make it slower. Run by `loadtest.bench`.
"""

from __future__ import annotations

import socket
import sys
import time
from typing import Any

import msgpack
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

BACKLOG = 4096
# About what a product of a few words takes, with its id, price and picture.
PIN = {"id": "pin_0", "position": 0, "product": {"title": "x" * 220}}

viewers: set[WebSocket] = set()


async def stream(socket_: WebSocket) -> None:
    """Serve one viewer until it leaves."""
    await socket_.accept(subprotocol=socket_.scope["subprotocols"][0])
    try:
        while True:
            await answer(socket_, msgpack.unpackb(await socket_.receive_bytes()))
    except WebSocketDisconnect:
        viewers.discard(socket_)


async def answer(socket_: WebSocket, command: dict[str, Any]) -> None:
    """Do what a command asks for, as an application written in an afternoon does."""
    now = int(time.time() * 1000)
    reply: dict[str, Any] = {"type": "ok", "re": command["id"]}
    if command["type"] == "hello":
        viewers.add(socket_)
        reply |= {"type": "welcome", "epoch": "1", "seq": 0, "cseq": 0, "heartbeat_ms": 20_000}
    elif command["type"] == "ping":
        reply |= {"type": "pong", "t0": command["t0"], "now": now}
    elif command["type"] == "pin":
        await broadcast({"type": "pinned", "at": now, "pin": PIN})
    elif command["type"] == "chat":
        await broadcast({"type": "chat", "at": now, "text": command["text"]})
    await socket_.send_bytes(msgpack.packb(reply))


async def broadcast(event: dict[str, Any]) -> None:
    """Send one event to everyone, encoded once."""
    frame = msgpack.packb(event)
    for viewer in list(viewers):
        await viewer.send_bytes(frame)


def main() -> None:
    """Serve on a free port of the loopback and print the address as one line."""
    app = Starlette(routes=[WebSocketRoute("/v1/streams/{stream}/ws", stream)])
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listening:
        sys.stdout.write(f"http://127.0.0.1:{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        uvicorn.run(
            app,
            fd=listening.fileno(),
            loop="uvloop",
            http="httptools",
            ws_per_message_deflate=False,
            ws_ping_interval=None,
            log_level="error",
        )


if __name__ == "__main__":
    main()
