"""Reconcile on real servers: what is planted is found, named, mended; a busy sale is left alone."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from livecart.cli import run
from orders import metrics
from orders.compare import Difference
from orders.keeper import KeeperLimits
from orders.ledger.ledger import LedgerAway
from orders.reconcile import Found, ReconcileLimits, Reconciler
from orders.records import Accepted, Offer, Order
from orders.stock.keys import Keys, key_field, keys_of
from tests.shop import Hub, Shop, bought, until


@pytest.fixture
def hub(shop: Shop) -> Hub:
    """A hub whose keeper waits for nobody, and looks at two names at a time."""
    hub = shop.hubs[0]
    hub.keeper.limits = KeeperLimits(grace_ms=0, lag_grace_s=0)
    hub.keeper.reconciler.limits = ReconcileLimits(
        page=2, grace_s=0.02, pause_s=0, rebuilt_pause_s=0, work_s=0
    )
    return hub


@pytest.fixture
def reconciler(hub: Hub) -> Reconciler:
    return hub.keeper.reconciler


class Sale:
    """An offer with orders of every kind, at rest, and its keys in Redis to plant things under."""

    def __init__(self, shop: Shop, offer: Offer, live: Order, ended: Order) -> None:
        self.shop = shop
        self.offer = offer
        self.live = live  # of ann
        self.ended = ended  # of bob
        self.keys: Keys = keys_of(offer.id)
        self.redis: Any = shop.redis

    async def epoch(self) -> int:
        return int(await self.redis.hget(self.keys.state, "epoch"))

    def field(self, order: Order) -> str:
        return key_field(order.viewer, order.key)


@pytest.fixture
async def sale(shop: Shop, hub: Hub) -> Sale:
    offer = await shop.offer(20, per_viewer=5)
    live = bought(await hub.buy(offer.id, "ann", 2))
    ended = bought(await hub.buy(offer.id, "bob", 3))
    await hub.changes.cancel(ended.id, by_host=False, reason=None)
    paid = bought(await hub.buy(offer.id, "ann"))
    await hub.changes.pay(paid.id)
    for n in range(4):
        bought(await hub.buy(offer.id, f"v{n}"))
    await until(lambda: all(c.idle for c in hub.selling._counters.values()))
    await shop.at_rest(offer.id)
    return Sale(shop, offer, live, ended)


async def test_what_is_at_rest_agrees(sale: Sale, reconciler: Reconciler) -> None:
    """Sold, paid, cancelled and restocked: nothing differs at the first look already."""
    await sale.shop.hubs[0].changes.restock(sale.offer.id, "r1", 5)
    assert await reconciler.differences(sale.offer.id) == []
    (figures,) = [f for f in await reconciler.figures(sale.offer.id) if f[0] == "left"]
    assert figures == ("left", 18, 18)


Plant = Callable[[Sale], Awaitable[Any]]


def _unwritten_hold(sale: Sale) -> Awaitable[Any]:
    gate = sale.shop.hubs[0].gate
    return gate.hold(sale.offer.id, [], [("zoe", 1, "or_ghost", "3:zoek")])


async def _forgotten_mark(sale: Sale) -> None:
    """A hub died between the row and the mark."""
    await sale.redis.zadd(sale.keys.unwritten, {sale.live.id: 1})
    await sale.redis.hincrby(sale.keys.waiting, "ann", 1)


async def _commit_untold(sale: Sale) -> None:
    """A hub died between the end of an order and the gate."""
    await sale.shop.fetch("select * from cancel($1, true, null)", sale.live.id)


#: What is done behind the core's back, what it is called, and what mends it.
PLANTED: dict[str, tuple[Plant, str, str]] = {
    "a hold is lost": (
        lambda s: s.redis.hdel(s.keys.holds, s.live.id), "row_without_hold", "rebuild"),
    "a hold of nothing, said to be written": (
        lambda s: s.redis.hset(s.keys.holds, "or_ghost", "9 1 3:zoek"),
        "hold_without_row", "rebuild"),
    "a hold that nobody finished": (_unwritten_hold, "hold_without_row", "resolve"),
    "a mark that was never made": (_forgotten_mark, "unmarked", "resolve"),
    "a hold that came back": (
        lambda s: s.redis.hset(s.keys.holds, s.ended.id, f"2 3 {s.field(s.ended)}"),
        "hold_of_ended", "rebuild"),
    "a hold of more units": (
        lambda s: s.redis.hset(s.keys.holds, s.live.id, f"1 4 {s.field(s.live)}"),
        "hold", "rebuild"),
    "a hold that says nothing": (
        lambda s: s.redis.hset(s.keys.holds, s.live.id, b"\xff rubbish"), "hold", "rebuild"),
    "a key is lost": (
        lambda s: s.redis.hdel(s.keys.keys, s.field(s.ended)), "key", "rebuild"),
    "a key of another order": (
        lambda s: s.redis.hset(s.keys.keys, s.field(s.live), "or_other"), "key", "rebuild"),
    "a key of nothing": (
        lambda s: s.redis.hset(s.keys.keys, "3:annold", "or_ghost"), "key_without_row", "rebuild"),
    "a viewer has too much": (
        lambda s: s.redis.hincrby(s.keys.viewers, "ann", 1), "viewer", "rebuild"),
    "a viewer is forgotten": (lambda s: s.redis.hdel(s.keys.viewers, "ann"), "viewer", "rebuild"),
    "a viewer of nothing": (lambda s: s.redis.hset(s.keys.viewers, "zoe", 1), "viewer", "rebuild"),
    "units too many": (lambda s: s.redis.hincrby(s.keys.state, "left", 2), "left", "rebuild"),
    "units too few": (lambda s: s.redis.hincrby(s.keys.state, "left", -1), "left", "rebuild"),
    "ranks begin again": (lambda s: s.redis.hset(s.keys.state, "rank", 1), "rank", "rebuild"),
    "an end that the gate was not told": (_commit_untold, "movement", "follow"),
    "a movement of nothing": (
        lambda s: s.redis.hset(s.keys.state, "mv", 99), "movement", "rebuild"),
    "another quantity": (lambda s: s.redis.hset(s.keys.state, "quantity", 50), "term", "rebuild"),
    "another status": (lambda s: s.redis.hset(s.keys.state, "status", "paused"), "term", "rebuild"),
    "another limit": (lambda s: s.redis.hset(s.keys.state, "per_viewer", 9), "term", "rebuild"),
    "a later epoch": (lambda s: s.redis.hset(s.keys.state, "epoch", 7), "epoch", "rebuild"),
    "another run": (lambda s: s.redis.hset(s.keys.state, "run", "abc"), "state", "rebuild"),
    "half a state": (lambda s: s.redis.hdel(s.keys.state, "rank"), "state", "rebuild"),
    "nothing": (lambda s: s.redis.flushdb(), "state", "rebuild"),
    "an unwritten hold that is none": (
        lambda s: s.redis.zadd(s.keys.unwritten, {"or_ghost": 1}), "waiting", "rebuild"),
    "a viewer who waits for nothing": (
        lambda s: s.redis.hset(s.keys.waiting, "ann", 1), "waiting", "rebuild"),
}  # fmt: skip


@pytest.mark.parametrize("way", ["follow", "resolve", "rebuild"])
async def test_what_is_planted_is_found_named_and_mended(
    way: str, sale: Sale, reconciler: Reconciler
) -> None:
    """Each kind of damage has a name, a way to mend it, and is gone afterwards."""
    for what, (plant, kind, mended_by) in PLANTED.items():
        if mended_by == way:
            await plant(sale)
            standing = await reconciler.differences(sale.offer.id)
            assert kind in {one.kind for one in standing}, what
            assert await reconciler.mend(sale.offer.id, standing) == way, what
            assert await reconciler.differences(sale.offer.id) == [], what
            await sale.shop.at_rest(sale.offer.id)


async def test_one_damage_is_one_difference(sale: Sale, reconciler: Reconciler) -> None:
    """What is named is what was done, with both sides, and nothing beside it."""
    await sale.redis.hset(sale.keys.viewers, "ann", 1)
    assert await reconciler.differences(sale.offer.id) == [
        Difference("viewer", "ann", "1", "3", "rebuild", lasting="-2")
    ]


async def test_looking_changes_nothing(sale: Sale, reconciler: Reconciler) -> None:
    """Without a repair Redis is afterwards what it was before."""

    async def dump() -> list[Any]:
        return [await sale.redis.dump(key) for key in sale.keys]

    await sale.redis.hincrby(sale.keys.state, "left", 2)
    await _unwritten_hold(sale)
    before = await dump()
    assert len(await reconciler.differences(sale.offer.id)) == 2
    assert await dump() == before


async def test_what_goes_between_two_looks_is_no_difference(
    sale: Sale, hub: Hub, reconciler: Reconciler
) -> None:
    """A hold on its way to its row is seen once, and is nobody's trouble (R11)."""
    await hub.gate.hold(sale.offer.id, [], [("zoe", 1, "or_slow", "3:zoek")])
    found = Found(10)
    async for _ in reconciler.walk(sale.offer.id, found):
        pass
    assert [one.subject for one in found.all.values()] == ["or_slow"]
    assert bought(await hub.buy(sale.offer.id, "zoe", 1, "k")).id == "or_slow"
    assert await reconciler.standing(sale.offer.id, found) == []


