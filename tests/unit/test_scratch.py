"""Where the files of the tests' servers lie, and what is left of runs that were killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import scratch


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in the place of the memory, with the room it has, and nothing chosen yet."""
    monkeypatch.setattr(scratch, "MEMORY", tmp_path)
    monkeypatch.setattr(scratch, "FREE_BYTES_LEAST", 0)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setenv("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    return tmp_path


def test_with_room_the_files_are_in_memory(memory: Path) -> None:
    """Every temporary folder is made in one of this process, which nobody else may enter."""
    place = scratch.settle()
    assert place.parent == memory
    assert Path(tempfile.mkdtemp()).parent == place
    assert place.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("why", ["no room", "chosen", "none"])
def test_otherwise_they_stay_where_they_were(
    memory: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Too little room, a place that somebody chose, or a machine without such a file system."""
    before = tempfile.gettempdir()
    if why == "no room":
        monkeypatch.setattr(scratch, "FREE_BYTES_LEAST", 2**60)
    elif why == "chosen":
        monkeypatch.setenv("TMPDIR", before)
    else:
        monkeypatch.setattr(scratch, "MEMORY", memory / "missing")
    assert scratch.settle() == Path(before)
    assert not any(memory.iterdir())


def test_what_killed_runs_have_left_is_removed(memory: Path) -> None:
    """The folder of a process that is gone goes; that of one that runs stays."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, alive = (memory / f"lc-tests-{pid}" for pid in (gone.pid, os.getppid()))
    for folder in (left, alive):
        (folder / "data").mkdir(parents=True)
    scratch.settle()
    assert not left.exists()
    assert (alive / "data").exists()
