"""The server's own processes: workers that share one listening socket, and the keeper.

Owns the listening socket, how a process of ours is started and how it says that it is ready. Knows
no route and no table. Called by `up`, which adds the embedded servers, and by `livecart serve`.

A worker that is stopped or killed loses nothing that waits to be accepted: the socket is ours, and
the kernel hands what waits to whichever worker asks first.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from livecart.embedded import Supervisor, spawn
from livecart.embedded.child import SELF, launch_command
from livecart.settings import ServeSettings

BACKLOG = 4096  # a crowd that comes at once; the kernel may lower it (net.core.somaxconn)
STOP_MARGIN_S = 10.0  # on top of the drain: buys under way, the pools, the last words

WORKERS = "workers"
KEEPER = "keeper"


class CannotListen(Exception):
    """The address cannot be listened on; the text is meant for the user."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port` (0: a free one)."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise CannotListen(f"{host} is no address of this machine: {error.strerror}") from error
    # With the protocol named, which asyncio wants to see before it turns Nagle's algorithm off.
    listener = socket.socket(family, kind, protocol or socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(_why(error, host, port)) from error
    return listener


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is in use: stop what listens there, or give another --port "
            "(0 takes a free one)"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that you do not have: give a --port above 1023"
    return f"cannot listen on {host} port {port}: {error.strerror}"


def raise_open_files_max() -> int:
    """Lift the limit of open files, which bounds the connections, as far as we may; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1_048_576 if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS names no limit and has one (kern.maxfilesperproc)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, 10_240), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@dataclass(frozen=True, slots=True)
class Traces:
    """Folders that the processes of one start write into; emptied at the next."""

    metrics: Path
    ready: Path
    logs: Path | None
    """None: their output goes where ours goes."""

    def clear(self) -> None:
        """Make the folders, empty."""
        for folder in (self.metrics, self.ready):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700, parents=True)


class Fleet:
    """Starts our processes under a supervisor and tells which of them run."""

    def __init__(
        self,
        supervisor: Supervisor,
        traces: Traces,
        environ: Mapping[str, str],
        *,
        die_signal: signal.Signals,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._supervisor = supervisor
        self._traces = traces
        self._environ = {**environ, "PROMETHEUS_MULTIPROC_DIR": str(traces.metrics)}
        self._die_signal = die_signal  # what our processes get when we are killed
        self._changed = changed  # called when a process was started again
        self._workers: list[str] = []
        self._pids: dict[str, int] = {}  # the last known of each, by name

    def add_keeper(self) -> None:
        """Add the keeper; the supervisor starts it."""
        self._add(KEEPER, "livecart.worker", [], (), stop_timeout_s=STOP_MARGIN_S)

    def add_workers(self, listener: socket.socket, serve: ServeSettings) -> None:
        """Add the workers, which accept from `listener`."""
        descriptor = listener.fileno()
        for number in range(1, serve.workers + 1):
            name = f"worker-{number}"
            self._workers.append(name)
            self._add(
                name,
                "livecart.serve",
                ["--fd", str(descriptor)],
                (descriptor,),
                stop_timeout_s=serve.drain_s + STOP_MARGIN_S,
                group=WORKERS,
            )

    def pids(self) -> dict[str, int | list[int]]:
        """Return the pids of what runs: `workers`, and each other process by its name."""
        running = self._supervisor.pids()
        workers = [running[name] for name in self._workers if name in running]
        return {WORKERS: workers} | {
            name: pid for name, pid in running.items() if name not in self._workers
        }

    def _add(
        self,
        name: str,
        module: str,
        options: list[str],
        descriptors: tuple[int, ...],
        *,
        stop_timeout_s: float,
        group: str | None = None,
    ) -> None:
        mark = self._traces.ready / name
        log = self._traces.logs / f"{name}.log" if self._traces.logs else None
        argv = [sys.executable, "-m", module, "--mark", str(mark), *options]

        def start() -> subprocess.Popen[bytes]:
            process = self._spawn(argv, descriptors, log)
            self._pids[name] = process.pid
            return process

        self._supervisor.add(
            name,
            start,
            ready=lambda: is_marked(mark, self._pids[name]),
            stop_timeout_s=stop_timeout_s,
            group=group,
            on_restart=self._restarted,
            log_path=log,
        )

    def _spawn(
        self, argv: list[str], descriptors: tuple[int, ...], log: Path | None
    ) -> subprocess.Popen[bytes]:
        if log is not None:
            return spawn(
                argv,
                die_signal=self._die_signal,
                log_path=log,
                pass_fds=descriptors,
                env=self._environ,
            )
        return subprocess.Popen(
            launch_command(argv, die_signal=self._die_signal, identity=SELF),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            pass_fds=descriptors,
            env=self._environ,
            start_new_session=True,
        )

    def _restarted(self, name: str, pid: int) -> None:
        self._forget_dead(pid)
        self._changed()

    def _forget_dead(self, living: int) -> None:
        """Drop what dead processes last said of themselves, such as their connections."""
        running = {living, *self._supervisor.pids().values()}
        for path in self._traces.metrics.glob("gauge_live*_*.db"):
            pid = int(path.stem.rsplit("_", 1)[1])
            if pid not in running:
                mark_process_dead(pid, str(self._traces.metrics))  # type: ignore[no-untyped-call]


def set_mark(mark: Path) -> None:
    """Say that this process is ready: its pid is in `mark`, whole or not at all."""
    new = mark.with_name(f"{mark.name}.{os.getpid()}")
    new.write_text(str(os.getpid()))
    new.replace(mark)


def is_marked(mark: Path, pid: int) -> bool:
    """True if the process `pid` said in `mark` that it is ready."""
    try:
        return mark.read_text() == str(pid)
    except FileNotFoundError:
        return False
