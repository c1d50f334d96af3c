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

from loadtest.arrivals import Fact
from loadtest.deliveries import Lane
from loadtest.frames import HANDSHAKE_BYTES_MAX, masked
from streams.codes import Close

if TYPE_CHECKING:
    from loadtest.pump import Wire
    from loadtest.swarm import Swarm

UPGRADING, GREETING, READY = range(3)
#: After these a client must not come back with what it has (protocol v1, close codes).
FINAL_CLOSES = frozenset(
    {Close.NOT_A_MESSAGE, Close.BAD_TOKEN, Close.FORBIDDEN, Close.NOT_FOUND, Close.TOO_LARGE}
)
#: What carries positions without being an event that has one.
UNNUMBERED = frozenset({"welcome", "resync", "chat.skipped"})


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
        "left_ns",
        "number",
        "open_buys",
        "past_cseq",
        "past_seq",
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
        self.transport: Wire | None = None
        self.settled: asyncio.Future[bool] | None = None
        self.tail = b""  # the start of a message whose end has not come yet
        self.phase = UPGRADING
        self.generation = 0  # of the connection; a timer of an older one does nothing
        self.failures = 0  # dials since the last welcome
        self.dialling = False
        self.gone = ""  # why it will not come back
        self.open_buys = 0  # sent, without a final answer
        self.last_ns = 0  # last time it sent a buy or was answered
        self.left_ns = 0  # when this connection was due, or the one before it was lost
        self.epoch = ""
        self.seq = 0
        self.cseq = 0
        self.past_seq = 0  # up to here events are history: they follow a welcome that recovered
        self.past_cseq = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("Wire", transport)
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
        now_ns = perf_counter_ns()
        chunk = swarm.arrivals.chunks.get(data)
        if (
            chunk is not None
            and chunk.seq_before in (self.seq, -1)
            and chunk.cseq_before in (self.cseq, -1)
            and self.seq >= self.past_seq
            and self.cseq >= self.past_cseq
            and self.phase == READY
        ):
            self.seq = chunk.seq_last or self.seq
            self.cseq = chunk.cseq_last or self.cseq
            chunk.seen_ns.append(now_ns)
            swarm.received += chunk.frames
            return
        self._parse(data, now_ns)

    def _parse(self, data: bytes, now_ns: int) -> None:
        """Take every whole message, and keep the start of the next one."""
        swarm = self.swarm
        dialect, known = swarm.dialect, swarm.arrivals.known
        facts: list[Fact] | None = []  # of a read that holds only broadcasts in their order
        frames, at, end = 0, 0, len(data)
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
            frames += 1
            if data[at] != dialect.data_byte:
                self._control(data[at], data[body:stop])
                facts = None
            elif not data.startswith(dialect.skipped, body + dialect.skip_offset):
                payload = data[body:stop]
                fact = known.get(payload)
                if fact is None:
                    fact = self._decode(payload, now_ns)
                if fact is not None:
                    right = swarm.told(self, fact, now_ns)
                    if facts is not None and right:
                        facts.append(fact)
                    else:
                        facts = None
                else:
                    facts = None
            at = stop
        swarm.received += frames
        if at < end:
            self.tail = data[at:]
        elif facts is not None and frames:
            swarm.arrivals.keep(data, facts, frames)

    def _decode(self, payload: bytes, now_ns: int) -> Fact | None:
        """Read a message that nobody had before; a numbered event is for everybody."""
        swarm = self.swarm
        try:
            heard = swarm.dialect.decode(payload)
        except msgspec.DecodeError as error:
            swarm.fault(f"{error}: {payload[:200]!r}")
            return None
        numbered = heard.re is None and (heard.seq or heard.cseq) and heard.type not in UNNUMBERED
        if numbered:
            lane: Lane = "chat" if heard.cseq else "main"
            swarm.deliveries.content(self.number, heard.cseq or heard.seq, payload, lane)
            return swarm.arrivals.learn(payload, heard)
        swarm.heard(self, heard, now_ns)
        return None

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
        if self.phase == READY:
            self.left_ns = perf_counter_ns()
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
