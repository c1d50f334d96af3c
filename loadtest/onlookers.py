"""A crowd of bare sockets that connect, say hello and count what comes: for unit costs alone.

Owns the sockets and what the kernel says of them: when each frame came (its time stamp), bytes and
segments (TCP_INFO, Linux). It is left alone until there is something to read, so that it takes
little of a machine that it shares with the server. Judges nothing. Called by the probes, in a
thread.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.frames import Handshake
from loadtest.swarm import raise_file_limit

DIAL_TIMEOUT_S: Final = 10.0
READ_BYTES: Final = 256 * 1024
NAP_S: Final = 0.005
STAMP_BYTES: Final = 64
SO_TIMESTAMPNS: Final = 35  # Linux; Python's socket module does not name it
# Of struct tcp_info: bytes acknowledged and received, segments out and in.
_BYTES_AT, _INFO_BYTES = 120, 144


@dataclass(slots=True, frozen=True)
class Traffic:
    """What went over some connections, seen from the viewers: TCP payload and segments."""

    out_bytes: int = 0
    in_bytes: int = 0
    out_segments: int = 0
    in_segments: int = 0

    def since(self, before: Traffic) -> Traffic:
        """What went over them between two looks."""
        return Traffic(
            self.out_bytes - before.out_bytes,
            self.in_bytes - before.in_bytes,
            self.out_segments - before.out_segments,
            self.in_segments - before.in_segments,
        )


@dataclass(slots=True, frozen=True)
class Arrival:
    """When the first and the last of what was waited for came, on the wall clock in seconds."""

    first_at: float
    last_at: float


class Onlookers:
    """Connections of one stream; more may join."""

    def __init__(self, shake: Handshake) -> None:
        self._shake = shake
        self._sockets: dict[int, socket.socket] = {}  # by file descriptor
        self._poll = select.epoll()

    def __len__(self) -> int:
        return len(self._sockets)

    def connect(self, hellos: Sequence[bytes], welcome: bytes, timeout_s: float) -> None:
        """Dial one viewer for each hello, a whole client frame; wait until all have this mark."""
        raise_file_limit(len(self._sockets) + len(hellos) + 200)
        for hello in hellos:
            one = socket.create_connection((self._shake.host, self._shake.port), DIAL_TIMEOUT_S)
            one.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._sockets[one.fileno()] = one
            self._poll.register(one, select.EPOLLIN)
            one.sendall(self._shake.request)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (part := one.recv(READ_BYTES)):
                    raise ConnectionError("the connection ended before the upgrade's answer")
                head += part
            if self._shake.status(head) != 101:
                raise ConnectionError(f"the upgrade was answered {head[:200]!r}")
            one.sendall(hello)
            one.setblocking(False)
        self.wait_for(welcome, len(hellos), timeout_s)

    def wait_for(self, mark: bytes, times: int, timeout_s: float) -> Arrival:
        """Read until this mark was seen so often; TimeoutError says how often it was.

        A mark that lies across two reads of one socket is not missed: what ends a read is kept.
        """
        seen, first_at, last_at = 0, float("inf"), 0.0
        kept: dict[int, bytes] = {}
        ends = time.monotonic() + timeout_s
        while seen < times:
            events = self._poll.poll(NAP_S, len(self._sockets) or 1)
            if not events and time.monotonic() > ends:
                raise TimeoutError(f"{seen} of {times} came")
            for number, _ in events:
                data, stamps, _, _ = self._sockets[number].recvmsg(READ_BYTES, STAMP_BYTES)
                if not data:
                    raise ConnectionError("a viewer was disconnected")
                data = kept.pop(number, b"") + data
                if count := data.count(mark):
                    seen += count
                    for _, kind, stamp in stamps:
                        if kind == SO_TIMESTAMPNS:
                            seconds, nanoseconds = struct.unpack_from("qq", stamp)
                            at = seconds + nanoseconds / 1e9
                            first_at, last_at = min(first_at, at), max(last_at, at)
                kept[number] = data[-len(mark) + 1 :]
            time.sleep(NAP_S)  # let frames gather: one read takes many
        return Arrival(first_at, last_at)

    def ask(self, frame: bytes, mark: bytes, timeout_s: float) -> float:
        """Have the first viewer send one frame; return the seconds until this mark came."""
        one = next(iter(self._sockets.values()))
        one.setblocking(True)
        one.settimeout(timeout_s)
        try:
            began, heard = time.perf_counter(), b""
            one.sendall(frame)
            while mark not in heard:
                if not (part := one.recv(READ_BYTES)):
                    raise ConnectionError("the viewer was disconnected")
                heard += part
            return time.perf_counter() - began
        finally:
            one.setblocking(False)

    def traffic(self) -> Traffic:
        """Return what went over all connections so far."""
        sums = [0, 0, 0, 0]
        for one in self._sockets.values():
            info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
            acked, received, out_segments, in_segments = struct.unpack_from("QQII", info, _BYTES_AT)
            for at, value in enumerate((acked, received, out_segments, in_segments)):
                sums[at] += value
        return Traffic(*sums)

    def close(self) -> None:
        """Leave."""
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()
        self._poll.close()
