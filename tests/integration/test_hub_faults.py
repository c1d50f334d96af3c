"""A hub whose Redis dies, forgets, hangs or drops its connections: nobody is left with a gap."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from livecart.embedded.binaries import find_redis
from streams.calls import command
from streams.log import Logged, tag_of
from streams.ports import Fact, Refused, Standing
from streams.protocol import Order, OrderConfirmed, Since
from tests.hub_rig import (
    Screen,
    Stage,
    Truth,
    an_offer,
    an_order,
    closed,
    connect_redis,
    open_stage,
    until,
)


class Server:
    """A Redis of the test's own, to be killed and stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start, and wait until it answers."""
        self._spawn()
        client = connect_redis(self.url)
        async with asyncio.timeout(10):
            while True:
                try:
                    await command(client, "PING")
                    break
                except (RedisError, OSError):
                    await asyncio.sleep(0.01)
        await client.aclose()

    def _spawn(self) -> None:
        settings = {"port": "0", "save": "", "appendonly": "no", "dir": str(self.folder)}
        settings["unixsocket"] = f"{self.folder}/redis.sock"
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self.process = subprocess.Popen(
            [str(find_redis().server), *arguments], stdout=subprocess.DEVNULL
        )

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a kill is waited for."""
        assert self.process is not None
        self.process.send_signal(number)
        if number is signal.SIGKILL:
            self.process.wait()

    async def tell(self, *args: str) -> None:
        """Run an administrator's command."""
        client = connect_redis(self.url)
        await command(client, *args)
        await client.aclose()


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="lc-redis-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[Server]:
    server = Server(folder)
    await server.start()
    yield server
    server.send(signal.SIGCONT)
    server.send(signal.SIGKILL)


@pytest.fixture
async def stage(server: Server) -> AsyncIterator[Stage]:
    async with open_stage(server.url, Truth(fact_n=0)) as stage:
        yield stage


async def publish(stage: Stage, first: int, last: int) -> None:
    """Append facts as livecart does: until the log has them."""
    stage.truth.fact_n = last
    n = first - 1
    async with asyncio.timeout(10):
        while n < last:
            facts = [Fact(n=k, event=closed(k)) for k in range(n + 1, last + 1)]
            try:
                n = await stage.log.append_facts(stage.truth.stream_id, facts)
            except Refused:
                await asyncio.sleep(0.05)


def position(screen: Screen) -> tuple[str, int]:
    """Return the epoch and seq that a client has come to, by snapshot or event."""
    epoch, seq = "", -1
    for event in screen.events:
        epoch, seq = event.get("epoch", epoch), event.get("seq", seq)
    return epoch, seq


async def until_at_head(stage: Stage, screen: Screen) -> None:
    """Wait until a client has come to the head of the log, and check how it came there."""
    head = await stage.log.position(stage.truth.stream_id)
    await until(lambda: position(screen) == (head.epoch, head.seq), str(head))
    check_order(screen)


def check_order(screen: Screen) -> None:
    """Within each epoch main events follow one another from where the snapshot was."""
    seq = -1
    for event in screen.events:
        if event["type"] in ("welcome", "resync"):
            seq = event["seq"]
        elif "seq" in event:
            assert event["seq"] == seq + 1, [e.get("seq") for e in screen.events]
            seq += 1


async def test_a_redis_that_comes_back_empty_means_resync(server: Server, stage: Stage) -> None:
    """Connections outlive a kill -9 of Redis; they get a new epoch and go on from there."""
    screens = [await stage.enter(token) for token in ("viewer/ann", None)]
    await publish(stage, 1, 3)
    await screens[0].get("offer.closed", 3)
    server.send(signal.SIGKILL)
    room = stage.hub.rooms[stage.truth.stream_id]
    await until(lambda: room.away, "the loss to be noticed")
    turned_away = stage.connect()
    answer = await turned_away.answer(turned_away.say("hello"))
    assert (answer["type"], answer["code"]) == ("reject", "retry")
    assert await turned_away.closing() == 4503
    await server.start()
    for screen in screens:
        resync = await screen.get("resync")
        assert resync["epoch"] != screen.events[0]["epoch"]
        assert "you" not in resync
    await publish(stage, 4, 6)
    for screen in screens:
        await until_at_head(stage, screen)


async def test_flushall_means_resync(server: Server, stage: Stage) -> None:
    """A loss of memory that breaks no connection is noticed, too."""
    screen = await stage.enter()
    await publish(stage, 1, 2)
    await screen.get("offer.closed", 2)
    await server.tell("FLUSHALL")
    await screen.get("resync")
    await publish(stage, 3, 4)
    await until_at_head(stage, screen)


async def test_a_fact_that_meets_a_forgetful_log_is_not_lost(server: Server, stage: Stage) -> None:
    """Facts published before anyone noticed the loss reach every viewer by snapshot or event."""
    screen = await stage.enter()
    await publish(stage, 1, 2)
    await screen.get("offer.closed", 2)
    await server.tell("FLUSHALL")
    await publish(stage, 3, 3)
    await screen.get("resync")
    await publish(stage, 4, 5)
    await until_at_head(stage, screen)


