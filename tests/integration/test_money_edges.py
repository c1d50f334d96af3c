"""Money at its edges: words that meet, lie, lag or come back; real servers, the trial bank."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from orders.ledger.money import SQL, Money
from orders.payments.cashier import Cashier, CashierLimits, Paying
from orders.payments.port import Seen
from orders.payments.trial import Trial
from orders.payments.trial_bank import TrialBank
from orders.records import Accepted, Offer
from tests.shop import Hub, Shop, until

NOW = CashierLimits(lease_s=0)


class Till:
    """A hub with a cashier that works when it is told to, and its bank."""

    def __init__(self, shop: Shop, hub: Hub, bank: TrialBank) -> None:
        self.shop = shop
        self.hub = hub
        self.bank = bank
        self.money = Money(hub.ledger)
        self.cashier = Cashier(hub.ledger, hub.changes, hub.selling, hub.ids, [Trial(bank)], NOW)

    async def bought(self, offer: Offer, viewer: str = "ann", qty: int = 1) -> str:
        outcome = await self.hub.buy_until_final(offer.id, viewer, qty)
        assert isinstance(outcome, Accepted)
        return outcome.order.id

    async def begun(self, *orders: str, viewer: str = "ann") -> tuple[str, str]:
        """Begin to pay; return our id of the payment and the bank's."""
        paying = await self.cashier.begin(viewer, orders, "trial")
        assert isinstance(paying, Paying)
        await self.quiet()
        return paying.payment, paying.begun.seen.ref

    async def paid(self, *orders: str, viewer: str = "ann") -> tuple[str, str]:
        """Pay, and have the money move."""
        payment, ref = await self.begun(*orders, viewer=viewer)
        await self.hears(self.bank.authorise(ref))
        await self.works()
        return payment, ref

    async def hears(self, seen: Seen) -> None:
        """Have the ledger know what the bank says; nobody sees to it yet."""
        await self.cashier._heard("trial", seen)

    async def works(self) -> None:
        """See to what is due, as if it had waited long enough."""
        await self.shop.fetch("update payments_due set due_at = now()")
        await self.shop.fetch(
            "update payment_moves set ended_at = ended_at - interval '1 day' where state = 'failed'"
        )
        await self.cashier.round()
        await self.quiet()

    async def quiet(self) -> None:
        await until(lambda: not self.cashier._at_work)

    async def one(self, sql: str, *args: object) -> Any:
        ((found,),) = await self.shop.fetch(sql, *args)
        return found

    async def payment(self, payment: str) -> asyncpg.Record:
        (found,) = await self.shop.fetch("select * from payments where id = $1", payment)
        return found

    async def status(self, order: str) -> str:
        found: str = await self.one("select status from orders where id = $1", order)
        return found

    async def expired(self, order: str, offer: Offer) -> None:
        await self.shop.fetch("update orders set expires_at = now() where id = $1", order)
        await self.shop.fetch("select expire($1, 10)", offer.id)


@pytest.fixture
async def till(shop: Shop, tmp_path: Path) -> AsyncIterator[Till]:
    found = Till(shop, await shop.hub(), TrialBank(tmp_path / "bank"))
    yield found
    await found.cashier.close()


async def waits(shop: Shop, backend: int) -> None:
    """Return once that connection waits for a lock."""

    async def waiting() -> bool:
        sql = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
        return bool((await shop.fetch(sql, backend))[0][0])

    await until(waiting)


def words(seen: Seen, **more: Any) -> tuple[Any, ...]:
    """Return what `money_heard` is called with."""
    said = {"refunded": seen.refunded_minor} | more
    return (
        "trial", None, None, seen.ref, seen.payment, seen.state, seen.amount_minor, seen.currency,
        seen.capturable_minor, seen.captured_minor, said["refunded"], seen.disputed,
    )  # fmt: skip


HEARD = "select * from money_heard($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"


