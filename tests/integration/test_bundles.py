"""Bundles on real servers: all or nothing over several offers, whatever stops in between."""

from __future__ import annotations

import asyncio
from typing import Any

from orders.ledger.bundles import BundleLine
from orders.ledger.ledger import Line
from orders.limits import SellingLimits
from orders.records import Bundled, Offer, Refused
from orders.stock.gate import Decided, Standing
from orders.stock.keys import key_field, keys_of
from tests.shop import Hub, Shop, bought, done, together, why


async def offers(shop: Shop, *quantities: int, **more: Any) -> list[Offer]:
    """Return open offers of one stream, in id order."""
    stream = await shop.stream()
    made = [await shop.offer(q, stream=stream, **({"per_viewer": 5} | more)) for q in quantities]
    found = await shop.hubs[0].ledger.offers([offer.id for offer in made])  # of their present epoch
    return sorted(found, key=lambda offer: offer.id)


def field(outcome: Any) -> str | None:
    assert isinstance(outcome, Refused), outcome
    return outcome.field


async def holds(hub: Hub, offer: Offer) -> int:
    """Return how many holds of an offer are not known to be written."""
    standing = await hub.gate.probe(offer.id, 1 << 40, 0)
    assert isinstance(standing, Standing)
    return standing.unwritten


async def hold(hub: Hub, offer: Offer, viewer: str, qty: int, id_: str, key: str) -> BundleLine:
    """Take a hold as a hub does that stops afterwards."""
    decided = await hub.gate.hold(offer.id, [], [(viewer, qty, id_, key_field(viewer, key))])
    assert isinstance(decided, Decided)
    assert decided.lines[0][0] == "held"
    return BundleLine(offer.id, decided.epoch, Line(id_, viewer, key, qty, decided.lines[0][1]))


async def test_a_bundle_is_an_order_of_each_offer(shop: Shop) -> None:
    """One order an offer, in the order in which they were named, sharing the bundle's id."""
    hub = shop.hubs[0]
    a, b, c = await offers(shop, 5, 5, 5)
    lines = [(c.id, 1), (a.id, 2), (b.id, 1), (a.id, 1)]
    made = together(await hub.bundle(a.stream, "ann", lines, "k"))
    assert not made.replayed
    assert made.bundle.startswith("bu_")
    assert [(o.offer, o.qty, o.bundle) for o in made.orders] == [
        (c.id, 1, made.bundle), (a.id, 3, made.bundle), (b.id, 1, made.bundle),
    ]  # fmt: skip
    assert {(o.viewer, o.key, o.status) for o in made.orders} == {("ann", "k", "reserved")}
    rows = await shop.fetch("select id, bundle from orders")
    assert {row["id"] for row in rows} == {o.id for o in made.orders}
    assert {o.id for o in hub.heard.sales} == {o.id for o in made.orders}
    assert [hub.heard.last[o.id].left for o in (a, b, c)] == [2, 4, 4]
    for offer in (a, b, c):
        await shop.rested(offer.id)


async def test_a_refused_line_refuses_all_and_leaves_nothing(shop: Shop) -> None:
    """The line is named as it was sent; the others' holds are given back at once (R1)."""
    hub = shop.hubs[0]
    a, b, c = await offers(shop, 5, 1, 5)
    bought(await hub.buy(b.id, "zoe"))
    outcome = await hub.bundle(a.stream, "ann", [(c.id, 1), (b.id, 1), (a.id, 1)])
    assert (why(outcome), field(outcome)) == ("sold_out", "lines[1]")
    for offer in (a, b, c):
        await shop.rested(offer.id)
    assert [await hub.left(offer.id) for offer in (a, b, c)] == [5, 0, 5]
    assert len(await shop.fetch("select 1 from orders")) == 1


async def test_each_refusal_of_a_line_has_its_word(shop: Shop) -> None:
    """limit_reached, not_open, closed, not_live and not_found, each naming its line."""
    hub = shop.hubs[0]
    fine, small, paused, closed = await offers(shop, 5, 5, 5, 5)
    done(await hub.changes.pause_offer(paused.id))
    done(await hub.changes.close_offer(closed.id))
    elsewhere = await shop.offer(5)
    early = await shop.offer(5, stream=await shop.stream("scheduled"))
    for stream, offer, qty, word in (
        (fine.stream, small.id, 6, "limit_reached"), (fine.stream, paused.id, 1, "not_open"),
        (fine.stream, closed.id, 1, "closed"), (fine.stream, elsewhere.id, 1, "not_found"),
        (fine.stream, "of_none", 1, "not_found"), (early.stream, early.id, 1, "not_live"),
    ):  # fmt: skip
        lines = [(fine.id, 1), (offer, qty)] if stream == fine.stream else [(offer, qty)]
        outcome = await hub.bundle(stream, "ann", lines)
        assert (why(outcome), field(outcome)) == (word, f"lines[{len(lines) - 1}]")
    await shop.rested(fine.id)
    assert await hub.left(fine.id) == 5


