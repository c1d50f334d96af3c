"""Checkout: several orders of a viewer paid at once, by himself or through a link.

Owns who may pay for what. A link is brought in the header `Livecart-Checkout`: it speaks for the
orders that it names and for nothing else.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from livecart import views
from livecart.api.aftersale import hosted_order
from livecart.api.bounds import hosts, own_order
from livecart.api.calls import Call, header
from livecart.api.operations import Operation
from livecart.api.paying import Payment, ProviderName, begun, shown, through
from livecart.contacts import Contact
from livecart.links import ORDERS_MAX, Link, path_of
from orders import records
from streams.codes import Code
from streams.ports import Refused
from streams.protocol import Id, Order, Product

LINK_TTL_S = 24 * 3600
LINK_TTL_S_MAX = 7 * 24 * 3600

Ids = Annotated[list[Id], Meta(min_length=1, max_length=ORDERS_MAX)]


class NewCheckout(msgspec.Struct, kw_only=True):
    """Which reserved orders of one stream to pay, and through whom."""

    orders: Ids
    provider: ProviderName | None = None
    contact: Contact | None = None  # where they go to


class NewLink(msgspec.Struct, kw_only=True):
    """How long a link is good, and for which more orders of the same viewer and stream."""

    ttl_s: Annotated[int, Meta(ge=60, le=LINK_TTL_S_MAX)] | None = None  # a day
    orders: Annotated[list[Id], Meta(max_length=ORDERS_MAX - 1)] | None = None


class CheckoutLink(msgspec.Struct, kw_only=True):
    """A link to be sent to a buyer: the path of a page of this server, and the token in it."""

    path: str
    token: str
    expires_at: int


class Checkout(msgspec.Struct, kw_only=True):
    """What a link is for: its orders as they are now, and what is paid for them."""

    orders: list[Order]
    products: list[Product]
    providers: list[str]
    payments: list[Payment]
    expires_at: int


class Payments(msgspec.Struct, kw_only=True):
    """The payments of an order, newest first."""

    items: list[Payment]


class PayLink(msgspec.Struct, kw_only=True):
    """Through whom to pay what a link is for, and where it goes to."""

    provider: ProviderName | None = None
    contact: Contact | None = None


async def checkout(call: Call, body: NewCheckout) -> Payment:
    """Begin one payment for several reserved orders; sent again, it goes on with the same one."""
    ids, viewer = _distinct(body.orders), call.caller.sub
    found = [one for one in await call.services.ledger.orders(ids) if one.viewer == viewer]
    if len(found) < len(ids) or not all(call.caller.may_enter(one.stream) for one in found):
        raise Refused(Code.NOT_FOUND, "No such order of yours.", field="orders")
    if len({one.stream for one in found}) > 1 or any(one.status != "reserved" for one in found):
        raise Refused(Code.CONFLICT, "These orders do not wait for one payment.", field="orders")
    provider = through(call, body.provider)  # before anything is kept
    await _keep(call, found, body.contact)
    return await begun(call, viewer, ids, provider)


async def _keep(call: Call, orders: list[records.Order], contact: Contact | None) -> None:
    """Keep where orders of one stream go to, when it is said."""
    if contact is None:
        return
    shop = await call.services.catalog.shop_of(orders[0].stream)
    assert shop is not None  # an order is of a stream that is there
    await call.services.contacts.keep([one.id for one in orders], shop, contact)


async def show_payment(call: Call) -> Payment:
    """Show a payment: to its buyer, and to the shop.

    While a buyer waits, its provider is asked besides: the next answer knows.
    """
    identity = call.caller
    found = await call.services.cashier.money.payments([call.id()])
    if found and identity.may_enter(found[0].stream):
        own = identity.role == "viewer" and found[0].viewer == identity.sub
        if own or hosts(identity, found[0].shop, found[0].stream):
            if own and found[0].state == "open":
                call.services.cashier.look(found[0].id)
            return shown(found[0])
    raise Refused(Code.NOT_FOUND)


async def payments(call: Call) -> Payments:
    """List the payments of an order: to its buyer, and to the shop."""
    order, _ = await own_order(call)
    found = await call.services.cashier.money.payments_of(order.id)
    return Payments(items=[shown(one) for one in found])


async def link(call: Call, body: NewLink) -> CheckoutLink:
    """Make a link with which whoever has it may pay for these orders, without an account."""
    order = await hosted_order(call)
    services = call.services
    ids = _distinct([order.id, *(body.orders or ())])
    found = {one.id: one for one in await services.ledger.orders(ids)}
    for id_ in ids:
        one = found.get(id_)
        if one is None or (one.viewer, one.stream) != (order.viewer, order.stream):
            raise Refused(Code.NOT_FOUND, "No such order of that viewer.", field="orders")
    if all(one.status != "reserved" for one in found.values()):
        raise Refused(Code.CONFLICT, "None of these orders waits for a payment.")
    token, exp_ms = services.links.issue(order.viewer, ids, body.ttl_s or LINK_TTL_S)
    return CheckoutLink(path=path_of(token), token=token, expires_at=exp_ms)


async def _linked(call: Call) -> tuple[Link, list[records.Order]]:
    """Return what the call's link names; raise `Refused`."""
    token = header(call.headers, b"livecart-checkout")
    if token is None:
        raise Refused(Code.UNAUTHENTICATED, "The header Livecart-Checkout is missing.")
    link = call.services.links.read(token.decode("latin-1"))
    found = {one.id: one for one in await call.services.ledger.orders(link.orders)}
    orders = [found[id_] for id_ in link.orders if id_ in found]
    return link, [one for one in orders if one.viewer == link.viewer]


