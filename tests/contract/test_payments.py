"""The contract of the payment port, kept by `trial` and by `stripe` on localstripe alike.

localstripe ignores idempotency keys and forgets nothing, so that what is safe to repeat there is so
by looking first. Keys for ever, concurrent calls and lost answers are tried on `trial`
(tests/unit/test_payments_trial.py); errors and idempotency headers on a small server that answers
as it is told (tests/integration/test_payments_stripe.py).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from orders.payments.port import Notice, PaymentState, ProviderRefused, Seen
from tests.contract.payments_rig import (
    AtLocalstripe,
    AtTrial,
    Bank,
    asked,
    authorised,
    captured,
    every,
    localstripe,
)
from tests.hub_rig import until
from tests.integration.told_server import Told, told_server

#: Stripe's library hands httpx its form as `data`, which httpx would rather have as `content`.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<:DeprecationWarning")


@pytest.fixture(scope="module")
def stripe_at() -> Iterator[str]:
    """The address of a localstripe of this module's own."""
    with localstripe() as address:
        yield address


@pytest.fixture(params=["trial", "stripe"])
async def bank(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bank]:
    """A provider with its bank."""
    found: Bank = (
        AtTrial(tmp_path / "bank.sqlite")
        if request.param == "trial"
        else AtLocalstripe(request.getfixturevalue("stripe_at"))
    )
    yield found
    await found.close()


def moneys(seen: Seen) -> tuple[PaymentState, int, int, int]:
    """Return the state, and what is capturable, captured and refunded."""
    return seen.state, seen.capturable_minor, seen.captured_minor, seen.refunded_minor


async def test_a_payment_begins_open(bank: Bank) -> None:
    """What is begun is what was asked for, is open, and gives the buyer something to pay with."""
    wanted = asked(120_000, "TWD")
    begun = await bank.provider.begin(wanted)
    assert moneys(begun.seen) == ("open", 0, 0, 0)
    assert (begun.seen.payment, begun.seen.amount_minor, begun.seen.currency) == (
        wanted.payment, 120_000, "TWD",
    )  # fmt: skip
    assert all(begun.client.values())
    assert begun.client
    assert not any(value in repr(begun) for value in begun.client.values() if "secret" in value)


async def test_a_payment_is_gone_on_with(bank: Bank) -> None:
    """Who comes back to pay goes on with what was begun, which is what the buyer may have paid."""
    wanted = asked()
    first = await bank.provider.begin(wanted)
    again = msgspec.structs.replace(wanted, ref=first.seen.ref)
    assert await bank.provider.begin(again) == first
    await bank.authorise(first.seen.ref)
    assert moneys((await bank.provider.begin(again)).seen) == ("authorised", 29_900, 0, 0)


async def test_authorised_money_has_not_moved(bank: Bank) -> None:
    """A buyer's authorisation sets the whole amount aside and moves none."""
    seen = await authorised(bank, 5_000)
    assert moneys(seen) == ("authorised", 5_000, 0, 0)


async def test_a_declined_card_leaves_it_open(bank: Bank) -> None:
    """After a declined card the payment is open still: the buyer has another card."""
    begun = await bank.provider.begin(asked())
    await bank.decline(begun.seen.ref)
    assert moneys(await bank.provider.look(begun.seen.ref)) == ("open", 0, 0, 0)


async def test_captured_whole(bank: Bank) -> None:
    """A capture moves what was set aside."""
    assert moneys(await captured(bank, 7_700)) == ("captured", 0, 7_700, 0)


async def test_captured_in_part(bank: Bank) -> None:
    """The rest of a part capture is let go, which is no refund."""
    ref = (await authorised(bank, 10_000)).ref
    seen = await bank.provider.capture(ref, 7_000, "TWD", "k")
    assert moneys(seen) == ("captured", 0, 7_000, 0)
    assert moneys(await bank.provider.look(ref)) == ("captured", 0, 7_000, 0)


async def test_a_capture_repeated_moves_nothing_more(bank: Bank) -> None:
    """The same capture again answers what the first one made."""
    ref = (await authorised(bank, 10_000)).ref
    first = await bank.provider.capture(ref, 10_000, "TWD", "k" + ref)
    assert await bank.provider.capture(ref, 10_000, "TWD", "k" + ref) == first


@pytest.mark.parametrize(("amount", "currency"), [(10_001, "TWD"), (10_000, "USD")])
async def test_a_capture_of_something_else_is_refused(
    bank: Bank, amount: int, currency: str
) -> None:
    """More than was authorised, or another currency, is refused and moves nothing."""
    ref = (await authorised(bank, 10_000)).ref
    with pytest.raises(ProviderRefused) as refused:
        await bank.provider.capture(ref, amount, currency, "k")
    assert refused.value.code == "amount_differs"
    assert moneys(await bank.provider.look(ref)) == ("authorised", 10_000, 0, 0)


async def test_nothing_is_captured_before_it_is_authorised(bank: Bank) -> None:
    """An open payment cannot be captured."""
    ref = (await bank.provider.begin(asked())).seen.ref
    with pytest.raises(ProviderRefused) as refused:
        await bank.provider.capture(ref, 29_900, "TWD", "k")
    assert refused.value.code == "payment_open"


@pytest.mark.parametrize("paid", [False, True])
async def test_voided(bank: Bank, paid: bool) -> None:
    """A void ends an open and an authorised payment, as often as it is asked for."""
    ref = (await bank.provider.begin(asked())).seen.ref
    if paid:
        await bank.authorise(ref)
    for _ in range(2):
        assert moneys(await bank.provider.void(ref, "v" + ref)) == ("voided", 0, 0, 0)
    assert moneys(await bank.provider.look(ref)) == ("voided", 0, 0, 0)


