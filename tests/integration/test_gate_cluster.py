"""The gate on a Redis Cluster: offers lie on its nodes, and one node's trouble is its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from livecart.app import build
from livecart.doctor import Verdict
from livecart.doctor import redis as examined
from livecart.settings import SettingsError, load
from livecart.worker import composed
from orders.records import Accepted, Offer, Outcome
from orders.stock.cluster import ClusterClient, open_client
from orders.stock.gate import Frozen, Gate, GateAway, Standing
from orders.stock.keys import keys_of
from tests.cluster_rig import Cluster
from tests.contract.http_rig import problem, serving, variables
from tests.shop import Hub, Shop, bought, kept, open_shop, until, why

ANSWER_S = 1.0  # within which a buy is answered while what it needs is away


@pytest.fixture
async def shop(database_url: str, redis_url: str, cluster: Cluster) -> AsyncIterator[Shop]:
    """A shop with two hubs, its gate on the cluster."""
    async with open_shop(database_url, redis_url, cluster.url) as shop:
        await shop.hub()
        yield shop


async def one_a_node(shop: Shop, cluster: Cluster, quantity: int) -> list[Offer]:
    """Return an open offer on each node, in the order of the nodes."""
    found: dict[int, Offer] = {}
    while len(found) < len(cluster.nodes):
        offer = await shop.offer(quantity)
        found.setdefault(cluster.node_of(keys_of(offer.id).state), offer)
    return [found[i] for i in range(len(cluster.nodes))]


async def crowd(shop: Shop, offer: str, buyers: range) -> int:
    """Have buyers come to the hubs in turn, each until he is answered; return how many bought."""
    hubs = shop.hubs
    outcomes = await asyncio.gather(
        *(hubs[n % len(hubs)].buy_until_final(offer, f"v{n}") for n in buyers)
    )
    return sum(isinstance(outcome, Accepted) for outcome in outcomes)


async def promptly(hub: Hub, offer: str, viewer: str) -> Outcome:
    """Buy once, and hold the answer to its time."""
    return await asyncio.wait_for(hub.buy(offer, viewer), ANSWER_S)


async def all_settled(shop: Shop, offers: list[Offer]) -> None:
    """Wait until every gate is in place, then hold the offers to their invariants."""

    async def standing() -> bool:
        try:
            found = [await shop.hubs[0].gate.probe(offer.id, 1 << 40, 0) for offer in offers]
        except GateAway:
            return False
        return all(isinstance(one, Standing) and not one.unwritten for one in found)

    await until(standing)
    for offer in offers:
        await shop.rested(offer.id)


async def test_offers_of_all_nodes_sell_out_exactly(shop: Shop, cluster: Cluster) -> None:
    """Two hubs and more buyers than units: each offer, on whatever node, sells its quantity."""
    offers = await one_a_node(shop, cluster, 30)
    assert all(isinstance(hub.gate.client, ClusterClient) for hub in shop.hubs)
    sold = await asyncio.gather(*(crowd(shop, offer.id, range(50)) for offer in offers))
    assert sold == [30, 30, 30]
    for offer in offers:
        await shop.rested(offer.id)


@pytest.mark.parametrize("comes_back", ["as it was", "empty", "elsewhere"])
async def test_a_killed_node_stops_its_own_offers_alone(
    shop: Shop, cluster: Cluster, comes_back: str
) -> None:
    """Its offers' buys are `retry` at once, the others sell on; once it is back, all sell out."""
    offers = await one_a_node(shop, cluster, 30)
    lost, others = offers[1], [offers[0], offers[2]]
    async with kept(shop.hubs[0]):
        half = await asyncio.gather(*(crowd(shop, offer.id, range(15)) for offer in offers))
        cluster.kill(1)
        for n in range(15, 20):
            for hub in shop.hubs:
                assert why(await promptly(hub, lost.id, f"v{n}")) == "retry"
            for offer in others:
                bought(await promptly(shop.hubs[n % 2], offer.id, f"v{n}"))
        waiting = asyncio.create_task(crowd(shop, lost.id, range(15, 40)))
        if comes_back == "elsewhere":
            cluster.move_away(1)
        cluster.nodes[1].start()
        if comes_back == "empty":
            cluster.flush(1)
        rest = await asyncio.gather(*(crowd(shop, offer.id, range(20, 40)) for offer in others))
        assert half[1] + await waiting == 30
        assert [15 + 5 + n for n in rest] == [30, 30]
        await all_settled(shop, offers)


