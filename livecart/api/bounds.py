"""Who may act on what: the shop's own streams and offers, within what a token is limited to.

Owns the choice between `not_found` (what a caller may not know of) and `forbidden` (what he may
see but not touch). Used by the nouns of this folder.
"""

from __future__ import annotations

from livecart import commands
from livecart.api.calls import Call
from orders import records
from orders.records import Offer, Order
from streams.codes import Code
from streams.ports import Identity, Refused
from streams.protocol import Product


def hosts(identity: Identity | None, shop: str, stream: str) -> bool:
    """Tell whether this identity acts for the shop, in that stream."""
    return identity is not None and identity.may_host(shop) and identity.may_enter(stream)


async def hosted_stream(call: Call) -> tuple[str, str]:
    """Return (id, shop) of the path's stream; raise `Refused` unless the caller hosts it."""
    stream = call.id()
    shop = await call.services.catalog.shop_of(stream)
    if shop is None:
        raise Refused(Code.NOT_FOUND)
    if not hosts(call.identity, shop, stream):
        raise Refused(Code.FORBIDDEN)
    return stream, shop


async def seen_offer(call: Call) -> Offer:
    """Return the path's offer; one that never left its draft is there for its shop only."""
    offer = await call.services.catalog.offer(call.id())
    if offer is None or not (offer.announced or hosts(call.identity, offer.shop, offer.stream)):
        raise Refused(Code.NOT_FOUND)
    return offer


async def hosted_offer(call: Call) -> Offer:
    """Return the path's offer; raise `Refused` unless the caller hosts its stream."""
    offer = await seen_offer(call)
    if not hosts(call.identity, offer.shop, offer.stream):
        raise Refused(Code.FORBIDDEN)
    return offer


async def hastened_offer(call: Call) -> Offer:
    """Return the same, to be changed: viewers hear of it before the chat that comes meanwhile."""
    offer = await hosted_offer(call)
    call.services.hub.hasten(offer.stream)
    return offer


async def own_order(call: Call) -> tuple[Order, bool]:
    """Return the path's order, and whether the caller hosts it; another's is not found."""
    services = call.services
    return await commands.own_order(services.ledger, services.catalog, call.caller, call.id())


async def shops_product(call: Call, product: str, shop: str) -> Product:
    """Return a product of that shop; raise `Refused(NOT_FOUND)` for another's."""
    found = await call.services.catalog.product(product)
    if found is None or found.shop != shop:
        raise Refused(Code.NOT_FOUND, "No such product in this shop.", field="product")
    return found


async def product_of(call: Call, offer: records.Offer) -> Product:
    """Return the product of an offer, which is always there."""
    return (await call.services.catalog.products([offer.product]))[offer.product]
