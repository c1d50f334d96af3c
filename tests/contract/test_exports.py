"""Exports, sums and invoices over HTTP, on a whole server."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from livecart.api import exports, flow
from livecart.shopify import COLUMNS
from orders.money import from_decimal
from orders.sealing import new_key
from tests.contract.http_rig import Json, Shop, problem, serving, token
from tests.orders_rig import World, build, fill

HOST = token("host", "host-1", shop="shop")


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own, whose host is of the shop that the rig fills."""
    async with serving(redis_url, database_url) as shop:
        shop.host = HOST
        yield shop


@pytest.fixture
async def world(shop: Shop) -> World:
    """Streams of `shop` and `other`, without orders."""
    return await build(shop.services.pool)


async def _csv(shop: Shop, path: str) -> list[dict[str, str]]:
    response = await shop.call("GET", path, token=HOST)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert "attachment" in response.headers["content-disposition"]
    text = response.content.decode()
    assert text.count("\n") == text.count("\r\n")
    header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert tuple(header) == COLUMNS
    assert all(len(row) == len(COLUMNS) for row in rows)
    return [dict(zip(header, row, strict=True)) for row in rows]


async def _json_lines(shop: Shop, path: str) -> list[Json]:
    response = await shop.call("GET", path, token=HOST)
    assert response.headers["content-type"] == "application/jsonl"
    return [json.loads(line) for line in response.text.splitlines()]


async def _listed(shop: Shop, query: str) -> dict[str, Json]:
    """Return a list to its end, by id."""
    found: dict[str, Json] = {}
    cursor = ""
    while True:
        page = await shop.made("GET", f"/v1/orders?limit=200{query}{cursor}", token=HOST)
        found |= {order["id"]: order for order in page["items"]}
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


async def test_an_export_has_each_order_as_it_is_listed(shop: Shop, world: World) -> None:
    """JSON Lines are orders as lists show them; CSV agrees in every figure; filters hold."""
    await fill(shop.services.pool, world, 700)
    stream, filters = world.streams[1], ("", "&status=confirmed&paid=true", "&q=viewer-03")
    for query in (f"&stream={stream}", *filters, f"&product={world.products[4]}"):
        listed = await _listed(shop, query)
        lines = await _json_lines(shop, f"/v1/orders.jsonl?{query}")
        assert {line["id"]: line for line in lines} == listed
        assert len(lines) == len(listed)
        rows = await _csv(shop, f"/v1/orders.csv?{query}")
        assert len(rows) == len(listed)
        for row in rows:
            _agrees(row, listed[row["Id"]])
    whole = await _csv(shop, f"/v1/streams/{stream}/orders.csv")
    assert {row["Id"] for row in whole} == set(await _listed(shop, f"&stream={stream}"))
    assert {row["Vendor"] for row in whole} == {"shop"}


def _agrees(row: dict[str, str], order: Json) -> None:
    """Hold a row of the CSV to the order that lists show."""
    currency = order["currency"]
    money = {name: from_decimal(row[name], currency) for name in (
        "Total", "Subtotal", "Taxes", "Refunded Amount", "Outstanding Balance", "Lineitem price",
    )}  # fmt: skip
    paid, live = "captured_at" in order, order["status"] in ("reserved", "confirmed", "shipped")
    back = (order.get("refunded_minor", 0) if live else order["amount_minor"]) if paid else 0
    assert money["Total"] == money["Subtotal"] == order["amount_minor"]
    assert money["Lineitem price"] == order["unit_price_minor"]
    assert int(row["Lineitem quantity"]) == order["qty"]
    assert money["Taxes"] == order.get("tax_minor", 0)
    assert money["Refunded Amount"] == back
    assert money["Outstanding Balance"] == (
        order["amount_minor"] - order.get("refunded_minor", 0) if live and not paid else 0
    )
    words = {
        (True, True): "refunded" if back == order["amount_minor"] else "partially_refunded",
        (True, False): "paid",
        (False, False): {"reserved": "pending", "confirmed": "authorized", "shipped": "authorized"}
        .get(order["status"], "voided"),
    }  # fmt: skip
    assert row["Financial Status"] == words[paid, back > 0]
    assert bool(row["Paid at"]) == paid
    assert row["Fulfillment Status"] == ("fulfilled" if "shipped_at" in order else "unfulfilled")
    assert row["Name"] == order.get("bundle", order["id"])
    assert row["Note Attributes"] == f"viewer: {order['viewer']}"
    assert row["Lineitem name"].startswith("Thing ")