async def show_checkout(call: Call) -> Checkout:
    """Show what a link is for.

    While its buyer waits, the provider is asked besides: the next answer knows.
    """
    link, orders = await _linked(call)
    services = call.services
    products = await services.catalog.products([one.product for one in orders])
    payments: dict[str, Payment] = {}
    for order in orders:
        for payment in await services.cashier.money.payments_of(order.id):
            payments.setdefault(payment.id, shown(payment))
            if payment.state == "open":
                services.cashier.look(payment.id)
    return Checkout(
        orders=[views.order(one) for one in orders],
        products=list(products.values()),
        providers=list(services.cashier.providers),
        payments=list(payments.values()),
        expires_at=link.exp_ms,
    )


async def pay_checkout(call: Call, body: PayLink) -> Payment:
    """Begin to pay for those orders of a link that wait for it."""
    link, orders = await _linked(call)
    reserved = [one for one in orders if one.status == "reserved"]
    if not reserved:
        raise Refused(Code.CONFLICT, "None of these orders waits for a payment.")
    provider = through(call, body.provider)  # before anything is kept
    await _keep(call, reserved, body.contact)
    return await begun(call, link.viewer, [one.id for one in reserved], provider)


def _distinct(ids: list[str]) -> list[str]:
    return list(dict.fromkeys(ids))


OPERATIONS = (
    Operation(
        method="POST", path="/v1/checkouts", handle=checkout, who="viewer", status=201,
        summary="Pay for several orders at once", body=NewCheckout, result=Payment,
        refusals=(Code.NOT_FOUND, Code.CONFLICT), asks_provider=True,
    ),
    Operation(
        method="GET", path="/v1/payments/{id}", handle=show_payment, who="member",
        summary="Show a payment", result=Payment, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="GET", path="/v1/orders/{id}/payments", handle=payments, who="member",
        summary="List an order's payments", result=Payments, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="POST", path="/v1/orders/{id}/link", handle=link, who="host", status=201,
        summary="Make a checkout link", body=NewLink, result=CheckoutLink,
        refusals=(Code.NOT_FOUND, Code.CONFLICT),
    ),
    Operation(
        method="GET", path="/v1/checkout", handle=show_checkout, who="anyone", linked=True,
        summary="Show what a checkout link is for", result=Checkout, refusals=(Code.FORBIDDEN,),
    ),
    Operation(
        method="POST", path="/v1/checkout/pay", handle=pay_checkout, who="anyone", status=201,
        summary="Pay through a checkout link", body=PayLink, result=Payment, linked=True,
        refusals=(Code.FORBIDDEN, Code.CONFLICT, Code.NOT_FOUND), asks_provider=True,
    ),
)  # fmt: skip
