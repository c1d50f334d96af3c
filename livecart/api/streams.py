"""Streams over HTTP: create, list, show, start, end, and the pins on them."""

from __future__ import annotations

from typing import Any

import msgspec

from livecart.api.bounds import hosted_stream
from livecart.api.calls import Call, Page, answer_json, listing, once
from livecart.api.operations import Operation
from livecart.api.problems import Answer
from livecart.commands import refusal
from livecart.pins import new_pin
from streams.codes import Code
from streams.ports import Refused
from streams.protocol import (
    PINS_MAX,
    ChatEveryS,
    Id,
    Language,
    Pin,
    Stream,
    StreamStatus,
    TimeMs,
    Title,
    Url,
)


class NewStream(msgspec.Struct, kw_only=True):
    """A show to announce."""

    title: Title
    starts_at: TimeMs | None = None
    playback_url: Url | None = None
    language: Language | None = None


class StreamRevision(msgspec.Struct, kw_only=True):
    """What is to change."""

    chat_every_s: ChatEveryS | None = None  # slow mode; 0 ends it


class Audience(msgspec.Struct, kw_only=True):
    """Who is there now, and how many there were at most."""

    viewers: int  # connections, guests included
    users: int  # about: within 2 percent, each guest one
    peak_viewers: int


class NewPin(msgspec.Struct, kw_only=True):
    """A product to show."""

    product: Id
    offer: Id | None = None
    media_at: TimeMs | None = None


class StreamsQuery(Page, kw_only=True):
    """Which streams to list."""

    shop: Id | None = None
    status: StreamStatus | None = None


async def create(call: Call, body: NewStream) -> Answer:
    """Announce a show of the caller's shop.

    With an `Idempotency-Key` it is made once: 200 when an earlier call of this shop made it.
    """
    if call.caller.streams is not None:
        raise Refused(Code.FORBIDDEN, "This token is limited to other streams.")
    stream = Stream(
        id=call.services.ids.new("st"),
        shop=call.caller.shop,
        title=body.title,
        status="scheduled",
        starts_at=body.starts_at,
        playback_url=body.playback_url,
        language=body.language,
    )
    id_ = await call.services.catalog.create_stream(
        stream.id,
        stream.shop,
        stream.title,
        stream.starts_at,
        stream.playback_url,
        stream.language,
        once(call, body),
    )
    if id_ != stream.id:
        return answer_json(await _shown(call, id_))
    return answer_json(stream, 201)


async def listed(call: Call) -> dict[str, Any]:
    """List streams, newest first."""
    query: StreamsQuery = call.query
    limit = query.size
    found = await call.services.catalog.streams_page(
        query.shop, query.status, query.before, limit + 1
    )
    return listing(found, found, limit)


async def show(call: Call) -> Stream:
    """Show a stream."""
    return await _shown(call, call.id())


async def revise(call: Call, body: StreamRevision) -> Stream:
    """Change how the chat goes."""
    stream, _ = await hosted_stream(call)
    if body.chat_every_s is not None:
        await call.services.commands.slow_chat(stream, body.chat_every_s)
    return await _shown(call, stream)


async def audience(call: Call) -> Audience:
    """Say who is there, on all processes."""
    id_, _ = await hosted_stream(call)
    stream = await _shown(call, id_)
    viewers, users = await call.services.hub.counts.audience(id_)
    peak = max(stream.peak_viewers or 0, viewers)
    return Audience(viewers=viewers, users=min(users, viewers), peak_viewers=peak)


async def start(call: Call) -> Stream:
    """Go live; a live stream stays so."""
    stream, _ = await hosted_stream(call)
    refused = await call.services.changes.start_stream(stream)
    if refused is not None:
        raise refusal(refused)
    return await _shown(call, stream)


async def end(call: Call) -> Stream:
    """Close every offer and end; an ended stream stays so."""
    stream, _ = await hosted_stream(call)
    refused = await call.services.changes.end_stream(stream)
    if refused is not None:
        raise refusal(refused)
    return await _shown(call, stream)


async def pin(call: Call, body: NewPin) -> Pin:
    """Show a product on the stream."""
    stream, shop = await hosted_stream(call)
    services = call.services
    made = await new_pin(
        services.catalog, services.ids, stream, shop, body.product, body.offer, body.media_at
    )
    services.hub.hasten(stream)
    refused = await services.changes.pin(
        stream, made.id, made.product.id, made.offer, made.media_at, PINS_MAX
    )
    if refused is not None:
        raise refusal(refused)
    return made


async def unpin(call: Call) -> None:
    """Take a pin away."""
    stream, _ = await hosted_stream(call)
    call.services.hub.hasten(stream)
    refused = await call.services.changes.unpin(stream, call.id("pin"))
    if refused is not None:
        raise refusal(refused)


async def _shown(call: Call, id_: str) -> Stream:
    stream = await call.services.catalog.stream(id_)
    if stream is None:
        raise Refused(Code.NOT_FOUND)
    return stream


OPERATIONS = (
    Operation(
        method="POST", path="/v1/streams", handle=create, who="host", status=201,
        summary="Announce a stream", body=NewStream, result=Stream, may_key=True, replays=True,
        refusals=(Code.KEY_REUSED,),
    ),
    Operation(
        method="GET", path="/v1/streams", handle=listed, who="anyone",
        summary="List streams", query=StreamsQuery, result=Stream, listed=True,
    ),
    Operation(
        method="GET", path="/v1/streams/{id}", handle=show, who="anyone",
        summary="Show a stream", result=Stream, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="PATCH", path="/v1/streams/{id}", handle=revise, who="host",
        summary="Change a stream's slow mode", body=StreamRevision, result=Stream,
        refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="GET", path="/v1/streams/{id}/audience", handle=audience, who="host",
        summary="Show who is there", result=Audience, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="POST", path="/v1/streams/{id}/start", handle=start, who="host",
        summary="Go live", result=Stream, refusals=(Code.NOT_FOUND, Code.CONFLICT),
    ),
    Operation(
        method="POST", path="/v1/streams/{id}/end", handle=end, who="host",
        summary="Close every offer and end", result=Stream, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="POST", path="/v1/streams/{id}/pins", handle=pin, who="host", status=201,
        summary="Pin a product", body=NewPin, result=Pin,
        refusals=(Code.NOT_FOUND, Code.CONFLICT),
    ),
    Operation(
        method="DELETE", path="/v1/streams/{id}/pins/{pin}", handle=unpin, who="host", status=204,
        summary="Take a pin away", refusals=(Code.NOT_FOUND,),
    ),
)  # fmt: skip
