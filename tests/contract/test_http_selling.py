"""Selling over HTTP on real servers: the way of an order, and who is refused what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.contract.http_rig import Shop, paths, problem, serving, token


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


async def test_a_buy_is_an_order_and_its_key_is_bound(shop: Shop) -> None:
    """A buy is 201; the same key again is 200 with the same order; with another qty 422."""
    offer = await shop.offer(await shop.stream(), per_viewer=3)
    first = await shop.buy(offer, "ann", 2, "k1")
    assert first.status_code == 201
    order = first.json()
    assert order["status"] == "reserved"
    assert order["amount_minor"] == 3000
    assert order["rank"] == 1
    assert "expires_at" in order
    again = await shop.buy(offer, "ann", 2, "k1")
    assert again.status_code == 200
    assert again.json() == order
    problem(await shop.buy(offer, "ann", 1, "k1"), 422, "key_reused")


async def test_each_refusal_of_a_buy_has_its_code(shop: Shop) -> None:
    """not_live, not_open, limit_reached, sold_out, closed and not_found are told apart."""
    early = await shop.stream(live=False)
    problem(await shop.buy(await shop.offer(early), "ann"), 409, "not_live")
    stream = await shop.stream()
    problem(await shop.buy(await shop.offer(stream, opened=False), "ann"), 404, "not_found")
    offer = await shop.offer(stream, quantity=2, per_viewer=1)
    assert (await shop.buy(offer, "ann", 1, "a")).status_code == 201
    problem(await shop.buy(offer, "ann", 1, "b"), 409, "limit_reached")
    assert (await shop.buy(offer, "bob", 1, "a")).status_code == 201
    problem(await shop.buy(offer, "cid", 1, "a"), 409, "sold_out")
    await shop.made("POST", f"/v1/offers/{offer}/close")
    problem(await shop.buy(offer, "dan", 1, "a"), 409, "closed")
    assert (await shop.buy(offer, "ann", 1, "a")).status_code == 200  # a key seen before
    problem(await shop.buy("of_none", "ann"), 404, "not_found")


async def test_a_crowd_never_buys_more_than_there_is(shop: Shop) -> None:
    """Of 200 buys at once for 50 units exactly 50 are orders, the rest is sold_out."""
    offer = await shop.offer(await shop.stream(), quantity=50)
    answers = await asyncio.gather(*(shop.buy(offer, f"v{n}") for n in range(200)))
    assert sorted(a.status_code for a in answers) == [201] * 50 + [409] * 150
    shown = (await shop.call("GET", f"/v1/offers/{offer}")).json()
    assert (shown["left"], shown["reserved"], shown["status"]) == (0, 50, "sold_out")


async def test_a_ban_list_of_any_age_is_not_believed(shop: Shop) -> None:
    """A list that was read long ago is read again before the next buy, not after it."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    await shop.services.catalog.ban(stream, "bob")
    an_hour_ago = asyncio.get_running_loop().time() - 3600
    shop.services.rooms._bans[stream] = (frozenset(), an_hour_ago)
    problem(await shop.buy(offer, "bob"), 403, "forbidden")


