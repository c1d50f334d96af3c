"""Hosting over HTTP on real servers: streams, products, offers and pins, and whose they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.contract.http_rig import Shop, paths, problem, serving, token
from tests.contract.test_ws_commands import lines

STRANGER = {"role": "host", "sub": "h", "shop": "shop-2"}


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


async def test_the_life_of_a_stream(shop: Shop) -> None:
    """Scheduled, live, ended; starting twice and ending twice is fine, going back a conflict."""
    body = {"title": "開播", "starts_at": 1_900_000_000_000, "language": "zh-TW", "new": 1}
    made = await shop.made("POST", "/v1/streams", body | {"playback_url": None})
    stream = f"/v1/streams/{made['id']}"
    assert made == {
        "id": made["id"], "shop": "shop-1", "title": "開播", "status": "scheduled",
        "starts_at": 1_900_000_000_000, "language": "zh-TW",
    }  # fmt: skip
    assert (await shop.call("GET", stream)).json() == made
    live = await shop.made("POST", f"{stream}/start")
    assert live["status"] == "live"
    assert await shop.made("POST", f"{stream}/start") == live
    offer = await shop.offer(made["id"])
    ended = await shop.made("POST", f"{stream}/end")
    assert ended["status"] == "ended"
    assert await shop.made("POST", f"{stream}/end") == ended
    assert (await shop.made("GET", f"/v1/offers/{offer}"))["status"] == "closed"
    problem(await shop.call("POST", f"{stream}/start", token=shop.host), 409, "conflict")
    pin = {"product": await shop.product()}
    problem(await shop.call("POST", f"{stream}/pins", pin, token=shop.host), 409, "conflict")


async def test_lists_go_on_from_their_cursor(shop: Shop) -> None:
    """Streams and products are listed newest first, by shop, in pages."""
    streams = [await shop.stream(live=n == 1) for n in range(3)]
    products = [await shop.product() for _ in range(3)]
    for path, ids in (("/v1/streams", streams), ("/v1/products", products)):
        first = (await shop.call("GET", f"{path}?limit=2&shop=shop-1")).json()
        assert [item["id"] for item in first["items"]] == ids[:0:-1]
        rest = await shop.call("GET", f"{path}?limit=2&cursor={first['next_cursor']}")
        assert [item["id"] for item in rest.json()["items"]] == ids[:1]
        assert rest.json()["next_cursor"] is None
        assert (await shop.call("GET", f"{path}?shop=shop-2")).json()["items"] == []
    live = (await shop.call("GET", "/v1/streams?status=live")).json()["items"]
    assert [item["id"] for item in live] == [streams[1]]


async def test_a_draft_is_seen_by_its_shop_only(shop: Shop) -> None:
    """A draft is 404 and unlisted for others until it is scheduled or opened."""
    stream = await shop.stream()
    draft = await shop.offer(stream, opened=False)
    others = (None, token("viewer", "ann"), token(**STRANGER), token("viewer", "shop-1"))
    for caller in others:
        problem(await shop.call("GET", f"/v1/offers/{draft}", token=caller), 404, "not_found")
        listed = await shop.call("GET", f"/v1/streams/{stream}/offers", token=caller)
        assert listed.json() == {"items": [], "next_cursor": None}
    path = f"/v1/offers/{draft}/open"
    problem(await shop.call("POST", path, token=token(**STRANGER)), 404, "not_found")
    for caller in (shop.host, token("admin", "a"), token("host", "shop-1")):
        assert (await shop.made("GET", f"/v1/offers/{draft}", token=caller))["status"] == "draft"
        listed = await shop.call("GET", f"/v1/streams/{stream}/offers", token=caller)
        assert [offer["id"] for offer in listed.json()["items"]] == [draft]
    opens_at = {"opens_at": 1_900_000_000_000}
    scheduled = await shop.made("PATCH", f"/v1/offers/{draft}", opens_at)
    assert scheduled["status"] == "scheduled"
    shown = (await shop.call("GET", f"/v1/offers/{draft}")).json()
    assert (shown["status"], shown["opens_at"]) == ("scheduled", 1_900_000_000_000)


async def test_a_draft_that_was_closed_stays_its_shops(shop: Shop) -> None:
    """What is closed as a draft others never see nor buy; what was announced they see closed."""
    stream = await shop.stream()
    ann = token("viewer", "ann")
    draft = await shop.offer(stream, opened=False)
    scheduled = await shop.offer(stream, opened=False, opens_at=1_900_000_000_000)
    opened = await shop.offer(stream)
    ended = await shop.offer(stream, opened=False)
    for offer in (draft, scheduled, opened):
        await shop.made("POST", f"/v1/offers/{offer}/close")
    await shop.made("POST", f"/v1/streams/{stream}/end")  # closes the other draft
    for offer in (draft, ended):
        assert (await shop.made("GET", f"/v1/offers/{offer}"))["status"] == "closed"
        problem(await shop.call("GET", f"/v1/offers/{offer}", token=ann), 404, "not_found")
        problem(await shop.buy(offer, "ann"), 404, "not_found")
    for caller, seen in (
        (ann, [opened, scheduled]),
        (shop.host, [ended, opened, scheduled, draft]),
    ):
        listed = await shop.call("GET", f"/v1/streams/{stream}/offers", token=caller)
        assert [offer["id"] for offer in listed.json()["items"]] == seen
    for offer in (scheduled, opened):
        assert (await shop.made("GET", f"/v1/offers/{offer}", token=ann))["status"] == "closed"


async def test_an_offer_is_revised_within_its_state(shop: Shop) -> None:
    """A draft may change altogether; later only closes_at, and quantity down to what is taken."""
    stream = await shop.stream()
    draft = await shop.offer(stream, opened=False)
    path = f"/v1/offers/{draft}"
    everything = {
        "product": await shop.product(), "price_minor": 9, "quantity": 7, "per_viewer": 2,
        "hold_s": 60, "payment": "none", "keyword": "茶", "closes_at": 1_900_000_000_000,
    }  # fmt: skip
    revised = await shop.made("PATCH", path, everything)
    assert revised["product"]["id"] == everything.pop("product")
    assert everything.items() <= revised.items()
    assert await shop.made("PATCH", path, {}) == revised
    await shop.made("POST", f"{path}/open")
    assert (await shop.buy(draft, "ann", 2)).json()["status"] == "confirmed"
    for fields in ({"price_minor": 1}, {"quantity": 1}):
        problem(await shop.call("PATCH", path, fields, token=shop.host), 409, "conflict")
    assert (await shop.made("PATCH", path, {"quantity": 2}))["status"] == "sold_out"
    assert (await shop.made("PATCH", path, {"quantity": 3}))["left"] == 1


async def test_a_keyword_and_an_end_are_cleared(shop: Shop) -> None:
    """`clear` empties both where they may change; null is as absent, here as everywhere."""
    stream = await shop.stream(live=False)
    times = {"closes_at": 1_900_000_000_000}
    draft = await shop.offer(stream, opened=False, keyword="tea", **times)
    path = f"/v1/offers/{draft}"
    filled = await shop.made("GET", path)
    nulls = ("price_minor", "payment", "hold_s", "quantity", "keyword", "opens_at", "closes_at")
    assert await shop.made("PATCH", path, dict.fromkeys((*nulls, "clear"))) == filled
    both = {"clear": ["keyword", "closes_at", "keyword"]}
    response = await shop.call("PATCH", path, both | times, token=shop.host)
    assert paths(problem(response, 400, "bad_request")) == ["clear"]
    emptied = await shop.made("PATCH", path, both)
    gone = {"keyword", "closes_at", "version"}
    assert emptied == {k: v for k, v in filled.items() if k not in gone} | {"version": 2}
    assert await shop.made("PATCH", path, both) == emptied
    other = await shop.offer(stream, opened=False, keyword="tea")  # it is free again
    # Later `closes_at` alone may be cleared, also for an opening after what the end was.
    opens = {"opens_at": 1_800_000_000_000}
    assert (await shop.made("PATCH", path, opens | times))["status"] == "scheduled"
    open_ended = await shop.made("PATCH", path, both)
    assert (open_ended["status"], "closes_at" in open_ended) == ("scheduled", False)
    late = await shop.offer(stream, opened=False, **times)
    after = {"opens_at": times["closes_at"] + 1, "clear": ["closes_at"]}
    assert (await shop.made("PATCH", f"/v1/offers/{late}", after))["status"] == "scheduled"
    # What viewers of a live show were told stays what it is.
    await shop.made("POST", f"/v1/streams/{stream}/start")
    told = await shop.call("PATCH", f"/v1/offers/{other}", {"clear": ["keyword"]}, token=shop.host)
    problem(told, 409, "conflict")


async def test_a_quantity_is_set_only_from_what_the_host_saw(shop: Shop) -> None:
    """Of two hosts who set a quantity from the same one, one does; the other changes nothing."""
    offer = await shop.offer(await shop.stream(), quantity=5)
    path = f"/v1/offers/{offer}"
    other = token("host", "host-2", shop="shop-1")
    both = await asyncio.gather(
        shop.call("PATCH", path, {"quantity": 8, "if_quantity": 5}, token=shop.host),
        shop.call("PATCH", path, {"quantity": 9, "if_quantity": 5}, token=other),
    )
    [won] = [answer.json() for answer in both if answer.is_success]
    [lost] = [answer for answer in both if not answer.is_success]
    assert paths(problem(lost, 409, "conflict")) == ["if_quantity"]
    assert (await shop.call("GET", path)).json() == won
    # An answer that was lost is asked for again: what is wanted is so.
    wanted = {"quantity": won["quantity"], "if_quantity": 5}
    assert await shop.made("PATCH", path, wanted) == won
    late = {"closes_at": 1_900_000_000_000, "ship_within_h": 5, "if_quantity": 5}
    problem(await shop.call("PATCH", path, late, token=shop.host), 409, "conflict")
    assert (await shop.call("GET", path)).json() == won
    again = await shop.made("PATCH", path, late | {"if_quantity": won["quantity"]})
    assert (again["closes_at"], again["ship_within_h"]) == (1_900_000_000_000, 5)
    assert await shop.made("PATCH", path, {"if_quantity": None}) == again
    draft = f"/v1/offers/{await shop.offer(again['stream'], opened=False, quantity=5)}"
    problem(
        await shop.call("PATCH", draft, {"price_minor": 1, "if_quantity": 6}, token=shop.host),
        409, "conflict",
    )  # fmt: skip
    assert (await shop.made("PATCH", draft, {"quantity": 6, "if_quantity": 5}))["quantity"] == 6


async def test_times_of_an_offer_are_in_order(shop: Shop) -> None:
    """closes_at must come after opens_at, whether both or one of them is sent."""
    stream = await shop.stream()
    body = {"product": await shop.product(), "price_minor": 1, "quantity": 1}
    path = f"/v1/streams/{stream}/offers"
    times = {"opens_at": 2_000, "closes_at": 2_000}
    document = problem(
        await shop.call("POST", path, body | times, token=shop.host), 400, "bad_request"
    )
    assert paths(document) == ["closes_at"]
    offer = await shop.offer(stream, opened=False, opens_at=1_900_000_000_000)
    response = await shop.call("PATCH", f"/v1/offers/{offer}", {"closes_at": 5}, token=shop.host)
    assert paths(problem(response, 400, "bad_request")) == ["closes_at"]


async def test_a_time_that_never_comes_hinders_nothing(shop: Shop) -> None:
    """An offer that closes in a far year, as panels write "never", is told; so is all after it."""
    stream = await shop.stream()
    never = 2**53 - 1
    made = await shop.made("POST", f"/v1/streams/{stream}/offers", {
        "product": await shop.product(), "price_minor": 5, "quantity": 1,
        "opens_at": 1_900_000_000_000, "closes_at": never,
    })  # fmt: skip
    assert made["closes_at"] == never
    async with lines(shop, stream, token("viewer", "ann")) as (line,):
        changed = await shop.made("PATCH", f"/v1/offers/{made['id']}", {"closes_at": never - 1})
        assert changed["closes_at"] == never - 1
        told = await line.until(lambda m: m["type"] == "offer.scheduled")
        assert told["offer"]["closes_at"] == never - 1
        await shop.made("POST", f"/v1/streams/{stream}/end")
        await line.until(lambda m: m["type"] == "stream.ended")


async def test_a_shop_acts_on_its_own_only(shop: Shop) -> None:
    """Another shop's host is forbidden, or does not find what he refers to."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    pin = await shop.made("POST", f"/v1/streams/{stream}/pins", {"product": await shop.product()})
    theirs = token(**STRANGER)
    limited = token("host", "host-1", shop="shop-1", streams=["st_other"])
    calls = (
        ("POST", f"/v1/streams/{stream}/start", None), ("POST", f"/v1/streams/{stream}/end", None),
        ("POST", f"/v1/streams/{stream}/pins", {"product": "pr_x"}),
        ("DELETE", f"/v1/streams/{stream}/pins/{pin['id']}", None),
        ("POST", f"/v1/streams/{stream}/offers",
         {"product": "pr_x", "price_minor": 1, "quantity": 1}),
        ("PATCH", f"/v1/offers/{offer}", {"quantity": 1}),
        ("POST", f"/v1/offers/{offer}/open", None), ("POST", f"/v1/offers/{offer}/close", None),
        ("POST", f"/v1/offers/{offer}/restock", {"add": 1}),
    )  # fmt: skip
    for method, path, body in calls:
        for caller, status, code in (
            (theirs, 403, "forbidden"), (limited, 403, "forbidden"),
            (token("viewer", "ann"), 403, "forbidden"), (None, 401, "unauthenticated"),
        ):  # fmt: skip
            response = await shop.call(method, path, body, token=caller, key="k")
            problem(response, status, code)
    response = await shop.call("POST", "/v1/streams", {"title": "x"}, token=limited)
    problem(response, 403, "forbidden")
    for path in (f"/v1/streams/{stream}/offers", f"/v1/streams/{stream}/pins"):
        body = {"product": "pr_none", "price_minor": 1, "quantity": 1}
        document = problem(await shop.call("POST", path, body, token=shop.host), 404, "not_found")
        assert paths(document) == ["product"]


