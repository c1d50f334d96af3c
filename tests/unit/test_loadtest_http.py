"""Buyers over HTTP: every buy ends under its Idempotency-Key, whatever happens to a connection."""

from __future__ import annotations

import asyncio
from typing import Any

import jwt
import pytest

from loadtest.history import History
from loadtest.httpcrowd import HttpCrowd
from loadtest.patience import Patience
from loadtest.web import Address, Api, ApiError, make_token
from tests.unit.loadtest_door import order, served

QUICK = Patience(
    back_off_min_s=0.01,
    back_off_max_s=0.05,
    answer_timeout_s=0.3,
    retry_min_s=0.01,
    retry_max_s=0.05,
    attempts_max=30,
)
ENDS_S = 15.0


async def sell(url: str, patience: Patience = QUICK) -> tuple[History, HttpCrowd]:
    """Ten viewers, three buys each, over ten connections, until each buy has ended."""
    history = History([f"v{n}" for n in range(10)], 3, 2, "run")
    crowd = HttpCrowd(url, [f"token-{n}" for n in range(10)], history, 10, patience)
    crowd.build("of_1")
    try:
        await crowd.connect(ENDS_S)
        await crowd.volley()
        async with asyncio.timeout(ENDS_S):
            await history.done.wait()
    finally:
        await crowd.close()
    return history, crowd


async def test_every_buy_is_one_request_with_its_key() -> None:
    """Each buy is a POST with its viewer's token, its key and its quantity."""
    async with served(lambda attempt, key: order(key)) as (door, url):
        history, _ = await sell(url)
    assert {buy.verdict for buy in history.buys()} == {"acknowledged"}
    assert {len(requests) for requests in door.seen.values()} == {1}
    request = door.seen["run.29"][0]
    assert request.startswith(b"POST /v1/offers/of_1/orders HTTP/1.1\r\n")
    assert b"authorization: Bearer token-9\r\n" in request
    assert request.endswith(b'{"qty":2}')


async def test_a_refusal_is_the_problem_documents_code() -> None:
    """A final refusal ends a buy with the code that the server gave."""
    async with served(lambda attempt, key: (409, {"code": "sold_out"})) as (_, url):
        history, _ = await sell(url)
    assert history.tally == {"sold_out": 30}


@pytest.mark.parametrize(
    "first",
    [
        (503, {"code": "retry", "retry_after_ms": 5}),
        (429, {"code": "rate_limited"}),
        (502, b"{}"),
        (502, b"<html>"),
        (0, None),
        None,
    ],
    ids=["retry", "rate limited", "a proxy's", "no JSON", "silence", "hung up"],
)
async def test_what_decides_nothing_is_sent_again(first: tuple[int, Any] | None) -> None:
    """Whatever is not a final answer is followed by the same key, until there is one."""
    async with served(lambda attempt, key: order(key) if attempt > 1 else first) as (door, url):
        history, _ = await sell(url)
    assert {buy.verdict for buy in history.buys()} == {"acknowledged"}
    assert {len(requests) for requests in door.seen.values()} == {2}


async def test_endless_refusal_is_given_up() -> None:
    """Attempts are bounded over HTTP, too."""
    few = Patience(retry_min_s=0.001, retry_max_s=0.002, attempts_max=3)
    async with served(lambda attempt, key: (503, {"code": "retry"})) as (_, url):
        history, _ = await sell(url, few)
    assert history.given_up == {"attempts": 30}


async def test_a_call_that_must_succeed_waits_for_a_server_that_is_away() -> None:
    """503 is tried again; any other refusal is an error that says what was asked."""

    def answer(attempt: int, key: str) -> tuple[int, Any]:
        return (503, {"code": "retry"}) if attempt < 3 else (201, {"id": "st_1"})

    async with served(answer) as (_, url):
        assert await Api(url, "t").call("POST", "/v1/streams", {}) == {"id": "st_1"}
    async with served(lambda attempt, key: (403, {"code": "forbidden"})) as (_, url):
        with pytest.raises(ApiError, match="POST /v1/streams was answered 403 forbidden"):
            await Api(url, "t").call("POST", "/v1/streams", {})


def test_tokens_are_as_the_protocol_says() -> None:
    """A token names its subject and role, ends, and carries further claims as they are."""
    token = make_token("s" * 32, "ann", "host", shop="tea")
    claims = jwt.decode(token, "s" * 32, algorithms=["HS256"])
    assert (claims["sub"], claims["role"], claims["shop"]) == ("ann", "host", "tea")
    assert "exp" in claims


def test_addresses_know_their_ports() -> None:
    """A scheme without a port has its own."""
    assert Address.of("https://shop.example/x") == Address("shop.example", 443, True)
    assert Address.of("http://127.0.0.1:8000") == Address("127.0.0.1", 8000, False)
