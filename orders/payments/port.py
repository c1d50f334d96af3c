"""The payment port: what livecart asks of whoever moves the money, and what it hears from there.

Owns the words of both sides and the errors; knows no provider, no SQL and no HTTP. Implemented by
`stripe`, `manual` and `trial`; called by `cashier` alone. Amounts are integers in the minor unit of
an ISO 4217 currency, as everywhere here; a provider that counts otherwise translates inside.

Every call may be repeated: `key` (of `begin`: the payment's id) names one intention for ever, and a
call with a key that was carried out before answers what that made. What a provider knows only grows
(money once captured stays captured, a refund is further money), so that `Seen` values may arrive
late, twice and in any order, and taking the greatest of each figure is always right.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Literal, Protocol

import msgspec

#: `open`: the buyer has not authorised yet; `authorised`: the money is set aside, none has moved;
#: `captured`: some has moved to the shop; `failed` and `voided`: it ended, and none has moved.
PaymentState = Literal["open", "authorised", "captured", "failed", "voided"]


class ProviderAway(Exception):
    """No answer, or "not now": whether it was done is not known; ask again with the same key."""


class ProviderRefused(Exception):
    """A final no; nothing was carried out. `code`: the provider's word, for people and logs."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code


class NotGenuine(Exception):
    """A notice that is not signed by the provider, or too old to be taken."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A payment to begin."""

    payment: str  # our id, `pay_…`; the key, and kept at the provider beside the payment
    amount_minor: int
    currency: str
    shop: str
    viewer: str
    orders: tuple[str, ...]
    about: str  # one line that a buyer recognises
    ref: str | None = None  # the provider's id, if it was begun before: that one is gone on with


class Refunded(msgspec.Struct, frozen=True, kw_only=True):
    """One refund as the provider knows it."""

    ref: str  # the provider's id
    key: str | None  # under which it was asked for; None: not by us
    amount_minor: int
    state: Literal["pending", "done", "failed"]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider says of one payment at some moment."""

    ref: str  # the provider's id
    payment: str | None  # ours; None: it was not begun by us
    state: PaymentState
    amount_minor: int  # that was asked for
    currency: str
    capturable_minor: int = 0  # set aside and not captured yet
    captured_minor: int = 0  # whatever was refunded of it since
    refunded_minor: int = 0  # of it; refunds that failed do not count
    disputed: bool = False
    refunds: tuple[Refunded, ...] = ()  # of `look` and `listed`; a notice may not have them
    at_ms: int | None = None  # when it was begun, on the provider's clock


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that the buyer may complete now."""

    seen: Seen
    client: Mapping[str, str] = {}  # what his client needs for it; never logged, never stored

    def __repr__(self) -> str:
        return f"Begun({self.seen!r}, …)"  # so that no log gets hold of `client` by accident


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A genuine word from the provider, unasked for."""

    event: str  # the provider's id of it: the same when it is sent again
    kind: str  # in the provider's words, for the timeline
    seen: Seen | None  # None: it does not say how a payment stands
    ref: str | None = None  # the payment that it concerns; with `seen` None: `look` at that one


class Provider(Protocol):
    """Moves money. Raises `ProviderAway` and `ProviderRefused`, and nothing else on purpose."""

    @property
    def name(self) -> str:
        """The word that stands in `payments.provider`."""

    async def begin(self, asked: Asked) -> Begun:
        """Begin a payment: money is only set aside by it, never moved."""

    async def capture(self, ref: str, amount_minor: int, currency: str, key: str) -> Seen:
        """Move what was set aside, or less; the rest is let go."""

    async def void(self, ref: str, key: str) -> Seen:
        """Let go what was set aside, or end a payment that nobody authorised."""

    async def refund(self, ref: str, amount_minor: int, currency: str, key: str) -> Seen:
        """Give captured money back; what comes back counts it."""

    async def look(self, ref: str) -> Seen:
        """Say how it stands, with its refunds."""

    def listed(self, since_ms: int) -> AsyncIterator[Seen]:
        """Go through all payments begun since then, with their refunds."""

    def hear(self, headers: Mapping[str, str], body: bytes, now_s: float) -> Notice:
        """Read a notice; header names are lower case. Raise `NotGenuine`, or ValueError."""

    async def close(self) -> None:
        """Let go of connections."""
