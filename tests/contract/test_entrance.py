"""Codes that pages trade for tokens: once, in time, and for nothing more than the giver has."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import jwt
import pytest

from livecart.entrance import link
from tests.contract.http_rig import SECRET, Json, Shop, problem, serving, token

SERVICE = token("service", "backend", shop="shop-1")
CODES, TOKENS, RENEW = "/v1/page-codes", "/v1/page-tokens", "/v1/page-tokens/renew"


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


async def code(shop: Shop, by: str = SERVICE, **body: object) -> str:
    """Return a fresh code."""
    made: str = (await shop.made("POST", CODES, {"role": "viewer", "sub": "ann"} | body, token=by))[
        "code"
    ]
    return made


async def trade(shop: Shop, given: str) -> httpx.Response:
    """Trade a code as a page does, which has no token yet."""
    return await shop.call("POST", TOKENS, {"code": given})


def claims(value: str) -> Json:
    """Return what a token of this server says."""
    found: Json = jwt.decode(
        value, SECRET, algorithms=["HS256"], options={"verify_exp": False, "verify_aud": False}
    )
    return found


async def test_a_code_is_traded_once(shop: Shop) -> None:
    """Of many who try at the same moment one gets the token, and it speaks for whom it should."""
    stream = await shop.stream()
    given = await code(shop, name="小美", streams=[stream], ttl_s=600)
    answers = await asyncio.gather(*(trade(shop, given) for _ in range(8)))
    (good,) = [answer for answer in answers if answer.status_code == 201]
    assert good.headers["cache-control"] == "no-store"
    for answer in answers:
        if answer is not good:
            problem(answer, 401, "unauthenticated")
    made = good.json()
    said = claims(made["token"])
    assert (said["sub"], said["role"], said["name"], said["streams"]) == (
        "ann", "viewer", "小美", [stream],
    )  # fmt: skip
    assert said["exp"] * 1000 == made["expires_at"]
    assert 590 < said["exp"] - time.time() <= 600
    offer = await shop.offer(stream)
    path = f"/v1/offers/{offer}/orders"
    bought = await shop.call("POST", path, {"qty": 1}, token=made["token"], key="k")
    assert bought.json()["viewer"] == "ann"


async def test_a_lost_answer_burns_no_code(shop: Shop) -> None:
    """With the same word it is answered again, for a minute; to no other, and to none without."""
    given, redis = await code(shop), shop.services.redis
    mine = {"code": given, "once": "mine.~_-1"}
    answers = await asyncio.gather(*(shop.call("POST", TOKENS, mine) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert {claims(answer.json()["token"])["sub"] for answer in answers} == {"ann"}
    for other in ({}, {"once": None}, {"once": "mine"}):
        problem(await shop.call("POST", TOKENS, {"code": given} | other), 401, "unauthenticated")
    keys = [key async for key in redis.scan_iter("page-code:*")]
    assert len(keys) == 1
    assert 50_000 < await redis.pttl(keys[0]) <= 60_000
    await redis.delete(keys[0])  # as its end does
    problem(await shop.call("POST", TOKENS, mine), 401, "unauthenticated")
    burnt = await code(shop)
    assert (await trade(shop, burnt)).status_code == 201
    problem(await shop.call("POST", TOKENS, mine | {"code": burnt}), 401, "unauthenticated")
    for odd in ("", "x" * 65, "a b", "{", 5):
        problem(await shop.call("POST", TOKENS, mine | {"once": odd}), 400, "bad_request")


async def test_a_code_ends_after_a_minute(shop: Shop) -> None:
    """What is kept of it is a hash, and Redis forgets that in time; a host may not ask for more."""
    redis = shop.services.redis
    host = {"role": "host", "sub": "host-1"}
    for by, asked, least, most in (
        (SERVICE, None, 50, 60), (SERVICE, 600, 590, 600), (shop.host, 600, 50, 60),
    ):  # fmt: skip
        before = {key async for key in redis.scan_iter("page-code:*")}
        given = await code(shop, by, **host, code_ttl_s=asked)
        (key,) = {key async for key in redis.scan_iter("page-code:*")} - before
        assert given.encode() not in key
        assert least * 1000 < await redis.pttl(key) <= most * 1000
        await redis.delete(key)  # as its end does
        problem(await trade(shop, given), 401, "unauthenticated")


async def test_what_is_no_code_is_refused(shop: Shop) -> None:
    """Its shape is judged before Redis is asked."""
    for odd in ("", "x" * 65, "ä", "a b", None, 5):
        problem(await shop.call("POST", TOKENS, {"code": odd}), 400, "bad_request", repr(odd))


ABOVE: dict[str, tuple[str, Mapping[str, Any]]] = {
    "a viewer gives nothing": (token("viewer", "ann"), {"sub": "ann", "role": "viewer"}),
    "a host is nobody else": (token("host", "h", shop="s"), {"sub": "ann", "role": "viewer"}),
    "nor of another shop": (
        token("host", "h", shop="s"), {"sub": "h", "role": "host", "shop": "t"},
    ),
    "nor on other streams": (
        token("host", "h", shop="s", streams=["st_1"]),
        {"sub": "h", "role": "host", "streams": ["st_1", "st_2"]},
    ),
    "nor is a service": (
        token("service", "b", streams=["st_1"]),
        {"sub": "h", "role": "host", "streams": ["st_2"]},
    ),
}  # fmt: skip


async def test_nobody_gives_more_than_he_has(shop: Shop) -> None:
    """Another's name, shop or stream is forbidden."""
    for name, (by, body) in ABOVE.items():
        problem(await shop.call("POST", CODES, body, token=by), 403, "forbidden", name)


