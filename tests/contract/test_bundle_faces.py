"""Bundles as clients see them, over HTTP and WebSocket on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from streams.client import BoughtBundle, Client, Rejected
from tests.contract.http_rig import Json, Shop, paths, problem, serving, token
from tests.contract.test_ws_commands import lines as connected


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


def line(offer: str, qty: object = 1) -> Json:
    return {"offer": offer, "qty": qty}


async def bundle(
    shop: Shop, stream: str, viewer: str, *wanted: Json, key: str | None = "k"
) -> httpx.Response:
    path = f"/v1/streams/{stream}/bundles"
    return await shop.call("POST", path, {"lines": wanted}, token=token("viewer", viewer), key=key)


async def test_a_bundle_over_http_is_made_once(shop: Shop) -> None:
    """201 with an order of each offer; the same again 200; other lines with its key 422."""
    stream = await shop.stream()
    a, b = await shop.offer(stream, per_viewer=3), await shop.offer(stream)
    wanted = (line(b), line(a), line(a, 2))
    first = await bundle(shop, stream, "ann", *wanted)
    assert first.status_code == 201
    made = first.json()
    assert [(o["offer"], o["qty"], o["amount_minor"]) for o in made["orders"]] == [
        (b, 1, 1500), (a, 3, 4500),
    ]  # fmt: skip
    assert {o["bundle"] for o in made["orders"]} == {made["bundle"]}
    again = await bundle(shop, stream, "ann", *wanted)
    assert (again.status_code, again.json()) == (200, made)
    document = problem(await bundle(shop, stream, "ann", line(a, 3)), 422, "key_reused")
    assert paths(document) == []
    shown = await shop.made("GET", f"/v1/orders/{made['orders'][0]['id']}")
    assert shown == made["orders"][0]
    listed = await shop.made("GET", "/v1/orders", token=token("viewer", "ann"))
    assert {o["id"] for o in listed["items"]} == {o["id"] for o in made["orders"]}
    alone = await shop.buy(a, "bob")
    assert "bundle" not in alone.json()


async def test_a_refusal_over_http_names_its_line(shop: Shop) -> None:
    """sold_out, limit_reached, closed, not_found, and a sum above 1,000: nothing is made."""
    stream = await shop.stream()
    a = await shop.offer(stream, per_viewer=5)
    few = await shop.offer(stream, quantity=1, per_viewer=5)
    closed = await shop.offer(stream)
    await shop.made("POST", f"/v1/offers/{closed}/close")
    elsewhere = await shop.offer(await shop.stream())
    for wanted, code, path in (
        ([line(a), line(few), line(few)], "sold_out", "lines[1]"),
        ([line(a, 3), line(a, 3)], "limit_reached", "lines[0]"),
        ([line(a), line(closed)], "closed", "lines[1]"),
    ):
        document = problem(await bundle(shop, stream, "ann", *wanted), 409, code)
        assert paths(document) == [path]
    for stranger in (elsewhere, "of_none"):
        response = await bundle(shop, stream, "ann", line(a), line(stranger))
        assert paths(problem(response, 404, "not_found")) == ["lines[1]"]
    response = await bundle(shop, stream, "ann", line(a, 1_000), line(a, 1))
    assert paths(problem(response, 400, "bad_request")) == ["lines[1].qty"]
    assert (await shop.made("GET", f"/v1/offers/{a}"))["left"] == 10


async def test_a_bundle_needs_lines_and_a_key(shop: Shop) -> None:
    """1 to 20 lines, each with an offer and a qty; the field that is amiss is named."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    response = await bundle(shop, stream, "ann", line(offer), key=None)
    assert paths(problem(response, 400, "bad_request")) == ["Idempotency-Key"]
    for wanted, path in (
        ([], "lines"), ([line(offer)] * 21, "lines"),
        ([line(offer), line(offer, 0)], "lines[1].qty"),
        ([line(offer, "1")], "lines[0].qty"), ([{"qty": 1}], "lines[0].offer"),
        ([line("a\x00")], "lines[0].offer"), ([line("")], "lines[0].offer"), ([3], "lines[0]"),
    ):  # fmt: skip
        response = await bundle(shop, stream, "ann", *wanted)
        assert paths(problem(response, 400, "bad_request", str(wanted))) == [path]


