"""What webhooks were sent, over HTTP: the log of an endpoint, replays, and a test.

Owns what a host may see and repeat of it; nothing is sent from here, the keeper does that.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from livecart.api.calls import Call, Page, listing
from livecart.api.operations import Operation
from livecart.api.webhooks import own
from livecart.hooks.maker import body_of
from livecart.hooks.names import TEST
from orders.ledger import hooks
from streams.codes import Code
from streams.ports import Refused
from streams.protocol import Id, TimeMs

PREFIX = "dl_"


class HookAttempt(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How one attempt went; without `status` nobody answered."""

    attempt: int
    at: int
    duration_ms: int
    status: int | None = None
    error: str | None = None
    answer: str | None = None


class Delivery(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One event on its way; `attempts` counts all, also those before a replay."""

    id: str
    event: str
    type: str
    state: hooks.DeliveryState
    created_at: int
    attempts: int
    next_at: int | None = None  # of a pending one
    last: HookAttempt | None = None


class DeliveryInFull(Delivery, kw_only=True, omit_defaults=True):
    """The same with the body that is sent, and its attempts, the newest first."""

    body: str
    log: list[HookAttempt]


class Replay(msgspec.Struct, kw_only=True):
    """What to send again: one delivery, or those that were made since a time."""

    delivery: Id | None = None
    since: TimeMs | None = None
    dead_only: bool | None = None


class Replayed(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How many are sent again; `next_since` where there may be more: call again with it."""

    count: int
    next_since: int | None = None


class DeliveriesQuery(Page, kw_only=True):
    """Which deliveries to list."""

    state: hooks.DeliveryState | None = None


async def test(call: Call) -> Delivery:
    """Send a `webhook.test`, whatever the filter; the log tells how it went."""
    endpoint = await own(call)
    event = f"evt_test_{secrets.token_hex(12)}"
    body = body_of(TEST, call.services.clock.now_ms(), {"webhook": endpoint.id})
    n = await call.services.hooks.test(endpoint.id, event, TEST, body)
    if n is None:
        raise Refused(Code.CONFLICT, "This webhook is switched off.")
    return _delivery((await call.services.hooks.deliveries_page(endpoint.id, n=n))[0])


async def deliveries(call: Call) -> dict[str, Any]:
    """List an endpoint's deliveries, newest first, each with its last attempt."""
    query: DeliveriesQuery = call.query
    endpoint, limit = await own(call), query.size
    before = None if query.before is None else _n(query.before, field="cursor")
    found = await call.services.hooks.deliveries_page(
        endpoint.id, state=query.state, before=before, limit=limit + 1
    )
    shown = [_delivery(one) for one in found]
    return listing(shown, shown, limit)


async def delivery(call: Call) -> DeliveryInFull:
    """Show a delivery with its body and all its attempts."""
    endpoint = await own(call)
    found = await call.services.hooks.deliveries_page(endpoint.id, n=_n(call.id("delivery")))
    if not found:
        raise Refused(Code.NOT_FOUND)
    attempts = await call.services.hooks.attempts(found[0].n)
    return DeliveryInFull(
        **msgspec.structs.asdict(_delivery(found[0])),
        body=found[0].body,
        log=[_attempt(one) for one in attempts],
    )


async def replay(call: Call, body: Replay) -> Replayed:
    """Send deliveries again that were delivered or given up, under the ids that they had."""
    endpoint = await own(call)
    if (body.delivery is None) == (body.since is None):
        what = "Expected either `delivery` or `since`"
        raise Refused(Code.BAD_REQUEST, what, field="delivery")
    if not endpoint.enabled:
        raise Refused(Code.CONFLICT, "This webhook is switched off.")
    n = None if body.delivery is None else _n(body.delivery, field="delivery")
    count, next_since = await call.services.hooks.replay(
        endpoint.id,
        n=n,
        since_ms=body.since,
        dead_only=bool(body.dead_only),
        limit=call.services.settings.hooks.replay_max,
    )
    return Replayed(count=count, next_since=None if n is not None else next_since)


# --- what these share ------------------------------------------------------------------------


def _n(id_: str, field: str | None = None) -> int:
    """Return the number of a delivery's id; raise `Refused` for what is none."""
    number = id_.removeprefix(PREFIX)
    if not (id_.startswith(PREFIX) and number.isascii() and number.isdigit() and len(number) < 19):
        if field is None:
            raise Refused(Code.NOT_FOUND)
        raise Refused(Code.BAD_REQUEST, "Not a delivery of this list", field=field)
    return int(number)


def _delivery(found: hooks.Delivery) -> Delivery:
    return Delivery(
        id=f"{PREFIX}{found.n}",
        event=found.event,
        type=found.type,
        state=found.state,
        created_at=found.created_at,
        attempts=found.attempts,
        next_at=found.due_at,
        last=None if found.last is None else _attempt(found.last),
    )


def _attempt(found: hooks.Attempt) -> HookAttempt:
    return HookAttempt(**msgspec.structs.asdict(found))


_ONE = "/v1/webhooks/{id}"

OPERATIONS = (
    Operation(
        method="POST", path=f"{_ONE}/test", handle=test, who="host", status=201,
        summary="Send a test event", result=Delivery, refusals=(Code.NOT_FOUND, Code.CONFLICT),
    ),
    Operation(
        method="GET", path=f"{_ONE}/deliveries", handle=deliveries, who="host",
        summary="List deliveries", query=DeliveriesQuery, result=Delivery, listed=True,
        refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="GET", path=f"{_ONE}/deliveries/{{delivery}}", handle=delivery, who="host",
        summary="Show a delivery", result=DeliveryInFull, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="POST", path=f"{_ONE}/replay", handle=replay, who="host",
        summary="Send deliveries again", body=Replay, result=Replayed,
        refusals=(Code.NOT_FOUND, Code.CONFLICT),
    ),
)  # fmt: skip
