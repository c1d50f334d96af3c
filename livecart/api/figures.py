"""A stream's live figures over HTTP: who watches, orders, refusals by their code.

What was sold and paid is `sales`'; these are the numbers of the moment, for a host's screen.
"""

from __future__ import annotations

import msgspec

from livecart.api.bounds import hosted_stream
from livecart.api.calls import Call
from livecart.api.operations import Operation
from streams.codes import Code
from streams.ports import Refused


class LiveFigures(msgspec.Struct, kw_only=True):
    """A stream's buys as counted on all processes, at most about a second behind."""

    stream: str
    viewers: int  # connections now, guests included,
    peak_viewers: int  # and at most
    orders: int  # admitted buys; without those of the waitlist's promotions and of draws
    orders_last_10_s: int  # of these, in the last ten full seconds
    refusals: dict[str, int]  # refused buys by code
    now: int  # the server's time, ms


async def figures(call: Call) -> LiveFigures:
    """Tell how it goes; what is counted is forgotten a day after the last buy."""
    id_, _ = await hosted_stream(call)
    services = call.services
    stream = await services.catalog.stream(id_)
    if stream is None:
        raise Refused(Code.NOT_FOUND)
    viewers, _ = await services.hub.counts.audience(id_)
    tally = await services.figures.of(id_)
    return LiveFigures(
        stream=id_,
        viewers=viewers,
        peak_viewers=max(stream.peak_viewers or 0, viewers),
        orders=tally.orders,
        orders_last_10_s=tally.orders_last_10_s,
        refusals=tally.refusals,
        now=services.clock.now_ms(),
    )


OPERATIONS = (
    Operation(
        method="GET", path="/v1/streams/{id}/figures", handle=figures, who="host",
        summary="Show how a stream's sale goes", result=LiveFigures, refusals=(Code.NOT_FOUND,),
    ),
)  # fmt: skip
