"""Who may say what, and how often each kind of thing is counted.

Owns the tables of commands by role and by bound, and what a user is called. It must never know a
connection or the wire. Used by session, hub and livecart's HTTP calls.
"""

from __future__ import annotations

import secrets

from streams.codes import Code
from streams.pace import Kind
from streams.ports import Identity
from streams.protocol import (
    HOST_COMMANDS,
    Buy,
    Cancel,
    Chat,
    Command,
    Extend,
    Hello,
    OfferClose,
    OfferOpen,
    OfferPause,
    OfferRestock,
    OfferResume,
    PinCommand,
    Ping,
    React,
    Unpin,
    Waitlist,
    WaitlistLeave,
)

NAME_CHARS_MAX = 40

NOBODY = Identity(sub="", role="guest", name="guest", shop="", exp_ms=None)
_FOR_ALL = (React, Ping, Hello)
_SELLING = (Buy, Cancel, Waitlist, WaitlistLeave)
#: What is counted, and as what; a `service` and an `admin` may do as much as they like.
PACED: dict[type[Command], Kind] = {
    **dict.fromkeys((*_SELLING, Extend), "sell"),
    **dict.fromkeys(HOST_COMMANDS, "host"),
    Chat: "chat",
    React: "react",
}
UNPACED = ("service", "admin")
#: What everybody will be told of, before the chat that comes meanwhile.
TOLD_TO_ALL = frozenset(
    (PinCommand, Unpin, OfferOpen, OfferClose, OfferPause, OfferResume, OfferRestock)
)


def forbids(identity: Identity, command: type[Command], shop: str | None) -> Code | None:
    """Return why a user may not say that in a stream of this shop (None: in none yet), or None."""
    if command in _FOR_ALL:
        return None
    if identity.role == "guest":
        return Code.UNAUTHENTICATED
    if command in _SELLING:
        allowed = identity.role == "viewer"
    elif command in HOST_COMMANDS:
        allowed = shop is not None and identity.may_host(shop)
    elif command is Chat:
        allowed = shop is not None and may_speak(identity, shop)
    else:
        allowed = True
    return None if allowed else Code.FORBIDDEN


def guest() -> Identity:
    """Return a new guest: may watch and react."""
    sub = f"guest_{secrets.token_urlsafe(9)}"
    return Identity(sub=sub, role="guest", name="guest", shop="", exp_ms=None)


def may_speak(identity: Identity, shop: str) -> bool:
    """Tell who may chat: a service has no voice, nor has the host of another shop."""
    return identity.role == "viewer" or (identity.role != "service" and identity.may_host(shop))


def shown_name(identity: Identity) -> str:
    """Return the name that others see."""
    return (identity.name or identity.sub)[:NAME_CHARS_MAX]
