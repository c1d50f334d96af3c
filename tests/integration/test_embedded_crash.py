"""Embedded servers that are killed: back within two seconds, nothing committed lost."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from livecart.embedded import EmbeddedServers, Running, processes, running
from livecart.embedded.errors import FolderInUse
from livecart.embedded.postgres import IMPOSSIBLE_PID

_UP = Path(__file__).with_name("embedded_up.py")
_ROOT = Path(__file__).parents[2]
_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder with a short path; what a failed test left running in it is ended."""
    folder = Path(tempfile.mkdtemp(prefix="lc-"))
    yield folder
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                process.kill()
    shutil.rmtree(folder)


async def _insert(url: str, rows: int) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE IF NOT EXISTS seen (n int)")
    for number in range(rows):
        await connection.execute("INSERT INTO seen VALUES ($1)", number)
    await connection.close()


async def _rows(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM seen"))
    finally:
        await connection.close()


def _until(true: Callable[[], bool], timeout_s: float = 20.0) -> float:
    began_s = time.monotonic()
    while not true():
        assert time.monotonic() - began_s < timeout_s
        time.sleep(0.01)
    return time.monotonic() - began_s


def _supervised_until(servers: Running, true: Callable[[], bool]) -> float:
    def tick() -> bool:
        servers.supervisor.tick()
        return true()

    return _until(tick)


class _Up:
    """The stand-alone `up` in a process of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(_UP), str(data_dir)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
            text=True,
        )
        told = json.loads(self.output.readline())
        self.database_url: str = told["database_url"]
        self.redis_url: str = told["redis_url"]
        self.pids: dict[str, int] = told["pids"]

    @property
    def output(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def end(self, number: signal.Signals) -> str:
        self.process.send_signal(number)
        return self.process.communicate(timeout=30)[0]


def test_killed_valkey_is_back_with_its_data(base: Path) -> None:
    """kill -9 of Valkey: it answers again within two seconds, with every answered write."""

    async def write(url: str) -> None:
        async with Redis.from_url(url) as redis:
            for _ in range(500):
                await redis.incr("seen")

    async def read(url: str) -> bytes | None:
        async with Redis.from_url(url) as redis:
            try:
                seen = await redis.get("seen")
                assert isinstance(seen, bytes)
                return seen
            except RedisError:
                return None

    with running(base / "d") as servers:
        asyncio.run(write(servers.redis_url))
        os.kill(servers.supervisor.pids()["redis"], signal.SIGKILL)
        took_s = _supervised_until(servers, lambda: asyncio.run(read(servers.redis_url)) == b"500")
    assert took_s < 2.0


def test_torn_append_only_file_is_no_hindrance(base: Path) -> None:
    """Half a command at the end of Valkey's file, as a crash leaves it, costs that command only."""

    async def write(url: str) -> None:
        async with Redis.from_url(url) as redis:
            await redis.set("first", "kept")
            await redis.set("second", "torn")

    async def read(url: str) -> list[object]:
        async with Redis.from_url(url) as redis:
            return list(await redis.mget("first", "second"))

    servers = EmbeddedServers.open(base / "d", postgres=False)
    assert servers.redis is not None
    servers.redis.start()
    servers.redis.ready()
    asyncio.run(write(servers.redis.url))
    servers.redis.stop()
    [torn] = (base / "d" / "redis" / "appendonlydir").glob("*.incr.aof")
    os.truncate(torn, torn.stat().st_size - 3)
    servers.redis.start()
    servers.redis.ready()
    assert asyncio.run(read(servers.redis.url)) == [b"kept", None]
    servers.redis.stop()
    servers.close()


def _runs_statement(postmaster: psutil.Process) -> bool:
    return any("SELECT" in " ".join(process.cmdline()) for process in postmaster.children())


def _kill(victims: list[psutil.Process]) -> None:
    for process in victims:
        with contextlib.suppress(psutil.NoSuchProcess):  # it went with the one before
            process.kill()


@pytest.mark.parametrize("whole", [True, False], ids=["all processes", "postmaster alone"])
def test_killed_postgres_is_back_with_its_data(base: Path, whole: bool) -> None:
    """kill -9 of Postgres: it answers again within two seconds, with every committed row.

    Also when only the postmaster was killed while a backend, busy in a long statement, lives on.
    """

    async def kill(
        servers: Running, postmaster: psutil.Process
    ) -> tuple[float, list[psutil.Process]]:
        busy = await asyncpg.connect(servers.database_url)
        query = "SELECT count(*) FROM generate_series(1, 1000) a, generate_series(1, 10000000) b"
        statement = asyncio.ensure_future(busy.execute(query))
        await asyncio.to_thread(_until, lambda: _runs_statement(postmaster))
        backends = postmaster.children()
        killed_s = time.monotonic()
        _kill([postmaster, *backends] if whole else [postmaster])
        while not statement.done():  # a killed process is not dead at once
            servers.supervisor.tick()
            await asyncio.wait({statement}, timeout=0.02)
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await statement
        busy.terminate()
        return killed_s, backends

    with running(base / "d") as servers:
        asyncio.run(_insert(servers.database_url, 50))
        postmaster = psutil.Process(servers.supervisor.pids()["postgres"])
        killed_s, backends = asyncio.run(kill(servers, postmaster))
        _supervised_until(servers, servers.postgres.is_ready)
        took_s = time.monotonic() - killed_s
        assert asyncio.run(_rows(servers.database_url)) == 50
        assert not any(processes.look(backend.pid) for backend in backends)
    assert took_s < 2.0


def test_killed_parent_takes_its_servers_along(base: Path) -> None:
    """SIGKILL of `up`: the servers end by themselves, and a new `up` at once loses no row."""
    for run in (1, 2, 3):
        up = _Up(base / "d")
        asyncio.run(_insert(up.database_url, 20))
        assert asyncio.run(_rows(up.database_url)) == 20 * run
        assert up.end(signal.SIGKILL) == ""
    with running(base / "d") as servers:
        assert asyncio.run(_rows(servers.database_url)) == 60


def test_ctrl_c_stops_everything(base: Path) -> None:
    """Ctrl-C ends `up` with status 0, in order, and leaves neither process nor lock."""
    up = _Up(base / "d")
    asyncio.run(_insert(up.database_url, 1))
    assert up.end(signal.SIGINT) == "stopped\n"
    assert up.process.returncode == 0
    assert not any(psutil.pid_exists(pid) for pid in up.pids.values())
    assert not (base / "d" / "postgres" / "postmaster.pid").exists()
    assert "shut down" in (base / "d" / "logs" / "postgres.log").read_text().splitlines()[-1]


def test_up_starts_both_again(base: Path) -> None:
    """A running `up` starts each killed server again and says so in one line each."""
    up = _Up(base / "d")
    for name in ("redis", "postgres"):
        os.kill(up.pids[name], signal.SIGKILL)
        began_s = time.monotonic()
        died, back = up.output.readline(), up.output.readline()
        assert died.startswith(f"{name} (pid {up.pids[name]}) was ended by SIGKILL")
        assert "is back after" in back
        assert time.monotonic() - began_s < 2.0
    assert up.end(signal.SIGTERM) == "stopped\n"


def _leave_traces(base: Path) -> tuple[Path, Path]:
    """Kill a whole `up` with its servers; return the lock files that Postgres left."""
    up = _Up(base / "d")
    asyncio.run(_insert(up.database_url, 30))
    up.process.send_signal(signal.SIGSTOP)  # it must not start them again
    postmaster = psutil.Process(up.pids["postgres"])
    victims = [postmaster, *postmaster.children(), psutil.Process(up.pids["redis"])]
    _kill(victims)
    up.end(signal.SIGKILL)
    _until(lambda: not any(processes.look(process.pid) for process in victims))
    return base / "d" / "postgres" / "postmaster.pid", base / "d" / "run" / ".s.PGSQL.5432.lock"


def _put_pid(path: Path, pid: int) -> None:
    rest = path.read_text().partition("\n")[2]
    path.write_text(f"{pid}\n{rest}")


@pytest.mark.parametrize("kind", ["absent", "zombie", "another program", "another folder's"])
def test_stale_pid_does_not_hinder(base: Path, kind: str) -> None:
    """Whatever a lock file's pid has become meanwhile, the next start recovers every row."""
    files = _leave_traces(base)
    command = {
        "absent": ["true"],
        "zombie": ["true"],
        "another program": ["sleep", "60"],
        "another folder's": ["postgres", "-c", "import time; time.sleep(60)", "-D", "/elsewhere"],
    }[kind]
    program = sys.executable if command[0] == "postgres" else None
    with subprocess.Popen(command, executable=program, cwd="/") as other:
        if kind in ("absent", "zombie"):
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        if kind == "absent":
            other.wait()
        for path in files:
            _put_pid(path, other.pid)
        with running(base / "d") as servers:
            assert asyncio.run(_rows(servers.database_url)) == 30
        other.kill()


def test_zombie_postmaster_does_not_hinder(base: Path) -> None:
    """Parent and postmaster killed, and nobody reaps the zombie: the next start loses no row."""
    if sys.platform != "linux":
        pytest.skip("needs a child subreaper")
    libc = ctypes.CDLL(None)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0  # orphans come to us
    try:
        up = _Up(base / "d")
        asyncio.run(_insert(up.database_url, 30))
        up.process.send_signal(signal.SIGSTOP)
        os.kill(up.pids["postgres"], signal.SIGKILL)
        assert up.end(signal.SIGKILL) == ""
        postmaster = psutil.Process(up.pids["postgres"])
        _until(lambda: postmaster.ppid() == os.getpid())
        _until(lambda: postmaster.status() == psutil.STATUS_ZOMBIE)  # a killed one still runs a bit
        with running(base / "d") as servers:
            assert asyncio.run(_rows(servers.database_url)) == 30
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        for child in psutil.Process().children():
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, 0)


def test_live_postmaster_is_respected(base: Path) -> None:
    """A Postgres that someone else runs on the folder is named, not believed stale."""
    servers = EmbeddedServers.open(base / "d")
    assert servers.postgres is not None
    process = servers.postgres.start()
    servers.postgres.ready()
    pid_file = servers.postgres.data_dir / "postmaster.pid"
    again = type(servers.postgres)(
        servers.postgres.data_dir, servers.postgres.runtime_dir, servers.postgres.binaries
    )
    with pytest.raises(FolderInUse, match=rf"in use by pid {process.pid} "):
        again.start()
    assert pid_file.read_text().startswith(f"{process.pid}\n")
    servers.postgres.stop()
    servers.close()


def test_stale_pid_is_rewritten_in_place(base: Path) -> None:
    """Only the first line changes: Postgres finds the dead server's shared memory by the rest."""
    files = _leave_traces(base)
    before = [path.read_text().split("\n") for path in files]
    servers = EmbeddedServers.open(base / "d")
    assert servers.postgres is not None
    servers.postgres._clear_traces()
    for path, lines in zip(files, before, strict=True):
        assert path.read_text().split("\n") == [str(IMPOSSIBLE_PID), *lines[1:]]
    servers.close()
