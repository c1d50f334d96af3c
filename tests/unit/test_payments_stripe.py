"""Stripe's notices and amounts: what is genuine, what an event says, and how money is counted."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stripe import WebhookSignature

from orders.payments.port import NotGenuine, Notice, ProviderRefused
from orders.payments.stripe import Stripe
from orders.payments.stripe_money import HUNDREDFOLD, HUNDREDTH, TENS, from_stripe, to_stripe

OLD, NEW = "whsec_that_goes", "whsec_that_comes"
NOW_S = 1_790_000_000

INTENT = {
    "id": "pi_1", "object": "payment_intent", "amount": 29_900, "currency": "twd",
    "amount_received": 0, "amount_capturable": 29_900, "status": "requires_capture",
    "created": NOW_S - 60, "client_secret": "pi_1_secret_x", "latest_charge": "ch_1",
    "metadata": {"livecart_payment": "pay_1"},
}  # fmt: skip
CHARGE = {
    "id": "ch_1", "object": "charge", "amount": 29_900, "amount_captured": 29_900,
    "amount_refunded": 900, "currency": "twd", "captured": True, "status": "succeeded",
    "refunded": False, "disputed": False, "payment_intent": "pi_1", "created": NOW_S - 60,
    "metadata": {"livecart_payment": "pay_1"},
}  # fmt: skip


@pytest.fixture(scope="module")
def stripe() -> Stripe:
    """A provider that knows two signing secrets, as while they are rolled; it asks nobody."""
    return Stripe("sk_test_only_of_these_tests", (NEW, OLD))


def event(kind: str, thing: Mapping[str, Any]) -> bytes:
    """An event as Stripe sends it."""
    return json.dumps(
        {"id": "evt_1", "object": "event", "type": kind, "data": {"object": thing}}
    ).encode()


def signed(body: bytes, secret: str = NEW, at_s: int = NOW_S) -> dict[str, str]:
    """The header that Stripe's own code makes for it."""
    header = WebhookSignature.generate_signature_header(body.decode(), secret, at_s)
    return {"stripe-signature": header}


def mac(body: bytes, secret: str, at_s: int) -> str:
    """A v1 signature by the documented scheme, without the library."""
    return hmac.new(secret.encode(), b"%d." % at_s + body, hashlib.sha256).hexdigest()


BODY = event("payment_intent.amount_capturable_updated", INTENT)


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_genuine(stripe: Stripe, secret: str) -> None:
    """What is signed with either secret is taken, and says how the payment stands."""
    notice = stripe.hear(signed(BODY, secret), BODY, NOW_S)
    assert (notice.event, notice.kind) == ("evt_1", "payment_intent.amount_capturable_updated")
    assert notice.ref == "pi_1"
    assert notice.seen is not None
    assert (notice.seen.payment, notice.seen.state) == ("pay_1", "authorised")
    assert (notice.seen.amount_minor, notice.seen.capturable_minor) == (29_900, 29_900)
    assert (notice.seen.captured_minor, notice.seen.currency) == (0, "TWD")


def test_genuine_by_the_documented_scheme(stripe: Stripe) -> None:
    """A header with a signature of each secret, and one of another scheme, is taken."""
    for good in (OLD, NEW):
        v1s = [mac(BODY, "whsec_of_another_endpoint", NOW_S), mac(BODY, good, NOW_S)]
        header = f"t={NOW_S},v1={v1s[0]},v1={v1s[1]},v0={'0' * 64}"
        assert stripe.hear({"stripe-signature": header}, BODY, NOW_S).event == "evt_1"


