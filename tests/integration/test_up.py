"""`livecart up`, end to end: from an empty folder to a sold unit, through every kind of death."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import websockets

from livecart.embedded.child import NAMESPACE, SELF, Identity, run_to_end
from tests.integration.up_rig import ROOT, Up, environment, run_cli, wait_until

RESTART_S_MAX = 2.0


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A data folder that all starts of this module share."""
    path = Path(tempfile.mkdtemp(prefix="lc-up-"))
    yield path / "data"
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Up]:
    """One `up` with two workers, for the tests that leave it running."""
    running = Up(folder, "--workers", "2")
    try:
        yield running
    finally:
        running.stop()


def test_one_line_of_json_names_everything_that_runs(up: Up) -> None:
    """`--json` gives addresses, tokens, the demo stream and the pid of every process."""
    assert up.ready["ws"] == up.ready["http"].replace("http", "ws")
    assert {"redis_url", "database_url", "host_token", "viewer_token"} <= up.ready.keys()
    pids = up.ready["pids"]
    every = [*pids["workers"], pids["keeper"], pids["redis"], pids["postgres"]]
    assert len(set(every)) == 5
    for pid in every:
        os.kill(pid, 0)
    assert json.loads((up.data_dir / "up.json").read_text()) == up.ready


def test_what_is_secret_is_readable_by_the_owner_alone(up: Up) -> None:
    """The secret and up.json have mode 600, and no secret is in a command line."""
    for name in ("secret", "up.json"):
        assert stat.S_IMODE((up.data_dir / name).stat().st_mode) == 0o600
    secret = (up.data_dir / "secret").read_bytes().strip()
    for pid in up.pids()["workers"]:
        assert secret not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_demo_sells_one_unit_by_curl(up: Up) -> None:
    """The demo's open offer sells over HTTP; the same key again is the same order."""
    status, stream = up.call("GET", f"/v1/streams/{up.ready['demo_stream']}")
    assert (status, stream["status"]) == (200, "live")
    status, order = up.buy("first")
    assert (status, order["status"], order["amount_minor"]) == (201, "reserved", 29_900)
    status, again = up.buy("first")
    assert (status, again["id"]) == (200, order["id"])


def test_the_demo_shows_a_pinned_product_with_its_offer(up: Up) -> None:
    """A plain WebSocket client is welcomed with the pin and the open offer, in Chinese."""

    async def welcome() -> dict[str, object]:
        url = f"{up.ready['ws']}/v1/streams/{up.ready['demo_stream']}/ws"
        async with websockets.connect(url) as socket:
            hello = {"type": "hello", "id": 1, "token": up.ready["viewer_token"]}
            await socket.send(json.dumps(hello))
            found: dict[str, object] = json.loads(await socket.recv())
            return found

    said = asyncio.run(welcome())
    assert said["type"] == "welcome"
    assert isinstance(said["pins"], list)
    assert isinstance(said["offers"], list)
    assert [pin["offer"] for pin in said["pins"]] == [up.ready["demo_offer"]]
    assert said["pins"][0]["product"]["title"] == "阿里山高山烏龍茶 150 克"
    assert [offer["status"] for offer in said["offers"]] == ["open"]


def test_both_pages_are_served(up: Up) -> None:
    """What `up` says to open in a browser is there."""
    for path in (f"/s/{up.ready['demo_stream']}", "/host"):
        with urllib.request.urlopen(up.ready["http"] + path, timeout=10) as response:
            assert response.status == 200
            assert response.headers.get_content_type() == "text/html"


@pytest.mark.parametrize("name", ["README.md", "README.zh-Hant.md"])
def test_what_the_readme_says_sells_a_unit(up: Up, tmp_path: Path, name: str) -> None:
    """Its curl lines and its WebSocket client, copied as they stand, each get an order."""
    text = (ROOT / name).read_text("utf-8")
    (tmp_path / ".livecart").symlink_to(up.data_dir)
    curl = next(block for block in re.findall(r"```sh\n(.*?)```", text, re.S) if "curl" in block)
    client = re.findall(r"```python\n(.*?)```", text, re.S)[0]

    def run(*argv: str) -> str:
        return subprocess.run(
            argv, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
        ).stdout

    assert run(sys.executable, "-c", client).splitlines()[-1].startswith("order.")
    if shutil.which("curl") is not None:
        assert json.loads(run("bash", "-c", curl))["status"] == "reserved"


def test_a_second_up_on_the_same_folder_says_who_holds_it(up: Up) -> None:
    """It ends with status 1 and one line with the holder's pid, without a traceback."""
    ended = run_cli("up", "--port", "0", "--data-dir", str(up.data_dir))
    assert ended.returncode == 1
    assert f"is in use by pid {up.process.pid}" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_port_in_use_is_one_line(up: Up, tmp_path: Path) -> None:
    """A taken port is named, with what to do, and nothing is left running."""
    port = up.ready["http"].rpartition(":")[2]
    ended = run_cli("up", "--port", port, "--data-dir", str(tmp_path / "d"))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"livecart: port {port} of 127.0.0.1 is in use")
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "d" / "up.json").exists()


def test_doctor_looks_at_the_servers_of_a_running_up(up: Up) -> None:
    """`doctor` finds the durability settings on, nothing evicted, and the schema current."""
    ended = run_cli("doctor", "--data-dir", str(up.data_dir))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for line in (
        "Redis: maxmemory-policy noeviction",
        "Postgres: fsync on",
        "Postgres: synchronous_commit on",
        "Postgres: full_page_writes on",
        "schema: this release's",
    ):
        assert f"ok   {line}" in ended.stdout


