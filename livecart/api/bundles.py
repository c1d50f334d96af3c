"""Bundles over HTTP: units of several offers of a stream, all or none."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec

from livecart import views
from livecart.api.calls import Call, answer_json
from livecart.api.operations import Operation
from livecart.api.orders import entered
from livecart.api.problems import Answer
from livecart.commands import refusal
from livecart.patience import ANSWER_S, bounded
from livecart.services import Services
from orders import records
from streams.codes import Code
from streams.ports import Identity, Refused
from streams.protocol import Lines, Order, Ticket


class NewBundle(msgspec.Struct, kw_only=True):
    """What to buy together; several lines of one offer are one sum."""

    lines: Lines
    ticket: Ticket | None = None


class Bundle(msgspec.Struct, kw_only=True):
    """An order of each offer, in the order of the lines."""

    bundle: str
    orders: list[Order]


def _heard(bundle: records.Bundle, outcome: records.BundleOutcome) -> None:
    """Hand an outcome to the call that waits for it, if it still does."""
    future: asyncio.Future[records.BundleOutcome] = bundle.tag
    if not future.done():
        future.set_result(outcome)


async def _may_buy(services: Services, identity: Identity, stream: str) -> None:
    if await services.catalog.shop_of(stream) is None:
        raise Refused(Code.NOT_FOUND)
    await entered(services, identity, stream)


async def buy(call: Call, body: NewBundle) -> Answer:
    """Buy all lines or none; 201, or 200 when an earlier call with this key made the orders."""
    stream, identity, services = call.id(), call.caller, call.services
    await bounded(partial(_may_buy, services, identity, stream), ANSWER_S)
    future: asyncio.Future[records.BundleOutcome] = asyncio.get_running_loop().create_future()
    lines = [(line.offer, line.qty) for line in body.lines]
    services.selling.bundles.buy(
        records.Bundle(stream, identity.sub, lines, call.key, _heard, future, body.ticket)
    )
    outcome = await future
    if isinstance(outcome, records.Refused):
        raise refusal(outcome)
    made = Bundle(bundle=outcome.bundle, orders=[views.order(order) for order in outcome.orders])
    return answer_json(made, 200 if outcome.replayed else 201)


OPERATIONS = (
    Operation(
        method="POST", path="/v1/streams/{id}/bundles", handle=buy, who="viewer", status=201,
        summary="Buy of several offers, all or none", body=NewBundle, result=Bundle, keyed=True,
        replays=True, bounded=True,
        refusals=(
            Code.NOT_FOUND, Code.NOT_LIVE, Code.NOT_OPEN, Code.CLOSED, Code.SOLD_OUT,
            Code.LIMIT_REACHED, Code.KEY_REUSED,
        ),
    ),
)  # fmt: skip