async def test_a_refund_at_the_desk_while_the_host_gives_back(till: Till) -> None:
    """Both give the whole back at once: the offer has the units less once, and no more (I4)."""
    offer = await till.shop.offer(5, per_viewer=2)
    order = await till.bought(offer, qty=2)
    _, ref = await till.paid(order)
    host = await asyncpg.connect(till.shop.database_url)
    desk = await asyncpg.connect(till.shop.database_url)
    try:
        async with asyncio.timeout(20):
            seen = till.bank.refund_by_hand(ref, 5800)
            begun = host.transaction()
            await begun.start()
            await host.execute(
                "select c.word from refund($1, null, null, false, null, 'host') c", order
            )
            pid = await desk.fetchval("select pg_backend_pid()")
            heard = asyncio.create_task(desk.fetch(HEARD, *words(seen)))
            await waits(till.shop, pid)
            await begun.commit()
            await heard
    finally:
        await host.close()
        await desk.close()
    assert await till.status(order) == "refunded"
    assert await till.one("select quantity from offers where id = $1", offer.id) == 3
    await till.hub.changes.settle(offer.id, offer.stream)
    await till.shop.rested(offer.id)


async def test_a_refund_at_the_desk_locks_offers_by_id(till: Till) -> None:
    """What was given back of several orders locks their offers in the order that all do (R3)."""
    stream = await till.shop.stream()
    first = await till.shop.offer(5, stream=stream)
    second = await till.shop.offer(5, stream=stream)
    assert first.id < second.id
    orders = [await till.bought(second), await till.bought(first)]
    assert orders == sorted(orders)
    _, ref = await till.paid(*orders)
    other = await asyncpg.connect(till.shop.database_url)
    desk = await asyncpg.connect(till.shop.database_url)
    try:
        async with asyncio.timeout(20):
            seen = till.bank.refund_by_hand(ref, 5800)
            begun = other.transaction()
            await begun.start()
            await other.execute("select 1 from offers where id = $1 for update", first.id)
            pid = await desk.fetchval("select pg_backend_pid()")
            heard = asyncio.create_task(desk.fetch(HEARD, *words(seen)))
            await waits(till.shop, pid)
            await other.execute("select 1 from offers where id = $1 for update", second.id)
            await begun.commit()
            await heard
    finally:
        await other.close()
        await desk.close()
    assert [await till.status(order) for order in orders] == ["refunded", "refunded"]


async def test_a_refund_whose_figure_lags(till: Till) -> None:
    """A bank that has carried a refund out and does not count it yet is not asked for another."""
    offer = await till.shop.offer(5)
    order = await till.bought(offer)
    payment, ref = await till.paid(order)
    await till.money.refund(order, "k", 1000, False, None, "host")
    step = await till.money.next(payment, 0)
    assert step is not None
    assert step.move is not None
    assert (step.kind, step.amount_minor) == ("refund", 1000)
    seen = till.bank.refund(ref, 1000, "TWD", step.move).seen
    await till.shop.fetch(HEARD, *words(seen, refunded=0))
    await till.money.moved(step.move, None)
    await till.works()
    (account,) = till.bank.audit()
    assert account.refunded_minor == 1000


async def test_a_refund_that_fails_days_later(till: Till) -> None:
    """A refund that was under way and comes to nothing is owed, and asked for again."""
    offer = await till.shop.offer(5)
    order = await till.bought(offer)
    payment, _ = await till.paid(order)
    till.bank.will("refund", "pending")
    await till.hub.changes.cancel(order, True, None)
    await till.works()
    assert (await till.payment(payment))["refunded_minor"] == 2900
    seen = till.bank.settle_refund("tre_2", "failed")
    assert [one.state for one in seen.refunds] == ["failed"]
    await till.hears(seen)
    assert (await till.payment(payment))["refunded_minor"] == 0
    await till.works()
    (account,) = till.bank.audit()
    assert account.refunded_minor == 2900
    assert (await till.payment(payment))["refunded_minor"] == 2900


async def test_what_a_bank_refuses_is_counted(till: Till) -> None:
    """Money that should move and is refused to is counted for whoever watches, until it moves."""
    offer = await till.shop.offer(5)
    order = await till.bought(offer)
    await till.paid(order)
    assert await till.money.stuck() == 0
    till.bank.will("refund", "refuse")
    await till.hub.changes.cancel(order, True, None)
    await till.cashier.round()
    await till.quiet()
    assert await till.money.stuck() == 1
    await till.works()
    assert await till.money.stuck() == 0


