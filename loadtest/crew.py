"""The processes that hold a play's viewers, from the play's side.

Owns starting them, sharing viewers out, asking all or one, and ending them. Knows no offer and no
judgement. A process that dies, or says that something went wrong, ends the play with what it said.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import IO, Final

from loadtest.asks import AnyAsk, Asked, Close, Reply, packed, read_replied

#: Viewers that one process holds without being asked for another, as long as there are cores.
VIEWERS_A_PROCESS: Final = 10_000
END_TIMEOUT_S: Final = 10.0
ERRORS_BYTES_MAX: Final = 4_000


class CrewFailed(ConnectionError):
    """A process of the crowd died, or could not do what it was asked; the message says what."""


class Member:
    """One process."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self.number = number
        self.pid = process.pid
        self._process = process
        self._errors = errors
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def ask(self, ask: AnyAsk) -> Reply:
        """Have it done; CrewFailed when it was not."""
        assert self._process.stdin is not None
        if self._reading.done():
            raise CrewFailed(self._obituary())
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(packed(Asked(number, ask)))
        reply: Reply = await future
        if reply.error:
            raise CrewFailed(f"process {self.number} of the crowd: {reply.error}")
        return reply

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while (replied := await read_replied(self._process.stdout)) is not None:
                future = self._waiting.pop(replied.number)
                if not future.done():
                    future.set_result(replied.reply)
        finally:
            # However it ended: whoever still waits would wait for ever.
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(CrewFailed(self._obituary()))

    def _obituary(self) -> str:
        self._errors.seek(0)
        said = self._errors.read()[-ERRORS_BYTES_MAX:].decode(errors="replace").strip()
        return f"process {self.number} of the crowd (pid {self.pid}) ended: {said or 'no word'}"

    async def end(self) -> None:
        """Close its pipe, and end it when it does not go by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._reading.cancel()
        self._errors.close()


class Crew:
    """All processes of one play."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members

    async def all(self, ask: AnyAsk) -> list[Reply]:
        """Ask the same of everyone, at once."""
        return await asyncio.gather(*(member.ask(ask) for member in self.members))

    async def each(self, ask: Callable[[int], AnyAsk]) -> list[Reply]:
        """Ask everyone something of his own, by number from 0."""
        return await asyncio.gather(*(m.ask(ask(n)) for n, m in enumerate(self.members)))

    def shares(self, whole: int) -> list[range]:
        """Share so many out: as even as can be, in order."""
        each, more = divmod(whole, len(self.members))
        bounds = [0, *itertools.accumulate(each + (n < more) for n in range(len(self.members)))]
        return [range(first, last) for first, last in itertools.pairwise(bounds)]


def processes_for(viewers: int) -> int:
    """How many processes a crowd of this size is given when nobody says it: cores bound it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(-(-viewers // VIEWERS_A_PROCESS), cores or 1))


@asynccontextmanager
async def gathered(processes: int) -> AsyncIterator[Crew]:
    """Run so many processes for as long as the block lasts."""
    members: list[Member] = []
    try:
        for number in range(processes):
            errors = tempfile.TemporaryFile()  # noqa: SIM115 - the member closes it
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "loadtest.station"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=2**20,
                start_new_session=True,  # Ctrl-C reaches the play alone, which ends them
            )
            members.append(Member(number + 1, process, errors))
        yield Crew(members)
        await asyncio.gather(*(member.ask(Close()) for member in members))
    finally:
        await asyncio.gather(*(member.end() for member in members))
