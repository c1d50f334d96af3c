"""A shop's own server inside a test: it takes webhooks, and answers as it is told to.

Used by the tests of outbound webhooks; HTTP/1.1 by hand, so that it can also answer badly. And a
server of ours with the sender at work beside it, as the keeper's process has it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptography.fernet import Fernet
from standardwebhooks import Webhook

from livecart.hooks.duties import Duties, duties_on
from livecart.hooks.limits import HookLimits
from livecart.settings import load
from orders.ledger.ledger import Ledger
from orders.ledger.pool import open_pool
from streams.addresses import networks
from tests.contract.http_rig import Shop, serving, variables
from tests.shop import until

KEY = Fernet.generate_key().decode()
HERE = {
    "LIVECART_DATA_KEY": KEY,
    "LIVECART_HOOKS_HTTP": "yes",
    "LIVECART_HOOKS_NETWORKS": "127.0.0.0/8",
}
LIMITS = HookLimits(
    http=True, networks=networks("127.0.0.0/8"), timeout_s=5.0, round_s=0.02, sweep_every_s=600.0
)


@dataclass
class Got:
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def type(self) -> str:
        found: str = self.message["type"]
        return found

    def verified(self, secret: str) -> dict[str, Any]:
        """Return what the library makes of it; raises when the signature is not good."""
        found: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return found


@dataclass
class Receiver:
    """What came, and what is answered to the next."""

    port: int = 0
    got: list[Got] = field(default_factory=list)
    connections: int = 0
    answer: Callable[[Got], bytes] = lambda _: said(200)
    held: asyncio.Event | None = None  # answers wait for it

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in"

    def of(self, *types: str) -> list[Got]:
        return [one for one in self.got if one.type in types]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.split(": ", 1) for line in head[1:] if line)
                headers = {name.lower(): value for name, value in headers.items()}
                body = await reader.readexactly(int(headers["content-length"]))
                self.got.append(Got(head[0].split(" ")[1], headers, body.decode()))
                if self.held is not None:
                    await self.held.wait()
                writer.write(self.answer(self.got[-1]))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


def said(status: int, body: bytes = b"ok", *headers: bytes) -> bytes:
    """Return an answer as it goes over the wire."""
    head = [b"HTTP/1.1 %d Said" % status, b"Content-Length: %d" % len(body), *headers, b"", b""]
    return b"\r\n".join(head) + body


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Have a receiver on a free port."""
    receiver = Receiver()
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(receiver.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(set(tasks))


@asynccontextmanager
async def duties(
    database_url: str, limits: HookLimits = LIMITS, key: str | None = KEY
) -> AsyncIterator[Duties]:
    """Everything that tells, doing nothing yet."""
    async with AsyncExitStack() as stack:
        pool = await open_pool(database_url, 4)
        stack.callback(pool.terminate)
        yield await duties_on(Ledger(pool), key, limits, stack)


@asynccontextmanager
async def at_work(one: Duties) -> AsyncIterator[None]:
    """Have them at work."""
    work = asyncio.create_task(one.run())
    try:
        yield
    finally:
        work.cancel()
        await asyncio.wait({work})


class Told(Shop):
    """A server under test, with a receiver, and what it takes to tell it."""

    receiver: Receiver
    database_url: str
    hook: dict[str, Any]

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        return await self.services.pool.fetch(sql, *args)

    async def webhook(self, **fields: object) -> dict[str, Any]:
        """Return a fresh endpoint at the receiver."""
        return await self.made("POST", "/v1/webhooks", {"url": self.receiver.url} | fields)

    async def settled(self) -> None:
        """Wait until nothing is left to be told."""

        async def nothing() -> bool:
            rows = await self.fetch(
                "select (select count(*) from hook_outbox)"
                " + (select count(*) from hook_deliveries where state = 'pending')"
            )
            return bool(rows[0][0] == 0)

        await until(nothing)

    async def log(self, webhook: str, **query: str) -> list[dict[str, Any]]:
        """Return an endpoint's deliveries, newest first."""
        marks = "&".join(f"{name}={value}" for name, value in query.items())
        found = await self.made("GET", f"/v1/webhooks/{webhook}/deliveries?{marks}")
        items: list[dict[str, Any]] = found["items"]
        return items

    async def hasten(self) -> None:
        """Let the time pass that everything pending waits for."""
        await self.fetch("update hook_deliveries set due_at = now() where state = 'pending'")
        await self.fetch("update webhooks set resume_at = null")


@asynccontextmanager
async def telling_shop(redis_url: str, database_url: str, **more: str) -> AsyncIterator[Told]:
    """A server and a receiver, without anything that tells."""
    async with receiving() as receiver, serving(redis_url, database_url, **(HERE | more)) as shop:
        told = Told(shop.http, shop.site, shop.port)
        told.receiver, told.database_url = receiver, database_url
        yield told


def settings_here(redis_url: str, database_url: str) -> dict[str, str]:
    """Return the environment of a process that tells here, held to be one that can be read."""
    made = variables(redis_url, database_url) | HERE
    load(made)
    return made
