"""How long buyers wait, and when they come back: bounds and jitter, no I/O.

Read by swarm and httpcrowd, so that both kinds of buyer behave alike under a fault.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Patience:
    """How viewers wait and come back; the defaults are protocol v1's."""

    dials_at_once_max: int = 128
    handshake_timeout_s: float = 10.0
    back_off_min_s: float = 0.5
    back_off_max_s: float = 20.0
    answer_timeout_s: float = 20.0  # silence on an open connection, then reconnect
    retry_min_s: float = 0.05
    retry_max_s: float = 4.0
    attempts_max: int = 200

    def back_off_s(self, failures: int) -> float:
        """Full jitter over a doubling bound."""
        bound = self.back_off_min_s * 2.0 ** min(failures, 10)
        return random.random() * min(self.back_off_max_s, bound)

    def retry_s(self, attempts: int, retry_after_ms: int | None) -> float:
        """When to send a key again: not before the server said, and ever less often.

        Twenty-five thousand buys that all came back after a fixed fifth of a second kept a server
        that had recovered busy with nothing but refusing them.
        """
        bound = self.retry_min_s * 2.0 ** min(attempts, 10)
        return (retry_after_ms or 0) / 1000 + random.random() * min(self.retry_max_s, bound)
