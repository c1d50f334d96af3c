"""Orders by comment as relays, hosts and viewers see them, over HTTP and WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.http_rig import Json, Shop, paths, problem, serving, token
from tests.contract.test_ws_commands import lines
from tests.shop import until

STRANGER = {"role": "host", "sub": "h", "shop": "shop-2"}


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


def said(text: str, id_: str = "c1", user: str = "ann", **more: Any) -> Json:
    return {"platform": "facebook", "id": id_, "user": user, "text": text, **more}


async def take(shop: Shop, stream: str, *comments: Json) -> list[Json]:
    """Bring comments as a relay does."""
    relay = token("service", "relay")
    body = {"comments": list(comments)}
    taken = await shop.made("POST", f"/v1/streams/{stream}/comments", body, token=relay)
    outcomes: list[Json] = taken["comments"]
    return outcomes


async def test_a_batch_is_answered_one_by_one(shop: Shop) -> None:
    """An order, a refusal, a line for the host and mere talk, in the order in which they came."""
    stream = await shop.stream()
    offer = await shop.offer(stream, keyword="A01", per_viewer=2)
    batch = [
        said("A01+2"), said("A01+3", "c2", "bob", at=1_800_000_000_000, name="Bob"),
        said("A99+1", "c3"), said("so nice", "c4"), said("A01+2"),
    ]  # fmt: skip
    taken = await take(shop, stream, *batch)
    assert [one["outcome"] for one in taken] == ["done", "done", "unread", "talk", "done"]
    line = taken[0]["lines"][0]
    order = line["order"]
    assert (line["offer"], line["qty"], order["viewer"]) == (offer, 2, "facebook:ann")
    page, _, checkout = line.pop("link").partition("#token=")
    headers = {"Livecart-Checkout": checkout}
    paid_for = (await shop.call("GET", "/v1/checkout", headers=headers)).json()["orders"]
    assert (page, [one["id"] for one in paid_for]) == ("/pay", [order["id"]])
    assert taken[1]["lines"] == [{"offer": offer, "qty": 3, "code": "limit_reached"}]
    assert taken[2]["why"] == "unreadable"
    assert taken[3] == {"platform": "facebook", "id": "c4", "outcome": "talk"}
    again = await take(shop, stream, *batch)
    assert again[0]["lines"][0].pop("link").startswith("/pay#")  # the relay may have lost the first
    for batch_ in (taken, again):
        batch_[4]["lines"][0].pop("link")
    assert again == taken
    listed = await shop.made("GET", f"/v1/orders?stream={stream}")
    assert [one["id"] for one in listed["items"]] == [order["id"]]


async def test_the_hosts_queue(shop: Shop) -> None:
    """Unread comments are listed newest first in pages; ordered for or dismissed they leave it."""
    stream = await shop.stream()
    offer = await shop.offer(stream, keyword="A01", quantity=1)
    await take(shop, stream, *(said(f"B0{n}+1", f"c{n}", f"u{n}") for n in range(3)))
    path = f"/v1/streams/{stream}/comments"
    first = await shop.made("GET", f"{path}?limit=2")
    rest = await shop.made("GET", f"{path}?state=unread&limit=2&cursor={first['next_cursor']}")
    queue = [*first["items"], *rest["items"]]
    assert [one["text"] for one in queue] == ["B02+1", "B01+1", "B00+1"]
    assert (len(first["items"]), rest["next_cursor"]) == (2, None)
    ask = {"offer": offer, "qty": 1}
    ordered = await shop.made("POST", f"/v1/comments/{queue[0]['id']}/order", ask)
    assert ordered["state"] == "done"
    assert ordered["lines"][0]["order"]["viewer"] == "facebook:u2"
    again = await shop.made("POST", f"/v1/comments/{queue[0]['id']}/order", ask)
    assert again["lines"][0].pop("link").startswith("/pay#")
    assert ordered["lines"][0].pop("link").startswith("/pay#")
    assert again == ordered
    for body, code in ((ask | {"qty": 2}, "conflict"), (ask | {"offer": "of_x"}, "conflict")):
        call = shop.call("POST", f"/v1/comments/{queue[0]['id']}/order", body, token=shop.host)
        problem(await call, 409, code)
    response = await shop.call("POST", f"/v1/comments/{queue[1]['id']}/order", ask, token=shop.host)
    problem(response, 409, "sold_out")
    response = await shop.call(
        "POST", f"/v1/comments/{queue[1]['id']}/order", ask | {"offer": "of_x"}, token=shop.host
    )
    problem(response, 404, "not_found")
    gone = await shop.made("POST", f"/v1/comments/{queue[1]['id']}/dismiss")
    assert gone["state"] == "dismissed"
    assert [one["id"] for one in (await shop.made("GET", path))["items"]] == [queue[2]["id"]]
    done = await shop.made("GET", f"{path}?state=done")
    assert done["items"][0]["lines"][0].pop("link").startswith("/pay#")
    assert done["items"] == [ordered]


async def test_who_may_bring_and_read_comments(shop: Shop) -> None:
    """A service, an admin and the stream's own host; for others there is no such comment."""
    stream = await shop.stream()
    await shop.offer(stream, keyword="A01")
    unread = (await take(shop, stream, said("B01+1")))[0]["comment"]
    path, body = f"/v1/streams/{stream}/comments", {"comments": [said("x")]}
    calls: list[tuple[str, str, object]] = [
        ("POST", path, body), ("GET", path, None),
        ("POST", f"/v1/comments/{unread}/order", {"offer": "of_1", "qty": 1}),
        ("POST", f"/v1/comments/{unread}/dismiss", None),
    ]  # fmt: skip
    for method, where, sent in calls:
        of_another = (404, "not_found") if "/comments/" in where else (403, "forbidden")
        for caller, (status, code) in (
            (None, (401, "unauthenticated")), (token("viewer", "ann"), (403, "forbidden")),
            (token(**STRANGER), of_another),
        ):  # fmt: skip
            problem(await shop.call(method, where, sent, token=caller), status, code)
    for method, where, sent in (
        ("POST", "/v1/streams/st_x/comments", body), ("GET", "/v1/streams/st_x/comments", None),
        ("POST", "/v1/comments/cm_x/dismiss", None),
    ):  # fmt: skip
        problem(await shop.call(method, where, sent, token=shop.host), 404, "not_found")
    for role in ("service", "admin", "host"):
        caller = token(role, "x", shop="shop-1")
        assert (await shop.made("POST", path, body, token=caller))["comments"]


