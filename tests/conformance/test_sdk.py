"""What only `livecart.js` does: events over HTTP, hoped-for state, what pages subscribe to.

Runs it in Node.js against a real server, behind the same relay as the conformance tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.conformance.drivers import SdkDriver, Tokens, hears, kinds, sdk_client
from tests.conformance.test_clients import Scene, caught_up, staging, unbroken
from tests.contract.http_rig import token
from tests.shop import until

ANN = token("viewer", "ann", name="Ann")
TRIAL = {"trialMs": 200}  # until WebSocket is tried again


@pytest.fixture
async def scene(redis_url: str, database_url: str) -> AsyncIterator[Scene]:
    """A scene of this test's own."""
    async with staging(redis_url, database_url) as scene:
        yield scene


async def goes_by(sdk: SdkDriver, transport: str) -> None:
    """Wait until it is connected by a way."""
    await until(lambda: (sdk.status["status"], sdk.status.get("transport")) == ("open", transport))


async def test_where_websocket_is_blocked_events_come_over_http(scene: Scene) -> None:
    """All that a viewer does works, and nothing is lost or doubled by a cut."""
    scene.relay.blocked = True
    offer = await scene.shop.offer(scene.stream, quantity=2, per_viewer=5)
    second = await scene.shop.offer(scene.stream)
    times = {"trialMs": 60_000}
    async with sdk_client(scene.relay.port, scene.stream, ANN, times=times) as ann:
        await goes_by(ann, "events")
        assert (await hears(ann, "welcome"))["you"]["id"] == "ann"
        assert sum(b"/ws " in line for line in scene.relay.asked) == 3
        bought = await ann.buy(offer, 1, "k1")
        assert bought["order"]["status"] == "reserved"
        assert (await ann.buy(offer, 1, "k1"))["replayed"] is True
        assert (await ann.buy(offer, 2, "k1"))["code"] == "key_reused"
        assert (await ann.buy(offer, 2))["code"] == "sold_out"
        assert (await ann.wait(offer, 2))["position"] == 1
        assert "code" not in await ann.call("leave", offer)
        lines = [{"offer": offer, "qty": 1}, {"offer": second, "qty": 1}]
        assert len((await ann.call("buyBundle", lines))["orders"]) == 2
        cancelled = await ann.cancel(bought["order"]["id"])
        assert cancelled["order"]["status"] == "cancelled"
        said = await ann.chat("hello")
        assert (await hears(ann, "chat"))["message"] == said["message"]
        await ann.call("react", "love")
        assert (await hears(ann, "reactions"))["counts"] == {"love": 1}
        assert (await ann.call("moderate", "mute", {"user": "bob"}))["code"] == "unknown_type"
        scene.relay.away = True
        scene.relay.cut()
        await scene.pin()
        await scene.say("meanwhile")
        scene.relay.away = False
        await caught_up(scene, ann)
        assert kinds(ann, "welcome")[-1]["recovered"] is True


async def test_it_goes_back_to_websocket_as_soon_as_that_gets_through(scene: Scene) -> None:
    """From events over HTTP to WebSocket, without a gap, and a buy under way is made once."""
    scene.relay.blocked = True
    offer = await scene.shop.offer(scene.stream, per_viewer=5)
    async with sdk_client(scene.relay.port, scene.stream, ANN, times=TRIAL) as ann:
        await goes_by(ann, "events")
        await scene.pin()
        scene.relay.blocked = False
        outcome = await ann.buy(offer, 1)
        await goes_by(ann, "socket")
        await scene.say("by socket now")
        await caught_up(scene, ann)
        orders = await scene.orders(offer)
        assert [order["id"] for order in orders] == [outcome["order"]["id"]]


