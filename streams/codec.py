"""Payloads to commands, events to ready frames: the limits of protocol v1 on the wire.

Owns the forms in which an event is written (the two subprotocols of the WebSocket, each plain or
deflated, and the text of a stream of Server-Sent Events) and the judgement of a payload: a command,
a command that is refused with `reject`, or not a message at all (close 4400). It must never know a
socket, a room or a token. Called by `session` for each payload and by `hub` and `session` for each
event sent.
Outcomes are values; nothing here raises because of what a client sent.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from streams.codes import MESSAGE, Code
from streams.deflate import pack
from streams.protocol import (
    COMMANDS,
    INT_MAX,
    AnyCommand,
    ChatEvent,
    ChatSkipped,
    Event,
    Main,
    Snapshot,
)

#: How a connection wants its events: as text frames, as binary frames, as Server-Sent Events, and
#: as frames that may be deflated.
JSON, MSGPACK, EVENTS, JSON_DEFLATED, MSGPACK_DEFLATED = FORMS = range(5)
BINARY_FORMS = (MSGPACK, MSGPACK_DEFLATED)
DEFLATED_FORMS = (JSON_DEFLATED, MSGPACK_DEFLATED)
#: Payloads from so many bytes on are deflated: of what many are sent, and of what one is.
SHARED_DEFLATED_FROM, OWN_DEFLATED_FROM = 100, 1_000

MESSAGE_CHARS_MAX = 200  # of a reject: msgspec quotes what the client sent, up to a whole frame

_TEXT, _BINARY = 0x81, 0x82  # FIN and the opcode
_DEFLATED = 0x40  # RSV1

_json_command: msgspec.json.Decoder[AnyCommand] = msgspec.json.Decoder(AnyCommand)
_msgpack_command: msgspec.msgpack.Decoder[AnyCommand] = msgspec.msgpack.Decoder(AnyCommand)
_json_encode = msgspec.json.Encoder().encode
_msgpack_encode = msgspec.msgpack.Encoder().encode

# RecursionError: nesting deeper than the interpreter allows. TypeError: a map as the key of a map.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError)


class NotAMessage(msgspec.Struct, frozen=True):
    """The payload is no message: close 4400."""

    reason: str


class Malformed(msgspec.Struct, frozen=True, kw_only=True):
    """The payload is a message but not a command: `reject`, and the connection stays."""

    type: str | None  # as it was sent, known or not; None when it could not be read
    re: int | None
    code: Literal[Code.BAD_REQUEST, Code.UNKNOWN_TYPE]
    field: str | None
    message: str


Judged = AnyCommand | Malformed | NotAMessage


class _Outline(msgspec.Struct):
    """The two fields that an answer to a refused command needs, their types not yet looked at."""

    id: msgspec.Raw = msgspec.Raw(b"")
    type: msgspec.Raw = msgspec.Raw(b"")


_json_outline = msgspec.json.Decoder(_Outline)
_msgpack_outline = msgspec.msgpack.Decoder(_Outline)


def decode(payload: bytes, binary_frame: bool, msgpack: bool) -> Judged:
    """Judge one payload of a connection whose subprotocol is MessagePack or JSON."""
    if binary_frame is not msgpack:
        return NotAMessage("wrong kind of frame")
    try:
        if msgpack:
            if _SUSPECT.search(payload, 1) is not None and _foreign(payload):
                return NotAMessage("only nil, bool, int, str, array and map with string keys")
            return _msgpack_command.decode(payload)
        if not payload.isascii():
            payload.decode()  # msgspec does not look into the strings that it skips
        return _json_command.decode(payload)
    except msgspec.ValidationError as error:
        return _refuse(payload, msgpack, str(error))
    except _UNREADABLE:
        return NotAMessage("unparsable")


# --- the slow path: only for what is refused or looks odd ------------------------------------

# Bytes that may begin a map inside, bin, ext, float or a negative number, or that may be part of
# a string that is not UTF-8. Typed decoding skips unknown fields without a look at such things;
# the bytes are rare in well-formed commands but for non-Latin chat.
_SUSPECT = re.compile(rb"[\x80-\x8f\xc1\xc4-\xcb\xd4-\xd8\xde-\xff]")


def _foreign(payload: bytes) -> bool:
    """Tell whether MessagePack holds what the protocol has no place for, however deep.

    A finite float is not foreign here: the field that has it is named in a `bad_request`.
    """
    pending: list[Any] = [msgspec.msgpack.decode(payload)]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if not all(type(key) is str for key in value):
                return True
            pending.extend(value.values())
        elif isinstance(value, (list, tuple)):
            pending.extend(value)
        elif isinstance(value, float):
            if value - value != 0:  # NaN and both infinities
                return True
        elif value is not None and not isinstance(value, (str, int)):
            return True
    return False


def _infinite(payload: bytes) -> bool:
    """Tell whether JSON has a number that no float can hold, such as 1e400, however deep.

    One in a field that a good command ignores is ignored with it: looking for one would cost every
    command half as much again.
    """
    try:
        msgspec.json.decode(payload)
    except msgspec.ValidationError as error:
        return str(error).startswith("Number out of range")
    return False


def _refuse(payload: bytes, msgpack: bool, error: str) -> Malformed | NotAMessage:
    try:
        if msgpack:
            if _foreign(payload):
                return NotAMessage("only nil, bool, int, str, array and map with string keys")
            outline = _msgpack_outline.decode(payload)
        elif _infinite(payload):
            return NotAMessage("a number without an end")
        else:
            outline = _json_outline.decode(payload)
    except _UNREADABLE:
        return NotAMessage("not a map")
    number = _value(outline.id, msgpack)
    readable = type(number) is int and -INT_MAX <= number <= INT_MAX
    re_ = number if readable else None
    kind = _value(outline.type, msgpack)
    if not isinstance(kind, str):
        kind = None
    elif kind not in COMMANDS:
        return Malformed(
            type=kind,
            re=re_,
            code=Code.UNKNOWN_TYPE,
            field="type",
            message=MESSAGE[Code.UNKNOWN_TYPE],
        )
    field, message = _locate(error)
    return Malformed(type=kind, re=re_, code=Code.BAD_REQUEST, field=field, message=message)


def _value(raw: msgspec.Raw, msgpack: bool) -> Any:
    """Return the value of one field of an outline, None when it is absent or cannot be read."""
    if not bytes(raw):
        return None
    try:
        return msgspec.msgpack.decode(raw) if msgpack else msgspec.json.decode(raw)
    except _UNREADABLE:
        return None


_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`\Z")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`\Z")


def _locate(error: str) -> tuple[str | None, str]:
    """Split msgspec's words into the path of the field and what is wrong with it."""
    field = ""
    if found := _PATH.search(error):
        field, error = found["path"], error[: found.start()]
    if missing := _MISSING.search(error):
        field = f"{field}.{missing['name']}" if field else missing["name"]
    if " matching regex " in error:  # a pattern is no help to a person
        error = "Characters or length that are not allowed"
    return field or None, error[:MESSAGE_CHARS_MAX]


