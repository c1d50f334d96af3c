"""Pausing, resuming and extending as clients see them, over HTTP and WebSocket on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.http_rig import Shop, paths, problem, serving, token
from tests.contract.test_ws_commands import lines


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


async def test_a_host_pauses_and_resumes_over_http(shop: Shop) -> None:
    """Each answers with the offer, a second time too; what is not on sale is a conflict."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    path = f"/v1/offers/{offer}"
    paused = await shop.made("POST", f"{path}/pause")
    assert paused["status"] == "paused"
    assert await shop.made("POST", f"{path}/pause") == paused
    problem(await shop.buy(offer, "ann"), 409, "not_open")
    resumed = await shop.made("POST", f"{path}/resume")
    assert (resumed["status"], resumed["version"]) == ("open", paused["version"] + 1)
    assert await shop.made("POST", f"{path}/resume") == resumed
    assert (await shop.buy(offer, "ann")).status_code == 201
    draft = await shop.offer(stream, opened=False)
    for verb in ("pause", "resume"):
        response = await shop.call("POST", f"/v1/offers/{draft}/{verb}", token=shop.host)
        problem(response, 409, "conflict")
        response = await shop.call("POST", f"/v1/offers/of_none/{verb}", token=shop.host)
        problem(response, 404, "not_found")
        for caller, status, code in (
            (token("host", "h", shop="shop-2"), 403, "forbidden"),
            (token("viewer", "ann"), 403, "forbidden"), (None, 401, "unauthenticated"),
        ):  # fmt: skip
            problem(await shop.call("POST", f"{path}/{verb}", token=caller), status, code)


async def test_everybody_hears_of_a_pause_and_of_its_end(shop: Shop) -> None:
    """`offer.paused` names the offer; who comes meanwhile is shown it as paused; then `opened`."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    ann = token("viewer", "ann")
    async with lines(shop, stream, shop.host, ann) as (host, line):
        for _ in range(2):  # the second changes nothing
            assert (await host.ask("offer.pause", offer=offer))["type"] == "ok"
        told = await line.until(lambda m: m["type"] == "offer.paused")
        assert (told["offer"], "reason" in told) == (offer, False)
        assert (await line.ask("buy", offer=offer, qty=1, key="k"))["code"] == "not_open"
        async with lines(shop, stream, ann) as (late,):
            shown = late.kinds("welcome")[0]["offers"]
            assert [(o["id"], o["status"]) for o in shown] == [(offer, "paused")]
        assert (await host.ask("offer.resume", offer=offer))["type"] == "ok"
        back = await line.until(lambda m: m["type"] == "offer.opened")
        assert (back["reason"], back["offer"]["status"]) == ("resumed", "open")
        assert (await line.ask("buy", offer=offer, qty=1, key="k"))["type"] == "order.reserved"
        assert len(line.kinds("offer.paused")) == 1
        for name in ("offer.pause", "offer.resume"):
            assert (await line.ask(name, offer=offer))["code"] == "forbidden"
            assert (await host.ask(name, offer="of_none"))["code"] == "not_found"
        await host.ask("offer.close", offer=offer)
        assert (await host.ask("offer.pause", offer=offer))["code"] == "conflict"


async def test_a_viewer_extends_his_order(shop: Shop) -> None:
    """The answer has the new deadline and what is left of it; his other connections hear it."""
    stream = await shop.stream()
    offer = await shop.offer(stream, hold_s=60, extends=2)
    ann = token("viewer", "ann")
    async with lines(shop, stream, ann, ann, token("viewer", "bob")) as (first, second, bob):
        order = (await first.ask("buy", offer=offer, qty=1, key="k"))["order"]
        assert order["extends_left"] == 2
        assert (await bob.ask("extend", order=order["id"], version=1))["code"] == "not_found"
        while (await first.ask("ping", t0=0))["now"] <= order["reserved_at"]:
            pass  # so that the millisecond of the deadline is another
        answer = await first.ask("extend", order=order["id"], version=1)
        extended = answer["order"]
        assert (answer["type"], extended["version"]) == ("order.reserved", 2)
        assert extended["extends_left"] == 1
        assert extended["expires_at"] > order["expires_at"]
        told = await second.until(
            lambda m: m["type"] == "order.reserved" and m["order"]["version"] == 2
        )
        assert "re" not in told
        again = await second.ask("extend", order=order["id"], version=1)
        assert again["order"] == extended
        theirs = token("host", "h", shop="shop-2")
        async with lines(shop, stream, shop.host, theirs) as (host, stranger):
            refused = await stranger.ask("extend", order=order["id"], version=2)
            assert (refused["code"], refused["field"]) == ("not_found", "order")
            by_host = await host.ask("extend", order=order["id"], version=2)
            assert (by_host["type"], by_host["order"]["extends_left"]) == ("order.reserved", 0)
        assert (await first.ask("extend", order=order["id"], version=3))["code"] == "conflict"
        for bad in (0, -1, 2**53, "1", None, 1.5):
            refused = await first.ask("extend", order=order["id"], version=bad)
            assert (refused["code"], refused["field"]) == ("bad_request", "version"), bad


async def test_an_order_is_extended_over_http(shop: Shop) -> None:
    """By its viewer and by its shop's host, within what the offer allows; not by another."""
    offer = await shop.offer(await shop.stream(), extends=2)
    order = (await shop.buy(offer, "ann")).json()
    path = f"/v1/orders/{order['id']}/extend"
    ann = token("viewer", "ann")
    once = await shop.made("POST", path, {"version": 1}, token=ann)
    assert (once["version"], once["extends_left"], once["status"]) == (2, 1, "reserved")
    assert await shop.made("POST", path, {"version": 1}, token=ann) == once
    twice = await shop.made("POST", path, {"version": 2})
    assert (twice["version"], twice["extends_left"]) == (3, 0)
    response = await shop.call("POST", path, {"version": 3}, token=ann)
    problem(response, 409, "conflict")
    for other in (token("viewer", "bob"), token("host", "h", shop="shop-2")):
        response = await shop.call("POST", path, {"version": 3}, token=other)
        problem(response, 404, "not_found")
    bad: tuple[object, ...] = (0, 1.5, "1", None, True)
    for version in bad:
        response = await shop.call("POST", path, {"version": version}, token=ann)
        assert paths(problem(response, 400, "bad_request", str(version))) == ["version"]
    response = await shop.call("POST", path, {}, token=ann)
    assert paths(problem(response, 400, "bad_request")) == ["version"]


async def test_how_often_is_a_term_of_the_offer(shop: Shop) -> None:
    """`extends` is 0 to 10, left out when it is 0, and settled once the offer left its draft."""
    stream = await shop.stream()
    draft = await shop.offer(stream, opened=False)
    path = f"/v1/offers/{draft}"
    assert "extends" not in await shop.made("GET", path)
    assert (await shop.made("PATCH", path, {"extends": 10}))["extends"] == 10
    response = await shop.call("PATCH", path, {"extends": 11}, token=shop.host)
    assert paths(problem(response, 400, "bad_request")) == ["extends"]
    await shop.made("POST", f"{path}/open")
    response = await shop.call("PATCH", path, {"extends": 1}, token=shop.host)
    problem(response, 409, "conflict")
    async with lines(shop, stream, token("viewer", "ann")) as (line,):
        assert line.kinds("welcome")[0]["offers"][0]["extends"] == 10
    never = await shop.offer(stream)
    order = (await shop.buy(never, "ann")).json()
    assert "extends_left" not in order
