"""A server of the harness's own: told apart by pids, ended in order, struck only where meant."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest import faults
from loadtest.cli import app, patience
from loadtest.server import Pids, SpawnFailed, Target, cpu_by_part, spawned, tree

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """Pids of a process and of its child."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        yield parent.pid, child
        for pid in (parent.pid, child):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def state(pid: int) -> str:
    """The state letter of a process; empty when it is gone, Z when only its parent has to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def ends(pid: int) -> bool:
    """Wait until a process has ended; killing is not instant."""
    for _ in range(1_000):
        if state(pid) in ("", "Z"):
            return True
        time.sleep(0.01)
    return False


def target(**pids: int) -> Target:
    workers = [pids.pop("worker")] if "worker" in pids else []
    return Target("http://127.0.0.1:9", "secret", pids=Pids(workers=workers, **pids))


def test_a_tree_is_a_process_and_its_descendants(family: tuple[int, int]) -> None:
    """Every backend of a Postgres is found from its first process."""
    assert tree(family[0]) == list(family)


def test_processor_time_is_told_by_part(family: tuple[int, int]) -> None:
    """Each part of a spawned server has a time; a server that is not ours has none."""
    assert set(cpu_by_part(Pids(workers=[family[0]], redis=family[1]))) == {"worker 1", "redis"}
    assert cpu_by_part(None) == {}


async def test_killing_postgres_leaves_none_of_its_processes(family: tuple[int, int]) -> None:
    """No backend survives its first process to finish a commit."""
    await faults.kill_postgres(target(postgres=family[0]))
    assert ends(family[1])
    assert ends(family[0])


async def test_killing_a_worker_kills_the_first(family: tuple[int, int]) -> None:
    """kill -9 of a worker ends that process and no other."""
    await faults.kill_worker(target(worker=family[1]))
    assert ends(family[1])
    assert state(family[0]) not in ("", "Z")


async def test_a_stopped_worker_goes_on(
    family: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP is always followed by SIGCONT."""
    monkeypatch.setattr(faults, "STOPPED_S", 0.05)
    await faults.stop_worker(target(worker=family[1]))
    assert state(family[1]) not in ("", "Z", "T")


async def test_a_server_that_does_not_come_up_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server printed is in the error, and nothing is left running."""
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho 'no room for data' >&2\nexit 3\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(SpawnFailed, match="no room for data"):
        async with spawned():
            pytest.fail("a server that ended was called ready")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "flash", "--url", "http://127.0.0.1:9"], "--secret"),
        (["run", "flash", "--url", "http://127.0.0.1:9", "--fault", "flushall"], "--fault"),
        (["run", "flash", "--url", "http://127.0.0.1:9", "--spawn"], "--spawn"),
        (["run", "flash", "--viewers", "0"], "viewers"),
        (["audit", "of_1"], "--database-url"),
        (["hot-row"], "--database-url"),
    ],
)
def test_a_wrong_option_is_named(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong usage ends with status 2 and names the option, before anything is started."""
    for name in ("LIVECART_SECRET", "LIVECART_DATABASE_URL", "LIVECART_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 2
    assert message in result.output


def test_viewers_are_quicker_where_a_fault_is_due() -> None:
    """Back-off is the protocol's, unless a fault is part of the run or the caller says so."""
    assert patience(False).back_off_max_s == 20.0
    assert patience(True).back_off_max_s == 2.0
    assert patience(True, 5.0, 1.0).answer_timeout_s == 1.0
