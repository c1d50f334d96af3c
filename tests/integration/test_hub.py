"""A hub on a real Redis: welcome, order of events, recovery, what hubs tell each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from streams.log import Logged, LogLimits, Position, chat_line
from streams.ports import Fact
from streams.protocol import Bundle, Message, OrderConfirmed, OrderReserved, Since
from streams.tail import Fields
from tests.hub_rig import QUICK, Stage, Truth, an_offer, an_order, closed, open_stage, until


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(redis_url, Truth(fact_n=0)) as stage:
        yield stage


async def publish(stage: Stage, first: int, last: int | None = None) -> None:
    facts = [Fact(n=n, event=closed(n)) for n in range(first, (last or first) + 1)]
    stage.truth.fact_n = facts[-1].n
    await stage.log.append_facts(stage.truth.stream_id, facts)


async def test_a_newcomer_is_shown_the_stream_and_hears_what_follows(stage: Stage) -> None:
    """`welcome` comes first, then each main event once, numbered from there."""
    screen = await stage.enter()
    await publish(stage, 1, 3)
    await screen.get("offer.closed", 3)
    assert [(e["type"], e.get("seq")) for e in screen.events] == [
        ("welcome", 0),
        ("offer.closed", 1),
        ("offer.closed", 2),
        ("offer.closed", 3),
    ]
    assert screen.events[0]["you"]["role"] == "guest"


async def test_both_subprotocols_get_the_same_events(stage: Stage) -> None:
    """A JSON and a MessagePack connection read the same main event."""
    plain, packed = await stage.enter(), await stage.enter(binary=True)
    await publish(stage, 1)
    assert await plain.get("offer.closed") == await packed.get("offer.closed")


async def test_a_crowd_costs_few_readings(stage: Stage) -> None:
    """Hundreds of hellos at once are answered from a handful of readings of the truth."""
    screens = [stage.connect() for _ in range(300)]
    for screen in screens:
        screen.say("hello")
    await asyncio.gather(*(screen.get("welcome") for screen in screens))
    assert stage.truth.reads < 20


async def test_events_while_the_snapshot_is_read_are_neither_lost_nor_repeated(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that comes between position and welcome follows the welcome."""
    monkeypatch.setattr("streams.snapshots.SHARE", 0)  # read again however soon
    first = await stage.enter()
    await publish(stage, 1)
    await first.get("offer.closed")
    stage.truth.gate = asyncio.Event()
    late = stage.connect()
    late.say("hello")
    await until(lambda: stage.truth.reads >= 3, "the reading")
    await publish(stage, 2)
    await first.get("offer.closed", 2)
    stage.truth.gate.set()
    await late.get("offer.closed")
    assert [(e["type"], e["seq"]) for e in late.events] == [("welcome", 1), ("offer.closed", 2)]


async def test_recovery_brings_exactly_what_was_missed(stage: Stage) -> None:
    """A client that comes back with `since` gets every later event once, after welcome."""
    first = await stage.enter("viewer/ann")
    first.say("chat", text="one", key="k1")
    await first.get("chat")
    await publish(stage, 1, 4)
    await first.get("offer.closed", 4)
    epoch = first.events[0]["epoch"]
    back = stage.connect()
    back.say("hello", since={"epoch": epoch, "seq": 2, "cseq": 0})
    await back.get("chat")
    await publish(stage, 5)
    await back.get("offer.closed", 3)
    welcome = back.events[0]
    assert (welcome["type"], welcome["recovered"]) == ("welcome", True)
    assert [e["seq"] for e in back.of("offer.closed")] == [3, 4, 5]
    assert [e["cseq"] for e in back.of("chat")] == [1]


