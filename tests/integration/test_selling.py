"""Selling on real servers: every answer that a buy can have, and what stands afterwards."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from orders.ledger.ledger import Admitted, Line
from orders.limits import SellingLimits
from orders.records import Accepted, Offer, Order, Refused
from orders.stock.gate import Decided, Frozen
from orders.stock.keys import Keys, keys_of
from tests.shop import Shop, bought, until, why


async def test_a_lone_buy_becomes_a_row(shop: Shop) -> None:
    """An accepted buy is a committed row with rank 1, and the gate knows it as written."""
    offer = await shop.offer(10)
    order = bought(await shop.hubs[0].buy(offer.id, "ann"))
    row = (await shop.fetch("select * from orders where id = $1", order.id))[0]
    assert (row["viewer"], row["status"], row["rank"], order.rank) == ("ann", "reserved", 1, 1)
    assert order.amount_minor == 2900
    assert order.expires_at == order.reserved_at + 600_000
    await until(lambda: shop.hubs[0].selling._counters[offer.id].idle)
    await shop.at_rest(offer.id)


async def test_a_crowd_gets_exactly_what_there_is(shop: Shop) -> None:
    """Five hundred buys of a hundred units make a hundred orders, everyone else is sold out."""
    offer = await shop.offer(100)
    outcomes = await asyncio.gather(
        *(shop.hubs[0].buy_until_final(offer.id, f"v{n}") for n in range(500))
    )
    sold = [o for o in outcomes if isinstance(o, Accepted)]
    assert len(sold) == 100
    assert {why(o) for o in outcomes if isinstance(o, Refused)} == {"sold_out"}
    assert sorted(o.order.rank for o in sold) == list(range(1, 101))
    await until(lambda: shop.hubs[0].selling._counters[offer.id].idle)
    await shop.at_rest(offer.id)
    status = await shop.fetch("select status from offers where id = $1", offer.id)
    assert status[0][0] == "sold_out"


async def test_the_limit_holds_within_one_batch(shop: Shop) -> None:
    """Ten buys at once of a viewer limited to three make three orders."""
    offer = await shop.offer(100, per_viewer=3)
    outcomes = await asyncio.gather(
        *(shop.hubs[0].buy_until_final(offer.id, "ann") for _ in range(10))
    )
    assert sum(isinstance(o, Accepted) for o in outcomes) == 3
    assert {why(o) for o in outcomes if isinstance(o, Refused)} == {"limit_reached"}
    await shop.at_rest(offer.id)


async def test_slow_reads_of_a_crowd_are_no_outage(shop: Shop) -> None:
    """Keys sent again that must wait for their turn are told `retry`; selling goes on meanwhile."""
    hub = await shop.hub(SellingLimits(answer_s=0.05))
    offer = await shop.offer(10)
    order = bought(await hub.buy_until_final(offer.id, "ann", 1, "k"))
    turn = asyncio.Event()
    read = hub.ledger.orders_by_key

    async def slow(keys: Any) -> list[Order]:
        await turn.wait()
        return await read(keys)

    hub.ledger.orders_by_key = slow  # type: ignore[method-assign]
    assert why(await hub.buy(offer.id, "ann", 1, "k")) == "retry"
    assert hub.selling.well_for(offer.id)
    turn.set()
    again = await hub.buy_until_final(offer.id, "ann", 1, "k")
    assert isinstance(again, Accepted)
    assert again.order.id == order.id


async def test_two_hubs_sell_one_offer(shop: Shop) -> None:
    """Two hubs share the stock and the limits, and ranks stay unique."""
    other = await shop.hub()
    offer = await shop.offer(50, per_viewer=2)
    hubs = (shop.hubs[0], other)
    outcomes = await asyncio.gather(
        *(hubs[n % 2].buy_until_final(offer.id, f"v{n % 40}") for n in range(120))
    )
    assert sum(isinstance(o, Accepted) for o in outcomes) == 50
    for hub in hubs:
        await until(lambda hub=hub: all(c.idle for c in hub.selling._counters.values()))
    await shop.at_rest(offer.id)


async def test_the_same_key_is_the_same_order(shop: Shop) -> None:
    """A repeated key answers with the first order and takes no more; another qty is refused."""
    offer = await shop.offer(10, per_viewer=5)
    hub = shop.hubs[0]
    first = bought(await hub.buy(offer.id, "ann", 2, "key"))
    again = await hub.buy(offer.id, "ann", 2, "key")
    assert isinstance(again, Accepted)
    assert again.replayed
    assert again.order.id == first.id
    assert why(await hub.buy(offer.id, "ann", 1, "key")) == "key_reused"
    await shop.at_rest(offer.id)


async def test_the_same_key_at_once_is_one_order(shop: Shop) -> None:
    """Twenty copies of one buy over two hubs at the same moment make one order."""
    other = await shop.hub()
    offer = await shop.offer(10, per_viewer=5)
    outcomes = await asyncio.gather(
        *(
            (shop.hubs[0], other)[n % 2].buy_until_final(offer.id, "ann", 1, "key")
            for n in range(20)
        )
    )
    assert {bought(o).id for o in outcomes} == {bought(outcomes[0]).id}
    await until(lambda: all(c.idle for h in shop.hubs for c in h.selling._counters.values()))
    await shop.at_rest(offer.id)


async def test_keys_never_run_into_each_other(shop: Shop) -> None:
    """(viewer, key) pairs that read alike when joined are different buys (R5)."""
    offer = await shop.offer(10)
    hub = shop.hubs[0]
    orders = [
        bought(await hub.buy(offer.id, viewer, 1, key))
        for viewer, key in (("a", "bc"), ("ab", "c"), ("1:a", "b"), ("a:b", "c"), ("é", "x"))
    ]
    assert len({o.id for o in orders}) == 5
    await shop.at_rest(offer.id)


async def test_what_is_not_open_says_why(shop: Shop) -> None:
    """Scheduled, before the stream's start, closed: each has its code; a draft is not found."""
    hub = shop.hubs[0]
    waiting = await shop.stream("scheduled")
    draft = await shop.offer(5, opened=False)
    early = await shop.offer(5, stream=waiting)
    later = await shop.offer(5, opened=False, opens_at=int(time.time() * 1000) + 60_000)
    closed = await shop.offer(5)
    kept = bought(await hub.buy(closed.id, "ann", 1, "mine"))
    await hub.changes.close_offer(closed.id)
    assert why(await hub.buy(draft.id, "ann")) == "not_found"
    unseen = await shop.offer(5, stream=waiting, opened=False)
    assert why(await hub.buy(unseen.id, "ann")) == "not_found"
    assert why(await hub.buy(early.id, "ann")) == "not_live"
    assert why(await hub.buy_until_final(later.id, "ann")) in ("not_open", "retry")
    assert why(await hub.buy(closed.id, "ann")) == "closed"
    assert why(await hub.buy("of_none", "ann")) == "not_found"
    replay = await hub.buy(closed.id, "ann", 1, "mine")
    assert isinstance(replay, Accepted)
    assert replay.replayed
    assert replay.order.id == kept.id


