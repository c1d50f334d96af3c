"""A server of the harness's own: told apart by pids, ended in order, struck only where meant."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
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
    assert "SIGKILL" in await faults.kill(target(postgres=family[0]), "postgres")
    assert ends(family[1])
    assert ends(family[0])


async def test_killing_a_worker_kills_the_first(family: tuple[int, int]) -> None:
    """kill -9 of a worker ends that process and no other."""
    assert str(family[1]) in await faults.kill(target(worker=family[1]), "worker")
    assert ends(family[1])
    assert state(family[0]) not in ("", "Z")


async def test_a_stopped_worker_goes_on(family: tuple[int, int]) -> None:
    """SIGSTOP is always followed by SIGCONT, and that it stopped was seen."""
    assert "stopped for 0.05 s" in await faults.stop(target(worker=family[1]), "worker", 0.05)
    assert state(family[1]) not in ("", "Z", "T")


async def test_a_fault_that_was_not_done_says_so(
    family: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process of that kind, a process that outlives its end, a server that is not ours."""
    monkeypatch.setattr(faults, "NOTICED_S", 0.05)
    with pytest.raises(faults.NotDone, match="no keeper"):
        await faults.kill(target(worker=family[1]), "keeper")
    with pytest.raises(faults.NotDone, match="outlived"):
        await faults.kill(target(worker=family[0]), "worker", signal.SIGCONT)
    with pytest.raises(ValueError, match="spawned"):
        await faults.kill(Target("http://127.0.0.1:9", "secret"), "worker")


async def test_a_server_that_was_started_again_is_struck_under_its_new_pid(
    family: tuple[int, int], tmp_path: Path
) -> None:
    """The pids are read when the fault is done, not when the run began."""
    (tmp_path / "up.json").write_text(f'{{"pids": {{"workers": [{family[1]}], "redis": null}}}}')
    ours = replace(target(worker=2**22), data_dir=tmp_path)
    assert str(family[1]) in await faults.kill(ours, "worker")


async def test_the_file_of_redis_is_changed_before_it_comes_back(tmp_path: Path) -> None:
    """Its last bytes are cut, or an older copy restored, while it is stopped; then it is killed."""
    folder = tmp_path / "redis" / "appendonlydir"
    folder.mkdir(parents=True)
    file = folder / "appendonly.aof.1.incr.aof"
    for change, kept in ((faults.truncate_aof, b"x" * 904), (faults.stale_aof, b"x" * 5_000)):
        file.write_bytes(b"x" * 5_000)
        redis = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import time; time.sleep(60)"
        )
        (tmp_path / "up.json").write_text(f'{{"pids": {{"redis": {redis.pid}}}}}')
        what = await change(Target("http://127.0.0.1:9", "s", pids=Pids(), data_dir=tmp_path))
        assert "ended by SIGKILL" in what
        assert file.read_bytes() == kept
        assert await redis.wait() == -signal.SIGKILL


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
