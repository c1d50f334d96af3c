"""What the codec makes of payloads that a client may send, and of events that leave."""

from __future__ import annotations

import json
import types
from typing import Any, get_args

import msgpack
import msgspec
import pytest

from streams import protocol
from streams.codec import (
    EVENTS,
    FORMS,
    JSON,
    MESSAGE_CHARS_MAX,
    MSGPACK,
    Malformed,
    NotAMessage,
    Ready,
    decode,
    encode,
    frame,
)
from streams.codes import Code

PING: dict[str, Any] = {"type": "ping", "id": 7, "t0": 1}
KINDS = pytest.mark.parametrize("binary", [False, True], ids=["json", "msgpack"])


def judge(message: object, binary: bool) -> object:
    payload = msgpack.packb(message) if binary else json.dumps(message).encode()
    return decode(payload, binary, binary)


def refused(message: object, binary: bool) -> Malformed:
    verdict = judge(message, binary)
    assert isinstance(verdict, Malformed), verdict
    return verdict


@KINDS
def test_a_command_becomes_its_struct(binary: bool) -> None:
    """A well-formed command arrives as the struct of its type, unknown fields ignored."""
    message = {"type": "buy", "id": 1, "offer": "of_1", "qty": 2, "key": "k-1", "new": {"a": [1]}}
    assert judge(message, binary) == protocol.Buy(id=1, offer="of_1", qty=2, key="k-1")


@KINDS
@pytest.mark.parametrize("command", get_args(protocol.AnyCommand), ids=lambda c: c.__name__)
def test_null_equals_absent(command: type[protocol.Command], binary: bool) -> None:
    """Every optional field of every command takes null for absent."""
    samples: dict[str, Any] = {
        "text": "hi", "key": "k", "kind": "like", "t0": 1, "qty": 1, "add": 1, "token": "t",
        "version": 1, "every_s": 1,
    }  # fmt: skip
    message: dict[str, Any] = {"type": command.__struct_config__.tag, "id": 1}
    for field in msgspec.structs.fields(command):
        if field.required and field.name != "id":
            message[field.name] = samples.get(field.name, "x_1")
    if command is protocol.Buy:  # which of its fields are optional depends on its form
        message |= {"offer": "of_1", "qty": 1}
    plain = judge(message, binary)
    assert isinstance(plain, command)
    nulls = {f.name: None for f in msgspec.structs.fields(command) if f.name not in message}
    assert judge(message | nulls, binary) == plain


@KINDS
def test_a_buy_has_one_of_two_forms(binary: bool) -> None:
    """One offer, or lines; neither or both is refused with the field that is amiss."""
    buy: dict[str, Any] = {"type": "buy", "id": 1, "key": "k"}
    lines = [{"offer": "of_1", "qty": 1}, {"offer": "of_2", "qty": 2, "new": 1}]
    bundle = judge(buy | {"lines": lines, "offer": None, "qty": None}, binary)
    assert bundle == protocol.Buy(
        id=1,
        key="k",
        lines=[protocol.BundleLine(offer="of_1", qty=1), protocol.BundleLine(offer="of_2", qty=2)],
    )
    for fields, field in (
        ({}, "offer"), ({"qty": 1}, "offer"), ({"offer": "of_1"}, "qty"),
        ({"lines": None, "offer": "of_1", "qty": None}, "qty"),
        ({"lines": lines, "offer": "of_1"}, "lines"), ({"lines": lines, "qty": 1}, "lines"),
        ({"lines": []}, "lines"), ({"lines": lines * 11}, "lines"), ({"lines": "of_1"}, "lines"),
        ({"lines": [lines[0], {"offer": "of_1"}]}, "lines[1].qty"),
        ({"lines": [lines[0], {"offer": "of_1", "qty": 1001}]}, "lines[1].qty"),
        ({"lines": [{"offer": "of_\x00", "qty": 1}]}, "lines[0].offer"),
        ({"lines": [1]}, "lines[0]"),
    ):  # fmt: skip
        verdict = refused(buy | fields, binary)
        assert (verdict.code, verdict.field, verdict.re) == (Code.BAD_REQUEST, field, 1), fields


