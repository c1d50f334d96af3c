"""The streams on a Redis Cluster: each is on a node by its tag, and a node's trouble is its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, suppress
from functools import partial

import msgspec
import pytest
from redis.crc import key_slot

from streams.bus import Bus
from streams.calls import CALL_TIMEOUT_S, lone
from streams.clock import KEYS, RedisClock
from streams.line import Channel, Line
from streams.log import tag_of, tail_key
from streams.notes import Note, SlowNote, channel_of
from streams.ports import Refused
from tests.cluster_rig import Cluster
from tests.hub_rig import QUICK, open_stage, until
from tests.shows_rig import PROMPT_S, Show, Shows, connected, counts_two, stream_on

HANGS_S = 4.0  # longer than leases, time-outs and the bus' pings take to end
#: A hub that waited for one call to end in vain before the next round would lose its leases.
LIMITS = msgspec.structs.replace(QUICK, presence_every_s=0.3, presence_lease_ms=1_000)


@pytest.fixture
async def shows(cluster: Cluster) -> AsyncIterator[list[Show]]:
    """A stream on each node, in their order, watched at two hubs."""
    streams = [stream_on(cluster, node) for node in range(len(cluster.nodes))]
    truth = Shows(last=dict.fromkeys(streams, 0))
    async with AsyncExitStack() as stack:
        hubs = [
            await stack.enter_async_context(open_stage(await connected(cluster), truth, LIMITS))
            for _ in range(2)
        ]
        shows = [Show(hubs, stream, truth) for stream in streams]
        for show in shows:
            await show.open()
        yield shows


async def test_streams_of_all_nodes_reach_the_viewers_of_another_hub(
    shows: list[Show], cluster: Cluster
) -> None:
    """Facts, chat, private orders and stock; each node carries its own streams and no other's."""
    for _ in range(3):
        await asyncio.gather(*(show.says() for show in shows))
    for show, node in zip(shows, cluster.nodes, strict=True):
        await show.caught_up()
        assert show.resyncs() == 0
        await until(partial(counts_two, show), "the count of both hubs")
        assert node.command("EXISTS", tail_key(show.tag))
        assert node.command("PUBSUB SHARDCHANNELS") == [channel_of(show.tag).encode()]
    show = shows[1]
    show.near.hub.control(show.stream_id, "mute", show.stream_id)
    await show.other.get("muted")


@pytest.mark.parametrize("comes_back", ["as it was", "empty", "elsewhere"])
async def test_a_killed_node_stops_its_own_streams_alone(
    shows: list[Show], cluster: Cluster, comes_back: str
) -> None:
    """The others go on at once; its own refuse newcomers and chat until it is back, no longer."""
    lost, others = shows[1], [shows[0], shows[2]]
    await asyncio.gather(*(show.says() for show in shows))
    for show in others:
        await until(partial(counts_two, show), "the count of both hubs")
    cluster.kill(1)
    await asyncio.gather(*(show.says_promptly() for show in others))
    await until(lost.away, "the loss to be noticed")
    for n in range(5):
        lost.near.hub.stock(lost.stream_id, "of_1", 9 - n, 3 + n)  # which waits for its node
        await asyncio.gather(*(show.says_promptly() for show in others))
        assert min([await show.counted() for show in others]) >= 2
        newcomer, refused = await asyncio.gather(
            others[0].newcomer(others[0].far), lost.newcomer(lost.far)
        )
        assert newcomer.of("welcome")
        assert (refused.events[-1]["type"], refused.events[-1]["code"]) == ("reject", "retry")
        answer = await lost.own.answer(lost.own.say("chat", text="x", key="lost"))
        assert (answer["type"], answer["code"]) == ("reject", "retry")
    if comes_back == "elsewhere":
        cluster.move_away(1)
    cluster.nodes[1].start()
    if comes_back == "empty":
        cluster.flush(1)
    for screen in lost.screens:
        resync = await screen.get("resync")
        assert resync["epoch"] != screen.events[0]["epoch"]
    await until(lost.whole, "recovery")
    await lost.says()
    await lost.caught_up()
    for show in others:
        await show.says_promptly()
        await show.caught_up()
        assert show.resyncs() == 0


