"""Records as the wire shows them."""

from __future__ import annotations

import pytest

from livecart import views
from orders import records
from streams import protocol

PRODUCT = protocol.Product(
    id="pr_1", shop="s", sku="a", title="茶", price_minor=1999, currency="TWD"
)
OFFER = records.Offer(
    id="of_1", stream="st_1", shop="s", product="pr_1", price_minor=1500, currency="TWD",
    quantity=10, taken=7, confirmed=3, per_viewer=2, status="open", stream_status="live",
    hold_s=600, payment="required", epoch=2, version=9, last_movement=4, announced=True, opens_at=5,
)  # fmt: skip
ORDER = records.Order(
    id="or_1", stream="st_1", offer="of_1", product="pr_1", viewer="ann", key="k", qty=3,
    unit_price_minor=1500, currency="TWD", status="reserved", rank=7, version=1, reserved_at=5,
    expires_at=605,
)  # fmt: skip


def test_units_are_left_reserved_or_confirmed() -> None:
    """The three figures of an offer add up to its quantity."""
    offer = views.offer(OFFER, PRODUCT)
    assert (offer.left, offer.reserved, offer.confirmed) == (3, 4, 3)
    assert offer.left + offer.reserved + offer.confirmed == offer.quantity
    assert offer.product is PRODUCT


def test_an_order_has_its_amount() -> None:
    """The amount is price times quantity, in minor units."""
    assert views.order(ORDER).amount_minor == 4500


@pytest.mark.parametrize("status", sorted(protocol.ORDER_EVENT))
def test_every_status_has_its_event(status: records.OrderStatus) -> None:
    """The event of an order is named by its status; `replayed` is said only when true."""
    order = records.Order(
        **{f: getattr(ORDER, f) for f in ORDER.__struct_fields__} | {"status": status}
    )
    event = views.order_event(order, re=4)
    assert event.__struct_config__.tag == f"order.{status}"
    assert (event.re, event.replayed, event.order.status) == (4, None, status)
    assert views.order_event(order, replayed=True).replayed is True


def test_a_fact_shows_the_offer_as_it_was() -> None:
    """A row as jsonb has it, with more columns than needed, becomes an offer."""
    body = {
        "id": "of_1", "stream": "st_1", "product": "pr_1", "price_minor": 1500, "quantity": 10,
        "taken": 7, "confirmed": 3, "per_viewer": 2, "status": "open", "hold_s": 600,
        "payment": "required", "epoch": 2, "version": 9, "fence_rank": 0, "last_movement": 4,
        "opens_at": 5, "closes_at": None, "keyword": None,
        "created_at": "2026-11-22T03:04:05.678901+00:00",
    }  # fmt: skip
    assert views.offer_of_fact(body, PRODUCT) == views.offer(OFFER, PRODUCT)
