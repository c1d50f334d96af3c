"""Bundles when something waits, stops or changes between hold and admission, on real servers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orders.ledger.bundles import Judged
from orders.ledger.ledger import LedgerAway
from orders.limits import SellingLimits
from orders.records import Accepted, Bundled, Refused
from tests.integration.test_bundles import field, hold, holds, offers
from tests.shop import Shop, bought, done, together, until, why


async def test_a_bundle_waits_for_others_holds_and_is_never_sold_out_by_them(shop: Shop) -> None:
    """While the last unit is only held, a bundle waits; it gets the unit if it comes back (R6)."""
    hub = shop.hubs[0]
    a, b = await offers(shop, 1, 1)
    slow = await hold(hub, b, "zoe", 1, "or_slow", "k")
    waiting = hub.start_bundle(a.stream, "ann", [(a.id, 1), (b.id, 1)])
    counters = hub.selling._counters
    await until(lambda: b.id in counters and bool(counters[b.id]._parking))
    assert await holds(hub, a) == 1
    assert not waiting.done()
    await hub.gate.release(b.id, slow.epoch, [("or_slow", slow.line.rank)])
    assert len(together(await waiting).orders) == 2
    for offer in (a, b):
        await shop.rested(offer.id)


async def test_a_bundle_that_waits_too_long_is_told_retry_and_lets_go(shop: Shop) -> None:
    """A hold that nobody finishes: `retry` after a second, no hold kept, none taken later."""
    hub = await shop.hub(SellingLimits(park_s=0.2))
    a, b = await offers(shop, 1, 1)
    slow = await hold(hub, b, "zoe", 1, "or_slow", "k")
    async with asyncio.timeout(2):
        outcome = await hub.start_bundle(a.stream, "ann", [(a.id, 1), (b.id, 1)])
    assert why(outcome) == "retry"
    await hub.gate.release(b.id, slow.epoch, [("or_slow", slow.line.rank)])
    await until(lambda: all(c.idle for c in hub.selling._counters.values()))
    for offer in (a, b):
        await shop.rested(offer.id)
        assert await hub.left(offer.id) == 1


async def test_a_hold_that_comes_after_the_answer_goes_back(shop: Shop) -> None:
    """A bundle that gave up while its last line still waited in line keeps no unit of it."""
    hub = await shop.hub(SellingLimits(park_s=0.1))
    a, b = await offers(shop, 1, 1)
    ask, go = hub.gate.hold, asyncio.Event()

    async def slow(offer: str, *rest: Any) -> Any:
        if offer == b.id:
            await go.wait()
        return await ask(offer, *rest)

    hub.gate.hold = slow  # type: ignore[method-assign,assignment]
    assert why(await hub.start_bundle(a.stream, "ann", [(a.id, 1), (b.id, 1)])) == "retry"
    go.set()
    for offer in (a, b):
        await shop.rested(offer.id)
        assert await hub.left(offer.id) == 1


async def test_offers_that_need_each_other_do_not_block_each_other(shop: Shop) -> None:
    """The last units of two offers, wanted by two bundles in opposite order: one gets both."""
    hubs = (shop.hubs[0], await shop.hub())
    for _ in range(10):
        a, b = await offers(shop, 1, 1)
        lines = [(a.id, 1), (b.id, 1)]
        outcomes = await asyncio.gather(
            hubs[0].bundle(a.stream, "ann", lines), hubs[1].bundle(a.stream, "bob", lines[::-1])
        )
        assert sorted(type(o).__name__ for o in outcomes) == ["Bundled", "Refused"]
        for offer in (a, b):
            await shop.rested(offer.id)


async def test_a_hold_that_was_adopted_is_not_undone(shop: Shop) -> None:
    """Another hub's bundle with this key is refused: the hold stays, as its admission is under way
    elsewhere (R1).
    """
    one, two = shop.hubs[0], await shop.hub()
    a, b, c = await offers(shop, 1, 1, 1)
    bought(await one.buy(c.id, "zoe"))
    admit, go = one.selling.bundles.ledger.admit, asyncio.Event()

    async def slow(*args: Any) -> list[Judged]:
        await go.wait()
        return await admit(*args)

    one.selling.bundles.ledger.admit = slow  # type: ignore[method-assign,assignment]
    first = one.start_bundle(a.stream, "ann", [(a.id, 1), (b.id, 1)], "k")

    async def held() -> bool:
        return await holds(one, b) == 1

    await until(held)
    other = await two.bundle(a.stream, "ann", [(a.id, 1), (c.id, 1)], "k")
    assert (why(other), field(other)) == ("sold_out", "lines[1]")
    await until(lambda: not two.selling.bundles.under_way)
    assert await one.left(a.id) == 0
    go.set()
    assert len(together(await first).orders) == 2
    for offer in (a, b, c):
        await shop.rested(offer.id)


async def test_a_hub_that_dies_between_two_holds_loses_nothing(shop: Shop) -> None:
    """Half a bundle is held and nobody goes on: the keeper fences and gives it back (R1, I11)."""
    hub = shop.hubs[0]
    a, b = await offers(shop, 1, 1)
    half = await hold(hub, a, "ann", 1, "or_a", "k")
    hub.keeper.limits = type(hub.keeper.limits)(grace_ms=0)
    await hub.keeper.round()
    assert bought(await hub.buy_until_final(a.id, "bob")).viewer == "bob"
    late = await hold(hub, b, "ann", 1, "or_b", "k")  # and it goes on after all
    judged = await hub.selling.bundles.ledger.admit("bu_1", [half, late])
    assert [j.word for j in judged] == ["fenced", None]
    await hub.keeper.round()
    for offer in (a, b):
        await shop.rested(offer.id)
    assert await hub.left(b.id) == 1


async def test_a_hub_that_dies_before_it_marked_a_bundle_loses_nothing(shop: Shop) -> None:
    """The rows are there, the gate was not told: the keeper marks them, the key finds them."""
    hub = shop.hubs[0]
    a, b = await offers(shop, 5, 5)
    held = [await hold(hub, a, "ann", 1, "or_a", "k"), await hold(hub, b, "ann", 2, "or_b", "k")]
    judged = await hub.selling.bundles.ledger.admit("bu_1", held)
    assert [j.word for j in judged] == ["ok", "ok"]
    again = together(await hub.bundle(a.stream, "ann", [(a.id, 1), (b.id, 2)], "k"))
    assert (again.bundle, again.replayed) == ("bu_1", True)
    await shop.rested(a.id)  # the replay marked it, since it adopted the hold by its key
    together(await hub.bundle(a.stream, "ann", [(a.id, 1), (b.id, 1)]))
    hub.keeper.limits = type(hub.keeper.limits)(grace_ms=0)
    await hub.keeper.round()
    for offer in (a, b):
        await shop.rested(offer.id)


@pytest.mark.parametrize("committed", [True, False])
async def test_an_unknown_outcome_ends_as_one_bundle_or_none(shop: Shop, committed: bool) -> None:
    """The connection dies over the admission: `retry`, and the same key finds out (I10)."""
    hub = shop.hubs[0]
    a, b = await offers(shop, 5, 5)
    lines = [(a.id, 1), (b.id, 1)]
    admit = hub.selling.bundles.ledger.admit

    async def dying(*args: Any) -> list[Judged]:
        if committed:
            await admit(*args)
        raise LedgerAway("the connection died")

    hub.selling.bundles.ledger.admit = dying  # type: ignore[method-assign,assignment]
    assert why(await hub.start_bundle(a.stream, "ann", lines, "k")) == "retry"
    hub.selling.bundles.ledger.admit = admit  # type: ignore[method-assign]
    made = together(await hub.bundle(a.stream, "ann", lines, "k"))
    assert made.replayed is committed
    assert len(await shop.fetch("select 1 from orders")) == 2
    for offer in (a, b):
        await shop.rested(offer.id)


async def test_a_late_admission_is_told_and_marked(shop: Shop) -> None:
    """Postgres answers after the buyer was told `retry`: each of his connections hears of it."""
    hub = await shop.hub(SellingLimits(answer_s=0.1))
    a, b = await offers(shop, 5, 5)
    admit, go = hub.selling.bundles.ledger.admit, asyncio.Event()

    async def slow(*args: Any) -> list[Judged]:
        await go.wait()
        return await admit(*args)

    hub.selling.bundles.ledger.admit = slow  # type: ignore[method-assign,assignment]
    assert why(await hub.start_bundle(a.stream, "ann", [(a.id, 1), (b.id, 1)], "k")) == "retry"
    assert not hub.heard.changes
    go.set()
    await until(lambda: len(hub.heard.changes) == 2)
    assert {o.status for o in hub.heard.changes} == {"reserved"}
    assert not hub.heard.sales
    again = together(await hub.bundle(a.stream, "ann", [(a.id, 1), (b.id, 1)], "k"))
    assert again.replayed
    for offer in (a, b):
        await shop.rested(offer.id)


async def test_a_pause_while_a_bundle_is_held_refuses_all_of_it(shop: Shop) -> None:
    """One offer is paused between hold and admission: nothing is made, all holds go back."""
    hub = shop.hubs[0]
    a, b = await offers(shop, 5, 5)
    admit = hub.selling.bundles.ledger.admit

    async def after_a_pause(*args: Any) -> list[Judged]:
        done(await hub.changes.pause_offer(b.id))
        return await admit(*args)

    hub.selling.bundles.ledger.admit = after_a_pause  # type: ignore[method-assign,assignment]
    outcome = await hub.start_bundle(a.stream, "ann", [(b.id, 1), (a.id, 1)])
    assert (why(outcome), field(outcome)) == ("not_open", "lines[0]")
    for offer in (a, b):
        await shop.rested(offer.id)
        assert await hub.left(offer.id) == 5


async def test_a_rebuild_between_hold_and_admission_sends_the_bundle_again(shop: Shop) -> None:
    """One gate is rebuilt meanwhile: its hold is of an older epoch, and the next try sells (R2)."""
    hub = shop.hubs[0]
    a, b = await offers(shop, 1, 1)
    admit, tries = hub.selling.bundles.ledger.admit, 0

    async def after_a_rebuild(*args: Any) -> list[Judged]:
        nonlocal tries
        tries += 1
        if tries == 1:
            assert await hub.rebuilder.rebuild(b.id)
        return await admit(*args)

    hub.selling.bundles.ledger.admit = after_a_rebuild  # type: ignore[method-assign,assignment]
    together(await hub.bundle(a.stream, "ann", [(a.id, 1), (b.id, 1)]))
    assert tries == 2
    for offer in (a, b):
        await shop.rested(offer.id)


async def test_a_single_buy_with_the_key_of_a_bundle_under_way_is_one_of_them(shop: Shop) -> None:
    """Both want the same units under one key: one request gets its order, never both (I2)."""
    hubs = (shop.hubs[0], await shop.hub())
    for n in range(10):
        a, b = await offers(shop, 5, 5)
        lines = [(a.id, 1), (b.id, 1)]
        one, other = (hubs[n % 2], hubs[1 - n % 2])
        bundle, single = await asyncio.gather(
            one.bundle(a.stream, "ann", lines, "k"),
            other.buy_until_final(a.id, "ann", 1, "k"),
        )
        assert isinstance(bundle, Bundled) is not isinstance(single, Accepted)
        assert {why(o) for o in (bundle, single) if isinstance(o, Refused)} == {"key_reused"}
        await until(lambda: all(c.idle for h in hubs for c in h.selling._counters.values()))
        hubs[0].keeper.limits = type(hubs[0].keeper.limits)(grace_ms=0)
        await hubs[0].keeper.round()  # what was adopted is the keeper's
        for offer in (a, b):
            await shop.rested(offer.id)


async def test_a_crowd_of_refused_bundles_is_no_outage(shop: Shop) -> None:
    """Holds go back in few calls, however many bundles are refused at the same moment."""
    hub = shop.hubs[0]
    a, b = await offers(shop, 500, 1)
    bought(await hub.buy(b.id, "zoe"))
    release, calls, at_once, most = hub.gate.release, 0, 0, 0

    async def counted(*args: Any) -> Any:
        nonlocal calls, at_once, most
        calls, at_once = calls + 1, at_once + 1
        most = max(most, at_once)
        try:
            return await release(*args)
        finally:
            at_once -= 1

    hub.gate.release = counted  # type: ignore[method-assign,assignment]
    sent = [hub.start_bundle(a.stream, f"v{n}", [(a.id, 1), (b.id, 1)]) for n in range(300)]
    assert {why(one) for one in await asyncio.gather(*sent)} == {"sold_out"}
    for offer in (a, b):
        await shop.rested(offer.id)
    assert (most, calls < 100) == (1, True)
    assert await hub.left(a.id) == 500
