"""Fan-out: how fast one pin reaches every viewer, beside plain Starlette in the same run.

Owns the measurement: the crowd that only counts, the host that pins, one message at a time. Knows
the public protocol only. Run as `python -m loadtest.scenarios.fanout`; without `--url` a livecart
is spawned. Both servers get the same crowd, one after the other; the figures are only good as a
ratio, since the crowd shares the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import secrets
import select
import socket
import statistics
import struct
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from loadtest.frames import DIALECTS, Handshake, handshake, masked
from loadtest.server import cpu_s, spawned
from loadtest.swarm import raise_file_limit
from loadtest.web import Api
from streams.client import Client

VIEWERS, MESSAGES = 5_000, 60  # fewer measure the settling after the connecting
MESSAGES_MAX = 500
DIAL_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 60.0
MESSAGE_TIMEOUT_S = 20.0
PEER_START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
READ_BYTES = 64 * 1024
NAP_S = 0.02
SO_TIMESTAMPNS = 35  # Linux; not in Python's socket module
STAMP_BYTES = 64

_DIALECT = DIALECTS["msgpack"]
_HELLO = masked(_DIALECT.opcode, _DIALECT.encode({"type": "hello", "id": 0}))
_WELCOME = b"\xa4type\xa7welcome"
_PINNED = b"\xa4type\xa6pinned"


@dataclass(slots=True, frozen=True)
class Server:
    """Where to measure, and how to pin there."""

    name: str
    url: str
    stream: str = "st_1"
    product: str = "pr_1"
    token: str | None = field(default=None, repr=False)
    pid: int | None = None  # of the process that holds the sockets, when it is ours


@dataclass(slots=True, frozen=True)
class Fanned:
    """What the crowd saw of one server."""

    name: str
    viewers: int
    skews_ms: tuple[float, ...]  # first to last viewer, per message
    first_ms: tuple[float, ...]  # command sent to first viewer, per message
    cpu_us: float | None = None  # of the server's processor, per delivery

    @property
    def deliveries_per_s(self) -> float:
        """Return the rate between the first viewer and the last, of the median message."""
        return self.viewers / statistics.median(self.skews_ms) * 1000


class Crowd:
    """Viewers that count what they are waiting for, and do nothing else.

    Bare sockets, left alone until each has something to read: a crowd that is woken for every frame
    takes more of the machine than the fast server does, which viewers elsewhere do not. When a
    frame came is what the kernel wrote down on its arrival.
    """

    def __init__(self, viewers: int, shake: Handshake) -> None:
        self.shake = shake
        self.size = viewers
        self.seen = 0
        self.first_at = 0.0
        self.last_at = 0.0
        self._sockets: dict[int, socket.socket] = {}  # by file descriptor
        self._ready = select.epoll()

    def connect(self) -> None:
        """Dial everyone, and wait until all are welcome."""
        for _ in range(self.size):
            dialled = socket.create_connection((self.shake.host, self.shake.port), DIAL_TIMEOUT_S)
            dialled.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._sockets[dialled.fileno()] = dialled
            self._ready.register(dialled, select.EPOLLIN)
            # Frames may not come before the answer: each viewer waits for its own.
            dialled.sendall(self.shake.request)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (part := dialled.recv(READ_BYTES)):
                    break
                head += part
            if not head or self.shake.status(head) != 101:
                raise ConnectionError(f"the upgrade was answered {head[:200]!r}")
            dialled.sendall(_HELLO)
            dialled.setblocking(False)
        self.wait_for(_WELCOME, CONNECT_TIMEOUT_S)

    def wait_for(self, needle: bytes, timeout_s: float) -> None:
        """Wait until every viewer got one; TimeoutError says how many did.

        A lone frame comes in one piece, so that the needle is not looked for across two reads.
        """
        self.seen, self.first_at, self.last_at = 0, math.inf, 0.0
        ends = time.monotonic() + timeout_s
        while self.seen < self.size:
            time.sleep(NAP_S)
            late = time.monotonic() > ends
            events = self._ready.poll(0, self.size)
            if len(events) < self.size - self.seen and not late:
                continue
            for number, _ in events:
                data, stamps, _, _ = self._sockets[number].recvmsg(READ_BYTES, STAMP_BYTES)
                if not data:
                    raise ConnectionError("a viewer was disconnected")
                if count := data.count(needle):
                    self._count(count, stamps)
            if late and self.seen < self.size:
                raise TimeoutError(f"{self.seen} of {self.size} viewers were reached")

    def _count(self, count: int, stamps: list[tuple[int, int, bytes]]) -> None:
        self.seen += count
        for _, kind, stamp in stamps:
            if kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = struct.unpack_from("qq", stamp)
                at = seconds + nanoseconds / 1e9
                self.first_at, self.last_at = min(self.first_at, at), max(self.last_at, at)

    def close(self) -> None:
        """Leave."""
        for dialled in self._sockets.values():
            dialled.close()
        self._ready.close()


async def measure(server: Server, viewers: int, messages: int) -> Fanned:
    """Connect the crowd, pin so many times one after the other, and leave."""
    shake = handshake(f"{server.url}/v1/streams/{server.stream}/ws", _DIALECT)
    crowd = Crowd(viewers, shake)
    skews_ms, first_ms, cpu_began_s = [], [], 0.0
    gc.collect()
    gc.freeze()  # the crowd's own collections would look like the server's delays
    try:
        await asyncio.to_thread(crowd.connect)
        async with Client.connect(server.url, server.stream, token=server.token) as host:
            for number in range(messages + 1):  # the first is not counted: it warms both sides
                if number == 1 and server.pid:
                    cpu_began_s = cpu_s(server.pid)
                waiting = asyncio.to_thread(crowd.wait_for, _PINNED, MESSAGE_TIMEOUT_S)
                watch = asyncio.create_task(waiting)
                began = time.time()  # the kernel's stamps are of the same clock
                answer = await host.command("pin", product=server.product)
                if answer["type"] != "ok":
                    raise RuntimeError(f"{server.name} did not pin: {answer}")
                await watch
                skews_ms.append((crowd.last_at - crowd.first_at) * 1000)
                first_ms.append((crowd.first_at - began) * 1000)
        used_s = cpu_s(server.pid) - cpu_began_s if server.pid else None
    finally:
        crowd.close()
        gc.unfreeze()
    cpu_us = used_s * 1e6 / (viewers * messages) if used_s else None
    return Fanned(server.name, viewers, tuple(skews_ms[1:]), tuple(first_ms[1:]), cpu_us)


@asynccontextmanager
async def plain_starlette() -> AsyncIterator[Server]:
    """Run the peer for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.peers.plain_starlette"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PEER_START_TIMEOUT_S):
            url = (await process.stdout.readline()).decode().strip()
        if not url:
            raise RuntimeError("the peer did not start")
        yield Server("plain Starlette", url, pid=process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def livecart() -> AsyncIterator[Server]:
    """Spawn a livecart with a live stream and a product."""
    async with spawned() as target:
        host = Api(target.http, target.host_token)
        stream = (await host.call("POST", "/v1/streams", {"title": "Fan-out"}))["id"]
        await host.call("POST", f"/v1/streams/{stream}/start")
        product = {"title": "限量茶具組", "price_minor": 1999, "currency": "TWD"}
        product["sku"] = f"FANOUT-{secrets.token_hex(4)}"
        made = await host.call("POST", "/v1/products", product)
        pid = target.pids.workers[0] if target.pids and target.pids.workers else None
        yield Server("livecart", target.http, stream, made["id"], target.host_token, pid)


@asynccontextmanager
async def already(server: Server) -> AsyncIterator[Server]:
    """Measure a server that runs anyway."""
    yield server


async def run(
    viewers: int = VIEWERS, messages: int = MESSAGES, server: Server | None = None
) -> list[Fanned]:
    """Measure the peer, then livecart (`server`, or a spawned one)."""
    raise_file_limit(viewers + 200)
    found = []
    for one in (plain_starlette(), livecart() if server is None else already(server)):
        async with one as subject:
            found.append(await measure(subject, viewers, min(messages, MESSAGES_MAX)))
    return found


def report(found: Sequence[Fanned]) -> str:
    """Return the table of a run, and the ratio of the last line to the first."""
    heads = ("deliveries/s", "skew ms (median, worst)", "to first ms", "cpu us each")
    lines = [f"{'':18}{heads[0]:>14}{heads[1]:>26}{heads[2]:>13}{heads[3]:>13}"]
    for one in found:
        skew = f"{statistics.median(one.skews_ms):.1f}, {max(one.skews_ms):.1f}"
        first = statistics.median(one.first_ms)
        cpu = "" if one.cpu_us is None else f"{one.cpu_us:.1f}"
        rate = f"{one.deliveries_per_s:,.0f}"
        lines.append(f"{one.name:18}{rate:>14}{skew:>26}{first:>13.1f}{cpu:>13}")
    ratio = found[-1].deliveries_per_s / found[0].deliveries_per_s
    lines.append(f"ratio {ratio:.2f} ({found[0].viewers} viewers, {len(found[0].skews_ms)} pins)")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description="One pin to every viewer, beside a peer.")
    parser.add_argument("--viewers", type=int, default=VIEWERS)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--url", help="a livecart that runs (http://…); without it, one is spawned")
    parser.add_argument("--stream", help="with --url: id of a stream")
    parser.add_argument("--product", default="pr_1", help="with --url: id of a product of the host")
    parser.add_argument("--token", help="with --url: a host's token")
    parser.add_argument("--pid", type=int, help="with --url: its process, to see what it uses")
    given = parser.parse_args()
    server = None
    if given.url:
        stream = given.stream or parser.error("--url needs --stream")
        url = given.url.rstrip("/")
        server = Server("livecart", url, stream, given.product, given.token, given.pid)
    try:
        import uvloop
    except ImportError:
        start = asyncio.run
    else:
        start = uvloop.run
    sys.stdout.write(report(start(run(given.viewers, given.messages, server))) + "\n")


if __name__ == "__main__":
    main()
