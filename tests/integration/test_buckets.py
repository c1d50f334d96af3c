"""Offers whose units are spread over buckets: sold to the last unit, from wherever it is."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from livecart.cli import run
from orders.keeper import KeeperLimits
from orders.ledger.ledger import LedgerAway
from orders.reconcile import Found
from orders.records import Accepted, Offer, Refused, Waitlisted
from orders.stock.gate import Frozen, GateAway
from orders.stock.keys import keys_of
from tests.shop import Shop, bought, done, together, until, why


def viewers_of(offer: Offer, bucket: int, n: int) -> list[str]:
    """Return n viewers who are at home in one bucket (from 1)."""
    names = (f"v{at}" for at in itertools.count())
    home = offer.homes[bucket - 1]
    return list(itertools.islice((v for v in names if offer.home(v) == home), n))


async def status_of(shop: Shop, offer: str) -> str:
    return str((await shop.fetch("select status from offers where id = $1", offer))[0][0])


async def until_status(shop: Shop, offer: str, status: str) -> None:
    async def is_so() -> bool:
        return await status_of(shop, offer) == status

    await until(is_so)


async def served(shop: Shop, viewers: list[str], key: str = "w") -> None:
    """Wait until these, in their order, got what they waited for, and nobody else did."""

    async def is_so() -> bool:
        await kept(shop)
        rows = await shop.fetch(
            "select viewer from orders where key = $1 order by reserved_at", key
        )
        assert [r[0] for r in rows] == viewers[: len(rows)]
        return len(rows) == len(viewers)

    await until(is_so)


async def kept(shop: Shop) -> None:
    """Have a keeper do all that is due, and resolve what nobody finished."""
    keeper = shop.hubs[0].keeper
    keeper.limits = KeeperLimits(grace_ms=0, lag_grace_s=0, building_s=0)
    for _ in range(3):
        await keeper.round()


async def test_a_crowd_gets_exactly_what_there_is(shop: Shop) -> None:
    """Two hubs sell an offer in four buckets to the last unit; then all are told `sold_out`."""
    other = await shop.hub()
    offer = await shop.offer(101, buckets=4)
    assert [await shop.hubs[0].left(home) for home in offer.homes] == [26, 25, 25, 25]
    hubs = (shop.hubs[0], other)
    outcomes = await asyncio.gather(
        *(hubs[n % 2].buy_until_final(offer.id, f"v{n}") for n in range(500))
    )
    sold = [o.order for o in outcomes if isinstance(o, Accepted)]
    assert len(sold) == 101
    assert {why(o) for o in outcomes if isinstance(o, Refused)} == {"sold_out"}
    assert {o.offer for o in sold} == {offer.id}
    await shop.hubs[0].keeper.round()
    await shop.whole_at_rest(offer.id)
    assert await status_of(shop, offer.id) == "sold_out"
    heard = [h.heard.last[offer.id] for h in shop.hubs if offer.id in h.heard.last]
    assert max(heard, key=lambda figures: figures.version).left == 0


async def test_one_bucket_can_sell_all(shop: Shop) -> None:
    """Viewers of one bucket buy what lies in all of them, a buy of many units too."""
    offer = await shop.offer(40, buckets=4, per_viewer=25)
    first, second, *rest = viewers_of(offer, 2, 12)
    hub = shop.hubs[0]
    order = bought(await hub.buy_until_final(offer.id, first, 25))
    assert (order.qty, order.bucket, order.offer) == (25, 2, offer.id)
    assert why(await hub.buy_until_final(offer.id, second, 16)) == "sold_out"
    bought(await hub.buy_until_final(offer.id, second, 6))
    outcomes = await asyncio.gather(*(hub.buy_until_final(offer.id, v) for v in rest))
    assert sum(isinstance(o, Accepted) for o in outcomes) == 9
    await kept(shop)
    await shop.whole_at_rest(offer.id)
    assert await status_of(shop, offer.id) == "sold_out"


async def test_limit_and_key_are_the_viewers(shop: Shop) -> None:
    """A viewer's limit and keys hold whatever bucket the units came from, over two hubs."""
    other = await shop.hub()
    offer = await shop.offer(8, buckets=8, per_viewer=3)
    hubs = (shop.hubs[0], other)
    outcomes = await asyncio.gather(
        *(hubs[n % 2].buy_until_final(offer.id, "ann", 1, f"key{n % 4}") for n in range(16))
    )
    sold = {o.order.id for o in outcomes if isinstance(o, Accepted)}
    assert len(sold) == 3
    assert {why(o) for o in outcomes if isinstance(o, Refused)} == {"limit_reached"}
    await kept(shop)
    await shop.whole_at_rest(offer.id)


