"""The fan-out of one room: what is written to whom, when, and what gives way to what.

Owns the live listeners, split by form so that a fan-out is one plain loop that allocates
nothing per socket, and chat on its way to them: it gathers for a tick while there is much of it,
and goes out in slices, so that an offer overtakes it in the middle; while something that matters
more is being made, it waits. A listener whose socket takes no more has a backlog of its own
(`streams.backlog`) until it does. Must never know what an event
means. Called by rooms and session.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from streams.backlog import Backlog
from streams.codec import FORMS, Ready
from streams.metrics import FAN_OUT
from streams.ports import Socket

TICK_S = 0.002  # chat that comes this soon after the last one waits for more
SLICE = 100  # listeners that are written to before others have a turn: a millisecond or so
HUSH_S = 0.25  # for which chat waits at the most, for something that overtakes it

T = TypeVar("T")


class Listener(Protocol):
    """One connection that is fanned out to."""

    socket: Socket
    backlog: Backlog | None  # while its socket takes no more

    def queue(self, frames: bytes) -> None:
        """Send frames as soon as its socket takes them."""

    def queue_chat(self, frames: bytes, cseq: int) -> None:
        """Send chat after that; it may be shed."""

    def queue_newest(self, slots: Sequence[str]) -> None:
        """Send conflated values, as they are by then."""


class _Row:
    """The listeners of one form whose sockets take what they are given."""

    __slots__ = ("at", "listeners", "writes")

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.writes: list[Callable[[bytes], None]] = []  # of each; bound once, not at each event
        self.at: dict[Listener, int] = {}

    def add(self, listener: Listener) -> None:
        self.at[listener] = len(self.listeners)
        self.listeners.append(listener)
        self.writes.append(listener.socket.write)

    def discard(self, listener: Listener) -> None:
        at = self.at.pop(listener, None)
        if at is None:
            return
        last, write = self.listeners.pop(), self.writes.pop()
        if last is not listener:
            self.listeners[at], self.writes[at] = last, write
            self.at[last] = at


class _Chat:
    """Chat on its way to the listeners who were there when it came."""

    __slots__ = ("began_at", "cseq", "events", "frames", "listeners", "next")

    def __init__(self, listeners: list[Listener]) -> None:
        self.events: list[Ready] = []
        self.cseq = 0
        self.listeners = listeners
        self.next = 0  # of them, who is written to next
        self.frames: list[bytes | None] = [None] * len(FORMS)  # once it is needed
        self.began_at: float | None = None  # None: it may still grow


class Lanes:
    """Fan-out to the live listeners of one room."""

    __slots__ = (
        "_chats",
        "_ended_at",
        "_hush_from",
        "_hushed_at",
        "_open",
        "_rows",
        "_stalled",
        "_timer",
        "newest",
    )

    def __init__(self) -> None:
        self._rows = tuple(_Row() for _ in FORMS)
        self._stalled: dict[Listener, None] = {}
        self._chats: list[_Chat] = []  # in order; the first may be half written
        self._open = False  # the last of them takes more chat: nobody has joined since it came
        self._timer: asyncio.Handle | None = None  # set while chat waits for its turn
        self._ended_at = 0.0  # loop time at which chat went out last
        self._hushed_at: float | None = None  # loop time since which chat waits for an event
        self._hush_from = 0.0  # loop time from which it may be made to wait again
        self.newest: dict[str, Ready] = {}  # by slot; one slot an offer, so as bounded as offers

    def __len__(self) -> int:
        return sum(len(row.listeners) for row in self._rows) + len(self._stalled)

    def add(self, listener: Listener) -> None:
        """Fan out to this listener from now on: not what is on its way already."""
        row = self._rows[listener.socket.form]
        if listener in row.at or listener in self._stalled:
            return  # it was shown everything anew
        self._open = False
        if listener.backlog is not None:
            self._stalled[listener] = None
        else:
            row.add(listener)

    def discard(self, listener: Listener) -> None:
        """Fan out to it no more."""
        self._rows[listener.socket.form].discard(listener)
        self._stalled.pop(listener, None)

    def stall(self, listener: Listener) -> None:
        """Give a listener's events to its backlog from now on."""
        row = self._rows[listener.socket.form]
        if listener in row.at:
            row.discard(listener)
            self._stalled[listener] = None

    def go_on(self, listener: Listener) -> None:
        """Write to its socket again."""
        if listener in self._stalled:
            del self._stalled[listener]
            self._rows[listener.socket.form].add(listener)

    # --- what must not be skipped, nor wait ---------------------------------------------------

    def pour(self, events: Sequence[Ready]) -> None:
        """Write events at once, in one write a socket; each time somebody else is the first."""
        began_at = time.perf_counter()
        for form, row in enumerate(self._rows):
            if row.writes:
                frames = _join(events, form)
                for write in _turned(row.writes):
                    write(frames)
        for listener, frames in self._waiting(events):
            listener.queue(frames)
        FAN_OUT.observe(time.perf_counter() - began_at)
        self.relent()

    def _waiting(self, events: Sequence[Ready]) -> list[tuple[Listener, bytes]]:
        """Return those with a backlog, each with what it is to be given."""
        joined: dict[int, bytes] = {}
        for form in {listener.socket.form for listener in self._stalled}:
            joined[form] = _join(events, form)
        return [(listener, joined[listener.socket.form]) for listener in self._stalled]

    # --- chat ---------------------------------------------------------------------------------

    def hush(self) -> None:
        """Hold chat back until the next `pour`, which is being made, or for HUSH_S.

        Chat has as long for itself afterwards, whatever is made meanwhile.
        """
        now = asyncio.get_running_loop().time()
        if now >= self._hush_from:
            self._hushed_at = now
            self._hush_from = now + 2 * HUSH_S

    def relent(self) -> None:
        """Let chat go on: the event is out, or there is none."""
        if self._hushed_at is None:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._hush_from = min(self._hush_from, 2 * now - self._hushed_at)
        self._hushed_at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = loop.call_soon(self._write_chat)

    def pour_chat(self, events: Sequence[Ready], cseq: int) -> None:
        """Write chat up to `cseq`: at once when there was none lately, else with what follows."""
        if not self._open:
            self._chats.append(_Chat(self._everybody()))
            self._open = True
        self._chats[-1].events += events
        self._chats[-1].cseq = cseq
        if self._timer is None:
            loop = asyncio.get_running_loop()
            wait_s = self._ended_at + TICK_S - loop.time()
            if wait_s <= 0:
                self._write_chat()
            else:
                self._timer = loop.call_later(wait_s, self._write_chat)

    def settle(self) -> None:
        """Write all chat that is on its way."""
        while self._chats:
            self._write_slice(self._chats[0], len(self._chats[0].listeners))
        self._stop()

    def forget_chat(self) -> None:
        """Drop chat that is on its way: what follows replaces all state."""
        self._chats.clear()
        self._open = False
        self._stop()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    close = forget_chat

    def _write_chat(self) -> None:
        """Write one slice; others have their turn before the next."""
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._hushed_at is not None:
            wait_s = self._hushed_at + HUSH_S - loop.time()
            if wait_s > 0:
                self._timer = loop.call_later(wait_s, self._write_chat)
                return
            self._hushed_at = None
        if self._chats:
            self._write_slice(self._chats[0], SLICE)
        if self._chats:
            self._timer = loop.call_soon(self._write_chat)

    def _write_slice(self, chat: _Chat, count: int) -> None:
        if chat.began_at is None:
            chat.began_at = time.perf_counter()
            if chat is self._chats[-1]:
                self._open = False
        for listener in chat.listeners[chat.next : chat.next + count]:
            form = listener.socket.form
            frames = chat.frames[form]
            if frames is None:
                frames = chat.frames[form] = _join(chat.events, form)
            if listener.backlog is None:
                listener.socket.write(frames)
            else:
                listener.queue_chat(frames, chat.cseq)
        chat.next += count
        if chat.next >= len(chat.listeners):
            self._chats.pop(0)
            self._ended_at = asyncio.get_running_loop().time()
            FAN_OUT.observe(time.perf_counter() - chat.began_at)

    def _everybody(self) -> list[Listener]:
        listeners = [listener for row in self._rows for listener in _turned(row.listeners)]
        listeners += self._stalled
        return listeners

    # --- values of which only the newest matters ----------------------------------------------

    def spread(self, slots: Sequence[str]) -> None:
        """Write the newest values of conflated slots."""
        for form, row in enumerate(self._rows):
            if row.writes:
                frames = _join([self.newest[slot] for slot in slots], form)
                for write in _turned(row.writes):
                    write(frames)
        for listener in self._stalled:
            listener.queue_newest(slots)


def _turned(items: list[T]) -> list[T]:
    """Return a copy that begins somewhere else each time: nobody is always the last."""
    at = random.randrange(len(items)) if len(items) > 1 else 0
    return items[at:] + items[:at]


def _join(events: Sequence[Ready], form: int) -> bytes:
    if len(events) == 1:
        return events[0].frame(form)
    return b"".join([ready.frame(form) for ready in events])