async def test_a_cancelled_order_gives_its_units_to_the_next(shop: Shop) -> None:
    """The unit of a cancelled order is sold again, and the old order stays cancelled."""
    hub = shop.hubs[0]
    offer = await shop.offer(1)
    order = bought(await hub.buy(offer.id, "ann"))
    assert why(await hub.buy_until_final(offer.id, "bob")) == "sold_out"
    ended = await hub.changes.cancel(order.id, by_host=False, reason=None)
    assert isinstance(ended, Order)
    assert ended.status == "cancelled"
    assert why(await hub.changes.cancel(order.id, by_host=False, reason=None)) == "conflict"
    assert bought(await hub.buy_until_final(offer.id, "bob")).viewer == "bob"
    await shop.at_rest(offer.id)
    kinds = [r[0] for r in await shop.fetch("select kind from facts order by n")]
    assert kinds == ["offer.opened", "offer.sold_out", "offer.restocked", "offer.sold_out"]


async def test_pay_cancel_and_expire_have_one_winner(shop: Shop) -> None:
    """Pay, cancel and expiry of one order at the same moment: one of them wins (I8)."""
    hub = shop.hubs[0]
    offer = await shop.offer(30, per_viewer=30)
    orders = [bought(await hub.buy(offer.id, "ann")) for _ in range(10)]
    await shop.fetch("update orders set expires_at = clock_timestamp()")
    results = await asyncio.gather(
        *(hub.changes.pay(o.id) for o in orders),
        *(hub.changes.cancel(o.id, by_host=False, reason=None) for o in orders),
        hub.keeper.expire(),
    )
    for n, order in enumerate(orders):
        won = [r for r in (results[n], results[10 + n]) if isinstance(r, Order)]
        row = (await shop.fetch("select status from orders where id = $1", order.id))[0]
        assert len(won) == (0 if row["status"] == "expired" else 1)
    await until(lambda: not hub.selling._open)
    await shop.at_rest(offer.id)


