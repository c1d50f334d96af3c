"""A whole server of the test's own, made to be broken: `livecart up`, a second keeper, failpoints.

Owns the processes, the folder in which shots are laid, and the reading of what their logs say of
faults. Knows no sale. Used by `sale` for one seed after the other, and by `soak`.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from livecart.embedded.child import SELF, launch_command
from loadtest.faults import NotDone, NotThere, until_state
from loadtest.server import Ready, Target, state_of, until
from loadtest.web import Api
from tests.integration.up_rig import ROOT, environment

STOP_TIMEOUT_S = 30.0
WELL_TIMEOUT_S = 30.0
SAID_S = 2.0  # a process logs that it fires before it does
_FIRED = re.compile(r"^(\S+ \S+) (\d+) WARNING orders\.failpoints failpoint fired: (.+)$", re.M)
_LEADS = re.compile(r"^(\S+ \S+) (\d+) INFO livecart\.worker keeper \d+ leads$", re.M)


class Fired(msgspec.Struct, frozen=True):
    """What a process's log says of a shot."""

    at_ms: int
    pid: int


class Tree:
    """The processes of one server."""

    def __init__(self, scratch: Path, workers: int, settings: Mapping[str, str]) -> None:
        self.workers = workers
        self.shots = scratch / "shots"
        self.shots.mkdir()
        self._scratch = scratch
        self._environ = environment() | {
            "LIVECART_SECRET": secrets.token_urlsafe(32),
            "LIVECART_TESTING": "yes",
            "LIVECART_FAILPOINTS": str(self.shots),
            "LIVECART_DRAIN_S": "0.5",
            **settings,
        }
        self._server_log = scratch / "server.log"
        self._standby_log = scratch / "standby.log"
        self._up = self._spawn(
            "up", "--json", "--no-demo", "--data-dir", str(scratch / "data"),
            "--workers", str(workers), "--port", "0", log=self._server_log, answers=True,
        )  # fmt: skip
        assert self._up.stdout is not None
        line = self._up.stdout.readline()
        if not line:
            raise AssertionError(f"`up` did not get ready:\n{self._server_log.read_text()}")
        ready = msgspec.json.decode(line, type=Ready)
        self.target: Target = ready.target(self._environ["LIVECART_SECRET"])
        self._environ["LIVECART_REDIS_URL"] = ready.redis_url
        self._environ["LIVECART_DATABASE_URL"] = ready.database_url
        self._standby = self._spawn("worker", log=self._standby_log)
        self._standbys = {self._standby.pid}  # all there were

    def _spawn(self, *command: str, log: Path, answers: bool = False) -> subprocess.Popen[bytes]:
        with log.open("ab") as errors:
            return subprocess.Popen(
                launch_command(
                    [sys.executable, "-m", "livecart.cli", *command],
                    die_signal=signal.SIGTERM,
                    identity=SELF,
                ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if answers else errors,
                stderr=errors,
                env=self._environ,
                cwd=ROOT,
                start_new_session=True,
            )

    def close(self) -> None:
        """End everything, in order."""
        for process in (self._standby, self._up):
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for process in (self._standby, self._up):
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    # --- processes -------------------------------------------------------------------------------

    def pids(self) -> list[int]:
        """Every process of ours that a failpoint may be reached in."""
        now = self.target.pids_now()
        keeper = [now.keeper] if now.keeper is not None else []
        return [*now.workers, *keeper, self._standby.pid]

    def leader(self) -> int:
        """The keeper that leads; raises `NotThere` when none does now."""
        said = [found for log in self._logs() for found in _LEADS.findall(_read(log))]
        if not said:
            raise NotThere("no keeper leads")
        _, pid = max(said)
        if not state_of(int(pid)) or int(pid) not in self.pids():
            raise NotThere(f"keeper {pid}, which led last, is gone")
        return int(pid)

    async def well(self) -> None:
        """Wait until every process is there and each worker ready; bring a dead standby back."""
        if self._standby.poll() is not None:
            self._standby = self._spawn("worker", log=self._standby_log)
            self._standbys.add(self._standby.pid)
        async with asyncio.timeout(WELL_TIMEOUT_S):
            while not await self._is_well():  # noqa: ASYNC110 - it is asked, it does not tell
                await asyncio.sleep(0.05)

    async def _is_well(self) -> bool:
        if self._up.poll() is not None:
            raise AssertionError(f"`up` ended:\n{self._server_log.read_text()[-4000:]}")
        now = self.target.pids_now()
        wanted = [now.keeper, now.redis, now.postgres, *now.workers]
        if len(now.workers) < self.workers or None in wanted:
            return False
        if any(state_of(pid) in ("", "Z", "T") for pid in wanted if pid is not None):
            return False
        marks = self._scratch / "data" / "processes" / "ready"
        ready = {path.read_text() for path in marks.iterdir() if not path.suffix}
        if not {str(pid) for pid in now.workers} <= ready:
            return False
        try:
            status, _ = await Api(self.target.http).send("GET", "/readyz", timeout_s=2.0)
        except (OSError, TimeoutError):
            return False
        return status == 200

    # --- shots and what logs say -----------------------------------------------------------------

    def lay(self, shot: str) -> str:
        """Lay a shot for whoever reaches its point; return what it is called in the log."""
        name = f"{shot}#{secrets.token_hex(3)}"
        (self.shots / name).touch()
        return name

    def clear(self) -> None:
        """Take away the shots that did not fire."""
        for path in self.shots.iterdir():
            path.unlink(missing_ok=True)

    async def fired(self, name: str) -> Fired:
        """Wait until a shot has fired; return what the log says of it."""
        await until(lambda: not (self.shots / name).exists(), math.inf)
        if not await until(lambda: bool(self._said(name)), SAID_S):
            raise NotDone(f"{name} is gone, and no log has it")
        return self._said(name)[0]

    def _said(self, name: str) -> list[Fired]:
        found = []
        for log in self._logs():
            for when, pid, what in _FIRED.findall(_read(log)):
                if what == name:
                    at = datetime.strptime(when, "%Y-%m-%d %H:%M:%S,%f").astimezone()
                    found.append(Fired(int(at.timestamp() * 1000), int(pid)))
        return found

    async def go_on(self, pid: int, seconds: float) -> None:
        """Let a process that stopped itself stay so for a while, then go on."""
        await until_state(pid, "T")
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)

    def death_noted(self, pid: int) -> bool:
        """Tell whether the supervisor's log has the death of a process, or it was our standby's."""
        ended = re.compile(rf"\(pid {pid}\) (was ended by|ended with)")
        return pid in self._standbys or ended.search(_read(self._server_log)) is not None

    def _logs(self) -> list[Path]:
        logs = self._scratch / "data" / "logs"
        return [*logs.glob("worker-*.log"), logs / "keeper.log", self._standby_log]

    def traces(self, lines_max: int = 60) -> str:
        """The ends of all logs, for who wants to know what happened."""
        return "\n".join(
            f"--- {log.name}\n" + "\n".join(_read(log).splitlines()[-lines_max:])
            for log in [*self._logs(), self._server_log]
        )


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""


@contextmanager
def grown(workers: int, **settings: str) -> Iterator[Tree]:
    """A server with these settings for the length of the block; its folder goes with it."""
    scratch = Path(tempfile.mkdtemp(prefix="lc-s-"))
    try:
        tree = Tree(scratch, workers, settings)
        try:
            yield tree
        finally:
            tree.close()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