async def test_the_keeper_mends_what_stands_in_two_looks(sale: Sale, hub: Hub) -> None:
    """In the background: nothing after one look, everything after the second (R11)."""
    keeper, limits = hub.keeper, hub.keeper.reconciler.limits
    keeper.reconciler.limits = ReconcileLimits(page=2, grace_s=3_600, pause_s=0, work_s=0)
    await sale.redis.hincrby(sale.keys.state, "left", 2)
    epoch = await sale.epoch()
    for _ in range(100):
        await keeper.reconcile()
    assert await sale.epoch() == epoch
    hub.keeper = keeper = type(keeper)(
        hub.ledger, hub.gate, hub.changes, hub.rebuilder, hub.heard, keeper.limits
    )
    keeper.reconciler.limits = limits
    running = asyncio.create_task(keeper.run())

    async def mended() -> bool:
        return await sale.epoch() > epoch

    await until(mended)
    running.cancel()
    await asyncio.wait({running})
    assert metrics.DIFFERENCES._value.get() == 0
    await sale.shop.at_rest(sale.offer.id)


async def test_an_end_that_reconcile_brings_to_the_gate_is_told(
    sale: Sale, hub: Hub, reconciler: Reconciler
) -> None:
    """Whoever mends a lag tells the viewer first: the keeper would see nothing left to tell."""
    await _commit_untold(sale)
    hub.heard.changes.clear()
    await reconciler.mend(sale.offer.id, await reconciler.differences(sale.offer.id))
    assert [(o.id, o.status) for o in hub.heard.changes] == [(sale.live.id, "cancelled")]


