"""Slow phones: what waits for them, what gives way, and when they are let go; on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from streams.ports import Fact
from streams.protocol import OrderConfirmed
from tests.hub_rig import (
    QUICK,
    Screen,
    Stage,
    Truth,
    an_order,
    closed,
    open_stage,
    until,
)


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(redis_url, Truth(fact_n=0)) as stage:
        yield stage


async def publish(stage: Stage, n: int) -> None:
    stage.truth.fact_n = n
    await stage.log.append_facts(stage.truth.stream_id, [Fact(n=n, event=closed(n))])


async def say(stage: Stage, who: Screen, count: int, text: str = "hi") -> None:
    """Have chat said, and seen by its sender."""
    before = len(who.of("chat"))
    for n in range(count):
        who.say("chat", text=text, key=f"k{before + n}")
    await who.get("chat", before + count)


async def test_what_matters_comes_first_when_a_phone_wakes_up(stage: Stage) -> None:
    """Offers, orders and answers, then stock, then chat, then counts; none twice, none missing."""
    ann, bob = await stage.enter("viewer/ann"), await stage.enter("viewer/bob")
    stream = stage.truth.stream_id
    bob.sleep()
    seen = len(bob.events)
    await say(stage, ann, 3)
    await publish(stage, 1)
    await ann.get("offer.closed")
    stage.hub.stock(stream, "of_1", 5, 1)
    stage.hub.private(stream, [("bob", OrderConfirmed(order=an_order(stream, "bob")), None)])
    stage.hub.stock(stream, "of_1", 4, 2)
    bob.say("ping", t0=1)
    ann.say("react", kind="like")
    await ann.get("reactions")
    await until(lambda: bool(ann.of("stock")) and ann.of("stock")[-1]["left"] == 4, "the stock")
    assert len(bob.events) == seen
    bob.awake()
    kinds = [event["type"] for event in bob.events[seen:]]
    assert kinds == [
        "offer.closed", "order.confirmed", "pong", "stock", "chat", "chat", "chat", "reactions",
    ]  # fmt: skip
    assert [e["cseq"] for e in bob.of("chat")] == [1, 2, 3]
    assert bob.of("stock")[-1]["version"] == 2
    assert (len(stage.hub.backlogs), stage.hub.backlogs.account.bytes) == (0, 0)
    await publish(stage, 2)
    await bob.get("offer.closed", 2)


async def test_a_phone_that_takes_little_gets_a_portion_at_a_time(stage: Stage) -> None:
    """An offer that comes between two portions goes before the chat that waits still."""
    ann, bob = await stage.enter("viewer/ann"), await stage.enter("viewer/bob")
    bob.sleep()
    await say(stage, ann, 200, "x" * 300)
    assert bob.ear is not None
    bob.ear.drained()  # one portion; the socket is full again
    portion = len(bob.of("chat"))
    assert 0 < portion < 200
    await publish(stage, 1)
    await ann.get("offer.closed")
    assert not bob.of("offer.closed")
    bob.ear.drained()
    assert bob.of("offer.closed")
    assert bob.events.index(bob.of("offer.closed")[0]) < bob.events.index(bob.of("chat")[portion])
    bob.awake()
    assert [e["cseq"] for e in bob.of("chat")] == list(range(1, 201))


async def test_chat_is_shed_and_said_to_be(redis_url: str) -> None:
    """Past the bound chat goes, `chat.skipped` says up to where, and no gap is left."""
    limits = msgspec.structs.replace(QUICK, queue_bytes_max=16_384)
    async with open_stage(redis_url, Truth(fact_n=0), limits) as stage:
        ann, bob = await stage.enter("viewer/ann"), await stage.enter("viewer/bob")
        bob.sleep()
        await say(stage, ann, 100, "x" * 300)
        await publish(stage, 1)
        await ann.get("offer.closed")
        assert bob.closed_with is None
        assert stage.hub.backlogs.account.bytes <= 16_384
        bob.awake()
        assert bob.of("offer.closed")
        position = 0
        for event in bob.events:
            if event["type"] == "chat":
                assert event["cseq"] == position + 1
                position += 1
            elif event["type"] == "chat.skipped":
                assert event["cseq"] > position
                position = event["cseq"]
        assert position == 100
        assert bob.of("chat.skipped")


async def test_a_phone_that_takes_nothing_is_let_go(redis_url: str) -> None:
    """Events that must not be shed end it with 4508 at the bound; it comes back with `since`."""
    limits = msgspec.structs.replace(QUICK, queue_bytes_max=16_384)
    async with open_stage(redis_url, Truth(fact_n=0), limits) as stage:
        ann, bob = await stage.enter("viewer/ann"), await stage.enter("viewer/bob")
        welcome = bob.events[0]
        bob.sleep()
        n = 0
        while bob.closed_with is None:
            n += 1
            await publish(stage, n)
            await ann.get("offer.closed", n)
            assert stage.hub.backlogs.account.bytes <= 16_384
        assert bob.closed_with == 4508
        assert n > 100
        assert (len(stage.hub.backlogs), stage.hub.backlogs.account.bytes) == (0, 0)
        back = stage.connect()
        back.say(
            "hello", token="viewer/bob", since={"epoch": welcome["epoch"], "seq": 0, "cseq": 0}
        )
        await back.get("offer.closed", n)
        assert back.events[0]["recovered"] is True


async def test_a_whole_process_has_a_bound(redis_url: str) -> None:
    """Many sleepers lose their chat before anybody is let go."""
    limits = msgspec.structs.replace(QUICK, queues_bytes_max=50_000)
    async with open_stage(redis_url, Truth(fact_n=0), limits) as stage:
        ann = await stage.enter("viewer/ann")
        sleepers = [await stage.enter() for _ in range(10)]
        for sleeper in sleepers:
            sleeper.sleep()
        await say(stage, ann, 60, "x" * 300)
        assert stage.hub.backlogs.account.bytes <= 50_000
        assert all(sleeper.closed_with is None for sleeper in sleepers)
        for sleeper in sleepers:
            sleeper.awake()
        told = [[e["cseq"] for e in s.events if "cseq" in e][-1] for s in sleepers]
        assert told == [60] * 10


async def test_the_last_words_are_said_to_a_slow_phone_too(stage: Stage) -> None:
    """What waits is written before a close that is not for its slowness."""
    ann, bob = await stage.enter("viewer/ann"), await stage.enter("viewer/bob")
    bob.sleep()
    await say(stage, ann, 2)
    await publish(stage, 1)
    await ann.get("offer.closed")
    stage.hub.control(stage.truth.stream_id, "ban", "bob")
    assert await bob.closing() == 4403
    assert [e["type"] for e in bob.events[-3:]] == ["offer.closed", "chat", "chat"]
    assert len(stage.hub.backlogs) == 0


async def test_a_resync_comes_after_what_waited(stage: Stage) -> None:
    """A sleeper that is shown the truth anew has what was before it first, and nothing after."""
    ann, bob = await stage.enter("viewer/ann"), await stage.enter("viewer/bob")
    bob.sleep()
    bob.waiting = 0  # the socket is full, its buffer is not
    await say(stage, ann, 2)
    await publish(stage, 1)
    await ann.get("offer.closed")
    stage.hub.bus_lost(next(iter(stage.hub.by_tag)))
    resync = await bob.get("resync")
    kinds = [e["type"] for e in bob.events[1:]]
    assert kinds == ["offer.closed", "chat", "chat", "resync"]
    assert (resync["seq"], resync["cseq"]) == (1, 2)
    await publish(stage, 2)
    await ann.get("offer.closed", 2)
    bob.awake()
    assert [e["seq"] for e in bob.of("offer.closed")] == [1, 2]


async def test_snapshots_do_not_pile_up(redis_url: str) -> None:
    """A second one for a phone that has not taken the first ends the connection."""
    limits = msgspec.structs.replace(QUICK, queue_bytes_max=16_384)
    async with open_stage(redis_url, Truth(fact_n=0), limits) as stage:
        bob = await stage.enter("viewer/bob")
        bob.sleep()
        bob.waiting = 20_000
        stage.hub.bus_lost(next(iter(stage.hub.by_tag)))
        assert await bob.closing() == 4508


async def test_who_reads_no_answers_is_held_not_let_go(stage: Stage) -> None:
    """Past 64 KiB of answers a client is not read any more; it goes on when it has taken them."""
    bob = await stage.enter("viewer/bob")
    bob.sleep()
    asked = 0
    while not bob.held:
        asked += 1
        bob.say("ping", t0=asked)
        if asked % 100 == 0:
            await asyncio.sleep(0)
    assert 65_536 < stage.hub.backlogs.account.bytes < 100_000
    assert bob.closed_with is None
    bob.awake()
    await until(lambda: not bob.held, "listening")
    await bob.get("pong", asked)
    assert [e["t0"] for e in bob.of("pong")] == list(range(1, asked + 1))
