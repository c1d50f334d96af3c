"""The bounds of a whole server, as its callers and their connections meet them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from livecart.settings import SettingsError, load
from tests.contract.http_rig import SECRET, Shop, bearer, problem, serving, token


async def welcomed(shop: Shop, stream: str, who: str | None = None, **headers: str) -> Any:
    """Connect and say hello; return the connection and its first message."""
    url = f"ws://127.0.0.1:{shop.port}/v1/streams/{stream}/ws"
    socket = await connect(url, additional_headers=headers)
    hello = {"type": "hello", "id": 1} | ({} if who is None else {"token": token("viewer", who)})
    await socket.send(msgspec.json.encode(hello).decode())
    return socket, msgspec.json.decode(await socket.recv())


async def status_of(shop: Shop, stream: str, **headers: str) -> int:
    """Return the HTTP status of a handshake."""
    try:
        socket, _ = await welcomed(shop, stream, **headers)
    except InvalidStatus as refused:
        return refused.response.status_code
    await socket.close()
    return 101


async def test_calls_come_too_fast(redis_url: str, database_url: str) -> None:
    """A viewer's and a host's changes are 429 past their bounds; reading is not counted."""
    limits = {
        "LIVECART_SELL_PER_S": "0.1", "LIVECART_SELL_BURST": "2",
        "LIVECART_HOST_PER_S": "0.1", "LIVECART_HOST_BURST": "7",
    }  # fmt: skip
    async with serving(redis_url, database_url, **limits) as shop:
        stream = await shop.stream()
        offer = await shop.offer(stream)  # five calls of the host
        assert [(await shop.buy(offer, "ann", key=f"k{n}")).status_code for n in range(2)] == [
            201,
            409,
        ]
        refused = await shop.buy(offer, "ann", key="k0")
        problem(refused, 429, "rate_limited")
        assert refused.json()["retry_after_ms"] > 1_000
        assert int(refused.headers["retry-after"]) >= 2
        assert (await shop.buy(offer, "bob")).is_success
        for _ in range(20):
            assert (await shop.call("GET", f"/v1/offers/{offer}")).is_success
        codes = [
            (await shop.call("POST", f"/v1/offers/{offer}/pause", token=shop.host)).status_code
            for _ in range(4)
        ]
        assert codes[-1] == 429, codes
        admin = token("admin", "root")
        for verb in ("resume", "pause", "resume"):
            answer = await shop.call("POST", f"/v1/offers/{offer}/{verb}", token=admin)
            assert answer.is_success, answer.text


async def test_a_socket_and_calls_are_counted_together(redis_url: str, database_url: str) -> None:
    """Buying by both ways in turn gains nothing."""
    limits = {"LIVECART_SELL_PER_S": "0.1", "LIVECART_SELL_BURST": "2"}
    async with serving(redis_url, database_url, **limits) as shop:
        stream = await shop.stream()
        offer = await shop.offer(stream, per_viewer=9)
        socket, _ = await welcomed(shop, stream, "ann")
        buy = {"type": "buy", "id": 2, "offer": offer, "qty": 1, "key": "a"}
        await socket.send(msgspec.json.encode(buy).decode())
        while (told := msgspec.json.decode(await socket.recv())).get("re") != 2:
            pass
        assert told["type"] == "order.reserved"
        assert (await shop.buy(offer, "ann", key="b")).is_success
        problem(await shop.buy(offer, "ann", key="c"), 429, "rate_limited")
        await socket.close()


async def test_one_address_has_so_many_connections(redis_url: str, database_url: str) -> None:
    """One more is 503; whose word counts is the proxy's alone, and only when it is trusted."""
    limits = {"LIVECART_ADDRESS_CONNECTIONS_MAX": "2"}
    for trusted in ({}, {"LIVECART_TRUSTED_PROXIES": "127.0.0.0/8"}):
        async with (
            serving(redis_url, database_url, **limits, **trusted) as shop,
            AsyncExitStack() as stack,
        ):
            stream = await shop.stream()
            for _ in range(2):
                socket, _ = await welcomed(shop, stream, **{"X-Forwarded-For": "198.51.100.7"})
                stack.push_async_callback(socket.close)
            assert await status_of(shop, stream, **{"X-Forwarded-For": "198.51.100.7"}) == 503
            elsewhere = await status_of(shop, stream, **{"X-Forwarded-For": "198.51.100.8"})
            assert elsewhere == (101 if trusted else 503)


async def test_connections_come_at_a_bounded_rate(redis_url: str, database_url: str) -> None:
    """Past the burst a handshake is 503 with Retry-After, and those who are there stay."""
    limits = {"LIVECART_CONNECTS_PER_S": "0.1", "LIVECART_CONNECTS_BURST": "5"}
    async with serving(redis_url, database_url, **limits) as shop:
        stream = await shop.stream()
        found: list[ClientConnection] = [(await welcomed(shop, stream))[0] for _ in range(5)]
        for _ in range(3):
            with pytest.raises(InvalidStatus) as refused:
                await welcomed(shop, stream)
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["retry-after"] == "2"
        for socket in found:
            await socket.send('{"type":"ping","id":7,"t0":1}')
            while msgspec.json.decode(await socket.recv())["type"] != "pong":
                pass
            await socket.close()
        metrics = (await shop.call("GET", "/metrics")).text
        async with asyncio.timeout(5):
            while 'livecart_turned_away_total{limit="rate"} 3.0' not in metrics:
                await asyncio.sleep(0.05)
                metrics = (await shop.call("GET", "/metrics")).text


