"""Counts server frames in what many sockets read, wherever a read cuts them.

Owns the one buffer that every socket is read into, and the beginning of a frame whose end has not
come. A frame counts when its payload has the mark that is looked for. Knows no socket and no
server; called by the crowd, which would be the limit if this were slow.
"""

from __future__ import annotations

READ_BYTES = 512 * 1024

Buffer = bytes | bytearray


def walk(data: Buffer, end: int, mark: bytes) -> tuple[int, int]:
    """Return how many whole frames before `end` have the mark, and where the next one begins."""
    seen = at = 0
    while end - at >= 2:
        length, body = data[at + 1], at + 2  # a server does not mask
        if length >= 126:
            body += 2 if length == 126 else 8
            if end < body:
                break
            length = int.from_bytes(data[at + 2 : body], "big")
        after = body + length
        if after > end:
            break
        if data.find(mark, body, after) >= 0:
            seen += 1
        at = after
    return seen, at


def let_in(answer: bytes, greeting: bytes, silent: bool) -> bool:
    """Tell whether the answer to a handshake is whole, the server's first word with it.

    `silent`: nothing may come behind the head. ConnectionError when the viewer was turned away.
    """
    head, end, rest = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    if not head.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"the upgrade was answered {head[:200]!r}")
    if greeting:
        return walk(rest, len(rest), greeting) == (1, len(rest))
    if silent and rest:
        raise ValueError("a frame before hello")
    return True


class Tally:
    """Frames with a mark, by socket."""

    __slots__ = ("_head", "_mark", "_rests", "_size", "_start", "_view", "buffer", "exact")

    def __init__(self, exact: bool = False) -> None:
        self.buffer = bytearray(READ_BYTES)
        self.exact = exact  # walk through every frame, however alike they are
        self._view = memoryview(self.buffer)
        self._mark = b""
        self._rests: dict[int, bytes] = {}  # by socket: a frame's beginning
        self._start = 0  # where the next read goes: behind that beginning
        self._head = b""  # of the last marked frame that came alone, with its size:
        self._size = 0  # the next ones are as a rule alike, and need no walk

    def look_for(self, mark: bytes) -> None:
        """Count frames with this mark from now on; beginnings of frames are kept."""
        self._mark, self._head, self._size = mark, b"", 0

    def room(self, number: int) -> memoryview:
        """Return where the next read of a socket goes; `take` must follow."""
        rest = self._rests.pop(number, None) if self._rests else None
        if rest is None:
            self._start = 0
            return self._view
        self._start = len(rest)
        if self._start == READ_BYTES:
            raise ValueError("a frame is larger than the buffer")
        self.buffer[: self._start] = rest
        return self._view[self._start :]

    def take(self, number: int, read: int) -> int:
        """Return how many marked frames ended with what was just read."""
        end, size, buffer = self._start + read, self._size, self.buffer
        if (
            size
            and end % size == 0
            and not self.exact
            and buffer.startswith(self._head)
            and buffer.startswith(self._head, end - size)
        ):
            return end // size
        seen, rest_at = walk(buffer, end, self._mark)
        if rest_at < end:
            self._rests[number] = bytes(self._view[rest_at:end])
        elif seen == 1 and end >= 4 and walk(buffer, end, b"")[0] == 1:
            self._head, self._size = bytes(self._view[:4]), end
        return seen

    def forget(self, number: int) -> None:
        """Drop what is kept of a socket: it is closed."""
        self._rests.pop(number, None)