async def test_what_is_out_of_bounds_is_refused(shop: Shop) -> None:
    """A comment that cannot be kept is a bad request that names its place, and none is kept."""
    stream = await shop.stream()
    path = f"/v1/streams/{stream}/comments"
    for comment, field in (
        (said("x", platform="Face Book"), "platform"), (said("x", platform="livecart"), "platform"),
        (said("x", ""), "id"), (said("x", user="u" * 128), "user"), (said("x" * 2001), "text"),
        (said("x", at=5_000_000_000_000), "at"),
        ({"platform": "a", "id": "c", "user": "u"}, "text"),
    ):  # fmt: skip
        sent = {"comments": [comment, said("B01+1", "c2")]}
        document = problem(await shop.call("POST", path, sent, token=shop.host), 400, "bad_request")
        assert paths(document)[0].replace("[...]", "[0]") == f"comments[0].{field}"
    for count in (0, 101):
        response = await shop.call("POST", path, {"comments": [said("x")] * count}, token=shop.host)
        assert paths(problem(response, 400, "bad_request")) == ["comments"]
    assert (await shop.made("GET", path))["items"] == []


async def test_chat_is_an_order(shop: Shop) -> None:
    """A line of chat with a keyword is bought for, and its sender told on each connection."""
    stream = await shop.stream()
    offer = await shop.offer(stream, keyword="粉", per_viewer=3)
    ann = token("viewer", "ann")
    async with lines(shop, stream, ann, ann, shop.host) as (line, other, host):
        for text, key in (("粉＋２", "k1"), ("粉+9", "k2"), ("藍+1", "k3"), ("hi", "k4")):
            assert (await line.ask("chat", text=text, key=key))["type"] == "ok"
        again = await line.ask("chat", text="粉＋２", key="k1")
        for heard in (line, other):
            told = await heard.until(lambda m: m["type"] == "comment.order" and "order" in m)
            assert told["comment"] == again["message"]["id"]
            assert (told["order"]["offer"], told["order"]["qty"]) == (offer, 2)
            assert told["order"]["key"].startswith("c.")
            assert told["link"].startswith("/pay#")
            refused = await heard.until(lambda m: m.get("code") == "limit_reached")
            assert (refused["type"], refused["offer"], refused["qty"]) == (
                "comment.order",
                offer,
                9,
            )
            await heard.until(lambda m: m.get("code") == "unreadable")
        assert (await host.ask("chat", text="粉+1", key="h"))["type"] == "ok"
        assert (await line.ask("chat", text="bye", key="k5"))["type"] == "ok"
        assert len(line.kinds("comment.order")) == 3
    response = await shop.call(
        "POST", f"/v1/streams/{stream}/chat", {"text": "粉+1"}, token=ann, key="k6"
    )
    assert response.status_code == 201
    queue = await shop.made("GET", f"/v1/streams/{stream}/comments")
    assert [(one["platform"], one["viewer"], one["text"]) for one in queue["items"]] == [
        ("livecart", "ann", "藍+1")
    ]

    async def both_are_there() -> bool:
        listed = await shop.made("GET", f"/v1/orders?stream={stream}")
        return sorted(one["qty"] for one in listed["items"]) == [1, 2]

    await until(both_are_there)