async def test_recovery_reaches_beyond_the_log(redis_url: str) -> None:
    """Main events that Redis has no more are Postgres'; a hole there, or in the chat, is none."""
    limits = msgspec.structs.replace(QUICK, memory_entries_max=3, replay_events_max=30)
    kept = LogLimits(main_entries_max=10, chat_entries_max=10)
    async with open_stage(redis_url, Truth(fact_n=0), limits, kept) as stage:
        first = await stage.enter("viewer/ann")
        epoch = first.events[0]["epoch"]

        async def back(seq: int, cseq: int) -> tuple[bool, list[int], list[int]]:
            screen = stage.connect()
            screen.say("hello", since={"epoch": epoch, "seq": seq, "cseq": cseq})
            welcome = await screen.get("welcome")
            told = [e["seq"] for e in screen.of("offer.closed")]
            screen.abort()
            return welcome["recovered"], told, [e["cseq"] for e in screen.of("chat")]

        await publish(stage, 1, 25)
        stage.truth.written = [Fact(n=n, event=closed(n)) for n in range(1, 26)]
        for n in range(4):
            first.say("chat", text="hi", key=f"k{n}")
        await first.get("chat", 4)
        assert await back(2, 1) == (True, list(range(3, 26)), [2, 3, 4])
        assert await back(0, 4) == (True, list(range(1, 26)), [])
        lost = stage.truth.written.pop(5)
        assert await back(2, 1) == (False, [], [])
        assert await back(6, 1) == (True, list(range(7, 26)), [2, 3, 4])
        stage.truth.written.insert(5, lost)
        for n in range(4, 12):
            first.say("chat", text="hi", key=f"k{n}")
        await first.get("chat", 12)
        assert await back(2, 1) == (False, [], [])  # of the chat the first two lines are gone
        assert await back(2, 2) == (True, list(range(3, 26)), list(range(3, 13)))
        await publish(stage, 26, 40)
        stage.truth.written += [Fact(n=n, event=closed(n)) for n in range(26, 41)]
        await first.get("offer.closed", 40)
        assert await back(2, 2) == (False, [], [])  # more than is read for one viewer
        assert await back(10, 2) == (True, list(range(11, 41)), list(range(3, 13)))
        stage.truth.written = []
        assert await back(30, 2) == (True, list(range(31, 41)), list(range(3, 13)))


async def test_recovery_reaches_beyond_the_hubs_memory(redis_url: str) -> None:
    """What the hub's memory has no more is read from the log; what that has no more, never."""

    limits = msgspec.structs.replace(QUICK, memory_entries_max=3)
    async with open_stage(
        redis_url, Truth(fact_n=0), limits, LogLimits(main_entries_max=10)
    ) as stage:
        first = await stage.enter()
        await publish(stage, 1, 12)
        await first.get("offer.closed", 12)
        epoch = first.events[0]["epoch"]
        for since, recovered in ((4, True), (1, False)):
            back = stage.connect()
            back.say("hello", since={"epoch": epoch, "seq": since, "cseq": 0})
            welcome = await back.get("welcome")
            assert welcome["recovered"] is recovered
            seen = [e["seq"] for e in back.of("offer.closed")]
            assert seen == (list(range(5, 13)) if recovered else [])


async def test_what_is_old_is_in_the_log_alone(redis_url: str) -> None:
    """The hub's memory is freed of it; who comes back is told it all the same."""
    limits = msgspec.structs.replace(QUICK, memory_ms=1)
    async with open_stage(redis_url, Truth(fact_n=0), limits) as stage:
        first = await stage.enter("viewer/ann")
        await publish(stage, 1, 5)
        first.say("chat", text="hi", key="k")
        await first.get("chat")
        room = stage.hub.rooms[stage.truth.stream_id]
        await until(lambda: room.memory_bytes() == 0, "the memory's end")
        epoch = first.events[0]["epoch"]
        back = stage.connect()
        back.say("hello", since={"epoch": epoch, "seq": 2, "cseq": 0})
        assert (await back.get("welcome"))["recovered"] is True
        assert [e["seq"] for e in back.of("offer.closed")] == [3, 4, 5]
        assert [e["cseq"] for e in back.of("chat")] == [1]


