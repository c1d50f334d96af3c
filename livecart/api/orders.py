"""Orders over HTTP: buy, list, show, extend, cancel, pay.

The buy is the hot path: it joins the present batch of its offer and waits for its answer.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from livecart import views
from livecart.api.bounds import hosts, own_order
from livecart.api.calls import Call, Page, answer_json, listing
from livecart.api.operations import Operation
from livecart.api.paying import PaidOrder, Paying, begun, paid_order, through
from livecart.api.problems import Answer, problem
from livecart.commands import done, refusal
from livecart.patience import ANSWER_S, bounded
from livecart.services import Services
from orders import records
from orders.ledger.lists import Filter, orders_page
from streams.codes import Code
from streams.ports import Identity, Refused
from streams.protocol import LINE, Id, Order, OrderStatus, Qty, Ticket, TimeMs, Version

Reason = Annotated[str, Meta(max_length=300, pattern=LINE)]


class NewOrder(msgspec.Struct, kw_only=True):
    """How many units to buy."""

    qty: Qty
    ticket: Ticket | None = None


class Cancellation(msgspec.Struct, kw_only=True):
    """Why an order ends."""

    reason: Reason | None = None


class Extension(msgspec.Struct, kw_only=True):
    """Which version of the order the caller saw: sent twice, it counts once."""

    version: Version


class OrdersFilter(msgspec.Struct, kw_only=True):
    """What a list or an export of orders may be narrowed to."""

    offer: Id | None = None
    status: OrderStatus | None = None
    viewer: Id | None = None
    product: Id | None = None
    since: TimeMs | None = None  # admitted from then on
    until: TimeMs | None = None  # and before then
    paid: bool | None = None  # whether its money has moved
    refunded: bool | None = None  # whether any of its amount was given back
    late: bool | None = None  # whether it was not shipped in time
    q: Id | None = None  # its id, or how its viewer's begins


class OrdersQuery(OrdersFilter, kw_only=True):
    """Which orders to list; a `Page`, of which no second base can be made."""

    stream: Id | None = None
    limit: int | None = None
    cursor: str | None = None

    @property
    def page(self) -> Page:
        """Which page of them."""
        return Page(limit=self.limit, cursor=self.cursor)


#: Made once, since a sold-out sale refuses tens of thousands.
_REFUSED = {why: problem(refusal(records.Refused(why))) for why in records.Why}


def _heard(buy: records.Buy, outcome: records.Outcome) -> None:
    """Hand an outcome to the call that waits for it, if it still does."""
    future: asyncio.Future[records.Outcome] = buy.tag
    if not future.done():
        future.set_result(outcome)


async def _stream_of(services: Services, identity: Identity, offer: str) -> str:
    """Return the stream of an offer, mostly without waiting; raise `Refused` to whom it is shut."""
    stream = await services.rooms.stream_of(offer)
    if stream is None:
        raise Refused(Code.NOT_FOUND)
    try:
        await entered(services, identity, stream)
    except Refused as refused:
        found = await services.catalog.offer(offer)
        if found is None or not found.announced:  # else a draft could be told from nothing
            raise Refused(Code.NOT_FOUND) from refused
        raise
    return stream


async def entered(services: Services, identity: Identity, stream: str) -> None:
    """Raise `Refused` when a stream is shut to this viewer."""
    if not identity.may_enter(stream):
        raise Refused(Code.FORBIDDEN, "The token is for other streams.")
    if identity.sub in await services.rooms.banned(stream):
        raise Refused(Code.FORBIDDEN, "You are banned from this stream.")


async def only_viewer(call: Call, offer: records.Offer) -> str | None:
    """Return whose entries of an offer the caller may see: a viewer's own; None: the host, all."""
    identity = call.caller
    if identity.role == "viewer":
        await entered(call.services, identity, offer.stream)
        return identity.sub
    if not hosts(identity, offer.shop, offer.stream):
        raise Refused(Code.FORBIDDEN)
    return None


async def buy(call: Call, body: NewOrder) -> Answer:
    """Buy; 201, or 200 when an earlier call with this key made the order."""
    offer, identity, services = call.id(), call.caller, call.services
    stream = await bounded(partial(_stream_of, services, identity, offer), ANSWER_S)
    future: asyncio.Future[records.Outcome] = asyncio.get_running_loop().create_future()
    services.selling.buy(
        records.Buy(offer, identity.sub, body.qty, call.key, _heard, future, stream, body.ticket)
    )
    outcome = await future
    if isinstance(outcome, records.Refused):
        if outcome.retry_after_ms is None and not outcome.message:
            return _REFUSED[outcome.why]
        raise refusal(outcome)
    return answer_json(views.order(outcome.order), 200 if outcome.replayed else 201)


