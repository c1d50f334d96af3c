"""What `stripe` sends, and what it makes of answers that are errors, late, lost or odd."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orders.payments.port import ProviderAway, ProviderRefused, Refunded
from orders.payments.stripe import API_VERSION, Stripe
from tests.contract.payments_rig import asked
from tests.integration.told_server import Server, Told, error, fields, told_server

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<:DeprecationWarning")

KEY = "sk_test_only_of_these_tests"
TIMEOUT_S = 0.3  # of what is to time out; all else answers at once


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server that answers as it is told."""
    async with told_server() as found:
        yield found


@pytest.fixture
async def stripe(server: Server) -> AsyncIterator[Stripe]:
    """The provider, which takes the server for Stripe itself."""
    found = Stripe(KEY, (), api_base=server.url, timeout_s=30, stand_in=False)
    yield found
    await found.close()


def intent(status: str, amount: int = 29_900, currency: str = "twd", **more: Any) -> Told:
    """A PaymentIntent as Stripe tells it, with its charge when there must be one."""
    received = more.pop("received", amount if status == "succeeded" else 0)
    charge = {
        "id": "ch_1", "object": "charge", "amount": amount, "currency": currency,
        "created": 1_790_000_001, "captured": status == "succeeded", "status": "succeeded",
        "amount_captured": received, "amount_refunded": more.pop("refunded", 0),
        "refunded": False, "disputed": False, "payment_intent": "pi_1", "metadata": {},
    }  # fmt: skip
    return fields(**{
        "id": "pi_1", "object": "payment_intent", "amount": amount, "currency": currency,
        "status": status, "created": 1_790_000_000, "amount_received": received,
        "amount_capturable": amount if status == "requires_capture" else 0,
        "client_secret": "pi_1_secret_of_the_buyer",
        "latest_charge": None if status == "requires_payment_method" else charge,
        "metadata": {"livecart_payment": "pay_1"},
    } | more)  # fmt: skip


def refund(number: int, amount: int, key: str | None = None, **more: Any) -> dict[str, Any]:
    """A refund as Stripe tells it."""
    return {
        "id": f"re_{number}", "object": "refund", "amount": amount, "currency": "twd",
        "status": "succeeded", "payment_intent": "pi_1", "created": 1_790_000_100 + number,
        "metadata": {} if key is None else {"livecart_key": key},
    } | more  # fmt: skip


def page(*items: dict[str, Any], more: bool = False) -> Told:
    """A page of a list, newest first."""
    return fields(object="list", url="/v1/refunds", has_more=more, data=list(items))


async def test_what_a_begin_sends(server: Server, stripe: Stripe) -> None:
    """A begin is captured by hand, carries our id as key and metadata, and a pinned version."""
    server.will(intent("requires_payment_method"))
    begun = await stripe.begin(asked(payment="pay_1"))
    sent = server.requests[0]
    assert (sent.method, sent.path) == ("POST", "/v1/payment_intents")
    assert sent.headers["idempotency-key"] == "pay_1"
    assert sent.headers["stripe-version"] == API_VERSION
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.form == {
        "amount": "29900",
        "currency": "twd",
        "capture_method": "manual",
        "description": "two cups",
        "metadata[livecart_payment]": "pay_1",
        "metadata[livecart_shop]": "shop-1",
        "metadata[livecart_orders]": "or_1,or_2",
        "expand[0]": "latest_charge",
    }
    assert begun.client == {"client_secret": "pi_1_secret_of_the_buyer"}
    assert begun.seen.payment == "pay_1"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (
            error(402, type="card_error", code="card_declined", decline_code="lost_card"),
            "lost_card",
        ),
        (error(402, type="card_error", code="expired_card"), "expired_card"),
        (error(400, type="invalid_request_error", code="amount_too_small"), "amount_too_small"),
        (error(400, type="invalid_request_error"), "invalid_request_error"),
        (error(404, type="invalid_request_error", code="resource_missing"), "resource_missing"),
        (error(400, type="idempotency_error", message="other parameters"), "idempotency_error"),
    ],
)
async def test_a_final_no(server: Server, stripe: Stripe, answer: Told, code: str) -> None:
    """What no repetition changes is refused, with Stripe's word for it, and asked once."""
    server.will(answer)
    with pytest.raises(ProviderRefused) as refused:
        await stripe.begin(asked())
    assert refused.value.code == code
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        error(500, type="api_error", message="pi_1_secret_of_the_buyer"),
        error(503, type="api_error"),
        error(429, type="invalid_request_error", code="rate_limit"),
        error(429, type="invalid_request_error", code="lock_timeout"),
        error(400, type="invalid_request_error", code="rate_limit"),
        error(409, type="idempotency_error", code="idempotency_key_in_use"),
        Told(status=502, body=b"<html>pi_1_secret_of_the_buyer</html>"),
        Told(status=404, body=b"<html>not Stripe at all</html>"),
        Told(body=b'{"id": "pi_1", "client_secret": "pi_1_secret_of_the_buyer", '),
        Told(body=b'{"id": "pi_1", "object": "payment_intent", "amount": "many"}'),
        Told(does="close"),
    ],
    ids=str,
)
async def test_no_answer(server: Server, stripe: Stripe, answer: Told) -> None:
    """What leaves the outcome open is `away`; it is asked once, and its text has no secret."""
    server.will(answer)
    with pytest.raises(ProviderAway) as away:
        await stripe.begin(asked())
    assert len(server.requests) == 1
    assert "secret" not in str(away.value)
    assert away.value.__cause__ is None
    assert away.value.__suppress_context__


