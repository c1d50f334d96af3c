"""A server with its crowd, as measurements hold them side by side.

Owns the crowd's process and the numbering of what is said. A peer that is absent is told once and
left out.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from functools import partial
from typing import Any

import msgpack
import msgspec

from loadtest.bench import nginx, ours, rivals
from loadtest.bench.asks import Answer, Ask, Connect, Enter, Say
from loadtest.bench.judged import gap_in, payloads
from loadtest.bench.processes import ROOT, placed, shares
from loadtest.bench.subject import Absent, Subject

LINE_BYTES_MAX = 256 * 2**20  # of an answer: what a sample read
ASK_TIMEOUT_S = 180.0
FILES_BESIDE = 300  # of a server or a crowd, beside the viewers

Announce = Callable[[str], None]
Start = Callable[[], AbstractAsyncContextManager[Subject]]


class Failed(Exception):
    """A crowd could not do what it was asked."""


class Station:
    """One server and its crowd."""

    def __init__(self, subject: Subject, crowd: asyncio.subprocess.Process) -> None:
        self.subject = subject
        self.viewers = 0
        self.cpu_s = 0.0  # of the server, while the crowd did what it was last asked
        self._crowd = crowd
        self._said = 0
        self._hold(True)

    async def ask(self, ask: Ask, timeout_s: float = ASK_TIMEOUT_S) -> Answer:
        """Have the crowd do something; raise `Failed` when it could not."""
        self._hold(False)
        try:
            return await self._ask(ask, timeout_s)
        finally:
            self._hold(True)

    def _hold(self, still: bool) -> None:
        """Keep a server that spins still while nothing is asked: others are on its processor."""
        if self.subject.spins:
            with suppress(ProcessLookupError):
                os.kill(self.subject.pid, signal.SIGSTOP if still else signal.SIGCONT)

    async def _ask(self, ask: Ask, timeout_s: float) -> Answer:
        assert self._crowd.stdin is not None
        assert self._crowd.stdout is not None
        before_s = self.subject.cpu_s()
        self._crowd.stdin.write(msgspec.json.encode(ask) + b"\n")
        await self._crowd.stdin.drain()
        async with asyncio.timeout(timeout_s):
            line = await self._crowd.stdout.readline()
        if not line:
            raise Failed(f"the crowd of {self.subject.name} ended")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error:
            raise Failed(f"{self.subject.name}: {answer.error}")
        self.cpu_s = self.subject.cpu_s() - before_s
        return answer

    async def fill(self, viewers: int, **how: Any) -> Answer:
        """Bring viewers."""
        one = self.subject
        hellos = how.pop("hellos", [one.hello] if one.hello else [])
        answer = await self.ask(
            Connect(one.port, one.request, viewers, hellos, one.welcome, one.greeting, **how)
        )
        self.viewers = viewers
        return answer

    async def enter(self, who: str, request: bytes, hello: bytes) -> Answer:
        """Bring a speaker."""
        one = self.subject
        return await self.ask(Enter(who, one.port, request, hello, one.welcome, one.greeting))

    async def speakers(self) -> None:
        """Bring who says events and who pins."""
        await self.enter("speaker", *self.subject.speaker)
        await self.enter("host", *self.subject.host)

    def frames(self, n: int) -> list[bytes]:
        """Return the next so many things to say."""
        first, self._said = self._said, self._said + n
        return [self.subject.event(number) for number in range(first, first + n)]

    def pins(self, n: int) -> list[bytes]:
        """Return the next so many pins."""
        assert self.subject.pin is not None
        first, self._said = self._said, self._said + n
        return [self.subject.pin(number) for number in range(first, first + n)]

    async def say(self, events: int, **how: Any) -> Answer:
        """Have events said to everybody."""
        return await self.ask(Say("speaker", self.frames(events), self.subject.mark, **how))

    async def warm(self, events: int = 20) -> None:
        """Have some heard: the first after a crowd's coming are slower."""
        await self.say(events)

    async def verify(self, events: int, sample: int) -> str:
        """Count every frame of every viewer; livecart's numbers must follow. Return what was seen.

        A viewer that hears one event too few makes this wait, one too many makes it fail.
        """
        answer = await self.say(events, exact=True, sample=sample)
        sizes = {
            len(payload)
            for data in answer.samples
            for payload in payloads(data)
            if self.subject.mark in payload
        }
        if self.subject.stream:
            for data in answer.samples:
                self._contiguous(data, events)
        shown = "200" if not sizes else " or ".join(map(str, sorted(sizes)))
        return f"{answer.n:,} frames of {shown} bytes"

    def _contiguous(self, data: bytes, events: int) -> None:
        numbers = [
            message["cseq"] for message in map(msgpack.unpackb, payloads(data)) if "cseq" in message
        ]
        last = numbers[0] + events - 1
        _, problem = gap_in(data, 0, numbers[0] - 1, last)
        if problem:
            raise Failed(f"a viewer's numbers do not follow: {problem}")

    async def close(self) -> None:
        """End the crowd; the server can end, too."""
        self._hold(False)
        if self._crowd.returncode is None:
            assert self._crowd.stdin is not None
            self._crowd.stdin.close()
            try:
                await asyncio.wait_for(self._crowd.wait(), 10.0)
            except TimeoutError:
                self._crowd.kill()
                await self._crowd.wait()


def starters(python: str) -> dict[str, Start]:
    """Return every server by its name; `python` is who has socketify."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return {
        "livecart": ours.livecart,
        "uWebSockets": partial(rivals.uwebsockets, python),
        "nchan": partial(nginx.nchan, min(files, 20_000)),
        "plain Starlette": rivals.starlette,
        "Socket.IO": rivals.socketio,
    }


def chosen(starts: dict[str, Start], peers: Sequence[str]) -> dict[str, Start]:
    """Return livecart and the peers that are named, or all; KeyError when there is none such."""
    if not peers:
        return starts
    known = {name.casefold(): name for name in starts}
    names = [next(iter(starts)), *(known[peer.casefold()] for peer in peers)]
    return {name: starts[name] for name in names}


def in_turn(all_: dict[str, Station], rounds: int) -> list[Station]:
    """Return who is measured when: every round has everybody, each time another first."""
    order = list(all_.values())
    return [order[(at + shift) % len(order)] for shift in range(rounds) for at in range(len(order))]


def files_for(viewers: int) -> str:
    """Raise the soft limit of open files to the hard one; say so when that is too low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < viewers + FILES_BESIDE:
        return f"left out: {hard:,} open files are allowed (ulimit -Hn)"
    return ""


@asynccontextmanager
async def stations(
    starts: dict[str, Start], names: Sequence[str], absent: dict[str, str], announce: Announce
) -> AsyncIterator[dict[str, Station]]:
    """Start servers with their crowds; those that are absent are told once and left out.

    `absent` gets why, by name."""
    server, client = shares()
    async with AsyncExitStack() as stack:
        found: dict[str, Station] = {}
        for name in names:
            try:
                with placed(server):
                    subject = await stack.enter_async_context(starts[name]())
            except Absent as why:
                if name not in absent:
                    absent[name] = str(why)
                    announce(f"{name} is left out: {why}")
                continue
            with placed(client):
                crowd = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "loadtest.bench.crowd"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=LINE_BYTES_MAX,
                    cwd=ROOT,
                )
            found[name] = Station(subject, crowd)
            stack.push_async_callback(found[name].close)
        yield found
