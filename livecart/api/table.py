"""The table of everything that is served over HTTP, and the answers for what is not.

Owns the routes and the way to them, and nothing else. Called by `app`, and by the test
that holds the OpenAPI document to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Lifespan, Receive, Scope, Send

from livecart.api import (
    aftersale,
    bundles,
    checkouts,
    comments,
    contacts,
    deliveries,
    draws,
    entrance,
    events,
    exports,
    figures,
    hooks,
    ingest,
    invoices,
    offers,
    openapi,
    ops,
    orders,
    pages,
    products,
    sales,
    speech,
    streams,
    waitlist,
    webhooks,
)
from livecart.api.calls import answer_error
from livecart.api.guards import guarded
from livecart.api.operations import Operation, Path
from livecart.api.problems import Answer, problem
from streams.codes import Code
from streams.ports import Refused

OPERATIONS: tuple[Operation, ...] = (
    *orders.OPERATIONS,
    *bundles.OPERATIONS,
    *offers.OPERATIONS,
    *waitlist.OPERATIONS,
    *draws.OPERATIONS,
    *streams.OPERATIONS,
    *events.OPERATIONS,
    *speech.OPERATIONS,
    *products.OPERATIONS,
    *checkouts.OPERATIONS,
    *contacts.OPERATIONS,
    *aftersale.OPERATIONS,
    *hooks.OPERATIONS,
    *webhooks.OPERATIONS,
    *comments.OPERATIONS,
    *deliveries.OPERATIONS,
    *sales.OPERATIONS,
    *figures.OPERATIONS,
    *exports.OPERATIONS,
    *invoices.OPERATIONS,
    *ingest.OPERATIONS,
    *entrance.OPERATIONS,
)


async def _openapi_json(scope: Scope) -> Answer:
    return Answer(200, _openapi(), [(b"content-type", b"application/json")])


@cache
def _openapi() -> bytes:
    return msgspec.json.encode(openapi.document(OPERATIONS))


PLAIN: dict[str, Callable[[Scope], Awaitable[Answer]]] = {
    "/healthz": ops.health,
    "/readyz": ops.ready,
    "/metrics": ops.metrics,
    "/openapi.json": _openapi_json,
    "/asyncapi.json": ops.asyncapi_json,
    "/v1/streams/{stream}/ws": ops.socket,
    "/": pages.front,
    "/host": pages.host,
    "/pay": pages.pay,
    "/docs": pages.docs,
    "/s/{stream}": pages.viewer,
    "/static/{file:path}": pages.static,
    "/words.js": pages.spoken,
}


def routes() -> list[BaseRoute]:
    """Return the routes, one a path."""
    by_path: dict[str, list[Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, []).append(operation)
    return [
        *(
            Route(path, events.Feed(operations) if operations[0].streams else Path(operations))
            for path, operations in by_path.items()
        ),
        *(Route(path, ops.Plain(answer)) for path, answer in PLAIN.items()),
    ]


_BUY_HEAD, _BUY_TAIL = "/v1/offers/", "/orders"


class Application(Starlette):
    """Starlette, with a short way for the one call that a crowd makes at the same moment.

    Middleware and routing cost about as much as the rest of a buy; an operation's path answers
    every error by itself, so that nothing of them is missed.
    """

    def __init__(self, lifespan: Lifespan[Starlette]) -> None:
        super().__init__(
            routes=routes(),
            exception_handlers={404: _unknown, Exception: _broken},
            lifespan=lifespan,
        )
        self.router.redirect_slashes = False
        buys = [op for op in OPERATIONS if op.path == f"{_BUY_HEAD}{{id}}{_BUY_TAIL}"]
        self._buys = Path(buys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the life of the application."""
        if scope["type"] == "http":
            send = guarded(scope, send)
            path: str = scope["path"]
            if path.startswith(_BUY_HEAD) and path.endswith(_BUY_TAIL):
                offer = path[len(_BUY_HEAD) : -len(_BUY_TAIL)]
                if offer and "/" not in offer:
                    scope["path_params"] = {"id": offer}
                    await self._buys(scope, receive, send)
                    return
        await super().__call__(scope, receive, send)


async def _unknown(request: Request, error: Exception) -> Response:
    return _response(problem(Refused(Code.NOT_FOUND)))


async def _broken(request: Request, error: Exception) -> Response:
    return _response(answer_error(error))


def _response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers += answer.headers
    return response
