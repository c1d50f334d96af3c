"""What Stripe's objects say of a payment, in the port's words.

Owns the fields that are read and what they mean; makes no call and checks no signature. The same
shapes are read from answers and from events, of any API version since 2020 (`charges` went,
`latest_charge` came; what is missing counts as not said). Called by `stripe` alone.

Stripe lets go of the rest of a part capture, and of an authorisation that is cancelled, by a refund
of its own: `amount_refunded` counts it, though that money had never moved. Here it is taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from orders.payments.port import PaymentState, Refunded, Seen
from orders.payments.stripe_money import from_stripe

OURS = "livecart_payment"  # the metadata that names our payment
KEY = "livecart_key"  # the metadata of a refund that names the intention behind it

_STATES: dict[str, PaymentState] = {
    "requires_payment_method": "open",  # after a declined card too: another one may follow
    "requires_confirmation": "open",
    "requires_action": "open",
    "processing": "open",
    "requires_capture": "authorised",
    "succeeded": "captured",
    "canceled": "voided",
}
_REFUND_STATES: dict[str, Literal["pending", "done", "failed"]] = {
    "pending": "pending",
    "requires_action": "pending",
    "succeeded": "done",
    "failed": "failed",
    "canceled": "failed",
}


class Refund(msgspec.Struct, kw_only=True):
    """A refund; `payment_intent` is not expanded."""

    id: str
    amount: int
    currency: str
    status: str | None = None
    payment_intent: str | None = None
    created: int = 0
    metadata: dict[str, str] | None = None

    @property
    def key(self) -> str | None:
        """The key under which it was asked for; None: not by us."""
        return (self.metadata or {}).get(KEY)

    @property
    def refunded(self) -> Refunded:
        """It in the port's words."""
        return Refunded(
            ref=self.id,
            key=self.key,
            amount_minor=from_stripe(self.amount, self.currency.upper()),
            state=_REFUND_STATES.get(self.status or "", "pending"),
        )


class _Refunds(msgspec.Struct, kw_only=True):
    data: list[Refund] = []


class Charge(msgspec.Struct, kw_only=True):
    """A charge; `payment_intent` is not expanded."""

    id: str
    amount: int
    currency: str
    created: int
    amount_captured: int | None = None
    amount_refunded: int = 0
    captured: bool = False
    status: str | None = None
    refunded: bool = False
    disputed: bool = False
    payment_intent: str | None = None
    metadata: dict[str, str] | None = None
    refunds: _Refunds | None = None  # API versions before 2022-11-15

    @property
    def moved(self) -> int:
        """How much was captured, in Stripe's units."""
        if not self.captured:
            return 0
        if self.amount_captured is not None:
            return self.amount_captured
        return self.amount - self.let_go  # servers that do not say it

    @property
    def let_go(self) -> int:
        """How much was authorised and given up at the capture."""
        if self.captured and self.amount_captured is not None:
            return self.amount - self.amount_captured
        if not self.captured:
            return self.amount_refunded
        listed = [] if self.refunds is None else self.refunds.data
        return sum(r.amount for r in listed if r.payment_intent is None and r.key is None)

    @property
    def given_back(self) -> int:
        """How much of what was captured was refunded."""
        return max(0, self.amount_refunded - self.let_go)


class Intent(msgspec.Struct, kw_only=True):
    """A PaymentIntent, `latest_charge` expanded or not."""

    id: str
    amount: int
    currency: str
    status: str
    created: int
    amount_received: int | None = None
    amount_capturable: int | None = None
    client_secret: str | None = None
    latest_charge: Charge | str | None = None
    metadata: dict[str, str] | None = None

    def __repr__(self) -> str:
        return f"Intent({self.id})"  # the client secret must not get into a log

    @property
    def charge(self) -> Charge | None:
        """The charge, where it is expanded."""
        return self.latest_charge if isinstance(self.latest_charge, Charge) else None

    @property
    def captured(self) -> int:
        """How much moved, in Stripe's units."""
        if self.amount_received is not None:
            return self.amount_received
        return 0 if self.charge is None else self.charge.moved

    @property
    def capturable(self) -> int:
        """How much is set aside, in Stripe's units."""
        if self.amount_capturable is not None:
            return self.amount_capturable
        return self.amount if self.status == "requires_capture" else 0

    @property
    def state(self) -> PaymentState:
        """How it stands; a word that Stripe adds one day is no word of success."""
        return _STATES.get(self.status, "open")


