"""The keeper on real servers: what a crash left undone is done, told, and never done twice."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from orders import rebuild
from orders.keeper import KeeperLimits
from orders.ledger.ledger import Line
from orders.ledger.pool import open_pool
from orders.stock.gate import Decided, Frozen, Standing
from tests.shop import Hub, Shop, bought, until, why


@pytest.fixture
def hub(shop: Shop) -> Hub:
    """A hub whose keeper waits for nobody."""
    hub = shop.hubs[0]
    hub.keeper.limits = KeeperLimits(grace_ms=0, lag_grace_s=0)
    return hub


async def test_an_expiry_that_nobody_told_is_told(shop: Shop, hub: Hub) -> None:
    """A keeper that dies after its COMMIT: the next one tells the viewer, the figures, the gate."""
    offer = await shop.offer(3)
    order = bought(await hub.buy(offer.id, "ann"))
    await shop.fetch("update orders set expires_at = clock_timestamp() where id = $1", order.id)
    assert len(await shop.fetch("select * from expire($1, 10)", offer.id)) == 1
    await hub.keeper.round()
    assert [(o.id, o.status) for o in hub.heard.changes] == [(order.id, "expired")]
    assert hub.heard.last[offer.id].left == 3
    await shop.at_rest(offer.id)


async def test_a_payment_that_nobody_told_is_told(shop: Shop, hub: Hub) -> None:
    """The same for an order that changes without giving units back."""
    offer = await shop.offer(3)
    order = bought(await hub.buy(offer.id, "ann"))
    await shop.fetch("select * from pay($1)", order.id)
    await hub.keeper.round()
    assert [(o.id, o.status) for o in hub.heard.changes] == [(order.id, "confirmed")]
    await shop.at_rest(offer.id)


async def test_what_nobody_published_is_published(shop: Shop, hub: Hub) -> None:
    """A process that dies after its COMMIT: the keeper sees to its events, until they are out (R9).

    Those of a stream's start and an offer's opening here, which nothing else would bring up again.
    """
    offer = await shop.offer(3)
    hub.heard.streams.clear()
    await hub.keeper.publish()
    assert hub.heard.streams == [offer.stream]
    facts = await hub.ledger.facts(offer.stream, None)
    await hub.ledger.mark_published(offer.stream, facts[-1].n)
    await hub.keeper.publish()
    assert hub.heard.streams == [offer.stream]


async def test_what_another_process_committed_is_told_by_who_brings_it_to_the_gate(
    shop: Shop, hub: Hub
) -> None:
    """A payment whose teller died is told although another hub's cancel overtakes the keeper."""
    offer = await shop.offer(5)
    paid, gone = bought(await hub.buy(offer.id, "ann")), bought(await hub.buy(offer.id, "bob"))
    await hub.ledger.pay(paid.id)  # committed, and whoever asked died before he told anybody
    other = await shop.hub()
    await other.changes.cancel(gone.id, False, None)
    told = [(order.id, order.status) for order in other.heard.changes]
    assert sorted(told) == sorted([(paid.id, "confirmed"), (gone.id, "cancelled")])
    await hub.keeper.round()
    assert hub.heard.changes == []
    await shop.at_rest(offer.id)


