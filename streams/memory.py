"""The newest entries of one sequence of a room: whoever comes back is served from here.

Owns the bounds of that memory, in entries, in bytes and in age, and nothing else. Each room keeps
two, as long as the log keeps entries where these allow it, so that a crowd that returns soon costs
no reading. Must never know the log. Called by rooms.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from streams.codec import Ready


class Memory:
    """Entries without a gap, the newest last."""

    __slots__ = ("_bytes_max", "_came_s", "_entries", "_entries_max", "_sizes", "bytes")

    def __init__(self, entries_max: int, bytes_max: int) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._entries: deque[Ready] = deque()
        self._sizes: deque[int] = deque()  # payload bytes of each
        self._came_s: deque[float] = deque()  # when each was added
        self.bytes = 0  # their sum

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, ready: Ready, size: int, now_s: float) -> None:
        """Keep one more, whose payload has so many bytes; the oldest go where a bound is passed."""
        self._entries.append(ready)
        self._sizes.append(size)
        self._came_s.append(now_s)
        self.bytes += size
        while len(self._entries) > self._entries_max or self.bytes > self._bytes_max:
            self._drop_oldest()

    def forget(self, before_s: float) -> None:
        """Drop what was added before that time."""
        while self._came_s and self._came_s[0] < before_s:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._entries.popleft()
        self._came_s.popleft()
        self.bytes -= self._sizes.popleft()

    def newest(self, count: int) -> list[Ready]:
        """Return the newest so many, oldest first."""
        newest = list(islice(reversed(self._entries), count))  # from the near end: mostly few
        newest.reverse()
        return newest

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self._sizes.clear()
        self._came_s.clear()
        self.bytes = 0