async def test_what_comes_back_is_sold_elsewhere(shop: Shop) -> None:
    """A cancelled unit reopens the sold-out offer, and goes to whoever wants it."""
    offer = await shop.offer(4, buckets=2)
    hub = shop.hubs[0]
    orders = [bought(await hub.buy_until_final(offer.id, v)) for v in viewers_of(offer, 1, 4)]
    await kept(shop)
    assert await status_of(shop, offer.id) == "sold_out"
    done(await hub.changes.cancel(orders[0].id, False, None))
    await until_status(shop, offer.id, "open")
    bought(await hub.buy_until_final(offer.id, viewers_of(offer, 2, 1)[0]))
    done(await hub.changes.pay(orders[1].id))
    await kept(shop)
    await shop.whole_at_rest(offer.id)
    assert await status_of(shop, offer.id) == "sold_out"
    kinds = await shop.fetch("select kind from facts where subject = $1 order by n", offer.id)
    assert [k[0] for k in kinds] == [
        "offer.opened", "offer.sold_out", "offer.restocked", "offer.sold_out",
    ]  # fmt: skip


async def test_the_host_restocks_lowers_pauses_and_closes(shop: Shop) -> None:
    """What a host does to the offer is done in every bucket, once."""
    offer = await shop.offer(10, buckets=4)
    hub = shop.hubs[0]
    assert done(await hub.changes.restock(offer.id, "r1", 7)).quantity == 17
    assert done(await hub.changes.restock(offer.id, "r1", 7)).quantity == 17
    for viewer in viewers_of(offer, 3, 6):
        bought(await hub.buy_until_final(offer.id, viewer))
    assert why(await hub.changes.revise_offer(offer.id, {"quantity": 5})) == "conflict"
    assert done(await hub.changes.revise_offer(offer.id, {"quantity": 8})).left == 2
    await shop.whole_at_rest(offer.id)
    done(await hub.changes.pause_offer(offer.id))
    assert why(await hub.buy_until_final(offer.id, "late")) == "not_open"
    done(await hub.changes.resume_offer(offer.id))
    bought(await hub.buy_until_final(offer.id, "late"))
    bought(await hub.buy_until_final(offer.id, "later"))
    assert why(await hub.buy_until_final(offer.id, "last")) == "sold_out"
    done(await hub.changes.close_offer(offer.id))
    assert why(await hub.buy_until_final(offer.id, "last")) == "closed"
    await kept(shop)
    await shop.whole_at_rest(offer.id)
    sums = await hub.keeper.reconciler.books.sums(offer.id)
    assert sums is not None
    assert sums.differences() == []


async def test_a_bucket_is_not_an_offer(shop: Shop) -> None:
    """Nobody outside can buy from a bucket by its id, nor is one listed."""
    offer = await shop.offer(4, buckets=2)
    hub = shop.hubs[0]
    assert why(await hub.buy_until_final(offer.homes[0], "ann")) == "not_found"
    assert [o.id for o in await hub.ledger.offers_of_stream(offer.stream)] == [offer.id]


async def test_a_draft_has_no_buckets_yet(shop: Shop) -> None:
    """What a draft is changed to is what its buckets are made of."""
    offer = await shop.offer(4, buckets=2, opened=False)
    hub = shop.hubs[0]
    done(await hub.changes.revise_offer(offer.id, {"buckets": 3, "quantity": 7, "per_viewer": 2}))
    now = done(await hub.changes.open_offer(offer.id))
    assert [await hub.left(home) for home in now.homes] == [3, 2, 2]
    bought(await hub.buy_until_final(offer.id, "ann", 2))
    await kept(shop)
    await shop.whole_at_rest(offer.id)


