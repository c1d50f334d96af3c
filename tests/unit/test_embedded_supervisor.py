"""The supervisor with real, tiny children: order, return, groups, hurry."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livecart.embedded import Supervisor, spawn
from livecart.embedded.errors import StartFailed
from livecart.embedded.supervisor import RETRY_MAX_S, _retry_delay_s

# Writes its name on arrival and at its orderly end; the second argument delays that end.
_CHILD = """
import signal, sys, time
name, journal, delay_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
def note(what):
    with open(journal, "a") as file:
        file.write(f"{name} {what}\\n")
def end(*_):
    time.sleep(delay_s)
    note("ends")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("starts")
while True:
    signal.pause()
"""


class _Stage:
    """A supervisor, the journal that its children write, and the lines it reported."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal"
        self.journal.touch()
        self.lines: list[str] = []
        self.supervisor = Supervisor(self.lines.append)

    def add(self, name: str, *, delay_s: float = 0.0, group: str | None = None) -> None:
        argv = [sys.executable, "-S", "-c", _CHILD, name, str(self.journal), str(delay_s)]
        count = self.noted().count(f"{name} starts")
        self.supervisor.add(
            name,
            lambda: spawn(argv),
            ready=lambda: self.noted().count(f"{name} starts") > count,
            group=group,
            stop_timeout_s=5.0,
        )

    def noted(self) -> list[str]:
        return self.journal.read_text().splitlines()

    def tick_until(self, true: Callable[[], bool], timeout_s: float = 10.0) -> float:
        began_s = time.monotonic()
        while not true():
            assert time.monotonic() - began_s < timeout_s, (self.lines, self.noted())
            self.supervisor.tick()
            time.sleep(0.01)
        return time.monotonic() - began_s


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[_Stage]:
    made = _Stage(tmp_path)
    yield made
    made.supervisor.stop()


def test_starts_in_order_and_stops_in_reverse(stage: _Stage) -> None:
    """Each child is ready before the next starts, and ends before the one below it."""
    for name in ("a", "b", "c"):
        stage.add(name)
    assert stage.supervisor.start()
    assert list(stage.supervisor.pids()) == ["a", "b", "c"]
    stage.supervisor.stop()
    assert stage.supervisor.pids() == {}
    assert stage.noted() == [*(f"{n} starts" for n in "abc"), *(f"{n} ends" for n in "cba")]


def test_children_added_later_join(stage: _Stage) -> None:
    """A second `start` starts only what was added since, so that one can migrate in between."""
    stage.add("server")
    stage.supervisor.start()
    before = stage.supervisor.pids()
    stage.add("worker")
    stage.supervisor.start()
    assert stage.supervisor.pids()["server"] == before["server"]
    assert stage.noted() == ["server starts", "worker starts"]


def test_dead_child_returns_alone(stage: _Stage) -> None:
    """A killed child is back within two seconds, reported, and its neighbours are left alone."""
    stage.add("a")
    stage.add("b")
    stage.supervisor.start()
    before = stage.supervisor.pids()
    os.kill(before["a"], signal.SIGKILL)
    took_s = stage.tick_until(lambda: stage.noted().count("a starts") == 2)
    assert took_s < 2.0
    after = stage.supervisor.pids()
    assert after["a"] != before["a"]
    assert after["b"] == before["b"]
    assert stage.lines[0] == (f"a (pid {before['a']}) was ended by SIGKILL; starting it again now")
    stage.tick_until(lambda: any("is back after" in line for line in stage.lines))


def test_child_that_keeps_dying_waits_a_little() -> None:
    """The first young death costs no wait, later ones up to a bound that keeps the two seconds."""
    delays = [_retry_delay_s(deaths) for deaths in range(40)]
    assert delays[:4] == [0.0, 0.0, 0.1, 0.2]
    assert max(delays) == RETRY_MAX_S < 2.0


def test_restart_callback_gets_the_new_pid(stage: _Stage) -> None:
    """`on_restart` hears name and pid of the process that took the place."""
    heard: dict[str, int] = {}
    stage.supervisor.add("s", lambda: spawn(["/bin/sleep", "60"]), on_restart=heard.__setitem__)
    stage.supervisor.start()
    os.kill(stage.supervisor.pids()["s"], signal.SIGKILL)
    stage.tick_until(lambda: bool(heard))
    assert heard == stage.supervisor.pids()


