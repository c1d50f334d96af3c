"""The clock of Redis on a real Redis."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streams.calls import command
from streams.clock import RedisClock
from tests.hub_rig import connect_redis


async def test_the_wall_clock_decides_nothing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With this machine's clock an hour off, `now_ms` is still Redis TIME (R8)."""
    client = connect_redis(redis_url)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    clock = RedisClock(client)
    await clock.start()
    reply = await command(client, "TIME")
    assert isinstance(reply, (list, tuple))
    assert abs(clock.now_ms() - int(str(reply[0])) * 1000) < 5_000
    await clock.stop()
    await client.aclose()


async def test_readings_do_not_step_back(redis_url: str) -> None:
    """Refreshing against the same server never turns the time back."""
    client = connect_redis(redis_url)
    clock = RedisClock(client)
    await clock.start()
    last = clock.now_ms()
    for _ in range(200):
        await clock.refresh()
        assert clock.now_ms() >= last
        last = clock.now_ms()
    await clock.stop()
    await client.aclose()


async def test_start_waits_for_redis() -> None:
    """Before the first reading there is no time; asking for it is a fault."""
    client = Redis.from_url("unix:///nonexistent/redis.sock", retry=Retry(NoBackoff(), 0))
    clock = RedisClock(client)
    starting = asyncio.create_task(clock.start())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="not started"):
        clock.now_ms()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await clock.stop()
    await client.aclose()
