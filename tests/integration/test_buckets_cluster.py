"""One hot offer on all nodes of a Redis Cluster: what one node's trouble is to it, and what not."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator

import pytest

from orders.records import Accepted, Offer
from orders.stock.gate import GateAway, Standing
from orders.stock.keys import keys_of
from tests.cluster_rig import Cluster
from tests.shop import Shop, bought, kept, open_shop, until, why

ANSWER_S = 1.0  # within which a buy is answered while what it needs is away


@pytest.fixture
async def shop(database_url: str, redis_url: str, cluster: Cluster) -> AsyncIterator[Shop]:
    """A shop with two hubs, its gate on the cluster."""
    async with open_shop(database_url, redis_url, cluster.url) as shop:
        await shop.hub()
        yield shop


class Spread:
    """An offer in six buckets, some on each node, and its viewers by the node of their bucket."""

    def __init__(self, cluster: Cluster, offer: Offer) -> None:
        self.cluster, self.offer = cluster, offer
        self.names = (f"v{n}" for n in itertools.count())

    def node(self, home: str) -> int:
        return self.cluster.node_of(keys_of(home).state)

    def viewers(self, nodes: set[int], n: int) -> list[str]:
        """Return the next n viewers who are at home on one of the nodes."""
        ours = (v for v in self.names if self.node(self.offer.home(v)) in nodes)
        return list(itertools.islice(ours, n))


async def spread_over(shop: Shop, cluster: Cluster, quantity: int) -> Spread:
    while True:
        made = Spread(cluster, await shop.offer(quantity, buckets=6))
        if {made.node(home) for home in made.offer.homes} == {0, 1, 2}:
            return made


async def crowd(shop: Shop, offer: str, viewers: list[str]) -> list[str]:
    """Have viewers come to the hubs in turn until each is answered; return how it ended."""
    outcomes = await asyncio.gather(
        *(shop.hubs[n % 2].buy_until_final(offer, viewer) for n, viewer in enumerate(viewers))
    )
    return ["sold" if isinstance(o, Accepted) else why(o) for o in outcomes]


async def settled(shop: Shop, offer: Offer) -> None:
    """Wait until every bucket's gate is in place and all is summed up; then judge the whole."""

    async def standing() -> bool:
        try:
            found = [await shop.hubs[0].gate.probe(home, 1 << 40, 0) for home in offer.homes]
        except GateAway:
            return False
        apart = await shop.hubs[0].ledger.apart_buckets()
        return not apart and all(isinstance(s, Standing) and not s.unwritten for s in found)

    await until(standing)
    await shop.whole_at_rest(offer.id)


async def test_an_offer_on_three_nodes_sells_out_exactly(shop: Shop, cluster: Cluster) -> None:
    """Two hubs, and more buyers in one bucket than its node has units; then a crowd everywhere."""
    spread = await spread_over(shop, cluster, 90)
    offer = spread.offer
    ours = (v for v in spread.names if offer.home(v) == offer.homes[0])
    async with kept(shop.hubs[0]):
        ends = await crowd(shop, offer.id, list(itertools.islice(ours, 80)))
        assert ends == ["sold"] * 80
        ends = await crowd(shop, offer.id, spread.viewers({0, 1, 2}, 60))
        assert (ends.count("sold"), ends.count("sold_out")) == (10, 50)
        await settled(shop, offer)
    lent = await shop.fetch("select lender, borrower from transfers")
    assert any(spread.node(a) != spread.node(b) for a, b in lent)


@pytest.mark.parametrize("comes_back", ["as it was", "empty"])
async def test_a_killed_node_keeps_its_own_units_alone(
    shop: Shop, cluster: Cluster, comes_back: str
) -> None:
    """The other buckets sell all that they have between them, and nobody is told `sold_out`; then
    the node is back, and so are its units."""
    spread = await spread_over(shop, cluster, 90)
    offer = spread.offer
    async with kept(shop.hubs[0]):
        assert (await crowd(shop, offer.id, spread.viewers({0, 1, 2}, 20))).count("sold") == 20
        cluster.kill(1)
        for viewer in spread.viewers({1}, 3):
            outcome = await asyncio.wait_for(shop.hubs[0].buy(offer.id, viewer), ANSWER_S)
            assert why(outcome) == "retry"
        free = (await shop.hubs[0].ledger.free_in_buckets([offer.id]))[offer.id]
        there = sum(n for home, n in free.items() if spread.node(home) != 1)
        ends = await crowd(shop, offer.id, spread.viewers({0}, there))  # of all live nodes' units
        assert ends == ["sold"] * there
        late = spread.viewers({0}, 1)[0]
        outcome = await asyncio.wait_for(shop.hubs[1].buy(offer.id, late), 2 * ANSWER_S)
        assert why(outcome) == "retry"  # what is free lies on the node that is away
        waiting = asyncio.create_task(crowd(shop, offer.id, spread.viewers({0, 1, 2}, 90)))
        cluster.restart(1)
        if comes_back == "empty":
            cluster.flush(1)
        ends = await waiting
        assert (ends.count("sold"), ends.count("sold_out")) == (70 - there, 20 + there)
        await settled(shop, offer)


async def test_a_hung_node_is_passed_over(shop: Shop, cluster: Cluster) -> None:
    """A bucket that is short borrows from one that answers, within a second."""
    spread = await spread_over(shop, cluster, 60)
    offer = spread.offer
    async with kept(shop.hubs[0]):
        home = next(home for home in offer.homes if spread.node(home) == 0)
        ours = (v for v in spread.names if offer.home(v) == home)
        for viewer in itertools.islice(ours, 10):
            bought(await shop.hubs[0].buy_until_final(offer.id, viewer))
        cluster.nodes[1].signal(signal.SIGSTOP)
        try:
            for viewer in itertools.islice(ours, 6):
                bought(await shop.hubs[0].buy_until_final(offer.id, viewer))
        finally:
            cluster.nodes[1].signal(signal.SIGCONT)
        ends = await crowd(shop, offer.id, spread.viewers({0, 1, 2}, 60))
        assert (ends.count("sold"), ends.count("sold_out")) == (44, 16)
        await settled(shop, offer)
