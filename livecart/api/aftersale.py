"""Orders after the sale: refund, ship, send back, and what happened when.

Owns the shapes and rules of these calls; what they do to units and money is the ledger's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from livecart import views
from livecart.api.bounds import hosts, own_order
from livecart.api.calls import Call
from livecart.api.operations import Operation
from livecart.commands import done, refusal
from orders import records
from orders.ledger import money
from streams.codes import Code
from streams.ports import Refused
from streams.protocol import LINE, TEXT, Order

Reason = Annotated[str, Meta(max_length=300, pattern=LINE)]
Text = Annotated[str, Meta(min_length=1, max_length=2_000, pattern=TEXT)]
Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=LINE)]
Url = Annotated[str, Meta(max_length=2_048, pattern=r"^https://[^\x00-\x20\x7f-\x9f]+\Z")]
Amount = Annotated[int, Meta(ge=1, le=10**15)]


class Refund(msgspec.Struct, kw_only=True):
    """How much to give back: all that is left when it is not said; and whether the units return."""

    amount_minor: Amount | None = None
    restock: bool | None = None  # not unless it says so
    reason: Reason | None = None


class Shipment(msgspec.Struct, kw_only=True):
    """With whom it goes, and under which number it is found."""

    carrier: Name | None = None
    tracking: Name | None = None


class Step(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One entry of a timeline: when, what, by whom."""

    at: int
    what: str
    who: str
    was: str | None = None
    now: str | None = None
    why: str | None = None


class Timeline(msgspec.Struct, kw_only=True):
    """What happened to an order, oldest first."""

    order: str
    steps: list[Step]


class NewReturn(msgspec.Struct, kw_only=True):
    """Why a buyer sends an order back."""

    reason: Text
    photo_url: Url | None = None


class Decision(msgspec.Struct, kw_only=True):
    """What the shop says to it."""

    note: Text | None = None


