"""A stream's events over HTTP: what a viewer sees, how he comes back, and how it ends."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import connect

from streams.log import chat_line
from streams.outlet import Outlet
from streams.protocol import Message, OrderReserved
from tests.contract.events_rig import Told, Viewer, address, following
from tests.contract.http_rig import Json, Shop, paths, problem, serving, token
from tests.hub_rig import an_order
from tests.shop import until


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


async def say(shop: Shop, stream: str, first: int, last: int, text: str = "hi") -> None:
    """Put lines of chat into the log, numbered by their keys."""
    lines = [
        chat_line("u", f"k{n}", Message(id=f"msg_{n}", user="u", name="u", text=text, at=n))
        for n in range(first, last + 1)
    ]
    for start in range(0, len(lines), 100):
        await shop.services.events.append_lines(stream, lines[start : start + 100])


async def reached(shop: Shop, stream: str, seq: int) -> None:
    """Wait until the log has so many main events: a call is answered before they are in it."""

    async def there() -> bool:
        return (await shop.services.events.position(stream)).seq >= seq

    await until(there)


def sequenced(events: list[Json]) -> list[Json]:
    """Return what has a place in one of the two sequences."""
    return [event for event in events if event["type"] != "welcome" and {"seq", "cseq"} & {*event}]


def outlets(shop: Shop) -> list[Outlet]:
    """Return the open streams, as the server has them."""
    sessions = shop.services.hub.sessions
    return [session.socket for session in sessions if isinstance(session.socket, Outlet)]


async def gone(shop: Shop) -> None:
    """Wait until the server has forgotten every connection, and what it ran for them."""

    def nothing() -> bool:
        names = {task.get_name() for task in asyncio.all_tasks()}
        hub = shop.services.hub
        rooms = any(room.users or room.sessions for room in hub.rooms.values())
        return not (hub.sessions or "outlet" in names or rooms or len(hub.addresses))

    await until(nothing)


async def test_a_guest_is_welcomed_and_sees_what_a_socket_sees(shop: Shop) -> None:
    """The same events with the same fields, `welcome` first; each sequence in its order."""
    stream = await shop.stream()
    await reached(shop, stream, 1)
    url = f"ws://127.0.0.1:{shop.port}/v1/streams/{stream}/ws"
    async with following(shop, stream) as viewer, connect(url) as wire:
        headers = viewer.response.headers
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-store"
        assert headers["x-accel-buffering"] == "no"
        assert viewer.retry_ms is not None
        assert 1_000 <= viewer.retry_ms <= 5_000
        await wire.send('{"type":"hello","id":1}')
        heard = [json.loads(await wire.recv())]
        offer = await shop.offer(stream)
        await say(shop, stream, 1, 3)
        await shop.made("POST", f"/v1/offers/{offer}/close")
        await viewer.get("chat", 3)
        await viewer.get("offer.closed")
        await viewer.get("viewers")
        while len(sequenced(heard)) < len(sequenced(viewer.events)):
            heard.append(json.loads(await wire.recv()))
        assert sequenced(heard) == sequenced(viewer.events)
        welcome, other = viewer.events[0], heard[0]
        assert welcome["type"] == other["type"] == "welcome"
        assert welcome.keys() == other.keys()
        assert welcome["re"] is None
        assert welcome["you"]["role"] == "guest"
        assert "recovered" not in welcome
        assert [e["type"] for e in viewer.of("offer.opened", "offer.closed")] == [
            "offer.opened",
            "offer.closed",
        ]


async def test_an_id_comes_with_what_moves_the_position_and_nothing_else(shop: Shop) -> None:
    """It is the position after the event; stock, viewers and orders leave it where it is."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    async with following(shop, stream, token("viewer", "ann")) as viewer:
        await shop.buy(offer, "ann")
        await viewer.get("stock")
        await viewer.get("order.reserved")
        await say(shop, stream, 1, 2)
        await viewer.get("chat", 2)
        await shop.made("POST", f"/v1/offers/{offer}/close")
        await viewer.get("offer.closed")
        welcome = viewer.events[0]
        epoch, seq, cseq = welcome["epoch"], welcome["seq"], welcome["cseq"]
        for told in viewer.told:
            seq, cseq = (told.event.get("seq", seq), told.event.get("cseq", cseq))
            assert told.id == f"{epoch}:{seq}:{cseq}", told
            assert told.moved is bool({"seq", "cseq"} & told.event.keys()), told


