"""Offers over HTTP: create, list, show, revise, open, pause, resume, close, restock."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from livecart import views
from livecart.api.bounds import (
    hastened_offer,
    hosted_offer,
    hosted_stream,
    hosts,
    product_of,
    seen_offer,
    shops_product,
)
from livecart.api.calls import Call, Page, answer_json, listing, once
from livecart.api.operations import Operation
from livecart.api.problems import Answer
from livecart.commands import done
from orders import records
from streams.codes import Code
from streams.ports import Refused
from streams.protocol import (
    Extends,
    Id,
    Keyword,
    Offer,
    OfferMode,
    Payment,
    PriceMinor,
    Quantity,
    RestockAdd,
    TimeMs,
)

PerViewer = Annotated[int, Meta(ge=1, le=1_000_000)]
HoldS = Annotated[int, Meta(ge=1, le=7 * 86_400)]
Buckets = Annotated[int, Meta(ge=1, le=records.BUCKETS_MAX)]
WaitlistMax = Annotated[int, Meta(ge=0, le=1_000_000)]
ShipWithinH = Annotated[int, Meta(ge=1, le=8_760)]
PER_VIEWER = 1
HOLD_S = 600


class NewOffer(msgspec.Struct, kw_only=True):
    """Units of a product to sell in a stream."""

    product: Id
    price_minor: PriceMinor
    quantity: Quantity
    per_viewer: PerViewer | None = None
    opens_at: TimeMs | None = None
    closes_at: TimeMs | None = None
    hold_s: HoldS | None = None
    payment: Payment | None = None
    keyword: Keyword | None = None
    keyword_mode: records.KeywordMode | None = None
    ship_within_h: ShipWithinH | None = None
    extends: Extends | None = None
    waitlist_max: WaitlistMax | None = None
    waitlist_hold_s: HoldS | None = None
    mode: OfferMode | None = None
    eligibility: records.Eligibility | None = None
    buckets: Buckets | None = None


class Revision(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is to change; `clear` names what shall have no value."""

    product: Id | None = None
    price_minor: PriceMinor | None = None
    quantity: Quantity | None = None
    if_quantity: Quantity | None = None  # what it is now, as far as the caller knows
    per_viewer: PerViewer | None = None
    opens_at: TimeMs | None = None
    closes_at: TimeMs | None = None
    hold_s: HoldS | None = None
    payment: Payment | None = None
    keyword: Keyword | None = None
    keyword_mode: records.KeywordMode | None = None
    ship_within_h: ShipWithinH | None = None
    extends: Extends | None = None
    waitlist_max: WaitlistMax | None = None
    waitlist_hold_s: HoldS | None = None
    mode: OfferMode | None = None
    eligibility: records.Eligibility | None = None
    buckets: Buckets | None = None
    clear: list[Literal["keyword", "closes_at"]] | None = None


class Restock(msgspec.Struct, kw_only=True):
    """Units to add."""

    add: RestockAdd


async def create(call: Call, body: NewOffer) -> Answer:
    """Make an offer: a draft, or scheduled when it has a time to open.

    With an `Idempotency-Key` it is made once: 200 when an earlier call of this stream made it.
    """
    stream, shop = await hosted_stream(call)
    product = await shops_product(call, body.product, shop)
    _in_order(body.opens_at, body.closes_at)
    mode, waitlist_max = body.mode or "sale", _waitlist_max(body, None)
    _drawn_whole(mode, body.buckets or 1)
    id_ = call.services.ids.new("of")
    made = done(
        await call.services.changes.create_offer(
            id_,
            stream,
            product.id,
            price_minor=body.price_minor,
            quantity=body.quantity,
            per_viewer=_or(body.per_viewer, PER_VIEWER),
            opens_at=body.opens_at,
            closes_at=body.closes_at,
            hold_s=_or(body.hold_s, HOLD_S),
            payment=body.payment or "required",
            keyword=body.keyword,
            keyword_mode=body.keyword_mode or "contains",
            extends=body.extends or 0,
            waitlist_max=waitlist_max,
            waitlist_hold_s=_or(body.waitlist_hold_s, records.WAITLIST_HOLD_S),
            mode=mode,
            eligibility=body.eligibility or "anyone",
            buckets=body.buckets or 1,
            ship_within_h=body.ship_within_h,
            once=once(call, body),
        )
    )
    return answer_json(await _shown(call, made), 201 if made.id == id_ else 200)


async def listed(call: Call) -> dict[str, Any]:
    """List a stream's offers, newest first; those never announced for their shop only."""
    query: Page = call.query
    limit = query.size
    stream = call.id()
    shop = await call.services.catalog.shop_of(stream)
    if shop is None:
        raise Refused(Code.NOT_FOUND)
    unannounced = hosts(call.identity, shop, stream)
    found = await call.services.catalog.offers_page(stream, unannounced, query.before, limit + 1)
    products = await call.services.catalog.products(offer.product for offer in found)
    shown = [views.offer(offer, products[offer.product]) for offer in found]
    return listing(found, shown, limit)


async def show(call: Call) -> Offer:
    """Show an offer."""
    return await _shown(call, await seen_offer(call))


