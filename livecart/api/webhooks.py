"""Webhooks over HTTP: a shop's endpoints and their secrets.

Owns what a host may see and change of them; nothing is sent from here, the keeper does that. A
secret is in two answers, of the calls that make one, and nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import httpx
import msgspec
from msgspec import Meta

from livecart.api.calls import Call, Page, listing
from livecart.api.operations import Operation
from livecart.hooks.addresses import allowed, literal
from livecart.hooks.limits import HookLimits
from livecart.hooks.names import EVERYTHING, FILTERS, Filter
from livecart.hooks.signing import new_secret
from orders.ledger import hooks
from orders.sealing import Sealer
from streams.codes import Code
from streams.ports import Refused
from streams.protocol import LINE, Id, Url

DAY_S = 86_400
OVERLAP_S = DAY_S
OVERLAP_MAX_S = 7 * DAY_S

About = Annotated[str, Meta(max_length=300, pattern=LINE)]
Filters = Annotated[list[Filter], Meta(min_length=1, max_length=len(FILTERS))]
OverlapS = Annotated[int, Meta(ge=0, le=OVERLAP_MAX_S)]
Why = Literal["host", "gone", "failing"]


class NewWebhook(msgspec.Struct, kw_only=True):
    """Where to send what; without `events` everything."""

    url: Url
    events: Filters | None = None
    description: About | None = None


class WebhookRevision(msgspec.Struct, kw_only=True):
    """What is to change."""

    url: Url | None = None
    events: Filters | None = None
    description: About | None = None  # "" takes it away
    enabled: bool | None = None


class Rotation(msgspec.Struct, kw_only=True):
    """For how long the secrets before still sign beside the new one."""

    overlap_s: OverlapS | None = None


class Webhook(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An endpoint of a shop; `secret` only in the answer of the call that made it."""

    id: str
    shop: str
    url: str
    events: list[str]
    enabled: bool
    created_at: int
    description: str | None = None
    disabled_at: int | None = None
    disabled_why: Why | None = None
    failing_since: int | None = None
    delivered_at: int | None = None
    secret: str | None = None


class WebhooksQuery(Page, kw_only=True):
    """Which endpoints to list; a host sees his shop's alone."""

    shop: Id | None = None


# --- endpoints -------------------------------------------------------------------------------


async def create(call: Call, body: NewWebhook) -> Webhook:
    """Add an endpoint to the caller's shop; the answer has its secret, once."""
    shop, limits = _shop(call), call.services.settings.hooks
    judge(body.url, limits)
    sealer, secret = _sealer(call), new_secret()
    id_ = call.services.ids.new("wh")
    word = await call.services.hooks.create(
        id_, shop, body.url, _filters(body.events or list(EVERYTHING)), body.description or None,
        sealer.seal(secret.encode()), limits.endpoints_max,
    )  # fmt: skip
    if word == "too_many":
        raise Refused(Code.CONFLICT, f"A shop has at most {limits.endpoints_max} webhooks.")
    return await _shown(call, id_, secret)


async def listed(call: Call) -> dict[str, Any]:
    """List endpoints, newest first."""
    query: WebhooksQuery = call.query
    own, limit = _shop(call), query.size
    shop = query.shop
    if call.caller.role == "host":
        if shop not in (None, own):
            return {"items": [], "next_cursor": None}
        shop = own
    found = await call.services.hooks.endpoints_page(shop, query.before, limit + 1)
    return listing(found, [_webhook(one) for one in found], limit)


async def show(call: Call) -> Webhook:
    """Show an endpoint, and why it is off if it is."""
    return _webhook(await own(call))


async def revise(call: Call, body: WebhookRevision) -> Webhook:
    """Change an endpoint; switched on again, it is sent what still waits for it."""
    endpoint = await own(call)
    if body.url is not None:
        judge(body.url, call.services.settings.hooks)
    word = await call.services.hooks.revise(
        endpoint.id,
        url=body.url,
        events=None if body.events is None else _filters(body.events),
        description=body.description,
        enabled=body.enabled,
    )
    _there(word)
    return await _shown(call, endpoint.id)


async def delete(call: Call) -> None:
    """Send it nothing more, and forget its secret and its deliveries."""
    endpoint = await own(call)
    _there(await call.services.hooks.delete(endpoint.id))


