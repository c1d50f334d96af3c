"""The shared wheel: finds dead, silent and expired connections without a timer each.

Owns when a connection is looked at; what is done about it is a close. Must never know Redis or a
room. Called by hub, once a tick.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from streams.codes import Close
from streams.session import Session, Stage


class Ticking(Protocol):
    """The limits that a wheel turns by."""

    @property
    def heartbeat_ms(self) -> int: ...
    @property
    def hello_deadline_ms(self) -> int: ...
    @property
    def tick_ms(self) -> int: ...


class Wheel:
    """Every connection of a hub, in buckets.

    A turn takes half a heartbeat: silence is judged at each turn, a ping is sent at every second.
    """

    def __init__(self, limits: Ticking) -> None:
        self._limits = limits
        buckets = max(1, limits.heartbeat_ms // 2 // limits.tick_ms)
        self._buckets: list[dict[Session, None]] = [{} for _ in range(buckets)]
        self._next_slot = 0  # where the next newcomer goes: spreads a crowd over the turn
        self._hand = 0
        self._turn = 0
        self._silent: deque[tuple[float, Session]] = deque()  # by deadline of hello
        self._expiring: dict[int, set[Session]] = {}  # by second of token expiry
        self._swept_s = 0  # the last second whose tokens were ended
        self._ticked_at = 0.0
        self._judge_from = 0.0  # after a stall of ours, silence is not the client's fault

    def add(self, session: Session, now_s: float) -> None:
        """Watch a new connection."""
        self._next_slot = (self._next_slot + 1) % len(self._buckets)
        session.slot = self._next_slot
        self._buckets[session.slot][session] = None
        self._silent.append((now_s + self._limits.hello_deadline_ms / 1000, session))

    def discard(self, session: Session) -> None:
        """Watch it no more."""
        self._buckets[session.slot].pop(session, None)
        self.expire_at(session, None)

    def expire_at(self, session: Session, exp_ms: int | None) -> None:
        """End the connection when its token ends; None: never."""
        if session.expires_s is not None:
            bucket = self._expiring.get(session.expires_s)
            if bucket is not None:
                bucket.discard(session)
                if not bucket:
                    del self._expiring[session.expires_s]
        session.expires_s = None
        if exp_ms is not None:
            session.expires_s = max(-(-exp_ms // 1000), self._swept_s + 1)
            self._expiring.setdefault(session.expires_s, set()).add(session)

    def watched(self) -> tuple[int, int]:
        """Return how many connections are watched, and how many for their token."""
        return sum(map(len, self._buckets)), sum(map(len, self._expiring.values()))

    def tick(self, now_s: float, clock_ms: int) -> None:
        """Move on by one bucket; `now_s` is monotonic time, `clock_ms` the time of Redis."""
        if self._ticked_at and now_s - self._ticked_at > self._limits.heartbeat_ms / 2000:
            self._judge_from = now_s + self._limits.heartbeat_ms / 1000
        self._ticked_at = now_s
        self._end_hello_deadlines(now_s)
        self._end_tokens(clock_ms // 1000)
        self._hand += 1
        if self._hand >= len(self._buckets):
            self._hand = 0
            self._turn += 1
        ping = self._turn % 2 == 1
        deaf_since = now_s - self._limits.heartbeat_ms / 500
        for session in list(self._buckets[self._hand]):
            if session.socket.heard_at < deaf_since and now_s >= self._judge_from:
                session.close(Close.TIMEOUT, "heartbeat lost")
            elif ping:
                session.socket.ping()

    def _end_hello_deadlines(self, now_s: float) -> None:
        while self._silent and self._silent[0][0] <= now_s:
            session = self._silent.popleft()[1]
            if session.stage is Stage.SILENT:
                session.close(Close.TIMEOUT, "no hello in time")

    def _end_tokens(self, second: int) -> None:
        if second <= self._swept_s:
            return
        self._swept_s = second
        for due in [due for due in self._expiring if due <= second]:
            for session in list(self._expiring.get(due, ())):
                session.close(Close.BAD_TOKEN, "the token expired")