async def test_a_crowd_that_comes_back_is_served_from_memory(
    stage: Stage, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever returns within the log's retention costs no reading of it, on whatever hub."""
    position = await stage.log.position(stage.truth.stream_id)
    lines = [
        chat_line("u", f"k{n}", Message(id=f"msg_{n}", user="u", name="u", text="hi", at=1))
        for n in range(1_900)
    ]
    await stage.enter()
    for start in range(0, 1_900, 100):
        await stage.log.append_lines(stage.truth.stream_id, lines[start : start + 100])
    async with open_stage(redis_url, stage.truth) as other:

        async def never(stream_id: str, since: Since) -> None:
            raise AssertionError("the log was read")

        for hub in (stage, other):
            monkeypatch.setattr(hub.log, "since", never)
            screens = [hub.connect() for _ in range(20)]
            for n, screen in enumerate(screens):
                screen.say("hello", since={"epoch": position.epoch, "seq": 0, "cseq": 10 * n})
            for n, screen in enumerate(screens):
                assert (await screen.get("welcome"))["recovered"] is True
                await screen.get("chat", 1_900 - 10 * n)
                numbers = [event["cseq"] for event in screen.of("chat")]
                assert numbers == list(range(10 * n + 1, 1_901))


async def test_another_epoch_is_not_recovered(stage: Stage) -> None:
    """`since` of an epoch that is over brings the snapshot alone."""
    await stage.enter()
    back = stage.connect()
    back.say("hello", since={"epoch": "gone", "seq": 0, "cseq": 0})
    assert (await back.get("welcome"))["recovered"] is False


async def test_a_head_that_is_overtaken_while_it_is_read_is_no_doubt(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that come between the log's answer and the comparison make no hub look anything up."""
    screen = await stage.enter("viewer/ann")
    positions, since = stage.log.positions, stage.log.since
    look_ups = heads = 0

    async def overtaken(tag: str, streams: Sequence[str]) -> tuple[str, list[Position]]:
        nonlocal heads
        answer = await positions(tag, streams)
        heads += 1
        screen.say("chat", text="hi", key=f"k{heads}")
        await screen.get("chat", heads)
        return answer

    async def counted(stream_id: str, position: Since) -> list[Logged] | None:
        nonlocal look_ups
        look_ups += 1
        return await since(stream_id, position)

    monkeypatch.setattr(stage.log, "since", counted)
    monkeypatch.setattr(stage.log, "positions", overtaken)
    await until(lambda: heads > 5, "some heads")
    assert look_ups == 0


async def test_looking_up_ends_however_fast_lines_come(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that comes during each look-up is delivered, once, and starves no `resync`."""
    screen = await stage.enter("viewer/ann")
    since, tail_read = stage.log.since, stage.hub.tail_read
    look_ups = reads = 0

    def counted(tag: str, entries: list[Fields]) -> None:
        nonlocal reads
        tail_read(tag, entries)
        reads += 1

    async def overtaken(stream_id: str, position: Since) -> list[Logged] | None:
        nonlocal look_ups
        answer, before = await since(stream_id, position), reads
        look_ups += 1
        message = Message(id=f"msg_{look_ups}", user="u", name="u", text="hi", at=1)
        await stage.log.append_chat(stream_id, "u", f"k{look_ups}", message)
        await until(lambda: reads > before, "the line")
        return answer

    monkeypatch.setattr(stage.hub, "tail_read", counted)
    monkeypatch.setattr(stage.log, "since", overtaken)
    stage.hub.bus_lost(stage.hub.rooms[stage.truth.stream_id].tag)
    await screen.get("resync")
    for n in range(5):
        screen.say("chat", text="and on", key=f"k{n}")
    await screen.get("chat", 6)
    assert [e["cseq"] for e in screen.of("chat")] == [1, 2, 3, 4, 5, 6]
    assert look_ups == 1


async def test_chat_reaches_everyone_in_one_order(stage: Stage) -> None:
    """All see the same chat in the same order; the sender gets `ok` with the message, too."""
    ann, bob, guest = [await stage.enter(t) for t in ("viewer/ann", "viewer/bob", None)]
    re = ann.say("chat", text="hi", key="a")
    bob.say("chat", text="hello", key="b")
    for screen in (ann, bob, guest):
        await screen.get("chat", 2)
    assert ann.of("chat") == bob.of("chat") == guest.of("chat")
    assert [e["cseq"] for e in ann.of("chat")] == [1, 2]
    answer = await ann.answer(re)
    assert answer["type"] == "ok"
    assert answer["message"] in [e["message"] for e in ann.of("chat")]


async def test_a_repeated_chat_is_said_once(stage: Stage) -> None:
    """The same key again is answered with the first message."""
    ann = await stage.enter("viewer/ann")
    first = await ann.answer(ann.say("chat", text="hi", key="a"))
    again = await ann.answer(ann.say("chat", text="hi again", key="a"))
    assert first["message"] == again["message"]
    ann.say("chat", text="end", key="b")
    await ann.get("chat", 2)
    assert [e["message"]["text"] for e in ann.of("chat")] == ["hi", "end"]


async def test_two_hubs_are_one(stage: Stage, redis_url: str) -> None:
    """Main events, chat, stock, reactions, viewers and own orders cross from hub to hub."""
    stage.truth.offers = [an_offer(stage.truth.stream_id)]
    async with open_stage(redis_url, stage.truth) as other:
        here, there = await stage.enter("viewer/ann"), await other.enter("viewer/ann")
        await publish(stage, 1)
        here.say("chat", text="hi", key="a")
        here.say("react", kind="love", n=3)
        stage.hub.stock(stage.truth.stream_id, "of_1", 7, 9)
        order = OrderReserved(order=an_order(stage.truth.stream_id, "ann"))
        stage.hub.private(stage.truth.stream_id, [("ann", order, None)])
        for screen in (here, there):
            await screen.get("offer.closed")
            await screen.get("chat")
            assert (await screen.get("stock"))["left"] == 7
            assert (await screen.get("reactions"))["counts"] == {"love": 3}
            assert (await screen.get("order.reserved"))["order"]["viewer"] == "ann"
            await until(lambda: any(e["count"] == 2 for e in here.of("viewers")), "viewers")
        assert len(here.of("order.reserved")) == len(there.of("order.reserved")) == 1


async def test_a_stopped_hub_is_no_longer_counted(stage: Stage, redis_url: str) -> None:
    """Viewers of a hub that is gone leave the count."""
    here = await stage.enter()
    async with open_stage(redis_url, stage.truth) as other:
        await other.enter()
        await until(lambda: any(e["count"] == 2 for e in here.of("viewers")), "two")
    await until(lambda: here.of("viewers")[-1]["count"] == 1, "one")


async def test_a_killed_hub_is_no_longer_counted(stage: Stage, redis_url: str) -> None:
    """A hub that says nothing any more loses its leases."""
    here = await stage.enter()
    async with open_stage(redis_url, stage.truth) as other:
        await other.enter()
        await until(lambda: any(e["count"] == 2 for e in here.of("viewers")), "two")
        await other.hub.tasks.close()  # as a kill would: nothing is given back
        await until(lambda: here.of("viewers")[-1]["count"] == 1, "one")


async def test_the_buyers_own_connection_is_left_out(stage: Stage) -> None:
    """A private event goes to the viewer's other connections, and to nobody else."""
    buyer, second, other = [await stage.enter(t) for t in ("viewer/a", "viewer/a", "viewer/b")]
    re = buyer.say("buy", offer="of_1", qty=1, key="k")
    await buyer.answer(re)
    event = OrderReserved(order=an_order(stage.truth.stream_id, "a"))
    caller = next(s for s in stage.hub.sessions if s.socket is buyer)
    stage.hub.private(stage.truth.stream_id, [("a", event, caller)])
    assert "re" not in await second.get("order.reserved")
    assert len(buyer.of("order.reserved")) == 1
    assert other.of("order.reserved") == []


async def test_stock_is_conflated_and_never_goes_back(stage: Stage) -> None:
    """Many changes in a moment are few messages, the last one is the newest version."""
    screen = await stage.enter()
    for version in range(1, 200):
        stage.hub.stock(stage.truth.stream_id, "of_1", 1000 - version, version)
    stage.hub.stock(stage.truth.stream_id, "of_1", 1, 3)
    await until(lambda: any(e["version"] == 199 for e in screen.of("stock")), "the newest")
    versions = [e["version"] for e in screen.of("stock")]
    assert versions == sorted(set(versions))
    assert len(versions) <= 5


async def test_stock_newer_than_the_snapshot_follows_welcome(stage: Stage) -> None:
    """A newcomer with an older snapshot learns at once what is left."""
    stage.truth.offers = [an_offer(stage.truth.stream_id, left=10, version=1)]
    await stage.enter()
    stage.hub.stock(stage.truth.stream_id, "of_1", 4, 5)
    late = await stage.enter()
    assert late.of("welcome")[0]["offers"][0]["version"] == 1
    assert (await late.get("stock"))["left"] == 4


async def test_a_slow_socket_is_spared_stock_and_gets_the_newest_later(stage: Stage) -> None:
    """Conflated values wait while bytes do, and then only the newest is sent."""
    screen = await stage.enter()
    screen.sleep()
    room = stage.hub.rooms[stage.truth.stream_id]
    for version in range(1, 4):
        stage.hub.stock(stage.truth.stream_id, "of_1", 10 - version, version)
        await until(lambda: room.conflated.idle(), "the spreading")
    assert screen.of("stock") == []
    screen.awake()
    assert (await screen.get("stock"))["version"] == 3
    assert len(screen.of("stock")) == 1


async def test_mute_and_ban_take_hold_on_every_hub(stage: Stage, redis_url: str) -> None:
    """A muted user is told and refused, a banned one is closed, on all hubs; a newcomer as well."""
    async with open_stage(redis_url, stage.truth) as other:
        ann, bob = await other.enter("viewer/ann"), await other.enter("viewer/bob")
        stream = stage.truth.stream_id
        await stage.enter("host/shop")
        stage.hub.control(stream, "mute", "ann")
        assert "until" not in await ann.get("muted")
        assert (await ann.answer(ann.say("chat", text="x", key="k")))["code"] == "muted"
        stage.hub.control(stream, "unmute", "ann")
        await ann.get("muted", 2)
        assert (await ann.answer(ann.say("chat", text="x", key="k")))["type"] == "ok"
        stage.hub.control(stream, "ban", "bob")
        assert await bob.closing() == 4403


async def test_room_is_dropped_when_it_stays_empty(redis_url: str) -> None:
    """A room without connections leaves no reader behind."""

    limits = msgspec.structs.replace(QUICK, room_linger_s=0.0)
    async with open_stage(redis_url, Truth(fact_n=0), limits) as stage:
        screen = await stage.enter()
        screen.close(1000)
        await until(lambda: not stage.hub.rooms and not stage.hub.by_tag, "the end of the room")
        again = await stage.enter()
        await publish(stage, 1)
        await again.get("offer.closed")


async def test_a_tag_removed_and_added_in_one_turn_is_heard(stage: Stage, redis_url: str) -> None:
    """A room that is dropped just when somebody comes is opened anew, and hears other hubs."""
    await stage.enter()
    room = stage.hub.rooms[stage.truth.stream_id]
    stage.hub.bus.remove(room.tag)
    await stage.hub.bus.add(room.tag)
    async with open_stage(redis_url, stage.truth) as other:
        screen = await stage.enter()
        other.hub.stock(stage.truth.stream_id, "of_1", 4, 5)
        assert (await screen.get("stock"))["left"] == 4


async def test_orders_said_while_the_snapshot_is_read_come_after_it(stage: Stage) -> None:
    """A private event that a newcomer's snapshot may lack is said after `welcome`."""
    await stage.enter()
    stage.truth.gate = asyncio.Event()
    late = stage.connect()
    late.say("hello", token="viewer/ann")
    room = stage.hub.rooms[stage.truth.stream_id]
    await until(lambda: "ann" in room.users, "attached")
    event = OrderConfirmed(order=an_order(stage.truth.stream_id, "ann", status="confirmed"))
    stage.hub.private(stage.truth.stream_id, [("ann", event, None)])
    stage.truth.gate.set()
    await late.get("order.confirmed")
    assert [e["type"] for e in late.events] == ["welcome", "order.confirmed"]


async def test_a_bundle_answered_while_a_snapshot_is_read_is_said_again(stage: Stage) -> None:
    """The snapshot may be older than the answer: each of its orders follows it once more."""
    ann = await stage.enter("viewer/ann")
    session = next(s for s in stage.hub.sessions if s.socket is ann)
    session.live = False  # as while a resync is read
    orders = [
        an_order(stage.truth.stream_id, "ann", key="a"),
        an_order(stage.truth.stream_id, "ann", key="b", status="confirmed"),
    ]
    session.send(Bundle(re=7, bundle="bu_1", orders=orders))
    session.show(b"")
    await ann.get("order.confirmed")
    told = [e for e in ann.events if e["type"] == "bundle" or "order" in e]
    assert [e["type"] for e in told] == ["bundle", "order.reserved", "order.confirmed"]
    assert [e["order"]["key"] for e in told[1:]] == ["a", "b"]


async def test_drain_tells_and_closes_everyone(stage: Stage) -> None:
    """`draining` comes first, then 4503, and newcomers are answered 503."""
    screens = [await stage.enter() for _ in range(20)]
    await stage.hub.drain(0.2)
    assert all(screen.of("draining") for screen in screens)
    assert {screen.closed_with for screen in screens} == {4503}
    assert stage.hub.overloaded()
