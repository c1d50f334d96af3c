"""The keeper's process: one leader among any number of them, the others stand by (R10).

Owns the composition of the keeper and who leads. Must never sell. Started by `fleet` as
`python -m livecart.worker --mark FILE`, and by `livecart worker` where servers are external.

The leader holds an advisory lock of Postgres on a connection of its own and is heard of each
second; it is leader no more once that connection is gone, and a standby ends the connection of one
that was not heard of for three. Two at once are harmless: every effect is conditional.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector
from redis.asyncio import Connection as RedisConnection
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from livecart.announce import Announcer, BusTeller
from livecart.app import (
    REDIS_TIMEOUT_S,
    arm_failpoints,
    check_postgres,
    close_pool,
    open_gate_at,
    open_redis,
)
from livecart.catalog.store import Catalog
from livecart.fleet import set_mark
from livecart.hooks.duties import telling
from livecart.serve import loop_factory, start_log
from livecart.settings import Settings, SettingsError, demand, load
from orders.changes import Changes
from orders.deadline import end_if_cancelled
from orders.keeper import Keeper
from orders.ledger.ledger import Ledger
from orders.ledger.pool import open_pool
from orders.rebuild import Rebuilder
from orders.stock.cluster import ClusterClient
from orders.stock.gate import Gate
from streams.bus import Bus
from streams.log import EventLog
from streams.notes import Note

LOCK = 0x6B656570  # any number, the same for every keeper
STANDBY_EVERY_S = 1.0
CALL_TIMEOUT_S = 2.0
if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
_AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

log = logging.getLogger("livecart.worker")


class Deaf:
    """The keeper tells on the bus and hears nothing there (`streams.bus.BusListener`)."""

    def bus_read(self, tag: str, note: Note) -> None:
        """Nothing that hubs tell each other concerns the keeper."""

    def bus_lost(self, tag: str) -> None:
        """Nor does what was missed."""


@asynccontextmanager
async def composed(settings: Settings) -> AsyncIterator[Keeper]:
    """A keeper with everything it needs, its first connection made."""
    demand(settings, "redis", "database")
    assert settings.redis_url is not None
    assert settings.database_url is not None
    async with AsyncExitStack() as stack:
        pool = await open_pool(settings.database_url, settings.pool_connections_max)
        stack.push_async_callback(close_pool, pool)
        await check_postgres(pool)
        ledger = Ledger(pool)
        events, bus = EventLog(_absent(), settings.log), Bus(_absent())
        gate = Gate(_absent(), settings.selling.unwritten_offer_max)
        apart = settings.gate_at != settings.redis_url

        def take_gate(redis: Redis | ClusterClient) -> None:
            gate.client = redis

        def take(redis: Redis | ClusterClient) -> None:
            events.caller.redis = bus.caller.redis = redis
            if not apart:
                take_gate(redis)

        await _meet("Redis", partial(open_redis, settings), take, stack)
        if apart:
            opening = partial(open_gate_at, settings, REDIS_TIMEOUT_S)
            await _meet("the gate's Redis", opening, take_gate, stack)
        bus.start(Deaf())
        stack.push_async_callback(bus.close)
        announcer = Announcer(ledger, Catalog(ledger), events)
        announcer.attach(BusTeller(bus))
        stack.push_async_callback(announcer.close)
        rebuilder = Rebuilder(gate, ledger)
        stack.push_async_callback(rebuilder.close)
        changes = Changes(ledger, rebuilder, announcer)
        stack.push_async_callback(changes.close)
        yield Keeper(ledger, gate, changes, rebuilder, announcer, settings.keeper)


async def _meet(
    name: str,
    opening: Callable[[], Awaitable[Redis | ClusterClient]],
    take: Callable[[Redis | ClusterClient], None],
    stack: AsyncExitStack,
) -> None:
    """Have the client of a Redis taken now, or as soon as anything answers there.

    Its absence must not keep the keeper from what needs Postgres alone; until then all that it is
    asked fails as it does while a Redis is away.
    """
    found: list[Redis | ClusterClient] = []
    waited = False

    async def find() -> None:
        while True:
            try:
                found.append(await opening())
            except (RedisError, OSError) as error:
                log.warning("the keeper waits for %s: %s", name, error)
                await asyncio.sleep(STANDBY_EVERY_S)
            except SettingsError as error:
                if waited:  # it has answered at last, and is not what the setting says
                    log.critical("livecart: %s", error)
                    signal.raise_signal(signal.SIGTERM)
                raise
            else:
                take(found[0])
                return

    async def end() -> None:
        finding.cancel()
        await asyncio.wait({finding})
        for client in found:
            await client.aclose()

    finding = asyncio.create_task(find())
    stack.push_async_callback(end)
    await asyncio.wait({finding}, timeout=CALL_TIMEOUT_S)
    waited = True
    if finding.done():
        finding.result()  # a URL that cannot be read ends the process


class _Nowhere(ConnectionPool):
    """Connections to a server that nobody has met."""

    async def get_connection(self, *_: Any, **__: Any) -> RedisConnection:
        """Fail as a lost connection does."""
        raise RedisConnectionError("it has not answered yet")


def _absent() -> Redis:
    """Return a client of such a server."""
    return Redis.from_pool(_Nowhere())


Work = Callable[[], Coroutine[None, None, None]]


async def lead(database_url: str, work: Work, standing: Callable[[], None]) -> None:
    """Do `work` whenever we are the leader, until cancelled; stand by in between.

    `standing` is called each time that our place is known: leader, or next in line.
    """
    while True:
        end_if_cancelled()
        try:
            connection = await asyncpg.connect(database_url, timeout=CALL_TIMEOUT_S)
            try:
                await _wait_for_lead(connection, standing)
                await _work_while(connection, work)
            finally:
                connection.terminate()
        except _AWAY as error:
            log.warning("the keeper waits: %s", str(error) or type(error).__name__)
        await asyncio.sleep(STANDBY_EVERY_S)


async def _wait_for_lead(connection: Connection, standing: Callable[[], None]) -> None:
    """Return once this connection leads; a leader that has not been heard of is ended (R10)."""
    while not await _leads(connection):
        end_if_cancelled()
        standing()
        await asyncio.sleep(STANDBY_EVERY_S)
    standing()
    log.info("keeper %d leads", os.getpid())


async def _leads(connection: Connection) -> bool:
    """Ask for the lead, or keep it by being heard of."""
    return bool(await connection.fetchval("select keep_lead($1)", LOCK, timeout=CALL_TIMEOUT_S))


async def _work_while(connection: Connection, work: Work) -> None:
    """Work until the lead is lost; raises what the connection, or the work, failed with."""
    working = asyncio.create_task(work())
    try:
        while not working.done():
            await asyncio.wait({working}, timeout=STANDBY_EVERY_S)
            end_if_cancelled()
            if not await _leads(connection):
                return
        await working
    finally:
        working.cancel()
        await asyncio.wait({working})


async def run(settings: Settings, mark: Path | None) -> None:
    """Keep until SIGTERM or SIGINT."""
    demand(settings, "redis", "database")
    assert settings.database_url is not None

    async def work() -> None:
        async with (
            composed(settings) as keeper,
            telling(settings) as hooks,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(hooks.run())
            group.create_task(keeper.run())

    def standing() -> None:
        if mark is not None:
            set_mark(mark)

    leading = asyncio.create_task(lead(settings.database_url, work, standing))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leading.cancel)
    await asyncio.wait({leading})
    if not leading.cancelled():
        leading.result()  # a fault: let it be seen


def serve_metrics(host: str, port: int) -> None:
    """Serve the keeper's figures to Prometheus, in a thread of the client library."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    start_http_server(port, host, registry)


def keep(environ: Mapping[str, str], mark: Path | None = None) -> None:
    """Run the keeper's process; raises SettingsError before anything starts."""
    settings = load(environ)
    demand(settings, "redis", "database")
    start_log(settings.serve.log_level)
    arm_failpoints(settings)
    if settings.serve.metrics_port:
        serve_metrics(settings.serve.host, settings.serve.metrics_port)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run(settings, mark))


def main() -> None:
    """Run the keeper; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="livecart.worker")
    parser.add_argument("--mark", type=Path)
    options = parser.parse_args()
    try:
        keep(os.environ, options.mark)
    except SettingsError as error:
        sys.exit(f"livecart: {error}")


if __name__ == "__main__":
    main()
