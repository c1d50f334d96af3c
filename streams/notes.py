"""What hubs tell each other that is not sequenced, as typed notes.

Owns their form on the way. Must never know how they travel, nor a session. Used by bus, mouth and
hub, and by livecart, which makes some where there is no hub.
"""

from __future__ import annotations

from typing import Literal

import msgspec

ControlKind = Literal["mute", "unmute", "ban"]


class StockNote(msgspec.Struct, tag="stock", frozen=True):
    stream: str
    offer: str
    left: int
    version: int


class ReactionsNote(msgspec.Struct, tag="reactions", frozen=True):
    stream: str
    counts: dict[str, int]


class OrdersNote(msgspec.Struct, tag="orders", frozen=True):
    """Order events of one commit batch, each still encoded: most are for nobody here."""

    stream: str
    items: list[tuple[str, msgspec.Raw]]


class ControlNote(msgspec.Struct, tag="control", frozen=True):
    stream: str
    kind: ControlKind
    user: str
    until_ms: int | None = None


class SlowNote(msgspec.Struct, tag="slow", frozen=True):
    stream: str
    every_s: int


class LostNote(msgspec.Struct, tag="lost", frozen=True):
    """Notes of this tag were dropped by their sender."""


Note = StockNote | ReactionsNote | OrdersNote | ControlNote | SlowNote | LostNote


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """One message: notes of one tag."""

    origin: str  # the hub, which has delivered its own notes already
    notes: list[Note]


def channel_of(tag: str) -> str:
    """Return the channel that the notes of a tag are said on; its slot is the tag's."""
    return f"{tag}:bus"


def tag_of_channel(channel: str) -> str:
    """Return whose channel it is."""
    return channel.removesuffix(":bus")