async def test_a_bundle_is_one_order_with_several_line_items(shop: Shop) -> None:
    """Orders of one bundle stand together under one name, the sums in the first row alone."""
    shop.host = token("host", "host-1", shop="shop-1")
    stream = await shop.stream()
    offers = [await shop.offer(stream, quantity=9, per_viewer=3) for _ in range(3)]
    lines = [{"offer": offer, "qty": n} for n, offer in enumerate(offers, start=1)]
    made = await shop.call(
        "POST", f"/v1/streams/{stream}/bundles", {"lines": lines},
        token=token("viewer", "ann"), key="k",
    )  # fmt: skip
    assert made.status_code == 201, made.text
    bundle = made.json()["bundle"]
    await shop.buy(offers[1], "bob")
    await shop.made("POST", f"/v1/orders/{made.json()['orders'][2]['id']}/cancel")
    response = await shop.call("GET", f"/v1/streams/{stream}/orders.csv", token=shop.host)
    rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
    first, second, third = (row for row in rows if row["Name"] == bundle)
    at = rows.index(first)
    assert rows[at : at + 3] == [first, second, third]
    assert [row["Lineitem quantity"] for row in (first, second, third)] == ["1", "2", "3"]
    assert (first["Total"], first["Outstanding Balance"]) == ("90.00", "45.00")
    assert (second["Total"], third["Total"], second["Currency"]) == ("", "", "")
    assert len(rows) == 4
    live = await shop.call("GET", "/v1/orders.csv?status=reserved", token=shop.host)
    rows = list(csv.DictReader(io.StringIO(live.text, newline="")))
    assert len([row for row in rows if row["Name"] == bundle]) == 2
    only = await shop.call("GET", f"/v1/orders.csv?offer={offers[1]}", token=shop.host)
    assert len(list(csv.DictReader(io.StringIO(only.text, newline="")))) == 2


@pytest.mark.parametrize(
    "text", ["=1+1", "+886 2", "-1", "@SUM(A1)", '=HYPERLINK("x";"y")', "＝1", 'a "b", c', "茶"]
)
async def test_no_cell_is_a_formula(shop: Shop, text: str) -> None:
    """What a host or a viewer writes reaches a spreadsheet whole, and as text."""
    shop.host = token("host", "host-1", shop="shop-1")
    stream = await shop.stream()
    product = await shop.product(title=text, sku=text)
    offer = await shop.offer(stream, product=product)
    assert (await shop.buy(offer, text)).status_code == 201
    response = await shop.call("GET", f"/v1/streams/{stream}/orders.csv", token=shop.host)
    (row,) = csv.DictReader(io.StringIO(response.text, newline=""))
    formula = text[0] in "=+-@＝"
    for name in ("Lineitem name", "Lineitem sku"):
        assert row[name] == ("'" + text if formula else text)
    assert row["Note Attributes"] == f"viewer: {text}"
    assert not any(value[:1] in ("=", "+", "-", "@", "\t", "\r", "＝") for value in row.values())


async def test_addresses_are_there_where_they_can_be_opened(
    redis_url: str, database_url: str
) -> None:
    """With its key a sealed address fills the columns; under another key they stay empty."""
    stream, csv_path, first_key = "", "", new_key()
    for key, filled in ((first_key, True), (new_key(), False), (first_key, True)):
        async with serving(redis_url, database_url, LIVECART_DATA_KEY=key) as shop:
            if not stream:
                stream = await shop.stream()
                csv_path = f"/v1/streams/{stream}/orders.csv"
                order = (await shop.buy(await shop.offer(stream), "ann")).json()["id"]
                contact = {
                    "name": "王小明", "address1": "=1 Road, 2F", "address2": "Rear",
                    "country": "TW", "email": "a@example.org", "phone": "+886 2 1234",
                }  # fmt: skip
                await shop.call(
                    "PUT", f"/v1/orders/{order}/contact", contact, token=token("viewer", "ann")
                )
            response = await shop.call("GET", csv_path, token=shop.host)
            (row,) = csv.DictReader(io.StringIO(response.text, newline=""))
            names = ("Shipping Name", "Shipping Address1", "Shipping Street", "Email", "Phone")
            assert [row[name] for name in names] == (
                ["王小明", "'=1 Road, 2F", "'=1 Road, 2F, Rear", "a@example.org", "'+886 2 1234"]
                if filled
                else [""] * 5
            )


