"""Draws as clients see them, over HTTP and WebSocket on real servers."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.contract.http_rig import Json, Shop, paths, problem, serving, token
from tests.contract.test_ws_commands import lines

LATER = 4_000_000_000_000
NAMES = ["ann", "bob", "cem", "茶"]
TOKENS = {name: token("viewer", name) for name in NAMES}


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


async def draw(shop: Shop, stream: str, **terms: Any) -> str:
    """Return a draw whose window is open."""
    terms = {"mode": "draw", "opens_at": LATER, "quantity": 2} | terms
    return await shop.offer(stream, opened=False, **terms)


def score(seed: str, viewer: str) -> str:
    """Return what anybody would compute."""
    return hmac.new(bytes.fromhex(seed), viewer.encode(), hashlib.sha256).hexdigest()


async def test_a_draw_over_websockets(shop: Shop) -> None:
    """`waitlisted`, nothing for sale, `offer.opened` with the seed, each winner told in private."""
    stream = await shop.stream()
    offer = await draw(shop, stream)
    shown = await shop.made("GET", f"/v1/offers/{offer}")
    async with lines(shop, stream, *TOKENS.values(), TOKENS["ann"], shop.host) as connected:
        *first, second, host = connected
        viewers = dict(zip(NAMES, first, strict=True))
        for n, line in enumerate(first, 1):
            answer = await line.ask("waitlist", offer=offer, qty=1, key="w")
            assert answer == {"type": "waitlisted", "re": 2, "offer": offer, "position": n}
        assert (await second.ask("waitlist", offer=offer, qty=1, key="x"))["position"] == 1
        assert (await second.ask("buy", offer=offer, qty=1, key="b"))["code"] == "not_open"
        assert (await host.ask("offer.open", offer=offer))["type"] == "ok"
        for line in connected:
            opened = await line.until(lambda m: m["type"] == "offer.opened")
            assert opened["offer"]["seed_hash"] == shown["seed_hash"]
        seed = opened["offer"]["seed"]
        assert hashlib.sha256(bytes.fromhex(seed)).hexdigest() == shown["seed_hash"]
        won, lost = sorted(NAMES, key=lambda v: score(seed, v))[:2], []
        for name, line in viewers.items():
            if name in won:
                told = await line.until(lambda m: m["type"] == "order.reserved")
                assert (told["order"]["viewer"], told["order"]["key"]) == (name, "w")
            else:
                lost.append(line)
        for line in (*lost, host):
            await line.until(lambda m: m["type"] == "offer.sold_out")
            assert not line.kinds("order.reserved")
        places = [(await line.ask("waitlist", offer=offer, qty=1, key="w")) for line in lost]
        assert sorted(place["position"] for place in places) == [1, 2]


async def test_what_came_of_a_draw_over_http(shop: Shop) -> None:
    """The commitment and a number before; after, the seed for all, the list for some."""
    stream = await shop.stream()
    offer = await draw(shop, stream)
    path = f"/v1/offers/{offer}"
    shown = await shop.made("GET", path)
    assert (shown["mode"], shown["waitlist_max"], "seed" in shown) == ("draw", 50_000, False)
    for name in NAMES:
        answer = await shop.call(
            "POST", f"{path}/waitlist", {"qty": 1}, token=TOKENS[name], key="w"
        )
        assert answer.status_code == 201, answer.text
    assert (await shop.call("DELETE", f"{path}/waitlist", token=TOKENS["cem"])).status_code == 204
    before: Json = (await shop.call("GET", f"{path}/draw")).json()
    assert before == {"offer": offer, "seed_hash": shown["seed_hash"], "entries": 3}
    assert (await shop.made("GET", f"{path}/draw/entries"))["items"] == []
    opened = await shop.made("POST", f"{path}/open")
    assert (opened["status"], opened["left"], opened["waiting"]) == ("sold_out", 0, 1)

    after: Json = (await shop.call("GET", f"{path}/draw")).json()
    seed = after["seed"]
    order = sorted((n for n in NAMES if n != "cem"), key=lambda v: score(seed, v))
    assert after.items() >= {
        "seed_hash": shown["seed_hash"], "entries": 3, "winners": 2, "units": 2,
        "threshold": score(seed, order[1]),
    }.items()  # fmt: skip
    page = await shop.made("GET", f"{path}/draw/entries?limit=2")
    rest = await shop.made("GET", f"{path}/draw/entries?cursor={page['next_cursor']}")
    assert [*page["items"], *rest["items"]] == [
        {"viewer": v, "qty": 1, "score": score(seed, v), "place": n, "won": n < 3}
        for n, v in enumerate(order, 1)
    ]
    assert rest["next_cursor"] is None
    for viewer in NAMES:
        own = await shop.made("GET", f"{path}/draw/entries", token=TOKENS[viewer])
        assert [e["viewer"] for e in own["items"]] == [v for v in order if v == viewer]
    stranger = token("host", "h", shop="shop-2")
    for who, code in ((stranger, 403), (None, 401)):
        assert (await shop.call("GET", f"{path}/draw/entries", token=who)).status_code == code
    sale = await shop.offer(stream)
    plain = await shop.made("GET", f"/v1/offers/{sale}")
    assert not {"mode", "seed", "seed_hash"} & plain.keys()
    problem(await shop.call("GET", f"/v1/offers/{sale}/draw"), 404, "not_found")
    draft = await draw(shop, stream, opens_at=None)
    problem(await shop.call("GET", f"/v1/offers/{draft}/draw"), 404, "not_found")


async def test_the_terms_of_a_draw(shop: Shop) -> None:
    """A draft becomes a draw with its usual bound; one without entries there cannot be."""
    stream = await shop.stream()
    draft = f"/v1/offers/{await shop.offer(stream, opened=False)}"
    shown = await shop.made("PATCH", draft, {"mode": "draw"})
    assert (shown["mode"], shown["waitlist_max"], len(shown["seed_hash"])) == ("draw", 50_000, 64)
    shown = await shop.made("PATCH", draft, {"waitlist_max": 7})
    assert (shown["mode"], shown["waitlist_max"]) == ("draw", 7)
    for fields in ({"waitlist_max": 0}, {"waitlist_max": 50_001}):
        response = await shop.call("PATCH", draft, fields, token=shop.host)
        assert paths(problem(response, 400, "bad_request")) == ["waitlist_max"]
    response = await shop.call("PATCH", draft, {"mode": "raffle"}, token=shop.host)
    assert paths(problem(response, 400, "bad_request")) == ["mode"]
    shown = await shop.made("PATCH", draft, {"mode": "sale"})
    assert not {"mode", "seed_hash", "waitlist_max"} & shown.keys()
    shown = await shop.made("PATCH", draft, {"mode": "draw", "opens_at": LATER})
    assert shown["status"] == "scheduled"
    problem(await shop.call("PATCH", draft, {"mode": "sale"}, token=shop.host), 409, "conflict")


async def test_nobody_is_told_the_seed_before_the_draw(shop: Shop, redis_url: str) -> None:
    """Not by HTTP, a welcome, an event, a metric or anything that Redis has."""
    stream = await shop.stream()
    offer = await draw(shop, stream)
    found = await shop.services.pool.fetchval(
        "select encode(seed, 'hex') from draws where offer = $1", offer
    )
    async with lines(shop, stream, TOKENS["ann"], shop.host) as (ann, host):
        await ann.ask("waitlist", offer=offer, qty=1, key="w")
        await shop.made("PATCH", f"/v1/offers/{offer}", {"quantity": 3})
        await host.until(lambda m: m["type"] == "offer.restocked")
        said = [
            (await shop.call("GET", path, token=shop.host)).text
            for path in (
                f"/v1/offers/{offer}", f"/v1/streams/{stream}/offers", f"/v1/offers/{offer}/draw",
                f"/v1/offers/{offer}/draw/entries", f"/v1/offers/{offer}/waitlist", "/metrics",
            )
        ]  # fmt: skip
        said += [str(line.heard) for line in (ann, host)]
        assert all(offer in text for text in (*said[:3], *said[-2:]))
        client = Redis.from_url(redis_url)
        for key in await client.keys("*"):
            assert isinstance(key, bytes)
            kind = str(await client.type(key))
            reads: dict[str, Any] = {
                "hash": client.hgetall, "string": client.get, "stream": client.xrange,
            }  # fmt: skip
            for name, read in reads.items():
                if name in kind:
                    said.append(f"{key!r} {await read(key)}")
        await client.aclose()
        assert any("offer.scheduled" in text for text in said if text.startswith("b'"))
        assert [text for text in said if found in text] == []
        await host.ask("offer.open", offer=offer)
        opened = await ann.until(lambda m: m["type"] == "offer.opened")
        assert opened["offer"]["seed"] == found
