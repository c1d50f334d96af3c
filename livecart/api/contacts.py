"""Where an order goes to, over HTTP: said by its buyer, read by its shop, erased by either."""

from __future__ import annotations

from livecart.api.bounds import own_order
from livecart.api.calls import Call
from livecart.api.operations import Operation
from livecart.contacts import Contact
from orders import records
from streams.codes import Code
from streams.ports import Refused


async def _shop_of(call: Call, order: records.Order) -> str:
    shop = await call.services.catalog.shop_of(order.stream)
    assert shop is not None  # an order is of a stream that is there
    return shop


async def keep(call: Call, body: Contact) -> None:
    """Say where an order goes to; once it is shipped, nobody needs to know any more."""
    order, _ = await own_order(call)
    if order.status not in ("reserved", "confirmed"):
        raise Refused(Code.CONFLICT)
    await call.services.contacts.keep([order.id], await _shop_of(call, order), body)


async def show(call: Call) -> Contact:
    """Show where an order goes to."""
    order, _ = await own_order(call)
    found = await call.services.contacts.of(order.id)
    if found is None:
        raise Refused(Code.NOT_FOUND)
    return found


async def erase(call: Call) -> None:
    """Forget where an order goes to, for good; the order stays."""
    order, _ = await own_order(call)
    await call.services.contacts.erase(order.id)


OPERATIONS = (
    Operation(
        method="PUT", path="/v1/orders/{id}/contact", handle=keep, who="member", body=Contact,
        summary="Say where an order goes to", refusals=(Code.NOT_FOUND, Code.CONFLICT),
    ),
    Operation(
        method="GET", path="/v1/orders/{id}/contact", handle=show, who="member", result=Contact,
        summary="Show where an order goes to", refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="DELETE", path="/v1/orders/{id}/contact", handle=erase, who="member",
        summary="Forget where an order goes to", refusals=(Code.NOT_FOUND,),
    ),
)  # fmt: skip
