"""Looks at other processes: what they are, where they stand, which file they hold.

Owns: reading /proc, with `ps` where there is none (macOS). Starts nothing. Called by `folder` and
`postgres` to tell a live holder from a stale pid, and to end what a dead postmaster left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_HAS_PROC = (_PROC / "self" / "stat").exists()
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Process:
    """A process that runs: no zombie."""

    pid: int
    argv: tuple[str, ...]

    def __str__(self) -> str:
        return f"pid {self.pid} ({' '.join(self.argv)[:200]})"


def look(pid: int) -> Process | None:
    """Return the running process `pid`, or None if it is absent or a zombie."""
    if not _HAS_PROC:
        return _look_with_ps(pid)
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
        cmdline = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return None
    # The name in parentheses may itself hold a parenthesis: the state follows the last one.
    if stat[stat.rindex(")") + 2] in "ZX":
        return None
    return Process(pid, tuple(os.fsdecode(cmdline).rstrip("\0").split("\0")))


def _look_with_ps(pid: int) -> Process | None:
    command = ["ps", "-o", "stat=,command=", "-p", str(pid)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    state, _, arguments = found.stdout.strip().partition(" ")
    if found.returncode != 0 or state.startswith("Z"):
        return None
    return Process(pid, tuple(arguments.split()))


def is_postmaster_of(process: Process, pgdata: Path) -> bool:
    """True if `process` was started as `postgres … -D pgdata`, or stands in that folder."""
    if Path(process.argv[0]).name not in ("postgres", "postmaster"):
        return False
    if stands_in(process.pid, pgdata):
        return True  # whatever way it was told the folder
    following = zip(process.argv, process.argv[1:], strict=False)
    return any(flag == "-D" and Path(value) == pgdata for flag, value in following)


def stands_in(pid: int, folder: Path) -> bool:
    """True if the working folder of `pid` is `folder`; False too if we may not look."""
    try:
        return _same_file(_PROC / str(pid) / "cwd", folder.stat())
    except OSError:
        return False


def holders(file: os.stat_result) -> Iterator[Process]:
    """Yield the other processes that have `file` open, as far as we may see."""
    if not _HAS_PROC:
        return
    for pid in _pids():
        if pid != os.getpid() and holds(pid, file) and (process := look(pid)) is not None:
            yield process


def holds(pid: int, file: os.stat_result) -> bool:
    """True if `pid` has `file` open; False too if we may not look."""
    try:
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            if _same_file(descriptor, file):
                return True
    except OSError:
        return False  # it ended meanwhile, or belongs to another user
    return False


def _same_file(path: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), file)
    except OSError:
        return False


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def end_orphans(pgdata: Path, lock: os.stat_result, *, timeout_s: float = 2.0) -> bool:
    """End backends that outlived their postmaster; True if none is left.

    Postgres refuses to start while one lives ("pre-existing shared memory block is still in use").
    Only processes that stand in `pgdata` *and* inherited our lock file are touched, and only when
    no postmaster of that folder is among them.
    """
    deadline = time.monotonic() + timeout_s
    while orphans := _orphans(pgdata, lock):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        # Most notice the death of the postmaster by themselves; SIGQUIT asks, SIGKILL insists.
        number = signal.SIGQUIT if left_s > timeout_s * 0.75 else signal.SIGKILL
        for process in orphans:
            _kill(process.pid, number)
        time.sleep(_POLL_S)
    return True


def _orphans(pgdata: Path, lock: os.stat_result) -> list[Process]:
    standing = [process for process in holders(lock) if stands_in(process.pid, pgdata)]
    if any(is_postmaster_of(process, pgdata) for process in standing):
        return []
    return [process for process in standing if process.argv[0].startswith("postgres:")]


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself: what we wanted
        os.kill(pid, number)