async def test_expired_orders_come_back_on_sale(shop: Shop) -> None:
    """The keeper ends an order past its deadline and its unit is sold to the next viewer."""
    hub = shop.hubs[0]
    offer = await shop.offer(1)
    order = bought(await hub.buy(offer.id, "ann"))
    await shop.fetch("update orders set expires_at = clock_timestamp() where id = $1", order.id)
    await hub.keeper.round()
    assert [o.status for o in hub.heard.changes] == ["expired"]
    assert bought(await hub.buy_until_final(offer.id, "bob")).rank > order.rank
    assert why(await hub.changes.pay(order.id)) == "conflict"
    await shop.at_rest(offer.id)


async def test_restock_counts_once_per_key(shop: Shop) -> None:
    """A restock sent twice adds once, reopens a sold-out offer, and another amount is refused."""
    hub = shop.hubs[0]
    offer = await shop.offer(1, per_viewer=9)
    bought(await hub.buy(offer.id, "ann"))
    for _ in range(2):
        now = await hub.changes.restock(offer.id, "k", 3)
        assert isinstance(now, Offer)
        assert (now.quantity, now.status) == (4, "open")
    assert why(await hub.changes.restock(offer.id, "k", 4)) == "key_reused"
    for _ in range(3):
        bought(await hub.buy_until_final(offer.id, "ann"))
    assert why(await hub.buy_until_final(offer.id, "bob")) == "sold_out"
    await shop.at_rest(offer.id)


async def test_quantity_is_not_lowered_below_what_is_taken(shop: Shop) -> None:
    """The host may lower to what is taken, which sells the offer out, and no further (R7)."""
    hub = shop.hubs[0]
    offer = await shop.offer(10, per_viewer=9)
    for _ in range(3):
        bought(await hub.buy(offer.id, "ann"))
    assert why(await hub.changes.revise_offer(offer.id, {"quantity": 2})) == "conflict"
    now = await hub.changes.revise_offer(offer.id, {"quantity": 3})
    assert isinstance(now, Offer)
    assert now.status == "sold_out"
    assert why(await hub.buy_until_final(offer.id, "bob")) == "sold_out"
    await shop.at_rest(offer.id)


async def test_a_scheduled_offer_opens_and_closes_by_itself(shop: Shop) -> None:
    """Before its time an offer is not open, then it sells, then it is closed."""
    hub = shop.hubs[0]
    now_ms = (await shop.fetch("select ms(clock_timestamp())"))[0][0]
    offer = await shop.offer(5, opened=False, opens_at=now_ms + 700, closes_at=now_ms + 1600)
    assert why(await hub.buy_until_final(offer.id, "ann", key="early")) == "not_open"
    keeper = asyncio.create_task(hub.keeper.run())
    try:

        async def sold() -> bool:
            return isinstance(await hub.buy(offer.id, "ann", 1, "early"), Accepted)

        async def closed() -> bool:
            outcome = await hub.buy(offer.id, "bob")
            return isinstance(outcome, Accepted) is False and why(outcome) == "closed"

        await until(sold)
        await until(closed)

        async def told() -> bool:
            rows = await shop.fetch("select status from offers where id = $1", offer.id)
            return bool(rows[0][0] == "closed")

        await until(told)
    finally:
        keeper.cancel()
    kinds = [r[0] for r in await shop.fetch("select kind from facts order by n")]
    assert kinds == ["offer.scheduled", "offer.opened", "offer.closed"]


