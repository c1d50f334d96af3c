"""`livecart up` and `livecart serve`: everything that runs, started in order and kept alive.

Owns the order: servers, schema, keeper, workers, demo data, announcement; and the way back. Knows
how no part works. Called by `cli`, from the main thread.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livecart import banner, demo_data
from livecart.auth import issue
from livecart.eligibility import hook_of
from livecart.embedded import EmbeddedServers, Supervisor
from livecart.embedded.folder import DataFolder
from livecart.entrance import link
from livecart.fleet import Fleet, Traces, listen, raise_open_files_max
from livecart.schema import bring_schema_forward
from livecart.settings import Settings, SettingsError, demand, load
from orders.sealing import new_key

SECRET_NAME = "secret"
DATA_KEY_NAME = "data-key"
STATE_NAME = "up.json"
TOKEN_TTL_S = 30 * 86_400.0  # what `up` prints is to be tried out, not handed to anyone
LINK_TTL_S = 3_600  # of a code on the screen: somebody reads that first
LINKS_WITHIN_S = 5.0  # or the screen has none: what serves should not die of that
LINKS_AGAIN_S = 0.2
# Beside the pools: migrations, the keeper's leadership, the owner's psql.
POSTGRES_CONNECTIONS_SPARE = 20
POSTGRES_CONNECTIONS_MIN = 100

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asked of `up`, beside settings."""

    demo: bool = True
    as_json: bool = False


def report(line: str) -> None:
    """Say what happens, on stderr: stdout belongs to what was asked for."""
    sys.stderr.write(f"livecart: {line}\n")
    sys.stderr.flush()


def links_or(
    plain: banner.Links, made: Callable[[], banner.Links], within_s: float = LINKS_WITHIN_S
) -> banner.Links:
    """Return what is made, tried again while that fails; `plain` when it still does in the end."""
    ends_s = time.monotonic() + within_s
    while True:
        try:
            return made()
        except (OSError, ValueError) as error:
            if time.monotonic() >= ends_s:
                report(f"no link with a code can be had: {error}")
                return plain
        time.sleep(LINKS_AGAIN_S)


def up(environ: Mapping[str, str], wishes: Wishes) -> None:
    """Run everything on this machine until a signal asks to stop."""
    settings = load(environ)
    if settings.auth.jwks_url is not None:
        raise SettingsError(
            "LIVECART_JWKS_URL is set: `up` makes its own tokens; use `livecart serve`"
        )
    hook_of(settings.auth.eligibility)
    raise_open_files_max()
    with _servers(settings) as servers:
        given = settings.auth.secret
        secret = given or own_secret(servers.folder)
        environ = _environ(environ, settings, servers, secret)
        with listen(settings.serve.host, settings.serve.port) as listener:
            base = _base(settings.serve.host, listener.getsockname()[1])
            secret_file = None if given else servers.folder.path / SECRET_NAME
            _Up(load(environ), environ, servers, base, wishes, secret_file).run(listener)


@contextmanager
def _servers(settings: Settings) -> Iterator[EmbeddedServers]:
    """The embedded servers that are not replaced by a setting, none of them started."""
    processes = settings.serve.workers + 1
    connections = processes * settings.pool_connections_max + POSTGRES_CONNECTIONS_SPARE
    servers = EmbeddedServers.open(
        Path(settings.data_dir),
        redis=settings.redis_url is None,
        postgres=settings.database_url is None,
        postgres_settings={"max_connections": str(max(POSTGRES_CONNECTIONS_MIN, connections))},
    )
    try:
        yield servers
    finally:
        servers.close()


def _environ(
    environ: Mapping[str, str], settings: Settings, servers: EmbeddedServers, secret: str
) -> dict[str, str]:
    """Return the environment of our processes; secrets go this way, never as arguments."""
    redis_url = settings.redis_url or (servers.redis.url if servers.redis else "")
    database_url = settings.database_url or (servers.postgres.url if servers.postgres else "")
    return {
        **environ,
        "LIVECART_REDIS_URL": redis_url,
        "LIVECART_GATE_URL": settings.gate_url or redis_url,
        "LIVECART_DATABASE_URL": database_url,
        "LIVECART_SECRET": secret,
        "LIVECART_DATA_KEY": settings.data_key or own_data_key(servers.folder),
    }


def own_secret(folder: DataFolder) -> str:
    """Return the secret of the data folder, made at its first start; only its owner may read it."""
    return _own(folder.path / SECRET_NAME, lambda: secrets.token_urlsafe(48))


def own_data_key(folder: DataFolder) -> str:
    """Return the key that data is sealed with here, made and kept in the same way."""
    return _own(folder.path / DATA_KEY_NAME, new_key)


def _own(path: Path, make: Callable[[], str]) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        _write_private(path, make() + "\n")
    return path.read_text().strip()


def find_secret(settings: Settings) -> str:
    """Return the secret that tokens are signed with here; raises SettingsError."""
    if settings.auth.secret is not None:
        return settings.auth.secret
    path = Path(settings.data_dir) / SECRET_NAME
    try:
        return path.read_text().strip()
    except OSError as error:
        raise SettingsError(
            f"no secret to sign with: set LIVECART_SECRET, or name the folder of an `up` with "
            f"--data-dir ({path}: {error.strerror})"
        ) from error


def _write_private(path: Path, text: str) -> None:
    """Write a file that others may not read, whole or not at all; it belongs to the folder's owner.

    As root the folder may be another user's, who must be able to come back without root.
    """
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        owner = path.parent.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)


def _base(host: str, port: int) -> str:
    """Return `host:port` as a client on this machine writes it."""
    reachable = ANY_ADDRESS.get(host, host)
    return f"[{reachable}]:{port}" if ":" in reachable else f"{reachable}:{port}"