@KINDS
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"t0": "1"}, "t0"),
        ({"t0": 1.5}, "t0"),
        ({"t0": None}, "t0"),
        ({"t0": True}, "t0"),
        ({"t0": 2**53}, "t0"),
        ({"t0": 2**64 - 1}, "t0"),
        ({"t0": [[1]]}, "t0"),
        ({"type": "hello", "since": {"epoch": "e", "seq": 1}}, "since.cseq"),
        ({"type": "hello", "since": {"epoch": "e", "seq": -1, "cseq": 0}}, "since.seq"),
        ({"type": "hello", "since": {"epoch": "e\x00", "seq": 1, "cseq": 0}}, "since.epoch"),
        ({"type": "hello", "since": 3}, "since"),
        ({"type": "buy", "offer": "of_1", "qty": 0, "key": "k"}, "qty"),
        ({"type": "buy", "offer": "of_1", "qty": 1001, "key": "k"}, "qty"),
        ({"type": "buy", "offer": "of_1", "qty": 1, "key": ""}, "key"),
        ({"type": "buy", "offer": "of_1", "qty": 1, "key": "k\n"}, "key"),
        ({"type": "buy", "offer": "of_1", "qty": 1, "key": "k" * 65}, "key"),
        ({"type": "buy", "offer": "of_\x00", "qty": 1, "key": "k"}, "offer"),
        ({"type": "buy", "offer": "of_1\n", "qty": 1, "key": "k"}, "offer"),
        ({"type": "buy", "offer": "", "qty": 1, "key": "k"}, "offer"),
        ({"type": "chat", "text": "x" * 301, "key": "k"}, "text"),
        ({"type": "chat", "text": "a\x00b", "key": "k"}, "text"),
        ({"type": "react", "kind": "meh"}, "kind"),
        ({"type": "react", "kind": "like", "n": 21}, "n"),
        ({"type": 5}, "type"),
        ({"type": None}, "type"),
        ({"type": ["ping"]}, "type"),
    ],
)
def test_an_ill_typed_command_is_refused_with_its_field(
    change: dict[str, Any], field: str, binary: bool
) -> None:
    """What does not fit is `bad_request` with the field's path, under the command's id."""
    verdict = refused(PING | change, binary)
    assert (verdict.code, verdict.field, verdict.re) == (Code.BAD_REQUEST, field, 7)


@KINDS
def test_a_map_without_type_is_refused(binary: bool) -> None:
    """A map without `type` is a message, but a bad request."""
    verdict = refused({"id": 3}, binary)
    assert (verdict.code, verdict.field, verdict.re) == (Code.BAD_REQUEST, "type", 3)


@KINDS
@pytest.mark.parametrize("kind", ["zzz", "", "pinned", "welcome", "waitlisted", "Buy"])
def test_an_unknown_type_is_named_so(kind: str, binary: bool) -> None:
    """Unknown types, events among them, are `unknown_type`, whatever else is wrong."""
    verdict = refused({"type": kind, "id": 4, "t0": []}, binary)
    assert (verdict.code, verdict.re) == (Code.UNKNOWN_TYPE, 4)


@KINDS
@pytest.mark.parametrize("number", [True, "1", None, 1.0, [1], {"a": 1}, 2**53, -(2**53)])
def test_an_unreadable_id_is_null(number: object, binary: bool) -> None:
    """An `id` that is no integer within ±(2⁵³-1) is refused, with `re` null."""
    verdict = refused(PING | {"id": number}, binary)
    assert (verdict.code, verdict.field, verdict.re) == (Code.BAD_REQUEST, "id", None)


