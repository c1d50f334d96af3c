"""Where a viewer of Server-Sent Events is: the ids of his events, and how he comes back.

Owns `epoch:seq:cseq`, what `codec` leaves of it for each connection to fill in, and its reading.
Pure. Called by `outlet`, and by livecart's route for `Last-Event-ID`.
"""

from __future__ import annotations

import re

import msgspec

from streams.codes import Code
from streams.ports import Refused
from streams.protocol import INT_MAX, Since

_MARK = re.compile(rb"^id: (?P<kind>[mcp=])(?P<rest>[^\n]*)\n", re.MULTILINE)
_POSITION = ("epoch", "seq", "cseq")


def position(last_event_id: str) -> Since | None:
    """Read `epoch:seq:cseq`, None where there is nothing; raise `Refused(BAD_REQUEST)`."""
    if not last_event_id:
        return None
    parts = last_event_id.rsplit(":", 2)  # the epoch may have colons of its own
    try:
        if len(parts) < 3 or not all(part.isascii() and part.isdigit() for part in parts[1:]):
            raise ValueError
        seq, cseq = (int(part[:20]) for part in parts[1:])  # longer is beyond the bound anyway
        return msgspec.convert(dict(zip(_POSITION, (parts[0], seq, cseq), strict=True)), Since)
    except ValueError as error:  # a ValidationError is one
        what = f"Expected epoch:seq:cseq, numbers up to {INT_MAX}"
        raise Refused(Code.BAD_REQUEST, what, field="Last-Event-ID") from error


class Place:
    """How far one viewer was told each sequence."""

    __slots__ = ("_cseq", "_epoch", "_seq")

    def __init__(self, since: Since | None) -> None:
        self._epoch = b"" if since is None else since.epoch.encode()
        self._seq = 0 if since is None else since.seq
        self._cseq = 0 if since is None else since.cseq

    def number(self, events: bytes) -> bytes:
        """Return the next events with their ids: each the position after its event."""
        if b"id: " not in events:
            return events
        return _MARK.sub(self._id, events)

    def _id(self, mark: re.Match[bytes]) -> bytes:
        kind, rest = mark.groups()
        if kind == b"m":
            self._seq = int(rest)
        elif kind == b"c":
            self._cseq = int(rest)
        elif kind == b"p":
            self._epoch, seq, cseq = rest.rsplit(b":", 2)
            self._seq, self._cseq = int(seq), int(cseq)
        return b"id: %b:%d:%d\n" % (self._epoch, self._seq, self._cseq)