async def test_what_is_voided_cannot_be_captured(bank: Bank) -> None:
    """Nothing revives a voided payment."""
    ref = (await authorised(bank)).ref
    await bank.provider.void(ref, "v")
    with pytest.raises(ProviderRefused) as refused:
        await bank.provider.capture(ref, 29_900, "TWD", "k")
    assert refused.value.code == "payment_voided"


async def test_what_is_captured_cannot_be_voided(bank: Bank) -> None:
    """Captured money goes back by refunds alone."""
    ref = (await captured(bank)).ref
    with pytest.raises(ProviderRefused) as refused:
        await bank.provider.void(ref, "v")
    assert refused.value.code == "payment_captured"


async def test_refunded_in_parts(bank: Bank) -> None:
    """Each refund is counted in what comes back, and stands in the list under its key."""
    ref = (await captured(bank, 10_000)).ref
    first = await bank.provider.refund(ref, 3_000, "TWD", ref + ".1")
    second = await bank.provider.refund(ref, 7_000, "TWD", ref + ".2")
    assert moneys(first) == ("captured", 0, 10_000, 3_000)
    assert moneys(second) == ("captured", 0, 10_000, 10_000)
    seen = await bank.provider.look(ref)
    assert moneys(seen) == ("captured", 0, 10_000, 10_000)
    assert {(r.key, r.amount_minor, r.state) for r in seen.refunds} == {
        (ref + ".1", 3_000, "done"),
        (ref + ".2", 7_000, "done"),
    }


async def test_a_refund_repeated_is_one(bank: Bank) -> None:
    """The same refund again, under its key, gives nothing more back."""
    ref = (await captured(bank, 10_000)).ref
    for _ in range(3):
        seen = await bank.provider.refund(ref, 4_000, "TWD", ref + ".1")
        assert moneys(seen) == ("captured", 0, 10_000, 4_000)
    assert len((await bank.provider.look(ref)).refunds) == 1


async def test_never_more_is_refunded_than_was_captured(bank: Bank) -> None:
    """Refunds together cannot exceed the capture."""
    ref = (await captured(bank, 10_000)).ref
    await bank.provider.refund(ref, 6_000, "TWD", ref + ".1")
    with pytest.raises(ProviderRefused) as refused:
        await bank.provider.refund(ref, 4_001, "TWD", ref + ".2")
    assert refused.value.code == "amount_differs"
    assert moneys(await bank.provider.look(ref)) == ("captured", 0, 10_000, 6_000)


async def test_a_refund_after_a_part_capture(bank: Bank) -> None:
    """What was let go at the capture cannot be refunded, and is not counted as refunded."""
    ref = (await authorised(bank, 10_000)).ref
    await bank.provider.capture(ref, 7_000, "TWD", "k")
    with pytest.raises(ProviderRefused):
        await bank.provider.refund(ref, 7_001, "TWD", ref + ".0")
    seen = await bank.provider.refund(ref, 2_000, "TWD", ref + ".1")
    assert moneys(seen) == ("captured", 0, 7_000, 2_000)
    assert [r.amount_minor for r in seen.refunds] == [2_000]


async def test_a_refund_by_hand_is_seen(bank: Bank) -> None:
    """A refund that somebody made at the provider's own desk has no key of ours."""
    ref = (await captured(bank, 10_000)).ref
    await bank.refund_by_hand(ref, 2_500)
    seen = await bank.provider.look(ref)
    assert moneys(seen) == ("captured", 0, 10_000, 2_500)
    assert [(r.key, r.amount_minor) for r in seen.refunds] == [(None, 2_500)]


async def test_a_payment_that_is_not_there(bank: Bank) -> None:
    """To look at what nobody began is refused, not answered with something."""
    with pytest.raises(ProviderRefused):
        await bank.provider.look("pi_nobody")


async def test_all_are_listed(bank: Bank) -> None:
    """The list has every payment begun since then, over more than one page, as it stands."""
    ours = [(await bank.provider.begin(asked())).seen for _ in range(105)]
    paid = await captured(bank, 10_000)
    await bank.provider.refund(paid.ref, 1_000, "TWD", paid.ref + ".1")
    at_ms = paid.at_ms
    assert at_ms is not None
    listed = {seen.ref: seen for seen in await every(bank, at_ms - 60_000)}
    assert {seen.ref for seen in ours} < set(listed)
    assert listed[paid.ref] == await bank.provider.look(paid.ref)
    assert listed[ours[0].ref].payment == ours[0].payment
    assert await every(bank, at_ms + 3_600_000) == []


async def test_a_webhook_of_localstripe(stripe_at: str) -> None:
    """What localstripe signs and sends is genuine, and says what was captured."""
    secret = f"whsec_{secrets.token_hex(16)}"
    bank = AtLocalstripe(stripe_at, (secret,))
    async with told_server() as here:
        async with httpx.AsyncClient() as http:
            config = {"url": here.url, "secret": secret, "events": ["payment_intent.succeeded"]}
            made = await http.post(f"{stripe_at}/_config/webhooks/w1", json=config)
            assert made.status_code == 200
        here.will(*[Told()] * 100)  # those of earlier tests come too, a second late
        paid = await captured(bank, 4_200)

        def notices() -> list[Notice]:
            heard = (bank.provider.hear(r.headers, r.body, time.time()) for r in here.requests)
            return [notice for notice in heard if notice.ref == paid.ref]

        await until(notices)
        notice = notices()[0]
    await bank.close()
    assert notice.kind == "payment_intent.succeeded"
    assert notice.seen is not None
    assert (notice.seen.payment, moneys(notice.seen)) == (
        paid.payment, ("captured", 0, 4_200, 0),
    )  # fmt: skip
