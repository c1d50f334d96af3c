"""The layout of an offer's state in Redis; the one place where its keys are spelled.

All keys of an offer share the hash tag `{of_…}`, so one script may touch them all, on a cluster
too. Called by scripts, holds and rebuild.

`{of}:o` hash: run (run id of the server it was installed under), epoch, status, live (0|1),
opens, closes (ms, 0 for none), quantity, left (signed), rank (last given), per_viewer, mv (last
movement applied), step (from one rank to the next;
absent: 1), got (when units last came to it, ms) · `{of}:h` hash: live order id →
`rank qty key-field`, the name of each taken unit · `{of}:k` hash: key field → order id, terminal
orders too · `{of}:v` hash: viewer → live quantity · `{of}:u` sorted set: ids of holds not yet known
to be written, by the time of their hold (ms) · `{of}:w` hash: viewer → how many such holds.

An offer in buckets has no such state itself; each bucket has, under its own id (`of_…~2`).
"""

from __future__ import annotations

from typing import NamedTuple


class Keys(NamedTuple):
    """The six keys of one offer, in the order in which every script takes them."""

    state: str
    holds: str
    keys: str
    viewers: str
    unwritten: str
    waiting: str


def keys_of(offer: str) -> Keys:
    """Return the offer's keys."""
    tag = "{" + offer + "}"
    return Keys(tag + ":o", tag + ":h", tag + ":k", tag + ":v", tag + ":u", tag + ":w")


def staged(offer: str, epoch: int, token: str) -> Keys:
    """Return the keys under which one rebuild gathers its state before it installs it."""
    tag = "{" + offer + "}:n:" + str(epoch) + ":" + token
    return Keys(tag + ":o", tag + ":h", tag + ":k", tag + ":v", tag + ":u", tag + ":w")


def key_field(viewer: str, key: str) -> str:
    """Return the field of (viewer, key): length-prefixed, so that no two pairs share one (R5).

    The length is in bytes: the scripts cut the viewer out again.
    """
    length = len(viewer) if viewer.isascii() else len(viewer.encode())
    return f"{length}:{viewer}{key}"


def record(rank: int, qty: int, field: str) -> str:
    """Return a hold's record in `{of}:h`; its numbers end at a space, so the field may hold any."""
    return f"{rank} {qty} {field}"
