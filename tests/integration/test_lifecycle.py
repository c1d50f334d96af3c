"""The life cycle between opening and the end, on real servers: pause, resume, extend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from orders.records import Accepted, Offer, Order, Outcome, Refused
from orders.stock.gate import Decided
from tests.shop import Hub, Shop, bought, done, until, why


async def told(shop: Shop, stream: str) -> list[tuple[str, str | None]]:
    """Return the main events of a stream, as they were committed."""
    rows = await shop.fetch("select kind, reason from facts where stream = $1 order by n", stream)
    return [(row["kind"], row["reason"]) for row in rows]


async def status_of(shop: Shop, offer: str) -> str:
    rows = await shop.fetch("select status from offers where id = $1", offer)
    return str(rows[0][0])


# --- pause and resume --------------------------------------------------------------------------


async def test_a_paused_offer_sells_nothing_until_it_is_resumed(shop: Shop) -> None:
    """Buys are `not_open`, keys seen before still answer, and then it sells on; all is told."""
    hub = shop.hubs[0]
    offer = await shop.offer(3)
    order = bought(await hub.buy(offer.id, "ann", 1, "k"))
    paused = done(await hub.changes.pause_offer(offer.id))
    assert (paused.status, paused.version > offer.version) == ("paused", True)
    assert why(await hub.buy(offer.id, "bob")) == "not_open"
    replay = await hub.buy(offer.id, "ann", 1, "k")
    assert isinstance(replay, Accepted)
    assert (replay.replayed, replay.order.id) == (True, order.id)
    assert done(await hub.changes.pay(order.id)).status == "confirmed"
    assert done(await hub.changes.resume_offer(offer.id)).status == "open"
    bought(await hub.buy(offer.id, "bob"))
    assert await told(shop, offer.stream) == [
        ("offer.opened", None), ("offer.paused", None), ("offer.opened", "resumed"),
    ]  # fmt: skip
    await shop.rested(offer.id)


async def test_pausing_and_resuming_twice_changes_nothing_more(shop: Shop) -> None:
    """The second call answers with the offer as it is: same version, nothing told."""
    changes = shop.hubs[0].changes
    offer = await shop.offer(3)
    first = done(await changes.pause_offer(offer.id))
    assert done(await changes.pause_offer(offer.id)) == first
    second = done(await changes.resume_offer(offer.id))
    assert done(await changes.resume_offer(offer.id)) == second
    assert len(await told(shop, offer.stream)) == 3


async def test_only_what_is_on_sale_is_paused_and_only_what_is_paused_resumed(shop: Shop) -> None:
    """A draft, a scheduled, a sold-out and a closed offer are a conflict, an unknown not found."""
    changes = shop.hubs[0].changes
    draft = await shop.offer(1, opened=False)
    later = await shop.offer(1, opened=False, opens_at=4_000_000_000_000)
    sold = await shop.offer(1)
    bought(await shop.hubs[0].buy(sold.id, "ann"))
    closed = await shop.offer(1)
    await changes.close_offer(closed.id)
    for offer in (draft, later, sold, closed):
        assert why(await changes.pause_offer(offer.id)) == "conflict"
    for offer in (draft, later, closed):
        assert why(await changes.resume_offer(offer.id)) == "conflict"
    assert done(await changes.resume_offer(sold.id)).status == "sold_out"
    assert why(await changes.pause_offer("of_none")) == "not_found"
    assert why(await changes.resume_offer("of_none")) == "not_found"


async def test_a_due_offer_is_paused_though_nobody_has_opened_it_yet(shop: Shop) -> None:
    """For its buyers it is open since its second; the host need not wait for the keeper."""
    hub = shop.hubs[0]
    now_ms = (await shop.fetch("select ms(clock_timestamp())"))[0][0]
    offer = await shop.offer(3, opened=False, opens_at=now_ms - 1)
    assert done(await hub.changes.pause_offer(offer.id)).status == "paused"
    assert why(await hub.buy_until_final(offer.id, "ann")) == "not_open"
    kinds = [kind for kind, _ in await told(shop, offer.stream)]
    assert kinds == ["offer.scheduled", "offer.opened", "offer.paused"]


async def test_units_that_come_back_while_paused_wait_for_the_resume(shop: Shop) -> None:
    """Returned and added units reopen nothing; all of them are for sale afterwards (I5)."""
    hub = shop.hubs[0]
    offer = await shop.offer(3, per_viewer=9)
    orders = [bought(await hub.buy(offer.id, "ann")) for _ in range(2)]
    done(await hub.changes.pause_offer(offer.id))
    done(await hub.changes.cancel(orders[0].id, by_host=False, reason=None))
    await shop.fetch("update orders set expires_at = clock_timestamp() where id = $1", orders[1].id)
    await hub.keeper.round()
    done(await hub.changes.restock(offer.id, "k", 2))
    assert await status_of(shop, offer.id) == "paused"
    assert await hub.left(offer.id) == 5
    assert why(await hub.buy(offer.id, "bob")) == "not_open"
    assert [kind for kind, _ in await told(shop, offer.stream)][1:] == ["offer.paused"]
    done(await hub.changes.resume_offer(offer.id))
    assert bought(await hub.buy(offer.id, "bob", 5)).qty == 5
    assert await status_of(shop, offer.id) == "sold_out"
    await shop.rested(offer.id)


async def test_with_nothing_left_a_resumed_offer_is_sold_out(shop: Shop) -> None:
    """A host who lowers the quantity to what is taken while paused resumes into sold out."""
    hub = shop.hubs[0]
    offer = await shop.offer(5)
    bought(await hub.buy(offer.id, "ann"))
    done(await hub.changes.pause_offer(offer.id))
    done(await hub.changes.revise_offer(offer.id, {"quantity": 1}))
    assert done(await hub.changes.resume_offer(offer.id)).status == "sold_out"
    assert why(await hub.buy_until_final(offer.id, "bob")) == "sold_out"
    assert (await told(shop, offer.stream))[2:] == [
        ("offer.opened", "resumed"), ("offer.sold_out", None),
    ]  # fmt: skip
    await shop.rested(offer.id)


async def test_a_buy_held_before_the_pause_is_refused_after_it(shop: Shop) -> None:
    """Admission refuses it as `not_open`; its hold is given back, for after the resume (I5)."""
    hub = shop.hubs[0]
    offer = await shop.offer(2)
    async with hub.held_up(offer.id, 2) as buys:
        done(await hub.changes.pause_offer(offer.id))
    assert [why(await buy) for buy in buys] == ["not_open", "not_open"]
    await shop.rested(offer.id)
    done(await hub.changes.resume_offer(offer.id))
    assert bought(await hub.buy(offer.id, "v0")).viewer == "v0"
    assert bought(await hub.buy(offer.id, "v1")).viewer == "v1"
    await shop.rested(offer.id)


async def test_a_pause_that_the_gate_missed_is_told_by_the_keeper(shop: Shop) -> None:
    """A host's hub that dies after its COMMIT: Postgres refuses at once, the gate a round later."""
    hub = shop.hubs[0]
    offer = await shop.offer(2)
    await shop.fetch("select pause_offer($1, null)", offer.id)
    assert why(await hub.buy(offer.id, "ann")) == "not_open"  # by admission
    hub.keeper.limits = type(hub.keeper.limits)(lag_grace_s=0)
    await hub.keeper.round()
    decided = await hub.gate.hold(offer.id, [], [("bob", 1, "or_x", "3:bobk")])
    assert isinstance(decided, Decided)
    assert decided.lines[0][0] == "not_open"
    await shop.rested(offer.id)