@pytest.mark.parametrize("hangs", [False, True])
async def test_no_run_outlives_the_process_that_it_belongs_to(
    shop: Shop, hub: Hub, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose asker left goes to its end before its connections do, or is cut off."""
    monkeypatch.setattr(rebuild, "END_S", 0.1 if hangs else 30.0)
    offer = await shop.offer(3)
    order = bought(await hub.buy(offer.id, "ann"))
    await hub.ledger.cancel(order.id, False, None)
    probe, begun, go = hub.gate.probe, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any) -> Standing | Frozen:
        begun.set()
        await go.wait()
        return await probe(*args)

    hub.gate.probe = slow  # type: ignore[method-assign,assignment]
    before = asyncio.all_tasks()
    asker = asyncio.create_task(hub.changes.settle(offer.id, offer.stream))
    await begun.wait()
    asker.cancel()
    await asyncio.wait({asker})
    if not hangs:
        asyncio.get_running_loop().call_soon(go.set)
    await hub.rebuilder.close()
    assert asyncio.all_tasks() <= before
    hub.gate.probe = probe  # type: ignore[method-assign]
    standing = await hub.gate.probe(offer.id, 0, 1)
    assert isinstance(standing, Standing)
    applied = (await shop.fetch("select last_movement from offers"))[0][0] == standing.movement
    assert applied is not hangs  # the keeper's then
    await hub.keeper.round()
    await shop.at_rest(offer.id)


async def test_a_keeper_ends_though_a_duty_takes_its_cancellation(shop: Shop, hub: Hub) -> None:
    """A library that swallows a cancellation, as happens, costs no keeper its end."""
    begun = asyncio.Event()

    async def swallow() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    hub.keeper._rounds.step = swallow  # type: ignore[method-assign]
    running = asyncio.create_task(hub.keeper.run())
    await begun.wait()
    running.cancel()
    ended, _ = await asyncio.wait({running}, timeout=10)
    assert ended
    assert running.cancelled()


async def test_one_look_opens_and_closes_what_is_due_before_the_next(shop: Shop, hub: Hub) -> None:
    """A scheduled moment is waited for, not noticed a round later; what is far off is left."""
    hub.keeper.limits = KeeperLimits(round_s=0.4)
    now_ms = (await shop.fetch("select ms(clock_timestamp())"))[0][0]
    soon = await shop.offer(1, opened=False, opens_at=now_ms + 300)
    ends = await shop.offer(1, opened=False, opens_at=now_ms - 1, closes_at=now_ms + 300)
    later = await shop.offer(1, opened=False, opens_at=now_ms + 60_000)
    await hub.keeper.open_and_close()
    await hub.keeper.open_and_close()  # `ends` was to be opened first
    rows = await shop.fetch("select id, status from offers")
    status = {row["id"]: row["status"] for row in rows}
    assert [status[o.id] for o in (soon, ends, later)] == ["open", "closed", "scheduled"]
    early = "select 1 from facts join offers on id = subject where at < opens_at and kind = $1"
    assert not await shop.fetch(early, "offer.opened")


async def test_a_duty_that_fails_stops_no_other(shop: Shop, hub: Hub) -> None:
    """A fault that nobody foresaw in one duty: it is tried again, and orders expire meanwhile."""
    offer = await shop.offer(2)
    order = bought(await hub.buy(offer.id, "ann"))
    fails = 0

    async def fail() -> None:
        nonlocal fails
        fails += 1
        raise ValueError("planted")

    hub.keeper._rounds.step = fail  # type: ignore[method-assign]
    running = asyncio.create_task(hub.keeper.run())
    await until(lambda: fails)
    await shop.fetch("update orders set expires_at = clock_timestamp() where id = $1", order.id)
    await until(lambda: [o.status for o in hub.heard.changes] == ["expired"])
    await until(lambda: fails > 1)
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})


async def test_what_was_told_is_not_told_again(shop: Shop, hub: Hub) -> None:
    """Changes that went their whole way leave the keeper nothing to tell."""
    offer = await shop.offer(3, per_viewer=3)
    paid = bought(await hub.buy(offer.id, "ann"))
    ended = bought(await hub.buy(offer.id, "ann"))
    await hub.changes.pay(paid.id)
    await hub.changes.cancel(ended.id, by_host=False, reason=None)
    told = len(hub.heard.changes)
    await hub.keeper.round()
    assert (told, len(hub.heard.changes)) == (2, 2)


async def test_a_key_sent_again_and_again_does_not_keep_a_hold_alive(shop: Shop, hub: Hub) -> None:
    """Adopting a hold gives it a new rank, not a new age: the keeper's turn comes (R6, I11)."""
    offer = await shop.offer(1)
    buy = [("ann", 1, "or_x", "3:annk")]
    await hub.gate.hold(offer.id, [], buy)

    async def is_stale() -> bool:
        adopted = await hub.gate.hold(offer.id, [], buy)
        assert isinstance(adopted, Decided)
        assert adopted.lines[0][0] == "adopted"
        standing = await hub.gate.probe(offer.id, 100, 10)
        assert isinstance(standing, Standing)
        return standing.stale == [("or_x", adopted.lines[0][1])]

    await until(is_stale)
    await hub.keeper.round()
    assert bought(await hub.buy_until_final(offer.id, "bob")).viewer == "bob"


async def test_holds_of_a_closed_offer_are_resolved_under_any_epoch(shop: Shop, hub: Hub) -> None:
    """A rebuild that died, then a close: the old gate's holds still end, and `closed` is said."""
    offer = await shop.offer(2)
    decided = await hub.gate.hold(offer.id, [], [("ann", 1, "or_x", "3:annk")])
    assert isinstance(decided, Decided)
    await hub.ledger.raise_epoch(offer.id, decided.epoch)
    await shop.fetch("select close_offer($1, null, false)", offer.id)
    line = Line("or_x", "ann", "k", 1, decided.lines[0][1])
    assert (await hub.ledger.admit(offer.id, decided.epoch, [line])).outcomes == ["closed"]
    await hub.keeper.round()
    standing = await hub.gate.probe(offer.id, 0, 10)
    assert isinstance(standing, Standing)
    assert standing.unwritten == 0
    assert why(await hub.buy(offer.id, "ann", 1, "k")) == "closed"


async def test_more_stale_holds_than_one_call_names_are_resolved_in_one_round(
    shop: Shop, hub: Hub
) -> None:
    """A double outage leaves thousands of holds; they do not wait a round each batch (I11)."""
    hub.keeper.limits = KeeperLimits(grace_ms=0, stale_max=10)
    offer = await shop.offer(100)
    buys = [(f"v{n}", 1, f"or_{n}", f"{len(f'v{n}')}:v{n}k") for n in range(35)]
    await hub.gate.hold(offer.id, [], buys)
    await hub.keeper.round()
    await shop.at_rest(offer.id)


async def test_each_duty_goes_its_own_way(shop: Shop, hub: Hub) -> None:
    """While one duty hangs, the others go on: Redis away must not keep orders from expiring."""
    offer = await shop.offer(2)
    order = bought(await hub.buy(offer.id, "ann"))
    hangs, probes = asyncio.Event(), 0

    async def hang(*_: object) -> None:
        nonlocal probes
        probes += 1
        await hangs.wait()

    hub.gate.probe = hang  # type: ignore[assignment]
    running = asyncio.create_task(hub.keeper.run())
    await until(lambda: probes)
    await shop.fetch("update orders set expires_at = clock_timestamp() where id = $1", order.id)
    await until(lambda: [o.status for o in hub.heard.changes] == ["expired"])
    running.cancel()
    await asyncio.wait({running})


async def test_a_commit_is_durable_whatever_the_database_says(shop: Shop) -> None:
    """A database that would acknowledge before its disk does is overruled by each session (I2)."""
    name = (await shop.fetch("select current_database()"))[0][0]
    await shop.fetch(f'alter database "{name}" set synchronous_commit = off')
    await shop.fetch(
        f"alter database \"{name}\" set default_transaction_isolation = 'repeatable read'"
    )
    plain = await asyncpg.connect(shop.database_url)
    assert await plain.fetchval("show synchronous_commit") == "off"  # what others would have
    await plain.close()
    pool = await open_pool(shop.database_url)
    try:
        assert await pool.fetchval("show synchronous_commit") == "on"
        assert await pool.fetchval("show transaction_isolation") == "read committed"
    finally:
        pool.terminate()
