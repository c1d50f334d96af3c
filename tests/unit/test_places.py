"""Where a viewer of Server-Sent Events is: read, and written."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import protocol
from streams.codec import EVENTS, encode, framed
from streams.places import Place, position
from streams.ports import Refused
from streams.protocol import INT_MAX, Since

NUMBERS = st.integers(0, INT_MAX)


@given(st.from_regex(r"[ -~]{0,64}\Z", fullmatch=True), NUMBERS, NUMBERS)
def test_a_position_is_read_as_it_was_written(epoch: str, seq: int, cseq: int) -> None:
    """Whatever the epoch is, with colons in it too."""
    assert position(f"{epoch}:{seq}:{cseq}") == Since(epoch=epoch, seq=seq, cseq=cseq)


def test_nothing_is_no_position() -> None:
    """A browser that has had no id yet may send an empty one."""
    assert position("") is None


@given(st.text(max_size=100))
def test_rubbish_is_a_position_or_refused(text: str) -> None:
    """Nothing else comes of it, whatever it is."""
    with contextlib.suppress(Refused):
        since = position(text)
        assert since is None or text.startswith(since.epoch)


@pytest.mark.parametrize("text", ["e:1", f"e:{INT_MAX + 1}:0", "e:+1:0", "e:1_0:0", "e\x07:1:1"])
def test_what_is_not_one_is_refused(text: str) -> None:
    """Numbers are plain, and within the protocol's bounds."""
    with pytest.raises(Refused):
        position(text)


MESSAGE = protocol.Message(id="msg_1", user="u", name="u", text="one\r\nid: m9\n\n", at=1)


def told(place: Place, *events: protocol.Event) -> list[list[bytes]]:
    """Return the lines of each event, as the viewer gets them in one write."""
    written = place.number(b"".join(framed(event, EVENTS) for event in events))
    *blocks, rest = written.split(b"\n\n")
    assert rest == b""
    for block, event in zip(blocks, events, strict=True):
        assert block.split(b"\n")[-1] == b"data: " + encode(event, False)
    return [block.split(b"\n")[:-1] for block in blocks]


def test_events_carry_the_position_after_them() -> None:
    """Each sequence moves by itself, whichever comes first; what has no place moves nothing."""
    place = Place(Since(epoch="e:1", seq=3, cseq=7))
    assert told(
        place,
        protocol.Chatted(at=1, cseq=8, message=MESSAGE),
        protocol.Viewers(count=3),
        protocol.OfferClosed(at=1, seq=4, offer="of_1"),
    ) == [[b"id: e:1:3:8"], [], [b"id: e:1:4:8"]]
    assert told(place, protocol.ChatSkipped(cseq=12)) == [[b"id: e:1:4:12"]]
    assert told(place, protocol.Viewers(count=4)) == [[]]


@pytest.mark.parametrize("recovered", [None, False, True])
def test_a_welcome_is_where_what_follows_begins(recovered: bool | None) -> None:
    """At the snapshot, or where the client was when what it missed follows."""
    place = Place(Since(epoch="old", seq=3, cseq=7) if recovered is not None else None)
    stream = protocol.Stream(id="st_1", shop="s", title="t", status="live")
    welcome = protocol.Welcome(
        re=None, you=protocol.You(id="u", role="guest", name="u"), stream=stream, epoch="new:1",
        seq=9, cseq=20, now=1, pins=[], offers=[], orders=[], viewers=1, heartbeat_ms=1,
        recovered=recovered,
    )  # fmt: skip
    assert told(place, welcome) == [[b"id: old:3:7" if recovered else b"id: new:1:9:20"]]
