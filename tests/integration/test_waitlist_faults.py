"""The waitlist beside crashes, pauses, a lost Redis and a crowd: nothing lost or twice (R12)."""

from __future__ import annotations

import asyncio

import pytest

from loadtest.audit import audit
from orders.ledger.ledger import LedgerAway
from orders.records import Accepted, Refused
from orders.stock.gate import Frozen
from orders.stock.keys import keys_of
from tests.shop import Hub, Shop, until, why
from tests.waitlist_rig import (
    AT_ONCE,
    join,
    let_expire,
    orders_of,
    place,
    refused,
    sold_out,
    told,
    waiting,
)


@pytest.fixture
def hub(shop: Shop) -> Hub:
    """A hub whose keeper waits for nobody."""
    shop.hubs[0].keeper.limits = AT_ONCE
    return shop.hubs[0]


async def test_a_promotion_that_nobody_told_is_told(shop: Shop, hub: Hub) -> None:
    """A process that dies after its COMMIT: the keeper swaps ids in the gate, and tells both."""
    offer, (first,) = await sold_out(shop, hub)
    await join(hub, offer, "ann")
    await hub.ledger.cancel(first.id, False, None)
    assert await hub.left(offer.id) == 0
    await hub.keeper.round()
    assert told(hub.heard.changes, "ann") == ["reserved"]
    assert told(hub.heard.changes, "b0") == ["cancelled"]
    await shop.at_rest(offer.id)


async def test_the_swap_never_raises_what_is_left(shop: Shop, hub: Hub) -> None:
    """Applied one movement at a time, and each again, `left` is 0 after any of them (R4, R12)."""
    offer, (first,) = await sold_out(shop, hub)
    await join(hub, offer, "ann")
    await hub.ledger.cancel(first.id, False, None)
    read = hub.ledger.movements
    seen = []

    async def one(of: str, after: int) -> list[object]:
        seen.append(await hub.left(offer.id))
        rows = (await read(of, after))[:1]
        return list(rows)

    hub.ledger.movements = one  # type: ignore[method-assign,assignment]
    assert await hub.rebuilder.follow(offer.id)
    assert seen == [0, -1, 0]
    hub.ledger.movements = read  # type: ignore[method-assign]
    await hub.rebuilder.follow(offer.id)
    await shop.at_rest(offer.id)


async def test_the_list_survives_the_loss_of_redis(shop: Shop, hub: Hub) -> None:
    """FLUSHALL with people waiting and a promotion right after: told, in the gate, ranks go on."""
    offer, sold = await sold_out(shop, hub, 2)
    for viewer in ("ann", "bob", "cem"):
        await join(hub, offer, viewer)
    await shop.redis.flushdb()
    await hub.changes.cancel(sold[0].id, by_host=False, reason=None)
    assert isinstance(await hub.gate.probe(offer.id, 0, 0), Frozen)
    assert refused(await hub.selling.waitlist.join(offer.id, "dan", 1, "k")) == "retry"
    await hub.keeper.round()
    assert told(hub.heard.changes, "ann") == ["reserved"]
    await shop.at_rest(offer.id)
    assert place(await join(hub, offer, "dan")) == 3
    ranks = [e.rank for e in await waiting(hub, offer)]
    assert ranks == [4, 5, 6]  # above the entries', not above the orders' alone
    await hub.changes.cancel(sold[1].id, by_host=False, reason=None)
    assert told(hub.heard.changes, "bob") == ["reserved"]
    await shop.at_rest(offer.id)