async def test_an_export_is_its_shops_only(shop: Shop, world: World) -> None:
    """Others are refused; a token that is limited to streams gets those alone."""
    await fill(shop.services.pool, world, 60)
    stranger, viewer = token("host", "h", shop="other"), token("viewer", "viewer-01")
    path = f"/v1/streams/{world.streams[0]}"
    for name in ("orders.csv", "orders.jsonl", "summary"):
        problem(await shop.call("GET", f"{path}/{name}", token=stranger), 403, "forbidden")
        problem(await shop.call("GET", f"{path}/{name}", token=viewer), 403, "forbidden")
        problem(await shop.call("GET", f"{path}/{name}"), 401, "unauthenticated")
        problem(await shop.call("GET", f"/v1/streams/st_x/{name}", token=HOST), 404, "not_found")
    foreign = (await shop.call("GET", "/v1/orders.jsonl", token=stranger)).text
    assert {json.loads(line)["stream"] for line in foreign.splitlines()} == {world.streams[-1]}
    limited = token("host", "host-1", shop="shop", streams=[world.streams[1]])
    some = (await shop.call("GET", "/v1/orders.jsonl", token=limited)).text
    assert {json.loads(line)["stream"] for line in some.splitlines()} == {world.streams[1]}
    nothing = await shop.call("GET", f"/v1/orders.csv?stream={world.streams[0]}", token=limited)
    assert nothing.text.splitlines() == [",".join(COLUMNS)]
    head = await shop.call("HEAD", f"{path}/orders.csv", token=HOST)
    assert (head.status_code, head.content) == (200, b"")


async def test_orders_that_come_meanwhile_do_not_disturb(shop: Shop, world: World) -> None:
    """Each order that was there is exported once, while others come in and states change."""
    pool = shop.services.pool
    await fill(pool, world, 2_500, batch=250)
    there = set(await _listed(shop, ""))
    seen: list[str] = []
    async with shop.http.stream(
        "GET", "/v1/orders.csv", headers={"Authorization": f"Bearer {HOST}"}
    ) as response:
        async for line in response.aiter_lines():
            seen += [line.split(",", 1)[0]] if line.startswith("or_") else []
            if len(seen) % 400 == 1:
                await fill(pool, world, 10, seed=len(seen))
                await pool.execute("update orders set status = 'expired', version = version + 1"
                                   " where status = 'reserved'")  # fmt: skip
    assert len(seen) == len(set(seen))
    assert there <= set(seen)