async def test_every_id_is_a_place_to_come_back_to(shop: Shop) -> None:
    """Whatever came last, the rest follows once: live events, and such that were recovered."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    await reached(shop, stream, 2)
    async with following(shop, stream) as viewer:
        for n in range(1, 4):
            await say(shop, stream, n, n)
            await viewer.get("chat", n)
            verb, kind = ("pause", "paused") if n % 2 else ("resume", "opened")
            await shop.made("POST", f"/v1/offers/{offer}/{verb}")
            await viewer.get(f"offer.{kind}", (n + 1) // 2)
        everything = sequenced(viewer.events)
        assert len(everything) == 6
        places = [told.id for told in viewer.told if told.moved]
    for place in places:
        assert place is not None
        async with following(shop, stream, last=place) as back:
            assert back.events[0]["recovered"] is True
            await _all_after(place, everything, back)
            recovered = list(back.told)
        for step in [told for told in recovered if told.moved]:
            assert step.id is not None
            async with following(shop, stream, last=step.id) as again:
                await _all_after(step.id, everything, again)
                _moves_by_one(step.id, again.told)


async def _all_after(place: str, everything: list[Json], viewer: Viewer) -> None:
    """Hold a viewer to what a place in both sequences leaves to be told."""
    _, seq, cseq = place.rsplit(":", 2)
    due = [e for e in everything if e.get("seq", 0) > int(seq) or e.get("cseq", 0) > int(cseq)]
    await until(lambda: len(sequenced(viewer.events)) >= len(due))

    def number(event: Json) -> tuple[bool, int]:
        return "cseq" in event, event.get("seq") or event["cseq"]

    assert sorted(sequenced(viewer.events), key=number) == sorted(due, key=number)


def _moves_by_one(place: str, told: list[Told]) -> None:
    """Hold the ids to steps of one in one of the sequences, from a place on."""
    assert told[0].id == place
    _, *at = place.rsplit(":", 2)
    sum_ = sum(map(int, at))
    for each in told[1:]:
        sum_ += each.moved
        assert each.id is not None
        assert sum(map(int, each.id.rsplit(":", 2)[1:])) == sum_


async def test_what_is_not_held_any_more_is_not_recovered(shop: Shop) -> None:
    """Another epoch, also one with colons, and a position that never was: the snapshot is all."""
    stream = await shop.stream()
    await reached(shop, stream, 1)
    await say(shop, stream, 1, 2)
    async with following(shop, stream) as viewer:
        epoch = viewer.events[0]["epoch"]
        for last in ("a:b:c:0:0", "x:1:1", f"{epoch}:9999:0", f"{epoch}:0:9999"):
            async with following(shop, stream, last=last) as back:
                assert back.events[0]["recovered"] is False
                assert back.told[0].id == viewer.told[0].id
                assert sequenced(back.events) == []
        async with following(shop, stream, last="") as new:
            assert "recovered" not in new.events[0]


@pytest.mark.parametrize(
    "last",
    ["1", "e:1", "e:1:", "e:1:x", "e:-1:0", "e:1:1.0", f"e:{2**53}:0", f"e:0:{'9' * 5000}",
     f"{'e' * 65}:1:1", "e:\u0663:1"],
)  # fmt: skip
async def test_a_malformed_last_event_id_is_a_bad_request(shop: Shop, last: str) -> None:
    """It is said which header is wrong, before anything is opened."""
    headers = {"Last-Event-ID": last.encode()}
    response = await shop.http.get(address("st_1"), headers=headers)  # type: ignore[arg-type]
    assert paths(problem(response, 400, "bad_request")) == ["Last-Event-ID"]
    assert not shop.services.hub.sessions


async def test_an_order_reaches_its_viewer_alone(shop: Shop) -> None:
    """A buy over HTTP is told on all of his streams, and on nobody else's."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    ann, bob = token("viewer", "ann"), token("viewer", "bob")
    async with (
        following(shop, stream, ann) as one,
        following(shop, stream, ann) as two,
        following(shop, stream, bob) as other,
    ):
        assert one.events[0]["you"] == {"id": "ann", "role": "viewer", "name": "ann"}
        order = (await shop.buy(offer, "ann")).json()
        for viewer in (one, two):
            told = await viewer.get("order.reserved")
            assert told["order"] == order
            assert "re" not in told
        await shop.call("POST", f"/v1/orders/{order['id']}/cancel", token=ann)
        await one.get("order.cancelled")
        assert (await other.get("stock"))["offer"] == offer
        assert not other.of("order.reserved", "order.cancelled")
    async with following(shop, stream, ann) as back:
        assert [o["id"] for o in back.events[0]["orders"]] == [order["id"]]