async def test_lines_of_one_offer_are_one_sum(shop: Shop) -> None:
    """Limit, stock and the most of one line see the sum, not each line by itself."""
    hub = shop.hubs[0]
    small, limited, large = await offers(shop, 3, 100, 2_000, per_viewer=2_000)
    await shop.fetch("update offers set per_viewer = 2 where id = $1", limited.id)
    await hub.rebuilder.rebuild(limited.id)
    outcome = await hub.bundle(small.stream, "ann", [(small.id, 2), (large.id, 1), (small.id, 2)])
    assert (why(outcome), field(outcome)) == ("sold_out", "lines[0]")
    outcome = await hub.bundle(small.stream, "ann", [(limited.id, 1), (limited.id, 2)])
    assert (why(outcome), field(outcome)) == ("limit_reached", "lines[0]")
    outcome = await hub.bundle(small.stream, "ann", [(large.id, 600), (large.id, 401)])
    assert (why(outcome), field(outcome)) == ("bad_request", "lines[1].qty")
    made = together(await hub.bundle(small.stream, "ann", [(large.id, 600), (large.id, 400)]))
    assert [o.qty for o in made.orders] == [1_000]
    for offer in (small, limited, large):
        await shop.rested(offer.id)


async def test_postgres_checks_the_sum_though_the_gate_does_not(shop: Shop) -> None:
    """The second line: what was let through wrongly is refused as a whole, line by line."""
    hub = shop.hubs[0]
    a, b = await offers(shop, 5, 5, per_viewer=3)
    held = [await hold(hub, a, "ann", 2, "or_a", "k"), await hold(hub, b, "ann", 3, "or_b", "k")]
    await shop.fetch("update offers set quantity = 2 where id = $1", b.id)
    judged = await hub.selling.bundles.ledger.admit("bu_1", held)
    assert [(j.word, j.order) for j in judged] == [(None, None), ("sold_out", None)]
    await shop.fetch("update offers set quantity = 5, per_viewer = 2 where id = $1", b.id)
    judged = await hub.selling.bundles.ledger.admit("bu_1", held)
    assert [(j.word, j.order) for j in judged] == [(None, None), ("limit_reached", None)]
    assert not await shop.fetch("select 1 from orders")
    assert {r[0] for r in await shop.fetch("select taken from offers")} == {0}


async def test_postgres_tells_a_replay_from_another_request(shop: Shop) -> None:
    """Its rows line by line are `again`; fewer, more, or other units are key_reused."""
    hub = shop.hubs[0]
    a, b, c = await offers(shop, 5, 5, 5)
    ledger = hub.selling.bundles.ledger
    rank = iter(range(1, 100))

    def lines(*wanted: tuple[Offer, int]) -> list[BundleLine]:
        return [
            BundleLine(o.id, o.epoch, Line(f"or_{(n := next(rank))}", "ann", "k", qty, n))
            for o, qty in wanted
        ]

    first = await ledger.admit("bu_1", lines((a, 1), (b, 2)))
    assert [j.word for j in first] == ["ok", "ok"]
    again = await ledger.admit("bu_2", lines((a, 1), (b, 2)))
    assert [(j.word, j.order) for j in again] == [("again", j.order) for j in first]
    for other in (
        lines((a, 1)), lines((b, 2)), lines((a, 1), (b, 1)), lines((a, 1), (b, 2), (c, 1)),
        lines((b, 2), (c, 1)),
    ):  # fmt: skip
        judged = await ledger.admit("bu_3", other)
        assert {j.word for j in judged} == {"key_reused"}
    assert [j.word for j in await ledger.admit("bu_4", lines((c, 1)))] == ["ok"]
    for mixed in (lines((a, 1), (c, 1)), lines((a, 1), (b, 2), (c, 1))):  # two bundles' rows
        assert {j.word for j in await ledger.admit("bu_5", mixed)} == {"key_reused"}
    single = await hub.ledger.admit(a.id, a.epoch, [Line("or_s", "bob", "k", 1, 99)])
    assert single.outcomes is None
    mine = BundleLine(a.id, a.epoch, Line("or_t", "bob", "k", 1, 100))
    assert [j.word for j in await ledger.admit("bu_6", [mine])] == ["key_reused"]
    assert len(await shop.fetch("select 1 from orders")) == 4


