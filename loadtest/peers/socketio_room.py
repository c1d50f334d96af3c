"""The fan-out peer of Socket.IO: python-socketio on uvicorn, one room that everybody is in.

Whatever a client says with `say` is emitted to the room under the name that it gives, as the
library's own tutorial would. WebSockets only: no long polling comes before. No token, no log, no
order is looked at. Run by `loadtest.bench`; prints its port as one line.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import socketio
import uvicorn

BACKLOG = 4096
ROOM = "room"
#: Its heartbeat is out of the way, as livecart's is: a crowd that is not measured answers no ping.
PING_INTERVAL_S = 3600


def room() -> Any:
    """Return the ASGI application."""
    server = socketio.AsyncServer(
        async_mode="asgi", transports=["websocket"], ping_interval=PING_INTERVAL_S
    )

    async def came(sid: str, environ: dict[str, Any], auth: object) -> None:
        await server.enter_room(sid, ROOM)

    async def said(sid: str, event: str, message: object) -> None:
        await server.emit(event, message, room=ROOM)

    server.on("connect", came)
    server.on("say", said)
    return socketio.ASGIApp(server)


def main() -> None:
    """Serve on a free port of the loopback."""
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listening:
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        uvicorn.run(
            room(),
            fd=listening.fileno(),
            loop="uvloop",
            http="httptools",
            ws_per_message_deflate=False,
            ws_ping_interval=None,
            log_level="error",
        )


if __name__ == "__main__":
    main()