@pytest.mark.parametrize("how", ["close", "end", "due"])
async def test_a_paused_offer_is_closed_as_any_other(shop: Shop, how: str) -> None:
    """By the host, with the stream, and at its time; its held orders stay payable."""
    hub = shop.hubs[0]
    offer = await shop.offer(2)
    order = bought(await hub.buy(offer.id, "ann"))
    done(await hub.changes.pause_offer(offer.id))
    if how == "close":
        done(await hub.changes.close_offer(offer.id))
    elif how == "end":
        assert await hub.changes.end_stream(offer.stream) is None
    else:
        await shop.fetch("update offers set closes_at = clock_timestamp()")
        await hub.keeper.round()
    assert await status_of(shop, offer.id) == "closed"
    assert why(await hub.buy(offer.id, "bob")) == "closed"
    assert why(await hub.changes.resume_offer(offer.id)) == "conflict"
    assert done(await hub.changes.pay(order.id)).status == "confirmed"
    await shop.rested(offer.id)


async def test_a_rebuilt_gate_knows_that_an_offer_is_paused(shop: Shop) -> None:
    """Redis forgets all while an offer is paused: it stays so, and resumes (R2)."""
    hub = shop.hubs[0]
    offer = await shop.offer(2)
    done(await hub.changes.pause_offer(offer.id))
    await shop.redis.flushdb()
    await hub.keeper.round()
    assert why(await hub.buy(offer.id, "ann")) == "not_open"
    done(await hub.changes.resume_offer(offer.id))
    bought(await hub.buy_until_final(offer.id, "ann"))
    await shop.rested(offer.id)


