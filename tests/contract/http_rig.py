"""A whole server process inside a test: the application under uvicorn on port 0, and its callers.

Used by the contract tests of the HTTP side; everything behind it is real.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn

from livecart.app import build
from livecart.auth import issue
from livecart.services import Services, Site
from livecart.settings import load
from streams.head import Head
from streams.wire import Wire

SECRET = "a secret that only tests have: 0123456789"
WAIT_S = 10.0
_numbers = itertools.count(1)

Json = dict[str, Any]


def token(role: str, sub: str, **more: Any) -> str:
    """Return a good token."""
    return issue(SECRET, role=role, sub=sub, **more)


def bearer(value: str) -> dict[str, str]:
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {value}"}


class Shop:
    """A server under test, and the host of one shop who sells on it."""

    def __init__(self, http: httpx.AsyncClient, site: Site, port: int) -> None:
        self.http = http
        self.site = site
        self.port = port
        self.host = token("host", "host-1", shop="shop-1")

    @property
    def services(self) -> Services:
        """What the server is made of."""
        return self.site.services

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Make one call; without a token as nobody."""
        sent = dict(headers or {})
        if token is not None:
            sent |= bearer(token)
        if key is not None:
            sent["Idempotency-Key"] = key
        if body is None:
            return await self.http.request(method, path, headers=sent)
        return await self.http.request(method, path, json=body, headers=sent)

    async def made(self, method: str, path: str, body: object = None, **more: Any) -> Json:
        """Make a call as the host that must succeed; return its result."""
        response = await self.call(method, path, body, **({"token": self.host} | more))
        assert response.is_success, (response.status_code, response.text)
        result: Json = response.json()
        return result

    async def stream(self, *, live: bool = True) -> str:
        """Return a fresh stream of the shop."""
        stream: str = (await self.made("POST", "/v1/streams", {"title": "晚上八點"}))["id"]
        if live:
            await self.made("POST", f"/v1/streams/{stream}/start")
        return stream

    async def product(self, **fields: object) -> str:
        """Return a fresh product of the shop."""
        body = {
            "sku": f"SKU-{next(_numbers)}",
            "title": "高山茶",
            "price_minor": 1999,
            "currency": "TWD",
        }
        made: str = (await self.made("POST", "/v1/products", body | fields))["id"]
        return made

    async def offer(self, stream: str, *, opened: bool = True, **fields: object) -> str:
        """Return a fresh offer of a fresh product."""
        body = {"product": await self.product(), "price_minor": 1500, "quantity": 10}
        made = await self.made("POST", f"/v1/streams/{stream}/offers", body | fields)
        if opened:
            await self.made("POST", f"/v1/offers/{made['id']}/open")
        offer: str = made["id"]
        return offer

    async def buy(self, offer: str, viewer: str, qty: object = 1, key: str = "k") -> httpx.Response:
        """Buy as a viewer."""
        return await self.call(
            "POST",
            f"/v1/offers/{offer}/orders",
            {"qty": qty},
            token=token("viewer", viewer),
            key=key,
        )


def variables(redis_url: str, database_url: str) -> dict[str, str]:
    """Return the environment of a server."""
    return {
        "LIVECART_SECRET": SECRET,
        "LIVECART_REDIS_URL": redis_url,
        "LIVECART_DATABASE_URL": database_url,
    }


@asynccontextmanager
async def serving(redis_url: str, database_url: str, **more: str) -> AsyncIterator[Shop]:
    """Serve until the block ends."""
    settings = load(variables(redis_url, database_url) | more)
    config = uvicorn.Config(
        build(settings), ws=Wire, http=Head, lifespan="on", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        stopped = asyncio.create_task(server._serve([listening]))
        try:
            async with asyncio.timeout(WAIT_S):
                while not server.started and not stopped.done():  # noqa: ASYNC110 - uvicorn has no event
                    await asyncio.sleep(0.001)
            if stopped.done():
                stopped.result()
            site: Site = server.lifespan.state["site"]
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                yield Shop(http, site, port)
        finally:
            server.should_exit = True
            await asyncio.wait_for(stopped, WAIT_S)


def problem(response: httpx.Response, status: int, code: str, what: str = "") -> Json:
    """Hold a refusal to its form; return the document."""
    got = (response.status_code, response.json().get("code"))
    assert got == (status, code), (what[:80], response.text)
    assert response.headers["content-type"] == "application/problem+json"
    document: Json = response.json()
    assert {"type", "title", "status", "detail", "code"} <= document.keys()
    assert document["status"] == status
    if status in (429, 503):
        assert int(response.headers["retry-after"]) >= 1
        assert document["retry_after_ms"] > 0
    if status == 401:
        assert response.headers["www-authenticate"].startswith("Bearer")
    return document


def paths(document: Json) -> list[str]:
    """Return which fields a problem names."""
    return [error["path"] for error in document.get("errors", [])]