async def test_a_killed_node_in_the_middle_of_a_crowd(shop: Shop, cluster: Cluster) -> None:
    """Calls under way when a node dies, whatever came of them, end as one order a key."""
    offers = await one_a_node(shop, cluster, 60)
    async with kept(shop.hubs[1]):
        selling = [asyncio.create_task(crowd(shop, offer.id, range(100))) for offer in offers]

        async def begun() -> bool:
            sql = "select min(taken) from offers where id = any($1)"
            return bool((await shop.fetch(sql, [offer.id for offer in offers]))[0][0] > 0)

        await until(begun)
        cluster.kill(2)
        cluster.nodes[2].start()
        assert await asyncio.gather(*selling) == [60, 60, 60]
        await all_settled(shop, offers)


async def test_a_replica_takes_a_dead_node_s_offers_over(shop: Shop, cluster: Cluster) -> None:
    """What a replica has of an offer is not trusted: it is built anew there, and sells out."""
    offers = await one_a_node(shop, cluster, 20)
    replica = cluster.add_replica(1)
    async with kept(shop.hubs[0]):
        for offer in offers:
            assert await crowd(shop, offer.id, range(8)) == 8
        cluster.kill(1)
        sold = await asyncio.gather(*(crowd(shop, offer.id, range(8, 40)) for offer in offers))
        assert sold == [12, 12, 12]
        await all_settled(shop, offers)
    assert shop.hubs[1].gate.server(offers[1].id) == cluster.nodes[replica].address


async def test_a_node_that_hangs_stops_its_own_offers_alone(shop: Shop, cluster: Cluster) -> None:
    """A node that takes connections and never answers is as good as dead, and comes back."""
    offers = await one_a_node(shop, cluster, 20)
    async with kept(shop.hubs[0]):
        for offer in offers:
            assert await crowd(shop, offer.id, range(4)) == 4
        cluster.nodes[0].signal(signal.SIGSTOP)
        for n in range(4, 10):
            for hub in shop.hubs:
                assert why(await promptly(hub, offers[0].id, f"v{n}")) == "retry"
            for offer in offers[1:]:
                bought(await promptly(shop.hubs[n % 2], offer.id, f"v{n}"))
        cluster.nodes[0].signal(signal.SIGCONT)
        sold = await asyncio.gather(*(crowd(shop, offer.id, range(10, 40)) for offer in offers))
        assert sold[0] + 4 == sold[1] + 10 == sold[2] + 10 == 20
        await all_settled(shop, offers)


async def test_a_script_is_sent_once(shop: Shop, cluster: Cluster) -> None:
    """A call that has no answer in time, or is cancelled, is not sent again; nor is its reply kept.

    The node says how often it ran a script, once it has read all that was sent to it.
    """
    offer = (await one_a_node(shop, cluster, 9))[1]
    hub, other = shop.hubs
    for one in (hub, other):
        assert isinstance(await one.gate.probe(offer.id, 0, 1), Standing)  # it knows the script
    node = cluster.nodes[1]
    node.command("CONFIG RESETSTAT")
    node.signal(signal.SIGSTOP)
    unanswered = asyncio.create_task(hub.gate.probe(offer.id, 0, 1))
    cancelled = asyncio.create_task(other.gate.probe(offer.id, 0, 1))
    await asyncio.wait({unanswered})
    with pytest.raises(GateAway):
        unanswered.result()
    cancelled.cancel()
    await asyncio.wait({cancelled})
    node.signal(signal.SIGCONT)

    def runs() -> int:
        told = node.command("INFO", "commandstats")
        return sum(stat["calls"] for name, stat in told.items() if "eval" in name)

    await until(lambda: runs() >= 2)
    assert runs() == 2
    ranks: list[int] = []

    async def drawn(gate: Gate) -> bool:
        try:
            found = await gate.draw(offer.id, 1)
        except GateAway:  # it was lost a moment ago
            return False
        assert not isinstance(found, Frozen)
        ranks.extend(found[1])
        return True

    for one in (hub, other, hub):
        await until(lambda gate=one.gate: drawn(gate))
    assert ranks == list(range(ranks[0], ranks[0] + 3))


