"""A livecart server of our own for one run: spawned, told apart by its pids, and ended after it.

Owns the subprocess and what it printed when ready. It reaches the server only through its command
line, since the harness imports nothing of the application. Called by the scenarios and the demo.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

READY_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0
LOG_TAIL_BYTES = 4000
READY_LINE_BYTES_MAX = 64 * 1024
_FOREIGN = frozenset({
    "LIVECART_DATABASE_URL", "LIVECART_REDIS_URL", "LIVECART_GATE_URL", "LIVECART_JWKS_URL",
})  # fmt: skip


class Pids(msgspec.Struct, kw_only=True):
    """Processes of a spawned server."""

    workers: list[int] = []
    keeper: int | None = None
    redis: int | None = None
    postgres: int | None = None


class Ready(msgspec.Struct, kw_only=True):
    """What `livecart up --json` prints once it serves."""

    http: str
    ws: str = ""
    host_token: str = ""
    viewer_token: str = ""
    redis_url: str = ""
    gate_url: str = ""
    database_url: str = ""
    data_dir: str = ""
    pids: Pids = msgspec.field(default_factory=Pids)

    def target(self, secret: str) -> Target:
        """The server as the harness speaks to it."""
        return Target(
            http=self.http.rstrip("/"),
            secret=secret,
            host_token=self.host_token,
            database_url=self.database_url,
            redis_url=self.redis_url,
            gate_url=self.gate_url or self.redis_url,
            pids=self.pids,
            data_dir=Path(self.data_dir) if self.data_dir else None,
        )


class State(msgspec.Struct):
    """Of `up.json`, what changes while a server runs."""

    pids: Pids


@dataclass(slots=True, frozen=True)
class Target:
    """The server under test; `pids` and `data_dir` only when it is our own."""

    http: str
    secret: str = field(repr=False)
    host_token: str = field(default="", repr=False)
    database_url: str = ""
    redis_url: str = ""
    gate_url: str = ""  # where holds are
    pids: Pids | None = None
    data_dir: Path | None = None

    def pids_now(self) -> Pids:
        """The processes as they are by now: who was killed was started again under another pid."""
        if self.pids is None:
            raise ValueError("faults are only done to a server that was spawned for the run")
        if self.data_dir is None:
            return self.pids
        return msgspec.json.decode((self.data_dir / "up.json").read_bytes(), type=State).pids

    @property
    def ws(self) -> str:
        """Base address of its WebSockets."""
        return self.http.replace("http", "ws", 1).rstrip("/")


class SpawnFailed(Exception):
    """The server did not come up; the message ends with what it said."""


@asynccontextmanager
async def spawned(
    workers: int = 1,
    data_dir: Path | None = None,
    gate_url: str = "",
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Target]:
    """Run `livecart up` in a folder of its own for as long as the block lasts.

    `gate_url`: where holds are to be, in place of its own Redis. `settings`: further variables of
    its environment, as `LIVECART_CHAT_PER_S`.
    """
    with tempfile.TemporaryDirectory(prefix="lc-") as scratch:
        folder = data_dir or Path(scratch) / "data"
        log = Path(scratch) / "server.log"
        secret = os.environ.get("LIVECART_SECRET") or secrets.token_urlsafe(32)
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "livecart.cli", "up", "--json", "--no-demo"),
                *("--data-dir", str(folder), "--workers", str(workers), "--port", "0"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**_environment(secret, gate_url), **(settings or {})},
                limit=READY_LINE_BYTES_MAX,
                start_new_session=True,  # Ctrl-C reaches us alone, and we end it in order
            )
        run, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert run is not None
        # A run that is told to end must not leave its server behind.
        loop.add_signal_handler(signal.SIGTERM, run.cancel)
        try:
            ready = await _ready(process, log)
            yield ready.target(secret)
        finally:
            await _stop(process)
            loop.remove_signal_handler(signal.SIGTERM)


def _environment(secret: str, gate_url: str) -> dict[str, str]:
    """Ours, without the addresses of servers that no run was given to load."""
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    gate = {"LIVECART_GATE_URL": gate_url} if gate_url else {}
    return {**kept, **gate, "LIVECART_SECRET": secret}


async def _ready(process: asyncio.subprocess.Process, log: Path) -> Ready:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            line = await process.stdout.readline()
        return msgspec.json.decode(line, type=Ready)
    except (TimeoutError, ValueError, msgspec.DecodeError) as error:
        raise SpawnFailed(f"`livecart up` did not get ready ({error}):\n{_tail(log)}") from error


def _tail(log: Path) -> str:
    return log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def families() -> dict[int, list[int]]:
    """Every living process that has children, with these (Linux)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    return children


def tree(pid: int, children: Mapping[int, list[int]] | None = None) -> list[int]:
    """`pid` and all its living descendants, itself first; `children`: as `families` has just said.

    One look at all processes is good for several trees: it costs more than all else here.
    """
    children = families() if children is None else children
    found = [pid]
    for parent in found:  # grows while it is walked: breadth first
        found += children.get(parent, [])
    return found


async def until(met: Callable[[], bool], timeout_s: float, every_s: float = 0.005) -> bool:
    """Wait until a condition holds; tell whether it did in time."""
    ends = time.monotonic() + timeout_s
    while not met():
        if time.monotonic() > ends:
            return False
        await asyncio.sleep(every_s)
    return True


def state_of(pid: int) -> str:
    """The letter of a process's state: `T` stopped, `Z` dead and not buried; '' when gone."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def cpu_s(pid: int, children: Mapping[int, list[int]] | None = None) -> float:
    """Processor time that a process and its living descendants have used.

    The scheduler's own count, to the nanosecond, where the kernel keeps it: a short sale costs
    Postgres less than three of the ticks that everybody else is told.
    """
    ticks = os.sysconf("SC_CLK_TCK")
    used = 0.0
    for member in tree(pid, children):
        if (exact_s := _scheduled_s(member)) is not None:
            used += exact_s
        elif fields := _stat(member):
            used += (int(fields[11]) + int(fields[12])) / ticks
    return used


def _scheduled_s(pid: int) -> float | None:
    """What the scheduler has given the threads of a process; None when it does not say."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9
    except (OSError, IndexError):
        return None


def cpu_by_part(pids: Pids | None) -> dict[str, float]:
    """Processor time of each part of a spawned server."""
    if pids is None or not Path("/proc/self/stat").exists():
        return {}
    parts = {f"worker {n}": pid for n, pid in enumerate(pids.workers, 1)}
    parts |= {
        name: pid
        for name, pid in (("keeper", pids.keeper), ("redis", pids.redis))
        if pid is not None
    }
    if pids.postgres is not None:
        parts["postgres"] = pids.postgres
    children = families()
    return {name: cpu_s(pid, children) for name, pid in parts.items()}


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat behind the name, from the state on; empty when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()
