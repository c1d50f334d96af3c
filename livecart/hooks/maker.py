"""Makes deliveries of what the outbox says happened: reads the objects, and freezes the bodies.

Owns the ids and the bodies of events. An order is read as it is when this runs, a moment after its
change: its `version` may be later than the event's. Reading holds no lock; taking the rows away and
making the deliveries is one transaction, so that a crash before it changes nothing. Called by
`duties`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from livecart import views
from livecart.catalog.store import Catalog
from livecart.hooks import meters
from livecart.hooks.limits import HookLimits
from livecart.hooks.names import NAMES
from orders import failpoints
from orders.ledger.hooks import Event, HookLedger, Row
from orders.ledger.ledger import Ledger, LedgerAway, Told
from orders.records import Order

log = logging.getLogger("livecart.hooks")


class Message(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of a message, in the form that Standard Webhooks recommends."""

    type: str
    timestamp: str  # when it happened, ISO 8601
    data: Any  # the Order, Offer or Stream
    reason: str | None = None


def body_of(type_: str, at_ms: int, data: Any, reason: str | None = None) -> str:
    """Return the body of a message."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    made = Message(type=type_, timestamp=stamp, data=data, reason=reason)
    return msgspec.json.encode(made).decode()


def order_event(order: str, version: int) -> str:
    """Return the id of what brought an order to a version: the same whenever it is told."""
    return f"evt_{order}_{version}"


def fact_event(stream: str, n: int) -> str:
    """Return the id of a stream's n-th fact."""
    return f"evt_{stream}_{n}"


class Maker:
    """Empties the outbox."""

    def __init__(
        self, hooks: HookLedger, ledger: Ledger, catalog: Catalog, limits: HookLimits
    ) -> None:
        self._hooks = hooks
        self._ledger = ledger
        self._catalog = catalog
        self._limits = limits

    async def step(self) -> bool:
        """Make deliveries of the oldest rows; tell whether there may be more.

        Raises `LedgerAway`. A row that cannot be read is put off, and no other waits for it.
        """
        found = await self._hooks.outbox(self._limits.outbox_rows_max)
        if not found:
            return False
        rows = self._some(found)
        try:
            await self._make(rows)
        except LedgerAway:
            raise
        except Exception:
            log.exception("events could not be read: each on its own")
            for row in rows:
                await self._make_alone(row)
        return len(rows) < len(found) or len(found) == self._limits.outbox_rows_max

    def _some(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the first rows, one at the least, that make no more than a bounded transaction."""
        events = 0
        for place, row in enumerate(rows):
            events += 1 if row.orders is None else len(row.orders)
            if events > self._limits.events_max and place > 0:
                return rows[:place]
        return rows

    async def _make_alone(self, row: Row) -> None:
        try:
            await self._make([row])
        except LedgerAway:
            raise
        except Exception:
            log.exception("row %d of the outbox could not be read, and is put off", row.n)
            meters.UNREADABLE.inc()
            await self._hooks.put_off(row.n, self._limits.put_off_s)

    async def _make(self, rows: Sequence[Row]) -> None:
        events = await self._events(rows)
        await failpoints.reach("hooks.taken")
        made = await self._hooks.make([row.n for row in rows], events)
        meters.MADE.inc(made)
        await failpoints.reach("hooks.made")

    async def _events(self, rows: Sequence[Row]) -> list[Event]:
        wanted = {id_ for row in rows for id_ in row.orders or ()}
        orders = {o.id: o for o in await self._ledger.orders(list(wanted))} if wanted else {}
        told = [(row.stream, row.fact) for row in rows if row.fact is not None]
        facts = await self._hooks.facts(told) if told else {}
        events: list[Event] = []
        for row in rows:
            if row.fact is not None:
                events += await self._of_fact(row, facts[row.stream, row.fact])
            else:
                events += _of_orders(row, orders)
        return events

    async def _of_fact(self, row: Row, fact: Told) -> list[Event]:
        """Return the event of a fact; one of a kind without a name here is told to nobody."""
        if fact.kind not in NAMES:
            return []
        data: Any
        if fact.body is not None:
            products = await self._catalog.products([fact.body["product"]])
            data = views.offer_of_fact(fact.body, products[fact.body["product"]])
        else:
            data = await self._catalog.stream(row.stream)
        body = body_of(fact.kind, fact.at, data, fact.reason)
        return [Event(row.n, fact_event(row.stream, fact.n), fact.kind, body)]


def _of_orders(row: Row, orders: dict[str, Order]) -> list[Event]:
    changed = zip(row.orders or (), row.versions or (), row.names or (), strict=True)
    return [
        Event(
            row.n,
            order_event(id_, version),
            f"order.{name}",
            body_of(f"order.{name}", row.at, views.order(orders[id_])),
        )
        for id_, version, name in changed
    ]