def test_group_stops_side_by_side(stage: _Stage) -> None:
    """Four workers that each take half a second to drain stop in well under two seconds."""
    for number in range(4):
        stage.add(f"w{number}", delay_s=0.5, group="workers")
    stage.supervisor.start()
    began_s = time.monotonic()
    stage.supervisor.stop()
    assert time.monotonic() - began_s < 1.5
    assert sum(line.endswith("ends") for line in stage.noted()) == 4


def test_deaf_child_is_killed_after_its_time(stage: _Stage) -> None:
    """A child that ignores its stop signal is ended after its timeout, and that is reported."""
    deaf = ["/bin/sh", "-c", "trap '' TERM; echo set; while :; do sleep 0.05; done"]
    stage.supervisor.add(
        "deaf",
        lambda: spawn(deaf, log_path=stage.journal),
        ready=lambda: stage.noted() == ["set"],
        stop_timeout_s=0.3,
    )
    stage.supervisor.start()
    began_s = time.monotonic()
    stage.supervisor.stop()
    assert 0.3 < time.monotonic() - began_s < 5.0
    assert stage.supervisor.pids() == {}
    assert stage.lines == ["deaf did not stop within 0.3 s"]


def test_failed_start_shows_the_log(stage: _Stage, tmp_path: Path) -> None:
    """A child that ends before it is ready fails the start with the end of its log."""
    log = tmp_path / "child.log"
    command = ["/bin/sh", "-c", "echo the port is taken >&2; exit 3"]
    stage.supervisor.add(
        "w", lambda: spawn(command, log_path=log), ready=lambda: False, log_path=log
    )
    with pytest.raises(StartFailed, match=r"w ended with status 3; .*\n.*the port is taken"):
        stage.supervisor.start()


def test_missing_program_is_said_in_the_log(tmp_path: Path) -> None:
    """A command that does not exist ends with a line that names it."""
    log = tmp_path / "log"
    assert spawn([tmp_path / "absent"], log_path=log).wait(10) == 126
    assert f"cannot run {tmp_path}/absent" in log.read_text()


def test_spawning_from_a_thread_is_refused() -> None:
    """Only the main thread may spawn: a child would be told of the thread's end, not ours."""
    caught: list[BaseException] = []

    def attempt() -> None:
        try:
            spawn(["/bin/true"])
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


_UP = """
import sys
from pathlib import Path
from livecart.embedded import Supervisor, spawn
code, journal, *names = sys.argv[1:]
with Supervisor(lambda line: print(line, flush=True)) as supervisor:
    for name in names:
        name, delay_s = name.split("=")
        supervisor.add(
            name,
            lambda n=name, d=delay_s: spawn([sys.executable, "-S", "-c", code, n, journal, d]),
            ready=lambda n=name: f"{n} starts" in Path(journal).read_text(),
        )
    if supervisor.start():
        print(*supervisor.pids().values(), flush=True)
        supervisor.run()
print("stopped", flush=True)
"""


def _up(journal: Path, *names: str) -> tuple[subprocess.Popen[str], list[int]]:
    journal.touch()
    command = [sys.executable, "-c", _UP, _CHILD, str(journal), *names]
    up = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert up.stdout is not None
    return up, [int(pid) for pid in up.stdout.readline().split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and a closed terminal each end everything in reverse order, status 0."""
    journal = tmp_path / "journal"
    up, pids = _up(journal, "a=0", "b=0.2")
    assert len(pids) == 2
    up.send_signal(number)
    output, _ = up.communicate(timeout=20)
    assert output == "stopped\n"
    assert up.returncode == 0
    assert journal.read_text().splitlines() == ["a starts", "b starts", "b ends", "a ends"]


def test_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    """A second Ctrl-C, by hand, ends children that are still draining at once."""
    up, _ = _up(tmp_path / "journal", "a=0", "slow=60")
    up.send_signal(signal.SIGINT)
    began_s = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        up.wait(0.6)  # it is waiting for the slow one
    up.send_signal(signal.SIGINT)
    output, _ = up.communicate(timeout=20)
    assert output == "stopped\n"
    assert time.monotonic() - began_s < 5.0


def test_children_go_with_a_killed_parent(tmp_path: Path) -> None:
    """When the supervisor is killed with SIGKILL, every child gets its signal and ends in order."""
    journal = tmp_path / "journal"
    up, pids = _up(journal, "a=0", "b=0")
    up.kill()
    up.communicate()
    deadline_s = time.monotonic() + 10
    while sum(line.endswith("ends") for line in journal.read_text().splitlines()) < len(pids):
        assert time.monotonic() < deadline_s, journal.read_text()
        time.sleep(0.01)
