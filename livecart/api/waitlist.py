"""The waitlist over HTTP: join, leave, and who waits."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from livecart import views
from livecart.api.bounds import seen_offer
from livecart.api.calls import Call, Page, answer_json, listing
from livecart.api.operations import Operation
from livecart.api.orders import entered, only_viewer
from livecart.api.problems import Answer
from livecart.commands import refusal
from orders import records
from streams.codes import Code
from streams.ports import Refused
from streams.protocol import Order, Qty, Ticket


class NewEntry(msgspec.Struct, kw_only=True):
    """How many units to wait for."""

    qty: Qty
    ticket: Ticket | None = None


class Joined(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A place on the list, from 1; or the order, when there was stock."""

    offer: str
    position: int | None = None
    order: Order | None = None


class Waiter(msgspec.Struct, kw_only=True):
    """Who waits, and for how many units."""

    viewer: str
    qty: int
    key: str
    position: int
    joined_at: int


async def join(call: Call, body: NewEntry) -> Answer:
    """Wait for units that come back, or buy what is there; 200 when an earlier call did."""
    offer = await seen_offer(call)
    await entered(call.services, call.caller, offer.stream)
    outcome = await call.services.selling.waitlist.join(
        offer.id, call.caller.sub, body.qty, call.key, stream=offer.stream, ticket=body.ticket
    )
    if isinstance(outcome, records.Refused):
        raise refusal(outcome)
    if isinstance(outcome, records.Waitlisted):
        made = Joined(offer=offer.id, position=outcome.position)
    else:
        made = Joined(offer=offer.id, order=views.order(outcome.order))
    return answer_json(made, 200 if outcome.replayed else 201)


async def leave(call: Call) -> None:
    """Wait no more; so it is also for who does not wait."""
    offer = await seen_offer(call)
    await entered(call.services, call.caller, offer.stream)
    refused = await call.services.selling.waitlist.leave(offer.id, call.caller.sub)
    if refused is not None:
        raise refusal(refused)


async def listed(call: Call) -> dict[str, Any]:
    """List who waits, first come first: a viewer himself, a host everybody."""
    query: Page = call.query
    limit = query.size
    offer = await seen_offer(call)
    viewer = await only_viewer(call, offer)
    page = partial(call.services.selling.waitlist.ledger.page, offer.id, viewer)
    found = await page(after(query), limit + 1)
    shown = [
        Waiter(viewer=e.viewer, qty=e.qty, key=e.key, position=e.position, joined_at=e.joined_at)
        for e in found
    ]
    return listing(found, shown, limit)


def after(query: Page) -> int:
    """Return the number that a page comes after; raise `Refused` for a cursor of another list."""
    before = query.before or "0"
    if not (before.isascii() and before.isdigit() and len(before) <= 18):
        raise Refused(Code.BAD_REQUEST, "Not a cursor of this list", field="cursor")
    return int(before)


_PATH = "/v1/offers/{id}/waitlist"

OPERATIONS = (
    Operation(
        method="POST", path=_PATH, handle=join, who="viewer", status=201,
        summary="Wait for units that come back", body=NewEntry, result=Joined, keyed=True,
        replays=True,
        refusals=(
            Code.NOT_FOUND, Code.NOT_LIVE, Code.NOT_OPEN, Code.CLOSED, Code.SOLD_OUT,
            Code.LIMIT_REACHED, Code.CONFLICT, Code.KEY_REUSED,
        ),
    ),
    Operation(
        method="DELETE", path=_PATH, handle=leave, who="viewer", status=204,
        summary="Wait no more", refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="GET", path=_PATH, handle=listed, who="member",
        summary="List who waits", query=Page, result=Waiter, listed=True,
        refusals=(Code.NOT_FOUND,),
    ),
)  # fmt: skip
