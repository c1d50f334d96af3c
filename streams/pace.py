"""How often one user may do what: a bound for each kind of call, shared by all connections.

Owns the counting, one number for each user and kind in use (a leaky bucket, as the Generic Cell
Rate Algorithm has it: the time at which it will be empty), and whose turn it is in slow mode. Must
never know a socket, an offer or a clock: the time comes with each question. Asked by `session` and
by livecart's HTTP calls of the same process; each process counts for itself.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

Kind = Literal["sell", "host", "chat", "react"]

SWEEP_EVERY_S = 5.0
SAID_S = 30.0  # after its turn, for which a message sent again is known to be no new one
MS = 1_000


class Rate(msgspec.Struct, frozen=True):
    """So many a second in the long run, and so many at once after a pause."""

    per_s: float
    burst: int


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of each user; livecart.settings fills them in."""

    sell: Rate = Rate(25, 100)  # buys, bundles, cancels, extensions, waiting
    host: Rate = Rate(100, 300)
    chat: Rate = Rate(10, 50)
    react: Rate = Rate(10, 50)


class Bucket:
    """What happens at one rate, for each of those whom it is counted for; forgets who is idle."""

    __slots__ = ("_empty_at", "_room_s", "_step_s", "_swept_at")

    def __init__(self, rate: Rate) -> None:
        self._step_s = 1 / rate.per_s
        self._room_s = self._step_s * (rate.burst - 1)
        # When each will have been worked off, in seconds of the caller's clock.
        self._empty_at: dict[str, float] = {}
        self._swept_at = 0.0

    def __len__(self) -> int:
        return len(self._empty_at)

    def wait_ms(self, who: str, now_s: float) -> int:
        """Count one; return 0, or for how long it comes too early, and was not counted."""
        empty_at = self._empty_at.get(who, 0.0)
        early_s = empty_at - now_s - self._room_s
        if early_s > 0:
            return math.ceil(early_s * MS)
        if now_s - self._swept_at > SWEEP_EVERY_S:
            self._swept_at = now_s
            self._empty_at = {who: at for who, at in self._empty_at.items() if at > now_s}
        self._empty_at[who] = max(empty_at, now_s) + self._step_s
        return 0


class Turns:
    """Who may speak in slow mode: each user once in so many seconds."""

    __slots__ = ("_every_s", "_swept_at", "_turns")

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        # By user: until when his turn lasts, and the key of what he said in it.
        self._turns: dict[str, tuple[float, str]] = {}
        self._swept_at = 0.0

    def __len__(self) -> int:
        return len(self._turns)

    def wait_ms(self, who: str, key: str, now_s: float) -> int:
        """Take a turn; return 0, or how long until there is one. The same key again is the same."""
        until_s, said = self._turns.get(who, (0.0, ""))
        if key == said:
            return 0
        if until_s > now_s:
            return math.ceil((until_s - now_s) * MS)
        if now_s - self._swept_at > SWEEP_EVERY_S:
            self._swept_at = now_s
            self._turns = {
                who: turn for who, turn in self._turns.items() if turn[0] + SAID_S > now_s
            }
        self._turns[who] = now_s + self._every_s, key
        return 0


class Pace:
    """What each user does, by kind."""

    def __init__(self, rates: Rates | None = None) -> None:
        rates = rates or Rates()
        self._buckets: dict[Kind, Bucket] = {
            "sell": Bucket(rates.sell),
            "host": Bucket(rates.host),
            "chat": Bucket(rates.chat),
            "react": Bucket(rates.react),
        }

    def wait_ms(self, user: str, kind: Kind, now_s: float) -> int:
        """Count one call of a user; return 0, or for how long it comes too early."""
        return self._buckets[kind].wait_ms(user, now_s)
