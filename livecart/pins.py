"""A pin to be: of whose product it may be, and to which moment of the video it belongs.

Owns both; knows no route and no socket. Called by the commands and by the routes of streams.
"""

from __future__ import annotations

from livecart.catalog.store import Catalog
from orders.ids import Ids
from streams.codes import Code
from streams.ports import Refused
from streams.protocol import Pin, Product


async def new_pin(
    catalog: Catalog, ids: Ids, stream: str, shop: str, product: str, offer: str | None,
    media_at: int | None,
) -> Pin:  # fmt: skip
    """Return the pin; raise `Refused` when product or offer is another's.

    Without a `media_at` of the host's, a stream with video gets the time of this call: programme
    time is the time of day, and viewers whose video is behind hold the pin until they are there.
    """
    found = await _pinnable(catalog, stream, shop, product, offer)
    if media_at is None:
        of = await catalog.stream(stream)
        if of is not None and of.playback_url is not None:
            media_at = ids.now_ms()
    return Pin(id=ids.new("pin"), product=found, position=0, offer=offer, media_at=media_at)


async def _pinnable(
    catalog: Catalog, stream: str, shop: str, product: str, offer: str | None
) -> Product:
    """Return the product; raise `Refused` when it or the offer is another's."""
    found = await catalog.product(product)
    if found is None or found.shop != shop:
        raise Refused(Code.NOT_FOUND, field="product")
    if offer is not None:
        of = await catalog.offer(offer)
        if of is None or of.stream != stream:
            raise Refused(Code.NOT_FOUND, field="offer")
        if of.product != product:
            raise Refused(Code.BAD_REQUEST, "The offer is of another product.", field="offer")
    return found