async def test_ending_a_stream_closes_its_offers(shop: Shop) -> None:
    """After the end every offer is closed with the reason, and held orders stay payable."""
    hub = shop.hubs[0]
    stream = await shop.stream()
    offer = await shop.offer(5, stream=stream)
    await shop.offer(5, stream=stream, opened=False)
    order = bought(await hub.buy(offer.id, "ann"))
    assert await hub.changes.end_stream(stream) is None
    assert why(await hub.buy(offer.id, "bob")) == "closed"
    paid = await hub.changes.pay(order.id)
    assert isinstance(paid, Order)
    assert paid.status == "confirmed"
    told = [
        (r["kind"], r["reason"])
        for r in await shop.fetch("select * from facts where stream = $1 order by n", stream)
    ]
    assert told[1:] == [("offer.closed", "stream_ended"), ("stream.ended", None)]


async def test_an_unpaid_offer_confirms_at_once(shop: Shop) -> None:
    """With `payment: none` the row is born confirmed and never expires."""
    offer = await shop.offer(5, payment="none")
    order = bought(await shop.hubs[0].buy(offer.id, "ann"))
    assert (order.status, order.expires_at) == ("confirmed", None)
    row = (await shop.fetch("select confirmed, taken from offers where id = $1", offer.id))[0]
    assert tuple(row) == (1, 1)


@pytest.mark.parametrize("wipe", ["flushdb", "stale run"])
async def test_a_gate_that_lost_its_memory_is_rebuilt(shop: Shop, wipe: str) -> None:
    """After Redis forgot all, keys still bind, limits still hold and the rest is sold (R2)."""
    hub = shop.hubs[0]
    offer = await shop.offer(10, per_viewer=2)
    first = [bought(await hub.buy(offer.id, f"v{n}", 1, "k")) for n in range(4)]
    gone = await hub.changes.cancel(first[0].id, by_host=False, reason=None)
    assert isinstance(gone, Order)
    if wipe == "flushdb":
        await shop.redis.flushdb()
    else:  # as after a restart: the state is there, made under another run of the server
        await shop.redis.hset(keys_of(offer.id).state, "run", "0" * 40)
    assert why(await hub.buy(offer.id, "zoe")) == "retry"
    await hub.keeper.round()
    again = await hub.buy(offer.id, "v1", 1, "k")
    assert isinstance(again, Accepted)
    assert again.replayed
    cancelled = await hub.buy(offer.id, "v0", 1, "k")
    assert isinstance(cancelled, Accepted)
    assert cancelled.order.status == "cancelled"
    bought(await hub.buy(offer.id, "v1", 1, "k2"))
    assert why(await hub.buy_until_final(offer.id, "v1", 1, "k3")) == "limit_reached"
    more = await asyncio.gather(*(hub.buy_until_final(offer.id, f"w{n}") for n in range(20)))
    assert sum(isinstance(o, Accepted) for o in more) == 6
    assert min(o.order.rank for o in more if isinstance(o, Accepted)) > 4
    await shop.at_rest(offer.id)


async def test_a_hold_without_a_row_is_fenced_then_given_back(shop: Shop) -> None:
    """A hub that died between hold and row loses the hold behind a fence, and cannot come back."""
    hub = shop.hubs[0]
    offer = await shop.offer(1)
    decided = await hub.gate.hold(offer.id, [], [("ann", 1, "or_dead", "3:annk")])
    hub.keeper.limits = type(hub.keeper.limits)(grace_ms=0)
    await hub.keeper.round()
    assert not (await hub.gate.probe(offer.id, 0, 10)).stale  # type: ignore[union-attr]
    late = await hub.ledger.admit(
        offer.id,
        decided.epoch,
        [Line("or_dead", "ann", "k", 1, decided.lines[0][1])],  # type: ignore[union-attr]
    )
    assert late.outcomes == ["fenced"]
    assert bought(await hub.buy_until_final(offer.id, "bob")).viewer == "bob"
    await shop.at_rest(offer.id)


async def test_a_row_whose_hold_was_never_marked_is_marked(shop: Shop) -> None:
    """A hub that died between row and mark leaves a hold that the keeper marks, not releases."""
    hub = shop.hubs[0]
    offer = await shop.offer(2)
    decided = await hub.gate.hold(offer.id, [], [("ann", 1, "or_x", "3:annk")])
    await hub.ledger.admit(
        offer.id,
        decided.epoch,
        [Line("or_x", "ann", "k", 1, decided.lines[0][1])],  # type: ignore[union-attr]
    )
    hub.keeper.limits = type(hub.keeper.limits)(grace_ms=0)
    await hub.keeper.round()
    again = await hub.buy(offer.id, "ann", 1, "k")
    assert isinstance(again, Accepted)
    assert again.order.id == "or_x"
    await shop.at_rest(offer.id)