async def test_events_over_http_have_their_token_renewed(scene: Scene) -> None:
    """Before it ends the client comes back with a fresh one, from where it was."""
    tokens: Tokens = [lambda: token("viewer", "ann", ttl_s=6), ANN]
    async with sdk_client(scene.relay.port, scene.stream, tokens, transports=["events"]) as ann:
        await hears(ann, "welcome", 2)
        await scene.pin()
        await caught_up(scene, ann)
        assert "order" in await ann.buy(await scene.shop.offer(scene.stream))
        assert ann.stopped is None


@pytest.mark.parametrize("transport", ["socket", "events"])
async def test_a_host_does_the_same_by_either_way(scene: Scene, transport: str) -> None:
    """Pins, and all that an offer goes through, with the same outcomes."""
    shop = scene.shop
    product = await shop.product()
    offer = await shop.offer(scene.stream, opened=False)
    async with sdk_client(
        scene.relay.port, scene.stream, shop.host, transports=[transport]
    ) as host:
        pin = (await host.call("moderate", "pin", {"product": product}))["pin"]
        assert (await hears(host, "pinned"))["pin"] == pin
        steps = {"open": "opened", "pause": "paused", "resume": "opened", "close": "closed"}
        for n, (step, kind) in enumerate(steps.items()):
            assert "code" not in await host.call("moderate", f"offer.{step}", {"offer": offer})
            await hears(host, f"offer.{kind}", 2 if n == 2 else 1)
            if step == "resume":
                more = {"offer": offer, "add": 5}
                assert "code" not in await host.call("moderate", "offer.restock", more)
                assert (await hears(host, "offer.restocked"))["offer"]["quantity"] == 15
        assert "code" not in await host.call("moderate", "chat.slow", {"every_s": 5})
        assert "code" not in await host.call("moderate", "unpin", {"pin": pin["id"]})
        await hears(host, "unpinned")
        assert (await host.call("moderate", "offer.open", {"offer": "of_no"}))[
            "code"
        ] == "not_found"
        await caught_up(scene, host)


async def test_a_server_that_ends_events_is_understood(scene: Scene) -> None:
    """Its last word is acted on like a close code; a refusal too."""
    async with sdk_client(scene.relay.port, scene.stream, ANN, transports=["events"]) as ann:
        await scene.shop.services.catalog.ban(scene.stream, "ann")
        scene.shop.services.hub.control(scene.stream, "ban", "ann")
        await until(lambda: ann.stopped == 4403)
    async with sdk_client(scene.relay.port, scene.stream, ANN, transports=["events"]) as again:
        assert again.stopped == 4403
    async with sdk_client(scene.relay.port, "st_nothing", transports=["events"]) as nobody:
        assert nobody.stopped == 4404


async def test_a_buy_shows_at_once_and_a_refusal_takes_it_back(scene: Scene) -> None:
    """An order is `reserving` until the answer; the stock moves by the server's word alone."""
    offer = await scene.shop.offer(scene.stream, quantity=1)
    async with sdk_client(scene.relay.port, scene.stream, ANN) as ann:
        stock = await ann.do("get", part="stock")
        assert stock[offer] == {"left": 1, "quantity": 1, "status": "open"}
        await ann.do("watch", part="orders")
        bought = await ann.buy(offer)
        assert (await ann.buy(offer))["code"] == "limit_reached"
        await until(lambda: len(ann.values) >= 4)
        shown = [[order["status"] for order in orders] for orders in ann.values]
        assert shown == [
            ["reserving"], ["reserved"], ["reserving", "reserved"], ["reserved"],
        ]  # fmt: skip
        hoped, made = ann.values[0][0], ann.values[1][0]
        assert made["id"] == bought["order"]["id"]
        for name in ("offer", "product", "viewer", "qty", "amount_minor", "currency", "key"):
            assert hoped[name] == made[name], name
        scene.relay.hold()
        cancelling = asyncio.create_task(ann.cancel(made["id"]))
        await until(lambda: ann.values[-1][0].get("pending") == "cancelling")
        scene.relay.release()
        await cancelling
        await until(lambda: [order["status"] for order in ann.values[-1]] == ["cancelled"])
        assert "pending" not in ann.values[-1][0]


