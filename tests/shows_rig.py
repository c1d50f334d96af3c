"""Streams on a Redis Cluster, each watched at two hubs: what one says the other must hear.

Used by the tests of streams on a cluster; what a hub is made of comes from hub_rig.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from functools import partial

from orders.stock.cluster import ClusterClient, open_client
from streams.log import Position, tag_of, tail_key
from streams.notes import channel_of
from streams.ports import Fact, Refused, RoomState
from streams.protocol import OrderConfirmed
from tests.cluster_rig import Cluster
from tests.hub_rig import Screen, Stage, Truth, an_offer, an_order, closed, until

CONNECTIONS = 16
TIMEOUT_S = 0.9
PROMPT_S = 2.0  # within which an event of a healthy node arrives while another one is lost


@dataclass
class Shows(Truth):
    """The truth of several streams, each with its own count of facts."""

    last: dict[str, int] = field(default_factory=dict)  # by stream

    async def room(self, stream_id: str) -> RoomState | None:
        """Return the state of one of them."""
        if stream_id not in self.last:
            return None
        self.stream_id, self.fact_n = stream_id, self.last[stream_id]
        self.offers = [an_offer(stream_id)]
        return await super().room(stream_id)


class Show:
    """One stream with a viewer at each hub; what the near hub says, the far one's viewer hears."""

    def __init__(self, hubs: list[Stage], stream_id: str, shows: Shows) -> None:
        self.near, self.far = hubs
        self.stream_id = stream_id
        self.tag = tag_of(stream_id)
        self._shows = shows
        self._said = 0

    async def open(self) -> None:
        """Have both viewers welcomed."""
        self.screens = [await self._enter(stage, f"viewer/{self.stream_id}") for stage in self.hubs]
        self.own, self.other = self.screens

    @property
    def hubs(self) -> tuple[Stage, Stage]:
        """Both."""
        return self.near, self.far

    async def _enter(self, stage: Stage, token: str) -> Screen:
        screen = stage.connect(self.stream_id)
        screen.say("hello", token=token)
        await screen.get("welcome")
        return screen

    async def newcomer(self, stage: Stage) -> Screen:
        """Return a connection that has said hello and got its answer."""
        screen = stage.connect(self.stream_id)
        await screen.answer(screen.say("hello"))
        return screen

    def away(self) -> bool:
        """Tell whether both hubs know that the stream's log cannot be read."""
        return all(stage.hub.rooms[self.stream_id].away for stage in self.hubs)

    def whole(self) -> bool:
        """Tell whether both hubs hear all of it again, and have shown their viewers the truth."""
        rooms = [stage.hub.rooms[self.stream_id] for stage in self.hubs]
        buses = [stage.hub.bus._channels[channel_of(self.tag)] for stage in self.hubs]
        return all(bus.confirmed.is_set() for bus in buses) and not any(
            room.away or room.due or room._following for room in rooms
        )

    async def append(self) -> None:
        """Publish one more fact as livecart does: until the log has it."""
        n = self._shows.last[self.stream_id] = self._shows.last[self.stream_id] + 1
        highest = n - 1
        async with asyncio.timeout(10):
            while highest < n:
                facts = [Fact(n=k, event=closed(k)) for k in range(highest + 1, n + 1)]
                try:
                    highest = await self.near.log.append_facts(self.stream_id, facts)
                except Refused:
                    await asyncio.sleep(0.05)

    async def says(self) -> None:
        """Say one of each at the near hub, and wait until the far one's viewer has it."""
        self._said += 1
        n, of = self._said, self.other.of
        await self.append()
        answer = await self.own.answer(self.own.say("chat", text="hi", key=f"k{n}"))
        assert answer["type"] == "ok", answer
        order = an_order(self.stream_id, self.stream_id, version=n, status="confirmed")
        self.near.hub.private(self.stream_id, [(self.stream_id, OrderConfirmed(order=order), None)])
        self.near.hub.stock(self.stream_id, "of_1", 10 - n, n + 1)
        fact = self._shows.last[self.stream_id]
        await until(lambda: any(e["offer"] == f"of_{fact}" for e in of("offer.closed")), "the fact")
        await until(lambda: any(e["message"]["id"] == answer["message"]["id"] for e in of("chat")))
        await until(lambda: any(e["order"]["version"] == n for e in of("order.confirmed")), "note")
        await until(lambda: any(e["left"] == 10 - n for e in of("stock")), "stock")

    async def says_promptly(self) -> None:
        """Say one of each, and hold it to its time."""
        await asyncio.wait_for(self.says(), PROMPT_S)

    async def caught_up(self) -> None:
        """Wait until both viewers are at the head of the log, in order and without a gap."""
        head = await self.near.log.position(self.stream_id)
        assert head.fact_n == self._shows.last[self.stream_id]
        for screen in self.screens:
            await until(partial(_is_at, screen, head), str(head))
            _in_order(screen)

    async def counted(self) -> int:
        """Return how many viewers both hubs' leases add up to by now."""
        return (await self.near.hub.counts.audience(self.stream_id))[0]

    def resyncs(self) -> int:
        """Return how often its viewers were shown everything anew."""
        return sum(len(screen.of("resync")) for screen in self.screens)


def _is_at(screen: Screen, head: Position) -> bool:
    """Tell whether a client has come to the head of a log, by snapshot or event."""
    epoch, seq = "", -1
    for event in screen.events:
        epoch, seq = event.get("epoch", epoch), event.get("seq", seq)
    return (epoch, seq) == (head.epoch, head.seq)


def counts_two(show: Show) -> bool:
    return show.other.of("viewers")[-1:] == [{"type": "viewers", "count": 2}]


def _in_order(screen: Screen) -> None:
    """Within an epoch each sequence follows from where the snapshot was."""
    at = {"seq": -1, "cseq": -1}
    for event in screen.events:
        for number in at:
            if event["type"] in ("welcome", "resync"):
                at[number] = event[number]
            elif number in event:
                at[number] += 1
                assert event[number] == at[number], screen.events


async def connected(cluster: Cluster, node: int = 0) -> ClusterClient:
    """Return a client that livecart would inject, which met this node first."""
    client = await open_client(f"redis://{cluster.nodes[node].address}", CONNECTIONS, TIMEOUT_S)
    assert isinstance(client, ClusterClient)
    return client


def stream_on(cluster: Cluster, node: int, beside: str = "") -> str:
    """Return the id of a stream that a node has, in another slot than the tag `beside`."""
    while True:
        stream_id = f"st_{secrets.token_hex(8)}"
        tag = tag_of(stream_id)
        if tag != beside and cluster.node_of(tail_key(tag)) == node:
            return stream_id
