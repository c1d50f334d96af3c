"""TypeScript declarations of protocol v1, generated from `protocol`, `codes` and nothing else.

Owns how a struct looks in TypeScript; must never know a page or a file. Called by whoever writes
`protocol.d.ts`, and by the test that holds the published file to the code.
"""

from __future__ import annotations

import inspect as python_inspect
from typing import Any, get_args

import msgspec
from msgspec import inspect

from streams import protocol
from streams.codes import Close, Code

HEAD = """\
// Protocol v1 in TypeScript: objects, commands, events, codes.
//
// Generated from streams/protocol.py; do not edit: `python -m livecart.bundle` writes it.
// Money is an integer in the currency's minor unit, times are integer milliseconds since the Unix
// epoch by the server's clock. What is optional is left out when it has no value.
"""

#: Numbers that the log gives to every event of a sequence, though the struct has a default.
_ALWAYS = frozenset({"seq", "cseq"})

_OBJECTS = (
    protocol.Product,
    protocol.Stream,
    protocol.Offer,
    protocol.Pin,
    protocol.Order,
    protocol.Message,
    protocol.You,
    protocol.Since,
    protocol.BundleLine,
)
_UNIONS = (
    ("AnyCommand", "What a client sends.", protocol.AnyCommand),
    ("AnyMain", "The main sequence: in one order for everybody.", protocol.AnyMain),
    ("AnyChat", "The chat sequence.", protocol.AnyChat),
    ("AnyOrderEvent", "What became of an order; its buyer's alone.", protocol.AnyOrderEvent),
    ("AnyEvent", "What the server sends.", protocol.AnyEvent),
)
_ALIASES = ("StreamStatus", "OfferStatus", "OrderStatus", "OfferMode", "Payment", "ReactionKind")
_NAMED = {frozenset(get_args(getattr(protocol, name))): name for name in _ALIASES}


def declarations() -> str:
    """Return the file, the same for the same code."""
    structs = (*_OBJECTS, *get_args(protocol.AnyCommand), *get_args(protocol.AnyEvent))
    parts = [HEAD]
    parts += [
        f"export type {name} = {_words(get_args(getattr(protocol, name)))};\n" for name in _ALIASES
    ]
    parts += [_struct(kind) for kind in structs]
    parts += [
        f"/** {about} */\nexport type {name} =\n"
        + "\n".join(f"  | {kind.__name__}" for kind in get_args(union))
        + ";\n"
        for name, about, union in _UNIONS
    ]
    parts += [
        "/** Why a command or a call was refused. */\n"
        f"export type RejectCode =\n{_lines(repr(code.value) for code in Code)};\n",
        "/** Why a connection ended; beside these, those of WebSocket itself. */\n"
        f"export type CloseCode =\n{_lines(str(close.value) for close in Close)};\n",
    ]
    return "\n".join(parts)


def _lines(members: Any) -> str:
    return "\n".join(f"  | {member}".replace("'", '"') for member in members)


def _words(values: tuple[object, ...]) -> str:
    return " | ".join(f'"{value}"' for value in values)


def _struct(kind: type[msgspec.Struct]) -> str:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    lines = []
    if about := kind.__dict__.get("__doc__"):
        lines.append(_comment(python_inspect.cleandoc(about)))
    lines.append(f"export interface {kind.__name__} {{")
    if info.tag is not None:
        lines.append(f'  {info.tag_field}: "{info.tag}";')
    for field in info.fields:
        optional = not field.required and field.encode_name not in _ALWAYS
        bounds = _bounds(field.type)
        absent = f"Absent: {field.default}." if optional and _said(field.default) else ""
        if note := " ".join(filter(None, (bounds, absent))):
            lines.append(f"  /** {note} */")
        mark = "?" if optional else ""
        lines.append(f"  {field.encode_name}{mark}: {_type(field.type, optional=optional)};")
    return "\n".join([*lines, "}\n"])


def _said(default: object) -> bool:
    return default is not None and default is not msgspec.NODEFAULT


def _comment(text: str) -> str:
    lines = text.replace("*/", "* /").split("\n")
    if len(lines) == 1:
        return f"/** {lines[0]} */"
    return "\n".join(["/**", *(f" * {line}".rstrip() for line in lines), " */"])


def _bounds(kind: inspect.Type) -> str:
    """Say what a value is held to, where TypeScript cannot."""
    if isinstance(kind, inspect.UnionType):
        return next(filter(None, map(_bounds, kind.types)), "")
    if isinstance(kind, inspect.IntType) and kind.ge is not None and kind.le is not None:
        return f"{kind.ge} to {kind.le}." if kind.le < protocol.INT_MAX else ""
    if isinstance(kind, inspect.StrType) and kind.max_length is not None:
        return f"At most {kind.max_length} characters."
    if isinstance(kind, inspect.ListType) and kind.max_length is not None:
        return f"At most {kind.max_length}."
    return ""


def _type(kind: inspect.Type, *, optional: bool = False) -> str:
    match kind:
        case inspect.Metadata():
            return _type(kind.type, optional=optional)
        case inspect.IntType():
            return "number"
        case inspect.StrType():
            return "string"
        case inspect.BoolType():
            return "boolean"
        case inspect.LiteralType():
            return _NAMED.get(frozenset(kind.values), _words(kind.values))
        case inspect.ListType():
            inner = _type(kind.item_type)
            return f"({inner})[]" if " " in inner else f"{inner}[]"
        case inspect.DictType():
            return f"Record<{_type(kind.key_type)}, {_type(kind.value_type)}>"
        case inspect.StructType():
            return kind.cls.__name__
        case inspect.NoneType():
            return "null"
        case inspect.UnionType():
            inner_kinds = [k for k in kind.types if not (optional and _is_none(k))]
            return " | ".join(_type(inner) for inner in inner_kinds)
        case _:
            raise TypeError(f"no TypeScript for {kind!r}")


def _is_none(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.NoneType)
