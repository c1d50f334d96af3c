"""Whole servers whose `LIVECART_REDIS_URL` is a Redis Cluster: streams and gate are both on it."""

from __future__ import annotations

import asyncio

import pytest

from livecart.settings import load
from livecart.worker import composed
from orders.stock.cluster import ClusterClient
from orders.stock.gate import GateAway
from streams.log import tag_of, tail_key
from tests.cluster_rig import Cluster
from tests.contract.http_rig import Shop, problem, serving, token, variables
from tests.contract.test_ws_commands import Line, lines
from tests.shop import until

ANSWER_S = 2.0  # within which a stream of a healthy node is served while another node is lost


async def one_a_node(shop: Shop, cluster: Cluster) -> list[str]:
    """Return a live stream on each node, in the order of the nodes."""
    found: dict[int, str] = {}
    while len(found) < len(cluster.nodes):
        stream = await shop.stream()
        found.setdefault(cluster.node_of(tail_key(tag_of(stream))), stream)
    return [found[i] for i in range(len(cluster.nodes))]


def numbers(line: Line) -> list[int]:
    """Return the numbers of the main events that a viewer heard."""
    return [message["seq"] for message in line.heard if "seq" in message and "re" not in message]


async def test_two_servers_are_one_to_their_viewers(database_url: str, cluster: Cluster) -> None:
    """What is done at one is seen at the other, for streams of each node."""
    ann, bob = token("viewer", "ann"), token("viewer", "bob")
    async with (
        serving(cluster.url, database_url) as one,
        serving(cluster.url, database_url) as two,
    ):
        assert isinstance(one.services.gate.client, ClusterClient)
        for stream in await one_a_node(one, cluster):
            async with lines(one, stream, ann) as (here,), lines(two, stream, ann, bob) as others:
                own, there = others
                offer = await one.offer(stream, quantity=3)
                await there.until(lambda m: m["type"] == "offer.opened")
                answer = await here.ask("buy", offer=offer, qty=1, key="k")
                told = await own.until(lambda m: m["type"] == "order.reserved")
                assert told["order"] == answer["order"]
                await there.until(lambda m: m["type"] == "stock" and m["left"] == 2)
                assert (await there.ask("chat", text="hi", key="c"))["type"] == "ok"
                await here.until(lambda m: m["type"] == "chat")
                await one.made(
                    "POST", f"/v1/streams/{stream}/pins", {"product": await one.product()}
                )
                await there.until(lambda m: m["type"] == "pinned")
                answer = await there.ask("buy", offer=offer, qty=2, key="k")
                assert answer["code"] == "limit_reached"
                welcome = there.heard[0]
                seen = numbers(there)
                assert seen == list(range(welcome["seq"] + 1, welcome["seq"] + 1 + len(seen)))


async def test_a_server_is_ready_while_a_node_answers(database_url: str, cluster: Cluster) -> None:
    """With one node dead the streams of the others are served; with none there is nothing to do."""
    async with serving(cluster.url, database_url) as shop:
        streams = await one_a_node(shop, cluster)
        cluster.kill(1)
        assert (await shop.call("GET", "/readyz")).is_success
        for stream in (streams[0], streams[2]):
            async with (
                asyncio.timeout(ANSWER_S),
                lines(shop, stream, token("viewer", "ann")) as (line,),
            ):
                assert line.heard[0]["type"] == "welcome"
                assert (await line.ask("chat", text="hi", key="c"))["type"] == "ok"
        async with lines(shop, streams[1], token("viewer", "ann")) as (line,):
            assert line.heard[0]["code"] == "retry"
        cluster.kill(0)
        cluster.kill(2)
        problem(await shop.call("GET", "/readyz"), 503, "retry")


async def test_a_keeper_waits_for_its_cluster(database_url: str, cluster: Cluster) -> None:
    """While no node answers it does what needs Postgres; then it finds both gate and log."""
    settings = load(variables(cluster.url, database_url))
    async with serving(cluster.url, database_url) as shop:
        stream = await shop.stream()
        for node in range(len(cluster.nodes)):
            cluster.kill(node)
        await shop.made("POST", f"/v1/streams/{stream}/end")  # which nobody can be told of
    async with composed(settings) as keeper:
        with pytest.raises(GateAway):
            await keeper._gate.probe("of_1", 0, 1)
        await keeper.expire()
        assert await keeper._ledger.lagging_streams() == [stream]
        for one in cluster.nodes:
            one.start()
        await until(lambda: isinstance(keeper._gate.client, ClusterClient))

        async def told() -> bool:
            await keeper.publish()
            return not await keeper._ledger.lagging_streams()

        await until(told)
