"""Commands over a plain WebSocket on real servers: who is answered, who is told, who is refused."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streams.log import chat_line, tag_of
from streams.protocol import Message
from streams.wire import Wire
from tests.contract.http_rig import Json, Shop, paths, problem, serving, token
from tests.shop import until

WAIT_S = 10.0


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


class Line:
    """One connection; keeps all that it hears."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.heard: list[Json] = []
        self.news = asyncio.Event()
        self.close_code: int | None = None
        self._ids = itertools.count(1)
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        try:
            async for frame in self.socket:
                self.heard.append(json.loads(frame))
                self.news.set()
        except ConnectionClosed:
            pass
        finally:
            self.close_code = self.socket.close_code
            self.news.set()

    async def until(self, found: Callable[[Json], object]) -> Json:
        """Return the first message that is meant, heard already or to come."""
        async with asyncio.timeout(WAIT_S):
            while True:
                self.news.clear()
                for message in self.heard:
                    if found(message):
                        return message
                assert self.close_code is None, self.close_code
                await self.news.wait()

    async def ask(self, type_: str, **fields: Any) -> Json:
        """Send a command; return its answer."""
        number = next(self._ids)
        await self.socket.send(json.dumps({"type": type_, "id": number, **fields}))
        return await self.until(lambda message: message.get("re") == number)

    async def closed(self) -> int:
        """Return the close code, once it came."""
        async with asyncio.timeout(WAIT_S):
            await self._listening
        assert self.close_code is not None
        return self.close_code

    def kinds(self, type_: str) -> list[Json]:
        """Return what was heard of one type."""
        return [message for message in self.heard if message["type"] == type_]


@asynccontextmanager
async def lines(shop: Shop, stream: str, *tokens: str) -> AsyncIterator[list[Line]]:
    """Connect and be welcomed, once for each token."""
    url = f"ws://127.0.0.1:{shop.port}/v1/streams/{stream}/ws"
    async with AsyncExitStack() as stack:
        made = []
        for value in tokens:
            socket = await stack.enter_async_context(connect(url, compression=None))
            line = Line(socket)
            answer = await line.ask("hello", token=value)
            assert answer["type"] in ("welcome", "reject"), answer
            made.append(line)
        yield made


async def test_a_buyer_is_answered_and_his_other_connections_are_told(shop: Shop) -> None:
    """The answer carries `re`; the second connection hears the order without; nobody twice."""
    stream = await shop.stream()
    offer = await shop.offer(stream, per_viewer=5)
    ann = token("viewer", "ann")
    async with lines(shop, stream, ann, ann, token("viewer", "bob")) as (first, second, bob):
        answer = await first.ask("buy", offer=offer, qty=2, key="k")
        assert (answer["type"], answer["order"]["qty"]) == ("order.reserved", 2)
        told = await second.until(lambda m: m["type"] == "order.reserved")
        assert "re" not in told
        assert told["order"] == answer["order"]
        await bob.until(lambda m: m["type"] == "stock" and m["left"] == 8)
        again = await first.ask("buy", offer=offer, qty=2, key="k")
        assert (again["replayed"], again["order"]) == (True, answer["order"])
        reused = await first.ask("buy", offer=offer, qty=1, key="k")
        assert (reused["type"], reused["code"]) == ("reject", "key_reused")
        over_http = await shop.buy(offer, "ann", 2, "k")
        assert over_http.json() == answer["order"]
        assert len(first.kinds("order.reserved")) == 2  # the two answers, no private event
        assert not bob.kinds("order.reserved")


