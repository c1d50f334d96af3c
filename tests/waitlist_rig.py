"""What the tests of the waitlist say and ask: joins as a client sends them, and who got what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from orders.keeper import KeeperLimits
from orders.records import Entry, Offer, Order, Outcome, Refused, Waitlisted
from tests.shop import Hub, Shop, bought

Answer = Waitlisted | Outcome

#: Of a keeper that waits for nobody.
AT_ONCE = KeeperLimits(grace_ms=0, lag_grace_s=0, building_s=0)


async def join(
    hub: Hub, offer: Offer | str, viewer: str, qty: int = 1, key: str | None = None
) -> Answer:
    """Join, sending the same key again while the answer is `retry`, as a client does."""
    of = offer if isinstance(offer, str) else offer.id
    async with asyncio.timeout(30):
        while True:
            answer = await hub.selling.waitlist.join(of, viewer, qty, key or f"w-{viewer}")
            if not (isinstance(answer, Refused) and answer.why == "retry"):
                return answer
            await asyncio.sleep(0.02)


def place(answer: Answer) -> int:
    """Return the position of somebody who waits."""
    assert isinstance(answer, Waitlisted), answer
    return answer.position


def refused(answer: Answer) -> str:
    """Return the word of a refusal."""
    assert isinstance(answer, Refused), answer
    return answer.why.value


async def sold_out(shop: Shop, hub: Hub, units: int = 1, **more: Any) -> tuple[Offer, list[Order]]:
    """An offer whose units b0, b1… have, one each."""
    offer = await shop.offer(units, **more)
    return offer, [bought(await hub.buy_until_final(offer.id, f"b{n}")) for n in range(units)]


async def waiting(hub: Hub, offer: Offer) -> list[Entry]:
    """Return who waits, first come first."""
    return await hub.selling.waitlist.ledger.page(offer.id, None, 0, 1_000)


async def orders_of(shop: Shop, offer: Offer, viewer: str) -> list[tuple[str, str]]:
    """Return (key, status) of a viewer's orders."""
    rows = await shop.fetch(
        "select key, status from orders where offer = $1 and viewer = $2 order by rank",
        offer.id, viewer,
    )  # fmt: skip
    return [(row[0], row[1]) for row in rows]


async def let_expire(shop: Shop, hub: Hub, offer: Offer, viewer: str) -> None:
    """Let a viewer's reserved orders fall due, and the keeper end them."""
    await shop.fetch(
        "update orders set expires_at = clock_timestamp() where offer = $1 and viewer = $2"
        " and status = 'reserved'", offer.id, viewer,
    )  # fmt: skip
    await hub.keeper.round()


async def status_of(hub: Hub, offer: Offer) -> tuple[str, int, int]:
    """Return (status, left, waiting)."""
    now = (await hub.ledger.offers([offer.id]))[0]
    return now.status, now.left, now.waiting


async def kinds(shop: Shop, offer: Offer) -> list[str]:
    """Return the kinds of facts that were told of an offer, in order."""
    rows = await shop.fetch("select kind from facts where subject = $1 order by n", offer.id)
    return [row[0] for row in rows]


def told(heard: Sequence[Order], viewer: str) -> list[str]:
    """Return the states that a viewer was told of, in order."""
    return [order.status for order in heard if order.viewer == viewer]