@pytest.mark.parametrize(
    ("headers", "body", "now_s"),
    [
        ({}, BODY, NOW_S),
        ({"stripe-signature": ""}, BODY, NOW_S),
        ({"stripe-signature": "t=,v1="}, BODY, NOW_S),
        ({"stripe-signature": f"v1={mac(BODY, NEW, NOW_S)}"}, BODY, NOW_S),
        ({"stripe-signature": f"t={NOW_S},v0={mac(BODY, NEW, NOW_S)}"}, BODY, NOW_S),
        (signed(BODY, "whsec_of_somebody"), BODY, NOW_S),
        (signed(BODY), BODY + b" ", NOW_S),
        (signed(BODY), BODY.replace(b"29900", b"29901"), NOW_S),
        (signed(BODY), b"\xff" + BODY, NOW_S),
        (signed(BODY), BODY, NOW_S + 301),
        (signed(BODY), BODY, NOW_S - 301),
    ],
    ids=[
        "no header", "empty", "no values", "no time", "another scheme", "another secret",
        "longer body", "changed body", "no text", "too old", "from the future",
    ],
)  # fmt: skip
def test_not_genuine(stripe: Stripe, headers: dict[str, str], body: bytes, now_s: float) -> None:
    """Whatever was not signed by Stripe, for this body, within five minutes, is not read."""
    with pytest.raises(NotGenuine):
        stripe.hear(headers, body, now_s)


@pytest.mark.parametrize("first", ["t={old}", "t={old}=x"])
def test_a_second_time_in_the_header(stripe: Stripe, first: str) -> None:
    """An old notice is not made young by a time that was not signed."""
    old = NOW_S - 86_400
    header = f"{first.format(old=old)},t={NOW_S},v1={mac(BODY, NEW, old)}"
    assert WebhookSignature.verify_header(BODY, header, NEW)  # the library takes the first
    with pytest.raises(NotGenuine):
        stripe.hear({"stripe-signature": header}, BODY, NOW_S)


def test_no_secret_no_notice() -> None:
    """Without a signing secret nothing is genuine, an empty secret least of all."""
    for secrets in ((), ("",)):
        with pytest.raises(NotGenuine):
            Stripe("sk_test_x", secrets).hear(signed(BODY, ""), BODY, NOW_S)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"id": "evt_1"}', event("payment_intent.succeeded", {"id": "pi_1"})],
)
def test_unreadable(stripe: Stripe, body: bytes) -> None:
    """What is signed, but not an event, is a ValueError and nothing else."""
    with pytest.raises(ValueError, match=r".") as error:
        stripe.hear(signed(body), body, NOW_S)
    assert not isinstance(error.value, UnicodeDecodeError)


def heard(stripe: Stripe, kind: str, thing: Mapping[str, Any]) -> Notice:
    """Send an event; return what is heard."""
    body = event(kind, thing)
    return stripe.hear(signed(body), body, NOW_S)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("requires_payment_method", "open"),
        ("requires_confirmation", "open"),
        ("requires_action", "open"),
        ("processing", "open"),
        ("requires_capture", "authorised"),
        ("succeeded", "captured"),
        ("canceled", "voided"),
        ("a_word_of_next_year", "open"),
    ],
)
def test_states(stripe: Stripe, status: str, state: str) -> None:
    """Each status of a PaymentIntent has its word; one that nobody knows yet is no success."""
    seen = heard(stripe, "payment_intent.x", INTENT | {"status": status}).seen
    assert seen is not None
    assert seen.state == state


def test_a_charge_says_how_its_payment_stands(stripe: Stripe) -> None:
    """A refunded charge tells of the payment, since its metadata is the payment's."""
    notice = heard(stripe, "charge.refunded", CHARGE)
    assert notice.ref == "pi_1"
    assert notice.seen is not None
    assert (notice.seen.ref, notice.seen.payment) == ("pi_1", "pay_1")
    assert (notice.seen.state, notice.seen.captured_minor) == ("captured", 29_900)
    assert notice.seen.refunded_minor == 900


def test_an_authorisation_that_was_let_go(stripe: Stripe) -> None:
    """Stripe calls it refunded when an authorisation ends; no money moved, and none came back."""
    gone = {"captured": False, "amount_captured": 0, "amount_refunded": 29_900, "refunded": True}
    seen = heard(stripe, "charge.refunded", CHARGE | gone).seen
    assert seen is not None
    assert (seen.state, seen.captured_minor, seen.refunded_minor) == ("voided", 0, 0)