async def test_no_role_above_host_is_given(shop: Shop) -> None:
    """Not even by a service or an admin."""
    for by in (SERVICE, token("admin", "root")):
        for role in ("service", "admin", "guest"):
            body = {"sub": "x", "role": role}
            problem(await shop.call("POST", CODES, body, token=by), 400, "bad_request")


async def test_what_a_limited_token_gives_is_limited_too(shop: Shop) -> None:
    """Streams are inherited, and no session of a host's code outlasts the host's own token."""
    by = token("host", "h", shop="s", streams=["st_1"], ttl_s=300)
    given = await code(shop, by, sub="h", role="host", ttl_s=3_600)
    said = claims((await trade(shop, given)).json()["token"])
    assert (said["streams"], said["shop"]) == (["st_1"], "s")
    assert said["exp"] == said["ses"] == claims(by)["exp"]


async def test_a_token_is_renewed_within_its_session(redis_url: str, database_url: str) -> None:
    """Each ends later, none after the session; who never traded a code is not renewed."""
    settings = {"LIVECART_PAGE_SESSION_S": "900"}
    async with serving(redis_url, database_url, **settings) as shop:
        first = (await trade(shop, await code(shop, ttl_s=800))).json()
        clock, now_ms = shop.services.entrance, shop.services.clock.now_ms
        clock._now_ms = lambda: now_ms() + 50_000
        second = await shop.made("POST", RENEW, token=first["token"])
        assert second["expires_at"] - first["expires_at"] in range(48_000, 53_000)
        clock._now_ms = lambda: now_ms() + 700_000
        third = await shop.made("POST", RENEW, token=second["token"])
        assert third["expires_at"] == claims(first["token"])["ses"] * 1000
        same = {"sub", "role", "ses", "ttl"}
        assert {k: claims(third["token"])[k] for k in same} == {
            k: claims(first["token"])[k] for k in same
        }
        problem(await shop.call("POST", RENEW, token=token("viewer", "ann")), 403, "forbidden")
        problem(await shop.call("POST", RENEW), 401, "unauthenticated")


async def test_tokens_have_what_the_server_demands(redis_url: str, database_url: str) -> None:
    """Where an audience and an issuer are set, pages' tokens have them."""
    settings = {"LIVECART_JWT_AUDIENCE": "aud-1", "LIVECART_JWT_ISSUER": "iss-1"}
    async with serving(redis_url, database_url, **settings) as shop:
        by = jwt.encode(
            {"sub": "b", "role": "service", "exp": int(time.time()) + 60, "aud": "aud-1",
             "iss": "iss-1"},
            SECRET, algorithm="HS256",
        )  # fmt: skip
        made = (await trade(shop, await code(shop, by))).json()
        assert (await shop.call("GET", "/v1/orders", token=made["token"])).status_code == 200


async def test_a_server_that_signs_nothing_says_so(shop: Shop) -> None:
    """With keys of somebody else's there are no codes, and the answer says why."""
    auth = shop.services.entrance._settings
    other = type(auth)(jwks_url="https://keys.example", secret=auth.secret)
    shop.services.entrance._settings = other
    body = {"sub": "x", "role": "viewer"}
    for answer in (
        await shop.call("POST", CODES, body, token=SERVICE),
        await shop.call("POST", TOKENS, {"code": "x"}),
        await shop.call("POST", RENEW, token=SERVICE),
    ):
        assert "LIVECART_JWKS_URL" in problem(answer, 409, "conflict")["detail"]


async def test_guessing_is_slowed_down(redis_url: str, database_url: str) -> None:
    """Who has no token is counted by address."""
    settings = {"LIVECART_SELL_PER_S": "0.01", "LIVECART_SELL_BURST": "3"}
    async with serving(redis_url, database_url, **settings) as shop:
        for _ in range(3):
            problem(await trade(shop, "guess"), 401, "unauthenticated")
        problem(await trade(shop, "guess"), 429, "rate_limited")


async def test_neither_code_nor_token_is_logged(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """At the most talkative level, good or bad."""
    with caplog.at_level(logging.DEBUG):
        given = await code(shop)
        made = (await trade(shop, given)).json()["token"]
        await trade(shop, given)
        await shop.call("POST", RENEW, token=made)
        await shop.call("POST", RENEW, token=made[:-2])
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    assert ours
    assert not [line for line in ours if given in line or made[:-2] in line]


async def test_a_link_has_its_code_behind_the_hash(shop: Shop) -> None:
    """`livecart up` and `livecart token --page` make such links; a refusal is a ValueError."""
    base = f"http://127.0.0.1:{shop.port}"
    body = {"sub": "h", "role": "host", "shop": "shop-1"}
    made = await asyncio.to_thread(link, base, SERVICE, "/host", body, ["stream=st_1"])
    page, _, fragment = made.partition("#")
    assert page == f"{base}/host"
    given, rest = fragment.split("&")
    assert rest == "stream=st_1"
    assert (await trade(shop, given.removeprefix("code="))).status_code == 201
    with pytest.raises(ValueError, match="may not"):
        await asyncio.to_thread(link, base, token("viewer", "v"), "/host", body)