async def test_only_viewers_of_the_stream_buy_bundles(shop: Shop) -> None:
    """Nobody is 401, a host 403, one of other streams 403, a banned one 403, no stream 404."""
    stream = await shop.stream()
    body = {"lines": [line(await shop.offer(stream))]}
    path = f"/v1/streams/{stream}/bundles"
    problem(await shop.call("POST", path, body, key="k"), 401, "unauthenticated")
    problem(await shop.call("POST", path, body, key="k", token=shop.host), 403, "forbidden")
    elsewhere = token("viewer", "ann", streams=["st_other"])
    problem(await shop.call("POST", path, body, key="k", token=elsewhere), 403, "forbidden")
    await shop.services.catalog.ban(stream, "bob")
    problem(await bundle(shop, stream, "bob", *body["lines"]), 403, "forbidden")
    problem(await bundle(shop, "st_none", "ann", *body["lines"]), 404, "not_found")


async def test_a_bundle_is_answered_and_other_connections_hear_its_orders(shop: Shop) -> None:
    """The sender gets `bundle` alone; the viewer's other connection an event of each order."""
    stream = await shop.stream()
    a, b = await shop.offer(stream), await shop.offer(stream, quantity=1, payment="none")
    ann = token("viewer", "ann")
    async with connected(shop, stream, ann, ann, token("viewer", "bob")) as (first, second, bob):
        answer = await first.ask("buy", lines=[line(a), line(b)], key="k")
        assert answer["type"] == "bundle"
        assert "replayed" not in answer
        assert [(o["offer"], o["status"]) for o in answer["orders"]] == [
            (a, "reserved"), (b, "confirmed"),
        ]  # fmt: skip
        for order, kind in zip(answer["orders"], ("reserved", "confirmed"), strict=True):
            await second.until(lambda m: second.kinds(f"order.{kind}"))  # noqa: B023
            (told,) = second.kinds(f"order.{kind}")
            assert "re" not in told
            assert told["order"] == order
        await bob.until(lambda m: m["type"] == "offer.sold_out" and m["offer"] == b)
        await bob.until(lambda m: m["type"] == "stock" and (m["offer"], m["left"]) == (a, 9))
        again = await second.ask("buy", lines=[line(b), line(a)], key="k")
        assert (again["type"], again["replayed"]) == ("bundle", True)
        assert again["orders"] == answer["orders"][::-1]
        assert not first.kinds("order.reserved")
        assert not bob.kinds("order.reserved")
        refused = await bob.ask("buy", lines=[line(a), line(b)], key="k")
        assert (refused["code"], refused["field"]) == ("sold_out", "lines[1]")
        refused = await first.ask("buy", lines=[line(a)], offer=a, qty=1, key="k2")
        assert (refused["code"], refused["field"]) == ("bad_request", "lines")
        refused = await first.ask("buy", offer=a, qty=1, key="k")
        assert refused["code"] == "key_reused"
    async with connected(shop, stream, ann, shop.host) as (late, host):
        orders = late.kinds("welcome")[0]["orders"]
        assert {o["bundle"] for o in orders} == {answer["bundle"]}
        refused = await host.ask("buy", lines=[line(a)], key="k")
        assert refused["code"] == "forbidden"


@pytest.mark.parametrize("subprotocol", ["json", "msgpack"])
async def test_the_python_client_buys_bundles_and_extends(shop: Shop, subprotocol: str) -> None:
    """What it makes of the answers, in both subprotocols."""
    stream = await shop.stream()
    a, b = await shop.offer(stream, extends=1), await shop.offer(stream, quantity=1)
    url = f"http://127.0.0.1:{shop.port}"
    spoken = subprotocol  # the parameter's type is a literal
    async with (
        asyncio.timeout(20),
        Client.connect(url, stream, token=token("viewer", "ann"), subprotocol=spoken) as ann,  # type: ignore[arg-type]
    ):
        made = await ann.buy_bundle([(a, 1), (b, 1)])
        assert isinstance(made, BoughtBundle)
        assert (made.replayed, [o["offer"] for o in made.orders]) == (False, [a, b])
        again = await ann.buy_bundle([(a, 1), (b, 1)], made.key)
        assert again == BoughtBundle(made.bundle, made.orders, made.key, replayed=True)
        refused = await ann.buy_bundle([(b, 1)])
        assert isinstance(refused, Rejected)
        assert (refused.code, refused.field) == ("limit_reached", "lines[0]")
        extended = await ann.extend(made.orders[0])
        assert extended["order"]["version"] == 2
        assert await ann.extend(made.orders[0]) | {"re": 0} == extended | {"re": 0}