async def test_a_busy_sale_is_never_frozen(shop: Shop, hub: Hub, reconciler: Reconciler) -> None:
    """Looked at without a pause while it sells, cancels, expires and restocks: nothing stands."""
    other = await shop.hub()
    offer = await shop.offer(200, per_viewer=4)
    epoch = await shop.redis.hget(keys_of(offer.id).state, "epoch")
    reconciler.limits = ReconcileLimits(page=20, grace_s=0.5)
    looks, over = 0, asyncio.Event()

    async def look() -> None:
        nonlocal looks
        while not over.is_set():
            assert await reconciler.differences(offer.id) == []
            looks += 1

    async def viewer(name: str, hub: Hub) -> None:
        draw = random.Random(name)
        for _ in range(25):
            outcome = await hub.buy_until_final(offer.id, name, draw.randint(1, 3))
            if isinstance(outcome, Accepted):
                with suppress(LedgerAway):  # sixty at once may have to wait too long for one
                    await change(draw.randint(0, 3), hub, outcome.order.id)

    async def change(what: int, hub: Hub, order: str) -> None:
        match what:
            case 0:
                await hub.changes.cancel(order, by_host=False, reason=None)
            case 1:
                await shop.fetch("update orders set expires_at = now() where id = $1", order)
            case 2:
                await hub.changes.pay(order)

    async def keep() -> None:
        while not over.is_set():
            with suppress(LedgerAway):
                await hub.keeper.expire()
                await hub.changes.restock(offer.id, f"r{random.random()}", 3)
            await asyncio.sleep(0.02)

    background = [asyncio.create_task(work()) for work in (look, look, look, keep)]
    hubs = (hub, other)
    await asyncio.gather(*(viewer(f"v{n}", hubs[n % 2]) for n in range(60)))
    over.set()
    await asyncio.gather(*background)
    assert looks >= 3
    assert await shop.redis.hget(keys_of(offer.id).state, "epoch") == epoch
    await hub.keeper.round()
    await until(lambda: all(c.idle for h in hubs for c in h.selling._counters.values()))
    await shop.at_rest(offer.id)


async def test_books_that_do_not_agree_with_themselves_are_named_and_left(
    sale: Sale, reconciler: Reconciler
) -> None:
    """What is wrong in Postgres alone no gate can mend: it is said, and nothing is done."""
    await sale.shop.fetch("update offers set taken = taken - 1 where id = $1", sale.offer.id)
    standing = await reconciler.differences(sale.offer.id)
    assert {one.kind for one in standing} == {"books"}
    assert await reconciler.mend(sale.offer.id, standing) == "none"


async def test_a_closed_offer_agrees_once_it_is_forgotten(sale: Sale, hub: Hub) -> None:
    """Closed, and gone from Redis: it is answered from its rows."""
    await hub.changes.close_offer(sale.offer.id)
    assert await hub.keeper.reconciler.differences(sale.offer.id) == []
    await sale.redis.flushdb()
    assert await hub.keeper.reconciler.differences(sale.offer.id) == []


async def test_the_command_says_and_mends(
    sale: Sale,
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`livecart reconcile`: status 1 and the names while it differs, 0 once it was mended."""
    monkeypatch.setenv("LIVECART_DATABASE_URL", shop.database_url)
    monkeypatch.setenv("LIVECART_REDIS_URL", shop.redis_url)

    async def command(*arguments: str) -> tuple[int, str]:
        status = await asyncio.to_thread(run, ["reconcile", *arguments])
        return status, capsys.readouterr().out

    assert (await command())[0] == 0
    await sale.redis.hdel(sale.keys.holds, sale.live.id)
    status, said = await command(sale.offer.id)
    assert status == 1
    assert f"row without hold: {sale.live.id}" in said
    status, said = await command("--repair", "--json")
    assert status == 0
    (told,) = json.loads(said)["offers"]
    assert told["differences"][0]["subject"] == sale.live.id
    assert (told["mended"], told["remaining"], told["agrees"]) == ("rebuild", [], True)
    assert told["redis"]["left"] == told["postgres"]["left"] == 13
    await shop.at_rest(sale.offer.id)
    assert (await command("of_none"))[0] == 1
