"""What waits for a slow socket: the byte bound, and conflated values that may be skipped.

Owns the live listeners of one room, split by subprotocol so that a fan-out is one plain loop that
allocates nothing per socket. Must never know what an event means. Called by rooms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from streams.codec import Ready
from streams.codes import Close
from streams.ports import Socket


class Listener(Protocol):
    """One connection that is fanned out to."""

    socket: Socket

    def close(self, code: Close, reason: str = "") -> None:
        """End the connection."""


class Lanes:
    """Fan-out to the live listeners of one room."""

    __slots__ = ("_behind", "_by_format", "_conflate_above_bytes", "_queue_bytes_max", "newest")

    def __init__(self, queue_bytes_max: int, conflate_above_bytes: int) -> None:
        self._queue_bytes_max = queue_bytes_max
        self._conflate_above_bytes = conflate_above_bytes
        self._by_format: tuple[dict[Listener, None], dict[Listener, None]] = ({}, {})
        self._behind: dict[Listener, set[str]] = {}  # conflated slots that a listener was not sent
        self.newest: dict[str, Ready] = {}  # by slot; one slot an offer, so as bounded as offers

    def __len__(self) -> int:
        return len(self._by_format[False]) + len(self._by_format[True])

    def add(self, listener: Listener) -> None:
        """Fan out to this listener from now on."""
        self._by_format[listener.socket.binary][listener] = None

    def discard(self, listener: Listener) -> None:
        """Fan out to it no more."""
        self._by_format[listener.socket.binary].pop(listener, None)
        self._behind.pop(listener, None)

    def pour(self, events: Sequence[Ready]) -> None:
        """Write events that must not be skipped, in one write a socket."""
        limit = self._queue_bytes_max
        slow: list[Listener] = []
        for msgpack in (False, True):
            listeners = self._by_format[msgpack]
            if not listeners:
                continue
            frames = _join(events, msgpack)
            for listener in listeners:
                socket = listener.socket
                socket.write(frames)
                if socket.waiting_bytes() > limit:
                    slow.append(listener)
        for listener in slow:
            self.discard(listener)
            listener.close(Close.SLOW, "slow consumer")

    def spread(self, slots: Sequence[str]) -> None:
        """Write the newest values of conflated slots, but for those who have bytes waiting."""
        limit = self._conflate_above_bytes
        for msgpack in (False, True):
            listeners = self._by_format[msgpack]
            if not listeners:
                continue
            frames = _join([self.newest[slot] for slot in slots], msgpack)
            for listener in listeners:
                socket = listener.socket
                if socket.waiting_bytes() > limit:
                    self._behind.setdefault(listener, set()).update(slots)
                else:
                    socket.write(frames)

    def relieve(self) -> None:
        """Send what was skipped, in its newest value, to those whose socket is free again."""
        free = [
            listener
            for listener in self._behind
            if listener.socket.waiting_bytes() <= self._conflate_above_bytes
        ]
        for listener in free:
            slots = self._behind.pop(listener)
            ready = [self.newest[slot] for slot in slots if slot in self.newest]
            if ready:
                listener.socket.write(_join(ready, listener.socket.binary))

    def forget(self, slots: Iterable[str]) -> None:
        """Drop conflated values that nobody needs any more."""
        for slot in slots:
            self.newest.pop(slot, None)


def _join(events: Sequence[Ready], msgpack: bool) -> bytes:
    if len(events) == 1:
        return events[0].frame(msgpack)
    return b"".join([ready.frame(msgpack) for ready in events])
