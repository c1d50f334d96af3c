"""A stream's sales over HTTP: what was sold, paid and given back, by product and by minute."""

from __future__ import annotations

from typing import Any

import msgspec

from livecart.api.bounds import hosted_stream
from livecart.api.calls import Call
from livecart.api.operations import Operation
from orders.ledger import sales
from streams.codes import Code

MINUTES_MAX = 2_880  # entries of a summary; totals are of all


class Sums(msgspec.Struct, kw_only=True):
    """Sums over orders of one currency; amounts in its minor units."""

    currency: str
    orders: int  # admitted, whatever became of them,
    ended: int  # of which expired, cancelled or refunded
    units: int  # of orders that live: reserved, confirmed or shipped
    unpaid: int  # of these orders, those whose money has not moved,
    unpaid_minor: int  # and what they are to be paid with
    captured_minor: int  # amounts of orders whose money has moved, live or not,
    refunded_minor: int  # what of that went back, or is on its way,
    net_minor: int  # and what is left


class ProductSums(Sums, kw_only=True):
    """The same of one product."""

    product: str


class MinuteSums(Sums, kw_only=True):
    """The same of orders that were admitted in one minute, as they are now."""

    at: int  # when it began


class Summary(msgspec.Struct, kw_only=True):
    """A stream's sales as of one moment."""

    stream: str
    totals: list[Sums]  # one a currency
    products: list[ProductSums]
    minutes: list[MinuteSums]  # newest first; minutes without an order are left out


async def summary(call: Call) -> Summary:
    """Sum up a stream's orders: all, by product, and by the minute of their admission."""
    stream, _ = await hosted_stream(call)
    found = await sales.summary(call.services.ledger, stream)
    return Summary(
        stream=stream,
        totals=[Sums(**_fields(figures)) for figures in found.totals],
        products=[ProductSums(product=id_, **_fields(of)) for id_, of in found.products],
        minutes=[MinuteSums(at=at, **_fields(of)) for at, of in found.minutes[:MINUTES_MAX]],
    )


def _fields(of: sales.Figures) -> dict[str, Any]:
    net_minor = of.captured_minor - of.refunded_minor
    return {**msgspec.structs.asdict(of), "net_minor": net_minor}


OPERATIONS = (
    Operation(
        method="GET", path="/v1/streams/{id}/summary", handle=summary, who="host",
        summary="Sum up a stream's sales", result=Summary, refusals=(Code.NOT_FOUND,),
    ),
)  # fmt: skip
