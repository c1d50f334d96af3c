"""What is agreed on, packed and unpacked."""

from __future__ import annotations

import contextlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import protocol
from streams.codec import (
    JSON,
    JSON_DEFLATED,
    MSGPACK,
    MSGPACK_DEFLATED,
    OWN_DEFLATED_FROM,
    SHARED_DEFLATED_FROM,
    Ready,
    framed,
)
from streams.deflate import TooLarge, agree, pack, unpack
from streams.protocol import Chatted, Message
from tests.hub_rig import payloads

AGREED = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        (b"", None),
        (b"permessage-deflate", AGREED),
        (b"permessage-deflate; client_max_window_bits", AGREED),
        (b"permessage-deflate; server_no_context_takeover; client_no_context_takeover", AGREED),
        (b"permessage-deflate; server_max_window_bits=15", AGREED + b"; server_max_window_bits=15"),
        (b"permessage-deflate; server_max_window_bits=11", None),
        (b"permessage-deflate; server_max_window_bits=9, permessage-deflate", AGREED),
        (b"permessage-deflate; server_max_window_bits=99", None),
        (b"permessage-deflate; unheard_of", None),
        (b"x-webkit-deflate-frame, permessage-deflate", AGREED),
        (b"x-webkit-deflate-frame", None),
        (b";;;", None),
        (b"\xff\x00", None),
    ],
)
def test_what_is_offered_is_answered(offered: bytes, answer: bytes | None) -> None:
    """The first offer that can be kept is, without context on either side."""
    assert agree(offered) == answer


@given(st.binary(max_size=3_000))
def test_what_is_packed_can_be_unpacked(payload: bytes) -> None:
    """By ourselves, and by anybody's inflate."""
    assert unpack(pack(payload), 3_000) == payload
    anybodys = zlib.decompressobj(wbits=-12)
    assert anybodys.decompress(pack(payload) + b"\x00\x00\xff\xff") == payload


@given(st.binary(max_size=200))
def test_rubbish_is_refused_and_nothing_else(data: bytes) -> None:
    """However it is broken."""
    with contextlib.suppress(ValueError, TooLarge):
        assert len(unpack(data, 100)) <= 100


def test_what_would_be_too_large_is_never_made() -> None:
    """A kilobyte that would be a gigabyte stops at the bound."""
    with pytest.raises(TooLarge):
        unpack(pack(b"x" * 2**20), 2**14)
    assert unpack(pack(b"x" * 2**14), 2**14) == b"x" * 2**14


@pytest.mark.parametrize(("plain", "form"), [(JSON, JSON_DEFLATED), (MSGPACK, MSGPACK_DEFLATED)])
def test_long_messages_are_deflated_and_short_ones_are_not(plain: int, form: int) -> None:
    """One that many are sent is from a smaller size on: it is packed once for all of them."""

    def said(length: int) -> Chatted:
        message = Message(id="m", user="u", name="n", text="x" * length, at=1)
        return Chatted(at=1, cseq=1, message=message)

    for length, own, shared in (
        (0, False, False),
        (SHARED_DEFLATED_FROM, False, True),
        (OWN_DEFLATED_FROM, True, True),
    ):
        event = said(length)
        for frames, deflated in (
            (framed(event, form), own),
            (Ready(event).frame(form), shared),
            (Ready(event, shared=False).frame(form), own),
        ):
            assert bool(frames[0] & 0x40) is deflated
            assert list(payloads(frames)) == list(payloads(framed(event, plain)))
            assert (len(frames) < len(framed(event, plain))) is deflated
    assert framed(protocol.Viewers(count=3), form) == framed(protocol.Viewers(count=3), plain)
