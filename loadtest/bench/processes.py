"""Processes of servers under measurement: on which processor they run, begun, and ended again.

Owns those that it started, and ends them alone. Knows nothing of what they serve.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from loadtest.bench.subject import Absent

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0


def shares() -> tuple[set[int], set[int]]:
    """Return the processors of the server and of the crowd: one each, where there are two."""
    here = sorted(os.sched_getaffinity(0))
    return ({here[0]}, {here[1]}) if len(here) > 1 else (set(here), set(here))


@contextmanager
def placed(processors: set[int]) -> Iterator[None]:
    """Have what is started meanwhile run there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program for as long as the block lasts; its output is there to be read."""
    running = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.terminate()
            try:
                await asyncio.wait_for(running.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                running.kill()
                await running.wait()


async def first_line(running: asyncio.subprocess.Process) -> str:
    """Return what a server says when it serves; raise `Absent` with what it says instead."""
    assert running.stdout is not None
    assert running.stderr is not None
    async with asyncio.timeout(START_TIMEOUT_S):
        if line := (await running.stdout.readline()).decode().strip():
            return line
        said = (await running.stderr.read()).decode().strip().splitlines()
    raise Absent(said[-1][:120] if said else "it ended without a word")


def free_port() -> int:
    """Return a port that nobody listens on; for servers that cannot choose one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port