async def test_a_source_that_counts_no_facts_still_leaves_no_hole(server: Server) -> None:
    """Without `fact_n` the first fact of a fresh epoch brings a second `resync`."""
    async with open_stage(server.url, Truth()) as stage:
        screen = await stage.enter()
        await stage.log.append_facts(stage.truth.stream_id, [Fact(n=7, event=closed(7))])
        await screen.get("resync")
        await stage.log.append_facts(stage.truth.stream_id, [Fact(n=8, event=closed(8))])
        await until_at_head(stage, screen)


async def test_a_head_behind_what_was_delivered_begins_a_new_epoch(
    server: Server, stage: Stage
) -> None:
    """A log that forgot its last entries, on the same run of the server, is not believed (R9)."""
    screen = await stage.enter()
    await publish(stage, 1, 5)
    await screen.get("offer.closed", 5)
    stream = stage.truth.stream_id
    await server.tell("XTRIM", f"{tag_of(stream)}:{stream}:main", "MAXLEN", "0")
    await server.tell("HSET", f"{tag_of(stream)}:{stream}:meta", "seq", "2", "fact_n", "2")
    await screen.get("resync")
    assert screen.of("resync")[0]["epoch"] != screen.events[0]["epoch"]
    await publish(stage, 6, 7)
    await until_at_head(stage, screen)


async def test_a_hanging_redis_costs_time_only(server: Server, stage: Stage) -> None:
    """A stopped Redis that goes on leaves nobody with a gap, and no new epoch."""
    screen = await stage.enter()
    await publish(stage, 1, 2)
    server.send(signal.SIGSTOP)
    room = stage.hub.rooms[stage.truth.stream_id]
    await until(lambda: room.away, "the loss to be noticed")
    server.send(signal.SIGCONT)
    await publish(stage, 3, 5)
    await until_at_head(stage, screen)
    assert {e["epoch"] for e in screen.events if "epoch" in e} == {screen.events[0]["epoch"]}