@pytest.mark.parametrize("dead", [0, 2])
async def test_a_hub_may_start_while_a_node_is_dead(
    shop: Shop, cluster: Cluster, dead: int
) -> None:
    """Any node that answers shows the way; the client of a new hub needs no other."""
    offers = await one_a_node(shop, cluster, 10)
    cluster.kill(dead)
    shop.gate_url = f"redis://{cluster.nodes[1].address}"
    hub = await shop.hub()
    bought(await promptly(hub, offers[1].id, "ann"))
    assert why(await promptly(hub, offers[dead].id, "ann")) == "retry"


async def test_an_offer_whose_slot_moved_sells_on(shop: Shop, cluster: Cluster) -> None:
    """MOVED is followed; the new node has no state of the offer, which is then built anew."""
    offer = (await one_a_node(shop, cluster, 20))[0]
    assert await crowd(shop, offer.id, range(8)) == 8
    cluster.move(keys_of(offer.id).state, to=2)
    assert isinstance(await shop.hubs[0].gate.probe(offer.id, 0, 1), Frozen)
    async with kept(shop.hubs[0]):
        assert await crowd(shop, offer.id, range(8, 40)) == 12
        await all_settled(shop, [offer])
    assert cluster.node_of(keys_of(offer.id).state) == 2
    assert shop.hubs[1].gate.server(offer.id) == cluster.nodes[2].address


