"""What a call has to do with payments: whom to pay through, and how a payment is shown.

Owns the shapes of payments and the choice of the provider. Used by the nouns of this folder that
begin payments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from livecart import views
from livecart.api.calls import Call
from livecart.commands import refusal
from livecart.patience import PROVIDER_S
from orders import records
from orders.ledger import money
from orders.payments import cashier
from orders.payments.port import ProviderRefused
from streams.codes import Code
from streams.ports import Refused
from streams.protocol import LINE, Order

ProviderName = Annotated[str, Meta(min_length=1, max_length=20, pattern=LINE)]
State = Literal["new", "open", "authorised", "captured", "failed", "voided"]


class Paying(msgspec.Struct, kw_only=True):
    """Through whom to pay; the first that is connected when it is not said."""

    provider: ProviderName | None = None


class Payment(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is paid for orders, at once; amounts in minor units of `currency`."""

    id: str
    provider: str
    state: State
    amount_minor: int
    currency: str
    orders: list[str]
    captured_minor: int = 0
    refunded_minor: int = 0
    disputed: bool = False
    odd: str | None = None  # what of it was not as asked for, so that nothing was sold for it
    created_at: int | None = None
    client: dict[str, str] | None = None  # what the buyer's client needs to complete it


class PaidOrder(Order, kw_only=True):
    """An order, and the payment that was begun for it."""

    payment: Payment | None = None


def paid_order(order: records.Order, payment: Payment | None = None) -> PaidOrder:
    """Return an order with its payment as clients see them."""
    return PaidOrder(**msgspec.structs.asdict(views.order(order)), payment=payment)


def shown(payment: money.Payment, client: dict[str, str] | None = None) -> Payment:
    """Return a payment as its buyer and its shop see it."""
    return Payment(
        id=payment.id,
        provider=payment.provider,
        state=payment.state,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        orders=payment.orders,
        captured_minor=payment.captured_minor,
        refunded_minor=payment.refunded_minor,
        disputed=payment.disputed,
        odd=payment.odd,
        created_at=payment.created_at,
        client=client,
    )


def through(call: Call, provider: str | None) -> str:
    """Return the name of the provider to pay through; raise `Refused`."""
    connected = list(call.services.cashier.providers)
    if not connected:
        what = "No payment provider is connected; the shop marks orders as paid."
        raise Refused(Code.FORBIDDEN, what)
    if provider is not None and provider not in connected:
        names = ", ".join(connected)
        raise Refused(Code.BAD_REQUEST, f"Expected one of: {names}", field="provider")
    return provider or connected[0]


async def begun(call: Call, viewer: str, orders: Sequence[str], provider: str) -> Payment:
    """Begin a payment of a viewer's orders with what `through` returned; raise `Refused`."""
    till = call.services.cashier
    call.patience_s = PROVIDER_S
    try:
        paying = await till.begin(viewer, orders, provider)
    except ProviderRefused as refused:
        raise Refused(Code.CONFLICT, f"The provider refuses this payment: {refused.code}") from None
    if isinstance(paying, records.Refused):
        raise refusal(paying)
    assert isinstance(paying, cashier.Paying)
    found = (await till.money.payments([paying.payment]))[0]
    client = dict(paying.begun.client)
    public = call.services.settings.payments.stripe_publishable_key
    if client and paying.provider == "stripe" and public is not None:
        client["publishable_key"] = public
    return shown(found, client or None)