async def test_pausing_in_the_middle_of_a_crowd_loses_no_unit(shop: Shop) -> None:
    """Two hubs sell while the host pauses and resumes: every unit is sold once in the end."""
    other = await shop.hub()
    hubs = (shop.hubs[0], other)
    offer = await shop.offer(60, per_viewer=3)

    async def insist(hub: Hub, viewer: str) -> Outcome:
        while True:
            outcome = await hub.buy_until_final(offer.id, viewer)
            if isinstance(outcome, Accepted) or why(outcome) != "not_open":
                return outcome
            await asyncio.sleep(0.005)

    async def host() -> None:
        for _ in range(6):
            await asyncio.sleep(0.01)
            paused = await hubs[0].changes.pause_offer(offer.id)
            if isinstance(paused, Refused):  # sold out by now
                break
            await asyncio.sleep(0.01)
            done(await hubs[1].changes.resume_offer(offer.id))

    outcomes, _ = await asyncio.gather(
        asyncio.gather(*(insist(hubs[n % 2], f"v{n % 40}") for n in range(120))), host()
    )
    assert sum(isinstance(o, Accepted) for o in outcomes) == 60
    await shop.rested(offer.id)


# --- extend ------------------------------------------------------------------------------------


async def reserved(shop: Shop, **more: Any) -> Order:
    """Return a fresh reserved order of an offer that lets its deadline be moved."""
    offer = await shop.offer(3, **({"extends": 2, "hold_s": 600} | more))
    return bought(await shop.hubs[0].buy(offer.id, "ann"))


async def test_a_deadline_is_moved_so_often_as_the_offer_allows(shop: Shop) -> None:
    """Each extension is `hold_s` from now and one version more; with none left it is refused."""
    hub = shop.hubs[0]
    order = await reserved(shop, extends=2, hold_s=60)
    assert order.extends_left == 2
    await shop.fetch("update orders set expires_at = clock_timestamp() + interval '5 s'")
    before_ms = (await shop.fetch("select ms(clock_timestamp())"))[0][0]
    once = done(await hub.changes.extend(order.id, 1))
    after_ms = (await shop.fetch("select ms(clock_timestamp())"))[0][0]
    assert (once.status, once.version, once.extends_left) == ("reserved", 2, 1)
    assert before_ms + 60_000 <= once.expires_at <= after_ms + 60_000
    assert [(o.id, o.version) for o in hub.heard.changes] == [(order.id, 2)]
    twice = done(await hub.changes.extend(order.id, 2))
    assert (twice.version, twice.extends_left) == (3, 0)
    assert why(await hub.changes.extend(order.id, 3)) == "conflict"
    await shop.rested(order.offer)