async def test_refusals_come_before_the_stream(shop: Shop) -> None:
    """Each is an ordinary answer, with its status; nothing of the connection is left."""
    stream = await shop.stream()
    where, ann = address(stream), token("viewer", "ann")
    problem(await shop.call("GET", where, token="rubbish"), 401, "unauthenticated")
    problem(await shop.call("GET", where, token=token("viewer", "ann", ttl_s=-9)), 401,
            "unauthenticated")  # fmt: skip
    basic = {"Authorization": "Basic YTpi"}
    problem(await shop.call("GET", where, headers=basic), 401, "unauthenticated")
    elsewhere = token("viewer", "ann", streams=["st_other"])
    problem(await shop.call("GET", where, token=elsewhere), 403, "forbidden")
    await shop.services.catalog.ban(stream, "ann")
    problem(await shop.call("GET", where, token=ann), 403, "forbidden")
    problem(await shop.call("GET", address("st_none")), 404, "not_found")
    problem(await shop.call("GET", address("%00")), 404, "not_found")
    problem(await shop.call("POST", where), 405, "bad_request")
    await gone(shop)


async def test_head_and_options(shop: Shop) -> None:
    """HEAD is answered as GET would begin, and opens nothing; OPTIONS says what there is."""
    stream = await shop.stream()
    head = await shop.call("HEAD", address(stream))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "text/event-stream"
    assert (await shop.call("HEAD", address("st_none"))).status_code == 404
    assert (await shop.call("HEAD", address(stream), token="x")).status_code == 401
    options = await shop.call("OPTIONS", address(stream))
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert not shop.services.hub.sessions


async def test_streams_count_against_the_limits(redis_url: str, database_url: str) -> None:
    """One user's are 429 past his bound, one address' and one process' are 503; both are freed."""
    limits = {"LIVECART_USER_CONNECTIONS_MAX": "2", "LIVECART_ADDRESS_CONNECTIONS_MAX": "4"}
    async with serving(redis_url, database_url, **limits) as shop, AsyncExitStack() as stack:
        stream, ann = await shop.stream(), token("viewer", "ann")
        first = [await stack.enter_async_context(following(shop, stream, ann)) for _ in range(2)]
        problem(await shop.call("GET", address(stream), token=ann), 429, "rate_limited")
        for _ in range(2):
            await stack.enter_async_context(following(shop, stream))
        document = problem(await shop.call("GET", address(stream)), 503, "retry")
        assert document["retry_after_ms"] == 2_000
        await first[0].leave()
        await until(lambda: len(shop.services.hub.sessions) == 3)
        async with following(shop, stream, ann) as again:
            assert again.events[0]["viewers"] == 4


async def test_a_client_that_goes_is_forgotten(shop: Shop) -> None:
    """Nothing of it is left in the hub, the room or the loop; others see one viewer less."""
    stream = await shop.stream()
    async with following(shop, stream) as other:
        async with following(shop, stream, token("viewer", "ann")) as viewer:
            assert viewer.events[0]["viewers"] == 2
            await until(lambda: any(e["count"] == 2 for e in other.of("viewers")))
        await until(lambda: other.of("viewers")[-1]["count"] == 1)
        assert len(shop.services.hub.sessions) == 1
    await gone(shop)


async def test_a_client_that_asked_for_more_and_went_is_found(
    redis_url: str, database_url: str
) -> None:
    """A second request behind the stream keeps the server from saying that the client is gone."""
    async with serving(redis_url, database_url, LIVECART_HEARTBEAT_MS="1000") as shop:
        stream = await shop.stream()
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.port)
        ask = f"GET {address(stream)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        writer.write(ask)
        await reader.readuntil(b'"type":"welcome"')
        writer.write(ask)
        await writer.drain()
        await until(lambda: len(outlets(shop)) == 1)
        writer.close()
        await gone(shop)


