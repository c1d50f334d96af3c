"""Broadcasts are read once for everybody, and still every viewer's own sequence is held to I7."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import arrivals, viewer
from loadtest.arrivals import GRAIN_NS
from loadtest.frames import JSON, Heard
from loadtest.history import History
from loadtest.swarm import Swarm
from loadtest.viewer import READY, Viewer

AT_MS = time.time_ns() // 1_000_000  # a moment of this boot
Event = tuple[str, int]  # the name of its sequence, and its number there


class Pipe(asyncio.Transport):
    """Takes what is written; nothing else is asked of it."""

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        return


def frame_of(message: dict[str, Any]) -> bytes:
    payload = msgspec.json.encode(message)
    size = len(payload)
    head = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return b"\x81" + head + payload


def frame(event: Event) -> bytes:
    name, number = event
    kind = {"seq": "pinned", "cseq": "chat"}.get(name, name)
    return frame_of({"type": kind, **({name: number} if number else {}), "at": AT_MS})


def frames(*events: Event) -> bytes:
    return b"".join(map(frame, events))


def main(*numbers: int) -> list[Event]:
    return [("seq", number) for number in numbers]


class Room:
    """Viewers who are welcome, without a connection; every payload that is decoded is counted."""

    def __init__(self, viewers: int) -> None:
        self.decoded: Counter[bytes] = Counter()
        history = History([f"v{n}" for n in range(viewers)], 0, 1, "run")
        dialect = replace(JSON, decode=self._decode)
        self.swarm = Swarm("ws://127.0.0.1:9/x", ["t"] * viewers, history, dialect)
        self.viewers = self.swarm.viewers
        for one in self.viewers:
            one.transport, one.phase, one.epoch = Pipe(), READY, "e"

    def _decode(self, payload: bytes) -> Heard:
        self.decoded[payload] += 1
        return JSON.decode(payload)

    def counted(self) -> Counter[str]:
        """Deliveries that were counted since the last time, by kind."""
        late = self.swarm.arrivals.taken()
        return Counter({kind: grains.total() for kind, grains in late.items()})

    def welcome(self, one: Viewer, seq: int, cseq: int, recovered: bool) -> None:
        """Have it lose its connection and be welcomed on a new one."""
        one.phase = viewer.GREETING
        said = {"type": "welcome", "re": 0, "epoch": "e", "seq": seq, "cseq": cseq}
        one.data_received(frame_of({**said, "recovered": recovered}))


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of viewers whose read was parsed."""
    found: list[int] = []
    whole = Viewer._parse

    def noted(self: Viewer, data: bytes, now_ns: int) -> None:
        found.append(self.number)
        whole(self, data, now_ns)

    monkeypatch.setattr(Viewer, "_parse", noted)
    return found


def test_the_same_bytes_are_parsed_once(parses: list[int]) -> None:
    """A read that another viewer's read brought is known whole: numbers, messages, deliveries."""
    room = Room(50)
    for read in (frames(*main(1, 2)), frames(("cseq", 1), *main(3), ("cseq", 2), ("stock", 0))):
        for one in room.viewers:
            one.data_received(read)
    assert parses == [0, 0]
    assert set(room.decoded.values()) == {1}
    assert {(one.seq, one.cseq) for one in room.viewers} == {(3, 2)}
    assert room.swarm.received == 6 * 50
    assert room.counted() == {"delivery": 3 * 50, "chat delivery": 2 * 50}
    assert room.swarm.faults == []
    assert [(fact.number, fact.count) for fact in room.swarm.arrivals.facts] == [
        (1, 50), (2, 50), (3, 50),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reads", "fault"),
    [
        pytest.param([[1], [3]], "I7: seq 3 after 1 (pinned)", id="a gap"),
        pytest.param([[1], [2], [2]], "I7: seq 2 after 2 (pinned)", id="a repeat"),
        pytest.param([[2]], "I7: seq 2 after 0 (pinned)", id="a gap at the start"),
        pytest.param([[3], [1]], "I7: seq 3 after 0 (pinned)", id="another order"),
    ],
)
def test_known_bytes_at_the_wrong_place_are_a_fault(
    reads: list[list[int]], fault: str, parses: list[int]
) -> None:
    """Whatever others were told, each viewer's own numbers follow one another, or it is told."""
    room = Room(2)
    for number in (1, 2, 3):
        room.viewers[0].data_received(frames(*main(number)))
    assert room.swarm.faults == []
    for numbers in reads:
        room.viewers[1].data_received(frames(*main(*numbers)))
    assert room.swarm.faults[0] == fault
    assert room.swarm.tally["protocol_faults"] == len(room.swarm.faults)


