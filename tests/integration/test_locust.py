"""Locust against a real server: a master and two workers, one of which may be killed."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loadtest.history_file import read_file
from loadtest.result import read
from tests.integration.up_rig import ROOT, Up, environment, wait_until

SECRET = "of-these-tests-" + "x" * 32
USERS, BUYS = 60, 3
RUN_TIMEOUT_S = 50.0
LOOK_EVERY_S = 0.2


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("locust") / "data"
    server = Up(folder, "--no-demo", variables={"LIVECART_SECRET": SECRET})
    yield server
    server.stop()


class Locust:
    """One Locust with its workers, and what it printed."""

    def __init__(self, up: Up, folder: Path, *options: str) -> None:
        self.out, self.history = folder / "out.json", folder / "run.history"
        self.log = folder / "locust.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        variables = {
            "LIVECART_SECRET": SECRET,
            "LIVECART_DATABASE_URL": str(up.ready["database_url"]),
            "LIVECART_REDIS_URL": str(up.ready["redis_url"]),
        }
        argv = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless"]
        argv += ["--host", str(up.ready["http"]), "--processes", "2", "--only-summary"]
        argv += ["--users", str(USERS), "--spawn-rate", "100", "--buys", str(BUYS)]
        argv += ["--master-bind-host", "127.0.0.1", "--master-bind-port", str(port)]
        argv += ["--master-port", str(port), "--csv", str(folder / "csv")]
        argv += ["--out", str(self.out), "--history", str(self.history), *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                argv,
                cwd=ROOT,
                env=environment() | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._looks_s = 0.0  # when it looks for processes again, which costs a lot
        self.seen: dict[int, psutil.Process] = {}  # every process that it ever had
        self.csv = folder / "csv_stats.csv"

    def __enter__(self) -> Locust:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        wait_until(lambda: not self.left(), RUN_TIMEOUT_S)

    def look(self) -> str:
        """Remember the processes there are now; return what was printed until now."""
        if self.process.poll() is None and time.monotonic() > self._looks_s:
            self._looks_s = time.monotonic() + LOOK_EVERY_S
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self.seen.setdefault(child.pid, child)
        return self.log.read_text(errors="replace")

    def finish(self) -> int:
        """Wait for its end and return the status."""

        def ended() -> bool:
            self.look()
            return self.process.poll() is not None

        wait_until(ended, RUN_TIMEOUT_S)
        return self.process.returncode

    def workers(self) -> list[psutil.Process]:
        """The processes that have a station of their own."""
        self.look()
        return [
            process
            for process in psutil.Process(self.process.pid).children()
            if any("loadtest.station" in child.cmdline() for child in process.children())
        ]

    def left(self) -> list[psutil.Process]:
        """Those of its processes that still run."""
        return [process for process in self.seen.values() if process.is_running()]

    def requests(self) -> dict[str, tuple[int, int]]:
        """Requests and failures by name, as Locust's own file has them."""
        rows = [line.split(",") for line in self.csv.read_text().splitlines()[1:]]
        return {row[1]: (int(row[2]), int(row[3])) for row in rows}


def test_two_workers_sell_out_and_their_shares_are_one_result(up: Up, tmp_path: Path) -> None:
    """Every user's buys are in the result, the audit holds, Locust counted the same."""
    units = 100
    options = ["--units", str(units), "--per-viewer", "2", "--think", "0.05", "--once"]
    with Locust(up, tmp_path, *options, "-t", "40s") as locust:
        status = locust.finish()
        printed = locust.look()
    result = read(locust.out)
    assert not result.faults, printed
    assert (result.missing, result.lost, result.unexpected) == (0, [], {})
    assert sum(result.outcomes.values()) == USERS * BUYS
    assert result.outcomes["order.reserved"] == result.figures["units"] == units
    assert (result.counts["viewers"], result.configuration["workers"]) == (USERS, 2)
    assert len(result.audits) == 2
    assert all(audit.passed for audit in result.audits)
    # The client of a busy machine may be late, which is said and is no failure.
    assert (result.verdict, status) in {("passed", 0), ("overloaded", 3)}
    kept = read_file(locust.history)
    (history,) = kept.offers.values()
    assert (len(list(history.buys())), len(history.viewers)) == (USERS * BUYS, USERS)
    found = locust.requests()
    assert found["buy"] == (USERS * BUYS, 0)
    assert found["enter"] == found["leave"] == (USERS, 0)
    assert result.timings["order"].count == units
    assert SECRET not in printed + json.dumps(result.configuration)


def test_a_killed_worker_is_said_and_leaves_nothing_behind(up: Up, tmp_path: Path) -> None:
    """The run fails with its name; its orders are nobody's breach; its station ends by itself."""
    options = ["--units", "100000", "--per-viewer", "100", "--think", "0.2"]
    with Locust(up, tmp_path, *options) as locust:
        wait_until(lambda: "All users spawned" in locust.look(), RUN_TIMEOUT_S)
        wait_until(lambda: len(locust.workers()) == 2, RUN_TIMEOUT_S)
        victim = locust.workers()[0]
        (station,) = victim.children()
        wait_until(lambda: _sold(up) > 0, RUN_TIMEOUT_S)
        victim.send_signal(signal.SIGKILL)
        wait_until(lambda: not station.is_running(), RUN_TIMEOUT_S)
        wait_until(lambda: "setting state to missing" in locust.look(), RUN_TIMEOUT_S)
        locust.process.send_signal(signal.SIGTERM)
        status = locust.finish()
        printed = locust.look()
    result = read(locust.out)
    assert status == 1, printed
    assert len(result.lost) == 1
    assert re.fullmatch(r"worker \S+, \d+ viewers, \d+ buys: no sign of life", result.lost[0])
    assert result.lost[0].split(",")[0] in printed.replace("\n", " ")
    assert result.verdict == "failed"
    assert not [f for audit in result.audits for f in audit.findings if f.passed is False]


def _sold(up: Up) -> int:
    """Orders of all offers, by the server's own count."""
    import urllib.request

    with urllib.request.urlopen(f"{up.ready['http']}/metrics", timeout=10) as page:
        text = page.read().decode()
    found = re.search(r"^livecart_admission_batch_orders_sum\S* (\S+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0