async def test_an_offer_whose_slot_is_on_its_way_waits(shop: Shop, cluster: Cluster) -> None:
    """TRYAGAIN is `retry` until the slot has arrived; ASK is followed where one key is asked for.

    A script names keys that an offer need not have: neither node runs it meanwhile.
    """
    offer = (await one_a_node(shop, cluster, 20))[0]
    hub, state = shop.hubs[0], keys_of(offer.id).state
    assert await crowd(shop, offer.id, range(8)) == 8
    slot, (source, target, _) = key_slot(state.encode()), cluster.nodes
    target.command("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
    source.command("CLUSTER SETSLOT", slot, "MIGRATING", target.id)
    for cleared in (False, True):
        if cleared:
            source.clear(slot)
        with pytest.raises(GateAway):
            await hub.gate.probe(offer.id, 0, 1)
        assert why(await promptly(shop.hubs[1], offer.id, "ann")) == "retry"
    await asyncio.gather(*(hub.gate.ping(offer.id) for _ in range(20)))
    assert (
        await asyncio.gather(*(hub.gate.scan(offer.id, "holds", 0, 9) for _ in range(20)))
        == [(0, {})] * 20
    )
    async with kept(hub):
        for node in (target, source):
            node.command("CLUSTER SETSLOT", slot, "NODE", target.id)
        assert await crowd(shop, offer.id, range(8, 40)) == 12
        await all_settled(shop, [offer])


async def test_a_slot_that_nobody_has_is_waited_for(shop: Shop, cluster: Cluster) -> None:
    """CLUSTERDOWN is `retry`, and never a script that failed."""
    offers = await one_a_node(shop, cluster, 5)
    slot = key_slot(keys_of(offers[0].id).state.encode())
    cluster.nodes[0].command("CLUSTER DELSLOTS", slot)
    with pytest.raises(GateAway):
        await shop.hubs[0].gate.probe(offers[0].id, 0, 1)
    assert why(await promptly(shop.hubs[1], offers[0].id, "ann")) == "retry"
    bought(await promptly(shop.hubs[1], offers[1].id, "ann"))
    cluster.nodes[0].command("CLUSTER ADDSLOTS", slot)
    assert await crowd(shop, offers[0].id, range(10)) == 5
    await all_settled(shop, offers)


async def test_each_node_has_the_scripts_or_is_sent_them(shop: Shop, cluster: Cluster) -> None:
    """A node that forgot the scripts, or never had them, is sent the text: nobody is refused."""
    offers = await one_a_node(shop, cluster, 10)
    hub = await shop.hub()
    for n, node in enumerate(cluster.nodes):
        for offer in offers:
            bought(await hub.buy(offer.id, f"v{n}"))
        node.command("SCRIPT FLUSH")
    for offer in offers:
        await shop.rested(offer.id)


async def test_every_call_of_the_gate_works(shop: Shop, cluster: Cluster) -> None:
    """A scan, the closed offer's expiry and the freeze of a broken one, on each node."""
    gate = shop.hubs[0].gate
    assert isinstance(gate.client, ClusterClient)
    for offer in await one_a_node(shop, cluster, 10):
        order = bought(await shop.hubs[0].buy(offer.id, "ann"))
        await gate.ping(offer.id)
        cursor, found = await gate.scan(offer.id, "holds", 0, 100)
        assert (cursor, set(found)) == (0, {order.id})
        await gate.forget(offer.id)
        node = cluster.nodes[cluster.node_of(keys_of(offer.id).state)]
        assert node.command("TTL", keys_of(offer.id).state) > 0
        await gate._freeze(offer.id)
        assert isinstance(await gate.probe(offer.id, 0, 1), Frozen)


async def test_a_lone_server_is_asked_as_ever(redis_url: str) -> None:
    """What is no cluster gets the client that it always had."""
    client = await open_client(redis_url, 4, 1.0)
    assert type(client) is Redis
    await client.aclose()


async def test_a_server_has_its_gate_on_the_cluster(
    redis_url: str, database_url: str, cluster: Cluster
) -> None:
    """`LIVECART_GATE_URL`: ready while a node answers; what is sold is held there alone."""
    async with serving(redis_url, database_url, LIVECART_GATE_URL=cluster.url) as shop:
        assert (await shop.call("GET", "/readyz")).is_success
        offer = await shop.offer(await shop.stream(), quantity=3)
        assert (await shop.buy(offer, "ann")).is_success
        async with Redis.from_url(redis_url) as redis:
            assert not await redis.exists(keys_of(offer).state)
        node = cluster.nodes[cluster.node_of(keys_of(offer).state)]
        assert node.command("EXISTS", keys_of(offer).state)
        settings = load(variables(redis_url, database_url) | {"LIVECART_GATE_URL": cluster.url})
        async with composed(settings) as keeper:  # as the keeper and `livecart reconcile` have it
            await keeper.round()
            assert await keeper.reconciler.differences(offer) == []
        cluster.kill(1)
        assert (await shop.call("GET", "/readyz")).is_success
        cluster.kill(0)
        cluster.kill(2)
        problem(await shop.call("GET", "/readyz"), 503, "retry")


async def test_a_keeper_waits_for_its_gate(
    redis_url: str, database_url: str, cluster: Cluster
) -> None:
    """A keeper that starts while the gate is away does what needs Postgres, and finds it later."""
    settings = load(variables(redis_url, database_url) | {"LIVECART_GATE_URL": cluster.url})
    cluster.kill(0)
    async with open_shop(database_url, redis_url, f"redis://{cluster.nodes[1].address}") as shop:
        offer = await shop.offer(5)
        async with composed(settings) as keeper:
            with pytest.raises(GateAway):
                await keeper._gate.probe(offer.id, 0, 1)
            await keeper.expire()
            cluster.nodes[0].start()
            await until(lambda: isinstance(keeper._gate.client, ClusterClient))


async def test_an_evicting_node_is_refused(
    redis_url: str, database_url: str, cluster: Cluster
) -> None:
    """One node of the cluster that might evict ends the start with a line that names it."""
    cluster.nodes[2].command("CONFIG SET", "maxmemory-policy", "allkeys-lru")
    app = build(load(variables(redis_url, database_url) | {"LIVECART_GATE_URL": cluster.url}))
    with pytest.raises(SettingsError, match=rf"GATE_URL .*{cluster.nodes[2].port}.* allkeys-lru"):
        async with app.router.lifespan_context(app):
            pass


@pytest.mark.parametrize("setting", ["LIVECART_REDIS_URL", "LIVECART_GATE_URL"])
async def test_doctor_looks_at_each_node(cluster: Cluster, setting: str) -> None:
    """A healthy cluster has no complaint; a node that evicts, or that is gone, is named."""
    found = await examined(cluster.url, setting)
    assert {one.verdict for one in found} == {Verdict.OK}, found
    assert all(any(node.address in one.what for one in found) for node in cluster.nodes)
    cluster.nodes[1].command("CONFIG SET", "maxmemory-policy", "allkeys-lru")
    cluster.kill(2)
    failed = [one.what for one in await examined(cluster.url, setting) if one.failed]
    assert all(node.address in what for node, what in zip(cluster.nodes[1:], failed, strict=True))
    assert (await examined("redis://127.0.0.1:1", setting))[0].failed