async def test_a_cancel_is_answered_once_and_told_to_the_others(shop: Shop) -> None:
    """The sender hears order.cancelled with `re` only; another viewer's order is not_found."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    ann = token("viewer", "ann")
    async with lines(shop, stream, ann, ann, token("viewer", "bob")) as (first, second, bob):
        order = (await first.ask("buy", offer=offer, qty=1, key="k"))["order"]["id"]
        assert (await bob.ask("cancel", order=order))["code"] == "not_found"
        answer = await first.ask("cancel", order=order)
        assert (answer["type"], answer["order"]["status"]) == ("order.cancelled", "cancelled")
        await second.until(lambda m: m["type"] == "order.cancelled")
        assert (await first.ask("cancel", order=order))["code"] == "conflict"
        assert len(first.kinds("order.cancelled")) == 1


async def test_what_a_dead_process_left_is_told_to_whoever_asks_next(shop: Shop) -> None:
    """A payment that nobody told comes with the next change, to the connection that made it too."""
    stream = await shop.stream()
    offer = await shop.offer(stream, per_viewer=2)
    paid, gone = [(await shop.buy(offer, "ann", key=key)).json()["id"] for key in "ab"]
    async with lines(shop, stream, token("viewer", "ann")) as (ann,):
        await shop.services.ledger.pay(paid)  # and whoever did it died
        assert (await ann.ask("cancel", order=gone))["type"] == "order.cancelled"
        told = await ann.until(lambda m: m["type"] == "order.confirmed")
        assert told["order"]["id"] == paid


@pytest.mark.parametrize("at", ["committed", "told"])
async def test_a_change_that_outlasts_its_answer_is_told_to_its_asker_too(
    shop: Shop, at: str
) -> None:
    """Told `retry`, the connection that asked hears what came of it as the user's others do."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    order = (await shop.buy(offer, "ann")).json()["id"]
    go_on = asyncio.Event()
    ledger, rebuilder = shop.services.ledger, shop.services.rebuilder
    cancel, follow = ledger.cancel, rebuilder.follow

    async def late_cancel(*args: Any) -> Any:
        result = await cancel(*args)
        await go_on.wait()
        return result

    async def late_follow(*args: Any) -> bool:
        await go_on.wait()
        return await follow(*args)

    if at == "committed":
        ledger.cancel = late_cancel  # type: ignore[assignment]
    else:
        rebuilder.follow = late_follow  # type: ignore[assignment]
    ann = token("viewer", "ann")
    async with lines(shop, stream, ann, ann) as (asking, other):
        answer = await asking.ask("cancel", order=order)
        assert (answer["type"], answer["code"]) == ("reject", "retry")
        go_on.set()
        for line in (asking, other):
            told = await line.until(lambda m: m["type"] == "order.cancelled")
            assert (told["order"]["id"], told.get("re")) == (order, None)
        assert (await asking.ask("cancel", order=order))["code"] == "conflict"
        assert len(asking.kinds("order.cancelled")) == 1