async def test_a_rank_of_a_lost_gate_is_no_rank(shop: Shop, hub: Hub) -> None:
    """A hub stopped between its rank and the entry, a rebuild meanwhile: it draws anew (R2)."""
    offer, _ = await sold_out(shop, hub)
    join_, stopped, go = hub.selling.waitlist.ledger.join, asyncio.Event(), asyncio.Event()
    epochs = []

    async def slow(of: str, epoch: int, *rest: object) -> object:
        epochs.append(epoch)
        stopped.set()
        await go.wait()
        return await join_(of, epoch, *rest)  # type: ignore[arg-type]

    hub.selling.waitlist.ledger.join = slow  # type: ignore[method-assign,assignment]
    waits = asyncio.create_task(hub.selling.waitlist.join(offer.id, "ann", 1, "k"))
    await stopped.wait()
    await shop.redis.flushdb()
    await hub.keeper.round()
    other = await shop.hub()
    assert place(await join(other, offer, "bob")) == 1
    go.set()
    answer = await waits
    if isinstance(answer, Refused):
        assert answer.why == "retry"
        answer = await join(hub, offer, "ann", 1, "k")
    assert place(answer) == 2
    assert epochs[0] < epochs[-1]
    ranks = [e.rank for e in await waiting(hub, offer)]
    assert len(set(ranks)) == len(ranks)


async def test_a_gate_of_another_run_gives_no_ranks(shop: Shop, hub: Hub) -> None:
    """A Redis that restarted between buy and rank may have lost ranks: nobody joins (R2)."""
    offer, _ = await sold_out(shop, hub)
    draw = hub.gate.draw

    async def restarted(of: str, n: int) -> object:
        await shop.redis.hset(keys_of(of).state, "run", "0123")
        return await draw(of, n)

    hub.gate.draw = restarted  # type: ignore[method-assign,assignment]
    assert refused(await hub.selling.waitlist.join(offer.id, "ann", 1, "k")) == "retry"
    assert await waiting(hub, offer) == []
    assert await shop.redis.hget(keys_of(offer.id).state, "rank") == b"1"


async def test_a_unit_that_comes_back_between_is_not_missed(shop: Shop, hub: Hub) -> None:
    """Sold out to the gate, free under the lock: the joiner buys it, and nobody waits beside it."""
    offer, (first,) = await sold_out(shop, hub)
    draw, between = hub.gate.draw, 0

    async def slow(of: str, n: int) -> object:
        nonlocal between
        if not between:
            between = 1
            await hub.changes.cancel(first.id, by_host=False, reason=None)
        return await draw(of, n)

    hub.gate.draw = slow  # type: ignore[method-assign,assignment]
    answer = await join(hub, offer, "ann")
    assert isinstance(answer, Accepted)
    assert await waiting(hub, offer) == []
    await shop.rested(offer.id)


async def test_a_unit_that_the_gate_does_not_know_of_yet_is_waited_for(
    shop: Shop, hub: Hub
) -> None:
    """Free in Postgres, its movement not applied: `retry` until the gate knows, then an order."""
    offer, (first,) = await sold_out(shop, hub)
    await hub.ledger.cancel(first.id, False, None)
    answer = await hub.selling.waitlist.join(offer.id, "ann", 1, "k")
    assert refused(answer) == "retry"
    assert await waiting(hub, offer) == []
    await hub.keeper.round()
    assert isinstance(await join(hub, offer, "ann", 1, "k"), Accepted)
    await shop.rested(offer.id)


async def test_a_lost_answer_is_found_by_its_key(shop: Shop, hub: Hub) -> None:
    """The entry is committed, the answer never comes: `retry`, then the same place (I10)."""
    offer, _ = await sold_out(shop, hub)
    rows = hub.ledger.rows

    async def lossy(sql: str, *args: object) -> object:
        found = await rows(sql, *args)
        if "join_waitlist" in sql:
            hub.ledger.rows = rows  # type: ignore[method-assign]
            raise LedgerAway("planted")
        return found

    hub.ledger.rows = lossy  # type: ignore[method-assign,assignment]
    answer = await hub.selling.waitlist.join(offer.id, "ann", 1, "k")
    assert refused(answer) == "retry"
    assert place(await join(hub, offer, "ann", 1, "k")) == 1
    assert len(await waiting(hub, offer)) == 1


