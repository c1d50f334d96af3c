"""Webhooks over HTTP: who may, what is refused, and that no secret is ever shown again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.http_rig import Shop, paths, problem, serving, token
from tests.hooks_rig import HERE

URL = "https://example.org/in"


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server that may keep webhooks, and send them to public addresses by https."""
    async with serving(
        redis_url, database_url, LIVECART_DATA_KEY=HERE["LIVECART_DATA_KEY"]
    ) as shop:
        yield shop


async def test_an_endpoint_from_its_making_to_its_end(shop: Shop) -> None:
    """Made, listed, changed, rotated, deleted; its secret is in two answers and in no other."""
    made = await shop.made("POST", "/v1/webhooks", {"url": URL, "description": "till"})
    assert made["events"] == ["order.*", "offer.*", "stream.*"]
    assert made["secret"].startswith("whsec_")
    path = f"/v1/webhooks/{made['id']}"
    shown = {name: value for name, value in made.items() if name != "secret"}
    assert await shop.made("GET", path) == shown
    assert (await shop.made("GET", "/v1/webhooks"))["items"] == [shown]
    body = {"url": URL + "2", "events": ["offer.opened", "order.late", "offer.opened"],
            "description": ""}  # fmt: skip
    changed = await shop.made("PATCH", path, body)
    assert (changed["url"], changed["events"]) == (URL + "2", ["order.late", "offer.opened"])
    assert "description" not in changed
    off = await shop.made("PATCH", path, {"enabled": False})
    assert (off["enabled"], off["disabled_why"]) == (False, "host")
    problem(await shop.call("POST", f"{path}/test", token=shop.host), 409, "conflict")
    replay = await shop.call("POST", f"{path}/replay", {"since": 0}, token=shop.host)
    problem(replay, 409, "conflict")
    assert (await shop.made("PATCH", path, {"enabled": True}))["enabled"]
    rotated = await shop.made("POST", f"{path}/rotate", {})
    assert rotated["secret"] not in (made["secret"], None)
    rows = await shop.services.pool.fetch("select * from hook_secrets")
    assert len(rows) == 2
    assert made["secret"] not in str(rows)
    for _ in range(2):
        await shop.made("POST", f"{path}/rotate", {})
    problem(await shop.call("POST", f"{path}/rotate", token=shop.host), 409, "conflict")
    test = await shop.made("POST", f"{path}/test")
    (one,) = (await shop.made("GET", f"{path}/deliveries"))["items"]
    assert (one["id"], one["type"], one["state"]) == (test["id"], "webhook.test", "pending")
    full = await shop.made("GET", f"{path}/deliveries/{one['id']}")
    assert (full["log"], made["id"] in full["body"]) == ([], True)
    assert (await shop.call("DELETE", path, token=shop.host)).status_code == 204
    for method, at in (("GET", path), ("DELETE", path), ("GET", f"{path}/deliveries")):
        problem(await shop.call(method, at, token=shop.host), 404, "not_found")
    assert (await shop.made("GET", "/v1/webhooks"))["items"] == []


async def test_whose_an_endpoint_is(shop: Shop) -> None:
    """Hosts of one shop share it; another's is not found; viewers and limited tokens may not."""
    made = await shop.made("POST", "/v1/webhooks", {"url": URL})
    path = f"/v1/webhooks/{made['id']}"
    second = token("host", "host-9", shop="shop-1")
    assert (await shop.made("GET", path, token=second))["id"] == made["id"]
    admin = token("admin", "root")
    assert (await shop.made("GET", "/v1/webhooks?shop=shop-1", token=admin))["items"]
    stranger = token("host", "host-2", shop="shop-2")
    every = [
        ("GET", path), ("PATCH", path), ("DELETE", path), ("POST", f"{path}/rotate"),
        ("POST", f"{path}/test"), ("GET", f"{path}/deliveries"), ("POST", f"{path}/replay"),
        ("GET", f"{path}/deliveries/dl_1"),
    ]  # fmt: skip
    for method, at in every:
        problem(await shop.call(method, at, token=stranger), 404, "not_found", at)
        problem(await shop.call(method, at), 401, "unauthenticated", at)
        problem(await shop.call(method, at, token=token("viewer", "v")), 403, "forbidden", at)
        limited = token("host", "host-1", shop="shop-1", streams=["st_1"])
        problem(await shop.call(method, at, token=limited), 403, "forbidden", at)
    for at in ("/v1/webhooks", "/v1/webhooks?shop=shop-1"):
        found = await shop.call("GET", at, token=stranger)
        assert found.json()["items"] == []
    assert (await shop.made("GET", path))["enabled"]


