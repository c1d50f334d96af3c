"""Who is there, and how often each may speak: over several hubs on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from streams.counts import USERS_PER_CALL_MAX, Counts
from tests.hub_rig import QUICK, Screen, Stage, Truth, connect_redis, open_stage, until


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(redis_url, Truth(fact_n=0)) as stage:
        yield stage


async def says(screen: Screen, key: str) -> int:
    """Have somebody speak; return how long he is told to wait, 0 when he was heard."""
    answer = await screen.answer(screen.say("chat", text="hi", key=key))
    if answer["type"] == "ok":
        return 0
    assert answer["code"] == "rate_limited", answer
    wait_ms: int = answer["retry_after_ms"]
    return wait_ms


async def test_slow_mode_holds_on_every_hub(stage: Stage, redis_url: str) -> None:
    """Each user speaks once in so many seconds, hosts as they like; 0 ends it."""
    async with open_stage(redis_url, stage.truth) as other:
        ann, host = await stage.enter("viewer/ann"), await stage.enter("host/shop")
        bob = await other.enter("viewer/bob")
        assert [await says(ann, f"a{n}") for n in range(3)] == [0, 0, 0]
        stage.truth.chat_every_s = 60
        stage.hub.slow(stage.truth.stream_id, 60)
        room = other.hub.rooms[stage.truth.stream_id]
        await until(lambda: room.chat_turns is not None, "the word")
        for screen in (ann, bob):
            assert await says(screen, "b1") == 0
            assert 55_000 < await says(screen, "b2") <= 60_000
            assert await says(screen, "b1") == 0  # sent again: no new turn, and nothing said twice
        second = await stage.enter("viewer/ann")
        assert await says(second, "b3") > 0
        assert [await says(host, f"h{n}") for n in range(5)] == [0] * 5
        stage.truth.chat_every_s = None
        stage.hub.slow(stage.truth.stream_id, 0)
        await until(lambda: room.chat_turns is None, "the end")
        assert [await says(s, "c") for s in (ann, bob)] == [0, 0]


async def test_a_hub_that_comes_later_knows_of_slow_mode(stage: Stage) -> None:
    """It is part of the stream that a room is opened with."""
    stage.truth.chat_every_s = 60
    ann = await stage.enter("viewer/ann")
    assert ann.events[0]["stream"]["chat_every_s"] == 60
    assert await says(ann, "a1") == 0
    assert await says(ann, "a2") > 0


async def test_what_was_read_before_the_word_is_not_believed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that was on its way when slow mode began says that there is none."""
    monkeypatch.setattr("streams.snapshots.SHARE", 0)
    ann = await stage.enter("viewer/ann")
    stage.truth.gate = asyncio.Event()
    room = stage.hub.rooms[stage.truth.stream_id]
    room.changed = True
    late = stage.connect()
    late.say("hello")
    reads = stage.truth.reads
    await until(lambda: stage.truth.reads > reads, "the reading")
    stage.hub.slow(stage.truth.stream_id, 60)
    stage.truth.gate.set()
    await late.get("welcome")
    assert await says(ann, "a1") == 0
    assert await says(ann, "a2") > 0


async def test_users_are_counted_once_and_the_peak_is_kept(stage: Stage, redis_url: str) -> None:
    """Connections and users of all hubs; who left is not counted, and the peak stays."""
    stream = stage.truth.stream_id
    async with open_stage(redis_url, stage.truth) as other:
        screens = [
            await hub.enter(f"viewer/v{n}") for n in range(5) for hub in (stage, other, stage)
        ]
        guests = [await other.enter() for _ in range(4)]
        await until(lambda: stage.truth.peak.get(stream) == 19, "the peak")
        users = 0
        async with asyncio.timeout(5):
            while users != 9:
                viewers, users = await stage.hub.counts.audience(stream)
        assert viewers == 19
        for screen in (*screens[3:], *guests):
            screen.abort()
        async with asyncio.timeout(5):
            while (viewers, users) != (3, 1):
                viewers, users = await other.hub.counts.audience(stream)
        assert stage.truth.peak[stream] == 19
    async with asyncio.timeout(5):
        while (await stage.hub.counts.audience(stream)) != (2, 1):
            pass


async def test_a_killed_hub_is_forgotten_with_its_users(stage: Stage, redis_url: str) -> None:
    """Its leases end, within two seconds."""
    stream = stage.truth.stream_id
    await stage.enter("viewer/ann")
    redis = connect_redis(redis_url)
    dead = Counts(redis, "dead", QUICK.presence_lease_ms)
    await dead.present([(stream, 3)])
    await dead.tell_users(stream, ["bob", "eve"])
    async with asyncio.timeout(2):
        while (await stage.hub.counts.audience(stream)) != (4, 3):
            pass
        while (await stage.hub.counts.audience(stream)) != (1, 1):
            pass
    await dead.close()
    await redis.aclose()


async def test_more_users_than_one_call_holds(redis_url: str) -> None:
    """They are told in parts, and the estimate is within two percent."""
    redis = connect_redis(redis_url)
    counts = Counts(redis, "h1", 60_000)
    users = [f"user-{n}" for n in range(USERS_PER_CALL_MAX * 2 + 500)]
    await counts.present([("st_many", len(users))])
    await counts.tell_users("st_many", users)
    viewers, estimate = await counts.audience("st_many")
    assert viewers == len(users)
    assert abs(estimate - len(users)) < 0.02 * len(users)
    assert await counts.audience("st_none") == (0, 0)
    await counts.close()
    await redis.aclose()