async def test_an_extension_sent_twice_counts_once(shop: Shop) -> None:
    """Ten copies at once, and one much later: one extension, all are told the order as it is."""
    hub = shop.hubs[0]
    order = await reserved(shop)
    copies = await asyncio.gather(*(hub.changes.extend(order.id, 1) for _ in range(10)))
    assert {(done(o).version, done(o).extends_left) for o in copies} == {(2, 1)}
    second = done(await hub.changes.extend(order.id, 2))
    assert done(await hub.changes.extend(order.id, 1)) == second
    paid = done(await hub.changes.pay(order.id))
    assert (paid.status, paid.extends_left) == ("confirmed", None)
    assert done(await hub.changes.extend(order.id, 2)) == paid
    assert why(await hub.changes.extend(order.id, paid.version)) == "conflict"


async def test_what_cannot_be_extended_is_a_conflict(shop: Shop) -> None:
    """None allowed, a version of the future, due already, ended, paid at once; else not found."""
    hub = shop.hubs[0]
    never = await reserved(shop, extends=0)
    assert never.extends_left is None
    unpaid = await reserved(shop, payment="none")
    due = await reserved(shop)
    await shop.fetch("update orders set expires_at = clock_timestamp() where id = $1", due.id)
    ended = await reserved(shop)
    done(await hub.changes.extend(ended.id, 1))
    done(await hub.changes.cancel(ended.id, by_host=False, reason=None))
    for order, version in ((never, 1), (unpaid, 1), (due, 1), (ended, 1), (ended, 3)):
        assert why(await hub.changes.extend(order.id, version)) == "conflict"
    early = await reserved(shop)
    for version in (2, 2**53 - 1):
        assert why(await hub.changes.extend(early.id, version)) == "conflict"
    assert why(await hub.changes.extend("or_none", 1)) == "not_found"
    assert done(await hub.changes.pay(due.id)).status == "confirmed"  # pay wins while reserved (R8)


async def test_a_moved_deadline_is_the_one_that_counts(shop: Shop) -> None:
    """The keeper leaves an extended order alone, until its new deadline is over."""
    hub = shop.hubs[0]
    order = await reserved(shop, hold_s=1)
    extended = done(await hub.changes.extend(order.id, 1))
    assert extended.expires_at >= order.expires_at
    await shop.fetch("update orders set expires_at = clock_timestamp() + interval '20 s'")
    await hub.keeper.round()
    rows = await shop.fetch("select status from orders")
    assert [row[0] for row in rows] == ["reserved"]
    await shop.fetch("update orders set expires_at = clock_timestamp()")
    await hub.keeper.round()
    assert why(await hub.changes.extend(order.id, 2)) == "conflict"
    assert hub.heard.changes[-1].status == "expired"
    await shop.rested(order.offer)


async def test_what_is_due_ends_and_what_is_not_stays(shop: Shop) -> None:
    """Of two orders of one offer, the one whose deadline is over; the other has 20 s left (R8)."""
    hub, offer = shop.hubs[0], await shop.offer(3)
    due, held = [bought(await hub.buy(offer.id, viewer)) for viewer in ("ann", "bob")]
    for order, left_s in ((due, 0), (held, 20)):
        await shop.fetch(
            "update orders set expires_at = clock_timestamp() + $2 * interval '1 s' where id = $1",
            order.id,
            left_s,
        )
    await hub.keeper.round()
    rows = await shop.fetch("select id, status from orders")
    assert {row[0]: row[1] for row in rows} == {due.id: "expired", held.id: "reserved"}
    await shop.rested(offer.id)