async def test_dropped_readers_are_replaced(server: Server, stage: Stage) -> None:
    """When every ordinary connection is cut, what was appended meanwhile still arrives once."""
    screen = await stage.enter()
    await publish(stage, 1, 1)
    await screen.get("offer.closed")
    for n in range(2, 6):
        await server.tell("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await publish(stage, n, n)
    await screen.get("offer.closed", 5)
    check_order(screen)
    assert screen.of("resync") == []


async def test_a_dropped_bus_means_resync_without_repeats(server: Server, stage: Stage) -> None:
    """After the pub/sub connection broke, orders are shown anew; no event comes twice."""
    screen = await stage.enter("viewer/ann")
    await publish(stage, 1, 3)
    await screen.get("offer.closed", 3)
    own = an_order(stage.truth.stream_id, "ann", status="confirmed")
    stage.truth.own["ann"] = [own]
    await server.tell("CLIENT", "KILL", "TYPE", "pubsub")
    resync = await screen.get("resync")
    assert resync["orders"][0]["id"] == own.id
    await publish(stage, 4, 5)
    await screen.get("offer.closed", 5)
    check_order(screen)
    assert [e["seq"] for e in screen.of("offer.closed")] == [1, 2, 3, 4, 5]


async def test_an_order_said_during_resync_is_said_again_after_it(
    server: Server, stage: Stage
) -> None:
    """A private event that the `resync` on its way may lack follows it."""
    screen = await stage.enter("viewer/ann")
    stage.truth.gate = asyncio.Event()
    await server.tell("CLIENT", "KILL", "TYPE", "pubsub")
    room = stage.hub.rooms[stage.truth.stream_id]
    await until(lambda: room.due, "the loss")
    event = OrderConfirmed(order=an_order(stage.truth.stream_id, "ann", status="confirmed"))
    stage.hub.private(stage.truth.stream_id, [("ann", event, None)])
    stage.truth.gate.set()
    await screen.get("order.confirmed")
    assert [e["type"] for e in screen.events if e["type"] != "viewers"][-2:] == [
        "resync",
        "order.confirmed",
    ]


async def test_a_blink_of_the_bus_drops_nothing_that_the_log_holds(stage: Stage) -> None:
    """While the `resync` waits for Postgres, chat and main events go on; it jumps over none."""
    screen = await stage.enter("viewer/ann")
    for n in range(3):
        screen.say("chat", text="hi", key=f"k{n}")
    await screen.get("chat", 3)
    room = stage.hub.rooms[stage.truth.stream_id]
    stage.truth.away = True
    stage.hub.bus_lost(room.tag)
    await until(lambda: room.due, "the loss")
    for n in range(3, 9):
        screen.say("chat", text="hi", key=f"k{n}")
    await publish(stage, 1, 2)
    await screen.get("chat", 9)
    await screen.get("offer.closed", 2)
    assert screen.of("resync") == []
    stage.truth.away = False
    resync = await screen.get("resync")
    screen.say("chat", text="hi", key="k9")
    await publish(stage, 3, 3)
    await screen.get("chat", 10)
    await screen.get("offer.closed", 3)
    assert [e["cseq"] for e in screen.of("chat")] == list(range(1, 11))
    check_order(screen)
    assert (resync["seq"], resync["cseq"]) == (2, 9)
    assert resync["epoch"] == screen.events[0]["epoch"]


async def test_a_resync_has_the_effect_of_all_that_was_sent_before_it(stage: Stage) -> None:
    """State read before a main event is not shown after it: it is read again."""
    screen = await stage.enter("viewer/ann")
    room = stage.hub.rooms[stage.truth.stream_id]
    stage.truth.gate = gate = asyncio.Event()
    stage.hub.bus_lost(room.tag)
    before = stage.truth.reads
    await until(lambda: stage.truth.reads > before, "the reading")
    stage.truth.offers = [an_offer(stage.truth.stream_id, left=1, version=7)]
    await publish(stage, 1, 1)
    await screen.get("offer.closed")
    gate.set()
    resync = await screen.get("resync")
    assert (resync["seq"], resync["offers"][0]["version"]) == (1, 7)
    check_order(screen)


async def test_a_newcomer_is_not_shown_what_was_read_before_a_loss(stage: Stage) -> None:
    """Orders and standing that were read before notes were lost are read again for the welcome."""
    await stage.enter("viewer/ann")
    room = stage.hub.rooms[stage.truth.stream_id]
    room.snapshots._newest = None  # a crowd may share it for a moment; this newcomer must not
    stage.truth.gate = asyncio.Event()
    late, before = stage.connect(), stage.truth.reads
    late.say("hello", token="viewer/bob")
    await until(lambda: stage.truth.reads > before, "the reading")
    life = room.life
    stage.hub.control(stage.truth.stream_id, "unmute", "bob")  # heard, and then:
    stage.truth.own["bob"] = [an_order(stage.truth.stream_id, "bob")]
    stage.truth.standings["bob"] = Standing(muted_until_ms=2**53 - 1)
    stage.hub.bus_lost(room.tag)
    await until(lambda: room.life > life, "the loss")
    stage.truth.gate.set()
    welcome = await late.get("welcome")
    assert [order["viewer"] for order in welcome["orders"]] == ["bob"]
    assert (await late.answer(late.say("chat", text="x", key="k")))["code"] == "muted"


async def test_an_absent_truth_delays_resync_only(server: Server, stage: Stage) -> None:
    """While Postgres is away too, viewers wait; then they are shown everything."""
    screen = await stage.enter()
    stage.truth.away = True
    await server.tell("FLUSHALL")
    room = stage.hub.rooms[stage.truth.stream_id]
    await until(lambda: room.due, "the loss")
    stage.truth.away = False
    await screen.get("resync")
    await publish(stage, 1, 1)
    await screen.get("offer.closed")
    check_order(screen)


async def test_a_fault_delays_resync_only(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong while state is read is logged and tried again; nobody is left mute."""
    screen = await stage.enter("viewer/ann")
    orders, faults = stage.truth.orders, [ValueError("a fault"), KeyError("another")]

    async def broken(stream_id: str, viewer: str) -> list[Order]:
        if faults:
            raise faults.pop()
        return await orders(stream_id, viewer)

    monkeypatch.setattr(stage.truth, "orders", broken)
    stage.hub.bus_lost(stage.hub.rooms[stage.truth.stream_id].tag)
    await screen.get("resync")
    await publish(stage, 1, 1)
    await screen.get("offer.closed")
    check_order(screen)
    assert "a fault" in caplog.text


async def test_a_fault_delays_the_looking_up_only(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong while the log is asked is logged and tried again, as an outage is."""
    screen = await stage.enter()
    since, faults = stage.log.since, [ValueError("a fault"), KeyError("another")]

    async def broken(stream_id: str, position: Since) -> list[Logged] | None:
        if faults:
            raise faults.pop()
        return await since(stream_id, position)

    monkeypatch.setattr(stage.log, "since", broken)
    stage.hub.bus_lost(stage.hub.rooms[stage.truth.stream_id].tag)
    await screen.get("resync")
    assert "a fault" in caplog.text


async def test_chat_while_redis_is_away_is_retry(server: Server, stage: Stage) -> None:
    """A line that the log did not take is refused with `retry`; the connection stays."""
    screen = await stage.enter("viewer/ann")
    server.send(signal.SIGKILL)
    answer = await screen.answer(screen.say("chat", text="x", key="k"))
    assert (answer["type"], answer["code"]) == ("reject", "retry")
    assert screen.closed_with is None
    await server.start()
    await screen.get("resync")
    assert (await screen.answer(screen.say("chat", text="x", key="k")))["type"] == "ok"
