"""The AsyncAPI document says what the code does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import jsonschema
import pytest

from streams import protocol
from streams.codec import Malformed, decode, encode
from streams.spec import asyncapi

DOCUMENT = asyncapi()
LIMITS: list[dict[str, Any]] = [
    {"type": "buy", "id": 1, "offer": "of_1", "qty": 1, "key": "k"},
    {"type": "buy", "id": 1, "offer": "of_1", "qty": 1, "key": "k\n"},
    {"type": "buy", "id": 1, "offer": "of_1", "qty": 0, "key": "k"},
    {"type": "buy", "id": 1, "offer": "of_1", "qty": 1, "key": "é"},
    {"type": "buy", "id": 1, "offer": "a\x00", "qty": 1, "key": "k"},
    {"type": "buy", "id": 1, "qty": 1, "key": "k"},
    {"type": "buy", "id": 1, "key": "k"},
    {"type": "buy", "id": 1, "lines": [{"offer": "of_1", "qty": 1}], "key": "k"},
    {"type": "buy", "id": 1, "lines": [{"offer": "of_1", "qty": 1}] * 20, "key": "k"},
    {"type": "buy", "id": 1, "lines": [{"offer": "of_1", "qty": 1}] * 21, "key": "k"},
    {"type": "buy", "id": 1, "lines": [], "key": "k"},
    {"type": "buy", "id": 1, "lines": [{"offer": "of_1", "qty": 0}], "key": "k"},
    {"type": "buy", "id": 1, "lines": [{"offer": "of_1"}], "key": "k"},
    {"type": "buy", "id": 1, "lines": [{"offer": "o", "qty": 1}], "offer": "of_1", "key": "k"},
    {"type": "buy", "id": 1, "lines": [{"offer": "o", "qty": 1}], "qty": 1, "key": "k"},
    {"type": "buy", "id": 1, "lines": [{"offer": "o", "qty": 1}], "qty": None, "key": "k"},
    {"type": "buy", "id": 1, "lines": None, "offer": "of_1", "qty": 1, "key": "k"},
    {"type": "extend", "id": 1, "order": "or_1", "version": 1},
    {"type": "extend", "id": 1, "order": "or_1", "version": 0},
    {"type": "chat", "id": 1, "text": "限時\n搶購", "key": "k"},
    {"type": "chat", "id": 1, "text": "x" * 301, "key": "k"},
    {"type": "react", "id": 1, "kind": "like", "n": None},
    {"type": "react", "id": 1, "kind": "like", "n": 21},
    {"type": "hello", "id": 1, "since": {"epoch": "e", "seq": 1, "cseq": -1}},
]


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node:
        if isinstance(inner, (dict, list)):
            yield from walk(inner)


def resolve(reference: str) -> Any:
    node: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        node = node[step]
    return node


def valid(message: dict[str, Any], name: str) -> bool:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return not list(jsonschema.Draft7Validator(schema).iter_errors(message))


def test_every_message_is_in_it_and_every_reference_leads_somewhere() -> None:
    """All commands and events are named, and no `$ref` is broken."""
    kinds = {*get_args(protocol.AnyCommand), *get_args(protocol.AnyEvent)}
    payloads = {m["payload"]["$ref"] for m in DOCUMENT["components"]["messages"].values()}
    assert payloads == {f"#/components/schemas/{kind.__name__}" for kind in kinds}
    for node in walk(DOCUMENT):
        if "$ref" in node:
            assert resolve(node["$ref"])


def test_it_is_the_same_each_time() -> None:
    """Generating twice gives the same bytes, so that a published file can be compared."""
    assert json.dumps(asyncapi()) == json.dumps(DOCUMENT)


def test_no_pattern_is_python_only() -> None:
    """Patterns are ECMAScript: `\\Z` would be a letter there."""
    patterns = [node["pattern"] for node in walk(DOCUMENT) if isinstance(node.get("pattern"), str)]
    assert patterns
    assert not [pattern for pattern in patterns if "\\Z" in pattern]


@pytest.mark.parametrize("message", LIMITS, ids=repr)
def test_it_accepts_what_the_codec_accepts(message: dict[str, Any]) -> None:
    """The limits in the document are those that the server holds clients to."""
    name = next(
        kind.__name__
        for kind in get_args(protocol.AnyCommand)
        if kind.__struct_config__.tag == message["type"]
    )
    accepted = not isinstance(decode(json.dumps(message).encode(), False, False), Malformed)
    if not message.get("key", "").endswith("\n"):  # Python's `$`; ECMAScript's refuses it
        assert valid(message, name) is accepted


def test_what_is_sent_fits_it() -> None:
    """An event as it leaves is valid by the document, optional fields left out."""
    pin = protocol.Product(id="pr", shop="s", sku="x", title="t", price_minor=1, currency="TWD")
    event = protocol.Pinned(at=1, seq=1, pin=protocol.Pin(id="pin_1", product=pin, position=0))
    assert valid(json.loads(encode(event, msgpack=False)), "Pinned")
    assert not valid({"type": "pinned", "at": 1}, "Pinned")
