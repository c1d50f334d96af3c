"""The composition root: builds everything of one server process, once.

Owns the order of building and of ending, and the waiting for Redis and Postgres at start-up: the
application serves at once and answers 503 until both are there. Must never decide anything about a
call. `build` is called by `serve` and by tests; `open_redis` and `open_gate_at` by every process.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.applications import Starlette

from livecart.announce import Announcer
from livecart.api import pages
from livecart.api.checkouts import LINK_TTL_S
from livecart.api.table import Application
from livecart.auth import TokenVerifier
from livecart.catalog.store import Catalog
from livecart.commands import Commands
from livecart.comments import ChatClerk, CommentTeller, barred_from, pay_links
from livecart.contacts import Contacts
from livecart.eligibility import Eligibility, Hook, hook_of
from livecart.entrance import Entrance
from livecart.figures import Figures
from livecart.links import Links
from livecart.providers import connected
from livecart.rooms import Rooms
from livecart.services import Services, Site
from livecart.settings import Settings, SettingsError, demand
from orders import failpoints
from orders.changes import Changes
from orders.comments.clerk import Clerk
from orders.ids import Ids
from orders.ledger.hooks import HookLedger
from orders.ledger.ledger import Ledger, transient
from orders.ledger.pool import open_pool, unsafe_settings
from orders.payments.cashier import Cashier
from orders.rebuild import Rebuilder
from orders.sealing import Sealer
from orders.selling import Selling
from orders.stock.cluster import ClusterClient, each_server, open_client
from orders.stock.gate import Gate
from streams.bus import Bus
from streams.clock import RedisClock
from streams.hub import Hub
from streams.log import EventLog
from streams.pace import Pace
from streams.tasks import back_off_s

REDIS_TIMEOUT_S = 0.9  # below the second within which a buy is answered
GATE_TIMEOUT_S = 5.0  # selling's calls: buyers are answered long before
FIRST_TRY_S = 2.0  # how long start-up waits before it serves without its services
END_S = 5.0  # for closing each of the services

T = TypeVar("T")

log = logging.getLogger("livecart.app")


def build(settings: Settings) -> Starlette:
    """Return the application; raise `SettingsError` when something without a default is missing."""
    demand(settings, "redis", "database", "tokens")
    arm_failpoints(settings)
    hook = hook_of(settings.auth.eligibility)
    site = Site(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with contextlib.AsyncExitStack() as stack:
            opening = asyncio.create_task(_fill(site, stack, hook))
            opening.add_done_callback(lambda task: _opened(site, task))
            stack.push_async_callback(_end, opening)
            await asyncio.to_thread(pages.prepare)  # not when the first of a crowd asks for one
            await asyncio.wait({opening}, timeout=FIRST_TRY_S)
            if opening.done():
                opening.result()  # a setting that cannot work ends the process here
            # `hub`: whom `Wire` asks; `selling` and `hub`: what `serve` drains.
            yield {"site": site, "hub": site, "selling": site.selling}

    return Application(lifespan)


def arm_failpoints(settings: Settings) -> None:
    """Have this process do to itself what a test wants done; nothing without such a setting."""
    if settings.failpoints is not None:
        urls = {"redis": settings.redis_url or "", "postgres": settings.database_url or ""}
        failpoints.arm(settings.failpoints, urls)


async def open_redis(
    settings: Settings, timeout_s: float = REDIS_TIMEOUT_S
) -> Redis | ClusterClient:
    """Return a client of what streams are on; raises RedisError or OSError while that is away."""
    return await _open("LIVECART_REDIS_URL", settings.redis_url, settings, timeout_s)


async def open_gate_at(settings: Settings, timeout_s: float) -> Redis | ClusterClient:
    """Return a client of what the gate is on; raises as `open_redis` does."""
    name = "LIVECART_GATE_URL" if settings.gate_url else "LIVECART_REDIS_URL"
    return await _open(name, settings.gate_at, settings, timeout_s)


async def _open(
    name: str, url: str | None, settings: Settings, timeout_s: float
) -> Redis | ClusterClient:
    """Return a client of the server or the cluster that a setting names."""
    assert url is not None
    try:
        return await open_client(url, settings.redis_connections_max, timeout_s)
    except ValueError as error:
        raise SettingsError(f"{name} cannot be read: {error}") from error


async def check_redis(redis: Redis | ClusterClient, name: str = "LIVECART_REDIS_URL") -> None:
    """Raise `SettingsError` when a server might evict what it was told to keep (R14).

    `name`: of the setting. Of a cluster every primary is asked that answers.
    """
    for server, memory in (await each_server(redis, "INFO", "memory")).items():
        policy = str(memory.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction":
            where = f"a server ({server})" if server else "a server"
            raise SettingsError(
                f"{name} names {where} with maxmemory-policy {policy};"
                " it must be noeviction, since evicted holds would be sold again"
            )


async def check_postgres(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Raise `SettingsError` when the server might lose what it committed (I2)."""
    if unsafe := await unsafe_settings(pool):
        pool.terminate()
        raise SettingsError(
            f"LIVECART_DATABASE_URL names a server with {', '.join(unsafe)};"
            " it must be on, since a crash would lose orders that were acknowledged"
        )