async def test_sold_out_is_not_said_while_a_hold_may_fall_through(shop: Shop) -> None:
    """While the last unit is only held, the next buyer waits, and gets it if it comes back (R6)."""
    hub = await shop.hub(SellingLimits(park_s=30.0))  # longer than a busy machine takes
    offer = await shop.offer(1)
    decided = await hub.gate.hold(offer.id, [], [("ann", 1, "or_slow", "3:annk")])
    waiting = hub.start_buy(offer.id, "bob")
    hub.keeper.limits = type(hub.keeper.limits)(grace_ms=0)
    counters = hub.selling._counters
    await until(lambda: offer.id in counters and bool(counters[offer.id]._parking))
    assert not waiting.done()
    await hub.keeper.round()
    assert bought(await waiting).viewer == "bob"
    assert decided.lines[0][0] == "held"  # type: ignore[union-attr]
    await shop.at_rest(offer.id)


async def test_a_stage_that_expired_is_not_installed(shop: Shop) -> None:
    """A rebuild that paused until its stage was gone installs nothing; the next one does (R2)."""
    hub = shop.hubs[0]
    offer = await shop.offer(5, per_viewer=5)
    for _ in range(3):
        bought(await hub.buy(offer.id, "ann"))
    await shop.redis.flushdb()
    install = hub.gate.install

    async def late(name: str, stage: Keys, *rest: Any) -> bool:
        await shop.redis.delete(stage.holds)
        return await install(name, stage, *rest)

    hub.gate.install = late  # type: ignore[method-assign,assignment]
    assert not await hub.rebuilder.rebuild(offer.id)
    hub.gate.install = install  # type: ignore[method-assign]
    await hub.keeper.round()
    await shop.at_rest(offer.id)


async def test_a_late_hold_call_undoes_only_its_own_holds(shop: Shop) -> None:
    """A hold that was only adopted stays: its first owner's admission is still on the way (R1)."""
    one, two = shop.hubs[0], await shop.hub(SellingLimits(answer_s=0.05))
    offer = await shop.offer(3, per_viewer=3)
    admit, held_up = one.ledger.admit, asyncio.Event()

    async def slow_admit(*args: Any) -> Admitted:
        await held_up.wait()
        return await admit(*args)

    one.ledger.admit = slow_admit  # type: ignore[method-assign,assignment]
    first = one.start_buy(offer.id, "ann", 1, "k")
    counters = one.selling._counters
    await until(lambda: offer.id in counters and counters[offer.id]._unresolved == 1)
    hold = two.gate.hold

    async def slow_hold(*args: Any) -> Decided | Frozen:
        decided = await hold(*args)
        await asyncio.sleep(0.2)
        return decided

    two.gate.hold = slow_hold  # type: ignore[method-assign,assignment]
    assert why(await two.buy(offer.id, "ann", 1, "k")) == "retry"
    await until(lambda: all(c.idle for c in two.selling._counters.values()))
    held_up.set()
    bought(await first)
    await until(lambda: one.selling._counters[offer.id].idle)
    await shop.at_rest(offer.id)


async def test_a_parked_buy_is_given_up_and_asks_seldom(shop: Shop) -> None:
    """One unit left, two wanted, a hold that nobody finishes: `retry` after a second, in peace."""
    hub = shop.hubs[0]
    offer = await shop.offer(2, per_viewer=5)
    await hub.gate.hold(offer.id, [], [("ann", 1, "or_slow", "3:annk")])
    calls = 0
    hold = hub.gate.hold

    async def counted(*args: Any) -> Decided | Frozen:
        nonlocal calls
        calls += 1
        return await hold(*args)

    hub.gate.hold = counted  # type: ignore[method-assign,assignment]
    async with asyncio.timeout(3):
        assert why(await hub.buy(offer.id, "bob", 2)) == "retry"
        assert why(await hub.buy(offer.id, "ann", 2, "k")) == "retry"  # whether it binds is open
    assert calls < 400


