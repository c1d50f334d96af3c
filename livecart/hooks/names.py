"""What may be told: the names of events, and the filters that an endpoint is made with."""

from __future__ import annotations

from typing import Literal, get_args

#: What an endpoint may ask for. `order.*` and the like also mean what is added to them later.
Filter = Literal[
    "order.*", "order.reserved", "order.confirmed", "order.cancelled", "order.expired",
    "order.refunded", "order.shipped", "order.late",
    "offer.*", "offer.scheduled", "offer.opened", "offer.restocked", "offer.sold_out",
    "offer.paused", "offer.closed",
    "stream.*", "stream.started", "stream.ended",
]  # fmt: skip
FILTERS: tuple[str, ...] = get_args(Filter)
NAMES = tuple(name for name in FILTERS if not name.endswith("*"))
EVERYTHING: tuple[Filter, ...] = ("order.*", "offer.*", "stream.*")
TEST = "webhook.test"  # sent on request alone, whatever the filter
