"""What a shop makes and looks for over HTTP: once per key, and found by its words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.contract.http_rig import Shop, paths, problem, serving, token
from tests.shop import until

STRANGER = {"role": "host", "sub": "h", "shop": "shop-2"}


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


async def test_what_a_host_makes_is_made_once_per_key(shop: Shop) -> None:
    """A repeated key answers 200 with what it made, and with another body `key_reused`."""
    stream = await shop.stream()
    product = {"sku": "a", "title": "茶", "price_minor": 5, "currency": "TWD"}
    offer = {"product": await shop.product(), "price_minor": 5, "quantity": 2, "ship_within_h": 9}
    for path, body, listed in (
        ("/v1/streams", {"title": "Tea"}, "/v1/streams?shop=shop-1"),
        ("/v1/products", product, "/v1/products?shop=shop-1"),
        (f"/v1/streams/{stream}/offers", offer, f"/v1/streams/{stream}/offers"),
    ):
        before = len((await shop.made("GET", listed))["items"])
        both = await asyncio.gather(
            *(shop.call("POST", path, body, token=shop.host, key="k") for _ in range(2))
        )
        assert sorted(answer.status_code for answer in both) == [200, 201]
        made = both[0].json()
        assert body.items() - {("product", offer["product"])} <= made.items()
        other = token("host", "host-2", shop="shop-1")
        again = await shop.call(
            "POST", path, dict(reversed(body.items())) | {"new": 1, "keyword": None, "gtin": None},
            token=other, key="k",
        )  # fmt: skip
        assert (again.status_code, again.json()) == (200, made)
        reused = body | {"title": "Coffee", "price_minor": 6}
        response = await shop.call("POST", path, reused, token=shop.host, key="k")
        problem(response, 422, "key_reused")
        response = await shop.call("POST", path, body, token=shop.host, key="k k")
        problem(response, 400, "bad_request")
        assert len((await shop.made("GET", listed))["items"]) == before + 1
        if "offers" not in path:  # another shop's key is another
            mine = await shop.call("POST", path, body, token=token(**STRANGER), key="k")
            assert (mine.status_code, mine.json()["shop"]) == (201, "shop-2")
    # An offer is answered as it is by now; a key that came to nothing is free again.
    await shop.made("POST", f"/v1/offers/{made['id']}/restock", {"add": 3}, key="r")
    path = f"/v1/streams/{stream}/offers"
    again = await shop.call("POST", path, offer, token=shop.host, key="k")
    assert (again.status_code, again.json()["quantity"]) == (200, 5)
    tea = offer | {"keyword": "tea"}
    first = await shop.made("POST", path, tea)
    problem(await shop.call("POST", path, tea, token=shop.host, key="t"), 409, "conflict")
    await shop.made("POST", f"/v1/offers/{first['id']}/close")
    second = await shop.call("POST", path, tea, token=shop.host, key="t")
    assert (second.status_code, second.json()["ship_within_h"]) == (201, 9)
    await shop.made("POST", f"/v1/streams/{stream}/end")
    over = await shop.call("POST", path, tea, token=shop.host, key="t")
    assert (over.status_code, over.json()["id"]) == (200, second.json()["id"])


async def test_products_are_found_by_their_words(shop: Shop) -> None:
    """Each word is in the title or the SKU, whatever its case and width; cursors go on as ever."""
    named = {
        title: await shop.product(title=title, sku=sku)
        for title, sku in (
            ("高山茶 Oolong", "T-100%"), ("Öl Чай", "T-200"), ("ＣＡＭＥＲＡ a_b", "C\\1"),
            ("Oolong, aged", "T-1000"),
        )
    }  # fmt: skip
    a, b, c, d = named.values()
    other = await shop.made(
        "POST", "/v1/products",
        {"sku": "T-100", "title": "Oolong", "price_minor": 1, "currency": "TWD"},
        token=token(**STRANGER),
    )  # fmt: skip
    await shop.services.ledger.rows("update products set found_by = null where id = $1", d)

    async def found(q: str, **more: str) -> list[str]:
        query = {"q": q, "shop": "shop-1"} | more
        answer = await shop.http.get("/v1/products", params=query)
        assert answer.is_success, answer.text
        return [item["id"] for item in answer.json()["items"]]

    for q, wanted in (
        ("oolong", [d, a]), ("OOLONG t-1", [d, a]), ("aged oolong", [d]), ("茶", [a]),
        ("öL чАЙ", [b]), ("camera", [c]), ("Ｔ－２", [b]), ("100%", [a]), ("a_b", [c]), ("\\", [c]),
        ("%", [a]), ("_", [c]), ("ooolong", []), ("oolong camera", []), ("  ", [d, c, b, a]),
        ("", [d, c, b, a]), ("t o", [d, a]),
    ):  # fmt: skip
        assert await found(q) == wanted, q
    assert await found("oolong", shop="shop-2") == [other["id"]]
    first = (await shop.made("GET", "/v1/products?q=oolong&limit=1"))["next_cursor"]
    assert await found("oolong", limit="1", cursor=first) == [a]
    for caller in (None, token("viewer", "ann")):
        nobodys = await shop.call("GET", "/v1/products?q=tea", token=caller)
        assert paths(problem(nobodys, 400, "bad_request")) == ["shop"]
    for q in ("x" * 101, "a%00"):
        problem(await shop.call("GET", f"/v1/products?shop=shop-1&q={q}"), 400, "bad_request")


async def test_rows_of_the_release_before_are_found_as_they_are_written(shop: Shop) -> None:
    """Whatever the database knows of case and width, what is typed as it is written is found."""
    old = await shop.product(title="Öl Чай ＣＡＭ", sku="T-1")
    await shop.services.ledger.rows("update products set found_by = null where id = $1", old)
    for q, wanted in (
        ("Öl", [old]), ("Чай t-1", [old]), ("ＣＡＭ", [old]), ("Ｔ－１", [old]), ("Öl x", []),
        ("%", []),
    ):  # fmt: skip
        answer = await shop.http.get("/v1/products", params={"q": q, "shop": "shop-1"})
        assert [item["id"] for item in answer.json()["items"]] == wanted, q


async def test_searches_leave_room_for_other_reads(shop: Shop) -> None:
    """A crowd of searches that hang does not have all connections: a list is answered meanwhile."""
    ledger = shop.services.ledger
    async with ledger.pool.acquire() as connection, connection.transaction():
        await connection.execute("lock table products in access exclusive mode")
        path = "/v1/products?shop=shop-1&q=tea"
        crowd = [asyncio.create_task(shop.call("GET", path)) for _ in range(30)]
        waiting = "select 1 from pg_locks where not granted and relation = 'products'::regclass"

        async def hang() -> bool:
            return len(await connection.fetch(waiting)) > 1

        await until(hang)
        assert (await shop.call("GET", "/v1/streams")).status_code == 200
    assert {answer.status_code for answer in await asyncio.gather(*crowd)} <= {200, 503}


async def test_a_search_that_nobody_waits_for_is_ended(shop: Shop, database_url: str) -> None:
    """The server computes no read to its end once the caller was told `retry`."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await shop.services.ledger.rows("select pg_sleep(29) as given_up")
    admin = await asyncpg.connect(database_url)
    running = "select 1 from pg_stat_activity where state = 'active' and query like $1"

    async def ended() -> bool:
        return not await admin.fetch(running, "%pg_sleep(29) as given_up")

    await until(ended, 15)
    await admin.close()
