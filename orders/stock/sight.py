"""What a gate has, read at one moment: the values behind reconcile's comparing.

Plain values of one reply of inspect.lua; knows no Postgres and judges nothing. Made by the gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec


class Held(NamedTuple):
    """A hold as the gate has it."""

    rank: int
    qty: int
    field: str  # of its key


class Unwritten(msgspec.Struct, frozen=True):
    """All holds that are not known to be written, and how many each viewer is said to have."""

    holds: dict[str, Held | None]  # None: named, but there is no such hold
    waiting: dict[str, int]


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """One reading; the lists answer what was asked for, in order, None for what is not there."""

    epoch: int
    status: str
    live: bool
    opens_ms: int
    closes_ms: int
    quantity: int
    left: int
    rank: int
    per_viewer: int
    movement: int
    holds_n: int
    keys_n: int
    viewers_n: int
    unwritten_n: int
    holds: list[Held | None]
    unwritten_since: list[int | None]  # ms
    bound: list[str | None]
    units: list[int | None]
    waits: list[int | None]
    unwritten: Unwritten | None  # None: not asked for, or too many


def sight_of(raw: Sequence[Any]) -> Sight:
    """Return the reading of an `ok` reply."""
    o, sizes = raw[1], raw[2]
    unwritten = None
    if len(raw) > 8:
        named = zip(raw[8], raw[9], strict=True)
        unwritten = Unwritten(
            {id_.decode(): held_of(record) for id_, record in named},
            {v.decode(): int(n) for v, n in zip(raw[10][::2], raw[10][1::2], strict=True)},
        )
    return Sight(
        epoch=int(o[1]), status=o[2].decode(), live=o[3] == b"1", opens_ms=int(o[4]),
        closes_ms=int(o[5]), quantity=int(o[6]), left=int(o[7]), rank=int(o[8]),
        per_viewer=int(o[9]), movement=int(o[10]), holds_n=sizes[0], keys_n=sizes[1],
        viewers_n=sizes[2], unwritten_n=sizes[3],
        holds=[held_of(record) for record in raw[3]],
        unwritten_since=[None if at is None else int(float(at)) for at in raw[4]],
        bound=[None if id_ is None else id_.decode(errors="replace") for id_ in raw[5]],
        units=[None if n is None else int(n) for n in raw[6]],
        waits=[None if n is None else int(n) for n in raw[7]],
        unwritten=unwritten,
    )  # fmt: skip


def held_of(record: bytes | None) -> Held | None:
    """Return a hold's record as it was written (`keys.record`); of another form: one of rank 0."""
    if record is None:
        return None
    parts = record.decode(errors="replace").split(" ", 2)
    if len(parts) == 3 and parts[0].isdecimal() and parts[1].isdecimal():
        return Held(int(parts[0]), int(parts[1]), parts[2])
    return Held(0, 0, " ".join(parts))
