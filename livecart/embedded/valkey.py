"""One Valkey (or Redis) server of ours: its command line, its readiness, its end.

Owns: the settings below. Every write is in the append-only file before it is answered, and on
disk within a second; no TCP port. Called by `servers`.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from livecart.embedded import child, probes
from livecart.embedded.binaries import RedisBinaries
from livecart.embedded.child import SELF, Identity

STOP_SIGNAL = signal.SIGTERM
STOP_TIMEOUT_S = 15.0
MEMORY_MAX_MB = 1024

_SOCKET_NAME = "redis.sock"


class ValkeyServer:
    """A Valkey server with its data in `data_dir` and its socket in `runtime_dir`."""

    def __init__(
        self,
        data_dir: Path,
        runtime_dir: Path,
        binaries: RedisBinaries,
        *,
        log_path: Path | None = None,
        identity: Identity = SELF,
        pass_fds: Sequence[int] = (),
        memory_max_mb: int = MEMORY_MAX_MB,
    ) -> None:
        self.data_dir = data_dir
        self.socket_path = runtime_dir / _SOCKET_NAME
        self.binaries = binaries
        self.log_path = log_path
        self._identity = identity
        self._pass_fds = tuple(pass_fds)
        self._memory_max_mb = memory_max_mb
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL that `redis.asyncio.Redis.from_url` takes."""
        return f"unix://{quote(str(self.socket_path))}"

    def prepare(self) -> None:
        """Create the data folder."""
        self.data_dir.mkdir(mode=0o700, exist_ok=True)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server; see `ready`. The caller reaps it, or calls `stop`."""
        self._process = child.spawn(
            [self.binaries.server, *self._arguments()],
            die_signal=STOP_SIGNAL,  # SIGTERM: it writes and syncs its file, then ends
            identity=self._identity,
            log_path=self.log_path,
            pass_fds=self._pass_fds,
            env=child.server_environment(),
            cwd=Path("/"),
        )
        return self._process

    def _arguments(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            # A rewrite of the file must not suspend the fsync of what is being acknowledged.
            "no-appendfsync-on-rewrite": "no",
            "aof-load-truncated": "yes",  # a crash in mid-write leaves half a command at the end
            "save": "",
            "maxmemory": f"{self._memory_max_mb}mb",
            "maxmemory-policy": "noeviction",  # a hold that vanishes silently is worse than OOM
            "always-show-logo": "no",
            "loglevel": "notice",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def is_ready(self) -> bool:
        """True if the server answers PING now."""
        return probes.redis_answers(self.socket_path)

    def ready(self, timeout_s: float = 60.0) -> None:
        """Wait until the server answers; raise StartFailed if it ends or stays silent."""
        child.wait_ready("Redis", self._process, self.is_ready, self.log_path, timeout_s)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the server with its data on disk; kill it after `timeout_s`."""
        child.end(self._process, (STOP_SIGNAL, timeout_s), (signal.SIGKILL, timeout_s))
