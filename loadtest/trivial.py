"""A server that does next to nothing: what is left of a run against it is the harness itself.

It speaks as much of protocol v1 (JSON) as a crowd needs: `hello`, `buy`, `chat`, `ping`, `react`
and `pin`; `flood {n, burst}` is its own: so many main events to everybody, so many in one write.
Nothing is stored, nothing is checked, every buy is an order. Run as `python -m loadtest.trivial`,
which prints its address and serves until it is ended. It must cost less than the crowd does.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import signal
import sys
import time
from typing import Any, cast

import msgspec
from websockets.frames import Opcode

from loadtest.frames import WEBSOCKET_GUID, apply_mask
from streams.protocol import JSON_SUBPROTOCOL

HEARTBEAT_MS = 20_000
FLOOD_EVENTS_MAX = 10_000
_BUY = b'{"type":"buy","id":'
_ORDER = (
    b'{"type":"order.reserved","re":%d,"order":{"id":"or_%d","stream":"st_1","offer":"of_1",'
    b'"product":"pr_1","viewer":"viewer-%d","qty":1,"unit_price_minor":1999,"amount_minor":1999,'
    b'"currency":"TWD","status":"reserved","rank":%d,"key":"%d","version":1,'
    b'"reserved_at":1700000000000,"expires_at":1900000000000}}'
)
_PINNED = (
    b'{"type":"pinned","seq":%d,"at":%d,"pin":{"id":"pin_%d","position":0,"product":'
    b'{"id":"pr_1","shop":"trivial","sku":"TRIVIAL","title":"Nothing","price_minor":1999,'
    b'"currency":"TWD"}}}'
)


def text(payload: bytes) -> bytes:
    """One whole text frame of a server."""
    size = len(payload)
    if size < 126:
        return b"\x81" + bytes((size,)) + payload
    return b"\x81\x7e" + size.to_bytes(2, "big") + payload


class Trivial:
    """What its connections share: who is there, and three counters."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.orders = itertools.count(1)
        self.seq = 0
        self.cseq = 0

    def broadcast(self, frames: bytes) -> None:
        """Give everybody the same bytes."""
        for connection in self.connections:
            connection.transport.write(frames)

    def pinned(self, events: int) -> bytes:
        """Return the frames of that many new main events."""
        at = time.time_ns() // 1_000_000
        numbers = range(self.seq + 1, self.seq + events + 1)
        self.seq += events
        return b"".join(text(_PINNED % (n, at, n)) for n in numbers)


class Connection(asyncio.Protocol):
    """One WebSocket; frames arrive whole or are waited for."""

    def __init__(self, server: Trivial) -> None:
        self.server = server
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.tail = b""
        self.upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        data = self.tail + data
        self.tail = b""
        if not self.upgraded:
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                self.tail = data
                return
            self._upgrade(head)
            data = rest
        at, end, answers = 0, len(data), []
        while end - at >= 6:
            size = data[at + 1] & 0x7F
            body = at + 2
            if size == 126:
                body += 2
                size = int.from_bytes(data[at + 2 : body], "big")
            stop = body + 4 + size
            if stop > end:
                break
            if data[at] == 0x81:
                payload = apply_mask(data[body + 4 : stop], data[body : body + 4])
                answers.append(self._answer(payload))
            elif data[at] & 0x0F == Opcode.CLOSE:
                self.transport.write(b"\x88\x02\x03\xe8")
                self.transport.close()
            at = stop
        self.tail = data[at:]
        if answers:
            self.transport.write(b"".join(answers))

    def _upgrade(self, head: bytes) -> None:
        key = next(
            line.split(b":", 1)[1].strip()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key:")
        )
        accept = base64.b64encode(
            hashlib.sha1(key + WEBSOCKET_GUID, usedforsecurity=False).digest()
        )
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: %b\r\n\r\n"
            % (accept, JSON_SUBPROTOCOL.encode())
        )
        self.upgraded = True

    def _answer(self, payload: bytes) -> bytes:
        if payload.startswith(_BUY):
            number = int(payload[len(_BUY) : payload.index(b",", len(_BUY))])
            order = next(self.server.orders)
            return text(_ORDER % (number, order, number, order, number))
        return self._other(msgspec.json.decode(payload))

    def _other(self, command: dict[str, Any]) -> bytes:
        server, number = self.server, command.get("id")
        match command["type"]:
            case "hello":
                server.connections.add(self)
                return self._reply("welcome", re=number, seq=server.seq, cseq=server.cseq)
            case "ping":
                now = time.time_ns() // 1_000_000
                return text(
                    msgspec.json.encode(
                        {"type": "pong", "re": number, "t0": command["t0"], "now": now}
                    )
                )
            case "chat":
                server.cseq += 1
                at = time.time_ns() // 1_000_000
                message = {"id": f"msg_{server.cseq}", "user": "u", "name": "u", "at": at}
                said = {"type": "chat", "cseq": server.cseq, "at": at}
                server.broadcast(
                    text(
                        msgspec.json.encode(
                            {**said, "message": {**message, "text": command["text"]}}
                        )
                    )
                )
            case "pin":
                server.broadcast(server.pinned(1))
            case "flood":
                left = min(int(command["n"]), FLOOD_EVENTS_MAX)
                while left > 0:
                    burst = min(left, int(command["burst"]))
                    server.broadcast(server.pinned(burst))
                    left -= burst
            case "react":
                return b""
        return text(msgspec.json.encode({"type": "ok", "re": number}))

    def _reply(self, kind: str, **fields: object) -> bytes:
        you = {"id": "viewer", "role": "viewer"}
        stream = {"id": "st_1", "shop": "trivial", "title": "Nothing", "status": "live"}
        body = {"type": kind, **fields, "epoch": "1", "you": you, "stream": stream, "pins": []}
        body |= {"offers": [], "orders": [], "viewers": len(self.server.connections)}
        body |= {"heartbeat_ms": HEARTBEAT_MS, "now": time.time_ns() // 1_000_000}
        return text(msgspec.json.encode(body))


class _Ends(asyncio.Protocol):
    """Hears when whoever started the server is gone."""

    def __init__(self, ended: asyncio.Event) -> None:
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()


async def serve() -> None:
    """Serve on a free port of 127.0.0.1 until SIGTERM or the end of stdin; print the address."""
    loop, server = asyncio.get_running_loop(), Trivial()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await loop.connect_read_pipe(lambda: _Ends(ended), sys.stdin.buffer)
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=4096)
    port = listening.sockets[0].getsockname()[1]
    sys.stdout.write(f"http://127.0.0.1:{port}\n")
    sys.stdout.flush()
    await ended.wait()
    listening.close()


def main() -> None:
    """Run on the fastest loop there is."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())


if __name__ == "__main__":
    main()
