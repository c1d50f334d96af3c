"""Keeps a list of child processes alive: starts them in order, again when they die, stops them.

Owns: the processes and, between `with`, the signals SIGINT, SIGTERM, SIGHUP and SIGCHLD. Knows
nothing of what the children are. Called by `livecart up` and `servers.running`, always from the
main thread, because a child gets its death signal when the thread that spawned it ends.

A dead child is started again at once; only one that keeps dying young waits, at most
RETRY_MAX_S. Nothing else is restarted with it: who used it reconnects.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from livecart.embedded.child import bound_log, start_failed
from livecart.embedded.errors import EmbeddedError

YOUNG_S = 5.0
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 1.5  # a restart within two seconds, whatever happened before
READY_TIMEOUT_S = 120.0

_POLL_S = 0.02
_IDLE_S = 0.5
_LAST_WAIT_S = 5.0
_BOUND_LOGS_EVERY_S = 30.0
# A process group's Ctrl-C may reach us twice at once; a second one by hand comes later.
_HURRY_AFTER_S = 0.3

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class _Child:
    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    ready: Callable[[], bool] | None
    stop_signal: signal.Signals
    stop_now_signal: signal.Signals
    stop_timeout_s: float
    group: str
    on_restart: Callable[[str, int], None] | None
    log_path: Path | None
    wanted: bool = False
    """It was ready once, and is to be started again when it dies."""
    process: subprocess.Popen[bytes] | None = None
    started_at_s: float = 0.0
    young_deaths: int = 0
    """Deaths in a row, each within YOUNG_S of its start."""
    retry_at_s: float = 0.0
    answered: bool = False
    """`ready` was true once since the last start."""

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass(slots=True)
class _Signals:
    """What the signal handlers noted; the loop reads it."""

    stop_at_s: float | None = None
    hurry: bool = False
    previous: dict[int, Callable[[int, FrameType | None], object] | int | None] = field(
        default_factory=dict
    )
    wakeup_previous_fd: int = -1
    pipe: tuple[int, int] | None = None


class Supervisor:
    """Runs named children; `report` gets one line for each death and each return."""

    def __init__(self, report: Callable[[str], None] | None = None) -> None:
        self._report = report or logging.getLogger(__name__).warning
        self._children: list[_Child] = []
        self._signals = _Signals()
        self._logs_bounded_at_s = time.monotonic()

    def add(
        self,
        name: str,
        start: Callable[[], subprocess.Popen[bytes]],
        *,
        ready: Callable[[], bool] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_now_signal: signal.Signals = signal.SIGKILL,
        stop_timeout_s: float = 10.0,
        group: str | None = None,
        on_restart: Callable[[str, int], None] | None = None,
        log_path: Path | None = None,
    ) -> None:
        """Add a child; `start` calls it to life.

        Neighbours of one `group` start and stop side by side. `ready` is asked often and must
        answer within about half a second. `stop_now_signal` ends it after `stop_timeout_s`.
        `on_restart` gets its name and new pid.
        """
        if any(child.name == name for child in self._children):
            raise ValueError(f"there already is a child named {name}")
        self._children.append(
            _Child(
                name=name,
                start=start,
                ready=ready,
                stop_signal=stop_signal,
                stop_now_signal=stop_now_signal,
                stop_timeout_s=stop_timeout_s,
                group=group or name,
                on_restart=on_restart,
                log_path=log_path,
            )
        )

    def pids(self) -> dict[str, int]:
        """Return the pid of every child that runs, by name."""
        return {
            child.name: child.process.pid
            for child in self._children
            if child.process is not None and child.alive()
        }

    @property
    def stop_requested(self) -> bool:
        """True once a signal asked us to stop."""
        return self._signals.stop_at_s is not None

    # --- signals -------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Take the signals: from now on they ask for an orderly stop."""
        notes = self._signals
        notes.pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _pipe()
        notes.wakeup_previous_fd = signal.set_wakeup_fd(notes.pipe[1], warn_on_full_buffer=False)
        for number in _STOP_SIGNALS:
            notes.previous[number] = signal.signal(number, self._on_stop_signal)
        # The handler need do nothing: what wakes the loop is the byte in the pipe.
        notes.previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop every child and give the signals back."""
        try:
            self.stop()
        finally:
            notes = self._signals
            for number, handler in notes.previous.items():
                signal.signal(number, handler)
            notes.previous.clear()
            signal.set_wakeup_fd(notes.wakeup_previous_fd)
            if notes.pipe is not None:
                for descriptor in notes.pipe:
                    os.close(descriptor)
                notes.pipe = None

    def _on_stop_signal(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if self._signals.stop_at_s is None:
            self._signals.stop_at_s = now_s
        elif number == signal.SIGINT and now_s - self._signals.stop_at_s > _HURRY_AFTER_S:
            self._signals.hurry = True

    def _wait(self, timeout_s: float) -> None:
        """Wait for a signal, such as the one that a child ended, at most `timeout_s`."""
        if self._signals.pipe is None:
            time.sleep(min(timeout_s, _POLL_S))
            return
        reader, writer = self._signals.pipe
        # Again each time: an event loop that ran in between may have taken it away.
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        if select.select([reader], [], [], timeout_s)[0]:
            os.read(reader, 4096)

    # --- starting and watching -----------------------------------------------------------

    def start(self) -> bool:
        """Start every child that was not started yet, in order, each ready before the next.

        Returns False if a signal asked us to stop meanwhile. Raises StartFailed.
        """
        new = [child for child in self._children if not child.wanted]
        for _, together in groupby(new, key=lambda child: child.group):
            batch = list(together)
            for child in batch:
                if not child.alive():  # it is, where a stop interrupted the last call
                    self._spawn(child)
            for child in batch:
                if not self._wait_ready(child):
                    return False
            for child in batch:
                child.wanted = True
        return not self.stop_requested

    def run(self) -> None:
        """Watch the children until a signal asks us to stop, then stop them."""
        while not self.stop_requested:
            self._wait(self.tick())
        self.stop()

    def tick(self) -> float:
        """Start again what died; return in how many seconds to look again at the latest."""
        now_s = time.monotonic()
        look_again_s = _IDLE_S
        for child in self._children:
            if not child.wanted:
                continue
            if child.process is not None and not child.alive():
                self._note_death(child, now_s)
            if child.process is None and now_s >= child.retry_at_s:
                self._restart(child)
            if child.process is None or not self._note_answer(child):
                look_again_s = _POLL_S
        if now_s - self._logs_bounded_at_s > _BOUND_LOGS_EVERY_S:
            self._logs_bounded_at_s = now_s
            for child in self._children:
                if child.log_path is not None:
                    bound_log(child.log_path)
        return look_again_s

    def _spawn(self, child: _Child) -> None:
        child.started_at_s = time.monotonic()
        child.answered = child.ready is None
        child.process = child.start()

    def _wait_ready(self, child: _Child) -> bool:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not self.stop_requested:
            if not child.alive():
                assert child.process is not None
                raise start_failed(child.name, _how(child.process.returncode), child.log_path)
            if child.ready is None or child.ready():
                child.answered = True
                return True
            if time.monotonic() > deadline_s:
                what = f"was not ready within {READY_TIMEOUT_S:g} s"
                raise start_failed(child.name, what, child.log_path)
            self.tick()  # the others may die meanwhile
            self._wait(_POLL_S)
        return False

    def _note_death(self, child: _Child, now_s: float) -> None:
        assert child.process is not None
        young = now_s - child.started_at_s < YOUNG_S
        child.young_deaths = child.young_deaths + 1 if young else 0
        delay_s = _retry_delay_s(child.young_deaths)
        child.retry_at_s = now_s + delay_s
        when = "now" if delay_s == 0 else f"in {delay_s:g} s"
        how = _how(child.process.returncode)
        self._report(f"{child.name} (pid {child.process.pid}) {how}; starting it again {when}")
        child.process = None

    def _restart(self, child: _Child) -> None:
        try:
            self._spawn(child)
        except (EmbeddedError, OSError) as error:
            child.young_deaths += 1
            child.retry_at_s = time.monotonic() + max(
                RETRY_FIRST_S, _retry_delay_s(child.young_deaths)
            )
            self._report(f"{child.name} could not be started: {error}")
            return
        assert child.process is not None
        if child.on_restart is not None:
            child.on_restart(child.name, child.process.pid)

    def _note_answer(self, child: _Child) -> bool:
        """Ask a restarted child whether it is ready, until it is; report its return once."""
        if child.answered or child.ready is None:
            return True
        if not child.ready():
            return False
        child.answered = True
        assert child.process is not None
        after_s = time.monotonic() - child.started_at_s
        self._report(f"{child.name} (pid {child.process.pid}) is back after {after_s:.2f} s")
        return True

    # --- stopping ------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop every child, the last started first; a second Ctrl-C ends them all at once."""
        started = [child for child in self._children if child.wanted or child.alive()]
        for child in started:
            child.wanted = False
        for _, together in groupby(reversed(started), key=lambda child: child.group):
            self._stop_batch(list(together))
        for child in started:
            child.process = None

    def _stop_batch(self, batch: list[_Child]) -> None:
        started_s = time.monotonic()
        for child in batch:
            _send(child, child.stop_signal)
        while any(child.alive() for child in batch) and not self._signals.hurry:
            waited_s = time.monotonic() - started_s
            if all(waited_s > child.stop_timeout_s for child in batch if child.alive()):
                break
            self._wait(_POLL_S)
        late = [child for child in batch if child.alive()]
        for child in late:
            if not self._signals.hurry:
                self._report(f"{child.name} did not stop within {child.stop_timeout_s:g} s")
            _send(child, child.stop_now_signal)
        for child in late:
            self._end(child)

    def _end(self, child: _Child) -> None:
        assert child.process is not None
        try:
            child.process.wait(_LAST_WAIT_S)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()


def _retry_delay_s(young_deaths: int) -> float:
    """Return 0 for the first young death in a row, then 0.1, 0.2, … up to RETRY_MAX_S."""
    if young_deaths <= 1:
        return 0.0
    return min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(young_deaths - 2, 10))


def _send(child: _Child, number: signal.Signals) -> None:
    if child.process is not None and child.alive():
        child.process.send_signal(number)


def _how(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _pipe() -> tuple[int, int]:
    """Return a pipe for the wake-up bytes where there is no pipe2 (macOS)."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer
