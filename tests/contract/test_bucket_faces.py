"""Offers in buckets as clients meet them: one offer, whatever is behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.http_rig import Shop, paths, problem, serving, token
from tests.contract.test_ws_commands import lines

ANN, BOB = token("viewer", "ann"), token("viewer", "bob")


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


async def test_clients_see_one_offer(shop: Shop) -> None:
    """Created, listed, bought, told of and sold out as any; no bucket is shown or to be had."""
    stream = await shop.stream()
    offer = await shop.offer(stream, quantity=9, buckets=3, per_viewer=9)
    shown = await shop.made("GET", f"/v1/offers/{offer}")
    assert (shown["buckets"], shown["quantity"], shown["left"]) == (3, 9, 9)
    listed = await shop.made("GET", f"/v1/streams/{stream}/offers")
    assert [o["id"] for o in listed["items"]] == [offer]
    problem(await shop.call("GET", f"/v1/offers/{offer}~1", token=shop.host), 404, "not_found")
    problem(await shop.buy(f"{offer}~1", "ann"), 404, "not_found")
    async with lines(shop, stream, ANN, BOB) as (ann, bob):
        (welcome,) = ann.kinds("welcome")
        assert [o["id"] for o in welcome["offers"]] == [offer]
        order = (await ann.ask("buy", offer=offer, qty=7, key="k"))["order"]
        assert (order["offer"], order["qty"]) == (offer, 7)
        assert "bucket" not in order
        await bob.until(lambda m: m["type"] == "stock" and m["left"] == 2)
        assert (await bob.ask("buy", offer=offer, qty=3, key="k"))["code"] == "sold_out"
        assert (await bob.ask("buy", offer=offer, qty=2, key="l"))["type"] == "order.reserved"
        told = await ann.until(lambda m: m["type"] == "offer.sold_out")
        assert told["offer"] == offer
        await ann.ask("cancel", order=order["id"])
        told = await bob.until(lambda m: m["type"] == "offer.restocked")
        assert (told["offer"]["left"], told["reason"]) == (7, "returned")
    await shop.made("POST", f"/v1/offers/{offer}/close")
    shown = await shop.made("GET", f"/v1/offers/{offer}")
    assert (shown["status"], shown["left"], shown["reserved"]) == ("closed", 7, 2)


async def test_how_many_buckets_is_settled_with_the_draft(shop: Shop) -> None:
    """1 to 64, while it is a draft; and a draw has one."""
    stream = await shop.stream()
    offer = await shop.offer(stream, opened=False)
    path = f"/v1/offers/{offer}"
    assert "buckets" not in await shop.made("GET", path)
    assert (await shop.made("PATCH", path, {"buckets": 4}))["buckets"] == 4
    for wrong in ({"buckets": 0}, {"buckets": 65}, {"mode": "draw"}):
        response = await shop.call("PATCH", path, wrong, token=shop.host)
        assert paths(problem(response, 400, "bad_request")) == ["buckets"]
    await shop.made("POST", f"{path}/open")
    response = await shop.call("PATCH", path, {"buckets": 2}, token=shop.host)
    problem(response, 409, "conflict")
