"""The states of an order: what the table allows, Postgres enforces, whoever writes; and notes."""

from __future__ import annotations

import asyncpg
import pytest

from orders.ledger.money import Money
from orders.records import Accepted
from orders.states import TERMINAL, TRANSITIONS
from tests.shop import Shop


async def test_postgres_has_the_same_table(shop: Shop) -> None:
    """`order_transitions` holds exactly the pairs of `orders.states`."""
    rows = await shop.fetch("select was, now from order_transitions")
    found = {(row["was"], row["now"]) for row in rows}
    assert found == {(was, now) for was, after in TRANSITIONS.items() for now in after}
    assert set(TERMINAL) == {"expired", "cancelled", "refunded"}


async def test_no_other_step_is_taken(shop: Shop) -> None:
    """Whoever writes SQL by hand cannot bring an order to a state that may not follow."""
    hub = await shop.hub()
    offer = await shop.offer(5)
    bought = await hub.buy(offer.id, "ann", 1, "k")
    assert isinstance(bought, Accepted)
    forbidden = [
        (was, now)
        for was, after in TRANSITIONS.items()
        for now in TRANSITIONS
        if now != was and now not in after
    ]
    assert len(forbidden) == 23
    for was, now in forbidden:
        await shop.fetch("alter table orders disable trigger orders_followed")
        await shop.fetch("update orders set status = $2 where id = $1", bought.order.id, was)
        await shop.fetch("alter table orders enable trigger orders_followed")
        with pytest.raises(asyncpg.CheckViolationError, match=f"from {was} to {now}"):
            await shop.fetch("update orders set status = $2 where id = $1", bought.order.id, now)


async def test_the_timeline_names_who_and_why(shop: Shop) -> None:
    """Each change of an order is an entry: when, what, by whom and why, oldest first."""
    hub = await shop.hub()
    offer = await shop.offer(5)
    bought = await hub.buy(offer.id, "ann", 1, "k")
    assert isinstance(bought, Accepted)
    order = bought.order.id
    await hub.changes.pay(order, "carol")
    await hub.changes.cancel(order, True, "out of paint", "dave")
    steps = await Money(hub.ledger).timeline(order)
    assert [(s.what, s.was, s.now, s.who, s.why) for s in steps] == [
        ("reserved", None, "reserved", "ann", None),
        ("confirmed", "reserved", "confirmed", "carol", "by hand"),
        ("cancelled", "confirmed", "cancelled", "dave", "out of paint"),
    ]
    assert [s.at for s in steps] == sorted(s.at for s in steps)
