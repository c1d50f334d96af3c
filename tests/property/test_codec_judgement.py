"""Whatever bytes come, the codec returns a verdict; what two implementations agree on passes."""

from __future__ import annotations

import json
import math

import msgpack
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams import protocol
from streams.codec import Malformed, NotAMessage, decode, encode

LINES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=128)
KEYS = st.from_regex(r"[A-Za-z0-9._~-]{1,64}", fullmatch=True)
IDS = st.integers(-protocol.INT_MAX, protocol.INT_MAX)
QTYS = st.integers(1, 1000)
BUNDLES = st.lists(st.builds(protocol.BundleLine, offer=LINES, qty=QTYS), min_size=1, max_size=20)
BUYS = st.one_of(
    st.builds(protocol.Buy, id=IDS, offer=LINES, qty=QTYS, key=KEYS),
    st.builds(protocol.Buy, id=IDS, lines=BUNDLES, key=KEYS),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=9)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["type", "id", "t0", "qty", "key", "since", "token", "offer", "lines", "x"]
)
TYPES = st.sampled_from(["hello", "buy", "chat", "react", "ping", "pin", "nonsense"])

# A busy machine is no fault of the codec.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def is_verdict(verdict: object) -> bool:
    return isinstance(verdict, (protocol.Command, Malformed, NotAMessage))


@unhurried
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_get_a_verdict(payload: bytes, binary: bool) -> None:
    """Random bytes never raise."""
    assert is_verdict(decode(payload, binary, binary))


@unhurried
@given(TYPES, st.dictionaries(FIELDS, VALUES, max_size=6), st.booleans())
def test_any_map_gets_a_verdict(kind: str, fields: dict[str, object], binary: bool) -> None:
    """Nearly right messages never raise, and a refusal echoes the id whenever it can be read."""
    message = {"type": kind} | fields
    payload = msgpack.packb(message) if binary else json.dumps(message).encode()
    verdict = decode(payload, binary, binary)
    assert is_verdict(verdict)
    if isinstance(verdict, Malformed):
        number = message.get("id")
        readable = type(number) is int and abs(number) <= protocol.INT_MAX
        assert verdict.re == (number if readable else None)


@unhurried
@given(BUYS)
def test_other_implementations_are_understood(buy: protocol.Buy) -> None:
    """What the standard library's json and msgpack write is read as the same command."""
    message = {"type": "buy", **msgspec.to_builtins(buy)}
    assert decode(json.dumps(message).encode(), False, False) == buy
    assert decode(json.dumps(message, ensure_ascii=False).encode(), False, False) == buy
    assert decode(msgpack.packb(message), True, True) == buy


@unhurried
@given(st.floats(), st.booleans())
def test_floats_are_refused_or_end_the_connection(number: float, binary: bool) -> None:
    """No float is ever taken for an integer; one that is no number at all is no message."""
    message = {"type": "ping", "id": 1, "t0": number}
    payload = msgpack.packb(message) if binary else json.dumps(message).encode()
    expected = Malformed if math.isfinite(number) else NotAMessage
    assert isinstance(decode(payload, binary, binary), expected)


@unhurried
@given(st.text(max_size=50), IDS)
def test_other_implementations_understand_what_is_sent(text: str, number: int) -> None:
    """Both encodings of an event are read as the same map by json and msgpack."""
    event = protocol.Reject(re=number, code="closed", message=text)
    plain = json.loads(encode(event, msgpack=False))
    assert plain == msgpack.unpackb(encode(event, msgpack=True))
    assert plain == {"type": "reject", "re": number, "code": "closed", "message": text}