@KINDS
def test_the_greatest_ids_are_readable(binary: bool) -> None:
    """Both ends of the integer range are ids."""
    for number in (2**53 - 1, -(2**53) + 1):
        assert judge(PING | {"id": number}, binary) == protocol.Ping(id=number, t0=1)


@KINDS
def test_what_a_client_sent_is_not_echoed_whole(binary: bool) -> None:
    """A refusal is short, however long the value that is refused."""
    verdict = refused({"type": "react", "id": 1, "kind": "x" * 9000}, binary)
    assert len(verdict.message) <= MESSAGE_CHARS_MAX


@KINDS
@pytest.mark.parametrize("message", [[], 1, "x", None, True, [PING]])
def test_what_is_no_map_is_no_message(message: object, binary: bool) -> None:
    """The top level is a map, or the connection ends."""
    assert isinstance(judge(message, binary), NotAMessage)


@KINDS
def test_the_wrong_kind_of_frame_is_no_message(binary: bool) -> None:
    """Text where binary is due, and the other way round, is no message."""
    payload = encode(protocol.Pong(re=1, t0=1, now=1), binary)
    assert isinstance(decode(payload, not binary, binary), NotAMessage)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"type":"ping","id":1,"t0":NaN}',
        b'{"type":"ping","id":1,"t0":Infinity}',
        b'{"type":"zzz","id":1,"t0":-Infinity}',
        b'{"type":"ping","id":1,"t0":1,"x":NaN}',
        b'{"type":"ping","id":1,"t0":1e400}',
        b'{"type":"ping","id":-1E+999,"t0":1}',
        b'{"type":"zzz","id":1,"x":[{"y":1e400}]}',
        b'{"type":"ping","id":1,"t0":1}x',
        b'{"type":"ping","id":1,"t0":1}{}',
        b'{"type":"ping","id":1,"t0":01}',
        b'{"type":"ping","id":1,"t0":1,}',
        b"{'type':'ping'}",
        b'{"type":"ping","id":1,"t0":1,"x":"\xff"}',
        b'{"type":"ping","id":1,"t0":1,"x":"\xed\xa0\x80"}',
        b'{"type":"ping","id":1,"t0":1,"x":"\x01"}',
        b'{"type":"ping","id":1,"t0":1,"x":"\\ud800"}',
        b'{"type":"chat","id":1,"key":"k","text":"\\ud800 and more"}',
        b'{"type":"chat","id":1,"key":"k","text":"\\udc00\\ud800"}',
        b'{"type":"zzz","id":1,"x":' + b"[" * 7000 + b"]" * 7000 + b"}",
        b'{"type":"ping","id":1,"t0":' + b'{"a":' * 2500 + b"1" + b"}" * 2500 + b"}",
        b"[" * 16000,
    ],
)
def test_json_that_is_no_message(payload: bytes) -> None:
    """Malformed JSON, numbers that are none, surrogates and deep nesting end the connection."""
    assert isinstance(decode(payload, False, False), NotAMessage)