async def test_orders_expire_in_every_bucket(shop: Shop) -> None:
    """Overdue orders end and come back, whatever bucket they are in."""
    offer = await shop.offer(20, buckets=4, hold_s=1)
    hub = shop.hubs[0]
    await asyncio.gather(*(hub.buy_until_final(offer.id, f"v{n}") for n in range(20)))
    await until(lambda: offer.id in hub.heard.last and hub.heard.last[offer.id].left == 0)

    async def all_ended() -> bool:
        await hub.keeper.round()
        rows = await shop.fetch("select count(*) from orders where status = 'expired'")
        return bool(rows[0][0] == 20)

    await until(all_ended)
    await hub.keeper.round()
    await shop.whole_at_rest(offer.id)
    assert await status_of(shop, offer.id) == "open"
    assert hub.heard.last[offer.id].left == 20


async def test_who_waits_gets_what_comes_back_elsewhere(shop: Shop) -> None:
    """A unit that comes back in one bucket reaches the first who waits in another."""
    offer = await shop.offer(2, buckets=2)
    hub = shop.hubs[0]
    here, there = viewers_of(offer, 1, 3), viewers_of(offer, 2, 2)
    orders = [bought(await hub.buy_until_final(offer.id, v)) for v in here[:2]]
    for place, viewer in enumerate((there[0], there[1], here[2]), 1):
        joined = await hub.selling.waitlist.join(offer.id, viewer, 1, "w")
        assert isinstance(joined, Waitlisted), joined
        assert joined.position <= place
    assert await hub.selling.waitlist.leave(offer.id, here[2]) is None
    await kept(shop)
    done(await hub.changes.cancel(orders[0].id, False, None))
    await served(shop, [there[0]])
    await shop.whole_at_rest(offer.id)
    assert await status_of(shop, offer.id) == "sold_out"
    done(await hub.changes.close_offer(offer.id))
    assert (await shop.fetch("select count(*) from waitlist"))[0][0] == 0
    await shop.whole_at_rest(offer.id)


async def test_who_cannot_be_served_keeps_nobody_from_it(shop: Shop) -> None:
    """Units go to the first who may have them: not to and fro between two who have all they may.

    Nobody is told of a unit that is on its way to who waits.
    """
    offer = await shop.offer(3, buckets=2, per_viewer=2)
    hub = shop.hubs[0]
    one, other, third = viewers_of(offer, 1, 1)[0], *viewers_of(offer, 2, 2)
    orders = [bought(await hub.buy_until_final(offer.id, f"lost{n}")) for n in range(3)]
    for viewer, qty in ((one, 2), (other, 2), (third, 1)):
        joined = await hub.selling.waitlist.join(offer.id, viewer, qty, "w")
        assert isinstance(joined, Waitlisted), joined
    assert await hub.selling.waitlist.leave(offer.id, third) is None
    for viewer, order in ((one, orders[0]), (other, orders[1])):
        done(await hub.changes.cancel(order.id, False, None))
        bought(await hub.buy_until_final(offer.id, viewer))
    joined = await hub.selling.waitlist.join(offer.id, third, 1, "v")
    assert isinstance(joined, Waitlisted), joined
    await kept(shop)
    await until_status(shop, offer.id, "sold_out")
    told = await shop.fetch("select count(*) from facts")
    done(await hub.changes.cancel(orders[2].id, False, None))
    await served(shop, [third], "v")
    assert await shop.fetch("select count(*) from facts") == told
    moved = await shop.fetch("select count(*) from transfers")
    got = await shop.fetch("select id from orders where key = 'v'")
    done(await hub.changes.cancel(got[0][0], False, None))
    await until_status(shop, offer.id, "open")  # free, and for neither of those who wait
    await kept(shop)
    assert await shop.fetch("select count(*) from transfers") == moved
    await shop.whole_at_rest(offer.id)