BAD_URLS = [
    "http://example.org/", "ftp://example.org/", "https://", "https://user:word@example.org/",
    "https://127.0.0.1/", "https://[::1]:8443/", "https://[::ffff:10.0.0.1]/",
    "https://169.254.169.254/latest", "https://example.org:0/", "https://example.org:99999/",
    "https://exa mple.org/", "https://[::1/", "https://xn--\xff/",
]  # fmt: skip


async def test_a_url_that_nothing_may_be_sent_to_is_refused(shop: Shop) -> None:
    """At once where that is plain from the URL, when it is made and when it is changed."""
    made = await shop.made("POST", "/v1/webhooks", {"url": URL})
    for url in BAD_URLS:
        for method, at in (("POST", "/v1/webhooks"), ("PATCH", f"/v1/webhooks/{made['id']}")):
            refused = await shop.call(method, at, {"url": url}, token=shop.host)
            assert paths(problem(refused, 400, "bad_request", url)) == ["url"]


async def test_what_is_no_filter_page_or_delivery_is_refused(shop: Shop) -> None:
    """Each with its field; a shop has twenty endpoints at most."""
    for events in ([], ["*"], ["order.paid"], ["order.*", 1]):
        refused = await shop.call("POST", "/v1/webhooks", {"url": URL, "events": events},
                                  token=shop.host)  # fmt: skip
        assert paths(problem(refused, 400, "bad_request"))[0].startswith("events")
    made = [await shop.made("POST", "/v1/webhooks", {"url": URL}) for _ in range(20)]
    problem(await shop.call("POST", "/v1/webhooks", {"url": URL}, token=shop.host), 409, "conflict")
    path = f"/v1/webhooks/{made[0]['id']}"
    for body in ({}, {"delivery": "dl_1", "since": 0}, {"delivery": "x"}, {"delivery": "dl_"}):
        refused = await shop.call("POST", f"{path}/replay", body, token=shop.host)
        assert paths(problem(refused, 400, "bad_request")) == ["delivery"]
    assert await shop.made("POST", f"{path}/replay", {"delivery": "dl_1"}) == {"count": 0}
    problem(await shop.call("GET", f"{path}/deliveries/x", token=shop.host), 404, "not_found")
    for _ in range(3):
        await shop.made("POST", f"{path}/test")
    first = await shop.made("GET", f"{path}/deliveries?limit=2")
    rest = await shop.made("GET", f"{path}/deliveries?limit=2&cursor={first['next_cursor']}")
    ids = [one["id"] for one in first["items"] + rest["items"]]
    assert (len(set(ids)), rest["next_cursor"]) == (3, None)
    foreign = await shop.call("GET", f"{path}/deliveries?cursor=b3JfMQ", token=shop.host)
    problem(foreign, 400, "bad_request")


async def test_without_a_key_no_endpoint_is_made(redis_url: str, database_url: str) -> None:
    """No secret would be safe: the answer names the setting that is missing."""
    async with serving(redis_url, database_url) as shop:
        refused = await shop.call("POST", "/v1/webhooks", {"url": URL}, token=shop.host)
        assert "LIVECART_DATA_KEY" in problem(refused, 409, "conflict")["detail"]