async def test_a_killed_node_in_the_middle_of_a_flow(shows: list[Show], cluster: Cluster) -> None:
    """Facts under way when a node dies reach every viewer once, in order, by event or snapshot."""
    ended = asyncio.Event()

    async def flow(show: Show) -> None:
        while not ended.is_set():
            await show.append()

    flows = [asyncio.create_task(flow(show)) for show in shows]
    for show in shows:
        await show.other.get("offer.closed", 5)
    cluster.kill(2)
    cluster.nodes[2].start()
    await asyncio.gather(*(screen.get("resync") for screen in shows[2].screens))
    for show in shows:
        await show.other.get("offer.closed", len(show.other.of("offer.closed")) + 5)
    ended.set()
    await asyncio.gather(*flows)
    await until(shows[2].whole, "recovery")
    for show in shows:
        await show.caught_up()
    assert [show.resyncs() for show in shows[:2]] == [0, 0]


async def test_a_node_that_hangs_stops_its_own_streams_alone(
    shows: list[Show], cluster: Cluster
) -> None:
    """It is as good as dead; once it goes on nobody has a gap, and its log is the one it was."""
    lost, others = shows[2], shows[:2]
    await asyncio.gather(*(show.says() for show in shows))
    for show in others:
        await until(partial(counts_two, show), "the count of both hubs")
    cluster.nodes[2].signal(signal.SIGSTOP)
    ends_at = asyncio.get_running_loop().time() + HANGS_S
    while asyncio.get_running_loop().time() < ends_at or not lost.away():
        lost.near.hub.stock(lost.stream_id, "of_1", 9, 2)  # which waits for its node
        await asyncio.gather(*(show.says_promptly() for show in others))
        assert [await show.counted() for show in others] == [2, 2]
    assert (await others[0].newcomer(others[0].far)).of("welcome")
    cluster.nodes[2].signal(signal.SIGCONT)
    cluster.ready()
    await until(lost.whole, "recovery")
    await lost.says()
    for show in shows:
        await show.caught_up()
        assert {event["epoch"] for event in show.other.events if "epoch" in event} == {
            show.other.events[0]["epoch"]
        }
    assert [show.resyncs() for show in others] == [0, 0]


@pytest.mark.parametrize("dead", [True, False], ids=["of a dead node", "handed over"])
async def test_a_replica_takes_streams_over(
    shows: list[Show], cluster: Cluster, dead: bool
) -> None:
    """What it has of a log is not believed: a new epoch begins there, and viewers are resynced."""
    lost, others = shows[1], [shows[0], shows[2]]
    await asyncio.gather(*(show.says() for show in shows))
    replica = cluster.add_replica(1)
    if dead:
        cluster.kill(1)
    else:
        cluster.nodes[replica].command("CLUSTER FAILOVER")
    for screen in lost.screens:
        await screen.get("resync")
    await until(lost.whole, "recovery")
    await lost.says()
    await lost.caught_up()
    assert channel_of(lost.tag).encode() in cluster.nodes[replica].command("PUBSUB SHARDCHANNELS")
    for show in others:
        await show.says_promptly()
        assert show.resyncs() == 0


@pytest.mark.parametrize("with_data", [False, True], ids=["emptied", "migrated"])
async def test_a_stream_whose_slot_moved_goes_on(
    shows: list[Show], cluster: Cluster, with_data: bool
) -> None:
    """Both hubs follow without a restart: no fact is lost, private orders arrive, others go on."""
    moved, stays, other = shows
    beside = stream_on(cluster, 0, moved.tag)  # on the same node
    neighbour = Show(list(moved.hubs), beside, moved._shows)
    moved._shows.last[neighbour.stream_id] = 0
    await neighbour.open()
    everyone = [moved, stays, other, neighbour]
    await asyncio.gather(*(show.says() for show in everyone))
    for target in (2, 0):  # there, and back
        before = [len(screen.of("resync")) for screen in moved.screens]
        (cluster.migrate if with_data else cluster.move)(tail_key(moved.tag), target)
        await asyncio.gather(
            moved.append(), *(show.says_promptly() for show in (stays, other, neighbour))
        )
        for screen, count in zip(moved.screens, before, strict=True):
            await screen.get("resync", count + 1)
        await until(moved.whole, "recovery")
        await moved.says()
        assert channel_of(moved.tag).encode() in cluster.nodes[target].command(
            "PUBSUB SHARDCHANNELS"
        )
    for show in everyone:
        await show.caught_up()
    assert [show.resyncs() for show in (stays, other, neighbour)] == [0, 0, 0]


async def test_a_slot_that_nobody_has_is_waited_for(shows: list[Show], cluster: Cluster) -> None:
    """Its streams are away and no others; once it is somebody's again they go on."""
    lost, others = shows[0], shows[1:]
    await asyncio.gather(*(show.says() for show in shows))
    slot = key_slot(tail_key(lost.tag).encode())
    cluster.nodes[0].command("CLUSTER DELSLOTS", slot)
    await until(lost.away, "the loss to be noticed")
    await asyncio.gather(*(show.says_promptly() for show in others))
    cluster.nodes[0].command("CLUSTER ADDSLOTS", slot)
    await until(lost.whole, "recovery")
    await lost.says()
    for show in shows:
        await show.caught_up()
    assert [show.resyncs() for show in others] == [0, 0]


