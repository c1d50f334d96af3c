"""The keeper's process: one leads, the next takes over, and it keeps what it is there to keep."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from livecart.fleet import is_marked
from livecart.worker import LOCK
from tests.integration.up_rig import ROOT, environment, wait_until


@pytest.fixture
def environ(redis_url: str, database_url: str) -> dict[str, str]:
    """The environment of a keeper on databases of the test's own."""
    urls = {"LIVECART_REDIS_URL": redis_url, "LIVECART_DATABASE_URL": database_url}
    return environment() | urls


@contextmanager
def keeper(environ: dict[str, str], mark: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A keeper's process that knows its place: leader, or next in line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "livecart.worker", "--mark", str(mark)], env=environ, cwd=ROOT
    )
    try:
        wait_until(lambda: is_marked(mark, process.pid))
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


async def leaders(database_url: str) -> list[int]:
    """Return the server's pids of the connections that hold the keeper's lock here."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "select l.pid from pg_locks l join pg_database d on d.oid = l.database"
            " where l.locktype = 'advisory' and l.objid = $1 and l.granted"
            " and d.datname = current_database()",
            LOCK,
        )
    finally:
        await connection.close()
    return [row["pid"] for row in rows]


async def test_the_next_keeper_leads_when_the_first_is_killed(
    environ: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    """Of two keepers one holds the lock; after its kill -9 the other has it within seconds."""
    with keeper(environ, tmp_path / "a") as first, keeper(environ, tmp_path / "b") as second:
        (leader,) = await leaders(database_url)
        os.kill(first.pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            while await leaders(database_url) in ([], [leader]):  # noqa: ASYNC110 - asked, not told
                await asyncio.sleep(0.05)
        second.send_signal(signal.SIGTERM)
        assert second.wait(10) == 0
        assert await leaders(database_url) == []


async def test_the_next_keeper_leads_when_the_first_is_stopped(
    environ: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    """A leader that is stopped, not dead, loses the lead within five seconds (R10)."""
    with keeper(environ, tmp_path / "a") as first, keeper(environ, tmp_path / "b") as second:
        (leader,) = await leaders(database_url)
        os.kill(first.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(10):
                while await leaders(database_url) in ([], [leader]):  # noqa: ASYNC110 - asked
                    await asyncio.sleep(0.05)
        finally:
            os.kill(first.pid, signal.SIGCONT)
        now = await leaders(database_url)
        second.send_signal(signal.SIGTERM)
        assert second.wait(10) == 0
        async with asyncio.timeout(10):  # the first stands by again, and leads when it may
            while await leaders(database_url) in ([], now):  # noqa: ASYNC110 - asked
                await asyncio.sleep(0.05)
        assert first.poll() is None