class Return(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A request to send an order back."""

    id: str
    order: str
    viewer: str
    reason: str
    state: Literal["asked", "accepted", "refused"]
    at: int
    photo_url: str | None = None
    note: str | None = None
    decided_at: int | None = None


class Returns(msgspec.Struct, kw_only=True):
    """The requests of an order, newest first."""

    items: list[Return]


_WRONG = {
    "bad_amount": ("amount_minor", "More than is left of the order"),
    "bad_restock": ("restock", "Units come back with the whole amount only"),
}


async def hosted_order(call: Call) -> records.Order:
    """Return the path's order; raise `Refused` unless the caller hosts it."""
    order, by_host = await own_order(call)
    if not by_host:
        raise Refused(Code.FORBIDDEN)
    return order


async def refund(call: Call, body: Refund) -> Order:
    """Give money of a confirmed or shipped order back, the whole of it (which ends it) or a part.

    With an `Idempotency-Key` it is given once, however often it is asked for.
    """
    order, services = await hosted_order(call), call.services
    word, now = await services.cashier.money.refund(
        order.id,
        call.key or None,
        body.amount_minor,
        body.restock or False,
        body.reason or None,
        call.caller.sub,
    )
    if word in _WRONG:
        field, message = _WRONG[word]
        raise Refused(Code.BAD_REQUEST, message, field=field)
    return views.order(done(await services.changes.settled(word, now)))


async def ship(call: Call, body: Shipment) -> Order:
    """Note that a paid order is on its way; again, to correct its carrier or tracking number."""
    order, services = await hosted_order(call), call.services
    word, now = await services.cashier.money.ship(
        order.id, body.carrier, body.tracking, call.caller.sub
    )
    if word == "conflict" and order.status == "confirmed":
        raise Refused(Code.CONFLICT, "Its money has not moved yet.")
    return views.order(done(await services.changes.settled(word, now)))


async def timeline(call: Call) -> Timeline:
    """Show what happened to an order: to its buyer without the names of who works at the shop."""
    order, by_host = await own_order(call)
    steps = await call.services.cashier.money.timeline(order.id)
    known = {order.viewer, "clock", "payment", "livecart"}
    return Timeline(
        order=order.id,
        steps=[
            Step(
                at=step.at, what=step.what, was=step.was, now=step.now, why=step.why,
                who=step.who if by_host or step.who in known else "shop",
            )
            for step in steps
        ],
    )  # fmt: skip


# --- returns -------------------------------------------------------------------------------------


def _shown(found: money.Return) -> Return:
    return Return(
        id=found.id,
        order=found.order_id,
        viewer=found.viewer,
        reason=found.reason,
        state=found.state,
        at=found.at,
        photo_url=found.photo_url,
        note=found.note,
        decided_at=found.decided_at,
    )


def _returned(word: str, found: money.Return | None) -> Return:
    if word == "not_found" or found is None:
        raise refusal(records.Refused(records.Why(word)))
    if word == "conflict":
        raise Refused(Code.CONFLICT)
    return _shown(found)


async def ask_return(call: Call, body: NewReturn) -> Return:
    """Ask to send a shipped order back; while that is not decided, asking again changes nothing."""
    (order, _), services = await own_order(call), call.services
    word, found = await services.cashier.money.ask_return(
        services.ids.new("ret"), order.id, call.caller.sub, body.reason, body.photo_url
    )
    return _returned(word, found)


async def returns(call: Call) -> Returns:
    """Show the requests to send an order back."""
    order, _ = await own_order(call)
    found = await call.services.cashier.money.returns(order.id)
    return Returns(items=[_shown(one) for one in found])


async def _decided(call: Call, state: str, body: Decision) -> Return:
    services, id_ = call.services, call.id()
    order = await services.cashier.money.return_order(id_)
    found = await services.ledger.order_shop(order) if order is not None else None
    if found is None or not hosts(call.identity, found[0], found[3]):
        raise Refused(Code.NOT_FOUND)
    return _returned(
        *await services.cashier.money.decide_return(id_, state, body.note, call.caller.sub)
    )


async def accept(call: Call, body: Decision) -> Return:
    """Accept a request; what is given back is a refund of its own."""
    return await _decided(call, "accepted", body)


async def refuse(call: Call, body: Decision) -> Return:
    """Refuse a request."""
    return await _decided(call, "refused", body)


_OF_ITS_STATE = (Code.NOT_FOUND, Code.CONFLICT)
_HOSTS: dict[str, Any] = {"who": "host", "refusals": _OF_ITS_STATE}

OPERATIONS = (
    Operation(
        method="POST", path="/v1/orders/{id}/refund", handle=refund, body=Refund, result=Order,
        summary="Give money back", may_key=True, who="host",
        refusals=(*_OF_ITS_STATE, Code.KEY_REUSED),
    ),
    Operation(
        method="POST", path="/v1/orders/{id}/ship", handle=ship, body=Shipment, result=Order,
        summary="Note an order as shipped", **_HOSTS,
    ),
    Operation(
        method="GET", path="/v1/orders/{id}/timeline", handle=timeline, who="member",
        summary="Show what happened to an order", result=Timeline, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="POST", path="/v1/orders/{id}/returns", handle=ask_return, who="viewer",
        summary="Ask to send an order back", body=NewReturn, result=Return, refusals=_OF_ITS_STATE,
    ),
    Operation(
        method="GET", path="/v1/orders/{id}/returns", handle=returns, who="member",
        summary="Show requests to send an order back", result=Returns, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="POST", path="/v1/returns/{id}/accept", handle=accept, body=Decision, result=Return,
        summary="Accept that an order comes back", **_HOSTS,
    ),
    Operation(
        method="POST", path="/v1/returns/{id}/refuse", handle=refuse, body=Decision, result=Return,
        summary="Refuse that an order comes back", **_HOSTS,
    ),
)  # fmt: skip