def test_chat_and_main_events_are_held_apart() -> None:
    """A gap in chat is found in a read whose main events are right, and known."""
    room = Room(2)
    room.viewers[0].data_received(frames(("cseq", 1)))
    room.viewers[0].data_received(frames(*main(1), ("cseq", 2)))
    room.viewers[1].data_received(frames(*main(1), ("cseq", 2)))
    assert room.swarm.faults == ["I7: cseq 2 after 0 (chat)"]


#: What a viewer is sent: numbers in their order, but some are dropped, said twice, or late.
_SENT = st.lists(
    st.sampled_from(("right", "right", "right", "right", "drop", "twice", "late", "stock")),
    max_size=12,
)


def sent(twists: Sequence[str]) -> list[Event]:
    """A sequence of both kinds of events, with mistakes."""
    events: list[Event] = []
    late: list[Event] = []
    numbers = Counter[str]()
    for place, twist in enumerate(twists):
        name = "cseq" if place % 3 == 2 else "seq"
        numbers[name] += 1
        event = name, numbers[name]
        match twist:
            case "drop":
                continue
            case "late":
                late.append(event)
                continue
            case "twice":
                events += [event, event]
            case "stock":
                events += [("stock", 0), event]
            case _:
                events.append(event)
        events += late
        late = []
    return events


def faults_of(events: Sequence[Event]) -> Iterator[str]:
    """What a viewer must report of them, found the slow way."""
    last = Counter[str]()
    for name, number in events:
        if number and number != last[name] + 1:
            kind = "chat" if name == "cseq" else "pinned"
            yield f"I7: {name} {number} after {last[name]} ({kind})"
        if number:
            last[name] = number


