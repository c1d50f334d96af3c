"""Whatever is sent over HTTP is answered with the right refusal, and the server stays well."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
from collections.abc import AsyncIterator

import jwt
import pytest

from livecart.api.operations import Operation
from livecart.api.table import OPERATIONS
from tests.contract.http_rig import SECRET, Shop, bearer, problem, serving, token


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


BODIES = {
    "not JSON": b"{",
    "half": b'{"title": "x',
    "NaN": b'{"title": "x", "starts_at": NaN}',
    "array": b"[]",
    "string": b'"x"',
    "number": b"1",
    "null": b"null",
    "nested": b"[" * 50_000,
    "nested in an unknown field": b'{"title": "x", "u": ' + b'{"a":' * 20_000,
    "NUL": b'{"title": "a\\u0000b"}',
    "raw NUL": b'{"title": "a\x00b"}',
    "lone surrogate": b'{"title": "\\ud800"}',
    "bad UTF-8": b'{"title": "\xff"}',
    "bad UTF-8 in an unknown field": b'{"title": "x", "u": "\xff"}',
    "huge integer": b'{"title": "x", "starts_at": ' + b"9" * 5_000 + b"}",
    "float for an integer": b'{"title": "x", "starts_at": 1e400}',
    "BOM": b'\xef\xbb\xbf{"title": "x"}',
    "twice": b'{"title": "x"}{"title": "y"}',
    "form": b"title=x",
    "empty": b"",
}


async def test_an_odd_body_is_a_bad_request(shop: Shop) -> None:
    """No body brings the server to anything but bad_request, and it serves on."""
    for name, body in BODIES.items():
        response = await shop.http.post("/v1/streams", content=body, headers=bearer(shop.host))
        problem(response, 400, "bad_request", name)
    assert (await shop.call("GET", "/healthz")).is_success


async def test_what_is_no_fault_of_a_body(shop: Shop) -> None:
    """Unknown fields, null for absent, any content type and an empty body for `{}` are taken."""
    response = await shop.http.post(
        "/v1/streams",
        content=b'{"title": "x", "nobody": [1.5, {"knows": null}], "starts_at": null}',
        headers=bearer(shop.host) | {"content-type": "text/plain"},
    )
    assert response.status_code == 201
    stream = response.json()["id"]
    offer = await shop.offer(stream)
    await shop.made("POST", f"/v1/streams/{stream}/start")
    order = (await shop.buy(offer, "ann")).json()["id"]
    gone = await shop.call("POST", f"/v1/orders/{order}/cancel", token=token("viewer", "ann"))
    assert gone.json()["status"] == "cancelled"


async def test_a_body_over_the_bound_is_refused_unread(shop: Shop) -> None:
    """Announced or not, a body past the bound is 413 before the rest is read."""
    head = (
        f"POST /v1/streams HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {shop.host}\r\n"
    ).encode()
    announced = head + b"Content-Length: 900000000000000000000\r\n\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    chunked += (b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 5
    for request in (announced, chunked):
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.port)
        writer.write(request)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400")), answer
        writer.close()
    large = {"title": "x", "unknown": "y" * 200_000}
    response = await shop.call("POST", "/v1/streams", large, token=shop.host)
    problem(response, 413, "too_large")


def _claims(**more: object) -> dict[str, object]:
    return {"sub": "h", "role": "host", "exp": int(time.time()) + 600} | more


def _forged() -> dict[str, str]:
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    payload = base64.urlsafe_b64encode(json.dumps(_claims()).encode()).rstrip(b"=").decode()
    good = jwt.encode(_claims(), SECRET, algorithm="HS256")
    return {
        "none": f"{header}.{payload}.",
        "other secret": jwt.encode(_claims(), "y" * 40, algorithm="HS256"),
        "other algorithm": jwt.encode(_claims(), "y" * 64, algorithm="HS512"),
        "expired": jwt.encode(_claims(exp=1), SECRET, algorithm="HS256"),
        "no exp": jwt.encode({"sub": "h", "role": "host"}, SECRET, algorithm="HS256"),
        "no role": jwt.encode(_claims(role=None), SECRET, algorithm="HS256"),
        "guest": jwt.encode(_claims(role="guest"), SECRET, algorithm="HS256"),
        "control character": jwt.encode(_claims(sub="a\nb"), SECRET, algorithm="HS256"),
        "cut": good[:-3],
        "dots": "...",
        "long": good + "x" * 5_000,
        "spaces": good[:20] + " " + good[20:],
    }


async def test_a_bad_token_is_unauthenticated_everywhere(shop: Shop) -> None:
    """Also where no token is needed, a bad one is 401 with WWW-Authenticate, or 400 if too long."""
    for name, forged in _forged().items():
        for method, path in (("POST", "/v1/streams"), ("GET", "/v1/streams")):
            body = {"title": "x"} if method == "POST" else None
            response = await shop.call(method, path, body, token=forged)
            beyond = name in ("control character", "long")  # the protocol's limits
            refused = (400, "bad_request") if beyond else (401, "unauthenticated")
            problem(response, *refused, name)


async def test_other_schemes_and_doubled_headers_are_refused(shop: Shop) -> None:
    """Basic is 401; two tokens or two keys are a bad request, never a choice between them."""
    response = await shop.call("GET", "/v1/orders", headers={"Authorization": "Basic YTpi"})
    problem(response, 401, "unauthenticated")
    twice = [("Authorization", f"Bearer {shop.host}")] * 2
    problem(await shop.http.get("/v1/orders", headers=twice), 400, "bad_request")
    offer = await shop.offer(await shop.stream())
    headers = [*bearer(token("viewer", "a")).items(), *[("Idempotency-Key", "k")] * 2]
    response = await shop.http.post(f"/v1/offers/{offer}/orders", json={"qty": 1}, headers=headers)
    problem(response, 400, "bad_request")


QUERIES = (
        "limit=0", "limit=201", "limit=x", "limit=", "limit=1.5", "limit=" + "9" * 400,
        "cursor=", "cursor=*", "cursor=AAAA", "cursor=" + "A" * 900, "cursor=%00", "cursor=_w",
        "status=gone", "status=null", "limit=NULL",
        "viewer=", "viewer=%00", "viewer=%ff", "stream=" + "x" * 129,
        "&".join(f"a{n}=1" for n in range(60)), "x=" + "y" * 9_000,
)  # fmt: skip


async def test_a_bad_query_is_a_bad_request(shop: Shop) -> None:
    """Limits, cursors and filters that cannot be are refused."""
    for query in QUERIES:
        response = await shop.call("GET", f"/v1/orders?{query}", token=shop.host)
        problem(response, 400, "bad_request", query)


IDS = ("nope", "%00", "%ff", "a%2Fb", "%F0%9F%AB%96", "x" * 200, "'; drop table x; --", "{}")


async def test_an_odd_id_is_not_found(shop: Shop) -> None:
    """No id of a path brings anything but not_found."""
    ann = token("viewer", "ann")
    for id_ in IDS:
        for path in ("/v1/streams/{}", "/v1/offers/{}", "/v1/products/{}", "/v1/orders/{}"):
            response = await shop.call("GET", path.format(id_), token=shop.host)
            problem(response, 404, "not_found", id_)
        path = f"/v1/offers/{id_}/orders"
        response = await shop.call("POST", path, {"qty": 1}, token=ann, key="k")
        problem(response, 404, "not_found", id_)


async def test_unknown_paths_and_methods_are_problems(shop: Shop) -> None:
    """404 and 405 are documents, the latter with Allow; HEAD and OPTIONS are sane."""
    for path in ("/v1/nothing", "/v1/streams/", "/s", "/v1/orders/x/refunds", "/v1/orders/x/y/z"):
        problem(await shop.call("POST", path), 404, "not_found")
    wrong = await shop.call("PUT", "/v1/streams")
    problem(wrong, 405, "bad_request")
    assert wrong.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    problem(await shop.call("POST", "/healthz"), 405, "bad_request")
    options = await shop.call("OPTIONS", "/v1/streams")
    assert (options.status_code, options.headers["allow"]) == (204, wrong.headers["allow"])
    head = await shop.call("HEAD", "/v1/streams")
    got = await shop.call("GET", "/v1/streams")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


NASTY: tuple[object, ...] = (
    None, True, 0, -1, 1, 1.5, 2**53, 2**63, -(2**63), 10**40, "", "x", "\x00", "\n", "\u2028",
    "\ufeff", "of_1\x1fof_2", "'; --", "%s%n", "x" * 70_000, [], [[]], {}, {"a": {"b": []}},
)  # fmt: skip


async def test_no_value_of_any_field_of_any_call_breaks_the_server(shop: Shop) -> None:
    """Every field of every body takes every nasty value with an answer below 500."""
    stream = await shop.stream()
    offer = await shop.offer(stream, opened=False)
    order = (await shop.buy(await shop.offer(stream), "ann")).json()["id"]
    good: dict[str, object] = {
        "title": "x", "sku": "a", "price_minor": 1, "currency": "TWD", "quantity": 5, "qty": 1,
        "product": await shop.product(), "add": 1,
    }  # fmt: skip
    numbers = itertools.count()
    for operation in OPERATIONS:
        if operation.body is None:
            continue
        id_ = stream if "streams" in operation.path else offer
        path = operation.path.replace("{id}", order if "orders/{id}" in operation.path else id_)
        caller = token("viewer", "ann") if operation.who == "viewer" else shop.host
        names = operation.body.__struct_fields__
        base = {key: good[key] for key in names if key in good}

        async def send(
            name: str,
            value: object,
            operation: Operation = operation,
            path: str = path,
            caller: str = caller,
            base: dict[str, object] = base,
        ) -> None:
            response = await shop.call(
                operation.method,
                path,
                base | {name: value},
                token=caller,
                key=f"k{next(numbers)}",
            )
            assert response.status_code < 500, (path, name, value, response.text)
            if response.status_code >= 400:
                problem(response, response.status_code, response.json()["code"], name)

        for name in names:
            for start in range(0, len(NASTY), 8):
                await asyncio.gather(*(send(name, value) for value in NASTY[start : start + 8]))