async def test_a_mark_that_comes_twice_counts_once(shop: Shop) -> None:
    """Marking one hold twice in a call leaves the other one unwritten (R6)."""
    hub = shop.hubs[0]
    offer = await shop.offer(2, per_viewer=2)
    await hub.gate.hold(offer.id, [], [("ann", 1, "or_1", "3:anna"), ("ann", 1, "or_2", "3:annb")])
    decided = await hub.gate.hold(offer.id, [("or_1", "ann")] * 2, [("bob", 1, "or_3", "3:bobk")])
    assert isinstance(decided, Decided)
    assert (decided.unwritten, decided.lines[0][0]) == (1, "park_stock")


async def test_a_hung_hold_call_keeps_nobody_else_waiting(shop: Shop) -> None:
    """While one call hangs, later buys are answered, and the late holds come back (R6)."""
    hub = await shop.hub(SellingLimits(answer_s=0.1))
    offer = await shop.offer(3, per_viewer=3)
    hold, held_up, hung = hub.gate.hold, asyncio.Event(), False

    async def hanging(*args: Any) -> Decided | Frozen:
        nonlocal hung
        decided = await hold(*args)
        if not hung:
            hung = True
            await held_up.wait()
        return decided

    hub.gate.hold = hanging  # type: ignore[method-assign,assignment]
    assert why(await hub.buy(offer.id, "ann")) == "retry"
    async with asyncio.timeout(2):
        assert bought(await hub.buy_until_final(offer.id, "bob")).viewer == "bob"
    held_up.set()
    await until(lambda: hub.selling._counters[offer.id].idle)
    await shop.at_rest(offer.id)


async def test_an_unknown_fault_loses_no_buy(shop: Shop) -> None:
    """Whatever a dependency raises, each buy is answered and the offer sells on."""
    hub = shop.hubs[0]
    offer = await shop.offer(5)
    load, client = hub.ledger.offers, hub.gate.client.execute_command

    async def broken(*_: Any) -> list[Offer]:
        raise RuntimeError("a fault of a library")

    hub.ledger.offers = broken  # type: ignore[method-assign,assignment]
    assert why(await hub.buy(offer.id, "ann")) == "internal"
    hub.ledger.offers = load  # type: ignore[method-assign]
    bought(await hub.buy(offer.id, "ann"))

    async def dying(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the handler is closed")

    hub.gate.client.execute_command = dying  # type: ignore[method-assign]
    assert why(await hub.buy(offer.id, "bob")) == "retry"
    hub.gate.client.execute_command = client  # type: ignore[method-assign]
    bought(await hub.buy_until_final(offer.id, "bob"))


async def test_a_close_that_the_gate_missed_is_told_later(shop: Shop) -> None:
    """However long ago an offer closed: as long as the gate does not know, the keeper tells it."""
    hub = shop.hubs[0]
    offer = await shop.offer(5)
    await shop.fetch("select close_offer($1, null, false)", offer.id)
    await shop.fetch("update offers set closed_at = now() - interval '3 days'")
    assert why(await hub.buy(offer.id, "ann")) == "closed"  # by the ledger
    hub.keeper.limits = type(hub.keeper.limits)(lag_grace_s=0)
    await hub.keeper.round()
    decided = await hub.gate.hold(offer.id, [], [("bob", 1, "or_x", "3:bobk")])
    assert isinstance(decided, Decided)
    assert decided.lines[0][0] == "closed"
    assert await hub.ledger.active_offers() == []


async def test_a_release_under_an_older_rank_does_nothing(shop: Shop) -> None:
    """An adopted hold is not given back by who knew it under its old rank (R1)."""
    hub = shop.hubs[0]
    offer = await shop.offer(1)
    buy = [("ann", 1, "or_x", "3:annk")]
    first = await hub.gate.hold(offer.id, [], buy)
    again = await hub.gate.hold(offer.id, [], buy)
    assert isinstance(first, Decided)
    assert isinstance(again, Decided)
    assert (first.lines[0][:2], again.lines[0][:2]) == (("held", 1), ("adopted", 2))
    assert await hub.gate.release(offer.id, first.epoch, [("or_x", 1)]) == 0
    assert await hub.gate.release(offer.id, first.epoch, [("or_x", 2)]) == 1
    assert await hub.gate.release(offer.id, first.epoch, [("or_x", 2)]) == 0
