"""The auditor of draws on real servers: a right draw passes, and each wrong one is found."""

from __future__ import annotations

import asyncpg
import pytest

from loadtest.draws import judge_draw
from orders.records import Offer
from tests.shop import Shop, done
from tests.waitlist_rig import join


async def broken(shop: Shop, offer: Offer) -> list[str]:
    """Return the claims that do not hold."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(shop.database_url)
    try:
        found = await judge_draw(connection, offer.id)
    finally:
        await connection.close()
    assert found
    return [finding.claim for finding in found if not finding.passed]


async def held(shop: Shop, *, draw: bool = True) -> Offer:
    """A draw of three units among eight viewers, held unless told otherwise."""
    offer = await shop.offer(3, opened=False, mode="draw", opens_at=4_000_000_000_000, per_viewer=2)
    for n in range(8):
        await join(shop.hubs[0], offer, f"v{n}", 1 + n % 2)
    if draw:
        done(await shop.hubs[0].changes.open_offer(offer.id))
    return offer


async def test_a_right_draw_passes(shop: Shop) -> None:
    """Before it, after it, and when a winner is gone and the quantity is another."""
    assert await broken(shop, await held(shop, draw=False)) == []
    offer = await held(shop)
    assert await broken(shop, offer) == []
    hub = shop.hubs[0]
    won = await shop.fetch("select id from orders where offer = $1", offer.id)
    await hub.changes.cancel(won[0][0], by_host=True, reason=None)
    await hub.changes.restock(offer.id, "r", 2)
    assert await broken(shop, offer) == []


@pytest.mark.parametrize(
    ("wrong", "claim"),
    [
        ("update draws set seed = sha256('other') where offer = $1", "committed"),
        ("update offers set seed = repeat('0', 64) where id = $1", "committed"),
        ("update draw_entries set score = sha256(score) where offer = $1", "scores"),
        ("update draw_entries set rank = 100 - rank where offer = $1", "scores"),
        ("update draw_entries set won = not won where offer = $1", "lowest"),
        ("update draw_entries set qty = qty + 1 where offer = $1", "lowest"),
        ("update orders set viewer = viewer || '!' where offer = $1", "lowest"),
        ("update draws set winners = winners + 1 where offer = $1", "told"),
    ],
)
async def test_a_wrong_draw_is_found(shop: Shop, wrong: str, claim: str) -> None:
    """Another seed, other scores, other winners, orders of others, other figures."""
    offer = await held(shop)
    async with shop._pools[0].acquire() as connection, connection.transaction():
        await connection.execute("set local session_replication_role = 'replica'")
        await connection.execute(wrong, offer.id)
    assert any(claim in one for one in await broken(shop, offer))


async def test_an_order_before_the_draw_is_found(shop: Shop) -> None:
    """Whatever let it through."""
    offer = await held(shop, draw=False)
    await shop.fetch(
        "insert into orders (id, offer, stream, viewer, key, qty, unit_price_minor, status, rank,"
        " reserved_at) values ('or_1', $1, $2, 'eve', 'k', 1, 1, 'confirmed', 99, now())",
        offer.id, offer.stream,
    )  # fmt: skip
    assert await broken(shop, offer) == ["nobody has anything before the draw"]
