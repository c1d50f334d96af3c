"""What `make bench-hub` counts by: frames wherever reads cut them, and numbers that must follow."""

from __future__ import annotations

import msgpack
import pytest

from loadtest.bench.judged import gap_in, payloads
from loadtest.bench.tally import Tally, walk
from streams.codec import frame

MARK = b"\xa4type\xa4chat"
CHAT = frame(msgpack.packb({"type": "chat", "text": "x" * 180}), binary=True)
OTHER = frame(msgpack.packb({"type": "viewers", "count": 3}), binary=True)
LARGE = frame(msgpack.packb({"type": "chat", "text": "x" * 70_000}), binary=True)
PING = b"\x89\x00"


def read(tally: Tally, number: int, data: bytes) -> int:
    """Let a tally take what one read of a socket gave."""
    tally.room(number)[: len(data)] = data
    return tally.take(number, len(data))


def test_every_cut_of_a_stream_gives_the_same_count() -> None:
    """Frames of every header size, cut in two anywhere, are each counted once."""
    stream = PING + CHAT + OTHER + LARGE + CHAT + PING
    cuts = [*range(1, 300), *range(len(stream) - 300, len(stream))]
    for cut in cuts:
        tally = Tally()
        tally.look_for(MARK)
        assert read(tally, 7, stream[:cut]) + read(tally, 7, stream[cut:]) == 3, cut


def test_single_bytes_are_enough() -> None:
    """A socket that gives a byte at a time is counted as one that gives all at once."""
    tally = Tally()
    tally.look_for(MARK)
    assert sum(read(tally, 7, bytes([byte])) for byte in CHAT + OTHER + CHAT) == 2


def test_sockets_are_kept_apart() -> None:
    """The beginning of a frame is completed by its own socket alone."""
    tally = Tally()
    tally.look_for(MARK)
    assert read(tally, 1, CHAT[:50]) == 0
    assert read(tally, 2, CHAT) == 1
    assert read(tally, 1, CHAT[50:]) == 1


@pytest.mark.parametrize("exact", [False, True])
def test_alike_frames_are_counted_without_a_walk_and_with_one(exact: bool) -> None:
    """Several alike ones in a read, one of another kind among them, and a cut one behind them."""
    tally = Tally(exact)
    tally.look_for(MARK)
    assert read(tally, 1, CHAT) == 1
    assert read(tally, 2, CHAT * 20) == 20
    assert read(tally, 3, CHAT + OTHER + CHAT) == 2
    assert read(tally, 4, CHAT * 3 + CHAT[:9]) == 3
    assert read(tally, 4, CHAT[9:] + OTHER) == 1
    assert read(tally, 5, OTHER) == 0


def test_what_is_looked_for_may_change() -> None:
    """Frames that were alike for one mark are walked through for the next."""
    tally = Tally()
    tally.look_for(MARK)
    assert read(tally, 1, CHAT) == 1
    tally.look_for(b"\xa4type\xa7viewers")
    assert read(tally, 1, CHAT) == 0
    assert read(tally, 1, OTHER) == 1


def test_a_forgotten_socket_leaves_nothing_to_the_next_of_its_number() -> None:
    """File descriptors come again: what a closed socket began is not completed by another."""
    tally = Tally()
    tally.look_for(MARK)
    assert read(tally, 1, CHAT[:50]) == 0
    tally.forget(1)
    assert read(tally, 1, CHAT) == 1


def test_a_mark_across_two_frames_is_none() -> None:
    """A mark counts within one payload only."""
    first, second = frame(MARK[:5], binary=True), frame(MARK[5:], binary=True)
    assert walk(first + second, len(first + second), MARK) == (0, len(first + second))


def told(*messages: dict[str, object]) -> bytes:
    """Return what a viewer is sent."""
    return b"".join(frame(msgpack.packb(message), binary=True) for message in messages)


WELCOME = {"type": "welcome", "recovered": True, "seq": 3, "cseq": 5}


def test_following_numbers_are_no_gap() -> None:
    """Main events and chat are numbered apart; values without a number do not matter."""
    data = told(
        WELCOME,
        {"type": "chat", "cseq": 6},
        {"type": "pinned", "seq": 4},
        {"type": "viewers", "count": 2},
        {"type": "chat", "cseq": 7},
    )
    assert gap_in(PING + data, 3, 5, 7) == (True, "")


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([WELCOME, {"type": "chat", "cseq": 7}], "cseq 7 after 5"),
        ([WELCOME, {"type": "pinned", "seq": 3}], "seq 3 after 3"),
        ([WELCOME, {"type": "resync", "seq": 3, "cseq": 5}], "resync"),
        ([WELCOME, {"type": "chat", "cseq": 6}], "cseq ends at 6, not at 7"),
    ],
)
def test_a_gap_a_repeat_and_a_missing_end_are_named(
    messages: list[dict[str, object]], problem: str
) -> None:
    """Whatever a viewer lacks is told by its number."""
    assert gap_in(told(*messages), 3, 5, 7) == (True, problem)


def test_who_is_not_recovered_is_told() -> None:
    """A welcome without `recovered: true` is none that recovers."""
    assert gap_in(told({"type": "welcome", "seq": 3, "cseq": 5}), 3, 5, 5) == (False, "")


def test_the_beginning_of_a_frame_is_no_payload() -> None:
    """What a viewer has read may end in the middle."""
    assert list(payloads(told(WELCOME) + CHAT[:30])) == [msgpack.packb(WELCOME)]
