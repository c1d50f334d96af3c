"""Draws: who won, as pure functions that anybody may run again.

Owns the rule in Python (Postgres has it in `hold_draw`) and the records of a draw. Knows no I/O.
Read by the ledger and `livecart`; whoever checks a draw calls `verify`.

The rule. An offer of mode `draw` shows `seed_hash`, the SHA-256 of 32 secret bytes, before anybody
enters. When it opens it shows `seed`, those bytes. Each entry's score is HMAC-SHA256(seed, viewer):
the key is the seed's bytes, the message the viewer's id in UTF-8. From the lowest score up, whoever
asks for no more units than are left wins.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

import msgspec


class Draw(msgspec.Struct, frozen=True):
    """What everybody may know of a draw; the rest is None before it is held. Bytes are in hex."""

    offer: str
    seed_hash: str
    seed: str | None
    drawn_at: int | None
    entries: int
    winners: int | None
    units: int | None  # won by them together
    threshold: str | None  # the highest score that won


class DrawEntry(msgspec.Struct, frozen=True):
    """Who took part, and where his score (in hex) put him."""

    place: int  # from 1
    viewer: str
    qty: int
    score: str
    won: bool

    @property
    def id(self) -> str:
        """Return what a page of entries goes on from."""
        return str(self.place)


def seed_hash(seed: str) -> str:
    """Return the commitment to a seed, both in hex."""
    return hashlib.sha256(bytes.fromhex(seed)).hexdigest()


def draw_score(seed: str, viewer: str) -> str:
    """Return a viewer's score in hex: HMAC-SHA256 of his id in UTF-8 under the seed's bytes."""
    return hmac.new(bytes.fromhex(seed), viewer.encode(), hashlib.sha256).hexdigest()


def winners(seed: str, entries: Iterable[tuple[str, int]], units: int) -> list[str]:
    """Return who wins, lowest score first, of (viewer, qty) when so many units are drawn."""
    won = []
    for viewer, qty in sorted(entries, key=lambda entry: draw_score(seed, entry[0])):
        if qty <= units:
            units -= qty
            won.append(viewer)
    return won


def verify(
    commitment: str, seed: str, entries: Iterable[tuple[str, int]], units: int, won: Iterable[str]
) -> bool:
    """Tell whether the seed is the one committed to, and exactly these viewers had to win."""
    return seed_hash(seed) == commitment and set(winners(seed, entries, units)) == set(won)
