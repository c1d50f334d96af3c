"""A stream's events over HTTP (Server-Sent Events), where WebSocket does not get through.

Owns the way from a request to a session: everything that a WebSocket's `hello` says comes in
headers, and whatever is refused is an ordinary problem document. What is written then is
`streams.outlet`'s. Commands are the ordinary HTTP calls.
"""

from __future__ import annotations

import asyncio
from functools import partial

from starlette.types import Receive, Scope, Send

from livecart.api.calls import Call, answer_error, bearer, header, write
from livecart.api.operations import Operation, Path
from livecart.patience import bounded
from livecart.services import Site
from streams.codes import Code
from streams.handshake import RETRY_AFTER_S
from streams.outlet import HEADERS, Outlet
from streams.places import position
from streams.ports import Refused
from streams.protocol import Since

WELCOME_S = 5.0  # for who and what to be read; in a crowd it takes longer than another answer


class Feed(Path):
    """Serves the one path whose answer has no end; an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        method = scope["method"]
        if method not in ("GET", "HEAD"):
            await super().__call__(scope, receive, send)
            return
        try:
            site: Site = scope["state"]["site"]
            call = Call(site.services, scope)
            if method == "HEAD":
                await look(call)
            else:
                outlet = await follow(call, scope["state"]["transport"])
        except Exception as error:  # noqa: BLE001 - told to the caller, logged there
            await write(send, answer_error(error), head=method == "HEAD")
            return
        if method == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body"})
        else:
            silence_ms = 2 * call.services.hub.limits.heartbeat_ms
            await outlet.run(receive, send, silence_ms)


async def follow(call: Call, transport: asyncio.Transport) -> Outlet:
    """Follow a stream by Server-Sent Events; without a token as a guest.

    The token ends the stream when it ends; then come back with a fresh one and `Last-Event-ID`.
    """
    stream, token, since = _asked(call)
    hub, client = call.services.hub, call.client
    if hub.turns_away(client):
        what = "Too many connections; try again soon."
        raise Refused(Code.RETRY, what, retry_after_ms=RETRY_AFTER_S * 1000)
    outlet = Outlet(transport, since)
    session = outlet.ear = hub.accept(outlet, stream, token, client)
    await bounded(partial(hub.enter, session, since), WELCOME_S)
    refused = outlet.refusal()
    if refused is not None:  # banned just now, or this process is about to end
        raise refused
    return outlet


async def look(call: Call) -> None:
    """Raise `Refused` where a stream's events would be refused, as far as that shows beforehand."""
    stream, token, _ = _asked(call)
    if token is not None:
        await call.services.hub.verify(token, stream)
    if await call.services.catalog.shop_of(stream) is None:
        raise Refused(Code.NOT_FOUND)


def _asked(call: Call) -> tuple[str, str | None, Since | None]:
    last = header(call.headers, b"last-event-id") or b""
    try:
        since = position(last.decode())
    except UnicodeDecodeError as error:
        raise Refused(Code.BAD_REQUEST, "Not UTF-8", field="Last-Event-ID") from error
    return call.id(), bearer(call.headers), since


OPERATIONS = (
    Operation(
        method="GET", path="/v1/streams/{id}/events", handle=follow, who="anyone", streams=True,
        summary="Follow a stream",
        refusals=(Code.FORBIDDEN, Code.NOT_FOUND, Code.RATE_LIMITED),
    ),
)  # fmt: skip
