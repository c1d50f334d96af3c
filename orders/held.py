"""Buys that have a hold, alone or as a part of a bundle, on the way to the ledger.

Plain values; made by counter, and for parts handed to bundles. Knows no Redis and no SQL.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from orders.ledger.ledger import Admitted, Line
from orders.records import Accepted, Buy, Figures, Offer, Order, Outcome, Refused


class Held(NamedTuple):
    """A buy with its hold, on the way to the ledger."""

    buy: Buy
    line: Line
    epoch: int
    fresh: bool  # taken for this buy, and sent to no admission before: the hub may undo it (R1)


class Holder(Protocol):
    """Whose hold it is until it is resolved (`orders.counter.Counter`)."""

    home: str

    def figures(self, left: int, version: int) -> Figures | None:
        """Return the offer's figures after an admission, where they are known."""

    def resolve(self, held: Held, written: bool, undo: bool) -> None:
        """Be told what became of a hold that was handed out."""


class Part(Buy):
    """The units of one offer in a bundle: a buy that is held as any other, but not admitted alone.

    It waits in the same line as other buys. `judged` is its hold, or what it was answered.
    """

    __slots__ = ("holder", "judged", "left")

    def __init__(
        self, offer: str, viewer: str, qty: int, key: str, tag: object, stream: str,
        ticket: str | None,
    ) -> None:  # fmt: skip
        super().__init__(offer, viewer, qty, key, _answered, tag, stream, ticket)
        self.judged: asyncio.Future[Held | Accepted | Refused] = (
            asyncio.get_running_loop().create_future()
        )
        self.holder: Holder | None = None  # once it is held
        self.left = False  # nobody waits for it any more

    def take(self, holder: Holder, held: Held) -> bool:
        """Take the hold; False when it comes too late."""
        if self.left:
            return False
        self.holder = holder
        self.judged.set_result(held)
        return True


def _answered(buy: Buy, outcome: Outcome) -> None:
    assert isinstance(buy, Part)
    if not buy.judged.done():
        buy.judged.set_result(outcome)


def order_of(offer: Offer, bucket: int, line: Line, admitted: Admitted) -> Order:
    """Return the order that an admitted line of this bucket (0: there is none) became."""
    confirmed = admitted.status == "confirmed"
    return Order(
        id=line.id,
        stream=offer.stream,
        offer=offer.id,
        product=offer.product,
        viewer=line.viewer,
        key=line.key,
        qty=line.qty,
        unit_price_minor=offer.price_minor,
        currency=offer.currency,
        status=admitted.status,
        rank=line.rank,
        version=1,
        reserved_at=admitted.reserved_ms,
        expires_at=None if confirmed else admitted.expires_ms,
        confirmed_at=admitted.reserved_ms if confirmed else None,
        tax_bp=offer.tax_bp,
        extends_left=None if confirmed else offer.extends or None,
        bucket=bucket,
    )
