"""What a worker of a Locust run is given, and what it gives back.

Owns its stage, its signs of life and its share, which goes in parts that are small enough for
Locust's messages. Knows no Locust and asks nobody. Used by usher, lead and desk; how shares become
one result is joining's.
"""

from __future__ import annotations

from typing import Final

import msgspec

from loadtest.asks import Gather, Seen
from loadtest.deliveries import WrittenDeliveries
from loadtest.pulse import Pulse

#: Of a share, what goes in one message between a worker and the master.
PART_BYTES_MAX: Final = 1 << 20


class Stage(msgspec.Struct, kw_only=True):
    """What a worker is told of a run: which viewers are its own, and what there is to buy."""

    run: str
    gather: Gather  # without the secret: a worker has it from its own environment
    offers: list[str]
    buys: int  # of each viewer, of each offer
    think_s: float
    answer_s: float


class Sign(msgspec.Struct, kw_only=True):
    """What a worker tells from step to step, while it lives."""

    run: str
    pulse: Pulse
    viewers: int  # that came so far
    buys: int  # that they made so far


class Share(msgspec.Struct, kw_only=True):
    """All that one worker saw."""

    machine: str = ""
    viewers: int = 0  # that came
    pulse: Pulse = msgspec.field(default_factory=Pulse)  # the last one
    tally: dict[str, int] = {}
    faults: list[str] = []
    seen: list[Seen] = []
    histories: dict[str, bytes] = {}  # by offer
    deliveries: WrittenDeliveries | None = None  # what its viewers were sent


class Part(msgspec.Struct, kw_only=True):
    """A piece of a share on its way."""

    run: str
    number: int
    of: int
    data: bytes


class Joint:
    """Parts of one share as they come, in any order."""

    def __init__(self) -> None:
        self._parts: dict[int, bytes] = {}

    def take(self, part: Part) -> Share | None:
        """Keep a part; returns the share once it is whole. ValueError for what is no part."""
        if not 0 <= part.number < part.of:
            raise ValueError(f"part {part.number} of {part.of}")
        self._parts[part.number] = part.data
        if len(self._parts) < part.of:
            return None
        whole = b"".join(self._parts[number] for number in range(part.of))
        return msgspec.msgpack.decode(whole, type=Share)


def parts_of(run: str, share: Share, bytes_max: int = PART_BYTES_MAX) -> list[Part]:
    """Cut a share up."""
    data = msgspec.msgpack.encode(share)
    pieces = [data[at : at + bytes_max] for at in range(0, len(data), bytes_max)]
    return [
        Part(run=run, number=number, of=len(pieces), data=piece)
        for number, piece in enumerate(pieces)
    ]
