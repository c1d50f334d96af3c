"""Failpoints: what a plan may say, each shot fires once, and nobody has one by mistake."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import livecart
import orders
from livecart.settings import SettingsError, load
from orders import failpoints
from orders.failpoints import POINTS, Shot, peer_of, shot_of

URLS = {"redis": "unix:///tmp/redis.sock", "postgres": "postgresql://me@/db?host=/tmp/pg"}


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """No test leaves a plan behind."""
    yield
    failpoints.reach = failpoints._pass


def test_a_shot_is_a_point_an_action_and_a_turn() -> None:
    """Each part is read; the first time is meant where none is named."""
    assert shot_of("hold.replied=kill") == Shot("hold.replied", "kill", "", 1)
    assert shot_of("admit.sent=drop:postgres@3") == Shot("admit.sent", "drop", "postgres", 3)
    assert shot_of("gate.due=sleep:250@2#seed 7") == Shot("gate.due", "sleep", "250", 2)


@pytest.mark.parametrize(
    "text",
    ["", "kill", "nowhere=kill", "hold.sent=explode", "hold.sent=drop", "hold.sent=drop:disk",
     "hold.sent=sleep:soon", "hold.sent=sleep:99999999", "hold.sent=kill@0", "hold.sent=kill@x"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text: str) -> None:
    """A plan with a mistake is an error, not a test without a fault."""
    with pytest.raises(ValueError, match=r"is no|counts from 1"):
        shot_of(text)


def test_every_point_is_reached_by_one_line_of_code() -> None:
    """The table of points and the code have the same names, each once."""
    reached: list[str] = []
    for package in (orders, livecart):
        for path in Path(str(package.__file__)).parent.rglob("*.py"):
            text = path.read_text("utf-8")
            reached += re.findall(r'await failpoints\.reach\("([a-z_.]+)"\)', text)
    assert sorted(reached) == sorted(POINTS)


async def test_off_nothing_happens() -> None:
    """Without a plan a point returns at once, to the same task."""
    assert failpoints.reach is failpoints._pass
    await failpoints.reach("hold.sent")


async def test_a_shot_fires_at_its_turn_and_once(caplog: pytest.LogCaptureFixture) -> None:
    """The second time that the point is reached, never again, and the log says so."""
    failpoints.arm("hold.sent=sleep:0@2,gate.due=sleep:0", URLS)
    for _ in range(4):
        await failpoints.reach("hold.sent")
    assert caplog.text.count("failpoint fired: hold.sent=sleep:0@2") == 1
    assert "gate.due=sleep:0\n" not in caplog.text


async def test_a_folder_of_shots_may_change_while_it_is_watched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file is a shot as soon as it is there, and gone once it fired."""
    folder = tmp_path / "shots"
    failpoints.arm(str(folder), URLS)
    await failpoints.reach("hold.sent")  # the folder need not be there
    folder.mkdir()
    shot = folder / "hold.sent=sleep:0#1"
    shot.touch()
    await failpoints.reach("admit.sent")
    assert shot.exists()
    await failpoints.reach("hold.sent")
    assert not shot.exists()
    assert caplog.text.count("failpoint fired") == 1


async def test_a_sleep_holds_one_task_up() -> None:
    """Others go on meanwhile."""
    failpoints.arm("hold.sent=sleep:50", URLS)
    waiting = asyncio.ensure_future(failpoints.reach("hold.sent"))
    await asyncio.sleep(0)
    await failpoints.reach("admit.sent")
    assert not waiting.done()
    await waiting


async def test_a_drop_ends_the_connections_to_one_server(tmp_path: Path) -> None:
    """What is connected to its socket is shut down, and nothing else."""
    paths = {"redis": str(tmp_path / "r.sock"), "postgres": str(tmp_path / ".s.PGSQL.5432")}
    doors = {name: socket.socket(socket.AF_UNIX) for name in paths}
    ends: dict[str, socket.socket] = {}
    for name, door in doors.items():
        door.bind(paths[name])
        door.listen()
        ends[name] = socket.socket(socket.AF_UNIX)
        ends[name].connect(paths[name])
    failpoints.arm("admit.sent=drop:postgres", {
        "redis": f"unix://{paths['redis']}", "postgres": f"postgresql://me@/db?host={tmp_path}",
    })  # fmt: skip
    await failpoints.reach("admit.sent")
    assert ends["postgres"].recv(1) == b""
    ends["redis"].setblocking(False)
    with pytest.raises(BlockingIOError):
        ends["redis"].recv(1)
    for end in (*doors.values(), *ends.values()):
        end.close()


@pytest.mark.parametrize(("action", "status"), [("kill", -9), ("stop", -19)])
def test_kill_and_stop_are_the_real_ones(action: str, status: int) -> None:
    """The process is killed, or stopped, by the kernel, after its log said so."""
    program = (
        "import asyncio, logging; from orders import failpoints; logging.basicConfig();"
        f" failpoints.arm('gate.due={action}', {{}}); asyncio.run(failpoints.reach('gate.due'))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        if action == "stop":
            _, how = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(how)
            process.kill()
        _, said = process.communicate(timeout=20)
        assert f"failpoint fired: gate.due={action}" in said
        if action == "kill":
            assert process.returncode == status
    finally:
        process.kill()
        process.wait()


def test_servers_are_told_apart_by_socket_or_port() -> None:
    """As the two client libraries read the URLs."""
    assert peer_of("unix:///run/my%20redis.sock?db=3") == "/run/my redis.sock"
    assert peer_of("redis://localhost") == 6379
    assert peer_of("postgresql://me@/db?host=/run/pg") == "/run/pg/.s.PGSQL.5432"
    assert peer_of("postgresql://me@db.example:6543/db") == 6543


def test_failpoints_are_refused_unless_testing_is_meant() -> None:
    """Who sets them by mistake gets one line, and no server."""
    with pytest.raises(SettingsError, match="LIVECART_TESTING=yes"):
        load({"LIVECART_FAILPOINTS": "hold.sent=kill"})
    with pytest.raises(SettingsError, match="nowhere"):
        load({"LIVECART_FAILPOINTS": "nowhere=kill", "LIVECART_TESTING": "yes"})
    armed = load({"LIVECART_FAILPOINTS": "hold.sent=kill", "LIVECART_TESTING": "yes"})
    assert armed.failpoints == "hold.sent=kill"
    assert load({}).failpoints is None


def test_the_compose_file_arms_nothing() -> None:
    """What is deployed as it stands cannot be told to break itself."""
    text = (Path(__file__).parents[2] / "docker-compose.yml").read_text("utf-8")
    assert "FAILPOINTS" not in text
    assert "TESTING" not in text
