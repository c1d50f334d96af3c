"""What an operation is, and how a path serves its operations.

Owns the order of a call: services, path, token, role, key, query, body, handler. The table made of
these values is what the OpenAPI document is generated from. Used by every noun of this folder.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import msgspec
from starlette.types import Message, Receive, Scope, Send

from livecart.api.calls import (
    Call,
    answer_error,
    answer_json,
    decode_body,
    decode_query,
    header,
    identify,
    key_of,
    read_body,
    write,
)
from livecart.api.flow import Flow, pour
from livecart.api.problems import Answer, problem
from livecart.patience import ANSWER_S, CHANGE_S, PROVIDER_CHANGE_S, bounded, go_on
from livecart.services import Site
from orders.deadline import within
from streams.codes import Code
from streams.pace import Kind
from streams.ports import Refused

CHANGES_MAX = 1_000  # under way at once, answered or not
OURS = (429, 500, 503)  # statuses that say nothing of the call itself

log = logging.getLogger("livecart.api")

Work = Callable[[], Awaitable[Any]]
Who = Literal["anyone", "member", "viewer", "host"]
ROLES: dict[Who, tuple[str, ...]] = {
    "anyone": (),
    "member": ("viewer", "host", "admin", "service"),
    "viewer": ("viewer",),
    "host": ("host", "admin", "service"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    handle: Callable[..., Awaitable[Any]]  # (call), or (call, body) where there is a body
    summary: str
    who: Who
    result: type | None = None  # None: 204, nothing
    status: int = 200
    listed: bool = False  # the result is a page of these
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    raw: bool = False  # the handler gets the body's bytes as they came: what is signed are those
    raw_as: str = "application/json"  # the media type of those
    bare: bool = False  # who calls has no token of ours: what he sends in its place is not judged
    keyed: bool = False  # needs an Idempotency-Key
    may_key: bool = False  # takes one where it is sent
    linked: bool = False  # a checkout link says who may, whatever token there is
    paced: Kind | None = None  # as what a change is counted; None: it depends on the caller's role
    unpaced: bool = False  # counted as nothing: who calls is no user
    media: str | None = None  # of an answer that flows, in place of a result
    streams: bool = False  # answered with Server-Sent Events, resumed by Last-Event-ID
    bounded: bool = False  # it bounds its own time
    asks_provider: bool = False  # of payments, which takes its time
    replays: bool = False  # a repeated key is answered 200 where the first was 201
    #: Of a body that came: what is answered in place of a trouble of ours, None: the trouble.
    spares: Callable[[bytes], Any] | None = None
    refusals: tuple[Code, ...] = ()  # beside those that the rest of this value implies


class Path:
    """Serves the operations of one path; an ASGI application."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = {operation.method: operation for operation in operations}
        self._decoders = {
            operation.method: msgspec.json.Decoder(operation.body)
            for operation in operations
            if operation.body is not None
        }
        methods = set(self.operations) | ({"HEAD"} if "GET" in self.operations else set())
        self._allow = [(b"allow", ", ".join(sorted(methods | {"OPTIONS"})).encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        method = scope["method"]
        operation = self.operations.get("GET" if method == "HEAD" else method)
        answer: Answer | Flow
        if operation is None:
            answer = self._other(method)
        else:
            try:
                if operation.spares is None:
                    answer = await self._serve(operation, scope, receive)
                else:
                    answer = await self._spared(operation, operation.spares, scope, receive)
            except Exception as error:  # noqa: BLE001 - told to the caller, logged there
                answer = answer_error(error)
        if isinstance(answer, Flow):
            await pour(answer, scope, receive, send, head=method == "HEAD")
        else:
            await write(send, answer, head=method == "HEAD")

    def _other(self, method: str) -> Answer:
        if method == "OPTIONS":
            return Answer(204, b"", list(self._allow))
        refused = Refused(Code.BAD_REQUEST, "This path has no such method.")
        return problem(refused, status=405, headers=self._allow)

    async def _spared(
        self, operation: Operation, spares: Callable[[bytes], Any], scope: Scope, receive: Receive
    ) -> Answer | Flow:
        """Serve one to whom a trouble of ours is not told where it would do harm."""
        site: Site = scope["state"]["site"]
        body = await read_body(scope, receive, site.body_bytes_max)

        async def again() -> Message:
            return {"type": "http.request", "body": body}

        try:
            return await self._serve(operation, scope, again)
        except Exception as error:  # noqa: BLE001 - told to the caller, logged there
            answer = answer_error(error)
            instead = spares(body) if answer.status in OURS else None
            return answer if instead is None else answer_json(instead)

    async def _serve(self, operation: Operation, scope: Scope, receive: Receive) -> Answer | Flow:
        site: Site = scope["state"]["site"]
        call = Call(site.services, scope)
        if not call.services.selling.ledger_health.well:  # known already: no need to wait for it
            raise Refused(Code.RETRY)
        if not operation.bare:
            call.identity = await identify(call.services.verifier, call.headers)
        admit(operation.who, call)
        if operation.method != "GET" and not operation.unpaced:
            in_time(call, operation.paced)
        if operation.keyed or (
            operation.may_key and header(call.headers, b"idempotency-key") is not None
        ):
            call.key = key_of(call.headers)
        if operation.query is not None:
            call.query = decode_query(operation.query, scope["query_string"])
        body: tuple[Any, ...] = ()
        if operation.body is not None:
            raw = await read_body(scope, receive, site.body_bytes_max)
            body = (decode_body(self._decoders[operation.method], raw),)
        elif operation.raw:
            body = (await read_body(scope, receive, site.body_bytes_max),)
        if operation.bounded:
            result = await operation.handle(call, *body)
        else:
            work = partial(operation.handle, call, *body)
            read = operation.method == "GET"
            if read:
                result = await bounded(work, ANSWER_S)
            else:
                most_s = PROVIDER_CHANGE_S if operation.asks_provider else CHANGE_S
                result = await _change(site, call, work, most_s)
        if isinstance(result, Answer | Flow):
            return result
        if operation.result is None:
            return Answer(204, b"", [])
        return answer_json(result, operation.status)


async def _change(site: Site, call: Call, work: Work, most_s: float) -> Any:
    """Return what a change made; raise `Refused(RETRY)` when its outcome is not known in time.

    It is not cut off then: what it commits must still be told to the viewers concerned.
    """
    if len(site.changes) >= CHANGES_MAX:
        raise Refused(Code.RETRY)
    change = site.changes.spawn(bounded(work, most_s), "change", expected=Exception)
    answered = await within(change, ANSWER_S)
    if not answered and call.patience_s > ANSWER_S:
        answered = await within(change, call.patience_s - ANSWER_S)
    if not answered:
        go_on(change)
        raise Refused(Code.RETRY)
    return change.result()


def in_time(call: Call, paced: Kind | None = None) -> None:
    """Raise `Refused` when this caller changes things faster than he may.

    Whoever brings no token has no name to be counted under: all of one address count as one.
    """
    identity, hub = call.identity, call.services.hub
    if identity is None:
        user, kind = f"\0{call.client}", paced or "sell"  # no token's `sub` begins so
    elif identity.role in ("service", "admin"):
        return
    else:
        user, kind = identity.sub, paced or ("host" if identity.role == "host" else "sell")
    if wait_ms := hub.wait_ms(user, kind):
        hub.meter.hasty += 1
        raise Refused(Code.RATE_LIMITED, retry_after_ms=wait_ms)


def admit(who: Who, call: Call) -> None:
    """Raise `Refused` when this caller's role may not call such an operation."""
    if who == "anyone":
        return
    if call.identity is None:
        raise Refused(Code.UNAUTHENTICATED)
    if call.identity.role not in ROLES[who]:
        raise Refused(Code.FORBIDDEN)