async def _fill(site: Site, stack: contextlib.AsyncExitStack, hook: Hook | None) -> None:
    """Build the services as soon as Redis and Postgres answer."""
    settings = site.settings
    assert settings.database_url is not None
    redis = await _redis(site, "Redis", "LIVECART_REDIS_URL", lambda: open_redis(settings))
    stack.push_async_callback(redis.aclose)
    # Selling has connections of its own: a crowd that connects and reads must not keep it waiting.
    # Its calls have their own deadlines towards buyers, so the client's may be long.
    gate_redis = await _redis(
        site,
        "the gate's Redis",
        "LIVECART_GATE_URL",
        lambda: open_gate_at(settings, GATE_TIMEOUT_S),
    )
    stack.push_async_callback(gate_redis.aclose)
    share = max(1, settings.pool_connections_max // 2)
    pool = await _pool(site, settings.database_url, share, ends_abandoned=True)
    stack.push_async_callback(close_pool, pool)
    selling_pool = await _pool(site, settings.database_url, settings.pool_connections_max - share)
    stack.push_async_callback(close_pool, selling_pool)
    clock = RedisClock(redis)
    site.waits_for = "Redis"
    await clock.start()
    stack.push_async_callback(clock.stop)
    screen = Eligibility(settings.auth.ticket_secret, clock.now_ms, hook)
    services = _compose(settings, redis, gate_redis, pool, selling_pool, clock, screen)
    await services.hub.start()
    services.figures.start()
    services.cashier.start()
    services.clerk.start()
    stack.push_async_callback(_end_services, services)
    stack.push_async_callback(site.changes.close)
    site.open(services)
    settle_garbage()


async def _redis(
    site: Site, name: str, setting: str, opening: Callable[[], Awaitable[Redis | ClusterClient]]
) -> Redis | ClusterClient:
    """Return a client, once what it is of answers and keeps what it is told."""

    async def opened() -> Redis | ClusterClient:
        client = await opening()
        try:
            await check_redis(client, setting)
        except BaseException:
            await client.aclose()
            raise
        return client

    return await _answering(site, name, opened)


async def _answering(site: Site, name: str, ask: Callable[[], Awaitable[T]]) -> T:
    """Return what a server says once it answers."""
    attempt = 0
    while True:
        try:
            return await ask()
        except (RedisError, OSError) as error:
            attempt += 1
            site.waits_for = name
            if attempt == 1:
                log.warning("waiting for %s: %s", name, error)
            await asyncio.sleep(back_off_s(attempt))


async def _pool(
    site: Site, url: str, connections_max: int, *, ends_abandoned: bool = False
) -> asyncpg.Pool[asyncpg.Record]:
    """Wait until Postgres answers; what no waiting cures is a `SettingsError`."""
    attempt = 0
    while True:
        try:
            pool = await open_pool(url, connections_max, ends_abandoned=ends_abandoned)
            await check_postgres(pool)
            return pool
        except SettingsError:
            raise
        except Exception as error:
            if not transient(error):
                raise SettingsError(f"LIVECART_DATABASE_URL does not work: {error}") from error
            attempt += 1
            site.waits_for = "Postgres"
            if attempt == 1:
                log.warning("waiting for Postgres: %s", error or type(error).__name__)
            await asyncio.sleep(back_off_s(attempt))


def _compose(
    settings: Settings,
    redis: Redis | ClusterClient,
    gate_redis: Redis | ClusterClient,
    pool: asyncpg.Pool[asyncpg.Record],
    selling_pool: asyncpg.Pool[asyncpg.Record],
    clock: RedisClock,
    screen: Eligibility,
) -> Services:
    """Tie everything together; nothing is asked of Redis or Postgres here."""
    ledger = Ledger(pool)
    selling_ledger = Ledger(selling_pool, acquire_s=GATE_TIMEOUT_S)
    catalog = Catalog(ledger)
    gate = Gate(gate_redis, settings.selling.unwritten_offer_max)
    ids = Ids(clock.now_ms)
    events = EventLog(redis, settings.log)
    announcer = Announcer(ledger, catalog, events)
    rebuilder = Rebuilder(gate, ledger)
    changes = Changes(ledger, rebuilder, announcer)
    selling = Selling(gate, selling_ledger, announcer, ids, settings.selling, rebuilder, screen)
    rooms = Rooms(catalog, ledger)
    verifier = TokenVerifier(settings.auth, clock.now_ms)
    commands = Commands(selling, changes, catalog, ids)
    ear, teller = ChatClerk(), CommentTeller()
    links = Links(settings.auth, clock.now_ms)
    pay_at = pay_links(links, LINK_TTL_S)
    clerk = Clerk(selling, ledger, ids, teller, barred_from(rooms), pay_at)
    ear.attach(clerk)
    bus, pace = Bus(redis), Pace(settings.rates)
    hub = Hub(
        redis=redis,
        log=events,
        bus=bus,
        clock=clock,
        doorkeeper=verifier,
        source=rooms,
        handler=commands,
        limits=settings.hub,
        pace=pace,
        clerk=ear,
    )
    # The circle is closed here: the hub calls the handler, and is told by what the handler does.
    announcer.attach(hub)
    commands.attach(hub)
    sealer = None if settings.data_key is None else Sealer(settings.data_key)
    cashier = Cashier(ledger, changes, selling, ids, connected(settings.payments))
    teller.attach(hub)
    figures = Figures(hub.counts)
    selling.counted = figures.count
    return Services(
        settings=settings,
        redis=redis,
        pool=pool,
        clock=clock,
        ledger=ledger,
        gate=gate,
        ids=ids,
        catalog=catalog,
        announcer=announcer,
        rebuilder=rebuilder,
        changes=changes,
        selling=selling,
        rooms=rooms,
        verifier=verifier,
        events=events,
        bus=bus,
        commands=commands,
        clerk=clerk,
        ear=ear,
        hub=hub,
        figures=figures,
        cashier=cashier,
        links=links,
        entrance=Entrance(settings.auth, redis, clock.now_ms),
        hooks=HookLedger(ledger),
        sealer=sealer,
        contacts=Contacts(cashier.money, sealer),
    )


def settle_garbage() -> None:
    """Take what lives as long as the process out of the collector's sight, and let it run less.

    Ten thousands of sessions and buys in flight are no garbage: with the default thresholds a
    full collection walks them all every few hundred milliseconds, and stops every viewer for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _opened(site: Site, opening: asyncio.Task[None]) -> None:
    """Say why there will be no services; past the first try `/readyz` says it too."""
    if not opening.cancelled() and (error := opening.exception()) is not None:
        site.waits_for = f"somebody to see to this: {error}"
        log.critical("cannot serve: %s", error)


# --- the end ---------------------------------------------------------------------------------


async def _end_services(services: Services) -> None:
    """End in the order in which nothing is left to tell anybody."""
    await services.cashier.close()
    await services.clerk.close()
    services.selling.close()
    await services.selling.wholes.close()
    await services.commands.close()
    await services.changes.close()
    await services.rebuilder.close()
    await services.announcer.close()
    await services.figures.close()
    await services.hub.stop()
    await services.ear.close()


async def close_pool(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Close a pool, in bounded time also when the server is gone."""
    try:
        async with asyncio.timeout(END_S):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def _end(opening: asyncio.Task[None]) -> None:
    """End the waiting for services that never came."""
    opening.cancel()
    await asyncio.wait({opening})