async def listed(call: Call) -> dict[str, Any]:
    """List orders, newest first: a viewer's own, a host's shop's."""
    query: OrdersQuery = call.query
    wanted = wanted_of(call, query, query.stream)
    if wanted is None:
        return {"items": [], "next_cursor": None}
    limit = query.page.size
    found = await orders_page(call.services.ledger, wanted, query.page.before, limit + 1)
    return listing(found, [views.order(order) for order in found], limit)


def wanted_of(call: Call, query: OrdersFilter, stream: str | None) -> Filter | None:
    """Return which orders a caller sees of those that he asks for; None: none at all."""
    identity = call.caller
    viewer, shop = query.viewer, None
    if identity.role == "viewer":
        if viewer not in (None, identity.sub):
            return None
        viewer = identity.sub
    elif identity.role == "host":
        shop = identity.shop
    streams: list[str] | None = None if stream is None else [stream]
    if identity.streams is not None:
        streams = [s for s in (streams or identity.streams) if identity.may_enter(s)]
    return Filter(
        viewer=viewer,
        shop=shop,
        streams=streams,
        offer=query.offer,
        product=query.product,
        status=query.status,
        paid=query.paid,
        refunded=query.refunded,
        late=query.late,
        since=query.since,
        until=query.until,
        sought=query.q,
    )


async def show(call: Call) -> Order:
    """Show an order."""
    order, _ = await own_order(call)
    return views.order(order)


async def extend(call: Call, body: Extension) -> Order:
    """Move a reserved order's deadline: a viewer's own, or by the shop."""
    order, _ = await own_order(call)
    changes = call.services.changes
    return views.order(done(await changes.extend(order.id, body.version, call.caller.sub)))


async def cancel(call: Call, body: Cancellation) -> Order:
    """End an order and give its units back: a viewer's own while reserved, or by the shop."""
    order, by_host = await own_order(call)
    changed = await call.services.changes.cancel(
        order.id, by_host, body.reason or None, call.caller.sub
    )
    return views.order(done(changed))


async def pay(call: Call, body: Paying) -> PaidOrder:
    """Pay: the shop marks an order as paid by hand; its viewer begins to through a provider."""
    order, by_host = await own_order(call)
    if by_host:
        return paid_order(done(await call.services.changes.pay(order.id, call.caller.sub)))
    if order.status in ("confirmed", "shipped"):  # it is paid for, or need not be
        return paid_order(order)
    payment = await begun(call, order.viewer, [order.id], through(call, body.provider))
    now = (await call.services.ledger.orders([order.id]))[0]
    return paid_order(now, payment)


_OF_ITS_STATE = (Code.NOT_FOUND, Code.CONFLICT)

OPERATIONS = (
    Operation(
        method="POST", path="/v1/offers/{id}/orders", handle=buy, who="viewer", status=201,
        summary="Buy", body=NewOrder, result=Order, keyed=True, replays=True, bounded=True,
        refusals=(
            Code.NOT_FOUND, Code.NOT_LIVE, Code.NOT_OPEN, Code.CLOSED, Code.SOLD_OUT,
            Code.LIMIT_REACHED, Code.KEY_REUSED,
        ),
    ),
    Operation(
        method="GET", path="/v1/orders", handle=listed, who="member",
        summary="List orders", query=OrdersQuery, result=Order, listed=True,
    ),
    Operation(
        method="GET", path="/v1/orders/{id}", handle=show, who="member",
        summary="Show an order", result=Order, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="POST", path="/v1/orders/{id}/extend", handle=extend, who="member",
        summary="Move an order's deadline", body=Extension, result=Order, refusals=_OF_ITS_STATE,
    ),
    Operation(
        method="POST", path="/v1/orders/{id}/cancel", handle=cancel, who="member",
        summary="Cancel an order", body=Cancellation, result=Order, refusals=_OF_ITS_STATE,
    ),
    Operation(
        method="POST", path="/v1/orders/{id}/pay", handle=pay, who="member",
        summary="Pay, or mark an order as paid by hand", body=Paying, result=PaidOrder,
        refusals=_OF_ITS_STATE, asks_provider=True,
    ),
)  # fmt: skip
