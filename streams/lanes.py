"""What waits for a slow socket: conflated values that may be skipped, and the fan-out itself.

Owns the live listeners of one room, split by subprotocol so that a fan-out is one plain loop that
allocates nothing per socket. The byte bound is the socket's own (`Socket.bound`): nothing is
counted here. Must never know what an event means. Called by rooms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from streams.codec import Ready
from streams.ports import Socket


class Listener(Protocol):
    """One connection that is fanned out to."""

    socket: Socket


class Lanes:
    """Fan-out to the live listeners of one room."""

    __slots__ = ("_behind", "_by_format", "_conflate_above_bytes", "newest")

    def __init__(self, conflate_above_bytes: int) -> None:
        self._conflate_above_bytes = conflate_above_bytes
        # By subprotocol: each listener with what writes to it.
        self._by_format: tuple[
            dict[Listener, Callable[[bytes], None]], dict[Listener, Callable[[bytes], None]]
        ] = ({}, {})
        self._behind: dict[Listener, set[str]] = {}  # conflated slots that a listener was not sent
        self.newest: dict[str, Ready] = {}  # by slot; one slot an offer, so as bounded as offers

    def __len__(self) -> int:
        return len(self._by_format[False]) + len(self._by_format[True])

    def add(self, listener: Listener) -> None:
        """Fan out to this listener from now on."""
        self._by_format[listener.socket.binary][listener] = listener.socket.write

    def discard(self, listener: Listener) -> None:
        """Fan out to it no more."""
        self._by_format[listener.socket.binary].pop(listener, None)
        self._behind.pop(listener, None)

    def pour(self, events: Sequence[Ready]) -> None:
        """Write events that must not be skipped, in one write a socket."""
        for msgpack in (False, True):
            writers = self._by_format[msgpack]
            if writers:
                frames = _join(events, msgpack)
                for write in writers.values():
                    write(frames)

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
