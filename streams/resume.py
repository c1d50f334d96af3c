"""What a client keeps between two connections, and when it may come back: rules without I/O.

Owns gap detection in both sequences, the clock offset, the back-off and the meaning of close codes
for a client. It must never know a socket. Called by `client`.
"""

from __future__ import annotations

import base64
import json
import random
from collections import deque
from typing import Any, Literal

from streams.codes import Close

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.5, 20.0
STABLE_S = 10.0  # a connection that lasted so long makes the back-off begin anew
CLOCK_SAMPLES = 8
RENEW_AHEAD_S, RENEW_MIN_S = 60.0, 1.0  # how long before its end a token is renewed; between two

#: Close codes after which coming back is of no use (protocol v1, close codes).
FINAL_CLOSES = frozenset({Close.NOT_A_MESSAGE, Close.FORBIDDEN, Close.NOT_FOUND, Close.TOO_LARGE})

Event = dict[str, Any]  # as it came: protocol v1, events; `type` is always there


class Backoff:
    """Full jitter, doubling with each connection that did not last."""

    def __init__(self) -> None:
        self.attempt = 0
        self.asked_ms = 0  # what the server asked for in `draining`

    def next_s(self, lasted_s: float) -> float:
        """Return how long to wait after a connection that lasted so long."""
        self.attempt = 0 if lasted_s > STABLE_S else self.attempt + 1
        asked_s, self.asked_ms = random.uniform(0, self.asked_ms / 1000), 0
        return max(asked_s, full_jitter_s(self.attempt))


def full_jitter_s(attempt: int) -> float:
    """Return how long to wait before the given attempt, counted from 0."""
    return random.uniform(0, min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(attempt, 16)))


def may_return(close_code: int | None, fresh_token: bool) -> bool:
    """Tell whether to reconnect; `fresh_token`: another token can be had."""
    if close_code == Close.BAD_TOKEN:
        return fresh_token
    return close_code not in FINAL_CLOSES


def renew_in_s(token: str, now_ms: float) -> float | None:
    """Return in how many seconds to renew a token; None: it does not say when it ends.

    Drawn, so that a crowd whose tokens end together does not come together.
    """
    try:
        claims = token.split(".")[1]
        ends_s = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        left_s = float(ends_s) - now_ms / 1000
    except (IndexError, KeyError, TypeError, ValueError):  # only the server can read it
        return None
    ahead_s = min(RENEW_AHEAD_S, left_s / 2)
    return max(RENEW_MIN_S, left_s - ahead_s * random.uniform(0.6, 1.0))


class Progress:
    """How far a client has seen a stream; `since` is what its next `hello` carries."""

    def __init__(self) -> None:
        self.since: Event | None = None

    def take(self, event: Event) -> Literal["news", "seen", "gap"]:
        """Judge one event that is no answer; after a gap, reconnect."""
        kind = event["type"]
        if kind in ("welcome", "resync"):
            # After `recovered`, what was missed follows, from where this client stopped.
            if self.since is None or not event.get("recovered"):
                self.since = {name: event[name] for name in ("epoch", "seq", "cseq")}
            return "news"
        sequence = "cseq" if "cseq" in event else "seq"
        if self.since is None or sequence not in event:
            return "news"
        ahead = event[sequence] - self.since[sequence]
        if ahead <= 0:
            return "seen"
        if ahead > 1 and kind != "chat.skipped":
            return "gap"
        self.since[sequence] = event[sequence]
        return "news"


class ServerClock:
    """The server's clock, by the quickest of the last few round trips."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=CLOCK_SAMPLES)  # trip, offset

    def sample(self, sent_ms: float, trip_ms: float, server_ms: int) -> None:
        """Take one `pong`: sent at `sent_ms` local time, answered after `trip_ms`."""
        self._samples.append((trip_ms, server_ms - sent_ms - trip_ms / 2))

    @property
    def offset_ms(self) -> float:
        """Return what to add to local time; 0 before the first answer."""
        return min(self._samples)[1] if self._samples else 0.0