async def test_an_extension_that_nobody_told_is_told(shop: Shop) -> None:
    """A hub that dies after its COMMIT: the keeper tells the viewer of the new deadline."""
    hub = shop.hubs[0]
    order = await reserved(shop)
    await shop.fetch("select * from extend($1, 1)", order.id)
    hub.keeper.limits = type(hub.keeper.limits)(lag_grace_s=0)
    await hub.keeper.round()
    assert [(o.id, o.version, o.extends_left) for o in hub.heard.changes] == [(order.id, 2, 1)]
    await shop.rested(order.offer)


async def test_extending_races_with_the_deadline_and_one_wins(shop: Shop) -> None:
    """At the moment of their deadline orders are either extended and live, or expired (I8)."""
    hub = shop.hubs[0]
    offer = await shop.offer(40, per_viewer=40, extends=1)
    orders = [bought(await hub.buy(offer.id, "ann")) for _ in range(40)]
    deadlines = "update orders set expires_at = clock_timestamp() + rank * interval '2 ms'"
    await shop.fetch(deadlines)
    keeping = asyncio.create_task(hub.keeper.run())

    async def extend_late(order: Order) -> Order | Refused:
        await asyncio.sleep(order.rank * 0.002)
        return await hub.changes.extend(order.id, 1)

    results = await asyncio.gather(*(extend_late(order) for order in orders))

    async def over() -> bool:
        due = await shop.fetch(
            "select 1 from orders where status = 'reserved' and expires_at <= clock_timestamp()"
        )
        return not due

    await until(over)
    keeping.cancel()
    await asyncio.wait({keeping})
    rows = {row["id"]: row for row in await shop.fetch("select id, status, extended from orders")}
    for order, result in zip(orders, results, strict=True):
        won = isinstance(result, Order)
        row = rows[order.id]
        assert (row["status"], row["extended"]) == (("reserved", 1) if won else ("expired", 0))
    await hub.keeper.round()
    await shop.rested(offer.id)


async def test_pay_cancel_and_extend_race_on_one_row(shop: Shop) -> None:
    """Whatever the order of three at once: one of pay and cancel wins, an extension counts once."""
    hub = shop.hubs[0]
    offer = await shop.offer(20, per_viewer=20, extends=1)
    orders = [bought(await hub.buy(offer.id, "ann")) for _ in range(20)]
    calls: list[Callable[[str], Awaitable[Order | Refused]]] = [
        lambda id_: hub.changes.extend(id_, 1),
        hub.changes.pay,
        lambda id_: hub.changes.cancel(id_, by_host=False, reason=None),
        lambda id_: hub.changes.extend(id_, 1),
    ]
    for n, order in enumerate(orders):
        turned = calls[n % 4 :] + calls[: n % 4]
        results = await asyncio.gather(*(call(order.id) for call in turned))
        ends = [r for r in results if isinstance(r, Order) and r.status != "reserved"]
        rows = await shop.fetch(
            "select status, extended, version from orders where id = $1", order.id
        )
        assert rows[0]["status"] in ("confirmed", "cancelled")
        assert {end.status for end in ends} == {rows[0]["status"]}
        assert rows[0]["extended"] <= 1
        assert rows[0]["version"] == 2 + rows[0]["extended"]
    await shop.rested(offer.id)


async def test_no_more_than_ten_extensions_are_allowed(shop: Shop) -> None:
    """The second line under the wire's limit."""
    with pytest.raises(asyncpg.CheckViolationError):
        await shop.offer(3, extends=11)
    draft = await shop.offer(3, opened=False)
    revised = done(await shop.hubs[0].changes.revise_offer(draft.id, {"extends": 10}))
    assert isinstance(revised, Offer)
    assert revised.extends == 10
    done(await shop.hubs[0].changes.open_offer(draft.id))
    assert why(await shop.hubs[0].changes.revise_offer(draft.id, {"extends": 1})) == "conflict"
