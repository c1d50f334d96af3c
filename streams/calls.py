"""How `streams` calls Redis: scripts by their digest, no retries, nothing left half read.

Owns the rule that a caller's cancellation never reaches a command under way: a cancelled command
would leave its reply for the next user of the connection. What Redis refuses or does not answer in
time becomes `Refused(RETRY)`. Owns, too, all that is different where Redis is a cluster: which
server has a key, and a client of that server alone. Knows no key. Used by log, tail, bus, counts
and clock.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any, Protocol, TypeVar, cast

from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from streams.codes import Code
from streams.ports import Refused

#: What a Redis that is away, hanging, loading or full raises.
AWAY = (RedisError, OSError, TimeoutError)

CALL_TIMEOUT_S = 1.0

T = TypeVar("T")
Arg = str | bytes | int
Reply = int | bytes | list["Reply"] | None

logger = logging.getLogger("streams.calls")


class Cluster(Protocol):
    """The client of a Redis Cluster, as livecart makes it; sends a command once, no retries."""

    async def execute_command(self, *args: Any) -> Any:
        """Send a command to the server that has its key: EVAL's fourth, any other's second word."""

    def server_of(self, key: str) -> str:
        """Return the name of the server that has a key, "" while none is known to."""

    def connecting(self, server: str) -> tuple[type[Connection], dict[str, Any]]:
        """Return what a connection to a server is made of."""


Client = Redis | Cluster


async def command(redis: Client, *args: Arg) -> Reply:
    """Send one command and return its reply."""
    return cast("Reply", await redis.execute_command(*args))


def share_of(redis: Client, tag: str) -> str:
    """Return the same for tags that share a fate: all that are on one server.

    On a cluster each is by itself: its slot may be lost, or on its way, while others are served.
    """
    return "" if isinstance(redis, Redis) else tag


def server_of(redis: Client, key: str) -> str:
    """Return the name of the server that has a key; raise what is in `AWAY` if none is known to."""
    if isinstance(redis, Redis):
        return "the only one"
    if server := redis.server_of(key):
        return server
    raise RedisConnectionError(f"no server is known to have {key}")


class Script:
    """One Lua file, `epoch.lua` before it, called by digest and loaded when Redis lacks it."""

    def __init__(self, name: str, *, prelude: bool = True) -> None:
        folder = files("streams") / "lua"
        head = (folder / "epoch.lua").read_text("utf-8") if prelude else ""
        self.name = name
        self._text = head + (folder / f"{name}.lua").read_text("utf-8")
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, redis: Client, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
        """Call the script; raise what redis-py raises."""
        try:
            return await command(redis, "EVALSHA", self._sha, len(keys), *keys, *args)
        except NoScriptError:
            return await command(redis, "EVAL", self._text, len(keys), *keys, *args)


class Caller:
    """Runs commands so that each is read to its end, or its connection is closed."""

    def __init__(self, redis: Client, timeout_s: float) -> None:
        self.redis = redis
        self._timeout_s = timeout_s
        self._under_way: set[asyncio.Task[object]] = set()

    async def script(self, script: Script, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
        """Run a script; raise `Refused(RETRY)` when Redis is away."""
        return await self.call(lambda: script.run(self.redis, keys, args))

    async def call(self, run: Callable[[], Awaitable[T]]) -> T:
        """Run a command that a cancelled caller does not cancel."""
        task = asyncio.ensure_future(self._bounded(run))
        self._under_way.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for what is under way, whose callers may have gone; each ends within the timeout."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _bounded(self, run: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await run()
        except AWAY as error:
            raise Refused(Code.RETRY) from error

    def _done(self, task: asyncio.Task[object]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: the caller may have gone


def lone(redis: Client, server: str, *, socket_timeout_s: float) -> Redis:
    """Return a client of one server with a connection and read timeout of its own, no retries.

    `server`: as `server_of` names it; raises what is in `AWAY` when it is gone.
    """
    if isinstance(redis, Redis):
        pool = redis.connection_pool
        kind, settings = pool.connection_class, dict(pool.connection_kwargs)
    else:
        kind, settings = redis.connecting(server)
    settings["retry"] = Retry(NoBackoff(), 0)
    settings["socket_timeout"] = socket_timeout_s
    settings["decode_responses"] = False
    pool = ConnectionPool(connection_class=kind, max_connections=1, **settings)
    return Redis.from_pool(pool)  # it closes its pool with itself


async def drop(closing: Redis | PubSub) -> None:
    """Close what may be broken already."""
    try:
        await closing.aclose()
    except AWAY as error:
        logger.info("closing a broken connection: %s", error)