async def test_a_bundle_sent_again_is_the_same_bundle(shop: Shop) -> None:
    """Its key answers with its orders as they are now; other lines are key_reused."""
    hub = shop.hubs[0]
    a, b, c = await offers(shop, 5, 5, 5)
    lines = [(a.id, 1), (b.id, 2)]
    made = together(await hub.bundle(a.stream, "ann", lines, "k"))
    done(await hub.changes.cancel(made.orders[0].id, by_host=False, reason=None))
    for same in (lines, lines[::-1], [(b.id, 1), (a.id, 1), (b.id, 1)]):
        again = together(await hub.bundle(a.stream, "ann", same, "k"))
        assert (again.bundle, again.replayed) == (made.bundle, True)
        assert {(o.offer, o.id, o.status) for o in again.orders} == {
            (a.id, made.orders[0].id, "cancelled"), (b.id, made.orders[1].id, "reserved"),
        }  # fmt: skip
    for other in (
        [(a.id, 1)], [(b.id, 2)], [(a.id, 2), (b.id, 2)], [(a.id, 1), (b.id, 2), (c.id, 1)],
    ):  # fmt: skip
        outcome = await hub.bundle(a.stream, "ann", other, "k")
        assert (why(outcome), field(outcome)) == ("key_reused", None), other
    for offer in (a, b):
        assert why(await hub.buy_until_final(offer.id, "ann", 1, "k")) == "key_reused"
    assert why(await hub.buy_until_final(b.id, "ann", 2, "k")) == "key_reused"
    bought(await hub.buy_until_final(c.id, "ann", 1, "k"))  # the key's scope is (offer, viewer)
    assert why(await hub.bundle(a.stream, "ann", [(c.id, 1)], "k")) == "key_reused"
    together(await hub.bundle(a.stream, "bob", [(a.id, 1), (c.id, 1)], "k"))
    for offer in (a, b, c):
        await shop.rested(offer.id)
    assert [await hub.left(offer.id) for offer in (a, b, c)] == [4, 3, 3]


async def test_a_bundle_is_replayed_by_a_hub_that_never_saw_its_offers(shop: Shop) -> None:
    """Also when the offers are closed by then, and when the gate forgot all (R2)."""
    a, b = await offers(shop, 5, 5)
    lines = [(a.id, 1), (b.id, 1)]
    made = together(await shop.hubs[0].bundle(a.stream, "ann", lines, "k"))
    await shop.redis.flushdb()
    await shop.hubs[0].keeper.round()
    assert together(await shop.hubs[0].bundle(a.stream, "ann", lines, "k")).replayed
    done(await shop.hubs[0].changes.close_offer(b.id))
    again = together(await (await shop.hub()).bundle(a.stream, "ann", lines, "k"))
    assert (again.bundle, again.replayed) == (made.bundle, True)
    assert [o.id for o in again.orders] == [o.id for o in made.orders]


async def test_copies_at_once_are_one_bundle(shop: Shop) -> None:
    """Twenty copies over two hubs at the same moment make one bundle; one of them made it."""
    other = await shop.hub()
    a, b, c = await offers(shop, 5, 5, 5)
    lines = [(a.id, 1), (b.id, 2), (c.id, 1)]
    outcomes = await asyncio.gather(
        *((shop.hubs[0], other)[n % 2].bundle(a.stream, "ann", lines, "k") for n in range(20))
    )
    assert len({together(o).bundle for o in outcomes}) == 1
    assert sum(not together(o).replayed for o in outcomes) <= 1
    assert len(await shop.fetch("select 1 from orders")) == 3
    for offer in (a, b, c):
        await shop.rested(offer.id)


async def test_copies_of_a_refused_bundle_leave_no_hold(shop: Shop) -> None:
    """A client that sends every command twice blocks nobody: no hold outlives the answer."""
    hub = shop.hubs[0]
    a, b = await offers(shop, 1, 1)
    bought(await hub.buy(b.id, "zoe"))
    sent = [hub.start_bundle(a.stream, "ann", [(b.id, 1), (a.id, 1)], "k") for _ in range(5)]
    assert {(why(await one), field(await one)) for one in sent} == {("sold_out", "lines[0]")}
    await shop.rested(a.id)
    assert bought(await hub.buy(a.id, "bob")).viewer == "bob"


