"""The provider `stripe`: PaymentIntents, authorised by the buyer and captured by us.

Owns the calls to Stripe and what their errors mean; knows no order, no SQL and no HTTP of ours.
Made by `livecart`, called by `cashier`. Needs the extra `livecart[stripe]`.

Every call carries an idempotency key, but Stripe forgets keys (after 24 hours at the earliest) and
answers a call that failed in its midst with that failure again. So each call that moves money looks
first: what is done already, under whatever key, is answered and not asked for again. The library's
own retries are off: the outbox asks again, with the same key.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from orders.payments import stripe_words as words
from orders.payments.port import (
    Asked,
    Begun,
    NotGenuine,
    Notice,
    PaymentState,
    ProviderAway,
    ProviderRefused,
    Seen,
)
from orders.payments.stripe_money import from_stripe, to_stripe

if TYPE_CHECKING:
    from stripe import PaymentIntent
    from stripe.params import PaymentIntentCreateParams, PaymentIntentListParams

API_VERSION = "2026-10-28.endive"  # what the shapes in `stripe_words` were read from
API_BASE = "https://api.stripe.com"
TIMEOUT_S = 15.0  # of one request; a capture at a bank takes seconds
TOLERANCE_S = 300.0  # of a notice's age: what the library's own default is
PAGE = 100  # Stripe's most
METADATA_CHARS_MAX = 500  # of one value
ABOUT_CHARS_MAX = 500

T = TypeVar("T")
log = logging.getLogger("orders.payments.stripe")

_TIME = re.compile(r"t=([0-9]{1,12})")


class Stripe:
    """Moves money through Stripe; one for a process, closed with `close`."""

    def __init__(
        self,
        key: str,
        signing_secrets: Sequence[str],
        *,
        api_base: str = API_BASE,
        timeout_s: float = TIMEOUT_S,
        tolerance_s: float = TOLERANCE_S,
        stand_in: bool | None = None,
    ) -> None:
        """Make a client; raise `ImportError` where the library is missing.

        `key`: the secret key (or a restricted one that may write PaymentIntents and refunds).
        `signing_secrets`: of the webhook endpoints, more than one while they are rolled.
        `stand_in`: what answers is not Stripe, and refuses what it does not know, such as a
        description or a list by date; None: whatever is not at Stripe's own address is that.
        """
        try:
            import stripe
        except ImportError as error:
            raise ImportError("payments by Stripe need the extra: livecart[stripe]") from error
        # At `debug` the library logs bodies, and client secrets are in them.
        logging.getLogger("stripe").setLevel(logging.WARNING)
        self._stripe = stripe
        self._http = stripe.HTTPXClient(timeout=timeout_s)
        self._client = stripe.StripeClient(
            key,
            stripe_version=API_VERSION,
            base_addresses={"api": api_base.rstrip("/")},
            max_network_retries=0,
            http_client=self._http,
        )
        self._signing_secrets = tuple(signing_secrets)
        self._timeout_s = timeout_s
        self._tolerance_s = tolerance_s
        elsewhere = urlsplit(api_base).hostname != urlsplit(API_BASE).hostname
        self._stand_in = elsewhere if stand_in is None else stand_in

    def __repr__(self) -> str:
        return "Stripe(…)"

    @property
    def name(self) -> str:
        """The word that stands in `payments.provider`."""
        return "stripe"

    async def begin(self, asked: Asked) -> Begun:
        """Make a PaymentIntent that is captured by hand; `client` has its `client_secret`."""
        if asked.ref is None:
            intent = await self._made(asked)
        else:
            intent = await self._intent(asked.ref)
        seen = words.seen_of_intent(intent)
        if (seen.amount_minor, seen.currency) != (asked.amount_minor, asked.currency):
            raise ProviderRefused("amount_differs", f"{intent.id} is not what was asked for")
        return Begun(seen=seen, client={"client_secret": intent.client_secret or ""})

    async def _made(self, asked: Asked) -> words.Intent:
        params: PaymentIntentCreateParams = {
            "amount": to_stripe(asked.amount_minor, asked.currency),
            "currency": asked.currency.lower(),
            "capture_method": "manual",
            "metadata": _metadata(asked),
            "expand": ["latest_charge"],
        }
        if not self._stand_in:
            params["description"] = asked.about[:ABOUT_CHARS_MAX]
        made = await self._asked(
            self._client.v1.payment_intents.create_async(params, {"idempotency_key": asked.payment})
        )
        return _read(words.intent_of, made.to_dict())

    async def capture(self, ref: str, amount_minor: int, currency: str, key: str) -> Seen:
        """Capture all or a part, once; the rest is let go by Stripe."""
        intent = await self._intent(ref)
        _same_currency(intent, currency)
        amount = to_stripe(amount_minor, currency)
        if intent.state == "authorised":
            if amount > intent.capturable:
                raise ProviderRefused("amount_differs", f"{ref} has less to capture")
            intent = await self._ended(
                "captured",
                ref,
                self._client.v1.payment_intents.capture_async(
                    ref,
                    {"amount_to_capture": amount, "expand": ["latest_charge"]},
                    {"idempotency_key": key},
                ),
            )
        elif intent.state != "captured":
            raise ProviderRefused(f"payment_{intent.state}", f"{ref} is {intent.status}")
        if intent.captured != amount:
            raise ProviderRefused("amount_differs", f"of {ref} something else was captured")
        return words.seen_of_intent(intent)

    async def void(self, ref: str, key: str) -> Seen:
        """Cancel a PaymentIntent that was not captured."""
        intent = await self._intent(ref)
        if intent.state == "captured":
            raise ProviderRefused("payment_captured", f"{ref} was captured")
        if intent.state != "voided":
            intent = await self._ended(
                "voided",
                ref,
                self._client.v1.payment_intents.cancel_async(
                    ref, {"expand": ["latest_charge"]}, {"idempotency_key": key}
                ),
            )
        return words.seen_of_intent(intent)

    async def refund(self, ref: str, amount_minor: int, currency: str, key: str) -> Seen:
        """Refund a part or all, once for `key`, which is kept in the refund's metadata."""
        intent = await self._intent(ref)
        _same_currency(intent, currency)
        refunds = await self._refunds(intent)
        done = next((refund for refund in refunds if refund.key == key), None)
        if done is None:
            before = words.seen_of_intent(intent, refunds)
            if amount_minor > before.captured_minor - before.refunded_minor:
                raise ProviderRefused("amount_differs", f"{ref} has less to refund")
            made = await self._asked(
                self._client.v1.refunds.create_async(
                    {
                        "payment_intent": ref,
                        "amount": to_stripe(amount_minor, currency),
                        "metadata": {words.KEY: key},
                    },
                    {"idempotency_key": key},
                )
            )
            done = _read(words.refund_of, made.to_dict())
            if all(refund.id != done.id for refund in refunds):
                refunds = [done, *refunds]
        if from_stripe(done.amount, done.currency.upper()) != amount_minor:
            raise ProviderRefused("amount_differs", f"of {ref} something else was refunded")
        if done.refunded.state == "failed":  # the money is with the shop again
            raise ProviderRefused("refund_failed", f"{done.id} of {ref} failed")
        return words.seen_of_intent(intent, refunds)

    async def look(self, ref: str) -> Seen:
        """Say how it stands, with all its refunds."""
        intent = await self._intent(ref)
        return words.seen_of_intent(intent, await self._refunds(intent))

    async def listed(self, since_ms: int) -> AsyncIterator[Seen]:
        """Go through the account's PaymentIntents, newest first, ours and others'."""
        params: PaymentIntentListParams = {"limit": PAGE, "expand": ["data.latest_charge"]}
        if not self._stand_in:
            params["created"] = {"gte": since_ms // 1000}
        async for fields in self._pages(self._client.v1.payment_intents.list_async(params)):
            intent = _read(words.intent_of, fields)
            if intent.created >= since_ms // 1000:
                charge = intent.charge
                if charge is None or charge.amount_refunded == 0:
                    yield words.seen_of_intent(intent, ())
                else:
                    yield words.seen_of_intent(intent, await self._refunds(intent))

    def hear(self, headers: Mapping[str, str], body: bytes, now_s: float) -> Notice:
        """Check Stripe's signature with each of our secrets, then read the event."""
        signature = headers.get("stripe-signature", "")
        if not any(self._signed(body, signature, secret) for secret in self._signing_secrets):
            raise NotGenuine("the signature is not Stripe's")
        if abs(now_s - _signed_at_s(signature)) > self._tolerance_s:
            raise NotGenuine("the notice is too old, or a clock is wrong")
        event = msgspec.json.decode(body, type=words.Event)
        seen, ref = words.read(event)
        return Notice(event=event.id, kind=event.type, seen=seen, ref=ref)

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]

    # --- asking ----------------------------------------------------------------------------------

    async def _intent(self, ref: str) -> words.Intent:
        found = await self._asked(
            self._client.v1.payment_intents.retrieve_async(ref, {"expand": ["latest_charge"]})
        )
        return _read(words.intent_of, found.to_dict())

    async def _ended(
        self, state: PaymentState, ref: str, request: Awaitable[PaymentIntent]
    ) -> words.Intent:
        """Make a call that ends in `state`; refused because somebody was faster is done too."""
        try:
            made = await self._asked(request)
        except ProviderRefused:
            intent = await self._intent(ref)
            if intent.state != state:
                raise
            return intent
        return _read(words.intent_of, made.to_dict())

    async def _refunds(self, intent: words.Intent) -> list[words.Refund]:
        """Return all refunds of a payment, newest first."""
        if intent.latest_charge is None:
            return []
        listing = self._client.v1.refunds.list_async({"payment_intent": intent.id, "limit": PAGE})
        return [_read(words.refund_of, fields) async for fields in self._pages(listing)]

    async def _pages(self, listing: Awaitable[Any]) -> AsyncIterator[dict[str, Any]]:
        """Go through a list, page after page; each request has its own time."""
        page = await self._asked(listing)
        while True:
            for item in page.data:
                yield item.to_dict()
            if not page.has_more:
                return
            page = await self._asked(page.next_page_async())

    async def _asked(self, request: Awaitable[T]) -> T:
        async with self._judging():
            return await request

    @asynccontextmanager
    async def _judging(self) -> AsyncIterator[None]:
        """Turn the library's errors into the port's.

        Without the cause: its text may quote an answer, and with that a client secret.
        """
        errors = self._stripe
        try:
            async with asyncio.timeout(self._timeout_s):  # of all: a trickle is no answer either
                yield
        except TimeoutError:
            raise ProviderAway(f"no answer within {self._timeout_s:g} s") from None
        except (errors.CardError, errors.InvalidRequestError, errors.IdempotencyError) as error:
            raise ProviderRefused(_code(error), error.user_message or "") from None
        except (errors.AuthenticationError, errors.PermissionError) as error:
            # Nothing about the payment: the key is wrong or may not do this. An operator mends it.
            log.error("Stripe does not take the key: %s", _short(error))
            raise ProviderAway(_short(error)) from None
        except errors.StripeError as error:  # connection, 429, 409, 5xx, and what nobody foresaw
            raise ProviderAway(_short(error)) from None

    def _signed(self, body: bytes, signature: str, secret: str) -> bool:
        """Ask the library; the age is judged by the caller's clock, not by its own."""
        try:
            self._stripe.WebhookSignature.verify_header(body, signature, secret, tolerance=None)
        except (self._stripe.SignatureVerificationError, UnicodeDecodeError):
            return False
        return True