async def test_a_change_that_fails_behind_its_answer_is_logged(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for it any more; that it failed must still be seen."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    order = (await shop.buy(offer, "ann")).json()["id"]
    go_on = asyncio.Event()

    async def fails(*_: Any) -> Any:
        await go_on.wait()
        raise ValueError("planted")

    shop.services.ledger.cancel = fails  # type: ignore[assignment]
    async with lines(shop, stream, token("viewer", "ann")) as (line,):
        assert (await line.ask("cancel", order=order))["code"] == "retry"
        go_on.set()
        await until(lambda: "planted" in caplog.text)


async def test_a_host_runs_the_show_by_commands(shop: Shop) -> None:
    """pin, unpin, offer.open, offer.restock and offer.close are `ok`, and everyone is told."""
    stream = await shop.stream()
    offer = await shop.offer(stream, opened=False, quantity=1)
    product = (await shop.made("GET", f"/v1/offers/{offer}"))["product"]
    async with lines(shop, stream, shop.host, token("viewer", "ann")) as (host, ann):
        pinned = await host.ask("pin", product=product["id"], offer=offer, media_at=7)
        assert pinned["pin"]["product"] == product
        assert (await host.ask("offer.open", offer=offer))["type"] == "ok"
        assert (await ann.ask("buy", offer=offer, qty=1, key="k"))["type"] == "order.reserved"
        await ann.until(lambda m: m["type"] == "offer.sold_out" and m["offer"] == offer)
        for _ in range(2):
            assert (await host.ask("offer.restock", offer=offer, add=3, key="r"))["type"] == "ok"
        back = await ann.until(lambda m: m["type"] == "offer.restocked")
        assert (back["offer"]["left"], back["reason"]) == (3, "host")
        assert (await host.ask("unpin", pin=pinned["pin"]["id"]))["type"] == "ok"
        assert (await host.ask("unpin", pin=pinned["pin"]["id"]))["code"] == "not_found"
        assert (await host.ask("offer.close", offer=offer))["type"] == "ok"
        await ann.until(lambda m: m["type"] == "offer.closed" and m["offer"] == offer)
        main = [m for m in ann.heard if "seq" in m and m["type"] != "welcome"]
        start = ann.kinds("welcome")[0]["seq"]
        assert [m["seq"] for m in main] == list(range(start + 1, start + 1 + len(main)))
        assert [m["type"] for m in main] == [
            "pinned", "offer.opened", "offer.sold_out", "offer.restocked", "unpinned",
            "offer.closed",
        ]  # fmt: skip


async def test_viewers_learn_what_a_host_revised(shop: Shop) -> None:
    """A new closes_at or quantity of a scheduled or open offer is told, with the offer."""
    stream = await shop.stream()
    later, sooner = 1_900_000_000_000, 1_900_000_060_000
    offer = await shop.offer(stream, opened=False, opens_at=later, quantity=2)
    path = f"/v1/offers/{offer}"
    async with lines(shop, stream, shop.host, token("viewer", "ann")) as (host, ann):
        for _ in range(2):  # the second changes nothing
            await shop.made("PATCH", path, {"closes_at": sooner})
        assert (await host.ask("offer.restock", offer=offer, add=3, key="r"))["type"] == "ok"
        await shop.made("PATCH", path, {"quantity": 7})
        await shop.made("PATCH", path, {"quantity": 6})
        assert (await host.ask("offer.open", offer=offer))["type"] == "ok"
        await shop.made("PATCH", path, {"closes_at": sooner + 1, "quantity": 8})
        await shop.made("PATCH", path, {"quantity": 3})
        await shop.made("POST", f"{path}/close")
        await ann.until(lambda m: m["type"] == "offer.closed")
        told = [m for m in ann.heard if "seq" in m and isinstance(m.get("offer"), dict)]
        assert [
            (m["type"], m.get("reason"), m["offer"]["status"], m["offer"]["quantity"],
             m["offer"].get("closes_at"))
            for m in told
        ] == [
            ("offer.scheduled", "revised", "scheduled", 2, sooner),
            ("offer.restocked", "host", "scheduled", 5, sooner),
            ("offer.restocked", "host", "scheduled", 7, sooner),
            ("offer.scheduled", "revised", "scheduled", 6, sooner),
            ("offer.opened", None, "open", 6, sooner),
            ("offer.restocked", "host", "open", 8, sooner),
            ("offer.opened", "revised", "open", 8, sooner + 1),
            ("offer.opened", "revised", "open", 3, sooner + 1),
        ]  # fmt: skip
        versions = [m["offer"]["version"] for m in told]
        assert versions == sorted(set(versions))


async def test_no_restock_passes_a_million(shop: Shop) -> None:
    """What would pass 1,000,000 units is bad_request of `add` on both ways in; what fits is not."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    path = f"/v1/offers/{offer}/restock"
    async with lines(shop, stream, shop.host) as (host,):
        refused = await host.ask("offer.restock", offer=offer, add=999_991, key="r")
        assert (refused["code"], refused["field"]) == ("bad_request", "add")
        response = await shop.call("POST", path, {"add": 999_991}, token=shop.host, key="r")
        assert paths(problem(response, 400, "bad_request")) == ["add"]
        made = await shop.made("POST", path, {"add": 999_990}, key="r")  # no key was bound
        assert made["quantity"] == 1_000_000
        assert (await host.ask("offer.close", offer=offer))["type"] == "ok"
        late = await host.ask("offer.restock", offer=offer, add=1, key="s")
        assert late["code"] == "conflict"


async def test_a_host_acts_on_this_stream_and_shop_only(shop: Shop) -> None:
    """Another shop's host is forbidden; another stream's offer or product is not_found."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    elsewhere = await shop.offer(await shop.stream())
    theirs = token("host", "h", shop="shop-2")
    async with lines(shop, stream, theirs, shop.host, token("viewer", "a")) as (other, host, ann):
        for name, fields in (
            ("offer.open", {"offer": offer}),
            ("offer.close", {"offer": offer}),
            ("offer.restock", {"offer": offer, "add": 1, "key": "k"}),
            ("pin", {"product": "pr_x"}),
            ("unpin", {"pin": "pin_x"}),
            ("mute", {"user": "ann"}),
            ("ban", {"user": "ann"}),
        ):
            for line in (other, ann):
                assert (await line.ask(name, **fields))["code"] == "forbidden", name
        for name in ("offer.open", "offer.close"):
            assert (await host.ask(name, offer=elsewhere))["code"] == "not_found"
        refused = await host.ask("pin", product="pr_none")
        assert (refused["code"], refused["field"]) == ("not_found", "product")
        assert (await host.ask("buy", offer=offer, qty=1, key="k"))["code"] == "forbidden"
        assert (await ann.ask("buy", offer=elsewhere, qty=1, key="k"))["code"] == "not_found"


async def test_mute_and_ban_hold_now_and_for_who_comes_back(shop: Shop) -> None:
    """A muted viewer may not chat, a banned one is put and kept out, each until unmuted."""
    stream = await shop.stream()
    ann = token("viewer", "ann")
    async with lines(shop, stream, shop.host, ann) as (host, line):
        assert (await host.ask("mute", user="ann"))["type"] == "ok"
        await line.until(lambda m: m["type"] == "muted")
        assert (await line.ask("chat", text="hi", key="1"))["code"] == "muted"
        async with lines(shop, stream, ann) as (later,):
            assert (await later.ask("chat", text="hi", key="2"))["code"] == "muted"
        assert (await host.ask("unmute", user="ann"))["type"] == "ok"
        assert (await line.ask("chat", text="hi", key="3"))["type"] == "ok"
        assert (await host.ask("ban", user="ann"))["type"] == "ok"
        assert await line.closed() == 4403
        async with lines(shop, stream, ann) as (later,):
            assert later.kinds("reject")[0]["code"] == "forbidden"
            assert await later.closed() == 4403
        assert (await host.ask("mute", user="ann"))["type"] == "ok"
        assert (await host.ask("unmute", user="ann"))["type"] == "ok"
        async with lines(shop, stream, ann) as (later,):
            assert (await later.ask("chat", text="hi", key="4"))["type"] == "ok"


async def test_a_host_names_another_user(shop: Shop) -> None:
    """A user is 1 to 128 bytes; nobody mutes or bans himself, and stays where he is."""
    stream = await shop.stream()
    async with lines(shop, stream, shop.host) as (host,):
        for kind in ("mute", "unmute", "ban"):
            for user in ("", "茶" * 43, "x" * 129, "a\nb", *["host-1"][: kind != "unmute"]):
                refused = await host.ask(kind, user=user)
                assert (refused.get("code"), refused.get("field")) == ("bad_request", "user"), user
            assert (await host.ask(kind, user="茶" * 42))["type"] == "ok"
        assert (await host.ask("unmute", user="host-1"))["type"] == "ok"


@pytest.mark.parametrize("rubbish", ["x" * 5_000, "茶" * 2_000, "a.b.c", "\x00", " "])
async def test_rubbish_for_a_token_is_refused(shop: Shop, rubbish: str) -> None:
    """In hello it ends in 4401, in auth the connection stays; too long is `bad_request`."""
    code = "bad_request" if len(rubbish) > 1_000 else "unauthenticated"
    stream = await shop.stream()
    async with lines(shop, stream, token("viewer", "ann")) as (line,):
        answer = await line.ask("auth", token=rubbish)
        assert (answer["type"], answer["code"]) == ("reject", code)
        assert (await line.ask("auth", token=token("viewer", "ann")))["type"] == "ok"
        async with lines(shop, stream, rubbish) as (later,):
            assert later.kinds("reject")[0]["code"] == code
            assert await later.closed() == 4401


@pytest.mark.parametrize("odd", ["st_none", "a%20b", "a%00b", "%ff", "a%2Fb", "x" * 5_000])
async def test_no_such_stream_is_said_in_the_protocol(shop: Shop, odd: str) -> None:
    """However odd the id: the upgrade is accepted, then `reject not_found` and 4404."""
    async with lines(shop, odd, token("viewer", "ann")) as (line,):
        assert line.kinds("reject")[0]["code"] == "not_found"
        assert await line.closed() == 4404


async def test_a_client_that_reads_gets_a_snapshot_of_any_size(shop: Shop) -> None:
    """Forty offers in many words, and two thousand lines missed, pass through a narrow socket."""
    stream, events = await shop.stream(), shop.services.events
    later = 4_000_000_000_000
    for _ in range(40):
        product = await shop.product(description="茶" * 5_000)
        body = {"product": product, "price_minor": 1, "quantity": 1, "opens_at": later}
        await shop.made("POST", f"/v1/streams/{stream}/offers", body)
    said = [
        chat_line("u", f"k{n}", Message(id=f"msg_{n}", user="u", name="u", text="茶" * 30, at=1))
        for n in range(2_000)
    ]
    for start in range(0, 2_000, 100):
        await events.append_lines(stream, said[start : start + 100])
    position = await events.position(stream)
    url = f"ws://127.0.0.1:{shop.port}/v1/streams/{stream}/ws"
    async with connect(url, compression=None, max_size=2**24) as connection:
        (session,) = shop.services.hub.sessions
        assert isinstance(session.socket, Wire)
        narrow = session.socket._transport.get_extra_info("socket")
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        line = Line(connection)
        since = {"epoch": position.epoch, "seq": position.seq, "cseq": 0}
        welcome = await line.ask("hello", since=since)
        assert welcome["recovered"] is True
        assert len(welcome["offers"]) == 40
        await line.until(lambda m: m.get("cseq") == 2_000 and m["type"] == "chat")
        assert (await line.ask("ping", t0=1))["type"] == "pong"
        shop.services.hub.bus_lost(tag_of(stream))
        resync = await line.until(lambda m: m["type"] == "resync")
        assert len(resync["offers"]) == 40
        assert (await line.ask("ping", t0=2))["type"] == "pong"


async def test_facts_that_the_log_lost_are_published_again(shop: Shop) -> None:
    """A log that stands behind what was published gets the missing facts, each once, in order."""
    stream = await shop.stream()
    announcer, events, redis = shop.services.announcer, shop.services.events, shop.services.redis
    keys = [f"{tag_of(stream)}:{stream}:{part}" for part in ("meta", "main")]

    async def pins(n: int) -> tuple[int, int]:
        for _ in range(n):
            body = {"product": await shop.product()}
            await shop.made("POST", f"/v1/streams/{stream}/pins", body)
        await announcer.publish(stream)
        position = await events.position(stream)
        return position.fact_n, position.seq

    assert await pins(1) == (2, 2)
    older = [await redis.dump(key) or b"" for key in keys]
    assert await pins(2) == (4, 4)
    for key, value in zip(keys, older, strict=True):  # a server that came back from an older copy
        await redis.restore(key, 0, value, replace=True)
    assert await pins(1) == (6, 6)  # the fourth pin takes the oldest away
    assert await shop.services.ledger.lagging_streams() == []