async def test_a_line_shows_at_once_and_once(scene: Scene) -> None:
    """What one says is in its place before the answer, never twice, and gone when refused."""
    async with sdk_client(scene.relay.port, scene.stream, ANN) as ann:
        await ann.do("watch", part="chat")
        scene.relay.hold()
        saying = asyncio.create_task(ann.chat("hello"))
        await until(lambda: ann.values)
        (line,) = ann.values[0]
        assert (line["text"], line["name"], line["pending"]) == ("hello", "Ann", True)
        scene.relay.release()
        message = (await saying)["message"]
        await caught_up(scene, ann)
        await until(lambda: ann.values[-1] == [message])
        assert all(len(lines) == 1 for lines in ann.values)
        assert "code" in await ann.chat("x" * 301)
        await until(lambda: len(ann.values[-1]) == 1)
        assert [len(lines) for lines in ann.values[-2:]] == [2, 1]


async def test_an_outcome_that_was_not_learnt_keeps_its_key(scene: Scene) -> None:
    """Who buys again after `unknown` gets the first order, not a second one."""
    offer = await scene.shop.offer(scene.stream, per_viewer=5)
    times = {"resendMs": 1_000}
    async with sdk_client(scene.relay.port, scene.stream, ANN, times=times) as ann:
        scene.relay.hold()
        assert (await ann.buy(offer))["code"] == "unknown"
        assert await ann.do("get", part="orders") == []
        scene.relay.cut()
        # Kept back until the buy is asked for again: `welcome` would tell of the order before.
        again = asyncio.create_task(ann.buy(offer))
        scene.relay.release()
        outcome = await again
        orders = await scene.orders(offer)
        assert [order["id"] for order in orders] == [outcome["order"]["id"]]


async def test_a_page_that_cannot_have_a_token_is_told(scene: Scene) -> None:
    """`getToken` that fails is asked again; the page hears of it."""
    async with sdk_client(scene.relay.port, scene.stream, ["", "", ANN]) as ann:
        assert (await hears(ann, "welcome"))["you"]["id"] == "ann"
        assert ann.notices == [{"type": "token", "why": "no token now"}] * 2
        assert ann.statuses.count("waiting") == 2
        assert scene.relay.count('"hello"') == 1


async def test_closing_ends_and_connecting_starts_again(scene: Scene) -> None:
    """`close` is kept to whatever happens; `connect` goes on from where it was."""
    async with sdk_client(scene.relay.port, scene.stream, ANN) as ann:
        await ann.call("close")
        await until(lambda: not scene.shop.services.hub.sessions)
        assert ann.status["status"] == "idle"
        await scene.pin()
        await ann.call("connect")
        await hears(ann, "welcome", 2)
        await caught_up(scene, ann)
        assert unbroken(ann.heard)[0] > 0
        assert kinds(ann, "welcome")[1]["recovered"] is True


async def test_what_one_person_asked_for_is_not_done_for_the_next(scene: Scene) -> None:
    """With another person's token a buy under way ends as `unknown`; with one's own it goes on."""
    offer = await scene.shop.offer(scene.stream, per_viewer=5)
    async with sdk_client(scene.relay.port, scene.stream, ANN) as ann:
        await ann.do("watch", part="orders")
        scene.relay.away = True
        scene.relay.cut()
        await until(lambda: ann.status["status"] == "waiting")
        asked = asyncio.create_task(ann.buy(offer))
        await until(lambda: ann.values)
        await ann.call("setToken", token("viewer", "ann", ttl_s=600))
        assert not asked.done()
        await ann.call("setToken", token("viewer", "bob"))
        assert (await asked)["code"] == "unknown"
        scene.relay.away = False
        await until(lambda: ann.status["status"] == "open")
        assert "message" in await ann.chat("hello")  # what was kept would have gone before it
        assert await scene.orders(offer) == []
