"""What a host does while holds are out that have no row yet: lowering, adding, closing."""

from __future__ import annotations

import asyncio

from orders.ledger.ledger import Line
from orders.records import Accepted, Refused
from orders.stock.gate import Decided
from tests.shop import Shop, bought, done, until, why


async def test_a_quantity_lowered_below_what_is_held_refuses_the_excess(shop: Shop) -> None:
    """The gate's `left` goes below zero, unclamped; Postgres takes what still fits (R7, I4)."""
    hub = shop.hubs[0]
    offer = await shop.offer(5)
    async with hub.held_up(offer.id, 4) as buys:
        assert done(await hub.changes.revise_offer(offer.id, {"quantity": 2})).quantity == 2
        assert await hub.left(offer.id) == -2
        late = hub.start_buy(offer.id, "late")  # what is out may still fall through (R6)
        counter = hub.selling._counters[offer.id]
        await until(lambda: bool(counter._parking))
        assert not late.done()
    outcomes = [await buy for buy in buys]
    assert [isinstance(o, Accepted) for o in outcomes] == [True, True, False, False]
    assert [why(o) for o in outcomes[2:]] == ["sold_out", "sold_out"]
    assert why(await late) in ("sold_out", "retry")
    assert why(await hub.buy_until_final(offer.id, "late")) == "sold_out"
    await shop.rested(offer.id)
    done(await hub.changes.revise_offer(offer.id, {"quantity": 4}))
    assert bought(await hub.buy(offer.id, "v2", 1)).status == "reserved"
    assert await hub.left(offer.id) == 1
    await shop.rested(offer.id)


async def test_a_lowered_quantity_that_the_gate_missed_oversells_nothing(shop: Shop) -> None:
    """The host's hub dies before it tells the gate: Postgres refuses what the gate lets through."""
    hub = shop.hubs[0]
    offer = await shop.offer(5)
    await shop.fetch("select revise_offer($1, '{\"quantity\": 2}')", offer.id)
    outcomes = await asyncio.gather(*(hub.buy(offer.id, f"v{n}") for n in range(5)))
    assert sum(isinstance(o, Accepted) for o in outcomes) == 2
    assert {why(o) for o in outcomes if isinstance(o, Refused)} == {"sold_out"}
    hub.keeper.limits = type(hub.keeper.limits)(lag_grace_s=0)
    await hub.keeper.round()
    await shop.rested(offer.id)


async def test_the_same_quantity_change_is_applied_once(shop: Shop) -> None:
    """Two processes that follow at the same time raise `left` once (R7)."""
    hub, other = shop.hubs[0], await shop.hub()
    offer = await shop.offer(5)
    await shop.fetch("select restock($1, 'k', 3)", offer.id)
    await asyncio.gather(*(h.rebuilder.follow(offer.id) for h in (hub, other) for _ in range(3)))
    assert await hub.left(offer.id) == 8


async def test_a_close_while_holds_are_out_gives_them_back(shop: Shop) -> None:
    """What was admitted before stays payable; what was only held is `closed`, its units free."""
    hub = shop.hubs[0]
    offer = await shop.offer(3)
    order = bought(await hub.buy(offer.id, "ann"))
    async with hub.held_up(offer.id, 2) as buys:
        done(await hub.changes.close_offer(offer.id))
    assert [why(await buy) for buy in buys] == ["closed", "closed"]
    assert done(await hub.changes.pay(order.id)).status == "confirmed"
    await shop.rested(offer.id)
    assert await hub.left(offer.id) == 2


async def test_a_hub_that_dies_over_a_close_leaves_no_hold(shop: Shop) -> None:
    """Holds without a row, of an offer closed meanwhile, are resolved by the keeper (I11)."""
    hub = shop.hubs[0]
    offer = await shop.offer(3)
    decided = await hub.gate.hold(
        offer.id, [], [("ann", 1, "or_a", "3:annk"), ("bob", 1, "or_b", "3:bobk")]
    )
    assert isinstance(decided, Decided)
    lines = [Line("or_a", "ann", "k", 1, decided.lines[0][1])]
    await hub.ledger.admit(offer.id, decided.epoch, lines)  # and the other one never
    done(await hub.changes.close_offer(offer.id))
    hub.keeper.limits = type(hub.keeper.limits)(grace_ms=0, lag_grace_s=0)
    await hub.keeper.round()
    await shop.rested(offer.id)
    late = await hub.ledger.admit(
        offer.id, decided.epoch, [Line("or_b", "bob", "k", 1, decided.lines[1][1])]
    )
    assert late.outcomes == ["closed"]