def test_a_proxy_that_is_no_address_is_a_bad_setting() -> None:
    """It is said at the start, in one line."""
    with pytest.raises(SettingsError, match=r"LIVECART_TRUSTED_PROXIES: '10\.0\.0\.0/99'"):
        load({"LIVECART_SECRET": SECRET, "LIVECART_TRUSTED_PROXIES": "10.0.0.0/99"})


async def test_a_host_slows_the_chat_and_sees_his_audience(
    redis_url: str, database_url: str
) -> None:
    """By socket and by call; a viewer may do neither, and the peak outlives the viewers."""
    async with serving(redis_url, database_url) as shop:
        stream = await shop.stream()
        path = f"/v1/streams/{stream}"
        problem(
            await shop.call("PATCH", path, {"chat_every_s": 5}, token=token("viewer", "ann")),
            403,
            "forbidden",
        )
        problem(
            await shop.call("PATCH", path, {"chat_every_s": 3_601}, token=shop.host),
            400,
            "bad_request",
        )
        assert (await shop.made("PATCH", path, {"chat_every_s": 60}))["chat_every_s"] == 60
        sockets = [await welcomed(shop, stream, who) for who in ("ann", "ann", "bob", None)]
        assert all(welcome["stream"]["chat_every_s"] == 60 for _, welcome in sockets)
        ann = sockets[0][0]
        assert [await said(ann, 5, "k1"), await said(ann, 6, "k2")] == ["ok", "rate_limited"]
        url = f"ws://127.0.0.1:{shop.port}{path}/ws"
        async with connect(url, additional_headers=bearer(shop.host)) as host:
            await host.send('{"type":"hello","id":1}')
            await host.send('{"type":"chat.slow","id":2,"every_s":0}')
            while (told := msgspec.json.decode(await host.recv())).get("re") != 2:
                pass
            assert told["type"] == "ok"
            assert await said(ann, 7, "k3") == "ok"
            assert "chat_every_s" not in (await shop.call("GET", path)).json()
            seen: dict[str, int] = {}
            async with asyncio.timeout(10):
                while seen != {"viewers": 5, "users": 4, "peak_viewers": 5}:
                    answer = await shop.call("GET", f"{path}/audience", token=shop.host)
                    seen = answer.json()
        for socket, _ in sockets:
            await socket.close()
        async with asyncio.timeout(10):
            while seen != {"viewers": 0, "users": 0, "peak_viewers": 5}:
                seen = (await shop.call("GET", f"{path}/audience", token=shop.host)).json()
        assert (await shop.call("GET", path)).json()["peak_viewers"] == 5
        problem(await shop.call("GET", f"{path}/audience"), 401, "unauthenticated")


async def said(socket: ClientConnection, id_: int, key: str) -> str:
    """Speak; return the answer in a word."""
    chat = {"type": "chat", "id": id_, "text": "hi", "key": key}
    await socket.send(msgspec.json.encode(chat).decode())
    while (told := msgspec.json.decode(await socket.recv())).get("re") != id_:
        pass
    word: str = told.get("code", told["type"])
    return word


@pytest.mark.parametrize("allowed", ["no", "yes"])
async def test_messages_are_deflated_where_that_is_allowed(
    redis_url: str, database_url: str, allowed: str
) -> None:
    """A client that offers it gets its welcome and everybody's chat so, and is heard so."""
    async with serving(redis_url, database_url, LIVECART_DEFLATE=allowed) as shop:
        stream = await shop.stream()
        socket, welcome = await welcomed(shop, stream, "ann")
        agreed = socket.response.headers.get("Sec-WebSocket-Extensions", "")
        assert agreed.startswith("permessage-deflate") is (allowed == "yes")
        assert welcome["type"] == "welcome"
        text = "三碗不過岡" * 30
        chat = {"type": "chat", "id": 2, "key": "k1", "text": text}
        await socket.send(msgspec.json.encode(chat).decode())
        heard: list[dict[str, Any]] = []
        while not any(event["type"] == "chat" for event in heard):
            heard.append(msgspec.json.decode(await socket.recv()))
        assert heard[-1]["message"]["text"] == text
        await socket.close()


async def test_what_redis_has_no_more_is_replayed_from_postgres(
    redis_url: str, database_url: str
) -> None:
    """A viewer who comes back late is told every pin, word for word as it was told live."""
    kept = {"LIVECART_LOG_EVENTS_MAX": "10", "LIVECART_MEMORY_EVENTS_MAX": "10"}
    async with serving(redis_url, database_url, **kept) as shop:
        stream = await shop.stream()
        live, welcome = await welcomed(shop, stream)
        offer = await shop.offer(stream, payment="none")
        await shop.buy(offer, "ann")
        product = await shop.product()
        for _ in range(30):
            await shop.made("POST", f"/v1/streams/{stream}/pins", {"product": product})
        await shop.made("POST", f"/v1/offers/{offer}/close")
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["type"] != "offer.closed":
            told = msgspec.json.decode(await live.recv())
            if "seq" in told:
                seen.append(told)
        assert len(seen) > 50
        since = {"epoch": welcome["epoch"], "seq": welcome["seq"], "cseq": welcome["cseq"]}
        url = f"ws://127.0.0.1:{shop.port}/v1/streams/{stream}/ws"
        async with connect(url) as back:
            hello = {"type": "hello", "id": 1, "since": since}
            await back.send(msgspec.json.encode(hello).decode())
            assert msgspec.json.decode(await back.recv())["recovered"] is True
            again = [msgspec.json.decode(await back.recv()) for _ in seen]
        assert again == seen
        await live.close()
