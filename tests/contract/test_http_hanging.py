"""HTTP while Postgres hangs: each call is answered in time, no change is lost or made twice."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest

from livecart.app import check_postgres
from livecart.embedded import Running, running
from livecart.settings import SettingsError
from orders.ledger.migrate import migrate
from orders.ledger.pool import open_pool
from tests.contract.http_rig import Shop, problem, serving, token
from tests.contract.test_ws_commands import lines
from tests.shop import until

ANSWERED_S = 1.6  # a second, and what two busy cores add
Asked = tuple[str, str, object, str | None]  # method, path, body, key


@pytest.fixture
def own_servers() -> Iterator[Running]:
    """Servers of the test's own, which it may stop."""
    folder = Path(tempfile.mkdtemp(prefix="lc-hang-"))
    try:
        with running(folder) as servers:
            yield servers
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def shop(own_servers: Running) -> AsyncIterator[Shop]:
    """A server on them."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(own_servers.database_url)
    try:
        await migrate(connection)
    finally:
        await connection.close()
    async with serving(own_servers.redis_url, own_servers.database_url) as shop:
        yield shop


@contextmanager
def hanging(servers: Running) -> Iterator[None]:
    """Stop Postgres, every process of it, for the time of the block."""
    parent = psutil.Process(servers.supervisor.pids()["postgres"])
    family = [parent, *parent.children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            process.resume()


async def test_commands_are_answered_while_postgres_hangs(own_servers: Running, shop: Shop) -> None:
    """A host's commands are `retry` in a second too; what was asked for is done, and told once."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    order = (await shop.buy(offer, "ann")).json()["id"]
    async with lines(shop, stream, shop.host, token("viewer", "ann")) as (host, ann):
        with hanging(own_servers):
            started = asyncio.get_running_loop().time()
            answers = await asyncio.gather(
                host.ask("offer.restock", offer=offer, add=5, key="r"),
                ann.ask("cancel", order=order),
            )
            assert asyncio.get_running_loop().time() - started < ANSWERED_S
            assert [(a["type"], a["code"]) for a in answers] == [("reject", "retry")] * 2
        await host.until(lambda m: m["type"] == "offer.restocked")
        assert (await host.ask("offer.restock", offer=offer, add=5, key="r"))["type"] == "ok"
        assert (await shop.made("GET", f"/v1/offers/{offer}"))["quantity"] == 15


async def test_calls_are_answered_while_postgres_hangs(own_servers: Running, shop: Shop) -> None:
    """Reads, changes and readyz are 503 in a second; what was asked happens once, and is told."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    ann = token("viewer", "ann")
    order = (await shop.buy(offer, "ann")).json()["id"]
    restock: Asked = ("POST", f"/v1/offers/{offer}/restock", {"add": 5}, "r")
    calls: tuple[Asked, ...] = (
        ("GET", f"/v1/offers/{offer}", None, None), ("GET", "/readyz", None, None),
        restock, restock,
        ("PATCH", f"/v1/offers/{offer}", {"closes_at": 1_900_000_000_000}, None),
        ("POST", f"/v1/orders/{order}/pay", {}, None),
        ("POST", "/v1/streams", {"title": "x"}, None),
    )  # fmt: skip

    async def one(method: str, path: str, body: object, key: str | None) -> httpx.Response:
        started = asyncio.get_running_loop().time()
        response = await shop.call(method, path, body, token=shop.host, key=key)
        assert asyncio.get_running_loop().time() - started < ANSWERED_S, path
        return response

    async def well() -> bool:
        return (await shop.call("GET", "/readyz")).is_success

    async with lines(shop, stream, ann) as (line,):
        with hanging(own_servers):
            for response in await asyncio.gather(*(one(*call) for call in calls)):
                problem(response, 503, "retry")
        await until(well)
        paid = await shop.made("POST", f"/v1/orders/{order}/pay", {})  # again, as hosts do
        assert paid["status"] == "confirmed"
        await line.until(lambda m: m["type"] == "order.confirmed")
        for _ in range(2):
            assert (await shop.made(*restock[:3], key="r"))["quantity"] == 15
        assert (await shop.buy(offer, "bob")).status_code == 201


async def test_no_publisher_is_put_out_since_postgres_hangs(
    shop: Shop, own_servers: Running
) -> None:
    """nginx-rtmp takes any refusal of an update for a no; a start it may refuse, to be tried again.

    A key that is not known stays a no.
    """
    stream = await shop.stream(live=False)
    key = (await shop.made("POST", f"/v1/streams/{stream}/key"))["key"]

    async def say(call: str, name: str) -> httpx.Response:
        form = {"call": call, "clientid": "7", "name": name}
        return await shop.http.post("/v1/hooks/ingest/rtmp", data=form)

    async def well() -> bool:
        return (await shop.call("GET", "/readyz")).is_success

    assert (await say("publish", key)).status_code == 302
    with hanging(own_servers):
        for _ in range(2):  # before it is known that Postgres is away, and after
            update = await say("update_publish", key)
            assert (update.status_code, update.json()) == (200, {"code": 0})
            shop.services.selling.ledger_health.failed("it hangs")
        problem(await say("publish", key), 503, "retry")
    await until(well)
    assert (await say("update_publish", key)).status_code == 302
    problem(await say("update_publish", "sk_none"), 401, "unauthenticated")


async def test_a_server_that_may_lose_orders_is_not_sold_on(own_servers: Running) -> None:
    """With `full_page_writes` off a crash may lose acknowledged rows: start-up says so and ends."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(own_servers.database_url)
    try:
        await migrate(connection)
        await connection.execute("alter system set full_page_writes = off")
        await connection.execute("select pg_reload_conf()")

        async def off() -> bool:
            return bool(await connection.fetchval("show full_page_writes") == "off")

        await until(off)
    finally:
        await connection.close()
    pool = await open_pool(own_servers.database_url)
    with pytest.raises(SettingsError, match="full_page_writes = off"):
        await check_postgres(pool)
