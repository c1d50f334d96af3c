"""Makes ids: a prefix that says what it is, then a part that sorts by time.

The time in an id decides nothing but the order of lists. Called by selling and by `livecart`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable


class Ids:
    """Makes ids that no other process makes: `or_` + 11 hex digits of ms + counter + process."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._process = secrets.token_hex(5)
        self._n = secrets.randbelow(1 << 20)

    def new(self, prefix: str) -> str:
        """Return a fresh id such as `or_0198a1b2c3d00001f4e5d6c7b8a9`."""
        self._n = (self._n + 1) & 0xFFFFF
        return f"{prefix}_{self._now_ms():011x}{self._n:05x}{self._process}"

    def now_ms(self) -> int:
        """Return the time that ids are made of, in ms since the Unix epoch."""
        return self._now_ms()