def test_the_rest_of_a_part_capture(stripe: Stripe) -> None:
    """What was let go at a part capture is counted by Stripe as refunded, and not by us."""
    part = {"amount_captured": 20_000, "amount_refunded": 9_900}
    seen = heard(stripe, "charge.captured", CHARGE | part).seen
    assert seen is not None
    assert (seen.captured_minor, seen.refunded_minor) == (20_000, 0)


@pytest.mark.parametrize(
    ("kind", "thing"),
    [
        ("charge.refund.updated", {"id": "re_1", "amount": 1, "currency": "twd"}),
        ("refund.failed", {"id": "re_1", "amount": 1, "currency": "twd", "status": "failed"}),
        ("charge.dispute.created", {"id": "du_1", "status": "needs_response"}),
        ("charge.dispute.closed", {"id": "du_1", "status": "lost"}),
        ("charge.refunded", CHARGE | {"metadata": {}}),
    ],
)
def test_what_has_to_be_looked_at(stripe: Stripe, kind: str, thing: Mapping[str, Any]) -> None:
    """What does not say how a payment stands says which one it is."""
    notice = heard(stripe, kind, {**thing, "payment_intent": "pi_1"})
    assert (notice.seen, notice.ref, notice.kind) == (None, "pi_1", kind)


@pytest.mark.parametrize("kind", ["customer.created", "payout.paid", "next_year.thing"])
def test_what_concerns_no_payment(stripe: Stripe, kind: str) -> None:
    """Any other event is genuine and means nothing."""
    notice = heard(stripe, kind, {"id": "x_1", "payment_intent": 5})
    assert (notice.event, notice.seen, notice.ref) == ("evt_1", None, None)


def test_a_payment_of_somebody_else(stripe: Stripe) -> None:
    """A payment on the same account that we never began has no id of ours."""
    seen = heard(stripe, "payment_intent.succeeded", INTENT | {"metadata": {}}).seen
    assert seen is not None
    assert seen.payment is None


@pytest.mark.parametrize(
    ("minor", "currency", "amount"),
    [
        (29_900, "TWD", 29_900),  # NT$299.00
        (29_900, "HUF", 29_900),  # 299 Ft
        (1_050, "USD", 1_050),  # $10.50
        (500, "JPY", 500),  # ¥500
        (5, "ISK", 500),  # 5 kr
        (5_000, "UGX", 500_000),  # USh 5,000
        (500_000, "MGA", 5_000),  # Ar 5,000
        (5_120, "KWD", 5_120),  # KD 5.120
    ],
)
def test_amounts(minor: int, currency: str, amount: int) -> None:
    """The examples of Stripe's page on currencies, and back."""
    assert to_stripe(minor, currency) == amount
    assert from_stripe(amount, currency) == minor


@pytest.mark.parametrize(("minor", "currency"), [(5_124, "KWD"), (150, "MGA"), (1, "BHD")])
def test_amounts_that_stripe_does_not_take(minor: int, currency: str) -> None:
    """An amount that Stripe cannot express is refused, and never rounded."""
    with pytest.raises(ProviderRefused) as refused:
        to_stripe(minor, currency)
    assert refused.value.code == "amount_unsupported"


@given(
    st.integers(0, 10**12),
    st.sampled_from(["TWD", "JPY", *sorted(HUNDREDFOLD | HUNDREDTH | TENS)]),
)
def test_there_and_back(minor: int, currency: str) -> None:
    """Whatever can be asked for comes back as the same amount."""
    try:
        amount = to_stripe(minor, currency)
    except ProviderRefused:
        assert minor % (100 if currency in HUNDREDTH else 10)
    else:
        assert from_stripe(amount, currency) == minor
