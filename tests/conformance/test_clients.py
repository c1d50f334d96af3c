"""Both clients hold to the protocol against a real server: the same scenarios for each.

The network between them is a relay that can break in each way that networks do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from streams.log import tag_of
from tests.conformance.drivers import ANSWER_MS, CLIENTS, Make, Tokens, hears, kinds
from tests.conformance.relay import Relay, relaying
from tests.contract.http_rig import Json, Shop, serving, token
from tests.shop import until


@pytest.fixture(params=sorted(CLIENTS))
def client(request: pytest.FixtureRequest) -> Make:
    """Each of the clients."""
    make: Make = CLIENTS[request.param]
    return make


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the Python client's pauses short, as the driver of the other one does."""
    monkeypatch.setattr("streams.resume.BACKOFF_MIN_S", 0.01)
    monkeypatch.setattr("streams.resume.BACKOFF_MAX_S", 0.02)
    monkeypatch.setattr("streams.client.ANSWER_TIMEOUT_S", ANSWER_MS / 1000)


@dataclass
class Scene:
    """A server with a live stream, and the relay before it."""

    shop: Shop
    relay: Relay
    stream: str

    async def pin(self) -> None:
        """Make one main event, or two once three pins are shown."""
        body = {"product": await self.shop.product()}
        await self.shop.made("POST", f"/v1/streams/{self.stream}/pins", body)

    async def say(self, text: str) -> None:
        """Make one chat event."""
        path = f"/v1/streams/{self.stream}/chat"
        await self.shop.made("POST", path, {"text": text}, key=text.replace(" ", "-"))

    async def orders(self, offer: str) -> list[Json]:
        """Return the orders that there are, as the host sees them."""
        found: list[Json] = (await self.shop.made("GET", f"/v1/orders?offer={offer}"))["items"]
        return found

    async def head(self) -> tuple[int, int]:
        """Return the last numbers of both sequences."""
        position = await self.shop.services.events.position(self.stream)
        return position.seq, position.cseq


@asynccontextmanager
async def staging(redis_url: str, database_url: str) -> AsyncIterator[Scene]:
    """Set the scene until the block ends."""
    async with serving(redis_url, database_url) as shop, relaying(shop.port) as relay:
        yield Scene(shop, relay, await shop.stream())


@pytest.fixture
async def scene(redis_url: str, database_url: str) -> AsyncIterator[Scene]:
    """A scene of this test's own."""
    async with staging(redis_url, database_url) as scene:
        yield scene


def unbroken(heard: list[Json]) -> tuple[int, int]:
    """Hold both sequences to be without gap and double; return the last number of each."""
    last = {"seq": -1, "cseq": -1}
    for event in heard:
        snapshot = event["type"] in ("welcome", "resync")
        for name in last:
            if snapshot and not event.get("recovered"):
                last[name] = event[name]
            elif not snapshot and name in event:
                assert event["type"] == "chat.skipped" or event[name] == last[name] + 1, heard
                last[name] = event[name]
    return last["seq"], last["cseq"]


async def caught_up(scene: Scene, driver: Any) -> None:
    """Wait until a client has heard all that there is, and hold it to have heard it once."""

    async def there() -> bool:
        return unbroken(driver.heard) == await scene.head()

    await until(there)


async def test_a_client_is_welcomed_as_who_it_is(scene: Scene, client: Make) -> None:
    """First comes `welcome`, as the token says or as a guest."""
    await scene.say("before")
    async with client(scene.relay.port, scene.stream, token("viewer", "ann", name="Ann")) as ann:
        welcome = await hears(ann, "welcome")
        assert ann.heard[0] == welcome
        assert welcome["you"] == {"id": "ann", "role": "viewer", "name": "Ann"}
        assert "recovered" not in welcome
        await caught_up(scene, ann)
    async with client(scene.relay.port, scene.stream) as guest:
        assert (await hears(guest, "welcome"))["you"]["role"] == "guest"


async def test_a_buy_is_an_order_and_its_key_is_good_once(scene: Scene, client: Make) -> None:
    """The same key again is the same order; with another quantity it is refused."""
    offer = await scene.shop.offer(scene.stream, per_viewer=5)
    async with client(scene.relay.port, scene.stream, token("viewer", "ann")) as ann:
        first = await ann.buy(offer, 2, "k1")
        assert (first["order"]["status"], first["replayed"]) == ("reserved", False)
        again = await ann.buy(offer, 2, "k1")
        assert (again["order"]["id"], again["replayed"]) == (first["order"]["id"], True)
        assert (await ann.buy(offer, 1, "k1"))["code"] == "key_reused"
        assert [order["id"] for order in await scene.orders(offer)] == [first["order"]["id"]]
        await until(lambda: any(e["left"] == 8 for e in kinds(ann, "stock")))