async def test_paid_in_the_last_second(till: Till) -> None:
    """Who paid in time, and is heard of after the end, gets a new order: the bank is asked."""
    offer = await till.shop.offer(5)
    order = await till.bought(offer)
    payment, ref = await till.begun(order)
    till.bank.authorise(ref)  # the word of it is under way
    await till.expired(order, offer)
    await till.works()
    assert await till.status(order) == "expired"
    (new,) = await till.shop.fetch("select * from orders where replaces = $1", order)
    assert (new["status"], new["captured_at"] is None) == ("confirmed", False)
    assert (await till.payment(payment))["state"] == "captured"
    second = await till.bought(offer, "bob")
    unpaid, _ = await till.begun(second, viewer="bob")
    await till.expired(second, offer)
    await till.works()
    assert (await till.payment(unpaid))["state"] == "voided"


async def test_less_is_captured_than_was_owed(till: Till) -> None:
    """Somebody captures a part past us: no order is shipped for it, and it goes back."""
    offer = await till.shop.offer(5)
    order = await till.bought(offer)
    payment, ref = await till.begun(order)
    await till.hears(till.bank.authorise(ref))
    assert await till.status(order) == "confirmed"
    await till.hears(till.bank.capture(ref, 900, "TWD", "by hand").seen)
    assert await till.status(order) == "cancelled"
    await till.works()
    now = await till.payment(payment)
    assert (now["odd"], now["captured_minor"], now["refunded_minor"]) == ("captured", 900, 900)
    (listed,) = await till.money.payments_of(order)
    assert (listed.id, listed.odd) == (payment, "captured")


async def test_a_payment_that_one_gave_up(till: Till) -> None:
    """A process was refused and gave a payment up, another got it begun: what is paid counts."""
    offer = await till.shop.offer(5)
    order = await till.bought(offer)
    made = await till.money.begin("pay_1", "trial", "ann", [order])
    assert made.word == "ok"
    await till.money.give_up("pay_1")
    seen = Seen(
        ref="pi_1", payment="pay_1", state="open", amount_minor=2900, currency="TWD"
    )  # fmt: skip
    await till.hears(seen)
    assert (await till.payment("pay_1"))["state"] == "open"


async def test_two_first_words_at_once(till: Till) -> None:
    """Of two words that both would bring the bank's id, the one that waited is not lost."""
    offer = await till.shop.offer(5)
    order = await till.bought(offer)
    await till.money.begin("pay_1", "trial", "ann", [order])
    opened = Seen(
        ref="pi_1", payment="pay_1", state="open", amount_minor=2900, currency="TWD"
    )  # fmt: skip
    one = await asyncpg.connect(till.shop.database_url)
    two = await asyncpg.connect(till.shop.database_url)
    try:
        async with asyncio.timeout(20):
            begun = one.transaction()
            await begun.start()
            await one.fetch(HEARD, *words(opened))
            pid = await two.fetchval("select pg_backend_pid()")
            heard = asyncio.create_task(two.fetch(HEARD, *words(opened)))
            await waits(till.shop, pid)
            await begun.commit()
            ((word, payment, _),) = await heard
    finally:
        await one.close()
        await two.close()
    assert (word, payment) == ("ok", "pay_1")


async def test_a_refund_without_units_of_an_offer_in_buckets(till: Till) -> None:
    """A bucket and its offer have so many units less, and nobody gets them (I4)."""
    offer = await till.shop.offer(6, per_viewer=2, buckets=3)
    order = await till.bought(offer, qty=2)
    await till.paid(order)
    word, now = await till.money.refund(order, None, None, False, None, "host")
    assert (word, now is not None and now.status) == ("ok", "refunded")
    await till.hub.changes.settled(word, now)
    assert await till.one("select quantity from offers where id = $1", offer.id) == 4
    await till.shop.whole_at_rest(offer.id)
    await till.works()
    (account,) = till.bank.audit()
    assert account.refunded_minor == 5800


async def test_a_timeline_has_an_index(till: Till) -> None:
    """The timeline of an order does not read all that providers ever said."""
    connection = await asyncpg.connect(till.shop.database_url)
    try:
        await connection.execute("set enable_seqscan = off")
        await connection.execute("set enable_bitmapscan = off")
        rows = await connection.fetch("explain " + SQL["timeline"].replace("$1", "'x'"))
    finally:
        await connection.close()
    plan = "\n".join(row[0] for row in rows)
    assert "payment_events_payment" in plan
    assert "Seq Scan" not in plan