async def test_a_client_that_goes_away_leaves_nothing(
    shop: Shop, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stops reading, or is gone, ends his export; meanwhile no transaction is held."""
    pool = shop.services.pool
    await fill(pool, world, 30_000, batch=10_000)
    monkeypatch.setattr(flow, "PIECE_S", 1.0)
    request = (
        f"GET /v1/orders.csv HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {HOST}\r\n\r\n"
    ).encode()
    for gone in (True, False):
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", shop.port))
            await loop.sock_sendall(client, request)
            assert (await loop.sock_recv(client, 15)).startswith(b"HTTP/1.1 200")
            assert len(exports._under_way) == 1
            assert await _open_transactions(pool) == 0
            if gone:
                client.close()
            async with asyncio.timeout(20):
                while exports._under_way:  # noqa: ASYNC110 - the server tells nobody
                    await asyncio.sleep(0.01)


async def _open_transactions(pool: asyncpg.Pool[asyncpg.Record]) -> int:
    """Count sessions that are idle in a transaction: at any moment there may be a query."""
    count: int = await pool.fetchval(
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and state like 'idle in transaction%'"
    )
    return count


async def test_an_export_that_fails_is_cut_off(
    shop: Shop, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client never takes a part for the whole: what cannot be finished breaks the connection."""
    await fill(shop.services.pool, world, 20_000, batch=10_000)
    ledger, asked = shop.services.ledger, itertools.count()
    rows = ledger.rows

    async def failing(sql: str, *args: object) -> Any:
        if next(asked) > 6:
            raise ValueError("planted")
        return await rows(sql, *args)

    monkeypatch.setattr(ledger, "rows", failing)
    with pytest.raises(httpx.RemoteProtocolError):
        await shop.call("GET", "/v1/orders.csv", token=HOST)
    assert not exports._under_way


async def test_too_many_exports_wait_their_turn(
    shop: Shop, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the bound an export is refused for now, and nothing of it is read."""
    monkeypatch.setattr(exports, "EXPORTS_MAX", 0)
    problem(await shop.call("GET", "/v1/orders.csv", token=HOST), 503, "retry")


async def test_an_export_takes_no_memory_for_its_length(shop: Shop, world: World) -> None:
    """Sixty thousand orders go through this process in a few megabytes."""
    await fill(shop.services.pool, world, 20, batch=10)
    await shop.services.pool.execute(
        "insert into orders (id, offer, stream, viewer, key, qty, unit_price_minor, status, rank,"
        " reserved_at) select 'or_' || i, offer, stream, viewer, 'x' || i, qty, unit_price_minor,"
        " 'expired', i, reserved_at from orders, generate_series(1000, 60999) i"
        " where id = (select r.id from orders r where stream <> $1 limit 1)",
        world.streams[-1],
    )
    process, count, grown, begun = psutil.Process(), 0, 0, 0
    async with shop.http.stream(
        "GET", "/v1/orders.csv", headers={"Authorization": f"Bearer {HOST}"}
    ) as response:
        async for piece in response.aiter_bytes():
            count += piece.count(b"\r\n")
            begun = begun or process.memory_info().rss
            grown = max(grown, process.memory_info().rss - begun)
    assert count > 60_000
    assert grown < 12 * 2**20  # the whole of it is 20 MB


async def test_a_stream_is_summed_up(shop: Shop) -> None:
    """A summary tells what was bought, paid and given back, by product and by minute."""
    shop.host = token("host", "host-1", shop="shop-1")
    stream = await shop.stream()
    product = await shop.product()
    offer = await shop.offer(stream, product=product, per_viewer=5)
    orders = [(await shop.buy(offer, f"v{n}", n + 1)).json()["id"] for n in range(4)]
    await shop.made("POST", f"/v1/orders/{orders[3]}/cancel")
    for order in orders[:2]:
        await shop.made("POST", f"/v1/orders/{order}/pay")
    await shop.services.pool.fetch(
        "select * from refund($1, 'k', 500, false, null, 'host')", orders[1]
    )
    summary = await shop.made("GET", f"/v1/streams/{stream}/summary")
    sums = {
        "currency": "TWD", "orders": 4, "ended": 1, "units": 6, "unpaid": 1,
        "unpaid_minor": 4_500, "captured_minor": 4_500, "refunded_minor": 500, "net_minor": 4_000,
    }  # fmt: skip
    assert summary["totals"] == [sums]
    assert summary["products"] == [sums | {"product": product}]
    assert sum(minute["orders"] for minute in summary["minutes"]) == 4
    assert all(minute["at"] % 60_000 == 0 for minute in summary["minutes"])


async def test_an_order_gets_its_invoice_once(shop: Shop) -> None:
    """A paid order's invoice is issued once, shown to its buyer, credited when refunded."""
    shop.host = token("host", "host-1", shop="shop-1")
    stream = await shop.stream()
    offer = await shop.offer(stream, product=await shop.product(tax_bp=500, price_minor=1500))
    order = (await shop.buy(offer, "ann")).json()
    assert order["tax_minor"] == 71
    path, ann = f"/v1/orders/{order['id']}/invoice", token("viewer", "ann")
    problem(await shop.call("GET", path, token=shop.host), 404, "not_found")
    problem(await shop.call("POST", path, token=shop.host), 409, "conflict")
    await shop.made("POST", f"/v1/orders/{order['id']}/pay")
    problem(await shop.call("POST", path, token=ann), 403, "forbidden")
    invoice = await shop.made("POST", path)
    assert await shop.made("POST", path) == invoice
    assert (await shop.call("GET", path, token=ann)).json() == invoice
    problem(await shop.call("GET", path, token=token("viewer", "bob")), 404, "not_found")
    assert (invoice["amount"], invoice["net_minor"], invoice["tax_minor"]) == ("15.00", 1429, 71)
    assert invoice["number"].endswith("-000001")
    assert (invoice["buyer"], invoice["credit_notes"]) == ("ann", [])
    await shop.services.pool.fetch(
        "select * from refund($1, 'k', null, false, 'broken', 'host')", order["id"]
    )
    credited = await shop.made("POST", path)
    (note,) = credited["credit_notes"]
    assert (note["amount_minor"], note["tax_minor"], note["reason"]) == (1500, 71, "broken")
    assert credited | {"credit_notes": []} == invoice
    response = await shop.call("GET", f"/v1/streams/{stream}/orders.csv", token=shop.host)
    (row,) = csv.DictReader(io.StringIO(response.text, newline=""))
    assert row["Receipt Number"] == invoice["number"]
    assert (row["Tax 1 Name"], row["Tax 1 Value"]) == ("Tax 5.00%", "0.71")