async def test_a_bundle_of_unpaid_offers_is_confirmed_at_once(shop: Shop) -> None:
    """Each order has the terms of its offer: payment, deadline, extensions."""
    hub = shop.hubs[0]
    (free,) = await offers(shop, 1, payment="none")
    paid = await shop.offer(5, stream=free.stream, hold_s=60, extends=2)
    made = together(await hub.bundle(free.stream, "ann", [(free.id, 1), (paid.id, 1)]))
    first, second = made.orders
    assert (first.status, first.expires_at, first.extends_left) == ("confirmed", None, None)
    assert first.confirmed_at == first.reserved_at
    assert (second.status, second.extends_left) == ("reserved", 2)
    assert second.expires_at == second.reserved_at + 60_000
    extended = done(await hub.changes.extend(second.id, 1))
    assert (extended.bundle, extended.extends_left) == (made.bundle, 1)
    kinds = [r[0] for r in await shop.fetch("select kind from facts order by n")]
    assert kinds == ["offer.opened", "offer.opened", "offer.sold_out"]
    assert hub.heard.streams.count(free.stream) >= 3
    for offer in (free, paid):
        await shop.rested(offer.id)


async def test_crossing_bundles_sell_every_unit_once(shop: Shop) -> None:
    """Two hubs, bundles and single buys over the same offers in every order: no unit lost."""
    hubs = (shop.hubs[0], await shop.hub())
    made = await offers(shop, 20, 20, 20)
    a, b, c = (offer.id for offer in made)
    shapes = [[(a, 1), (b, 1)], [(c, 1), (b, 1), (a, 1)], [(b, 2), (c, 1)], [(c, 1), (a, 1)]]

    async def viewer(n: int) -> None:
        hub = hubs[n % 2]
        for turn in range(3):
            if (n + turn) % 5 == 0:
                await hub.buy_until_final((a, b, c)[n % 3], f"v{n}")
            else:
                await hub.bundle(made[0].stream, f"v{n}", shapes[(n + turn) % 4])

    async with asyncio.timeout(60):
        await asyncio.gather(*(viewer(n) for n in range(40)))
        for offer in made:  # whoever comes now gets every unit that is left
            row = await shop.fetch("select quantity - taken from offers where id = $1", offer.id)
            for n in range(row[0][0]):
                bought(await hubs[0].buy_until_final(offer.id, f"w{n}"))
            assert why(await hubs[1].buy_until_final(offer.id, "late")) == "sold_out"
            await shop.rested(offer.id)
    rows = await shop.fetch(
        "select bundle, count(*) from orders where bundle is not null group by 1"
    )
    assert rows
    assert {row[1] for row in rows} <= {2, 3}


async def test_bundles_die_with_their_orders_alone(shop: Shop) -> None:
    """Expiry, payment and cancelling are each order's own; a rebuild keeps them all (R2)."""
    hub = shop.hubs[0]
    a, b, c = await offers(shop, 5, 5, 5)
    made = together(await hub.bundle(a.stream, "ann", [(a.id, 1), (b.id, 1), (c.id, 1)], "k"))
    first, second, third = made.orders
    done(await hub.changes.pay(first.id))
    done(await hub.changes.cancel(second.id, by_host=False, reason=None))
    await shop.fetch("update orders set expires_at = clock_timestamp() where id = $1", third.id)
    await hub.keeper.round()
    await shop.redis.flushdb()
    await hub.keeper.round()
    again = together(await hub.bundle(a.stream, "ann", [(a.id, 1), (b.id, 1), (c.id, 1)], "k"))
    assert [o.status for o in again.orders] == ["confirmed", "cancelled", "expired"]
    assert {o.bundle for o in hub.heard.changes} == {made.bundle}
    for offer in (a, b, c):
        await shop.rested(offer.id)


async def test_no_more_bundles_wait_than_the_bound_allows(shop: Shop) -> None:
    """Beyond it a bundle is told `retry` at once, and takes no hold."""
    hub = await shop.hub(SellingLimits(bundles_max=2))
    a, b = await offers(shop, 50, 50)
    sent = [hub.start_bundle(a.stream, f"v{n}", [(a.id, 1), (b.id, 1)]) for n in range(10)]
    assert [one.done() for one in sent] == [False] * 2 + [True] * 8
    assert {why(one.result()) for one in sent[2:]} == {"retry"}
    assert all(isinstance(one, Bundled) for one in await asyncio.gather(*sent[:2]))
    for offer in (a, b):
        await shop.rested(offer.id)
    assert await shop.redis.hlen(keys_of(a.id).holds) == 2
