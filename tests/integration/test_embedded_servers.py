"""Both embedded servers in ordinary life: settings, URLs, data that stays, refusals."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from livecart.embedded import EmbeddedServers, Running, running
from livecart.embedded.binaries import find_postgres
from livecart.embedded.errors import BinaryMissing, FolderInUse, FolderRefused, VersionDiffers


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="lc-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def live() -> Iterator[Running]:
    """Servers with the default settings, for tests that only look."""
    folder = Path(tempfile.mkdtemp(prefix="lc-"))
    with running(folder / "d") as servers:
        yield servers
    shutil.rmtree(folder)


async def _settings(servers: Running, *names: str) -> list[str]:
    connection = await asyncpg.connect(servers.database_url)
    try:
        return [str(await connection.fetchval(f"SHOW {name}")) for name in names]
    finally:
        await connection.close()


async def _count_up(servers: Running) -> tuple[int, int, int]:
    """Add one in each server; return both counts and the version of Postgres."""
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS seen (n int)")
        await connection.execute("INSERT INTO seen VALUES (1)")
        rows = int(await connection.fetchval("SELECT count(*) FROM seen"))
        version = connection.get_server_version().major
    finally:
        await connection.close()
    async with Redis.from_url(servers.redis_url) as redis:
        return rows, int(await redis.incr("seen")), version


async def test_postgres_is_durable(live: Running) -> None:
    """The embedded Postgres has production durability and no TCP."""
    names = ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses", "TimeZone")
    assert await _settings(live, *names) == ["on", "on", "on", "", "UTC"]
    assert await _settings(live, "server_encoding", "data_checksums") == ["UTF8", "on"]


async def test_valkey_is_durable(live: Running) -> None:
    """The embedded Valkey logs every write, drops nothing and has no TCP."""
    expected = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "port": "0",
    }
    async with Redis.from_url(live.redis_url, decode_responses=True) as redis:
        assert await redis.config_get(*expected) == expected


async def test_user_owns_the_database(live: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL leads role `livecart` to its own database, whatever PG* variables are set."""
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATABASE", "elsewhere")
    connection = await asyncpg.connect(live.database_url)
    query = (
        "SELECT current_user, datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname = "
    )
    row = await connection.fetchrow(query + "current_database()")
    await connection.close()
    assert tuple(row or ()) == ("livecart", "livecart", "livecart")


def test_url_suits_psql(live: Running) -> None:
    """psql takes the database URL as it is."""
    psql = find_postgres().folder / "psql"
    if not psql.exists():
        pytest.skip("these PostgreSQL binaries have no psql")
    command = [str(psql), live.database_url, "-Atc", "SELECT 40 + 2"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "42\n"


def test_sockets_are_private(live: Running) -> None:
    """Both sockets lie in a folder of mode 700, and no server process listens on TCP."""
    for path in (live.redis.socket_path, live.postgres.socket_path):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", int(live.database_url.rsplit("=", 1)[1])))


def test_second_user_is_refused(live: Running) -> None:
    """A second `up` on a folder in use is refused, with the holder's pid."""
    with pytest.raises(FolderInUse, match=rf"in use by pid {os.getpid()} "):
        EmbeddedServers.open(live.postgres.data_dir.parent)


def test_data_stays_over_a_restart(base: Path) -> None:
    """Three runs on one folder count to three in both servers; a stop leaves no process."""
    pids: list[int] = []
    for run in (1, 2, 3):
        with running(base / "d") as servers:
            assert asyncio.run(_count_up(servers))[:2] == (run, run)
            pids += servers.supervisor.pids().values()
    assert len(set(pids)) == 6
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_long_path_serves(base: Path) -> None:
    """A data folder deep below serves through a short runtime folder, also the second time."""
    deep = base.joinpath(*["level-of-a-deep-tree"] * 6)
    for run in (1, 2):
        with running(deep) as servers:
            assert asyncio.run(_count_up(servers))[:2] == (run, run)
            runtime = servers.redis.socket_path.parent
            assert base not in runtime.parents
    shutil.rmtree(runtime)


def test_system_postgres_is_the_fallback(base: Path) -> None:
    """The system's own PostgreSQL serves as well, and its folder is then refused by the other."""
    system = find_postgres(prefer_system=True)
    if system.bundled:
        pytest.skip("no PostgreSQL is installed on this system")
    with running(base / "d", prefer_system=True) as servers:
        rows, count, version = asyncio.run(_count_up(servers))
    assert (rows, count) == (1, 1)
    ours = subprocess.run([find_postgres().postgres, "--version"], capture_output=True, text=True)
    if f" {version}." in ours.stdout:
        pytest.skip("system and bundle are of one version")
    with pytest.raises(VersionDiffers, match=rf"made by PostgreSQL {version},"):
        EmbeddedServers.open(base / "d")


def test_other_version_is_refused_with_the_way_out(base: Path) -> None:
    """A folder of another major version is refused untouched; the text says how to move."""
    EmbeddedServers.open(base / "d").close()
    version = base / "d" / "postgres" / "PG_VERSION"
    version.write_text("11\n")
    with pytest.raises(VersionDiffers) as refused:
        EmbeddedServers.open(base / "d")
    text = str(refused.value)
    assert "PostgreSQL 11" in text
    assert "pg_dump --clean --if-exists 'postgresql://livecart@/livecart?host=" in text
    assert "psql 'postgresql://" in text
    assert version.read_text() == "11\n"
    version.unlink()
    with pytest.raises(FolderRefused, match="not a PostgreSQL data folder"):
        EmbeddedServers.open(base / "d")


def test_dump_and_load_moves_to_another_version(base: Path) -> None:
    """The commands of that text carry the rows over, also onto a schema that is there already."""
    tools = find_postgres().folder
    if find_postgres(prefer_system=True).bundled or not (tools / "pg_dump").exists():
        pytest.skip("needs a second PostgreSQL and the client programs")
    with running(base / "old", prefer_system=True) as servers:
        asyncio.run(_count_up(servers))
        asyncio.run(_count_up(servers))
        dump = [str(tools / "pg_dump"), "--clean", "--if-exists", servers.database_url]
        text = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
    with running(base / "new") as servers:
        asyncio.run(_count_up(servers))
        load = [str(tools / "psql"), "-v", "ON_ERROR_STOP=1", "-q", servers.database_url]
        subprocess.run(load, input=text, text=True, check=True, stdout=subprocess.DEVNULL)
        assert asyncio.run(_count_up(servers))[0] == 3


def test_half_made_folder_is_made_again(base: Path) -> None:
    """What a killed initdb left behind never counts as a data folder."""
    servers = EmbeddedServers.open(base / "d")
    servers.close()
    (base / "d" / "postgres").rename(base / "d" / "postgres.new")
    (base / "d" / "postgres.new" / "PG_VERSION").unlink()
    with running(base / "d") as again:
        assert asyncio.run(_count_up(again))[:2] == (1, 1)
    assert not (base / "d" / "postgres.new").exists()


def test_one_server_alone(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one of the two elsewhere, only the other is found, prepared and supervised."""

    def absent(**_: bool) -> None:
        raise BinaryMissing("must not be looked for")

    monkeypatch.setattr("livecart.embedded.servers.find_postgres", absent)
    servers = EmbeddedServers.open(base / "d", postgres=False)
    assert servers.postgres is None
    assert servers.redis is not None
    servers.redis.start()
    servers.redis.ready()
    servers.redis.stop()
    servers.close()
    assert not (base / "d" / "postgres").exists()