@pytest.mark.parametrize(
    ("buckets", "units", "qty", "hubs"), [(8, 30, 3, 1), (16, 16, 9, 3), (16, 8, 2, 2)]
)
async def test_the_last_units_go_to_somebody(
    shop: Shop, buckets: int, units: int, qty: int, hubs: int
) -> None:
    """Buys that are all short, in many buckets and hubs, do not take from each other for ever."""
    for _ in range(hubs - 1):
        await shop.hub()
    offer = await shop.offer(units, buckets=buckets, per_viewer=qty)
    buyers = 2 * units // qty + buckets
    outcomes = await asyncio.gather(
        *(shop.hubs[n % hubs].buy_until_final(offer.id, f"v{n}", qty) for n in range(buyers))
    )
    assert sum(isinstance(o, Accepted) for o in outcomes) == units // qty
    assert {why(o) for o in outcomes if isinstance(o, Refused)} == {"sold_out"}
    await kept(shop)
    await shop.whole_at_rest(offer.id)
    moved = await shop.fetch("select count(*) from transfers")
    assert moved[0][0] <= 10 * buckets


async def test_a_bucket_that_ran_out_in_the_ledger_is_no_sold_out(shop: Shop) -> None:
    """The host takes units that are held in one bucket: their buyers get some of the others'."""
    offer = await shop.offer(20, buckets=2)
    hub = shop.hubs[0]
    admit, go = hub.ledger.admit, asyncio.Event()

    async def slow(*args: Any) -> Any:
        await go.wait()
        return await admit(*args)

    hub.ledger.admit = slow  # type: ignore[method-assign,assignment]
    buys = [hub.start_buy(offer.id, viewer) for viewer in viewers_of(offer, 1, 9)]

    async def all_held() -> bool:
        return await hub.left(offer.homes[0]) == 1

    await until(all_held)
    done(await hub.changes.revise_offer(offer.id, {"quantity": 10}))
    go.set()
    outcomes = await asyncio.gather(*buys)
    assert [why(o) for o in outcomes if isinstance(o, Refused)] == []
    await kept(shop)
    await shop.whole_at_rest(offer.id)