async def test_comments_keep_the_connection(redis_url: str, database_url: str) -> None:
    """One each heartbeat, and a client that reads nothing but them is not silent."""
    async with serving(redis_url, database_url, LIVECART_HEARTBEAT_MS="1000") as shop:
        stream = await shop.stream()
        async with following(shop, stream) as viewer:
            await until(lambda: viewer.comments >= 4)  # twice the silence that is allowed
            assert not viewer.ended
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock = outlets(shop)[0]._transport.get_extra_info("socket")
                bound = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                assert bound == 2_000


@asynccontextmanager
async def sleeping(shop: Shop, stream: str, who: str) -> AsyncIterator[socket.socket]:
    """Follow a stream and read nothing of it."""
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, ("127.0.0.1", shop.port))
        ask = f"GET {address(stream)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {who}\r\n\r\n"
        await loop.sock_sendall(slow, ask.encode())
        await until(lambda: len(outlets(shop)) == 1)
        yield slow


async def test_a_client_that_reads_nothing_is_ended(redis_url: str, database_url: str) -> None:
    """First its chat gives way, and when that does not help it ends; others go on."""
    bound = 64 * 1024
    limits = {"LIVECART_QUEUE_BYTES_MAX": str(bound)}
    async with serving(redis_url, database_url, **limits) as shop:
        stream, hub = await shop.stream(), shop.services.hub
        async with sleeping(shop, stream, token("viewer", "ann")), following(shop, stream) as fine:
            session = next(s for s in hub.sessions if s.identity.sub == "ann")
            outlet, most, n = outlets(shop)[0], 0, 0
            while n < 4_000:
                await say(shop, stream, n + 1, n + 50, "茶" * 300)
                n += 50
                await fine.get("chat", n)
                most = max(most, outlet.waiting_bytes() + hub.backlogs.account.bytes)
            assert most < 2 * bound + 100_000
            assert not session.closed
            event = OrderReserved(order=an_order(stream, "ann"))
            for _ in range(1_000):
                hub.private(stream, [("ann", event, None)])
            await until(lambda: session.closed)
            assert hub.backlogs.account.bytes == 0
            # and the connection is not kept for what it does not take
            await until(outlet._transport.is_closing)
            await until(lambda: outlet.waiting_bytes() == 0)
            await say(shop, stream, n + 1, n + 1)
            await fine.get("chat", n + 1)
        await gone(shop)


async def test_a_client_that_was_slow_is_where_its_last_id_says(
    redis_url: str, database_url: str
) -> None:
    """Offers overtake chat, and chat is skipped: each id is still the position after its event."""
    limits = {"LIVECART_QUEUE_BYTES_MAX": str(64 * 1024)}
    async with serving(redis_url, database_url, **limits) as shop:
        stream = await shop.stream()
        offer = await shop.offer(stream)
        await reached(shop, stream, 2)
        async with sleeping(shop, stream, token("viewer", "ann")) as slow:
            session = next(iter(shop.services.hub.sessions))
            for n in range(0, 2_000, 50):
                await say(shop, stream, n + 1, n + 50, "茶" * 300)
            await until(lambda: session.backlog is not None)
            for verb in ("pause", "resume", "pause"):
                await shop.made("POST", f"/v1/offers/{offer}/{verb}")
            await reached(shop, stream, 5)
            await say(shop, stream, 2_001, 2_001)
            loop, text = asyncio.get_running_loop(), b""
            async with asyncio.timeout(20):
                while b"msg_2001" not in text or not text.endswith(b"\n\n\r\n"):
                    text += await loop.sock_recv(slow, 65_536)
        body = _unchunked(text)
        kinds, last = [], ""
        seq = cseq = 0
        for block in body.split(b"\n\n"):
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
            if b"data" not in fields:
                continue
            event = json.loads(fields[b"data"])
            kinds.append(event["type"])
            if kinds[-1] not in ("welcome", "chat.skipped"):
                assert event.get("seq", seq + 1) == seq + 1
                assert event.get("cseq", cseq + 1) == cseq + 1
            seq, cseq = event.get("seq", seq), event.get("cseq", cseq)
            if b"id" in fields:
                last = fields[b"id"].decode()
                assert last.endswith(f":{seq}:{cseq}")
        assert "chat.skipped" in kinds
        assert kinds.index("offer.paused") < kinds.index("chat.skipped")
        head = await shop.services.events.position(stream)
        assert last == f"{head.epoch}:{head.seq}:{head.cseq}"


def _unchunked(text: bytes) -> bytes:
    """Return the body of an answer in chunks, as far as it came."""
    rest, parts = text.partition(b"\r\n\r\n")[2], []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        parts.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return b"".join(parts)