async def test_refusals_are_values(scene: Scene, client: Make) -> None:
    """What cannot be bought is told by its code, at once and without another attempt."""
    shop, stream = scene.shop, scene.stream
    offers = {
        "sold_out": await shop.offer(stream, quantity=1, per_viewer=2),
        "limit_reached": await shop.offer(stream),
        "not_open": await shop.offer(stream),
        "closed": await shop.offer(stream),
        "not_found": await shop.offer(stream, opened=False),
        "bad_request": "",
    }
    await shop.made("POST", f"/v1/offers/{offers['not_open']}/pause")
    await shop.made("POST", f"/v1/offers/{offers['closed']}/close")
    async with client(scene.relay.port, stream, token("viewer", "ann")) as ann:
        for code, offer in offers.items():
            assert (await ann.buy(offer, 2))["code"] == code
        assert scene.relay.count('"buy"') == len(offers)
    async with client(scene.relay.port, stream) as guest:
        assert (await guest.buy(offers["limit_reached"]))["code"] == "unauthenticated"


async def test_what_is_held_can_be_given_back(scene: Scene, client: Make) -> None:
    """A cancelled order frees its unit for whoever waits."""
    offer = await scene.shop.offer(scene.stream, quantity=1)
    async with AsyncExitStack() as stack:
        ann, bob = [
            await stack.enter_async_context(
                client(scene.relay.port, scene.stream, token("viewer", who))
            )
            for who in ("ann", "bob")
        ]
        order = (await ann.buy(offer))["order"]
        assert (await bob.wait(offer))["position"] == 1
        assert (await ann.cancel(order["id"]))["order"]["status"] == "cancelled"
        assert (await hears(bob, "order.reserved"))["order"]["viewer"] == "bob"
        assert "code" in await ann.cancel("or_nothing")


async def test_what_is_said_is_heard_by_all(scene: Scene, client: Make) -> None:
    """A line is answered with its message, and heard once by everybody."""
    async with (
        client(scene.relay.port, scene.stream, token("viewer", "ann")) as ann,
        client(scene.relay.port, scene.stream) as guest,
    ):
        message = (await ann.chat("限時 <b>搶購</b>"))["message"]
        assert (await hears(guest, "chat"))["message"] == message
        assert (await guest.chat("me too"))["code"] == "unauthenticated"
        await caught_up(scene, ann)
        assert len(kinds(ann, "chat")) == 1


async def test_after_a_cut_nothing_is_lost_and_nothing_twice(scene: Scene, client: Make) -> None:
    """What happened while the network was away follows, in order, each event once."""
    async with client(scene.relay.port, scene.stream, token("viewer", "ann")) as ann:
        for round_ in range(3):
            await scene.pin()
            await scene.say(f"before {round_}")
            await caught_up(scene, ann)
            scene.relay.away = True
            scene.relay.cut()
            await scene.pin()
            await scene.say(f"meanwhile {round_}")
            scene.relay.away = False
            await hears(ann, "welcome", round_ + 2)
            await caught_up(scene, ann)
        assert all(event["recovered"] for event in kinds(ann, "welcome")[1:])
        assert len(kinds(ann, "chat")) == 6


async def test_a_lost_log_means_starting_anew(scene: Scene, client: Make) -> None:
    """After `resync` counting goes on from the snapshot, in its epoch."""
    services = scene.shop.services
    async with client(scene.relay.port, scene.stream) as guest:
        await scene.pin()
        await caught_up(scene, guest)
        tag = tag_of(scene.stream)
        for part in ("meta", "main", "chat"):
            await services.redis.delete(f"{tag}:{scene.stream}:{part}")
        services.hub.bus_lost(tag)
        resync = await hears(guest, "resync")
        assert resync["epoch"] != guest.heard[0]["epoch"]
        await scene.pin()
        await scene.say("again")
        await caught_up(scene, guest)


async def test_a_gap_is_noticed_and_filled(scene: Scene, client: Make) -> None:
    """An event that is lost on the way makes the client come back and have it."""
    lost: list[str] = []

    def once(text: str) -> bool:
        if '"pinned"' in text and not lost:
            lost.append(text)
            return True
        return False

    scene.relay.lose = once
    async with client(scene.relay.port, scene.stream) as guest:
        await scene.pin()
        await scene.pin()
        await hears(guest, "welcome", 2)
        await caught_up(scene, guest)
        assert lost
        assert len(kinds(guest, "pinned")) == 2