def test_numbers_that_are_merely_large_are_bad_requests() -> None:
    """A finite number, however many digits it has, and digits in a string end no connection."""
    digits = b"1" * 5_000
    for value in (b"1e300", b"-1.5E-400", digits, b'"1e400"'):
        verdict = decode(b'{"type":"ping","id":7,"t0":' + value + b"}", False, False)
        assert isinstance(verdict, Malformed), value[:20]
        assert (verdict.re, verdict.field) == (7, "t0")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa4type\xdb\xff\xff\xff\xff",
        msgpack.packb(PING) + b"\xc0",
        msgpack.packb(PING)[:-1],
        msgpack.packb(PING | {"t0": float("nan")}),
        msgpack.packb(PING | {"x": float("nan")}),
        msgpack.packb(PING | {"x": [{"y": float("-inf")}]}),
        msgpack.packb(PING | {"t0": b"1"}),
        msgpack.packb(PING | {"x": b"bytes"}),
        msgpack.packb(PING | {"x": msgpack.ExtType(3, b"1")}),
        msgpack.packb(PING | {"t0": msgpack.Timestamp(3)}),
        msgpack.packb({3: 4} | PING),
        msgpack.packb(PING | {"x": {3: 4}}),
        msgpack.packb(PING | {"x": {None: 4}}),
        msgpack.packb({b"type": b"ping"}),
        b"\x84\xa4type\xa4ping\xa2id\x01\xa2t0\x01\xa1x\x81\x81\x01\x01\x01",
        b"\x84\xa4type\xa4ping\xa2id\x01\xa2t0\x01\xa1x\xa1\xff",
        b"\x84\xa4type\xa4ping\xa2id\x01\xa2t0\x01\xa1x\xa3\xed\xa0\x80",
        b"\x84\xa4type\xa4ping\xa2id\x01\xa2t0\x01\xa1x" + b"\x91" * 16000 + b"\x90",
        b"\x83\xa4type\xa4ping\xa2id\x01\xa2t0" + b"\x81\xa1a" * 5000 + b"\x90",
    ],
)
def test_msgpack_that_is_no_message(payload: bytes) -> None:
    """What MessagePack has and the protocol has not ends the connection, in unknown fields too."""
    assert isinstance(decode(payload, True, True), NotAMessage)


@KINDS
def test_chat_in_any_script_passes(binary: bool) -> None:
    """Text that looks like MessagePack's other types byte by byte is still text."""
    for text in ("限時搶購！🔥", "déjà vu Ä Ö", "купить сейчас", "שלום", "ラストワン"):
        message = {"type": "chat", "id": 1, "text": text, "key": "k"}
        assert judge(message, binary) == protocol.Chat(id=1, text=text, key="k")


# --- sending --------------------------------------------------------------------------------


@KINDS
def test_what_is_sent_has_type_first_and_no_empty_fields(binary: bool) -> None:
    """`type` comes first and optional fields without a value are left out; `re` may be null."""
    payload = encode(protocol.Reject(re=None, code="closed", message="m"), binary)
    message = msgpack.unpackb(payload) if binary else json.loads(payload)
    assert list(message.items()) == [
        ("type", "reject"), ("re", None), ("code", "closed"), ("message", "m"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_the_header_has_the_shortest_form_of_the_length(length: int, header: bytes) -> None:
    """Each of the three forms of a frame's length is used from its first byte to its last."""
    assert frame(b"x" * length, binary=False) == header + b"x" * length
    assert frame(b"x" * length, binary=True) == b"\x82" + header[1:] + b"x" * length


def test_a_broadcast_is_built_once_for_each_subprotocol() -> None:
    """Every connection of a form gets the same bytes object."""
    event = protocol.Viewers(count=3)
    ready = Ready(event)
    for form in FORMS:
        assert ready.frame(form) is ready.frame(form)
    assert ready.frame(JSON) == frame(encode(event, False), False)
    assert ready.frame(MSGPACK) == frame(encode(event, True), True)
    assert ready.frame(EVENTS) == b'data: {"type":"viewers","count":3}\n\n'


def test_no_event_has_a_field_that_could_be_a_float_bin_or_ext() -> None:
    """Every value that can leave is null, bool, int, str, array or map, down to the leaves."""
    allowed = {type(None), bool, int, str}
    seen: set[object] = set()
    pending: list[Any] = list(get_args(protocol.AnyEvent))
    while pending:
        kind = pending.pop()
        if kind in seen:
            continue
        seen.add(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            pending.extend(field.type for field in msgspec.structs.fields(kind))
        elif isinstance(kind, types.UnionType) or get_args(kind):
            pending.extend(part for part in get_args(kind) if not isinstance(part, str))
        else:
            assert kind in allowed, kind
    assert seen
