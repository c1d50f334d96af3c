"""Comments as values: what was said, what it was read as, and what became of it.

Owns the composition of the key and of a viewer's id. Knows no SQL and no socket. Read by the book,
the clerk and `livecart`.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Literal

import msgspec

from orders.comments.grammar import Ask
from orders.records import Order

CHAT = "livecart"  # the platform of a stream's own chat
QTY_MAX = 1_000  # units of one order, as everywhere
TEXT_CHARS_MAX = 2_000  # of a comment from elsewhere, before it is normalised

State = Literal["new", "unread", "done", "dismissed"]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said, as it came; `comment` is its id on its platform."""

    comment: str
    viewer: str
    text: str
    name: str | None = None
    at: int | None = None  # when, in ms, as the platform has it


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one ask: the id of its order, or the code of why there is none."""

    offer: str
    qty: int
    order: str | None = None
    code: str | None = None


class Comment(msgspec.Struct, frozen=True, kw_only=True):
    """A comment's row; times in ms on Postgres' clock but for `said_at`."""

    id: str
    stream: str
    key: str
    platform: str
    comment: str
    viewer: str
    text: str
    at: int
    state: State
    asks: list[Ask]
    answers: list[Answer]
    name: str | None = None
    said_at: int | None = None
    why: Literal["ambiguous", "unreadable"] | None = None
    manual: bool = False  # the host read it
    tries: int = 1
    edited: str | None = None  # the last other text under its id
    edits: int = 0


class Bought(msgspec.Struct, frozen=True):
    """An answer to be told, with the order itself and the link to pay it by."""

    answer: Answer
    order: Order | None = None
    link: str | None = None


def key_of(platform: str, comment: str) -> str:
    """Return the key of a comment's orders: 45 characters of the key alphabet.

    What is digested is length-prefixed (R5): no platform and id can be spelled like another pair.
    Each offer that a comment asks for is bought under this one key: a key's scope is the offer and
    the viewer.
    """
    digest = hashlib.sha256()
    for part in (platform.encode(), comment.encode()):
        digest.update(b"%d:%b" % (len(part), part))
    return "c." + base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")


def viewer_of(platform: str, user: str) -> str:
    """Return whom orders of a user of another platform are for, always the same."""
    return f"{platform}:{user}"