async def test_a_deploy_is_survived(redis_url: str, database_url: str, client: Make) -> None:
    """A server that drains sends its clients to the next one, where everything goes on."""
    async with AsyncExitStack() as stack:
        async with serving(redis_url, database_url) as old:
            relay = await stack.enter_async_context(relaying(old.port))
            scene = Scene(old, relay, await old.stream())
            offer = await old.offer(scene.stream)
            ann = await stack.enter_async_context(
                client(relay.port, scene.stream, token("viewer", "ann"))
            )
            order = (await ann.buy(offer, 1, "k"))["order"]
            await caught_up(scene, ann)
            relay.away = True
            await old.services.hub.drain(0)
        await hears(ann, "draining")
        async with serving(redis_url, database_url) as new:
            scene.shop, relay.target, relay.away = new, new.port, False
            await scene.say("we are back")
            welcome = await hears(ann, "welcome", 2)
            assert [known["id"] for known in welcome["orders"]] == [order["id"]]
            await caught_up(scene, ann)
            assert (await ann.buy(offer, 1, "k"))["order"]["id"] == order["id"]
            await stack.aclose()


async def test_a_slow_answer_makes_one_order(scene: Scene, client: Make) -> None:
    """A buy that is not answered in time is sent again with its key: there is one order."""
    offer = await scene.shop.offer(scene.stream, per_viewer=5)
    async with client(scene.relay.port, scene.stream, token("viewer", "ann")) as ann:
        scene.relay.hold()
        buying = asyncio.create_task(ann.buy(offer, 1))
        await until(lambda: scene.relay.count('"buy"') >= 3)
        assert not buying.done()
        scene.relay.release()
        bought = await buying
        assert [order["id"] for order in await scene.orders(offer)] == [bought["order"]["id"]]


async def test_an_answer_that_is_cut_off_makes_one_order(scene: Scene, client: Make) -> None:
    """A buy whose answer was lost with the connection is learnt after it, and made once."""
    offer = await scene.shop.offer(scene.stream, per_viewer=5)
    async with client(scene.relay.port, scene.stream, token("viewer", "ann")) as ann:
        scene.relay.hold()
        buying = asyncio.create_task(ann.buy(offer, 1))

        async def made() -> bool:
            return len(await scene.orders(offer)) == 1

        await until(made)
        scene.relay.cut()
        scene.relay.release()
        bought = await buying
        assert [order["id"] for order in await scene.orders(offer)] == [bought["order"]["id"]]


async def test_a_token_is_renewed_before_it_ends(scene: Scene, client: Make) -> None:
    """The connection outlives its first token without a break."""
    tokens: Tokens = [lambda: token("viewer", "ann", ttl_s=6), token("viewer", "ann")]
    async with client(scene.relay.port, scene.stream, tokens) as ann:
        await until(lambda: scene.relay.count('"auth"') == 1)
        offer = await scene.shop.offer(scene.stream)
        assert "order" in await ann.buy(offer)
        (session,) = scene.shop.services.hub.sessions
        ends_ms = session.identity.exp_ms
        assert ends_ms is not None
        assert ends_ms > scene.shop.services.clock.now_ms() + 3_600_000
        assert len(kinds(ann, "welcome")) == 1


async def test_a_refused_token_is_replaced(scene: Scene, client: Make) -> None:
    """Where another token can be had it is asked for, else the client stops with 4401."""
    old, good = token("viewer", "ann", ttl_s=-5), token("viewer", "ann")
    async with client(scene.relay.port, scene.stream, [old, good]) as ann:
        assert (await hears(ann, "welcome"))["you"]["id"] == "ann"
        assert scene.relay.count('"hello"') <= 2
    async with client(scene.relay.port, scene.stream, "not a token") as nobody:
        assert nobody.stopped == 4401


async def test_there_is_no_coming_back_after_a_ban(scene: Scene, client: Make) -> None:
    """Who is banned is told so, and does not try again; nor where there is no stream."""
    async with client(scene.relay.port, scene.stream, token("viewer", "ann")) as ann:
        await scene.shop.services.catalog.ban(scene.stream, "ann")
        scene.shop.services.hub.control(scene.stream, "ban", "ann")
        await until(lambda: ann.stopped == 4403)
        assert scene.relay.count('"hello"') == 1
    async with client(scene.relay.port, "st_nothing") as nobody:
        assert nobody.stopped == 4404