async def test_a_large_welcome_is_no_slowness(redis_url: str, database_url: str) -> None:
    """A snapshot that is larger than the bound is sent whole, and what follows it is judged."""
    limits = {"LIVECART_QUEUE_BYTES_MAX": "16384"}
    async with serving(redis_url, database_url, **limits) as shop:
        stream = await shop.stream()
        async with following(shop, stream) as first:
            place = first.told[0].id
        for start in range(0, 1_500, 100):
            await say(shop, stream, start + 1, start + 100, "茶" * 300)
        # What the tail brings later than that is no part of the snapshot, and judged.
        rooms = shop.services.hub.rooms  # an empty one may have been dropped by now
        await until(lambda: stream not in rooms or rooms[stream].cseq == 1_500)
        async with following(shop, stream, last=place) as back:
            await back.get("chat", 1_500, timeout_s=60)  # 1.4 MB
            await say(shop, stream, 1_501, 1_502)
            await back.get("chat", 1_502)
            assert [e["cseq"] for e in back.of("chat")] == list(range(1, 1_503))


async def test_a_drain_tells_and_ends_every_stream(shop: Shop) -> None:
    """`draining` first, then the end with 4503, spread over the grace; newcomers are 503."""
    stream = await shop.stream()
    async with AsyncExitStack() as stack:
        viewers = [await stack.enter_async_context(following(shop, stream)) for _ in range(10)]
        await shop.services.hub.drain(0.5)
        for viewer in viewers:
            await viewer.end()
            assert viewer.of("draining") == [{"type": "draining", "retry_after_ms": 1_000}]
            assert viewer.closed == {"code": 4503, "reason": "draining"}
        problem(await shop.call("GET", address(stream)), 503, "retry")
    await gone(shop)


async def test_a_ban_ends_the_stream(shop: Shop) -> None:
    """With 4403, and coming back is 403."""
    stream, ann = await shop.stream(), token("viewer", "ann")
    async with following(shop, stream, ann) as viewer, following(shop, stream) as other:
        await shop.services.catalog.ban(stream, "ann")
        shop.services.hub.control(stream, "ban", "ann")
        await viewer.end()
        assert viewer.closed == {"code": 4403, "reason": "banned"}
        problem(await shop.call("GET", address(stream), token=ann), 403, "forbidden")
        assert not other.ended


async def test_the_stream_ends_with_its_token(shop: Shop) -> None:
    """With 4401; a fresh token and the last id go on from there."""
    stream = await shop.stream()
    short = token("viewer", "ann", ttl_s=2)
    async with following(shop, stream, short) as viewer:
        await viewer.end()
        assert viewer.closed == {"code": 4401, "reason": "the token expired"}
        place = viewer.told[-1].id
    await say(shop, stream, 1, 1)
    problem(await shop.call("GET", address(stream), token=short), 401, "unauthenticated")
    async with following(shop, stream, token("viewer", "ann"), place) as back:
        assert back.events[0]["recovered"] is True
        await back.get("chat")


async def test_a_server_that_is_not_ready_is_503(redis_url: str, database_url: str) -> None:
    """As long as Postgres is away at the start."""
    nowhere = database_url.replace("livecart@", "livecart@127.0.0.1:1") + "&host=127.0.0.1&port=1"
    async with serving(redis_url, nowhere) as shop:
        problem(await shop.call("GET", address("st_1")), 503, "retry")


# --- what a viewer without a socket says -----------------------------------------------------


async def chat(shop: Shop, stream: str, who: str | None, text: Any = "hi", key: str = "k") -> Any:
    return await shop.call("POST", f"/v1/streams/{stream}/chat", {"text": text}, token=who, key=key)


async def test_chat_reaches_everybody_once(shop: Shop) -> None:
    """The message is the answer; the same key again is answered 200 with the first."""
    stream, ann = await shop.stream(), token("viewer", "ann", name="Ann")
    async with following(shop, stream, ann) as viewer:
        first = await chat(shop, stream, ann)
        assert first.status_code == 201
        message = first.json()
        assert (message["user"], message["name"], message["text"]) == ("ann", "Ann", "hi")
        again = await chat(shop, stream, ann, "other")
        assert (again.status_code, again.json()) == (200, message)
        assert (await chat(shop, stream, shop.host, "end")).is_success
        await viewer.get("chat", 2)
        assert [e["message"]["text"] for e in viewer.of("chat")] == ["hi", "end"]
        assert viewer.of("chat")[0]["message"] == message