async def test_every_hub_follows_the_clock_of_one_node(cluster: Cluster) -> None:
    """Each reading is of the node that has the first key; one that starts while it is dead asks on.

    The nodes count how often they told the time: their clocks are the same one here.
    """
    first = cluster.node_of(KEYS[0])
    clients = [await connected(cluster), await connected(cluster)]
    clocks = [RedisClock(client) for client in clients]
    for clock in clocks:
        await clock.start()
        await clock.refresh()

    def told() -> list[int]:
        stats = [node.command("INFO", "commandstats") for node in cluster.nodes]
        return [stat["cmdstat_time"]["calls"] if "cmdstat_time" in stat else 0 for stat in stats]

    assert [n for n, calls in enumerate(told()) if calls] == [first]
    cluster.kill(first)
    clients.append(await connected(cluster, (first + 1) % 3))
    late = RedisClock(clients[-1])
    await asyncio.wait_for(late.start(), 10)
    with pytest.raises(Refused):
        await late.refresh()
    assert abs(late.now_ms() - clocks[0].now_ms()) < 1_000
    cluster.nodes[first].start()

    async with asyncio.timeout(10):
        while not told()[first]:
            with suppress(Refused):
                await late.refresh()
    for clock, client in zip((*clocks, late), clients, strict=True):
        await clock.stop()
        await client.aclose()


async def test_a_hub_may_start_while_a_node_is_dead(shows: list[Show], cluster: Cluster) -> None:
    """Any node that answers shows the way: a new hub serves the streams of the others."""
    cluster.kill(0)
    async with open_stage(await connected(cluster, 1), shows[1]._shows) as stage:
        for show in shows[1:]:
            assert (await show.newcomer(stage)).of("welcome")
        refused = await shows[0].newcomer(stage)
        assert (refused.events[-1]["type"], refused.events[-1]["code"]) == ("reject", "retry")


class Heard:
    """A `bus.BusListener` and `line.LineListener` that remembers."""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.moved: list[str] = []
        self.notes: list[Note] = []
        self.lost: list[str] = []

    def bus_read(self, tag: str, note: Note) -> None:
        """Remember the note."""
        self.notes.append(note)

    def bus_lost(self, tag: str) -> None:
        """Remember the tag."""
        self.lost.append(tag)

    def line_heard(self, name: str, data: bytes) -> None:
        """Remember what was said."""
        self.said.append(data)

    def line_missed(self, name: str) -> None:
        """There is nothing to look up here."""

    def line_moved(self, names: Iterable[str]) -> None:
        """Remember which are elsewhere."""
        self.moved += names


async def test_a_line_asked_for_a_channel_of_another_node(cluster: Cluster) -> None:
    """Its node says MOVED: that channel alone is given up, the others are heard on as they were."""
    client = await connected(cluster)
    here, elsewhere = (channel_of(tag_of(stream_on(cluster, node))) for node in (0, 1))
    heard = Heard()
    line = Line(lone(client, client.server_of(here), socket_timeout_s=CALL_TIMEOUT_S), heard)
    line.wanted = {elsewhere: Channel(), here: Channel()}
    confirmed = line.wanted[here].confirmed
    listening = asyncio.create_task(line.run())
    await asyncio.wait_for(confirmed.wait(), PROMPT_S)
    assert (heard.moved, list(line.wanted)) == ([elsewhere], [here])
    await client.execute_command("SPUBLISH", here, "hi")
    await until(lambda: heard.said == [b"hi"], "the message")
    listening.cancel()
    await asyncio.wait({listening})
    await client.aclose()


async def test_a_bus_finds_its_channels_by_itself(cluster: Cluster) -> None:
    """Nothing else need use its client: after a move it asks, is sent on, and tells of the loss."""
    clients = [await connected(cluster), await connected(cluster)]
    ear, mouth = (Bus(client) for client in clients)
    heard, stream = Heard(), stream_on(cluster, 0)
    tag = tag_of(stream)
    ear.start(heard)
    await ear.add(tag)
    cluster.move(channel_of(tag), 2)
    await until(lambda: heard.lost == [tag], "the loss to be told")
    note = SlowNote(stream, 5)
    mouth.publish(tag, note)
    await until(lambda: heard.notes == [note], "the note")
    for bus, client in zip((ear, mouth), clients, strict=True):
        await bus.close()
        await client.aclose()
