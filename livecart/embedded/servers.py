"""Both embedded servers on one data folder, put together.

Owns: the order of the parts: folder, identity, servers, supervision. Called by `livecart up`,
`livecart demo` and, through `running`, by the fixtures of the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from livecart.embedded import postgres as pg
from livecart.embedded import valkey as vk
from livecart.embedded.binaries import PostgresBinaries, RedisBinaries, find_postgres, find_redis
from livecart.embedded.child import SELF, Identity
from livecart.embedded.folder import LOCK_WAIT_S, DataFolder
from livecart.embedded.identity import choose_identity
from livecart.embedded.postgres import PostgresServer
from livecart.embedded.supervisor import Supervisor
from livecart.embedded.valkey import ValkeyServer


class EmbeddedServers:
    """The servers that are wanted on one held data folder; either may be None."""

    def __init__(
        self, folder: DataFolder, redis: ValkeyServer | None, postgres: PostgresServer | None
    ) -> None:
        self.folder = folder
        self.redis = redis
        self.postgres = postgres

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        redis: bool = True,
        postgres: bool = True,
        postgres_settings: Mapping[str, str] | None = None,
        prefer_system: bool = False,
        namespace: bool = True,
        wait_s: float = LOCK_WAIT_S,
    ) -> EmbeddedServers:
        """Find the binaries, hold the folder and prepare the wanted servers; starts none."""
        redis_binaries = find_redis(prefer_system=prefer_system) if redis else None
        postgres_binaries = find_postgres(prefer_system=prefer_system) if postgres else None
        folder = DataFolder.open(data_dir, wait_s=wait_s)
        try:
            identity = SELF
            if postgres_binaries is not None:
                identity = choose_identity(
                    folder.path, postgres_binaries.postgres, namespace=namespace
                )
            runtime = folder.runtime_folder(identity)
            valkey = _valkey(folder, runtime, redis_binaries, identity) if redis_binaries else None
            database = None
            if postgres_binaries is not None:
                database = _postgres(
                    folder, runtime, postgres_binaries, identity, postgres_settings
                )
        except BaseException:
            folder.close()
            raise
        return cls(folder, valkey, database)

    def supervise(
        self, supervisor: Supervisor, on_restart: Callable[[str, int], None] | None = None
    ) -> None:
        """Add the servers to `supervisor`, under the names `redis` and `postgres`."""
        if self.redis is not None:
            supervisor.add(
                "redis",
                self.redis.start,
                ready=self.redis.is_ready,
                stop_signal=vk.STOP_SIGNAL,
                stop_timeout_s=vk.STOP_TIMEOUT_S,
                on_restart=on_restart,
                log_path=self.redis.log_path,
            )
        if self.postgres is not None:
            supervisor.add(
                "postgres",
                self.postgres.start,
                ready=self.postgres.is_ready,
                stop_signal=pg.STOP_SIGNAL,
                stop_now_signal=pg.STOP_NOW_SIGNAL,
                stop_timeout_s=pg.STOP_TIMEOUT_S,
                on_restart=on_restart,
                log_path=self.postgres.log_path,
            )

    def close(self) -> None:
        """Give the folder up. Stop the servers first."""
        self.folder.close()


def _valkey(
    folder: DataFolder, runtime: Path, binaries: RedisBinaries, identity: Identity
) -> ValkeyServer:
    server = ValkeyServer(
        folder.own("redis", identity),
        runtime,
        binaries,
        log_path=folder.own("logs", identity) / "redis.log",
        # Valkey has nothing against root: it needs no namespace.
        identity=identity if identity.kind == "user" else SELF,
        pass_fds=(folder.lock_fd,),
    )
    server.prepare()
    return server


def _postgres(
    folder: DataFolder,
    runtime: Path,
    binaries: PostgresBinaries,
    identity: Identity,
    settings: Mapping[str, str] | None,
) -> PostgresServer:
    server = PostgresServer(
        folder.path / "postgres",
        runtime,
        binaries,
        log_path=folder.own("logs", identity) / "postgres.log",
        identity=identity,
        pass_fds=(folder.lock_fd,),
        settings=settings,
    )
    server.prepare()
    return server


@dataclass(frozen=True, slots=True)
class Running:
    """Two servers that answer."""

    redis_url: str
    database_url: str
    redis: ValkeyServer
    postgres: PostgresServer
    supervisor: Supervisor


@contextmanager
def running(
    data_dir: Path,
    *,
    postgres_settings: Mapping[str, str] | None = None,
    prefer_system: bool = False,
    namespace: bool = True,
    wait_s: float = LOCK_WAIT_S,
) -> Iterator[Running]:
    """Run both servers on `data_dir` for the length of the block; from the main thread.

    Nothing watches them meanwhile: call `supervisor.tick()` to have a dead one started again.
    """
    servers = EmbeddedServers.open(
        data_dir,
        postgres_settings=postgres_settings,
        prefer_system=prefer_system,
        namespace=namespace,
        wait_s=wait_s,
    )
    supervisor = Supervisor()
    try:
        servers.supervise(supervisor)
        supervisor.start()
        assert servers.redis is not None
        assert servers.postgres is not None
        yield Running(
            servers.redis.url,
            servers.postgres.url,
            servers.redis,
            servers.postgres,
            supervisor,
        )
    finally:
        supervisor.stop()
        servers.close()
