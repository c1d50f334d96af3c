"""The table of everything that is served over HTTP, and the answers for what is not.

Owns the order of the routes (the hot one first) and nothing else. Called by `app`, and by the test
that holds the OpenAPI document to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from livecart.api import offers, openapi, ops, orders, pages, products, streams
from livecart.api.calls import Scope, answer_error
from livecart.api.operations import Operation, Path
from livecart.api.problems import Answer, problem
from streams.codes import Code
from streams.ports import Refused

OPERATIONS: tuple[Operation, ...] = (
    *orders.OPERATIONS,
    *offers.OPERATIONS,
    *streams.OPERATIONS,
    *products.OPERATIONS,
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
    "/": pages.front,
    "/host": pages.host,
    "/s/{stream}": pages.viewer,
    "/static/{file}": pages.static,
}


def routes() -> list[BaseRoute]:
    """Return the routes, one a path."""
    by_path: dict[str, list[Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, []).append(operation)
    return [
        *(Route(path, Path(operations)) for path, operations in by_path.items()),
        *(Route(path, ops.Plain(answer)) for path, answer in PLAIN.items()),
    ]


def handlers() -> dict[Any, Callable[[Request, Exception], Awaitable[Response]]]:
    """Return the answers for paths that are not served, and for what nothing else caught."""
    return {404: _unknown, Exception: _broken}


async def _unknown(request: Request, error: Exception) -> Response:
    return _response(problem(Refused(Code.NOT_FOUND)))


async def _broken(request: Request, error: Exception) -> Response:
    return _response(answer_error(error))


def _response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers += answer.headers
    return response
