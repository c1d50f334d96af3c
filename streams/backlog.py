"""What waits for one connection that does not take it as fast as it comes.

Owns the order in which it goes out (offers, pins, orders and answers; then stock; then chat; then
what is left of counts), and the bytes that wait, of one connection and of the whole process. Made
when a socket's own buffer is not empty any more, and gone when it is. It must never know a room.
Used by session and hub.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from streams.codec import Ready
from streams.codes import Close
from streams.metrics import CHAT_SHED
from streams.protocol import ChatSkipped

PORTION_BYTES = 16 * 1024  # handed to the socket at once: what comes later is not stuck behind more
STOCK = "stock:"  # how a slot of the middle lane begins


class Account:
    """The bytes that wait for all connections of a process."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Backlog:
    """The lanes of one slow connection."""

    __slots__ = (
        "_account",
        "_chat",
        "_first",
        "_form",
        "_newest",
        "_skipped_to",
        "_slots",
        "bytes",
    )

    def __init__(self, newest: Mapping[str, Ready], form: int, account: Account) -> None:
        self._newest = newest  # the room's, by slot
        self._form = form
        self._account = account
        self._first: deque[bytes] = deque()
        self._chat: deque[tuple[bytes, int]] = deque()  # frames, and the last `cseq` in them
        self._slots: dict[str, None] = {}  # conflated values that were not sent
        self._skipped_to = 0  # of chat, what was shed up to here; 0: nothing
        self.bytes = 0

    def put(self, frames: bytes) -> None:
        """Have frames sent before everything but what is in this lane already."""
        self._first.append(frames)
        self._count(len(frames))

    def put_chat(self, frames: bytes, cseq: int) -> None:
        """Have chat sent, up to and with that number, after what matters more."""
        self._chat.append((frames, cseq))
        self._count(len(frames))

    def put_newest(self, slots: Sequence[str]) -> None:
        """Have conflated values sent, as they are by then."""
        self._slots.update(dict.fromkeys(slots))

    def shed(self) -> int:
        """Drop the chat, which the connection is told of in its place; return the bytes."""
        dropped = sum(len(frames) for frames, _ in self._chat)
        if self._chat:
            self._skipped_to = self._chat[-1][1]
            self._chat.clear()
            self._count(-dropped)
        return dropped

    def portion(self) -> bytes:
        """Take what goes out next, PORTION_BYTES or one entry at the least; b"" when all is out."""
        return b"".join(self._take(PORTION_BYTES))

    def rest(self) -> bytes:
        """Take everything."""
        return b"".join(self._take(1 << 62))

    def drop(self) -> None:
        """Forget everything."""
        self._first.clear()
        self._chat.clear()
        self._slots.clear()
        self._count(-self.bytes)

    def _take(self, bytes_max: int) -> list[bytes]:
        parts: list[bytes] = []
        room = bytes_max
        while self._first and room > 0:
            parts.append(self._first.popleft())
            room -= len(parts[-1])
        self._count(room - bytes_max)
        if room > 0 and self._slots:
            room -= self._take_slots(parts, stock=True)
        if room > 0 and self._skipped_to:
            parts.append(Ready(ChatSkipped(cseq=self._skipped_to)).frame(self._form))
            self._skipped_to = 0
        before = room
        while self._chat and room > 0:
            parts.append(self._chat.popleft()[0])
            room -= len(parts[-1])
        self._count(room - before)
        if room > 0 and self._slots:
            self._take_slots(parts, stock=False)
        return parts

    def _take_slots(self, parts: list[bytes], *, stock: bool) -> int:
        due = [slot for slot in self._slots if slot.startswith(STOCK) is stock]
        taken = 0
        for slot in due:
            del self._slots[slot]
            if (ready := self._newest.get(slot)) is not None:
                parts.append(ready.frame(self._form))
                taken += len(parts[-1])
        return taken

    def _count(self, more: int) -> None:
        self.bytes += more
        self._account.bytes += more


class Slow(Protocol):
    """A connection that has a backlog (`streams.session.Session`)."""

    backlog: Backlog | None

    def close(self, code: Close, reason: str = "") -> None:
        """End the connection."""


class Backlogs:
    """The slow connections of a process, and what may wait for them."""

    def __init__(self, each_max: int, all_max: int) -> None:
        self._each_max = each_max
        self._all_max = all_max
        self._slow: dict[Slow, None] = {}
        self.account = Account()

    def __len__(self) -> int:
        return len(self._slow)

    def add(self, slow: Slow) -> None:
        """Watch a connection that got a backlog."""
        self._slow[slow] = None

    def discard(self, slow: Slow) -> None:
        """Watch it no more."""
        self._slow.pop(slow, None)

    def judge(self, slow: Slow) -> None:
        """Keep a connection to its bound after it was given more, and all of them to theirs."""
        if slow.backlog is not None and slow.backlog.bytes > self._each_max:
            self._shed(slow)
            if slow.backlog.bytes > self._each_max:
                slow.close(Close.SLOW, "slow consumer")
        if self.account.bytes > self._all_max:
            self._relieve()

    def _relieve(self) -> None:
        """Shed chat, then end connections, those with the most first, until a tenth is free."""
        goal = self._all_max * 9 // 10
        slowest = sorted(self._slow, key=_bytes, reverse=True)
        for slow in slowest:
            if self.account.bytes > goal:
                self._shed(slow)
        for slow in sorted(slowest, key=_bytes, reverse=True):
            if self.account.bytes <= goal:
                return
            slow.close(Close.SLOW, "slow consumer; memory is short")

    def _shed(self, slow: Slow) -> None:
        if slow.backlog is not None:
            CHAT_SHED.inc(slow.backlog.shed())


def _bytes(slow: Slow) -> int:
    return 0 if slow.backlog is None else slow.backlog.bytes
