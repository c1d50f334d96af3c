"""Records of selling as objects of the protocol.

Owns the derived figures of the wire (`left`, `reserved`). Pure functions; called by routes,
commands, rooms and the announcer.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from orders import money, records
from streams import protocol


def offer(record: records.Offer, product: protocol.Product) -> protocol.Offer:
    """Return an offer as clients see it."""
    return protocol.Offer(
        id=record.id,
        stream=record.stream,
        product=product,
        price_minor=record.price_minor,
        currency=record.currency,
        quantity=record.quantity,
        left=record.quantity - record.taken,
        reserved=record.taken - record.confirmed,
        confirmed=record.confirmed,
        per_viewer=record.per_viewer,
        status=record.status,
        hold_s=record.hold_s,
        payment=record.payment,
        epoch=record.epoch,
        version=record.version,
        opens_at=record.opens_at,
        closes_at=record.closes_at,
        keyword=record.keyword,
        keyword_mode=_exact(record.keyword_mode),
        ship_within_h=_unless(record.ship_within_h, records.SHIP_WITHIN_H),
        extends=record.extends,
        waiting=record.waiting,
        waitlist_max=_unless(record.waitlist_max, records.WAITLIST_MAX),
        waitlist_hold_s=_unless(record.waitlist_hold_s, records.WAITLIST_HOLD_S),
        mode=None if record.mode == "sale" else record.mode,
        seed_hash=record.seed_hash,
        seed=record.seed,
        eligibility=_ticket(record.eligibility),
        buckets=_unless(record.buckets, 1),
    )


def order(record: records.Order) -> protocol.Order:
    """Return an order as clients see it."""
    return protocol.Order(
        id=record.id,
        stream=record.stream,
        offer=record.offer,
        product=record.product,
        viewer=record.viewer,
        qty=record.qty,
        unit_price_minor=record.unit_price_minor,
        amount_minor=record.unit_price_minor * record.qty,
        currency=record.currency,
        status=record.status,
        rank=record.rank,
        key=record.key,
        version=record.version,
        reserved_at=record.reserved_at,
        expires_at=record.expires_at,
        confirmed_at=record.confirmed_at,
        bundle=record.bundle,
        extends_left=record.extends_left,
        captured_at=record.captured_at,
        refunded_minor=record.refunded_minor,
        shipped_at=record.shipped_at,
        carrier=record.carrier,
        tracking=record.tracking,
        late_at=record.late_at,
        replaces=record.replaces,
        tax_minor=_tax(record),
    )


def _tax(record: records.Order) -> int | None:
    if record.tax_bp is None:
        return None
    return money.split_tax(record.amount_minor, record.tax_bp).tax_minor


def order_event(
    record: records.Order, re: int | None = None, replayed: bool = False
) -> protocol.OrderEvent:
    """Return the event that tells of an order's present status."""
    return protocol.ORDER_EVENT[record.status](
        order=order(record), re=re, replayed=True if replayed else None
    )


def offer_of_fact(body: dict[str, Any], product: protocol.Product) -> protocol.Offer:
    """Return the offer that a fact was written with: its row at that moment, as jsonb has it."""
    row = msgspec.convert(body, OfferRow)
    return protocol.Offer(
        id=row.id,
        stream=row.stream,
        product=product,
        price_minor=row.price_minor,
        currency=product.currency,
        quantity=row.quantity,
        left=row.quantity - row.taken,
        reserved=row.taken - row.confirmed,
        confirmed=row.confirmed,
        per_viewer=row.per_viewer,
        status=row.status,
        hold_s=row.hold_s,
        payment=row.payment,
        epoch=row.epoch,
        version=row.version,
        opens_at=row.opens_at,
        closes_at=row.closes_at,
        keyword=row.keyword,
        keyword_mode=_exact(row.keyword_mode),
        ship_within_h=_unless(row.ship_within_h, records.SHIP_WITHIN_H),
        extends=row.extends,
        waiting=row.waiting,
        waitlist_max=_unless(row.waitlist_max, records.WAITLIST_MAX),
        waitlist_hold_s=_unless(row.waitlist_hold_s, records.WAITLIST_HOLD_S),
        mode=None if row.mode == "sale" else row.mode,
        seed_hash=row.seed_hash,
        seed=row.seed,
        eligibility=_ticket(row.eligibility),
        buckets=_unless(row.buckets, 1),
    )


def _ticket(eligibility: records.Eligibility) -> Literal["ticket"] | None:
    return "ticket" if eligibility == "ticket" else None


def _exact(mode: records.KeywordMode) -> Literal["exact"] | None:
    return "exact" if mode == "exact" else None


def _unless(value: int, usual: int) -> int | None:
    """Return a term that clients are told of only where it is not the usual one."""
    return None if value == usual else value


class OfferRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `offers` as `offer_body` writes it; more columns than these are ignored."""

    id: str
    stream: str
    product: str
    price_minor: int
    quantity: int
    taken: int
    confirmed: int
    per_viewer: int
    status: records.OfferStatus
    hold_s: int
    payment: protocol.Payment
    epoch: int
    version: int
    opens_at: int | None = None
    closes_at: int | None = None
    keyword: str | None = None
    keyword_mode: records.KeywordMode = "contains"
    ship_within_h: int = records.SHIP_WITHIN_H
    extends: int = 0
    waiting: int = 0
    waitlist_max: int = records.WAITLIST_MAX
    waitlist_hold_s: int = records.WAITLIST_HOLD_S
    mode: records.OfferMode = "sale"
    seed_hash: str | None = None
    seed: str | None = None
    eligibility: records.Eligibility = "anyone"
    buckets: int = 1
