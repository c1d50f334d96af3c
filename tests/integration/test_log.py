"""The event log on a real Redis: numbers, recovery, facts and epochs."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import msgspec
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streams.calls import command
from streams.codes import Code
from streams.log import EventLog, Logged, LogLimits, chat_line, removal_line, tag_of
from streams.ports import Fact, Refused
from streams.protocol import ChatRemoved, Chatted, Main, Message, OfferClosed, Since


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url, socket_timeout=1, retry=Retry(NoBackoff(), 0))
    yield client
    await client.aclose()


@pytest.fixture
def stream() -> str:
    return f"st_{secrets.token_hex(8)}"


def facts(first: int, last: int) -> list[Fact]:
    return [Fact(n=n, event=OfferClosed(at=n, offer=f"of_{n}")) for n in range(first, last + 1)]


def message(text: str) -> Message:
    return Message(id=f"msg_{secrets.token_hex(4)}", user="u", name="u", text=text, at=1)


def told(entries: list[Logged] | None) -> list[tuple[int, str]]:
    """Return seq and offer of main entries."""
    assert entries is not None
    events = [entry.event for entry in entries]
    return [(event.seq, event.offer) for event in events if isinstance(event, OfferClosed)]


async def forget_run(redis: Redis, stream: str) -> None:
    """Make the log look as if it had been written under another run of the server."""
    await command(redis, "HSET", f"{tag_of(stream)}:{stream}:meta", "run", "0" * 40)


async def test_facts_are_numbered_from_one(redis: Redis, stream: str) -> None:
    """Facts get seq 1, 2, … in order, whatever n they begin with."""
    log = EventLog(redis)
    start = (await log.position(stream)).since()
    assert await log.append_facts(stream, facts(7, 9)) == 9
    entries = await log.since(stream, start)
    assert told(entries) == [(1, "of_7"), (2, "of_8"), (3, "of_9")]


async def test_facts_published_by_many_appear_once_and_in_order(redis: Redis, stream: str) -> None:
    """Several publishers that append overlapping runs of facts leave each fact once, in order."""
    log = EventLog(redis)
    start = (await log.position(stream)).since()

    async def publish(step: int) -> None:
        n = 1
        while n <= 60:
            n = await log.append_facts(stream, facts(n, min(60, n + step - 1))) + 1

    await asyncio.gather(*(publish(step) for step in (1, 3, 7, 20)))
    assert told(await log.since(stream, start)) == [(n, f"of_{n}") for n in range(1, 61)]


async def test_a_gap_appends_nothing(redis: Redis, stream: str) -> None:
    """Facts that do not follow the last one are refused, and the last one is returned."""
    log = EventLog(redis)
    await log.append_facts(stream, facts(1, 2))
    assert await log.append_facts(stream, facts(4, 5)) == 2
    assert (await log.position(stream)).seq == 2


async def test_a_settled_snapshot_is_followed_without_a_hole(redis: Redis, stream: str) -> None:
    """After a snapshot with fact 5 was shown, a publisher that comes first with 7 is sent back."""
    log = EventLog(redis)
    epoch = (await log.position(stream)).epoch
    assert (await log.settle(stream, epoch, 5)).base_n == 5
    assert await log.append_facts(stream, facts(7, 7)) == 5
    assert await log.append_facts(stream, facts(6, 7)) == 7


async def test_a_snapshot_behind_the_first_fact_is_recognised(redis: Redis, stream: str) -> None:
    """When the log began with fact 7, a snapshot that ends with 5 is told that 6 is nowhere."""
    log = EventLog(redis)
    epoch = (await log.position(stream)).epoch
    await log.append_facts(stream, facts(7, 7))
    assert (await log.settle(stream, epoch, 5)).base_n == 6


async def test_chat_is_said_once_per_user_and_key(redis: Redis, stream: str) -> None:
    """A line sent again is answered with the message that is in the log, not said twice."""
    log = EventLog(redis)
    first = await log.append_chat(stream, "u", "k1", message("hello"))
    again = await log.append_chat(stream, "u", "k1", message("hello, changed"))
    assert (first.new, again.new) == (True, False)
    assert again.message == first.message
    assert again.cseq == first.cseq == 1


async def test_chat_keys_of_different_users_never_meet(redis: Redis, stream: str) -> None:
    """Users and keys that would read alike when joined are different lines (R5)."""
    log = EventLog(redis)
    assert (await log.append_chat(stream, "a:1", "b", message("x"))).new
    assert (await log.append_chat(stream, "a", "1:b", message("y"))).new


async def test_removal_is_said_once(redis: Redis, stream: str) -> None:
    """Removing a message twice makes one event."""
    log = EventLog(redis)
    said = (await log.append_chat(stream, "u", "k", message("x"))).message.id
    start = (await log.position(stream)).since()
    assert await log.append_chat_removed(stream, said, 5)
    assert await log.append_chat_removed(stream, said, 6)
    entries = await log.since(stream, start)
    assert entries is not None
    assert [entry.event for entry in entries] == [ChatRemoved(at=5, message=said, cseq=2)]


async def test_only_what_the_log_holds_is_removed(redis: Redis, stream: str) -> None:
    """No event is made for a message that was never said, or that was trimmed since."""
    log = EventLog(redis, LogLimits(chat_entries_max=3))
    said = [(await log.append_chat(stream, "u", f"k{n}", message("x"))).message for n in range(5)]
    for unknown in ("msg_none", said[0].id, said[1].id, "c1:u:k4", ""):
        assert not await log.append_chat_removed(stream, unknown, 5)
    assert (await log.position(stream)).cseq == 5
    lines = [removal_line(said[2].id, 5), chat_line("u", "k5", message("y"))]
    assert [line and line.cseq for line in await log.append_lines(stream, lines)] == [6, 7]
    both = [chat_line("u", "k6", message("z")), removal_line("msg_none", 5)]
    assert [line and line.cseq for line in await log.append_lines(stream, both)] == [8, None]
    assert await log.append_chat_removed(stream, said[2].id, 6)  # trimmed, but its removal is held
    assert (await log.position(stream)).cseq == 8
    await forget_run(redis, stream)
    assert not await log.append_chat_removed(stream, said[4].id, 5)


async def test_recovery_is_all_or_nothing(redis: Redis, stream: str) -> None:
    """Once one entry after a position was trimmed, nothing after it is given."""
    log = EventLog(redis, LogLimits(main_entries_max=5))
    epoch = (await log.position(stream)).epoch
    await log.append_facts(stream, facts(1, 8))
    assert await log.since(stream, Since(epoch=epoch, seq=2, cseq=0)) is None
    held = await log.since(stream, Since(epoch=epoch, seq=3, cseq=0))
    assert [seq for seq, _ in told(held)] == [4, 5, 6, 7, 8]


async def test_a_position_beyond_the_head_or_of_another_epoch_is_refused(
    redis: Redis, stream: str
) -> None:
    """`since` that the log never gave out recovers nothing."""
    log = EventLog(redis)
    epoch = (await log.position(stream)).epoch
    assert await log.since(stream, Since(epoch=epoch, seq=1, cseq=0)) is None
    assert await log.since(stream, Since(epoch=epoch, seq=0, cseq=1)) is None
    assert await log.since(stream, Since(epoch="other", seq=0, cseq=0)) is None
    assert await log.since(stream, Since(epoch=epoch, seq=0, cseq=0)) == []


async def test_chat_and_its_keys_share_one_bound(redis: Redis, stream: str) -> None:
    """The map of keys that were said is trimmed with the chat it belongs to."""
    log = EventLog(redis, LogLimits(chat_entries_max=3))
    for n in range(8):
        await log.append_chat(stream, "u", f"k{n}", message("x"))
    tag = tag_of(stream)
    assert await command(redis, "XLEN", f"{tag}:{stream}:chat") == 3
    assert await command(redis, "HLEN", f"{tag}:{stream}:said") == 6  # its key and its id
    assert not (await log.append_chat(stream, "u", "k7", message("x"))).new


async def test_recent_leads_up_to_the_position(redis: Redis, stream: str) -> None:
    """The newest entries come oldest first and end at the position read with them."""
    log = EventLog(redis)
    await log.append_facts(stream, facts(1, 5))
    await log.append_chat(stream, "u", "k", message("x"))
    position, entries = await log.recent(stream, 2, 10_000)
    assert (position.seq, position.cseq, position.fact_n) == (5, 1, 5)
    numbers = [e.event.seq if isinstance(e.event, Main) else 0 for e in entries]
    assert numbers == [4, 5, 0]
    assert isinstance(entries[2].event, Chatted)
    assert entries[2].event.cseq == 1


async def test_recent_ends_at_its_bounds(redis: Redis, stream: str) -> None:
    """However much the log holds, no more is read than so many entries and bytes, the newest."""
    log = EventLog(redis)
    for start in range(1, 1_001, 500):
        await log.append_facts(stream, facts(start, start + 499))
    _, whole = await log.recent(stream, 5_000, 2**30)
    assert [e.event.seq for e in whole if isinstance(e.event, Main)] == list(range(1, 1_001))
    for entries_max, bytes_max, held in (
        (700, 2**30, 700),
        (5_000, sum(entry.size for entry in whole[-450:]), 450),
        (5_000, sum(entry.size for entry in whole[-450:]) - 1, 449),
        (5_000, 0, 0),
    ):
        _, entries = await log.recent(stream, entries_max, bytes_max)
        assert entries == whole[len(whole) - held :]


@pytest.mark.parametrize("loss", ["another run", "flush"])
async def test_a_lost_log_begins_a_new_epoch(redis: Redis, stream: str, loss: str) -> None:
    """After a restart or a loss of memory the next script begins a new epoch by itself (R2, R9)."""
    log = EventLog(redis)
    await log.append_facts(stream, facts(1, 3))
    before = await log.position(stream)
    if loss == "flush":
        await command(redis, "DEL", f"{tag_of(stream)}:{stream}:meta")
    else:
        await forget_run(redis, stream)
    assert await log.append_facts(stream, facts(4, 4)) == 4
    after = await log.position(stream)
    assert after.epoch != before.epoch
    assert (after.seq, after.fact_n, after.base_n) == (1, 4, 3)
    assert await log.since(stream, before.since()) is None


async def test_only_the_doubted_epoch_is_ended(redis: Redis, stream: str) -> None:
    """Two hubs that doubt the same epoch begin one new epoch, not two."""
    log = EventLog(redis)
    doubted = (await log.position(stream)).epoch
    first = await log.begin(stream, doubted)
    second = await log.begin(stream, doubted)
    assert first.epoch == second.epoch != doubted


async def test_facts_must_be_contiguous(redis: Redis, stream: str) -> None:
    """A list of facts with a hole in it is a fault of the caller."""
    with pytest.raises(ValueError, match="contiguous"):
        await EventLog(redis).append_facts(stream, [*facts(1, 1), *facts(3, 3)])


async def test_a_cancelled_caller_does_not_cancel_the_append(redis: Redis, stream: str) -> None:
    """A caller that is cancelled leaves neither half a reply nor a lost append behind."""
    log = EventLog(redis)
    await log.position(stream)
    for n in range(1, 21):
        task = asyncio.create_task(log.append_facts(stream, facts(n, n)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await log.append_facts(stream, facts(n, n)) == n
    assert (await log.position(stream)).seq == 20


async def test_an_absent_redis_is_retry() -> None:
    """What Redis does not answer becomes `Refused(RETRY)`."""
    client = Redis.from_url("unix:///nonexistent/redis.sock", retry=Retry(NoBackoff(), 0))
    with pytest.raises(Refused) as caught:
        await EventLog(client).position("st_x")
    assert caught.value.code is Code.RETRY
    await client.aclose()


async def test_an_entry_of_a_newer_release_counts_as_lost(redis: Redis, stream: str) -> None:
    """An event that this release cannot read is not skipped in silence."""
    log = EventLog(redis)
    position = await log.position(stream)
    payload = msgspec.msgpack.encode({"type": "from.the.future", "at": 1})
    await command(redis, "XADD", f"{tag_of(stream)}:{stream}:main", "1-0", "n", 1, "d", payload)
    await command(redis, "HSET", f"{tag_of(stream)}:{stream}:meta", "seq", 1)
    assert await log.since(stream, position.since()) is None
