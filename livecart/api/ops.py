"""What operators and tools ask: health, readiness, metrics and the two specs.

Readiness asks Redis, the gate's Redis and Postgres within a bound; health asks nothing, so that a
process is not killed because of what it depends on.
"""

from __future__ import annotations

import asyncio
import os
from functools import cache
from typing import Any

import asyncpg
import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from redis.exceptions import RedisError
from starlette.types import Receive, Scope, Send

from livecart.api.calls import answer_json, write
from livecart.api.problems import Answer, problem
from livecart.services import Services, Site
from orders.ledger.ledger import LedgerAway
from orders.ledger.migrate import expected
from orders.stock.cluster import any_answers
from streams.codes import Code
from streams.ports import Refused
from streams.spec import asyncapi

READY_S = 1.0


class Plain:
    """Serves one answer without token or services; an ASGI application for GET."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer  # async (scope) -> Answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        method = scope["method"]
        if method in ("GET", "HEAD"):
            answer = await self._answer(scope)
        elif method == "OPTIONS":
            answer = Answer(204, b"", [(b"allow", b"GET, HEAD, OPTIONS")])
        else:
            refused = Refused(Code.BAD_REQUEST, "This path has no such method.")
            answer = problem(refused, 405, [(b"allow", b"GET, HEAD, OPTIONS")])
        await write(send, answer, head=method == "HEAD")


async def health(scope: Scope) -> Answer:
    """Say that the process runs."""
    return answer_json({"status": "ok"})


async def ready(scope: Scope) -> Answer:
    """Say whether calls can be served, and if not, what is missing."""
    site: Site = scope["state"]["site"]
    if site.built is None:
        return problem(Refused(Code.RETRY, f"Waiting for {site.waits_for}."))
    if site.draining:
        return problem(Refused(Code.RETRY, "Draining."))
    found = await asyncio.gather(_redis(site.built), _gate(site.built), _postgres(site.built))
    missing = [word for word in found if word is not None]
    if missing:
        return problem(Refused(Code.RETRY, "; ".join(missing)))
    return answer_json({"status": "ready"})


async def _redis(services: Services) -> str | None:
    """Say so when Redis is gone whole: of a cluster any node that answers is enough.

    Else the loss of one would take all processes out of service, and with them the others' streams.
    """
    try:
        async with asyncio.timeout(READY_S):
            await any_answers(services.redis)
    except (RedisError, OSError, TimeoutError):
        return "Redis does not answer"
    return None


async def _gate(services: Services) -> str | None:
    """Say so when the gate is gone whole, as of Redis."""
    if services.settings.gate_at == services.settings.redis_url:
        return None
    try:
        async with asyncio.timeout(READY_S):
            await any_answers(services.gate.client)
    except (RedisError, OSError, TimeoutError):
        return "the gate's Redis does not answer"
    return None


async def _postgres(services: Services) -> str | None:
    try:
        async with asyncio.timeout(READY_S):
            applied = await services.catalog.schema_files()
    except (LedgerAway, TimeoutError):
        return "Postgres does not answer"
    except asyncpg.UndefinedTableError:
        applied = frozenset()
    if lacking := expected() - applied:
        return f"the database lacks {min(lacking)}: run `livecart migrate`"
    return None


async def metrics(scope: Scope) -> Answer:
    """Return the figures of all processes of this server, or of this one where it is alone."""
    text = await asyncio.to_thread(_metrics)
    return Answer(200, text, [(b"content-type", CONTENT_TYPE_LATEST.encode())])


def _metrics() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:  # prometheus-client's own switch
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


async def socket(scope: Scope) -> Answer:
    """Say that a WebSocket is served here; its upgrade never comes this way."""
    refused = Refused(Code.BAD_REQUEST, "Open a WebSocket here.")
    return problem(refused, 426, [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")])


async def asyncapi_json(scope: Scope) -> Answer:
    """Return the spec of the WebSocket."""
    return Answer(200, _asyncapi(), [(b"content-type", b"application/json")])


@cache
def _asyncapi() -> bytes:
    return msgspec.json.encode(asyncapi())