async def test_a_hold_under_the_key_of_a_promoted_entry_goes_back(shop: Shop, hub: Hub) -> None:
    """A buy under way with an entry's key, which is promoted meanwhile: one order, no unit lost."""
    offer, (first, _) = await sold_out(shop, hub, 2, per_viewer=4)
    await join(hub, offer, "ann", 2, "k")
    await hub.changes.cancel(first.id, by_host=False, reason=None)
    admit, held, go = hub.ledger.admit, asyncio.Event(), asyncio.Event()

    async def slow(*args: object) -> object:
        held.set()
        await go.wait()
        return await admit(*args)  # type: ignore[arg-type]

    hub.ledger.admit = slow  # type: ignore[method-assign,assignment]
    buying = hub.start_buy(offer.id, "ann", 1, "k")
    await held.wait()
    await hub.changes.restock(offer.id, "r1", 3)
    assert await orders_of(shop, offer, "ann") == [("k", "reserved")]
    go.set()
    assert why(await buying) == "key_reused"
    hub.ledger.admit = admit  # type: ignore[method-assign]
    await shop.rested(offer.id)
    again = await join(hub, offer, "ann", 2, "k")
    assert isinstance(again, Accepted)
    assert again.replayed


async def test_the_books_count_what_was_handed_over_once(shop: Shop, hub: Hub) -> None:
    """`take` beside `release`: sums end at the counters, and never pass the quantity on the way."""
    offer, (first,) = await sold_out(shop, hub)
    for viewer in ("ann", "bob", "cem"):
        await join(hub, offer, viewer)
    await hub.changes.cancel(first.id, by_host=False, reason=None)
    await hub.changes.restock(offer.id, "r1", 1)
    await let_expire(shop, hub, offer, "ann")
    books = hub.keeper.reconciler.books
    entries = await books.entries(offer.id, None)
    assert all(0 <= e.taken <= e.quantity for e in entries), entries
    assert [e.what for e in entries].count("take") == 3
    sums = await books.sums(offer.id)
    assert sums is not None
    assert sums.differences() == []
    assert await hub.keeper.reconciler.differences(offer.id) == []


async def test_a_gate_behind_a_promotion_is_not_called_wrong(shop: Shop, hub: Hub) -> None:
    """An order that the gate has yet to be brought is no difference but the missing movement."""
    offer, (first,) = await sold_out(shop, hub)
    await join(hub, offer, "ann")
    await hub.ledger.cancel(first.id, False, None)
    limits = hub.keeper.reconciler.limits
    hub.keeper.reconciler.limits = type(limits)(grace_s=0)
    found = await hub.keeper.reconciler.differences(offer.id)
    assert [one.kind for one in found] == ["movement"]
    assert await hub.keeper.reconciler.mend(offer.id, found) == "follow"
    assert await hub.keeper.reconciler.differences(offer.id) == []
    await shop.at_rest(offer.id)


async def test_many_join_buy_cancel_and_leave_at_once(shop: Shop, hub: Hub) -> None:
    """At rest nothing is lost: nobody who fits waits beside a free unit, and all figures agree."""
    offer, sold = await sold_out(shop, hub, 8, per_viewer=2)
    hubs = [hub, await shop.hub()]

    async def viewer(n: int) -> None:
        mine = hubs[n % 2]
        name, qty = f"v{n}", 1 + n % 2
        await join(mine, offer, name, qty)
        if n % 7 == 0:
            await mine.selling.waitlist.leave(offer.id, name)
        if n % 3 == 0:
            await mine.buy_until_final(offer.id, name, 1, f"b-{name}")
        for row in await shop.fetch(
            "select id from orders where offer = $1 and viewer = $2 and status = 'reserved'",
            offer.id, name,
        ):  # fmt: skip
            if n % 2:
                await mine.changes.cancel(row[0], by_host=False, reason=None)

    async def giving_back() -> None:
        for order in sold:
            await hub.changes.cancel(order.id, by_host=False, reason=None)
        await hubs[1].changes.restock(offer.id, "r1", 3)

    await asyncio.gather(*(viewer(n) for n in range(40)), giving_back())
    for n in range(0, 40, 5):
        await let_expire(shop, hub, offer, f"v{n}")
    await until(lambda: all(c.idle for h in hubs for c in h.selling._counters.values()))
    await hub.keeper.round()
    await shop.rested(offer.id)
    found = await audit(shop.database_url, offer.id, gate_url=shop.redis_url)
    assert found.passed, [one for one in found.findings if one.passed is False]
    assert {one.name for one in found.findings} >= {"I1", "I4", "I11", "R12"}
