"""What operators, tools and browsers ask: health, readiness, metrics, specs and pages."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
import redis.asyncio

from livecart.app import build
from livecart.settings import SettingsError, load
from tests.contract.http_rig import Shop, problem, serving, variables


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


async def test_health_and_readiness(shop: Shop) -> None:
    """Both are 200 on a server with all it needs."""
    assert (await shop.call("GET", "/healthz")).json() == {"status": "ok"}
    assert (await shop.call("GET", "/readyz")).json() == {"status": "ready"}


async def test_a_database_that_was_not_migrated_is_not_ready(shop: Shop, database_url: str) -> None:
    """readyz names the file that is missing and what to do."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("delete from schema_files where name like 'functions/%'")
        document = problem(await shop.call("GET", "/readyz"), 503, "retry")
        assert "livecart migrate" in document["detail"]
        assert (await shop.call("GET", "/healthz")).is_success
    finally:
        await connection.close()


async def test_metrics_tell_of_a_sale(shop: Shop) -> None:
    """The figures of selling and of connections are there, in Prometheus' text."""
    offer = await shop.offer(await shop.stream())
    await shop.buy(offer, "ann")
    response = await shop.call("GET", "/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert f'livecart_stock_left_units{{offer="{offer}"}} 9.0' in response.text
    assert "livecart_connections" in response.text


async def test_the_pages_are_served_with_a_strict_policy(shop: Shop) -> None:
    """Pages and their files come with the policy and a tag; nothing outside the folder does."""
    for path, kind in (
        ("/host", "text/html"),
        ("/s/st_x", "text/html"),
        ("/static/livecart.js", "text/javascript"),
        ("/static/style.css", "text/css"),
    ):
        response = await shop.call("GET", path)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(kind)
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        tag = {"If-None-Match": response.headers["etag"]}
        assert (await shop.call("GET", path, headers=tag)).status_code == 304
    for path in ("/static/..%2fsettings.py", "/static/none.js", "/static/", "/static/a/b.js"):
        problem(await shop.call("GET", path), 404, "not_found")


async def test_files_come_compressed_and_words_in_a_language(shop: Shop) -> None:
    """What is asked for by gzip is the same file, smaller; words follow the browser's languages."""
    packed = await shop.call("GET", "/static/livecart.js", headers={"Accept-Encoding": "gzip"})
    plain = await shop.call("GET", "/static/livecart.js", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(plain.content)
    assert packed.headers["etag"] != plain.headers["etag"]
    for asked, language in (("zh-TW,en;q=0.5", "zh-Hant"), ("zh-CN", "zh-Hans"), ("da", "en")):
        said = await shop.call("GET", "/words.js", headers={"Accept-Language": asked})
        assert said.headers["content-type"].startswith("text/javascript")
        assert f'"language": "{language}"' in said.text
        assert (await shop.call("GET", f"/static/words/{language}.json")).is_success


async def test_the_sockets_address_asks_for_an_upgrade(shop: Shop) -> None:
    """A plain GET of a stream's socket is 426."""
    response = await shop.call("GET", "/v1/streams/st_x/ws")
    problem(response, 426, "bad_request")
    assert response.headers["upgrade"] == "websocket"


async def test_the_front_leads_to_what_is_on(shop: Shop) -> None:
    """`/` leads to the host's page, or to the newest stream that is live."""
    assert (await shop.call("GET", "/")).headers["location"] == "/host"
    stream = await shop.stream()
    response = await shop.call("GET", "/")
    assert (response.status_code, response.headers["location"]) == (303, f"/s/{stream}")


async def test_calls_are_answered_retry_while_postgres_is_not_there(
    redis_url: str, database_url: str
) -> None:
    """A server whose Postgres is away serves: health is 200, readiness and calls are 503."""
    nowhere = database_url.replace("livecart@", "livecart@127.0.0.1:1") + "&host=127.0.0.1&port=1"
    async with serving(redis_url, nowhere) as shop:
        assert (await shop.call("GET", "/healthz")).is_success
        problem(await shop.call("GET", "/readyz"), 503, "retry")
        problem(await shop.call("GET", "/v1/streams"), 503, "retry")
        problem(await shop.buy("of_1", "ann"), 503, "retry")
        assert (await shop.call("GET", "/host")).is_success
        assert shop.site.turns_away("")


async def test_a_redis_that_evicts_is_refused(redis_url: str, database_url: str) -> None:
    """Start-up ends with a clear line unless maxmemory-policy is noeviction."""
    settings = load(variables(redis_url, database_url))
    app = build(settings)
    client = redis.asyncio.Redis.from_url(redis_url)
    try:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(SettingsError, match=r"LIVECART_REDIS_URL .* allkeys-lru"):
            async with app.router.lifespan_context(app):
                pass
    finally:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.aclose()
