"""Drives a real `livecart up` from outside: starts it, asks it, kills parts of it, stops it.

Used by the tests of the command line; waits for conditions with a deadline, never a fixed time.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from livecart.embedded.child import SELF, Identity, launch_command

ROOT = Path(__file__).parents[2]
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
BUYS_MAX = 5  # a server that has just started may need more than the second of an answer
_keys = itertools.count(1)

Answer = tuple[int, dict[str, Any]]


def environment() -> dict[str, str]:
    """Return our environment without settings, good for children that import from this tree."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LIVECART_")}
    wheels = [path for path in sys.path if path.endswith("site-packages")]
    return kept | {"PYTHONPATH": os.pathsep.join([str(ROOT), *wheels])}


def run_cli(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "livecart.cli", *arguments],
        capture_output=True,
        text=True,
        env=environment() | variables,
        cwd=ROOT,
        timeout=READY_TIMEOUT_S,
        check=False,
    )


class Up:
    """One `livecart up --json`; `argv`: what starts it instead, and has its options already."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        identity: Identity = SELF,
        python: str = sys.executable,
        variables: Mapping[str, str] | None = None,
        argv: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir
        plain = [python, "-m", "livecart.cli", "up", "--json", "--port", "0"]
        self.process = subprocess.Popen(
            launch_command(
                argv or [*plain, "--data-dir", str(data_dir), *options],
                die_signal=signal.SIGTERM,
                identity=identity,
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | dict(variables or {}),
            cwd=ROOT,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"`up` did not get ready: {self.process.communicate()[1]}")
        self.ready: dict[str, Any] = json.loads(line)

    def call(
        self, method: str, path: str, body: Any = None, *, token: str = "", **headers: str
    ) -> Answer:
        """Return the status and the object that a call is answered with."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.ready["http"] + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def buy(self, key: str | None = None) -> Answer:
        """Buy one unit of the demo offer over HTTP; once more with its key where none knew."""
        key = key or f"key-{os.getpid()}-{next(_keys)}"
        for _ in range(BUYS_MAX):
            answer = self.call(
                "POST",
                f"/v1/offers/{self.ready['demo_offer']}/orders",
                {"qty": 1},
                token=self.ready["viewer_token"],
                Idempotency_Key=key,
            )
            if answer[0] != 503:
                break
        return answer

    def answers(self) -> bool:
        """Tell whether an order list can be read, which takes Postgres."""
        try:
            status, _ = self.call("GET", "/v1/orders", token=self.ready["viewer_token"])
        except OSError:
            return False
        return status == 200

    def pids(self) -> dict[str, Any]:
        """Return the present pids, as up.json has them."""
        found: dict[str, Any] = json.loads((self.data_dir / "up.json").read_text())["pids"]
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask for the end and return the status."""
        self.process.send_signal(number)
        return self.finish()

    def finish(self) -> int:
        """Wait for the end and return the status."""
        try:
            self.process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode

    def kill_everything(self) -> None:
        """SIGKILL the supervisor and all that it started, at once."""
        pids = self.pids()
        every = [self.process.pid, *pids.pop("workers"), *pids.values()]
        for pid in every:
            os.kill(pid, signal.SIGKILL)
        self.finish()


def wait_until(met: Callable[[], bool], timeout_s: float = 20.0) -> float:
    """Wait for a condition and return the seconds that it took."""
    started_s = time.monotonic()
    while not met():
        if time.monotonic() - started_s > timeout_s:
            raise AssertionError(f"not within {timeout_s:g} s")
        time.sleep(0.01)
    return time.monotonic() - started_s