@pytest.mark.parametrize("does", ["hang", "trickle"])
async def test_an_answer_that_never_ends(server: Server, does: str) -> None:
    """A server that is silent, or sends a byte now and then, is left after the time there is."""
    server.will(Told(does=does))
    stripe = Stripe(KEY, (), api_base=server.url, timeout_s=TIMEOUT_S)
    with pytest.raises(ProviderAway):
        await stripe.begin(asked())
    await stripe.close()


async def test_nobody_there() -> None:
    """A connection that is refused is no answer."""
    async with told_server() as gone:
        pass
    stripe = Stripe(KEY, (), api_base=gone.url)
    with pytest.raises(ProviderAway):
        await stripe.look("pi_1")
    await stripe.close()


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_not_taken(
    server: Server, stripe: Stripe, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong key says nothing of the payment: no order is lost by it, and the log complains."""
    server.will(error(status, type="invalid_request_error", message=f"Invalid API Key: {KEY}"))
    with caplog.at_level(logging.DEBUG), pytest.raises(ProviderAway):
        await stripe.capture("pi_1", 29_900, "TWD", "k")
    assert "does not take the key" in caplog.text
    assert KEY not in caplog.text


async def test_no_secret_is_logged(
    server: Server, stripe: Stripe, caplog: pytest.LogCaptureFixture
) -> None:
    """Even at `debug` neither the key nor what the buyer pays with gets into the log."""
    server.will(intent("requires_payment_method"))
    with caplog.at_level(logging.DEBUG):
        begun = await stripe.begin(asked())
    assert "pi_1_secret_of_the_buyer" not in caplog.text + repr(begun) + repr(stripe)
    assert KEY not in caplog.text + repr(stripe)


@pytest.mark.parametrize(
    "answer",
    [
        intent("requires_payment_method", amount=29_901),
        intent("requires_payment_method", currency="usd"),
    ],
)
async def test_begun_otherwise(server: Server, stripe: Stripe, answer: Told) -> None:
    """A payment that is not of the amount and currency asked for is not taken."""
    server.will(answer)
    with pytest.raises(ProviderRefused) as refused:
        await stripe.begin(asked())
    assert refused.value.code == "amount_differs"


async def test_what_a_capture_sends(server: Server, stripe: Stripe) -> None:
    """A capture carries its own key, and the amount in Stripe's unit."""
    server.will(intent("requires_capture", 500_000, "ugx"), intent("succeeded", 500_000, "ugx"))
    seen = await stripe.capture("pi_1", 5_000, "UGX", "k1")
    sent = server.requests[1]
    assert (sent.method, sent.path) == ("POST", "/v1/payment_intents/pi_1/capture")
    assert sent.headers["idempotency-key"] == "k1"
    assert sent.form == {"amount_to_capture": "500000", "expand[0]": "latest_charge"}
    assert (seen.captured_minor, seen.amount_minor) == (5_000, 5_000)


async def test_a_capture_whose_answer_was_lost(server: Server, stripe: Stripe) -> None:
    """After a lost answer the repetition finds it done, and captures nothing again."""
    server.will(intent("requires_capture"), Told(does="close"), intent("succeeded"))
    with pytest.raises(ProviderAway):
        await stripe.capture("pi_1", 29_900, "TWD", "k1")
    seen = await stripe.capture("pi_1", 29_900, "TWD", "k1")
    assert seen.captured_minor == 29_900
    assert [r.method for r in server.requests] == ["GET", "POST", "GET"]


async def test_a_failed_answer_that_is_answered_again(server: Server, stripe: Stripe) -> None:
    """Stripe repeats a key's 500 for a day; what was done all the same is found by looking."""
    failed = error(500, type="api_error")
    server.will(intent("requires_capture"), failed, intent("succeeded"))
    with pytest.raises(ProviderAway):
        await stripe.capture("pi_1", 29_900, "TWD", "k1")
    assert (await stripe.capture("pi_1", 29_900, "TWD", "k1")).state == "captured"


@pytest.mark.parametrize(("verb", "status"), [("capture", "succeeded"), ("void", "canceled")])
async def test_somebody_was_faster(server: Server, stripe: Stripe, verb: str, status: str) -> None:
    """Refused, because the same was done meanwhile, is done."""
    no = error(400, type="invalid_request_error", code="payment_intent_unexpected_state")
    server.will(intent("requires_capture"), no, intent(status))
    if verb == "capture":
        assert (await stripe.capture("pi_1", 29_900, "TWD", "k")).state == "captured"
    else:
        assert (await stripe.void("pi_1", "k")).state == "voided"


async def test_a_capture_that_is_declined(server: Server, stripe: Stripe) -> None:
    """A bank that says no at the capture is heard with its word, after one more look."""
    no = error(402, type="card_error", code="card_declined", decline_code="expired_card")
    server.will(intent("requires_capture"), no, intent("requires_capture"))
    with pytest.raises(ProviderRefused) as refused:
        await stripe.capture("pi_1", 29_900, "TWD", "k")
    assert refused.value.code == "expired_card"


async def test_captured_otherwise(server: Server, stripe: Stripe) -> None:
    """A payment of which another amount was captured is not what was asked for."""
    server.will(intent("succeeded", received=100))
    with pytest.raises(ProviderRefused) as refused:
        await stripe.capture("pi_1", 29_900, "TWD", "k")
    assert refused.value.code == "amount_differs"


async def test_what_a_refund_sends(server: Server, stripe: Stripe) -> None:
    """A refund carries its key twice: for Stripe's memory, and to be found by us for ever."""
    server.will(intent("succeeded"), page(), fields(**refund(1, 900, "k1")))
    seen = await stripe.refund("pi_1", 900, "TWD", "k1")
    sent = server.requests[2]
    assert (sent.method, sent.path) == ("POST", "/v1/refunds")
    assert sent.headers["idempotency-key"] == "k1"
    assert sent.form == {
        "payment_intent": "pi_1", "amount": "900", "metadata[livecart_key]": "k1",
    }  # fmt: skip
    assert seen.refunded_minor == 900
    assert seen.refunds == (Refunded(ref="re_1", key="k1", amount_minor=900, state="done"),)


async def test_a_refund_is_found_on_the_second_page(server: Server, stripe: Stripe) -> None:
    """What was refunded under a key long ago is not refunded again, however long the list is."""
    server.will(
        intent("succeeded"),
        page(refund(3, 300, "k3"), refund(2, 200, "k2"), more=True),
        page(refund(1, 900, "k1")),
    )
    seen = await stripe.refund("pi_1", 900, "TWD", "k1")
    assert [r.method for r in server.requests] == ["GET", "GET", "GET"]
    assert server.requests[2].query["starting_after"] == "re_2"
    assert seen.refunded_minor == 1_400
    assert [r.key for r in seen.refunds] == ["k1", "k2", "k3"]


async def test_a_refund_that_failed_does_not_count(server: Server, stripe: Stripe) -> None:
    """Of a failed and a pending refund only the pending one is money on its way."""
    server.will(
        intent("succeeded"),
        page(refund(2, 200, "k2", status="pending"), refund(1, 900, "k1", status="failed")),
    )
    seen = await stripe.look("pi_1")
    assert seen.refunded_minor == 200
    assert [r.state for r in seen.refunds] == ["failed", "pending"]


@pytest.mark.parametrize("known", [False, True])
async def test_a_refund_that_failed_is_refused(server: Server, stripe: Stripe, known: bool) -> None:
    """A refund that failed, at once or since, gave nothing back: its key is answered with a no."""
    failed = refund(1, 900, "k1", status="failed")
    server.will(intent("succeeded"), page(failed) if known else page(), fields(**failed))
    with pytest.raises(ProviderRefused) as refused:
        await stripe.refund("pi_1", 900, "TWD", "k1")
    assert refused.value.code == "refund_failed"
    assert len(server.requests) == (2 if known else 3)


async def test_the_rest_of_a_part_capture_is_no_refund(server: Server, stripe: Stripe) -> None:
    """Stripe lets go of the rest by a refund of its own, which counts as nothing here."""
    server.will(
        intent("succeeded", 20_675, received=20_300, refunded=875),
        page(refund(2, 500, "k2"), refund(1, 375)),
    )
    seen = await stripe.look("pi_1")
    assert (seen.amount_minor, seen.captured_minor, seen.refunded_minor) == (20_675, 20_300, 500)
    assert [r.ref for r in seen.refunds] == ["re_2"]


async def test_the_list_by_date(server: Server, stripe: Stripe) -> None:
    """The list asks for what was begun since then, and for the refunds of what has any."""
    one = intent("succeeded", refunded=900).body
    listed = Told(body=b'{"object": "list", "has_more": false, "data": [%s]}' % one)
    server.will(listed, page(refund(1, 900, "k1")))
    seens = [seen async for seen in stripe.listed(1_790_000_000_000)]
    assert server.requests[0].query == {
        "limit": "100", "created[gte]": "1790000000", "expand[0]": "data.latest_charge",
    }  # fmt: skip
    assert [(seen.ref, seen.refunded_minor, len(seen.refunds)) for seen in seens] == [
        ("pi_1", 900, 1)
    ]
    assert seens[0].at_ms == 1_790_000_000_000