async def rotate(call: Call, body: Rotation) -> Webhook:
    """Make a new secret, in the answer; those before sign beside it for a while."""
    endpoint, limits = await own(call), call.services.settings.hooks
    sealer, secret = _sealer(call), new_secret()
    overlap_s = OVERLAP_S if body.overlap_s is None else body.overlap_s
    word = await call.services.hooks.rotate(
        endpoint.id, sealer.seal(secret.encode()), overlap_s, limits.secrets_max
    )
    if word == "too_many":
        what = f"{limits.secrets_max} secrets sign already: wait until one is over."
        raise Refused(Code.CONFLICT, what)
    _there(word)
    return await _shown(call, endpoint.id, secret)


# --- what these share ------------------------------------------------------------------------


def _shop(call: Call) -> str:
    """Return the caller's shop; raise `Refused` for a token that is limited to some streams."""
    if call.caller.streams is not None:
        raise Refused(Code.FORBIDDEN, "This token is limited to some streams.")
    return call.caller.shop


async def own(call: Call) -> hooks.Endpoint:
    """Return the path's endpoint; another shop's is not found."""
    _shop(call)
    found = await call.services.hooks.endpoint(call.id())
    if found is None or not call.caller.may_host(found.shop):
        raise Refused(Code.NOT_FOUND)
    return found


def _sealer(call: Call) -> Sealer:
    sealer = call.services.sealer
    if sealer is None:
        what = "This server has no LIVECART_DATA_KEY, which a webhook's secret is sealed with."
        raise Refused(Code.CONFLICT, what)
    return sealer


def judge(url: str, limits: HookLimits) -> None:
    """Raise `Refused` for a URL that nothing could be sent to."""
    try:
        parsed = httpx.URL(url)
        port = 443 if parsed.port is None else parsed.port
    except (httpx.InvalidURL, ValueError) as error:
        raise _bad_url("It cannot be read") from error
    if parsed.scheme != "https" and not (limits.http and parsed.scheme == "http"):
        raise _bad_url("Expected an https URL")
    if not parsed.host or parsed.userinfo or not 0 < port < 65_536:
        raise _bad_url("Expected a host, and neither a user nor a password")
    address = literal(parsed.host)
    if address is not None and not allowed(address, limits.networks):
        raise _bad_url("Expected a public address")


def _bad_url(what: str) -> Refused:
    return Refused(Code.BAD_REQUEST, what, field="url")


def _filters(events: list[Filter]) -> list[str]:
    """Return a filter as it is kept: each name once, in the order of the table."""
    return [name for name in FILTERS if name in events]


def _there(word: str) -> None:
    if word == "not_found":  # deleted since it was looked at
        raise Refused(Code.NOT_FOUND)


async def _shown(call: Call, id_: str, secret: str | None = None) -> Webhook:
    endpoint = await call.services.hooks.endpoint(id_)
    if endpoint is None:
        raise Refused(Code.NOT_FOUND)
    return _webhook(endpoint, secret)


def _webhook(endpoint: hooks.Endpoint, secret: str | None = None) -> Webhook:
    return Webhook(**msgspec.structs.asdict(endpoint), secret=secret)


_PATH = "/v1/webhooks"
_ONE = f"{_PATH}/{{id}}"

OPERATIONS = (
    Operation(
        method="POST", path=_PATH, handle=create, who="host", status=201,
        summary="Add a webhook", body=NewWebhook, result=Webhook, refusals=(Code.CONFLICT,),
    ),
    Operation(
        method="GET", path=_PATH, handle=listed, who="host",
        summary="List webhooks", query=WebhooksQuery, result=Webhook, listed=True,
    ),
    Operation(
        method="GET", path=_ONE, handle=show, who="host",
        summary="Show a webhook", result=Webhook, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="PATCH", path=_ONE, handle=revise, who="host",
        summary="Change a webhook", body=WebhookRevision, result=Webhook,
        refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="DELETE", path=_ONE, handle=delete, who="host", status=204,
        summary="Delete a webhook", refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="POST", path=f"{_ONE}/rotate", handle=rotate, who="host",
        summary="Make a new secret", body=Rotation, result=Webhook,
        refusals=(Code.NOT_FOUND, Code.CONFLICT),
    ),
)  # fmt: skip