def test_token_uses_the_secret_of_the_folder(up: Up) -> None:
    """A token made by the command line is taken by the server that made the folder."""
    made = run_cli("token", "--role", "viewer", "--sub", "ann", "--data-dir", str(up.data_dir))
    assert up.call("GET", "/v1/orders", token=made.stdout.strip())[0] == 200


@pytest.mark.parametrize("name", ["worker", "keeper", "redis", "postgres"])
def test_a_killed_child_is_started_again_within_two_seconds(up: Up, name: str) -> None:
    """After kill -9 there is a new process in time, up.json names it, and calls are answered."""
    before = up.pids()
    victim = before["workers"][0] if name == "worker" else before[name]
    os.kill(victim, signal.SIGKILL)

    def replaced() -> bool:
        now = up.pids()
        if name == "worker":
            return len(now["workers"]) == 2 and victim not in now["workers"]
        return now.get(name) not in (None, victim)

    assert wait_until(replaced) < RESTART_S_MAX
    wait_until(up.answers)


def test_workers_drain_and_what_was_sold_is_there_at_the_next_start(up: Up, folder: Path) -> None:
    """SIGTERM ends everything with status 0; the next `up` has the same demo and the orders.

    Comes last of those that share `up`: it stops it and leaves a new one in its place.
    """
    wait_until(lambda: up.buy("kept")[0] in (200, 201))
    host = up.ready["host_token"]
    status, mine = up.call("POST", "/v1/streams", {"title": "my own"}, token=host)
    assert status == 201
    pids, demo = up.pids(), up.ready["demo_stream"]
    assert up.stop() == 0
    assert not (folder / "up.json").exists()
    for pid in (*pids["workers"], pids["keeper"], pids["redis"], pids["postgres"]):
        assert not Path(f"/proc/{pid}").exists()
    again = Up(folder)
    up.process, up.ready = again.process, again.ready
    assert up.ready["demo_stream"] == demo
    assert up.buy("kept")[0] == 200
    # What the host made beside the demo is theirs to start.
    assert up.call("GET", f"/v1/streams/{mine['id']}")[1]["status"] == "scheduled"


def test_after_a_sigkill_of_everything_it_works_again(up: Up) -> None:
    """All processes killed at once, supervisor included: `up` starts, with every order."""
    wait_until(lambda: up.buy("survives")[0] in (200, 201))
    up.kill_everything()
    again = Up(up.data_dir)
    up.process, up.ready = again.process, again.ready
    assert up.buy("survives")[0] == 200


def test_a_second_ctrl_c_is_quick(up: Up) -> None:
    """With a worker that does not end, Ctrl-C waits and a second does not; orders stay."""
    wait_until(up.answers)
    _, before = up.call("GET", "/v1/orders", token=up.ready["viewer_token"])
    os.kill(up.pids()["workers"][0], signal.SIGSTOP)
    up.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        up.process.wait(1.0)
    up.process.send_signal(signal.SIGINT)
    up.process.wait(5.0)
    assert up.finish() == 0
    again = Up(up.data_dir, "--no-demo")
    up.process, up.ready = again.process, again.ready
    assert up.ready["demo_stream"] is None
    wait_until(up.answers)
    _, after = up.call("GET", "/v1/orders", token=up.ready["viewer_token"])
    assert [order["id"] for order in after["items"]] == [order["id"] for order in before["items"]]


def test_external_servers_replace_the_embedded_ones(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    """With both URLs set, `up` starts no server of its own, and sells all the same."""
    urls = {"LIVECART_REDIS_URL": redis_url, "LIVECART_DATABASE_URL": database_url}
    running = Up(tmp_path / "data", variables=urls)
    assert running.ready["pids"]["redis"] is None
    assert running.ready["pids"]["postgres"] is None
    assert running.buy()[0] in (200, 201)
    assert running.stop() == 0


def ordinary() -> tuple[Identity, str]:
    """Return an identity without root's rights, and a Python that it may run.

    Where every Python lies behind a folder of root's own, an ordinary uid in a user namespace
    stands for the user: what asks who it is gets the same answer.
    """
    if os.geteuid() != 0:
        return SELF, sys.executable
    entry = pwd.getpwnam("nobody")
    nobody = Identity("user", entry.pw_uid, entry.pw_gid)
    for identity, python in (
        (nobody, sys.executable),
        (nobody, "/usr/bin/python3"),
        (NAMESPACE, sys.executable),
    ):
        probe = [python, "-c", "import livecart.cli"]
        if run_to_end(probe, identity=identity, env=environment(), cwd=ROOT).returncode == 0:
            return identity, python
    raise AssertionError("nobody but root may run a Python here")


def test_it_works_as_an_ordinary_user() -> None:
    """An ordinary user, with a home of his own and no rights, gets the same."""
    identity, python = ordinary()
    home = Path(tempfile.mkdtemp(prefix="lc-user-"))
    owner = identity.uid if identity.kind == "user" else os.geteuid()
    try:
        os.chown(home, owner, -1)
        running = Up(home / "data", identity=identity, python=python)
        assert running.buy()[0] in (200, 201)
        assert (home / "data").stat().st_uid == owner
        assert running.stop() == 0
    finally:
        shutil.rmtree(home)