# --- sending --------------------------------------------------------------------------------


def encode(event: Event, msgpack: bool) -> bytes:
    """Return the payload of an event in one of the two subprotocols."""
    return _msgpack_encode(event) if msgpack else _json_encode(event)


def frame(payload: bytes, binary: bool, *, deflated: bool = False) -> bytes:
    """Return a whole, unmasked server frame around a payload."""
    first, length = (_BINARY if binary else _TEXT), len(payload)
    if deflated:
        first |= _DEFLATED
    if length < 126:
        return bytes((first, length)) + payload
    if length < 65_536:
        return bytes((first, 126)) + length.to_bytes(2, "big") + payload
    return bytes((first, 127)) + length.to_bytes(8, "big") + payload


def framed(event: Event, form: int, deflated_from: int = OWN_DEFLATED_FROM) -> bytes:
    """Return an event as one connection of that form is sent it."""
    if form == EVENTS:
        # JSON has no line break of its own.
        return b"%bdata: %b\n\n" % (_mark(event), _json_encode(event))
    binary = form in BINARY_FORMS
    payload = encode(event, binary)
    if form in DEFLATED_FORMS and len(payload) >= deflated_from:
        return frame(pack(payload), binary, deflated=True)
    return frame(payload, binary)


def _mark(event: Event) -> bytes:
    """Return how an event moves a position; the id that comes of it is made by `places`.

    An id has both sequences, and main and chat do not come to everybody in one order: it cannot be
    built once.
    """
    if isinstance(event, Main):
        return b"id: m%d\n" % event.seq
    if isinstance(event, ChatEvent | ChatSkipped):
        return b"id: c%d\n" % event.cseq
    if isinstance(event, Snapshot):
        if event.recovered:
            return b"id: =\n"  # what was missed follows, from where the client was
        return b"id: p%b:%d:%d\n" % (event.epoch.encode(), event.seq, event.cseq)
    return b""


class Ready:
    """One event as every connection of a form is sent it, built at most once for each.

    `shared`: many connections are sent it, so that deflating it is worth while.
    """

    __slots__ = ("_deflated_from", "_frames", "event")

    def __init__(self, event: Event, *, shared: bool = True) -> None:
        self.event = event
        self._deflated_from = SHARED_DEFLATED_FROM if shared else OWN_DEFLATED_FROM
        self._frames: list[bytes | None] = [None] * len(FORMS)  # each set by the first who wants it

    def frame(self, form: int) -> bytes:
        """Return what is written in that form; the same object each time."""
        built = self._frames[form]
        if built is None:
            built = self._frames[form] = framed(self.event, form, self._deflated_from)
        return built