async def revise(call: Call, body: Revision) -> Offer:
    """Change a draft; later only `quantity`, `closes_at` and `ship_within_h`.

    With `if_quantity` it is refused as a `conflict` when the quantity is another by now.
    """
    offer = await hosted_offer(call)
    if body.product is not None:
        await shops_product(call, body.product, offer.shop)
    fields = msgspec.to_builtins(body)
    for name in dict.fromkeys(fields.pop("clear", ())):
        if name in fields:
            raise Refused(Code.BAD_REQUEST, f"`{name}` has a value as well", field="clear")
        fields[name] = None
    if body.opens_at is not None or body.closes_at is not None:
        _in_order(fields.get("opens_at", offer.opens_at), fields.get("closes_at", offer.closes_at))
    hours = fields.pop("ship_within_h", None)
    if fields:
        _drawn_whole(body.mode or offer.mode, body.buckets or offer.buckets)
        if body.mode is not None or body.waitlist_max is not None:
            waitlist_max = _waitlist_max(body, offer)
            if waitlist_max != offer.waitlist_max:
                fields["waitlist_max"] = waitlist_max
        offer = done(await call.services.changes.revise_offer(offer.id, fields))
    if hours is not None:  # last: a revision that is refused changes nothing
        offer = done(await call.services.changes.ship_within(offer.id, hours))
    return await _shown(call, offer)


async def open_(call: Call) -> Offer:
    """Open now."""
    offer = await hastened_offer(call)
    return await _shown(call, done(await call.services.changes.open_offer(offer.id)))


async def pause(call: Call) -> Offer:
    """Sell no more until it is resumed; held orders stay payable."""
    offer = await hastened_offer(call)
    return await _shown(call, done(await call.services.changes.pause_offer(offer.id)))


async def resume(call: Call) -> Offer:
    """Sell on what is left; with nothing left the offer is sold out."""
    offer = await hastened_offer(call)
    return await _shown(call, done(await call.services.changes.resume_offer(offer.id)))


async def close(call: Call) -> Offer:
    """Close for good; held orders stay payable."""
    offer = await hastened_offer(call)
    return await _shown(call, done(await call.services.changes.close_offer(offer.id)))


async def restock(call: Call, body: Restock) -> Offer:
    """Add units, once per key."""
    offer = await hastened_offer(call)
    return await _shown(
        call, done(await call.services.changes.restock(offer.id, call.key, body.add))
    )


async def _shown(call: Call, offer: records.Offer) -> Offer:
    return views.offer(offer, await product_of(call, offer))


def _waitlist_max(body: NewOffer | Revision, offer: records.Offer | None) -> int:
    """Return how many may wait; a draw takes more unless told otherwise, but never none."""
    before = "sale" if offer is None else offer.mode
    mode = body.mode or before
    usual = records.DRAW_ENTRIES_MAX if mode == "draw" else records.WAITLIST_MAX
    stands = usual if offer is None or mode != before else offer.waitlist_max
    given = _or(body.waitlist_max, stands)
    if mode == "draw" and not 1 <= given <= records.DRAW_ENTRIES_MAX:
        what = f"Expected 1 to {records.DRAW_ENTRIES_MAX} of a draw"
        raise Refused(Code.BAD_REQUEST, what, field="waitlist_max")
    return given


def _drawn_whole(mode: records.OfferMode, buckets: int) -> None:
    if mode == "draw" and buckets > 1:
        raise Refused(Code.BAD_REQUEST, "A draw is held over one bucket", field="buckets")


def _or(given: int | None, default: int) -> int:
    return default if given is None else given


def _in_order(opens_at: int | None, closes_at: int | None) -> None:
    if opens_at is not None and closes_at is not None and closes_at <= opens_at:
        raise Refused(Code.BAD_REQUEST, "Expected a time after `opens_at`", field="closes_at")


_OF_ITS_STATE = (Code.NOT_FOUND, Code.CONFLICT)

OPERATIONS = (
    Operation(
        method="POST", path="/v1/streams/{id}/offers", handle=create, who="host", status=201,
        summary="Make an offer", body=NewOffer, result=Offer, may_key=True, replays=True,
        refusals=(*_OF_ITS_STATE, Code.KEY_REUSED),
    ),
    Operation(
        method="GET", path="/v1/streams/{id}/offers", handle=listed, who="anyone",
        summary="List a stream's offers", query=Page, result=Offer, listed=True,
        refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="GET", path="/v1/offers/{id}", handle=show, who="anyone",
        summary="Show an offer", result=Offer, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="PATCH", path="/v1/offers/{id}", handle=revise, who="host",
        summary="Change an offer", body=Revision, result=Offer, refusals=_OF_ITS_STATE,
    ),
    Operation(
        method="POST", path="/v1/offers/{id}/open", handle=open_, who="host",
        summary="Open an offer", result=Offer, refusals=_OF_ITS_STATE,
    ),
    Operation(
        method="POST", path="/v1/offers/{id}/pause", handle=pause, who="host",
        summary="Pause an offer", result=Offer, refusals=_OF_ITS_STATE,
    ),
    Operation(
        method="POST", path="/v1/offers/{id}/resume", handle=resume, who="host",
        summary="Resume a paused offer", result=Offer, refusals=_OF_ITS_STATE,
    ),
    Operation(
        method="POST", path="/v1/offers/{id}/close", handle=close, who="host",
        summary="Close an offer", result=Offer, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="POST", path="/v1/offers/{id}/restock", handle=restock, who="host", keyed=True,
        summary="Add units", body=Restock, result=Offer,
        refusals=(*_OF_ITS_STATE, Code.KEY_REUSED),
    ),
)  # fmt: skip