@given(
    st.lists(_SENT, min_size=1, max_size=5),
    st.lists(st.integers(1, 130), min_size=1, max_size=20),
    st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_what_is_found_is_what_reading_every_message_would_find(
    crowd: list[list[str]], cuts: list[int], events_a_read: int
) -> None:
    """Cut at messages or anywhere, known or not: the faults and counts are the slow way's."""
    room = Room(len(crowd) + 1)
    expected: Counter[str] = Counter()
    deliveries, received = 0, 0
    longest = max(crowd, key=len)
    for one, twists in zip(room.viewers, [["right"] * len(longest), *crowd], strict=True):
        events = sent(twists)
        expected.update(faults_of(events))
        deliveries += sum(bool(number) for _, number in events)
        received += len(events)
        if one.number % 2:
            data, place = frames(*events), 0
            while data:
                size = cuts[place % len(cuts)]
                one.data_received(data[:size])
                data, place = data[size:], place + 1
        else:
            for start in range(0, len(events), events_a_read):
                one.data_received(frames(*events[start : start + events_a_read]))
        last = dict(events)
        assert (one.seq, one.cseq, one.tail) == (last.get("seq", 0), last.get("cseq", 0), b"")
    assert room.swarm.tally["protocol_faults"] == expected.total()
    assert set(room.swarm.faults) <= set(expected)
    assert room.swarm.received == received
    assert room.counted().total() == deliveries
    assert set(room.decoded.values()) <= {1}


@pytest.mark.parametrize("name", ["seq", "cseq"])
def test_history_is_no_delivery(name: str, parses: list[int]) -> None:
    """Events that follow a welcome which recovered were sent before: they are held to their order
    and not counted, also when their bytes are known.
    """
    room = Room(2)
    stayed, back = room.viewers
    for number in range(1, 6):
        stayed.data_received(frames((name, number)))
    back.data_received(frames((name, 1)))
    room.counted()
    room.welcome(back, **{"seq": 0, "cseq": 0, name: 4}, recovered=True)
    for number in (2, 3, 4):
        back.data_received(frames((name, number)))
    assert room.counted().total() == 0
    del parses[:]
    back.data_received(frames((name, 5)))
    assert (room.counted().total(), parses) == (1, [])
    assert room.swarm.faults == []
    assert getattr(back, name) == 5


def test_history_and_news_in_one_read_are_told_apart() -> None:
    """Of a read that holds the last of the history and what came since, only the new is counted."""
    room = Room(1)
    (one,) = room.viewers
    room.welcome(one, seq=2, cseq=1, recovered=True)
    one.data_received(frames(*main(1, 2, 3), ("cseq", 1), ("cseq", 2)))
    assert room.counted() == {"delivery": 1, "chat delivery": 1}


def test_who_did_not_recover_goes_on_from_the_welcome() -> None:
    """After a welcome that promised nothing the next number is the one behind its own."""
    room = Room(2)
    room.welcome(room.viewers[0], seq=7, cseq=3, recovered=False)
    room.viewers[0].data_received(frames(*main(8), ("cseq", 4)))
    assert room.swarm.faults == []
    room.viewers[1].data_received(frames(*main(8), ("cseq", 4)))
    assert room.swarm.faults == ["I7: seq 8 after 0 (pinned)", "I7: cseq 4 after 0 (chat)"]


def test_lateness_is_counted_from_the_moment_of_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each viewer's delivery has its own lateness, to a grain, by the event's own time."""
    room = Room(3)
    due_ns = AT_MS * 1_000_000 - room.swarm.arrivals._wall_ns
    grains = [due_ns // GRAIN_NS + late for late in (40, 40, 90)]
    late: dict[str, Counter[int]] = {"delivery": Counter(), "chat delivery": Counter()}
    for one, grain in zip(room.viewers, grains, strict=True):
        monkeypatch.setattr(viewer, "perf_counter_ns", lambda ns=grain * GRAIN_NS: ns)
        one.data_received(frames(*main(1, 2), ("cseq", 1)))
        if one.number:  # the first two in one step, the third in the next
            for kind, counted in room.swarm.arrivals.taken().items():
                late[kind] += counted
    assert late == {
        "delivery": Counter({40: 4, 90: 2}),
        "chat delivery": Counter({40: 2, 90: 1}),
    }
    (first, _) = room.swarm.arrivals.facts
    assert (first.first_ns, first.last_ns) == (grains[0] * GRAIN_NS, grains[2] * GRAIN_NS)
    assert room.swarm.arrivals.taken() == {}


def test_the_memories_are_bounded_and_lose_no_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the show, so many events and reads are remembered; each delivery is counted."""
    for name, most in (("CHUNKS_MAX", 10), ("EVENTS_MAX", 7), ("FACTS_MAX", 30)):
        monkeypatch.setattr(arrivals, name, most)
    room = Room(3)
    for number in range(1, 101):
        for one in room.viewers:
            one.data_received(frames(*main(number), ("cseq", number)))
        assert len(room.swarm.arrivals.chunks) <= 10
        assert len(room.swarm.arrivals.known) <= 7
    assert room.counted() == {"delivery": 300, "chat delivery": 300}
    told = room.swarm.arrivals.facts
    assert [fact.number for fact in told] == list(range(1, 31))
    assert {fact.count for fact in told} == {3}
    large = frame_of({"type": "pinned", "seq": 101, "at": AT_MS, "x": "x" * 20_000})
    room.viewers[0].data_received(large)
    assert large not in room.swarm.arrivals.chunks
    assert room.counted() == {"delivery": 1}


def test_an_answer_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that holds anything of one viewer alone is parsed by everyone who gets such bytes."""
    room = Room(2)
    heard: list[tuple[int, int | None]] = []

    def noted(one: Viewer, said: Heard, now_ns: int) -> None:
        heard.append((one.number, said.re))

    monkeypatch.setattr(room.swarm, "heard", noted)
    read = frames(*main(1)) + frame_of({"type": "reject", "re": 1, "code": "sold_out"})
    for one in room.viewers:
        one.data_received(read)
    assert heard == [(0, 1), (1, 1)]
