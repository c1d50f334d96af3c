"""One WebSocket viewer: its connection's bytes, in and out.

Owns the upgrade, the framing and the control frames of one viewer. What a message means, and when
to dial again, is the swarm's. One slotted object a viewer, reused over its connections; no task, no
queue and no timer of its own.
"""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import TYPE_CHECKING, cast

import msgspec
from websockets.frames import Opcode

from loadtest.frames import HANDSHAKE_BYTES_MAX, masked
from streams.codes import Close

if TYPE_CHECKING:
    from loadtest.swarm import Swarm

UPGRADING, GREETING, READY = range(3)
#: After these a client must not come back with what it has (protocol v1, close codes).
FINAL_CLOSES = frozenset(
    {Close.NOT_A_MESSAGE, Close.BAD_TOKEN, Close.FORBIDDEN, Close.NOT_FOUND, Close.TOO_LARGE}
)


class Viewer(asyncio.Protocol):
    """One viewer over all its connections: a new one starts only when the old one is lost."""

    __slots__ = (
        "cseq",
        "dialling",
        "epoch",
        "failures",
        "generation",
        "gone",
        "last_ns",
        "number",
        "open_buys",
        "phase",
        "seq",
        "settled",
        "swarm",
        "tail",
        "transport",
    )

    def __init__(self, swarm: Swarm, number: int) -> None:
        self.swarm = swarm
        self.number = number
        self.transport: asyncio.Transport | None = None
        self.settled: asyncio.Future[bool] | None = None
        self.tail = b""  # the start of a message whose end has not come yet
        self.phase = UPGRADING
        self.generation = 0  # of the connection; a timer of an older one does nothing
        self.failures = 0  # dials since the last welcome
        self.dialling = False
        self.gone = ""  # why it will not come back
        self.open_buys = 0  # sent, without a final answer
        self.last_ns = 0  # last time it sent a buy or was answered
        self.epoch = ""
        self.seq = 0
        self.cseq = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.tail = b""
        self.phase = UPGRADING
        self.generation += 1
        self.transport.write(self.swarm.handshake.request)

    def data_received(self, data: bytes) -> None:
        if self.phase == UPGRADING:
            data = self._upgraded(data)
        elif self.tail:
            data = self.tail + data
            self.tail = b""
        swarm = self.swarm
        dialect = swarm.dialect
        now_ns = perf_counter_ns()
        at, end = 0, len(data)
        while end - at >= 2:
            size = data[at + 1]
            body = at + 2
            if size >= 126:
                body += 2 if size == 126 else 8
                if end < body:
                    break
                size = int.from_bytes(data[at + 2 : body], "big")
            stop = body + size
            if stop > end:
                break
            if data[at] != dialect.data_byte:
                self._control(data[at], data[body:stop])
            elif not data.startswith(dialect.skipped, body + dialect.skip_offset):
                try:
                    heard = dialect.decode(data[body:stop])
                except msgspec.DecodeError as error:
                    swarm.fault(f"{error}: {data[body:stop][:200]!r}")
                else:
                    swarm.heard(self, heard, now_ns)
            at = stop
        if at < end:
            self.tail = data[at:]

    def _upgraded(self, data: bytes) -> bytes:
        """Read the answer to the upgrade; returns what came behind it."""
        head, found, rest = (self.tail + data).partition(b"\r\n\r\n")
        if not found:
            self.tail = head
            if len(head) > HANDSHAKE_BYTES_MAX:
                self.abort()
            return b""
        self.tail = b""
        status = self.swarm.handshake.status(head)
        if status != 101:
            self.swarm.tally[f"upgrade_{status}"] += 1
            if 400 <= status < 500 and status != 429:
                self.gone = f"upgrade_{status}"
            self.abort()
            return b""
        self.phase = GREETING
        self.write(self.swarm.hello(self))
        return rest

    def _control(self, first: int, payload: bytes) -> None:
        if first == 0x80 | Opcode.PING:
            self.write(masked(Opcode.PONG, payload))
        elif first == 0x80 | Opcode.CLOSE:
            code = int.from_bytes(payload[:2], "big")
            self.swarm.tally[f"close_{code}"] += 1
            if code in FINAL_CLOSES:
                self.gone = f"close_{code}"
            self.write(masked(Opcode.CLOSE, payload[:2]))
            if self.transport is not None:
                self.transport.close()
        elif first != 0x80 | Opcode.PONG:
            self.swarm.fault(f"a frame that starts with {first:#04x}")
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.phase = UPGRADING
        self.settle(False)
        self.swarm.lost(self)

    def settle(self, welcome: bool) -> None:
        if self.settled is not None and not self.settled.done():
            self.settled.set_result(welcome)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()