async def test_a_slow_ledger_is_no_dead_gate_and_keeps_nobody_waiting(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While transfers take long, whoever is short is told `retry` in time, whenever he came."""
    offer = await shop.offer(8, buckets=2)
    hub = shop.hubs[0]
    here = viewers_of(offer, 1, 7)
    for viewer in here[:4]:
        bought(await hub.buy_until_final(offer.id, viewer))
    go, transfer = asyncio.Event(), hub.ledger.transfer

    async def slow(*args: Any) -> str:
        await go.wait()
        return await transfer(*args)

    monkeypatch.setattr(hub.ledger, "transfer", slow)
    first = hub.start_buy(offer.id, here[4])
    assert why(await asyncio.wait_for(first, 1.0)) == "retry"
    assert why(await asyncio.wait_for(hub.buy(offer.id, here[5]), 1.0)) == "retry"
    assert all(map(hub.selling.well_for, offer.homes))
    go.set()
    bought(await hub.buy_until_final(offer.id, here[6]))
    await kept(shop)
    await shop.whole_at_rest(offer.id)


async def test_figures_follow_a_host_who_changes_nothing(shop: Shop) -> None:
    """A restock that was sent before takes no news of sales away from viewers."""
    offer = await shop.offer(10, buckets=2)
    hub = shop.hubs[0]
    done(await hub.changes.restock(offer.id, "r", 1))
    for viewer in ("ann", "bob"):
        bought(await hub.buy_until_final(offer.id, viewer))
        done(await hub.changes.restock(offer.id, "r", 1))
    await until(lambda: offer.id in hub.heard.last and hub.heard.last[offer.id].left == 9)


async def test_a_bundle_takes_from_buckets(shop: Shop) -> None:
    """A bundle over a plain offer and one in buckets is made whole or not at all."""
    stream = await shop.stream()
    plain = await shop.offer(2, stream=stream, per_viewer=2)
    spread = await shop.offer(6, stream=stream, buckets=3, per_viewer=4)
    hub = shop.hubs[0]
    lines = [(plain.id, 1), (spread.id, 4)]
    made = together(await hub.bundle(stream, "ann", lines, "k"))
    assert [o.offer for o in made.orders] == [plain.id, spread.id]
    assert together(await hub.bundle(stream, "ann", lines, "k")).replayed
    assert why(await hub.bundle(stream, "bob", [(plain.id, 1), (spread.id, 3)])) == "sold_out"
    together(await hub.bundle(stream, "bob", [(plain.id, 1), (spread.id, 2)]))
    await kept(shop)
    await shop.rested(plain.id)
    await shop.whole_at_rest(spread.id)


async def test_lost_gates_are_rebuilt_with_what_was_lent(shop: Shop) -> None:
    """An emptied Redis in the middle of a sale: every bucket comes back with its own units."""
    offer = await shop.offer(60, buckets=3)
    hub = shop.hubs[0]
    for viewer in viewers_of(offer, 1, 25):
        bought(await hub.buy_until_final(offer.id, viewer))
    await shop.redis.flushall()
    await kept(shop)
    await shop.whole_at_rest(offer.id)
    outcomes = await asyncio.gather(*(hub.buy_until_final(offer.id, f"w{n}") for n in range(60)))
    assert sum(isinstance(o, Accepted) for o in outcomes) == 35
    await kept(shop)
    await shop.whole_at_rest(offer.id)


CUTS = ("lend", "transfer-before", "transfer-after", "follow-borrower", "follow-lender")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("emptied", [False, True])
async def test_a_transfer_that_is_cut_off_loses_nothing(
    shop: Shop, cut: str, emptied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever borrowed dies between two steps: the keeper ends it, and every unit is sold once."""
    offer = await shop.offer(8, buckets=2)
    hub, other = shop.hubs[0], await shop.hub()
    home, lender = offer.homes
    free = (await hub.ledger.free_in_buckets([offer.id]))[offer.id]
    lend, transfer, follow = hub.gate.lend, hub.ledger.transfer, hub.rebuilder.follow

    async def cut_lend(*args: Any) -> Any:
        await lend(*args)
        raise GateAway("cut")

    async def cut_transfer(*args: Any) -> str:
        if cut == "transfer-after":
            await transfer(*args)
        raise LedgerAway("cut")

    async def cut_follow(offer: str, told: Any = ()) -> bool:
        if offer == (home if cut == "follow-borrower" else lender):
            raise GateAway("cut")
        return await follow(offer, told)

    with monkeypatch.context() as patch:
        if cut == "lend":
            patch.setattr(hub.gate, "lend", cut_lend)
        elif cut.startswith("transfer"):
            patch.setattr(hub.ledger, "transfer", cut_transfer)
        else:
            patch.setattr(hub.rebuilder, "follow", cut_follow)
        if cut in ("lend", "follow-lender"):  # a lender's trouble is not the borrower's
            moved = await hub.selling.lending.borrow(home, free, 2)
            assert moved == (0 if cut == "lend" else 2)
        else:
            with pytest.raises((GateAway, LedgerAway)):
                await hub.selling.lending.borrow(home, free, 2)
    if emptied:
        await shop.redis.flushall()
    await kept(shop)
    await shop.whole_at_rest(offer.id)
    made = await shop.fetch("select lender, borrower, units from transfers")
    expected = [] if cut in ("lend", "transfer-before") else [(lender, home, 2)]
    assert [tuple(t) for t in made] == expected
    outcomes = await asyncio.gather(
        *(other.buy_until_final(offer.id, viewer) for viewer in viewers_of(offer, 1, 9))
    )
    assert sum(isinstance(o, Accepted) for o in outcomes) == 8
    assert {why(o) for o in outcomes if isinstance(o, Refused)} == {"sold_out"}
    await kept(shop)
    await shop.whole_at_rest(offer.id)


async def test_units_under_way_forbid_sold_out(shop: Shop) -> None:
    """While the last units are between two buckets, nobody is told that there are none."""
    offer = await shop.offer(4, buckets=2)
    hub = shop.hubs[0]
    here = viewers_of(offer, 1, 6)
    for viewer in here[:2]:
        bought(await hub.buy_until_final(offer.id, viewer))
    lent = await hub.gate.lend(offer.homes[1], "tf_way", 2)
    assert not isinstance(lent, Frozen)
    assert lent.units == 2  # neither gate has one left now, and no row has them
    assert [await hub.left(home) for home in offer.homes] == [0, 0]
    assert why(await hub.buy(offer.id, here[2])) == "retry"
    word = await hub.ledger.transfer("tf_way", offer.homes[1], offer.homes[0], *_of(lent))
    assert word == "ok"
    assert (
        await hub.ledger.transfer("tf_way", offer.homes[1], offer.homes[0], *_of(lent)) == "again"
    )
    bought(await hub.buy(offer.id, here[2]))  # the gate is told of them by who needs them
    bought(await hub.buy_until_final(offer.id, here[3]))
    assert why(await hub.buy_until_final(offer.id, here[4])) == "sold_out"
    await kept(shop)
    await shop.whole_at_rest(offer.id)


async def test_a_fenced_transfer_moves_nothing(shop: Shop) -> None:
    """A borrower that was stopped after it set units aside comes back too late (R1)."""
    offer = await shop.offer(4, buckets=2)
    hub = shop.hubs[0]
    lent = await hub.gate.lend(offer.homes[1], "tf_late", 2)
    assert not isinstance(lent, Frozen)
    await kept(shop)
    assert await hub.left(offer.homes[1]) == 2
    args = ("tf_late", offer.homes[1], offer.homes[0], *_of(lent))
    assert await hub.ledger.transfer(*args) == "fenced"
    await shop.whole_at_rest(offer.id)


async def test_the_books_of_an_offer_and_of_its_buckets(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`livecart ledger` and `reconcile` by the offer's id, and by a bucket's; what is damaged in a
    bucket is named and mended, and units that were set aside are no damage.
    """
    offer = await shop.offer(6, buckets=2)
    hub = shop.hubs[0]
    orders = [bought(await hub.buy_until_final(offer.id, v)) for v in viewers_of(offer, 1, 4)]
    done(await hub.changes.cancel(orders[0].id, False, None))
    lent = await hub.gate.lend(offer.homes[1], "tf_aside", 1)
    assert not isinstance(lent, Frozen)
    reconciler = hub.keeper.reconciler
    for home in offer.homes:
        found = Found(10)
        async for _ in reconciler.walk(home, found):
            pass
        assert {one.kind for one in found.all.values()} <= {"hold_without_row"}
    word = await hub.ledger.transfer("tf_aside", offer.homes[1], offer.homes[0], *_of(lent))
    assert word == "ok"
    await kept(shop)
    monkeypatch.setenv("LIVECART_DATABASE_URL", shop.database_url)
    monkeypatch.setenv("LIVECART_REDIS_URL", shop.redis_url)

    async def command(*arguments: str) -> tuple[int, str]:
        status = await asyncio.to_thread(run, list(arguments))
        return status, capsys.readouterr().out

    status, said = await command("ledger", offer.id)
    assert (status, "the sums agree: quantity 6, taken 3" in said) == (0, True)
    assert "borrow" not in said
    status, said = await command("ledger", offer.homes[0])
    assert (status, "borrow" in said) == (0, True)
    assert (await command("reconcile", offer.id))[0] == 0
    await shop.redis.hdel(keys_of(offer.homes[0]).holds, orders[1].id)
    status, said = await command("reconcile", offer.id)
    assert (status, f"row without hold: {orders[1].id}" in said) == (1, True)
    assert (await command("reconcile", "--repair", offer.id))[0] == 0
    await shop.whole_at_rest(offer.id)


def _of(lent: Any) -> tuple[int, int, int]:
    return lent.units, lent.epoch, lent.rank
