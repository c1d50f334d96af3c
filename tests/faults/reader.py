"""The independent reader: what every viewer received, in the order received, held to the protocol.

Owns what protocol v1 says of the two sequences, of `welcome` with and without `recovered`, of
`resync` and of `chat.skipped`, for each connection and across viewers. It imports nothing of the
project and knows no socket: payloads are decoded by the libraries `json` and `msgpack`. Fed by
`watching`; what must hold at rest is `reader_rest`'s.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import msgpack

FINDINGS_KEPT_MAX = 50
EVENTS_CACHED_MAX = 4_096  # one event comes to hundreds of viewers in the very same bytes

MAIN = frozenset({
    "stream.started", "stream.ended", "pinned", "unpinned", "offer.scheduled", "offer.opened",
    "offer.restocked", "offer.sold_out", "offer.paused", "offer.closed",
})  # fmt: skip
CHAT = frozenset({"chat", "chat.removed"})

Event = dict[str, Any]


class Place(NamedTuple):
    """How far a viewer was told a stream; what `since` and a Last-Event-ID say."""

    epoch: str
    seq: int
    cseq: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}:{self.cseq}"


class Message(NamedTuple):
    """One payload, and its content in one form whatever it was sent in."""

    event: Event
    content: str


class Shown(NamedTuple):
    """Of a snapshot, the position, and the state that main events make."""

    place: Place
    pins: tuple[str, ...]  # the newest first
    offers: frozenset[tuple[str, str, int]]  # id, status, quantity


@dataclass(slots=True)
class Told:
    """What anybody was told in one epoch of a stream."""

    main: dict[int, Message] = field(default_factory=dict)  # by seq
    chat: dict[int, Message] = field(default_factory=dict)  # by cseq
    said: dict[str, int] = field(default_factory=dict)  # cseq by message id
    cseq_named: int = 0  # the highest that a snapshot or `chat.skipped` named


@dataclass(slots=True)
class Span:
    """Main events that a viewer was told one after the other, behind one snapshot."""

    epoch: str
    first: int
    last: int  # first - 1: none yet


@lru_cache(EVENTS_CACHED_MAX)
def message(payload: str | bytes) -> Message:
    """Decode one payload: text is JSON, bytes are MessagePack; ValueError when it is neither."""
    event = json.loads(payload) if isinstance(payload, str) else msgpack.unpackb(payload)
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ValueError(f"not a message: {payload[:100]!r}")
    return Message(event, json.dumps(event, sort_keys=True, ensure_ascii=False))


class Reader:
    """All that was received, and what is wrong with it.

    `kept`: events of each sequence that the server promises to hold for who comes back.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.findings: list[str] = []  # the first few; `tally["findings"]` counts them all
        self.tally: Counter[str] = Counter()
        self.places: dict[str, Place] = {}  # by viewer
        self.streams: dict[str, str] = {}  # by viewer
        # By viewer, of each time that he came as a newcomer.
        self.lives: defaultdict[str, list[list[Span]]] = defaultdict(list)
        # By stream: its epochs, in the order in which they were first heard of.
        self.epochs: defaultdict[str, dict[str, Told]] = defaultdict(dict)
        self.shown: defaultdict[str, set[Shown]] = defaultdict(set)  # by stream

    def line(self, viewer: str, stream: str, since: Place | None, numbered: bool = False) -> Line:
        """Begin to read a connection; `numbered`: its events come with an id (SSE)."""
        return Line(self, viewer, stream, since, numbered)

    def found(self, what: str) -> None:
        """Report that something is wrong."""
        self.tally["findings"] += 1
        if len(self.findings) < FINDINGS_KEPT_MAX:
            self.findings.append(what)

    def told(self, stream: str, epoch: str) -> Told:
        """Return what was told in an epoch."""
        return self.epochs[stream].setdefault(epoch, Told())

    def is_over(self, stream: str, epoch: str, newer: str) -> bool:
        """Tell whether an epoch was heard of before another one."""
        order = list(self.epochs[stream])
        return epoch in order and newer in order and order.index(epoch) < order.index(newer)


