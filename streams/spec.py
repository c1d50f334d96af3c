"""AsyncAPI 3.0 of the WebSocket, generated from `protocol`, `codes` and nothing else.

Owns which command gets which answers; must never know a connection. Called by whoever serves
`/asyncapi.json` and by the test that holds the published file to the code.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from streams import protocol
from streams.codes import Close, Code
from streams.protocol import (
    FRAME_BYTES_MAX,
    HOST_COMMANDS,
    JSON_SUBPROTOCOL,
    MSGPACK_SUBPROTOCOL,
    AnyCommand,
    AnyEvent,
    AnyOrderEvent,
)

_REF = "#/components/schemas/{name}"
_CHANNEL = {"$ref": "#/channels/stream"}

#: What a command is answered with, beside `reject`; a host's commands and the rest: `ok`.
_ANSWERS: dict[type[msgspec.Struct], tuple[type[msgspec.Struct], ...]] = {
    protocol.Hello: (protocol.Welcome,),
    # reserved or confirmed, any status when replayed; of `lines`, a bundle
    protocol.Buy: (*get_args(AnyOrderEvent), protocol.Bundle),
    protocol.Cancel: (protocol.OrderCancelled,),
    # reserved; confirmed or shipped when an extension that counted before is asked for again
    protocol.Extend: (protocol.OrderReserved, protocol.OrderConfirmed, protocol.OrderShipped),
    # a place on the list, or what a buy is answered with
    protocol.Waitlist: (protocol.Waitlisted, *get_args(AnyOrderEvent)),
    protocol.Ping: (protocol.Pong,),
    protocol.React: (),
}

#: What `Buy.__post_init__` holds a buy to: null equals absent.
_NONE = {"type": "null"}
_BUY_FORMS: list[dict[str, Any]] = [
    {
        "required": ["offer", "qty"],
        "properties": {"offer": {"type": "string"}, "qty": {"type": "integer"}, "lines": _NONE},
    },
    {
        "required": ["lines"],
        "properties": {"offer": _NONE, "qty": _NONE, "lines": {"type": "array"}},
    },
]


def asyncapi() -> dict[str, Any]:
    """Return the document, the same for the same code, keys in a fixed order."""
    commands, events = get_args(AnyCommand), get_args(AnyEvent)
    messages = {_key(kind): _message(kind) for kind in (*commands, *events)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "livecart",
            "version": "1.0.0",
            "description": (
                f"Protocol v1. Subprotocol {JSON_SUBPROTOCOL} (text frames, the default) or "
                f"{MSGPACK_SUBPROTOCOL} (binary frames, the same maps). One message a frame, "
                f"{FRAME_BYTES_MAX} bytes at the most; the first is hello."
            ),
        },
        "defaultContentType": "application/json",
        "channels": {
            "stream": {
                "address": "/v1/streams/{stream}/ws",
                "parameters": {"stream": {"description": "The id of the stream, st_…"}},
                "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in messages},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            **{_key(command): _command(command) for command in commands},
            "event": {"action": "send", "channel": _CHANNEL, "messages": _listed(events)},
        },
        "components": {"messages": messages, "schemas": _schemas((*commands, *events))},
        "x-close-codes": {str(close.value): close.name.lower() for close in Close},
        "x-reject-codes": [code.value for code in Code],
    }


def _tag(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def _key(kind: type[msgspec.Struct]) -> str:
    """Return the message's key: `chat` is a command, and an event too."""
    side = "command" if issubclass(kind, protocol.Command) else "event"
    return f"{side}.{_tag(kind)}"


def _message(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"name": _tag(kind), "payload": {"$ref": _REF.format(name=kind.__name__)}}


def _listed(kinds: tuple[type[msgspec.Struct], ...]) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/stream/messages/{_key(kind)}"} for kind in kinds]


def _command(kind: type[msgspec.Struct]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "action": "receive",
        "channel": _CHANNEL,
        "messages": _listed((kind,)),
    }
    if kind in HOST_COMMANDS:
        operation["summary"] = "A host's command."
    if answers := _ANSWERS.get(kind, (protocol.Ok,)):
        operation["reply"] = {
            "channel": _CHANNEL,
            "messages": _listed((*answers, protocol.Reject)),
        }
    return operation


def _schemas(kinds: tuple[type[msgspec.Struct], ...]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    components[protocol.Buy.__name__]["oneOf"] = _BUY_FORMS
    return {name: _plain(components[name]) for name in sorted(components)}


def _plain(schema: Any) -> Any:
    r"""Rewrite what only Python's regular expressions know: `\Z` is `$` in ECMAScript."""
    if isinstance(schema, dict):
        plain = {key: _plain(value) for key, value in schema.items()}
        if isinstance(pattern := plain.get("pattern"), str):
            plain["pattern"] = pattern.removesuffix(r"\Z") + "$" * pattern.endswith(r"\Z")
        return plain
    return [_plain(item) for item in schema] if isinstance(schema, list) else schema
