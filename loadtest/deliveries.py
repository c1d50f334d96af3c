"""What each viewer was delivered, in ranges: a record small enough for every viewer of a run.

Owns which numbers of which epoch a viewer was told since each welcome, resync and skip, and what
each number was: a digest, noted once, and what a main event was about. It knows no connection and
judges nothing; judge_deliveries does. A crowd calls it: `main` and `chat` cost a comparison where a
number follows the last one. A crowd that counts itself may call them only where one does not, and
`place` before anything else is said of that viewer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final, Literal, NamedTuple

import msgspec

from loadtest.endings import now_ms

#: Numbers whose content is kept; of those beyond only the order is known.
CONTENTS_KEPT_MAX: Final = 200_000
#: Payloads kept whole, so that the same one to the next viewer is known without a digest.
RECENT_MAX: Final = 1_024
#: Main and chat events have numbers of their own.
Lane = Literal["main", "chat"]
#: How a range began: with a welcome of somebody new, one that promised all since the last place,
#: one that promised nothing, a resync, chat that was shed; or with a number that does not follow.
How = Literal["new", "recovered", "anew", "resync", "skipped", "main", "chat"]

_json = msgspec.json.Encoder(order="deterministic").encode


class Range(msgspec.Struct, array_like=True, gc=False):
    """Events that a viewer was told one after the other: those behind `seq_0` up to `seq`."""

    how: How
    epoch: str
    at_ms: int  # when it began, on the wall clock
    seq_0: int
    cseq_0: int
    seq: int
    cseq: int
    due_seq: int = 0  # what a welcome promised to bring it up to
    due_cseq: int = 0
    rested_ms: int = 0  # when it was noted to be at rest; 0: never


class Content(NamedTuple):
    """What one number was, to the first viewer who was told it so."""

    epoch: str
    lane: Lane
    number: int
    digest: bytes
    viewer: int
    at_ms: int
    kind: str  # the event's type
    subject: str  # the pin or offer that a main event is about
    reason: str
    said_ms: int  # the event's own time


class WrittenDeliveries(msgspec.Struct, kw_only=True):
    """A record as it is written down."""

    viewers: list[str]
    ranges: list[list[Range]]
    contents: list[Content]
    unkept: int = 0


class _Told:
    """What anybody was told of one epoch."""

    __slots__ = ("chat", "main", "recent_chat", "recent_main")

    def __init__(self) -> None:
        self.main: dict[int, dict[bytes, Content]] = {}
        self.chat: dict[int, dict[bytes, Content]] = {}
        self.recent_main: dict[int, bytes] = {}
        self.recent_chat: dict[int, bytes] = {}


class Deliveries:
    """The record of some viewers of one stream; viewers are called by their place in the list."""

    def __init__(self, viewers: Sequence[str]) -> None:
        self.viewers = list(viewers)
        self.ranges: list[list[Range]] = [[] for _ in self.viewers]
        self.seq = [-1] * len(self.viewers)  # until a welcome says: no number follows that one
        self.cseq = [-1] * len(self.viewers)
        self.kept = 0  # contents
        self.unkept = 0  # and those beyond CONTENTS_KEPT_MAX
        self._epochs: dict[str, _Told] = {}
        self._told = [_Told()] * len(self.viewers)  # of each viewer's epoch

    # --- what the crowd says ---

    def main(self, viewer: int, first: int, last: int = 0) -> None:
        """Note main events of these numbers, or of one."""
        if first == self.seq[viewer] + 1:
            self.seq[viewer] = last or first
        else:
            self._jumps("main", viewer, first - 1, self.cseq[viewer])
            self.seq[viewer] = last or first

    def chat(self, viewer: int, first: int, last: int = 0) -> None:
        """Note chat events of these numbers, or of one."""
        if first == self.cseq[viewer] + 1:
            self.cseq[viewer] = last or first
        else:
            self._jumps("chat", viewer, self.seq[viewer], first - 1)
            self.cseq[viewer] = last or first

    def place(self, viewer: int, seq: int, cseq: int) -> None:
        """Note how far a viewer got, by numbers that each followed the last one."""
        self.seq[viewer], self.cseq[viewer] = seq, cseq

    def content(self, viewer: int, number: int, payload: bytes, lane: Lane = "main") -> None:
        """Note what came under a number; the same bytes as to the last viewer cost next to nothing.

        `payload`: a whole message, JSON or MessagePack.
        """
        told = self._told[viewer]
        recent = told.recent_main if lane == "main" else told.recent_chat
        if recent.get(number) != payload:
            self._content(viewer, told, recent, number, payload, lane)

    def welcome(
        self, viewer: int, epoch: str, seq: int, cseq: int, recovered: bool | None = None
    ) -> None:
        """Note a welcome: `recovered` as it was said, None where it was not."""
        if recovered and self.ranges[viewer]:
            at = self.seq[viewer], self.cseq[viewer]
            self._begin("recovered", viewer, epoch, *at, due=(seq, cseq))
        else:
            self._begin("new" if recovered is None else "anew", viewer, epoch, seq, cseq)

    def resync(self, viewer: int, epoch: str, seq: int, cseq: int) -> None:
        """Note that a viewer was shown everything anew."""
        self._begin("resync", viewer, epoch, seq, cseq)

    def skipped(self, viewer: int, cseq: int) -> None:
        """Note that a viewer was told of chat that was shed, up to this number."""
        self._jumps("skipped", viewer, self.seq[viewer], cseq)

    def rested(self, viewers: Iterable[int]) -> None:
        """Note that these are connected, and that nothing is under way to them now."""
        at_ms = now_ms()
        for viewer in viewers:
            if self.ranges[viewer]:
                self.ranges[viewer][-1].rested_ms = at_ms

    # --- what is read ---

    def all_ranges(self) -> list[list[Range]]:
        """Return each viewer's ranges, the last one as far as it is now."""
        for viewer, ranges in enumerate(self.ranges):
            self._end(viewer, ranges)
        return self.ranges

    def contents(self) -> Iterable[list[Content]]:
        """Return for each number what it was: more than one where viewers were told different."""
        for told in self._epochs.values():
            for held in (told.main, told.chat):
                for known in held.values():
                    yield list(known.values())

    def written(self) -> WrittenDeliveries:
        """Return it as it is written down."""
        return WrittenDeliveries(
            viewers=self.viewers,
            ranges=self.all_ranges(),
            contents=[one for known in self.contents() for one in known],
            unkept=self.unkept,
        )

    @classmethod
    def of(cls, written: WrittenDeliveries) -> Deliveries:
        """Read what was written down; ValueError when its parts do not fit each other."""
        found = cls(written.viewers)
        if len(written.ranges) != len(written.viewers):
            raise ValueError("ranges of viewers who are not named")
        found._take(0, written)
        return found

    @classmethod
    def joined(cls, parts: Sequence[Deliveries]) -> Deliveries:
        """Make one record of those of several crowds of one stream."""
        whole = cls([viewer for part in parts for viewer in part.viewers])
        first = 0
        for part in parts:
            whole._take(first, part.written())
            first += len(part.viewers)
        return whole

    # --- inside ---

    def _take(self, first: int, written: WrittenDeliveries) -> None:
        for viewer, ranges in enumerate(written.ranges, first):
            self.ranges[viewer] = ranges
            if ranges:
                self.seq[viewer], self.cseq[viewer] = ranges[-1].seq, ranges[-1].cseq
                self._told[viewer] = self._epoch(ranges[-1].epoch)
        for one in written.contents:
            if not 0 <= one.viewer < len(written.viewers):
                raise ValueError("an event that was told to nobody")
            self._keep(one._replace(viewer=first + one.viewer))
        self.unkept += written.unkept

    def _epoch(self, epoch: str) -> _Told:
        return self._epochs.setdefault(epoch, _Told())

    def _jumps(self, how: How, viewer: int, seq: int, cseq: int) -> None:
        epoch = self.ranges[viewer][-1].epoch if self.ranges[viewer] else ""
        self._begin(how, viewer, epoch, seq, cseq)

    def _begin(
        self,
        how: How,
        viewer: int,
        epoch: str,
        seq: int,
        cseq: int,
        due: tuple[int, int] = (0, 0),
    ) -> None:
        ranges = self.ranges[viewer]
        self._end(viewer, ranges)
        ranges.append(Range(how, epoch, now_ms(), seq, cseq, seq, cseq, *due))
        self.seq[viewer], self.cseq[viewer] = seq, cseq
        self._told[viewer] = self._epoch(epoch)

    def _end(self, viewer: int, ranges: list[Range]) -> None:
        if ranges:
            ranges[-1].seq, ranges[-1].cseq = self.seq[viewer], self.cseq[viewer]

    def _content(
        self,
        viewer: int,
        told: _Told,
        recent: dict[int, bytes],
        number: int,
        payload: bytes,
        lane: Lane,
    ) -> None:
        recent[number] = payload
        recent.pop(number - RECENT_MAX, None)
        event: dict[str, Any] = (
            msgspec.json.decode(payload) if payload[:1] == b"{" else msgspec.msgpack.decode(payload)
        )
        about = event.get("pin", event.get("offer"))
        subject = about["id"] if isinstance(about, dict) else about
        epoch = self.ranges[viewer][-1].epoch if self.ranges[viewer] else ""
        digest = blake2b(_json(event), digest_size=8).digest()
        self._keep(
            Content(
                epoch, lane, number, digest, viewer, now_ms(), str(event.get("type", "")),
                str(subject or ""), str(event.get("reason") or ""), int(event.get("at") or 0),
            )
        )  # fmt: skip

    def _keep(self, one: Content) -> None:
        told = self._epoch(one.epoch)
        held = told.main if one.lane == "main" else told.chat
        known = held.get(one.number)
        if known is None:
            if self.kept >= CONTENTS_KEPT_MAX:
                self.unkept += 1
                return
            self.kept += 1
            known = held[one.number] = {}
        known.setdefault(one.digest, one)
