"""How `streams` calls Redis: scripts by their digest, no retries, nothing left half read.

Owns the rule that a caller's cancellation never reaches a command under way: a cancelled command
would leave its reply for the next user of the connection. What Redis refuses or does not answer in
time becomes `Refused(RETRY)`. Knows no key. Used by log, tail, bus, presence and clock.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import TypeVar, cast

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from streams.codes import Code
from streams.ports import Refused

#: What a Redis that is away, hanging, loading or full raises.
AWAY = (RedisError, OSError, TimeoutError)

T = TypeVar("T")
Arg = str | bytes | int
Reply = int | bytes | list["Reply"] | None


async def command(redis: Redis, *args: Arg) -> Reply:
    """Send one command and return its reply; the only line that sees redis-py's untyped call."""
    return cast("Reply", await redis.execute_command(*args))  # type: ignore[no-untyped-call]


class Script:
    """One Lua file, `epoch.lua` before it, called by digest and loaded when Redis lacks it."""

    def __init__(self, name: str, *, prelude: bool = True) -> None:
        folder = files("streams") / "lua"
        head = (folder / "epoch.lua").read_text("utf-8") if prelude else ""
        self.name = name
        self._text = head + (folder / f"{name}.lua").read_text("utf-8")
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, redis: Redis, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
        """Call the script; raise what redis-py raises."""
        try:
            return await command(redis, "EVALSHA", self._sha, len(keys), *keys, *args)
        except NoScriptError:
            return await command(redis, "EVAL", self._text, len(keys), *keys, *args)


class Caller:
    """Runs commands so that each is read to its end, or its connection is closed."""

    def __init__(self, redis: Redis, timeout_s: float) -> None:
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


def sibling(redis: Redis, *, socket_timeout_s: float, connections_max: int) -> Redis:
    """Return a client of the same server with its own pool and read timeout, and no retries."""
    pool = redis.connection_pool
    settings = dict(pool.connection_kwargs)
    settings["retry"] = Retry(NoBackoff(), 0)
    settings["socket_timeout"] = socket_timeout_s
    settings["decode_responses"] = False
    return Redis(
        connection_pool=ConnectionPool(
            connection_class=pool.connection_class, max_connections=connections_max, **settings
        )
    )