class Dispute(msgspec.Struct, kw_only=True):
    """A dispute; `payment_intent` is not expanded."""

    id: str
    payment_intent: str | None = None


class _Data(msgspec.Struct):
    object: msgspec.Raw


class Event(msgspec.Struct, kw_only=True):
    """An event, its object not read yet."""

    id: str
    type: str
    data: _Data


def seen_of_intent(intent: Intent, refunds: Sequence[Refund] | None = None) -> Seen:
    """Say how a payment stands; `refunds`: all of them, where they were listed."""
    currency, charge = intent.currency.upper(), intent.charge
    given_back = 0 if charge is None else charge.given_back
    listed: list[Refund] = []
    if refunds is not None:
        listed = _without_let_go(intent, refunds)
        given_back = sum(r.amount for r in listed if r.refunded.state != "failed")
    return Seen(
        ref=intent.id,
        payment=(intent.metadata or {}).get(OURS),
        state=intent.state,
        amount_minor=from_stripe(intent.amount, currency),
        currency=currency,
        capturable_minor=from_stripe(intent.capturable, currency),
        captured_minor=from_stripe(intent.captured, currency),
        refunded_minor=from_stripe(given_back, currency),
        disputed=charge is not None and charge.disputed,
        refunds=tuple(refund.refunded for refund in listed),
        at_ms=intent.created * 1000,
    )


def _without_let_go(intent: Intent, refunds: Sequence[Refund]) -> list[Refund]:
    """Take out what Stripe gave up by a refund of its own at the capture or the cancel."""
    oldest_first = list(reversed(refunds))
    oldest_first.sort(key=lambda refund: refund.created)
    if intent.captured == 0:
        return []
    rest = intent.amount - intent.captured
    for n, refund in enumerate(oldest_first):
        if rest and refund.key is None and refund.amount == rest:
            return oldest_first[:n] + oldest_first[n + 1 :]
    return oldest_first


def seen_of_charge(charge: Charge) -> Seen | None:
    """Say how the payment of a charge stands; None: the charge does not know whose it is."""
    payment = (charge.metadata or {}).get(OURS)
    if charge.payment_intent is None or payment is None:
        return None
    currency = charge.currency.upper()
    state: PaymentState = "open"
    if charge.captured:
        state = "captured"
    elif charge.refunded:
        state = "voided"
    elif charge.status == "succeeded":
        state = "authorised"
    return Seen(
        ref=charge.payment_intent,
        payment=payment,
        state=state,
        amount_minor=from_stripe(charge.amount, currency),
        currency=currency,
        capturable_minor=from_stripe(charge.amount, currency) if state == "authorised" else 0,
        captured_minor=from_stripe(charge.moved, currency),
        refunded_minor=from_stripe(charge.given_back, currency),
        disputed=charge.disputed,
    )


def read(event: Event) -> tuple[Seen | None, str | None]:
    """Return what an event says of a payment, and which one it concerns; raise ValueError."""
    raw, kind = event.data.object, event.type
    if kind.startswith("payment_intent."):
        intent = msgspec.json.decode(raw, type=Intent)
        return seen_of_intent(intent), intent.id
    if kind.startswith("charge.dispute."):
        return None, msgspec.json.decode(raw, type=Dispute).payment_intent
    if kind.startswith(("charge.refund.", "refund.")):
        return None, msgspec.json.decode(raw, type=Refund).payment_intent
    if kind.startswith("charge."):
        charge = msgspec.json.decode(raw, type=Charge)
        return seen_of_charge(charge), charge.payment_intent
    return None, None


def intent_of(fields: dict[str, Any]) -> Intent:
    """Read a PaymentIntent of an answer; raise ValueError."""
    return msgspec.convert(fields, type=Intent)


def refund_of(fields: dict[str, Any]) -> Refund:
    """Read a refund of an answer; raise ValueError."""
    return msgspec.convert(fields, type=Refund)