class _Up:
    """One run of `up`."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        servers: EmbeddedServers,
        base: str,
        wishes: Wishes,
        secret_file: Path | None,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._servers = servers
        self._base = base
        self._wishes = wishes
        self._secret_file = secret_file  # None: the secret came from the environment
        self._folder = servers.folder.path
        self._state: dict[str, Any] = {}  # what up.json holds, once all is ready
        self._supervisor = Supervisor(report)
        self._fleet = Fleet(
            self._supervisor,
            self._traces(),
            environ,
            # When we are killed the servers end with us: there is nothing to drain to.
            die_signal=signal.SIGKILL,
            changed=self._write_state,
        )

    def _traces(self) -> Traces:
        run = self._folder / "processes"
        run.mkdir(mode=0o700, exist_ok=True)
        traces = Traces(run / "metrics", run / "ready", self._folder / "logs")
        (self._folder / "logs").mkdir(mode=0o700, exist_ok=True)
        traces.clear()
        return traces

    def run(self, listener: socket.socket) -> None:
        """Start in order, announce, keep alive, stop in the opposite order."""
        started_s = time.monotonic()
        state = self._folder / STATE_NAME
        state.unlink(missing_ok=True)  # of a run that was killed
        # The supervisor gives the signals back as they are now: a Ctrl-C that comes when all is
        # over must not make an orderly end look like a failure.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with self._supervisor as supervisor:
                self._servers.supervise(supervisor, lambda name, pid: self._write_state())
                if not supervisor.start():
                    return
                bring_schema_forward(self._environ["LIVECART_DATABASE_URL"])
                self._fleet.add_keeper()
                self._fleet.add_workers(listener, self._settings.serve)
                if not supervisor.start():
                    return
                self._announce(time.monotonic() - started_s)
                supervisor.run()
        finally:
            state.unlink(missing_ok=True)

    def _announce(self, ready_after_s: float) -> None:
        tokens = banner.Tokens(
            host=self._token("host", "demo-host", "阿寶"),
            viewer=self._token("viewer", "demo-viewer", "小美"),
        )
        demo = demo_data.ensure(self._base, tokens.host) if self._wishes.demo else None
        self._state = banner.state(
            self._base,
            tokens,
            demo,
            redis_url=self._environ["LIVECART_REDIS_URL"],
            gate_url=self._environ["LIVECART_GATE_URL"],
            database_url=self._environ["LIVECART_DATABASE_URL"],
            data_dir=self._folder,
            secret_file=self._secret_file,
        )
        self._write_state()
        if self._wishes.as_json:
            sys.stdout.write(json.dumps(self._state) + "\n")
        else:
            links = self._links(demo)
            sys.stdout.write(
                banner.text(self._base, tokens, links, demo, self._folder, ready_after_s)
            )
        sys.stdout.flush()

    def _links(self, demo: demo_data.Demo | None) -> banner.Links:
        """Return links to both pages; plain ones when none with a code can be had in time."""
        base, page = f"http://{self._base}", "/" if demo is None else f"/s/{demo.stream}"
        plain = banner.Links(host=f"{base}/host", viewer=f"{base}{page}", coded=False)
        return links_or(plain, lambda: self._coded_links(demo))

    def _coded_links(self, demo: demo_data.Demo | None) -> banner.Links:
        """Return such links; a code in place of a token, which stays out of histories."""
        base, secret = f"http://{self._base}", self._environ["LIVECART_SECRET"]
        service = issue(secret, role="service", sub="livecart up", ttl_s=60.0)
        life: dict[str, object] = {"code_ttl_s": LINK_TTL_S, "ttl_s": 86_400}
        host = {"sub": "demo-host", "role": "host", "name": "阿寶", "shop": demo_data.SHOP} | life
        viewer = {"sub": "demo-viewer", "role": "viewer", "name": "小美"} | life
        stream = [] if demo is None else [f"stream={demo.stream}"]
        page = "/" if demo is None else f"/s/{demo.stream}"
        return banner.Links(
            host=link(base, service, "/host", host, stream),
            viewer=link(base, service, page, viewer),
        )

    def _token(self, role: str, sub: str, name: str) -> str:
        return issue(
            self._environ["LIVECART_SECRET"],
            role=role,
            sub=sub,
            shop=demo_data.SHOP if role == "host" else None,
            name=name,
            ttl_s=TOKEN_TTL_S,
        )

    def _write_state(self) -> None:
        """Keep up.json current; a process that is started again has another pid."""
        if not self._state:
            return  # not ready yet
        pids = {"redis": None, "postgres": None} | self._fleet.pids()
        self._state = {**self._state, "pids": pids}
        _write_private(self._folder / STATE_NAME, json.dumps(self._state) + "\n")


# --- serve -----------------------------------------------------------------------------------


def serve(environ: Mapping[str, str]) -> None:
    """Run the workers alone, on servers that are there already, until a signal asks to stop."""
    settings = load(environ)
    demand(settings, "redis", "database", "tokens")
    hook_of(settings.auth.eligibility)
    raise_open_files_max()
    with (
        listen(settings.serve.host, settings.serve.port) as listener,
        tempfile.TemporaryDirectory(prefix="livecart-") as scratch,
        Supervisor(report) as supervisor,
    ):
        # Output goes where ours goes: that is where a container's is looked for.
        traces = Traces(Path(scratch) / "metrics", Path(scratch) / "ready", logs=None)
        traces.clear()
        fleet = Fleet(supervisor, traces, environ, die_signal=signal.SIGTERM)
        fleet.add_workers(listener, settings.serve)
        if supervisor.start():
            report(f"serves on http://{_base(settings.serve.host, listener.getsockname()[1])}")
            supervisor.run()
