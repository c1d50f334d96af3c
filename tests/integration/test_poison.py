"""A line that Postgres cannot write, by a fault of its own, fails alone (R5)."""

from __future__ import annotations

import asyncio

from orders.keeper import KeeperLimits
from orders.records import Accepted
from tests.shop import Shop, until, why

#: What no release has: a row that raises whenever it is written, as a broken constraint would.
POISON = (
    "create function poison() returns trigger language plpgsql as"
    " $$ begin raise data_exception using message = 'poison'; end $$",
    "create trigger poison before insert on orders for each row"
    " when (new.viewer = 'poison') execute function poison()",
)


async def test_a_line_that_cannot_be_written_fails_alone(shop: Shop) -> None:
    """Of a batch of twelve lines eleven are sold; one fails, is told so, and its unit is left."""
    offer = await shop.offer(13)
    hub = shop.hubs[0]
    for statement in POISON:
        await shop.fetch(statement)
    try:
        async with hub.held_up(offer.id, 1) as first:  # the rest gathers behind it
            rest = [hub.start_buy(offer.id, "poison" if n == 5 else f"w{n}") for n in range(12)]
        outcomes = await asyncio.gather(*first, *rest)
        assert sum(isinstance(o, Accepted) for o in outcomes) == 12
        assert why(outcomes[6]) == "internal"
        await until(lambda: all(c.idle for c in hub.selling._counters.values()))
    finally:
        await shop.fetch("drop trigger poison on orders")
        await shop.fetch("drop function poison()")
    hub.keeper.limits = KeeperLimits(grace_ms=0)
    await hub.keeper.round()
    await shop.at_rest(offer.id)
    assert await hub.left(offer.id) == 1
