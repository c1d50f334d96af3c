"""Starts child processes that end with us, and keeps their output in bounded log files.

Owns: how a process is started. Knows nothing of which server it is. Called by `valkey`,
`postgres`, and by the CLI for its own workers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from livecart.embedded.errors import StartFailed

_LAUNCH = Path(__file__).with_name("launch.py")

# A log is moved to `<name>.1` at start, or while running, once it is larger than this.
LOG_BYTES_MAX = 8 * 1024 * 1024

_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a child runs: as we are, as uid 65534 of an own user namespace, or as `uid`."""

    kind: Literal["self", "namespace", "user"]
    uid: int = -1
    gid: int = -1


SELF = Identity("self")
NAMESPACE = Identity("namespace")


def spawn(
    argv: Sequence[str | Path],
    *,
    die_signal: signal.Signals = signal.SIGTERM,
    identity: Identity = SELF,
    log_path: Path | None = None,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own; it gets `die_signal` when this process ends.

    `argv[0]` is a path. Output goes to `log_path`, or nowhere; `pass_fds` stay open in the child.
    A session of its own, so that Ctrl-C reaches only us and we stop the children in order.
    """
    if threading.current_thread() is not threading.main_thread():
        # Linux sends the signal at the end of the spawning *thread*, not process.
        raise RuntimeError("children must be started from the main thread")
    log = subprocess.DEVNULL if log_path is None else _open_log(log_path, identity)
    try:
        return subprocess.Popen(
            launch_command(argv, die_signal=die_signal, identity=identity),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=tuple(pass_fds),
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    finally:
        if log_path is not None:
            os.close(log)


def launch_command(
    argv: Sequence[str | Path], *, die_signal: signal.Signals, identity: Identity
) -> list[str]:
    """Return the command that becomes `argv`, tied to this process as its parent."""
    tie = [os.getpid(), int(die_signal), identity.kind, identity.uid, identity.gid]
    return [sys.executable, "-I", "-S", str(_LAUNCH), *map(str, tie), *map(str, argv)]


def run_to_end(
    argv: Sequence[str | Path],
    *,
    identity: Identity = SELF,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin_text: str = "",
    timeout_s: float = 120.0,
) -> subprocess.CompletedProcess[str]:
    """Run a short command, such as initdb, and return its exit status and merged output."""
    return subprocess.run(
        launch_command(argv, die_signal=signal.SIGTERM, identity=identity),
        input=stdin_text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=env,
        cwd=cwd,
        start_new_session=True,
        timeout=timeout_s,
        check=False,
    )


def server_environment() -> dict[str, str]:
    """Return our environment without what would bend a server: PG*, locale, our own settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_", "LIVECART_")) and name not in ("LANG", "LANGUAGE")
    }
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _open_log(path: Path, identity: Identity) -> int:
    bound_log(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    log = os.open(path, flags, 0o600)
    if identity.kind == "user":
        os.fchown(log, identity.uid, identity.gid)  # that user may run us itself next time
    return log


def bound_log(path: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Keep `path` under `bytes_max`: its text moves to `<name>.1`, in place of what was there.

    The file is emptied, not renamed, because a running child has it open for appending.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return
    if size <= bytes_max:
        return
    with path.open("rb") as log:
        log.seek(size - bytes_max)
        path.with_name(path.name + ".1").write_bytes(log.read(bytes_max))
    os.truncate(path, 0)


def log_tail(path: Path, *, lines_max: int = 8) -> str:
    """Return the last lines of a log, for an error message; empty if there are none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 4096))
            text = log.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines_max:])


def wait_ready(
    name: str,
    process: subprocess.Popen[bytes] | None,
    is_ready: Callable[[], bool],
    log_path: Path | None,
    timeout_s: float,
) -> None:
    """Poll `is_ready` until it is true; raise StartFailed with the end of the log."""
    if process is None:
        raise StartFailed(f"{name} was not started")
    deadline = time.monotonic() + timeout_s
    while not is_ready():
        if process.poll() is not None:
            raise start_failed(name, f"ended with status {process.returncode}", log_path)
        if time.monotonic() > deadline:
            raise start_failed(name, f"was not ready within {timeout_s:g} s", log_path)
        time.sleep(_POLL_S)


def start_failed(name: str, what: str, log_path: Path | None) -> StartFailed:
    """Return the error that says `what` happened and what the log says about it."""
    tail = log_tail(log_path) if log_path is not None else ""
    return StartFailed(f"{name} {what}" + (f"; {log_path} ends with:\n{tail}" if tail else ""))


def end(process: subprocess.Popen[bytes] | None, *steps: tuple[signal.Signals, float]) -> None:
    """Send each signal in turn, waiting its seconds for the end; the last wait must succeed."""
    if process is None:
        return
    for number, timeout_s in steps[:-1]:
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            continue
        return
    number, timeout_s = steps[-1]
    process.send_signal(number)
    process.wait(timeout_s)