def _signed_at_s(signature: str) -> int:
    """Return the time that was signed; a header with two could show us another than was."""
    times = [item for item in signature.split(",") if item.startswith("t=")]
    at = _TIME.fullmatch(times[0]) if len(times) == 1 else None
    if at is None:
        raise NotGenuine("the signature has no time of its own")
    return int(at[1])


def _metadata(asked: Asked) -> dict[str, str]:
    found = {words.OURS: asked.payment, "livecart_shop": asked.shop}
    orders = ",".join(asked.orders)
    if len(orders) <= METADATA_CHARS_MAX:
        found["livecart_orders"] = orders
    return found


def _same_currency(intent: words.Intent, currency: str) -> None:
    if intent.currency.upper() != currency:
        raise ProviderRefused("amount_differs", f"{intent.id} is not in {currency}")


def _read(read: Callable[[dict[str, Any]], T], fields: dict[str, Any]) -> T:
    """Read an answer; one in a shape that Stripe never had leaves the outcome open."""
    try:
        return read(fields)
    except ValueError:
        raise ProviderAway("the answer cannot be read") from None


def _code(error: Any) -> str:
    details = error.error
    declined = None if details is None else getattr(details, "decline_code", None)
    if isinstance(declined, str):
        return declined
    if isinstance(error.code, str):
        return error.code
    kind = None if details is None else getattr(details, "type", None)
    return kind if isinstance(kind, str) else "invalid_request"


def _short(error: Any) -> str:
    return f"{type(error).__name__} (HTTP status {error.http_status}, request {error.request_id})"
