"""What a user would pick instead, for fan-out: each started, and how to speak to it.

A peer that is absent is told by `Absent`, whose message says how to get it. Knows no measurement;
called by the stations.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from websockets.frames import Opcode

from loadtest import peers
from loadtest.bench.ours import command, mark_of
from loadtest.bench.processes import first_line, free_port, process
from loadtest.bench.subject import EVENT_BYTES, Absent, Subject
from loadtest.frames import DIALECTS, handshake, masked
from loadtest.server import cpu_s

#: A pin of livecart's, as it is sent for its product.
PIN_BYTES = 240
GET_SOCKETIFY = (
    "python3 -m venv v && v/bin/pip install socketify cffi, then --socketify-python v/bin/python"
)
GET_SOCKETIO = "make loadtest, or pip install 'livecart[peers]'"
_DIALECT = DIALECTS["msgpack"]


@asynccontextmanager
async def starlette() -> AsyncIterator[Subject]:
    """Plain Starlette on uvicorn; speaks as much of protocol v1 as is needed here."""
    async with process(sys.executable, "-m", "loadtest.peers.plain_starlette") as running:
        shake = handshake(f"{await first_line(running)}/v1/streams/st_1/ws", _DIALECT)
        empty = _DIALECT.encode({"type": "chat", "at": 1 << 40, "text": ""})
        text, pid = "x" * (EVENT_BYTES - len(empty) - 1), running.pid
        hello = command("hello", 0)
        yield Subject(
            "plain Starlette",
            shake.port,
            pid,
            lambda: cpu_s(pid),
            shake.request,
            lambda n: command("chat", n, text=text),
            mark_of("chat"),
            hello=hello,
            welcome=mark_of("welcome"),
            speaker=(shake.request, hello),
            pin=lambda n: command("pin", n),
            pin_mark=mark_of("pinned"),
            host=(shake.request, hello),
            ping=command("ping", 1, t0=1),
            pong=mark_of("pong"),
            versions={name: version(name) for name in ("starlette", "uvicorn", "websockets")},
        )


def upgrade(port: int, path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: bGl2ZWNhcnQgYmVuY2ghIQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def _plain(kind: str, size: int) -> Callable[[int], bytes]:
    """Return what makes frames of so many bytes that a server passes on as they are."""
    spent = len(json.dumps({"type": kind, "n": "00000000", "text": ""}))

    def frame(n: int) -> bytes:
        message = {"type": kind, "n": f"{n:08d}", "text": "x" * (size - spent)}
        return masked(Opcode.TEXT, json.dumps(message).encode())

    return frame


def passes_on(
    name: str, port: int, pid: int, paths: tuple[str, str], tree: int, spins: bool = False
) -> Subject:
    listen, say = (upgrade(port, path) for path in paths)
    return Subject(
        name,
        port,
        pid,
        lambda: cpu_s(tree),
        listen,
        _plain("chat", EVENT_BYTES),
        b'"type": "chat"',
        speaker=(say, b""),
        pin=_plain("pinned", PIN_BYTES),
        pin_mark=b'"type": "pinned"',
        host=(say, b""),
        spins=spins,
    )


@asynccontextmanager
async def uwebsockets(python: str) -> AsyncIterator[Subject]:
    """The C++ server, published to by way of a Python that has socketify."""
    if shutil.which(python) is None:
        raise Absent(f"no interpreter {python}; {GET_SOCKETIFY}")
    script, port = Path(peers.__file__).with_name("uwebsockets.py"), free_port()
    async with process(python, str(script), str(port)) as running:
        try:
            told = await first_line(running)
        except Absent as absent:
            raise Absent(f"{absent}; {GET_SOCKETIFY}") from absent
        subject = passes_on("uWebSockets", port, running.pid, ("/", "/"), running.pid, spins=True)
        subject.versions["socketify"] = told
        yield subject


@asynccontextmanager
async def socketio() -> AsyncIterator[Subject]:
    """python-socketio on uvicorn: a room that everybody joins, over WebSockets only."""
    if importlib.util.find_spec("socketio") is None:
        raise Absent(f"no python-socketio: {GET_SOCKETIO}")
    async with process(sys.executable, "-m", "loadtest.peers.socketio_room") as running:
        port, pid = int(await first_line(running)), running.pid
        request = upgrade(port, "/socket.io/?EIO=4&transport=websocket")
        # Engine.IO 4's `message` (4) with Socket.IO 5's CONNECT (0) to the main namespace in it.
        hello = masked(Opcode.TEXT, b"40")
        yield Subject(
            "Socket.IO",
            port,
            pid,
            lambda: cpu_s(pid),
            request,
            emitting("chat", EVENT_BYTES),
            b'42["chat"',
            hello=hello,
            welcome=b'40{"sid"',
            greeting=b'0{"sid"',
            speaker=(request, hello),
            pin=emitting("pinned", PIN_BYTES),
            pin_mark=b'42["pinned"',
            host=(request, hello),
            versions={name: version(name) for name in ("python-socketio", "python-engineio")},
        )


def emitting(event: str, size: int) -> Callable[[int], bytes]:
    """Return what makes client frames whose event viewers get in frames of so many bytes."""
    text = "x" * (size - len(_packet([event, {"n": "00000000", "text": ""}])))

    def frame(n: int) -> bytes:
        return masked(Opcode.TEXT, _packet(["say", event, {"n": f"{n:08d}", "text": text}]))

    return frame


def _packet(event: list[object]) -> bytes:
    """Return an EVENT (2) of Socket.IO in a `message` (4) of Engine.IO."""
    return b"42" + json.dumps(event, separators=(",", ":")).encode()