class Line:
    """One connection of one viewer, from its hello on."""

    def __init__(
        self, reader: Reader, viewer: str, stream: str, since: Place | None, numbered: bool
    ) -> None:
        self.reader = reader
        self.viewer = viewer
        self.stream = stream
        self.since = since
        self.numbered = numbered
        self.place: Place | None = None  # None until the welcome
        had = reader.places.get(viewer)
        if since is not None and since != had:
            self._found(f"came back with {since} and had been told up to {had}")
        reader.streams[viewer] = stream

    def take(self, payload: str | bytes, id_: str | None = None) -> Event:
        """Judge the next message of this connection and return it."""
        try:
            event, content = heard = message(payload)
        except ValueError as error:
            self._found(str(error))
            return {"type": ""}
        kind = event["type"]
        placed = True
        if kind == "welcome":
            self._welcome(event)
        elif kind == "resync":
            self._resync(event)
        elif kind == "chat.skipped":
            self._skipped(event)
        elif kind in MAIN or "seq" in event:
            self._main(kind, heard)
        elif kind in CHAT or "cseq" in event:
            self._chat(kind, heard)
        else:
            placed = False
        if self.numbered and id_ != (str(self.place) if placed else None):
            self._found(f"id {id_} at {self.place}, of {content[:100]}")
        return event

    # --- snapshots -------------------------------------------------------------------------------

    def _welcome(self, event: Event) -> None:
        reader, since, recovered = self.reader, self.since, event.get("recovered")
        at = Place(event["epoch"], event["seq"], event["cseq"])
        reader.tally["welcomes"] += 1
        if self.place is not None:
            self._found("a second welcome")
        if since is None:
            if recovered is not None:
                self._found(f"recovered: {recovered} without since")
            reader.tally["newcomers"] += 1
            reader.lives[self.viewer].append([])
            self._anew(at)
        elif recovered is True:
            if at.epoch != since.epoch or at.seq < since.seq or at.cseq < since.cseq:
                self._found(f"recovered from {since} by a welcome at {at}")
            reader.tally["recovered"] += 1
            self._move(since)
        else:
            self._may_be_anew(since, at, recovered)
            reader.tally["anew"] += 1
            self._anew(at)
        self._show(event, at)

    def _may_be_anew(self, since: Place, at: Place, recovered: object) -> None:
        """Not to be recovered is right only where not everything after `since` is held."""
        if recovered is not False:
            self._found(f"recovered: {recovered} after since {since}")
        behind = max(at.seq - since.seq, at.cseq - since.cseq)
        if at.epoch == since.epoch and behind <= self.reader.kept:
            self._found(f"not recovered from {since} at {at}, all of which is held")
        elif self.reader.is_over(self.stream, at.epoch, since.epoch):
            self._found(f"came from {since} and was welcomed in an epoch before it: {at}")

    def _resync(self, event: Event) -> None:
        at, before = Place(event["epoch"], event["seq"], event["cseq"]), self.place
        if before is None or "re" in event or "you" in event:
            self._found(f"a resync before the welcome, or with its fields, at {at}")
        elif at.epoch == before.epoch:
            # Private events may have been lost; the log was not.
            if at != before:
                self._found(f"a resync from {before} to {at}, within an epoch")
            self.reader.tally["resyncs_within"] += 1
        else:
            if self.reader.is_over(self.stream, at.epoch, before.epoch):
                self._found(f"a resync from {before} to an epoch before it: {at}")
            self.reader.tally["resyncs"] += 1
        self._anew(at)
        self._show(event, at)

    def _anew(self, at: Place) -> None:
        """From here on, whatever came before: the snapshot has it."""
        self.reader.lives[self.viewer][-1].append(Span(at.epoch, at.seq + 1, at.seq))
        self._move(at)

    def _show(self, event: Event, at: Place) -> None:
        told = self.reader.told(self.stream, at.epoch)
        told.cseq_named = max(told.cseq_named, at.cseq)
        pins = tuple(pin["id"] for pin in event["pins"])
        offers = ((one["id"], one["status"], one["quantity"]) for one in event["offers"])
        self.reader.shown[self.stream].add(Shown(at, pins, frozenset(offers)))

    # --- sequences -------------------------------------------------------------------------------

    def _main(self, kind: str, heard: Message) -> None:
        place, seq = self._sequenced(kind, heard.event, "seq")
        if place is None:
            return
        self._next("seq", place.seq, seq, kind)
        self.reader.tally["main"] += 1
        self.reader.lives[self.viewer][-1][-1].last = seq
        self._same(self.reader.told(self.stream, place.epoch).main, seq, heard)
        self._move(place._replace(seq=seq))

    def _chat(self, kind: str, heard: Message) -> None:
        place, cseq = self._sequenced(kind, heard.event, "cseq")
        if place is None:
            return
        self._next("cseq", place.cseq, cseq, kind)
        self.reader.tally["chat"] += 1
        told = self.reader.told(self.stream, place.epoch)
        self._same(told.chat, cseq, heard)
        if kind == "chat":
            first = told.said.setdefault(heard.event["message"]["id"], cseq)
            if first != cseq:
                self._found(f"one message is cseq {first} and {cseq} of {place.epoch}")
        self._move(place._replace(cseq=cseq))

    def _skipped(self, event: Event) -> None:
        """Chat that was shed for a slow connection: a jump forward, and no further than there is.

        How far there is shows at rest only.
        """
        place, cseq = self.place, event.get("cseq")
        if place is None or not isinstance(cseq, int) or cseq <= place.cseq:
            self._found(f"chat.skipped to {cseq} at {place}")
            return
        self.reader.tally["skips"] += 1
        self.reader.tally["skipped"] += cseq - place.cseq
        told = self.reader.told(self.stream, place.epoch)
        told.cseq_named = max(told.cseq_named, cseq)
        self._move(place._replace(cseq=cseq))

    def _sequenced(self, kind: str, event: Event, name: str) -> tuple[Place | None, int]:
        """Return the place before a sequenced event, None if it cannot be one; and its number."""
        number = event.get(name)
        if ("seq" in event) == ("cseq" in event) or not isinstance(number, int):
            self._found(f"{kind} has not just {name}: {event}")
            return None, 0
        if not isinstance(event.get("at"), int):
            self._found(f"{kind} of {name} {number} has no time")
        if self.place is None:
            self._found(f"{kind} of {name} {number} before the welcome")
        return self.place, number

    def _next(self, name: str, before: int, number: int, kind: str) -> None:
        self.reader.tally["deliveries"] += 1
        if number != before + 1:
            what = "gap" if number > before else "repeat"
            self._found(f"{what}: {name} {number} ({kind}) after {before}, at {self.place}")

    def _same(self, held: dict[int, Message], number: int, heard: Message) -> None:
        """The same number is the same event, to everybody: then all have the same order."""
        first = held.setdefault(number, heard)
        if first.content != heard.content:
            self._found(f"two contents of {number}: {first.content} and {heard.content}")

    def _move(self, place: Place) -> None:
        self.place = self.reader.places[self.viewer] = place

    def _found(self, what: str) -> None:
        self.reader.found(f"{self.viewer} of {self.stream}: {what}")