async def test_only_viewers_buy(shop: Shop) -> None:
    """Nobody is 401, a host 403, a viewer limited to other streams 403, a banned one 403."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    path = f"/v1/offers/{offer}/orders"
    problem(await shop.call("POST", path, {"qty": 1}, key="k"), 401, "unauthenticated")
    problem(await shop.call("POST", path, {"qty": 1}, key="k", token=shop.host), 403, "forbidden")
    elsewhere = token("viewer", "ann", streams=["st_other"])
    problem(await shop.call("POST", path, {"qty": 1}, key="k", token=elsewhere), 403, "forbidden")
    await shop.services.catalog.ban(stream, "bob")
    problem(await shop.buy(offer, "bob"), 403, "forbidden")
    here = token("viewer", "ann", streams=[stream])
    answer = await shop.call("POST", path, {"qty": 1}, key="k", token=here)
    assert answer.status_code == 201


async def test_a_buy_needs_a_key_and_a_qty(shop: Shop) -> None:
    """A missing or malformed Idempotency-Key is named, and so is a qty out of its range."""
    offer = await shop.offer(await shop.stream())
    ann = [(b"authorization", f"Bearer {token('viewer', 'ann')}".encode())]
    for key in (None, b"", b"a b", b"k" * 65, "é".encode()):
        headers = ann if key is None else [*ann, (b"idempotency-key", key)]
        path = f"/v1/offers/{offer}/orders"
        response = await shop.http.post(path, json={"qty": 1}, headers=headers)
        assert paths(problem(response, 400, "bad_request", str(key))) == ["Idempotency-Key"]
    bad: tuple[object, ...] = (0, -1, 1001, 1.5, "1", None, True, 10**30, [1])
    for qty in bad:
        response = await shop.buy(offer, "ann", qty)
        assert paths(problem(response, 400, "bad_request", str(qty))) == ["qty"]


async def test_pay_by_hand_confirms_once_and_for_all(shop: Shop) -> None:
    """The shop marks an order as paid, twice is the same; a viewer may not; then no cancel."""
    offer = await shop.offer(await shop.stream())
    order = (await shop.buy(offer, "ann")).json()["id"]
    ann = token("viewer", "ann")
    problem(await shop.call("POST", f"/v1/orders/{order}/pay", token=ann), 403, "forbidden")
    paid = await shop.made("POST", f"/v1/orders/{order}/pay")
    assert paid["status"] == "confirmed"
    assert "expires_at" not in paid
    assert await shop.made("POST", f"/v1/orders/{order}/pay") == paid
    problem(await shop.call("POST", f"/v1/orders/{order}/cancel", token=ann), 409, "conflict")
    shown = await shop.made("GET", f"/v1/offers/{offer}")
    assert (shown["confirmed"], shown["reserved"], shown["left"]) == (1, 0, 9)


async def test_a_cancelled_order_gives_its_units_back(shop: Shop) -> None:
    """A viewer cancels his reserved order and another buys the unit; paying it is a conflict."""
    offer = await shop.offer(await shop.stream(), quantity=1)
    order = (await shop.buy(offer, "ann")).json()["id"]
    problem(await shop.buy(offer, "bob"), 409, "sold_out")
    gone = await shop.call(
        "POST", f"/v1/orders/{order}/cancel", {"reason": "改變心意"}, token=token("viewer", "ann")
    )
    assert gone.json()["status"] == "cancelled"
    assert (await shop.buy(offer, "bob")).status_code == 201
    response = await shop.call("POST", f"/v1/orders/{order}/pay", token=shop.host)
    problem(response, 409, "conflict")
    response = await shop.call("POST", f"/v1/orders/{order}/cancel", token=shop.host)
    problem(response, 409, "conflict")


async def test_another_viewers_order_does_not_exist(shop: Shop) -> None:
    """Showing, cancelling and paying another's order are not_found; so is another shop's."""
    offer = await shop.offer(await shop.stream())
    order = (await shop.buy(offer, "ann")).json()["id"]
    for caller in (token("viewer", "bob"), token("host", "h", shop="shop-2")):
        problem(await shop.call("GET", f"/v1/orders/{order}", token=caller), 404, "not_found")
        for verb in ("cancel", "pay"):
            response = await shop.call("POST", f"/v1/orders/{order}/{verb}", token=caller)
            problem(response, 404, "not_found")
    assert (await shop.call("GET", f"/v1/orders/{order}", token=token("admin", "x"))).is_success


async def test_orders_are_listed_page_by_page(shop: Shop) -> None:
    """Cursors give each order once, newest first, and the filters hold."""
    stream = await shop.stream()
    offer = await shop.offer(stream, per_viewer=10)
    bought = [(await shop.buy(offer, "ann", 1, f"k{n}")).json()["id"] for n in range(5)]
    other = (await shop.buy(offer, "bob")).json()["id"]
    seen, cursor = [], ""
    for _ in range(3):
        page = await shop.made("GET", f"/v1/orders?limit=2{cursor}", token=token("viewer", "ann"))
        seen += [order["id"] for order in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == bought[::-1]
    assert page["next_cursor"] is None
    await shop.made("POST", f"/v1/orders/{other}/pay")
    for query, expected in (
        (f"stream={stream}", [other, *bought[::-1]]),
        ("status=confirmed", [other]),
        ("viewer=bob", [other]),
        (f"offer={offer}&viewer=ann", bought[::-1]),
        ("stream=st_none", []),
    ):
        found = await shop.made("GET", f"/v1/orders?{query}")
        assert [order["id"] for order in found["items"]] == expected
    theirs = await shop.made("GET", "/v1/orders", token=token("host", "h", shop="shop-2"))
    assert theirs == {"items": [], "next_cursor": None}
    none = await shop.made("GET", "/v1/orders?viewer=bob", token=token("viewer", "ann"))
    assert none["items"] == []
    limited = token("host", "host-1", shop="shop-1", streams=["st_other"])
    assert (await shop.made("GET", "/v1/orders", token=limited))["items"] == []


async def test_restock_adds_once_per_key(shop: Shop) -> None:
    """The same key adds nothing more, with another amount it is key_reused; it reopens."""
    offer = await shop.offer(await shop.stream(), quantity=1)
    await shop.buy(offer, "ann")
    path = f"/v1/offers/{offer}/restock"
    for _ in range(2):
        shown = await shop.made("POST", path, {"add": 5}, key="r1")
        assert (shown["quantity"], shown["left"], shown["status"]) == (6, 5, "open")
    problem(await shop.call("POST", path, {"add": 6}, key="r1", token=shop.host), 422, "key_reused")
    problem(await shop.call("POST", path, {"add": 5}, token=shop.host), 400, "bad_request")
    assert (await shop.buy(offer, "bob")).status_code == 201
