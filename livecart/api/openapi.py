"""The OpenAPI 3.1 document, generated from the table of operations and nothing else.

Pure. Schemas are msgspec's; what a call may be refused with follows from the operation. Called by
`table` and by the test that holds the document to the schema of OpenAPI.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from livecart.api.calls import PAGE, PAGE_MAX
from livecart.api.operations import ROLES, Operation
from livecart.api.problems import Problem
from streams.codes import HTTP_STATUS, MESSAGE, Code

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"{(\w+)}")
#: Empty is absent, as browsers have it before the first event.
LAST_EVENT_ID = "^([^\\x00-\\x1f\\x7f-\\x9f]{0,64}:[0-9]{1,15}:[0-9]{1,15})?$"
_WHOLE = {"type": "integer", "minimum": 1}
#: What comes with a refusal beside its document.
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
    429: {"Retry-After": {"required": True, "description": "Seconds", "schema": _WHOLE}},
    503: {"Retry-After": {"required": True, "description": "Seconds", "schema": _WHOLE}},
}
_EVENT = {
    "type": "object",
    "description": "One event: `data` is JSON as /asyncapi.json has it, `id` a Last-Event-ID.",
    "required": ["data"],
    "properties": {
        "id": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document, the same for the same code."""
    kinds = _kinds(operations)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = paths.setdefault(operation.path, {})
        path[operation.method.lower()] = _operation(operation, of, components)
    made: dict[str, Any] = _tidy(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "livecart",
                "version": "1.0.0",
                "description": (
                    "Live shopping: streams, pins, flash offers and orders. Money is in minor"
                    " units, times are ms since the Unix epoch, null equals absent, unknown fields"
                    " are ignored."
                ),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                    "link": {
                        "type": "apiKey",
                        "in": "header",
                        "name": "Livecart-Checkout",
                        "description": "The token of a checkout link.",
                    },
                },
            },
        }
    )
    return made


def _kinds(operations: Iterable[Operation]) -> list[Any]:
    kinds: dict[Any, None] = {Problem: None}
    for operation in operations:
        for kind in (operation.body, operation.result):
            if kind is not None:
                kinds[kind] = None
    for operation in operations:
        if operation.query is not None:
            for field in msgspec.structs.fields(operation.query):
                kinds[field.type] = None
    return list(kinds)


def _operation(
    operation: Operation, of: dict[Any, Any], components: dict[str, Any]
) -> dict[str, Any]:
    module = operation.handle.__module__.rpartition(".")[2]
    made: dict[str, Any] = {
        "operationId": f"{module}.{operation.handle.__name__.strip('_')}",
        "tags": [module],
        "summary": operation.summary,
        "description": (operation.handle.__doc__ or "").strip(),
        "responses": _responses(operation, of),
    }
    if parameters := _parameters(operation, of):
        made["parameters"] = parameters
    if operation.body is not None:
        required = bool(components[operation.body.__name__].get("required"))
        made["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": of[operation.body]}},
        }
    elif operation.raw:
        made["requestBody"] = {"required": True, "content": {operation.raw_as: {"schema": {}}}}
    roles = ROLES[operation.who]
    made["security"] = [{"token": [role]} for role in roles] or [{}, {"token": []}]
    if operation.linked:
        made["security"] = [{"link": []}]
    if roles:
        made["description"] += f" Roles: {', '.join(roles)}."
    return made


def _parameters(operation: Operation, of: dict[Any, Any]) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(operation.path)
    ]
    if operation.keyed or operation.may_key:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": operation.keyed,
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9._~-]{1,64}$"},
            }
        )
    if operation.streams:
        parameters.append(
            {
                "name": "Last-Event-ID",
                "in": "header",
                "required": False,
                "description": "`epoch:seq:cseq`, the last `id` that came: what followed it is"
                " sent first.",
                "schema": {"type": "string", "pattern": LAST_EVENT_ID},
            }
        )
    if operation.query is not None:
        parameters += [
            {
                "name": field.encode_name,
                "in": "query",
                "required": False,
                "schema": _parameter(field.encode_name, of[field.type]),
            }
            for field in msgspec.structs.fields(operation.query)
        ]
    return parameters


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a query parameter: absent rather than null."""
    if name == "limit":
        return {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE}
    if name == "cursor":
        about = "The `next_cursor` of the page before, of the same list."
        return {"type": "string", "format": "cursor", "description": about}
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        return dict(kinds[0])
    if "enum" in schema:
        return {**schema, "enum": [word for word in schema["enum"] if word is not None]}
    return schema


def _responses(operation: Operation, of: dict[Any, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    if operation.streams:
        responses[str(operation.status)] = {
            "description": "Events without an end; the first is `welcome`.",
            "content": {"text/event-stream": {"schema": _EVENT}},
        }
    elif operation.media is not None:
        responses[str(operation.status)] = {
            "description": "As an attachment; cut off where it cannot be finished.",
            "content": {operation.media: {"schema": {"type": "string"}}},
        }
    elif operation.result is None:
        responses["204"] = {"description": "Done"}
    else:
        schema = of[operation.result]
        if operation.listed:
            schema = {
                "type": "object",
                "required": ["items", "next_cursor"],
                "properties": {
                    "items": {"type": "array", "items": schema},
                    "next_cursor": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
            }
        content = {"application/json": {"schema": schema}}
        responses[str(operation.status)] = {"description": "Done", "content": content}
        if operation.replays:
            responses["200"] = {"description": "Made by an earlier call", "content": content}
    for status, codes in _refusals(operation).items():
        words = "; ".join(f"`{code.value}`: {MESSAGE[code]}" for code in codes)
        responses[str(status)] = {
            "description": words,
            "content": {"application/problem+json": {"schema": of[Problem]}},
        }
        if headers := _HEADERS.get(status):
            responses[str(status)]["headers"] = headers
    return dict(sorted(responses.items()))


def _refusals(operation: Operation) -> dict[int, list[Code]]:
    codes = [Code.UNAUTHENTICATED, *operation.refusals, Code.INTERNAL, Code.RETRY]
    codes.append(Code.BAD_REQUEST)  # a token can pass a limit wherever it is sent
    if operation.body is not None or operation.raw:
        codes.append(Code.TOO_LARGE)
    if operation.who != "anyone":
        codes.append(Code.FORBIDDEN)
    if operation.method != "GET" and not operation.unpaced:
        codes.append(Code.RATE_LIMITED)
    by_status: dict[int, list[Code]] = {}
    for code in codes:
        by_status.setdefault(HTTP_STATUS[code], []).append(code)
    return by_status


def _tidy(value: Any) -> Any:
    """Return it with regular expressions as ECMA-262 has them: `$` where Python needs `\\Z`."""
    if isinstance(value, dict):
        return {
            key: item.replace(r"\Z", "$")
            if key == "pattern" and isinstance(item, str)
            else _tidy(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    return value
