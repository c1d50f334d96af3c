"""The waitlist as clients see it, over HTTP and WebSocket on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from streams.client import Client
from tests.contract.http_rig import Json, Shop, paths, problem, serving, token
from tests.contract.test_ws_commands import lines

ANN, BOB, CEM = (token("viewer", name) for name in ("ann", "bob", "cem"))


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


async def sold_out(shop: Shop, **terms: Any) -> tuple[str, str, str]:
    """Return a stream, an offer of one unit, and the order of b who has it."""
    stream = await shop.stream()
    offer = await shop.offer(stream, quantity=1, **terms)
    order: str = (await shop.buy(offer, "b")).json()["id"]
    return stream, offer, order


async def test_who_waits_gets_what_comes_back(shop: Shop) -> None:
    """`waitlisted` with his place, then a private `order.reserved` with his key, nobody else."""
    stream, offer, order = await sold_out(shop, per_viewer=3)
    async with lines(shop, stream, ANN, ANN, BOB, shop.host) as (ann, second, bob, host):
        answer = await ann.ask("waitlist", offer=offer, qty=1, key="w")
        assert answer == {"type": "waitlisted", "re": 2, "offer": offer, "position": 1}
        assert (await bob.ask("waitlist", offer=offer, qty=1, key="w"))["position"] == 2
        assert (await second.ask("waitlist", offer=offer, qty=1, key="w"))["position"] == 1
        reused = await ann.ask("waitlist", offer=offer, qty=2, key="w")
        assert (reused["type"], reused["code"]) == ("reject", "key_reused")
        conflict = await ann.ask("waitlist", offer=offer, qty=2, key="x")
        assert conflict["code"] == "conflict"
        await shop.made("POST", f"/v1/orders/{order}/cancel", {})
        for line in (ann, second):
            told = await line.until(lambda m: m["type"] == "order.reserved")
            assert "re" not in told
            assert (told["order"]["viewer"], told["order"]["key"]) == ("ann", "w")
            got = told["order"]
            assert got["expires_at"] - got["reserved_at"] == 60_000
        replay = await ann.ask("waitlist", offer=offer, qty=1, key="w")
        assert (replay["type"], replay["replayed"]) == ("order.reserved", True)
        assert (await bob.ask("waitlist", offer=offer, qty=1, key="w"))["position"] == 1
        await ann.ask("cancel", order=got["id"])
        await bob.until(lambda m: m["type"] == "order.reserved")
        for line in (ann, bob, host):  # sold out all the while
            assert not line.kinds("offer.restocked")
            assert all(m["left"] == 0 for m in line.kinds("stock"))
        assert not host.kinds("order.reserved")


async def test_who_gives_back_what_he_waits_for_is_told_of_both(shop: Shop) -> None:
    """The connection that cancels is answered, and hears of the order that its own entry got."""
    stream = await shop.stream()
    offer = await shop.offer(stream, quantity=1, per_viewer=2)
    async with lines(shop, stream, ANN) as (ann,):
        order = (await ann.ask("buy", offer=offer, qty=1, key="k"))["order"]["id"]
        await ann.ask("waitlist", offer=offer, qty=1, key="w")
        assert (await ann.ask("cancel", order=order))["type"] == "order.cancelled"
        await ann.until(lambda m: m["type"] == "order.reserved" and m["order"]["key"] == "w")
        assert len(ann.kinds("order.cancelled")) == 1


async def test_a_join_may_buy_and_may_be_refused(shop: Shop) -> None:
    """An order where stock is free; else the words of a buy, for each of its reasons."""
    stream, offer, _ = await sold_out(shop)
    free = await shop.offer(stream, quantity=1)
    draft = await shop.offer(stream, opened=False)
    _, elsewhere, _ = await sold_out(shop)
    none = await shop.offer(stream, quantity=1, waitlist_max=0)
    await shop.buy(none, "b")
    async with lines(shop, stream, ANN, shop.host) as (ann, host):
        bought = await ann.ask("waitlist", offer=free, qty=1, key="k")
        assert (bought["type"], bought["order"]["key"]) == ("order.reserved", "k")
        assert len(ann.kinds("order.reserved")) == 1  # the answer alone
        for of, qty, code in (
            (draft, 1, "not_found"), ("of_none", 1, "not_found"), (elsewhere, 1, "not_found"),
            (offer, 2, "limit_reached"), (none, 1, "sold_out"),
        ):  # fmt: skip
            refused = await ann.ask("waitlist", offer=of, qty=qty, key="r")
            assert refused["code"] == code, of
        for field, bad in (("qty", 0), ("qty", 1_001), ("key", "a b"), ("offer", "")):
            fields = {"offer": offer, "qty": 1, "key": "k", field: bad}
            refused = await ann.ask("waitlist", **fields)
            assert (refused["code"], refused["field"]) == ("bad_request", field)
        for type_ in ("waitlist", "waitlist.leave"):
            assert (await host.ask(type_, offer=offer, qty=1, key="k"))["code"] == "forbidden"


async def test_leaving_and_being_put_out(shop: Shop) -> None:
    """`waitlist.leave` is `ok` whether or not he waits; a ban takes him off the list."""
    stream, offer, _ = await sold_out(shop)
    async with lines(shop, stream, ANN, BOB, shop.host) as (ann, bob, host):
        await ann.ask("waitlist", offer=offer, qty=1, key="w")
        await bob.ask("waitlist", offer=offer, qty=1, key="w")
        for _ in range(2):
            assert (await ann.ask("waitlist.leave", offer=offer))["type"] == "ok"
        missing = await ann.ask("waitlist.leave", offer="of_none")
        assert (missing["code"], missing["field"]) == ("not_found", "offer")
        assert (await bob.ask("waitlist", offer=offer, qty=1, key="w"))["position"] == 1
        assert (await host.ask("ban", user="bob"))["type"] == "ok"
        assert await bob.closed() == 4403
        assert (await shop.made("GET", f"/v1/offers/{offer}/waitlist"))["items"] == []


async def test_the_list_over_http(shop: Shop) -> None:
    """201 with a place, 200 again; the host sees all, page by page, a viewer himself alone."""
    _, offer, order = await sold_out(shop)
    path = f"/v1/offers/{offer}/waitlist"

    async def join(who: str, key: str = "w", qty: object = 1) -> tuple[int, Json]:
        response = await shop.call("POST", path, {"qty": qty}, token=who, key=key)
        return response.status_code, response.json()

    assert await join(ANN) == (201, {"offer": offer, "position": 1})
    assert await join(ANN) == (200, {"offer": offer, "position": 1})
    assert await join(BOB) == (201, {"offer": offer, "position": 2})
    assert await join(CEM) == (201, {"offer": offer, "position": 3})
    assert (await join(CEM, "x", 2))[1]["code"] == "conflict"
    assert (await join(CEM, "w", 2))[1]["code"] == "key_reused"
    assert (await shop.made("GET", f"/v1/offers/{offer}"))["waiting"] == 3
    first = await shop.made("GET", f"{path}?limit=2")
    assert [(w["viewer"], w["position"]) for w in first["items"]] == [("ann", 1), ("bob", 2)]
    rest = await shop.made("GET", f"{path}?cursor={first['next_cursor']}")
    assert rest["items"][0].items() >= {"viewer": "cem", "position": 3, "qty": 1}.items()
    assert rest["next_cursor"] is None
    own = await shop.made("GET", path, token=BOB)
    assert [(w["viewer"], w["position"], w["key"]) for w in own["items"]] == [("bob", 2, "w")]
    response = await shop.call("GET", f"{path}?cursor=eA", token=shop.host)
    assert paths(problem(response, 400, "bad_request")) == ["cursor"]
    assert (await shop.call("DELETE", path, token=ANN)).status_code == 204
    assert (await shop.call("DELETE", path, token=ANN)).status_code == 204
    await shop.made("POST", f"/v1/orders/{order}/cancel", {})
    status, body = await join(BOB)
    assert (status, body["order"]["status"], "position" in body) == (200, "reserved", False)
    stranger = token("host", "h", shop="shop-2")
    for method, who, code in (
        ("GET", stranger, 403), ("POST", shop.host, 403), ("DELETE", None, 401), ("GET", None, 401),
    ):  # fmt: skip
        sent = {"qty": 1} if method == "POST" else None
        response = await shop.call(method, path, sent, token=who, key="k")
        assert response.status_code == code, method


async def test_the_terms_of_the_list_are_the_offers(shop: Shop) -> None:
    """`waitlist_max` and `waitlist_hold_s` are left out where nothing was said, and shown else."""
    stream = await shop.stream()
    plain = await shop.made("GET", f"/v1/offers/{await shop.offer(stream)}")
    assert not {"waiting", "waitlist_max", "waitlist_hold_s"} & plain.keys()
    draft = await shop.offer(stream, opened=False, waitlist_max=5, waitlist_hold_s=30)
    path = f"/v1/offers/{draft}"
    shown = await shop.made("GET", path)
    assert (shown["waitlist_max"], shown["waitlist_hold_s"]) == (5, 30)
    shown = await shop.made("PATCH", path, {"waitlist_max": 0, "waitlist_hold_s": 31})
    assert (shown["waitlist_max"], shown["waitlist_hold_s"]) == (0, 31)
    for field, bad in (("waitlist_max", -1), ("waitlist_max", 1_000_001), ("waitlist_hold_s", 0)):
        response = await shop.call("PATCH", path, {field: bad}, token=shop.host)
        assert paths(problem(response, 400, "bad_request")) == [field]


async def test_the_python_client_waits(shop: Shop) -> None:
    """`wait` is answered with the place; what comes of it is among the events."""
    stream, offer, order = await sold_out(shop)
    url = f"ws://127.0.0.1:{shop.port}"
    async with Client.connect(url, stream, token=ANN) as client:
        answer = await client.wait(offer, key="w")
        assert (answer["type"], answer["position"]) == ("waitlisted", 1)
        await shop.made("POST", f"/v1/orders/{order}/cancel", {})
        async for event in client.events():
            if event["type"] == "order.reserved":
                assert event["order"]["key"] == "w"
                break