async def test_an_admin_acts_for_every_shop(shop: Shop) -> None:
    """An admin opens another shop's offer; what he creates belongs to his shop claim."""
    offer = await shop.offer(await shop.stream(), opened=False)
    admin = token("admin", "root", shop="shop-9")
    assert (await shop.made("POST", f"/v1/offers/{offer}/open", token=admin))["status"] == "open"
    made = await shop.made("POST", "/v1/streams", {"title": "x"}, token=admin)
    assert made["shop"] == "shop-9"


async def test_pins_come_and_go(shop: Shop) -> None:
    """A pin is 201 and 204 once; an offer of another stream or product is refused."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    product = (await shop.made("GET", f"/v1/offers/{offer}"))["product"]
    path = f"/v1/streams/{stream}/pins"
    body = {"product": product["id"], "offer": offer, "media_at": 5}
    pin = await shop.made("POST", path, body)
    assert pin == {
        "id": pin["id"], "product": product, "position": 0, "offer": offer, "media_at": 5,
    }  # fmt: skip
    gone = await shop.call("DELETE", f"{path}/{pin['id']}", token=shop.host)
    assert (gone.status_code, gone.content) == (204, b"")
    response = await shop.call("DELETE", f"{path}/{pin['id']}", token=shop.host)
    problem(response, 404, "not_found")
    elsewhere = await shop.offer(await shop.stream())
    response = await shop.call("POST", path, body | {"offer": elsewhere}, token=shop.host)
    assert paths(problem(response, 404, "not_found")) == ["offer"]
    response = await shop.call(
        "POST", path, body | {"product": await shop.product()}, token=shop.host
    )
    assert paths(problem(response, 400, "bad_request")) == ["offer"]


BEYOND: tuple[tuple[str, str, object], ...] = (
    ("/v1/streams", "title", "x" * 121),
    ("/v1/streams", "title", ""),
    ("/v1/streams", "title", "a\x00b"),
    ("/v1/streams", "title", None),
    ("/v1/streams", "starts_at", -1),
    ("/v1/streams", "playback_url", "javascript:alert(1)"),
    ("/v1/streams", "playback_url", "https://x/" + "y" * 2_048),
    ("/v1/streams", "language", "zh TW"),
    ("/v1/products", "sku", "x" * 65),
    ("/v1/products", "price_minor", 10**12 + 1),
    ("/v1/products", "price_minor", 19.99),
    ("/v1/products", "currency", "twd"),
    ("/v1/products", "description", "x" * 5_001),
    ("/v1/products", "gtin", "12"),
)


async def test_each_limit_is_named_when_it_is_passed(shop: Shop) -> None:
    """A value beyond its limit is bad_request with the path of its field."""
    good = {"title": "x", "sku": "a", "price_minor": 1, "currency": "TWD"}
    for path, field, value in BEYOND:
        response = await shop.call("POST", path, good | {field: value}, token=shop.host)
        assert paths(problem(response, 400, "bad_request", field)) == [field]


async def test_text_at_its_limit_is_kept_as_it_is(shop: Shop) -> None:
    """120 code points of title and 5,000 of description beyond the BMP come back unharmed."""
    body = {
        "sku": "𝔖" * 64, "title": "🫖" * 120, "description": "\n𠮷\t" + "𠮷" * 4_997,
        "price_minor": 10**12, "currency": "JPY", "image_url": "https://x/" + "y" * 2_038,
        "gtin": "4712345678904",
    }  # fmt: skip
    made = await shop.made("POST", "/v1/products", body)
    shown = (await shop.call("GET", f"/v1/products/{made['id']}")).json()
    assert shown == made
    assert body.items() <= shown.items()


async def test_a_pin_says_which_moment_of_the_video_it_belongs_to(shop: Shop) -> None:
    """Of a stream with video, the time of the call; the host's own goes first, null is none."""
    plain = await shop.stream()
    body = {"title": "x", "playback_url": "https://cdn.example/x.m3u8"}
    filmed = (await shop.made("POST", "/v1/streams", body))["id"]
    await shop.made("POST", f"/v1/streams/{filmed}/start")
    product = {"product": await shop.product()}
    assert "media_at" not in await shop.made("POST", f"/v1/streams/{plain}/pins", product)
    before = shop.services.clock.now_ms()
    for given in ({}, {"media_at": None}):
        made = await shop.made("POST", f"/v1/streams/{filmed}/pins", product | given)
        assert before <= made["media_at"] <= shop.services.clock.now_ms()
    own = await shop.made("POST", f"/v1/streams/{filmed}/pins", product | {"media_at": 5})
    assert own["media_at"] == 5
    room = await shop.services.catalog.room(filmed)
    assert room is not None
    assert [pin.media_at for pin in room.pins][:2] == [5, made["media_at"]]


async def test_a_pin_by_socket_has_its_moment_too(shop: Shop) -> None:
    """The answer and the event of everybody have the same `media_at`."""
    body = {"title": "x", "playback_url": "https://cdn.example/x.m3u8"}
    stream = (await shop.made("POST", "/v1/streams", body))["id"]
    await shop.made("POST", f"/v1/streams/{stream}/start")
    product = await shop.product()
    async with lines(shop, stream, shop.host, token("viewer", "v")) as (host, viewer):
        answer = await host.ask("pin", product=product)
        told = await viewer.until(lambda message: message["type"] == "pinned")
    assert told["pin"]["media_at"] == answer["pin"]["media_at"] > 1_700_000_000_000