async def test_who_may_chat_is_as_on_the_socket(shop: Shop) -> None:
    """Guests, services, other shops' hosts, the banned and the muted may not."""
    stream, ann = await shop.stream(), token("viewer", "ann")
    problem(await chat(shop, stream, None), 401, "unauthenticated")
    problem(await chat(shop, stream, token("service", "bot")), 403, "forbidden")
    problem(await chat(shop, stream, token("host", "h2", shop="shop-2")), 403, "forbidden")
    problem(await chat(shop, stream, token("viewer", "x", streams=["st_y"])), 403, "forbidden")
    problem(await chat(shop, "st_none", ann), 404, "not_found")
    assert paths(problem(await chat(shop, stream, ann, "x" * 301), 400, "bad_request")) == ["text"]
    assert (await chat(shop, stream, token("admin", "root"))).status_code == 201
    await shop.services.catalog.mute(stream, "ann")
    problem(await chat(shop, stream, ann), 403, "muted")
    await shop.services.catalog.unmute(stream, "ann")
    assert (await chat(shop, stream, ann)).status_code == 201
    await shop.services.catalog.ban(stream, "ann")
    problem(await chat(shop, stream, ann, key="k2"), 403, "forbidden")


async def test_slow_mode_is_for_calls_too(shop: Shop) -> None:
    """A user has one turn, also where nobody follows the stream; hosts speak as they like."""
    stream, ann = await shop.stream(), token("viewer", "ann")
    await shop.made("PATCH", f"/v1/streams/{stream}", {"chat_every_s": 60})
    assert (await chat(shop, stream, ann)).status_code == 201
    document = problem(await chat(shop, stream, ann, key="k2"), 429, "rate_limited")
    assert document["retry_after_ms"] > 50_000
    assert (await chat(shop, stream, token("viewer", "bob"))).status_code == 201
    for n in range(2):
        assert (await chat(shop, stream, shop.host, key=f"k{n}")).status_code == 201


async def react(shop: Shop, stream: str, who: str | None = None, **body: Any) -> Any:
    return await shop.call("POST", f"/v1/streams/{stream}/reactions", body, token=who)


async def test_reactions_are_counted(shop: Shop) -> None:
    """A guest's too; once where no number is given."""
    stream = await shop.stream()
    assert (await react(shop, stream, kind="wow")).status_code == 204  # nobody is there yet
    async with following(shop, stream) as viewer:
        assert (await react(shop, stream, token("viewer", "ann"), kind="love", n=3)).is_success
        assert (await react(shop, stream, kind="love")).is_success
        await until(
            lambda: (
                viewer.of("reactions")[-1:]
                == [{"type": "reactions", "counts": {"love": 4, "wow": 1}}]
            )
        )
    problem(await react(shop, stream, kind="hate"), 400, "bad_request")
    problem(await react(shop, stream, kind="love", n=21), 400, "bad_request")
    problem(await react(shop, "st_none", kind="love"), 404, "not_found")
    elsewhere = token("viewer", "ann", streams=["st_other"])
    problem(await react(shop, stream, elsewhere, kind="love"), 403, "forbidden")


async def test_talking_too_fast_is_429(redis_url: str, database_url: str) -> None:
    """Chat and reactions have their own bounds; guests of one address share one."""
    slow = {"LIVECART_CHAT_PER_S": "0.1", "LIVECART_CHAT_BURST": "2",
            "LIVECART_REACT_PER_S": "0.1", "LIVECART_REACT_BURST": "2"}  # fmt: skip
    async with serving(redis_url, database_url, **slow) as shop:
        stream, ann = await shop.stream(), token("viewer", "ann")
        for n in range(2):
            assert (await chat(shop, stream, ann, key=f"k{n}")).is_success
            assert (await react(shop, stream, ann, kind="like")).is_success
            assert (await react(shop, stream, kind="like")).is_success
        problem(await chat(shop, stream, ann, key="k3"), 429, "rate_limited")
        problem(await react(shop, stream, ann, kind="like"), 429, "rate_limited")
        problem(await react(shop, stream, kind="like"), 429, "rate_limited")
        assert (await react(shop, stream, token("viewer", "bob"), kind="like")).is_success
        offer = await shop.offer(stream)
        assert (await shop.buy(offer, "ann")).is_success
