"""Changes of orders, offers and streams: Postgres first, then the gate, then the telling.

Owns the order of those three steps for everything but a buy; who may do it is decided before, by
the caller. Each step after the commit may be cut off by a crash: the keeper follows movements and
publishes facts that were left (R4, R9). Called by `livecart` (routes and commands) and keeper.
Raises `LedgerAway` when the outcome is not known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from orders import failpoints
from orders.comments.grammar import keyword_form
from orders.ledger.ledger import Ledger, LedgerAway
from orders.rebuild import Rebuilder
from orders.records import (
    WAITLIST_HOLD_S,
    WAITLIST_MAX,
    Eligibility,
    Figures,
    KeywordMode,
    Listener,
    Offer,
    OfferMode,
    Once,
    Order,
    Refused,
    Why,
)
from orders.stock.gate import GateAway, GateBroken
from orders.whole import Wholes

log = logging.getLogger(__name__)

GATES_AT_ONCE = 4  # of an offer in buckets: each may be a rebuild, with a connection of its own

_WHY = {
    "not_found": Why.NOT_FOUND,
    "conflict": Why.CONFLICT,
    "key_reused": Why.KEY_REUSED,
}
_UNREADABLE = Refused(
    Why.BAD_REQUEST, field="keyword", message="No comment could be read that has this keyword"
)


class Changes:
    """Makes changes and sees to what follows from them; each method may be repeated."""

    def __init__(self, ledger: Ledger, rebuilder: Rebuilder, listener: Listener) -> None:
        self._ledger = ledger
        self._rebuilder = rebuilder
        self._listener = listener
        self._wholes = Wholes(ledger, listener)  # those in buckets, after their orders changed
        rebuilder.attach(listener.changed)

    async def close(self) -> None:
        """Leave what is not told yet to the keeper."""
        await self._wholes.close()

    # --- orders ----------------------------------------------------------------------------------

    async def cancel(
        self, order: str, by_host: bool, reason: str | None, who: str | None = None
    ) -> Order | Refused:
        """End an order and give its units back; a viewer may only while it is reserved.

        Here as below, `who` is named in the order's timeline.
        """
        return await self.settled(*await self._ledger.cancel(order, by_host, reason, who))

    async def pay(self, order: str, who: str | None = None) -> Order | Refused:
        """Note a reserved order as paid by hand; a confirmed one is returned as it is."""
        return await self.settled(*await self._ledger.pay(order, who))

    async def extend(self, order: str, version: int, who: str | None = None) -> Order | Refused:
        """Move a reserved order's deadline, once for the `version` that the caller saw."""
        return await self.settled(*await self._ledger.extend(order, version, who))

    async def settled(self, word: str, order: Order | None) -> Order | Refused:
        """Do what follows from a change that the ledger answered with this word."""
        if word in _WHY or order is None:
            return Refused(_WHY[word])
        if word == "ok":
            await failpoints.reach("change.committed")
            self._listener.changed([order])
            try:
                await self.settle(order.home, order.stream, [order.id])
            except LedgerAway as error:  # the change is committed: that is what is answered
                log.warning("the rest of %s is left to the keeper: %s", order.id, error)
        return order

    async def settle(self, offer: str, stream: str, told: Collection[str] = ()) -> None:
        """Do what follows from changed orders: tell the gate, the figures and the facts.

        `offer`: whose gate it is, a bucket where the offer has any. `told`: the orders whose
        viewers were told already.
        """
        await self._tell_gate(offer, told=told)
        await failpoints.reach("gate.told")
        for now in await self._ledger.offers([offer]):
            if now.parent is not None:
                self._wholes.changed(now.parent)
            else:
                self._listener.figures(Figures(now.id, now.stream, now.left, now.version))
        self._listener.told(stream)

    # --- offers ----------------------------------------------------------------------------------

    async def create_offer(
        self,
        offer: str,
        stream: str,
        product: str,
        *,
        price_minor: int,
        quantity: int,
        per_viewer: int,
        opens_at: int | None,
        closes_at: int | None,
        hold_s: int,
        payment: str,
        keyword: str | None,
        keyword_mode: KeywordMode = "contains",
        extends: int,
        waitlist_max: int = WAITLIST_MAX,
        waitlist_hold_s: int = WAITLIST_HOLD_S,
        mode: OfferMode = "sale",
        eligibility: Eligibility = "anyone",
        buckets: int = 1,
        ship_within_h: int | None = None,
        once: Once | None = None,
    ) -> Offer | Refused:
        """Make an offer, a draft or (with `opens_at`) scheduled; times in ms.

        What was made before under the key of `once` is returned as it is now.
        """
        form = None if keyword is None else keyword_form(keyword)
        if keyword is not None and form is None:
            return _UNREADABLE
        word, made = await self._ledger.create_offer(
            offer, stream, product, price_minor, quantity, per_viewer, opens_at, closes_at, hold_s,
            payment, keyword, form, keyword_mode, extends, waitlist_max, waitlist_hold_s, mode,
            eligibility, buckets, ship_within_h, once,
        )  # fmt: skip
        return await self._offer(made, word)

    async def revise_offer(self, offer: str, fields: dict[str, Any]) -> Offer | Refused:
        """Change fields: any of a draft, later only `quantity` and `closes_at`.

        With `if_quantity` among them, only while the quantity is still that, or is as wanted. None
        empties `keyword` and `closes_at`.
        """
        if "keyword" in fields:
            keyword = fields["keyword"]
            form = None if keyword is None else keyword_form(keyword)
            if keyword is not None and form is None:
                return _UNREADABLE
            fields = fields | {"keyword_form": form}
        word = await self._ledger.word("revise_offer", offer, msgspec.json.encode(fields).decode())
        return await self._offer(offer, word)

    async def ship_within(self, offer: str, hours: int) -> Offer | Refused:
        """Say within how many hours orders are shipped; also of an offer that is over."""
        word = await self._ledger.word("set_ship_within", offer, hours)
        return await self._offer(offer, word, figures=False)

    async def open_offer(self, offer: str, if_due: bool = False) -> Offer | Refused:
        """Open now, or with `if_due` only when its time has come."""
        word = await self._ledger.word("open_offer", offer, if_due)
        return await self._offer(offer, word, figures=False)  # the event has them

    async def close_offer(
        self, offer: str, reason: str | None = None, if_due: bool = False
    ) -> Offer | Refused:
        """Close for good; held orders stay payable."""
        word = await self._ledger.word("close_offer", offer, reason, if_due)
        return await self._offer(offer, word, figures=False)

    async def pause_offer(self, offer: str, reason: str | None = None) -> Offer | Refused:
        """Sell no more until it is resumed; held orders stay payable."""
        word = await self._ledger.word("pause_offer", offer, reason)
        return await self._offer(offer, word)

    async def resume_offer(self, offer: str) -> Offer | Refused:
        """Sell on what is left; with nothing left the offer is sold out."""
        word = await self._ledger.word("resume_offer", offer)
        return await self._offer(offer, word, figures=False)

    async def restock(self, offer: str, key: str, add: int) -> Offer | Refused:
        """Add units, once per key."""
        word = await self._ledger.word("restock", offer, key, add)
        if word == "too_many":
            what = "The offer would have more than 1,000,000 units"
            return Refused(Why.BAD_REQUEST, field="add", message=what)
        return await self._offer(offer, word)

    async def _offer(self, offer: str, word: str, figures: bool = True) -> Offer | Refused:
        if word == "keyword_taken":
            what = "Another offer of the stream has this keyword"
            return Refused(Why.CONFLICT, field="keyword", message=what)
        if word == "quantity_differs":
            what = "The offer has another quantity by now"
            return Refused(Why.CONFLICT, field="if_quantity", message=what)
        if word in _WHY:
            return Refused(_WHY[word])
        if word == "ok":
            await failpoints.reach("host.committed")
        now = (await self._ledger.offers([offer]))[0]
        if word == "ok":
            if now.active or now.status == "closed":
                await self._tell_gates(now.homes, install=now.active)
            if figures and now.status != "draft":  # nobody outside the shop may know of one
                self._listener.figures(Figures(now.id, now.stream, now.left, now.version))
            self._listener.told(now.stream)
        if now.spread and now.status != "draft":
            self._wholes.changed(now.id)  # its own row may be behind its buckets
        return now

    async def _tell_gates(self, homes: Sequence[str], install: bool = False) -> None:
        """Bring the gates of an offer up to date, a few at a time."""
        for n in range(0, len(homes), GATES_AT_ONCE):
            some = homes[n : n + GATES_AT_ONCE]
            await asyncio.gather(*(self._tell_gate(home, install) for home in some))

    async def _tell_gate(
        self, offer: str, install: bool = False, told: Collection[str] = ()
    ) -> None:
        """Bring the gate up to date; what fails here the keeper does, within a second."""
        await failpoints.reach("gate.due")
        try:
            if not await self._rebuilder.follow(offer, told) and install:
                await self._rebuilder.rebuild(offer)
        except (GateAway, GateBroken) as error:
            log.warning("the gate does not know yet of %s: %s", offer, error)

    # --- streams ---------------------------------------------------------------------------------

    async def start_stream(self, stream: str) -> Refused | None:
        """Go live; None when it is live now."""
        return await self._stream("start_stream", stream)

    async def end_stream(self, stream: str) -> Refused | None:
        """Close every offer, then end; None when it is ended now."""
        return await self._stream("end_stream", stream)

    async def start_ingest(
        self, stream: str, session: str, late_s: float, playback_url: str | None, beside: bool
    ) -> Refused | None:
        """Go live since somebody publishes; None also when that was known, or came too late.

        `beside`: he may be one of several.
        """
        return await self._stream("start_ingest", stream, session, late_s, playback_url, beside)

    async def end_ingest(self, stream: str) -> Refused | None:
        """End a stream whose publisher has not come back within the grace."""
        return await self._stream("end_ingest", stream)

    async def _stream(self, function: str, stream: str, *args: object) -> Refused | None:
        word = await self._ledger.word(function, stream, *args)
        if word in _WHY:
            return Refused(_WHY[word])
        if word == "ok":
            for offer in await self._ledger.offers_of_stream(stream):
                await self._tell_gates(offer.homes)
            self._listener.told(stream)
        return None

    async def pin(
        self, stream: str, pin: str, product: str, offer: str | None, media_at: int | None,
        pins_max: int,
    ) -> Refused | None:  # fmt: skip
        """Show a product; the oldest pin goes when there would be more than `pins_max`."""
        word = await self._ledger.word(
            "pin_product", stream, pin, product, offer, media_at, pins_max
        )
        return self._pinned(stream, word)

    async def unpin(self, stream: str, pin: str) -> Refused | None:
        """Take a pin away."""
        return self._pinned(stream, await self._ledger.word("unpin_product", stream, pin))

    def _pinned(self, stream: str, word: str) -> Refused | None:
        if word in _WHY:
            return Refused(_WHY[word])
        self._listener.told(stream)
        return None