async def test_chat_of_a_stream_without_keywords_is_only_chat(shop: Shop) -> None:
    """Nothing is kept of it, nor made of it, also where one offer is pinned."""
    stream = await shop.stream()
    offer = await shop.made("GET", f"/v1/offers/{await shop.offer(stream)}")
    pin = {"product": offer["product"]["id"], "offer": offer["id"]}
    await shop.made("POST", f"/v1/streams/{stream}/pins", pin)
    async with lines(shop, stream, token("viewer", "ann")) as (line,):
        for n in range(3):
            assert (await line.ask("chat", text="+1", key=f"k{n}"))["type"] == "ok"
    for state in ("new", "unread", "done"):
        listed = await shop.made("GET", f"/v1/streams/{stream}/comments?state={state}")
        assert listed["items"] == []


async def test_a_keyword_is_one_offers_over_http(shop: Shop) -> None:
    """A second offer of that keyword is a conflict, one that no line can have a bad request."""
    stream = await shop.stream(live=False)
    first = await shop.offer(stream, opened=False, keyword="A01", keyword_mode="exact")
    assert (await shop.made("GET", f"/v1/offers/{first}"))["keyword_mode"] == "exact"
    other = await shop.offer(stream, opened=False)
    body = {"product": await shop.product(), "price_minor": 1, "quantity": 1}
    for keyword, status, code in (("ａ０１", 409, "conflict"), ("a+b", 400, "bad_request")):
        for method, path, sent in (
            ("POST", f"/v1/streams/{stream}/offers", body | {"keyword": keyword}),
            ("PATCH", f"/v1/offers/{other}", {"keyword": keyword}),
        ):
            document = problem(await shop.call(method, path, sent, token=shop.host), status, code)
            assert paths(document) == ["keyword"]
    await shop.made("POST", f"/v1/streams/{stream}/start")
    sent = {"keyword": "A02"}
    problem(await shop.call("PATCH", f"/v1/offers/{first}", sent, token=shop.host), 409, "conflict")
