"""Unit costs that no sale shows: connections, memory, deliveries, a lone buy, one more hub.

Owns a show of its own on a spawned server, and what is done in it: a crowd of bare sockets grows,
the host pins and speaks, stand-ins of further hubs listen to Redis. Returns samples; costs makes
unit costs of them. Called by costs, and by the check of a prediction for its crowd at rest.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio import Redis

from loadtest.frames import JSON, handshake, masked
from loadtest.meters import Meters, Reading
from loadtest.onlookers import Onlookers, Traffic
from loadtest.server import Target
from loadtest.web import Api, make_token
from streams.client import Client

#: Out of the way of a host that pins and speaks as fast as it can, and of a crowd that is silent.
SETTINGS: Final = {
    f"LIVECART_{of}_{bound}": "1000000"
    for of in ("CHAT", "HOST", "CONNECTS", "SELL")
    for bound in ("PER_S", "BURST")
} | {"LIVECART_HEARTBEAT_MS": "300000"}
WELCOME: Final = b'"type":"welcome"'
PINNED: Final = b'"type":"pinned"'
CHATTED: Final = b'"type":"chat"'
RESERVED: Final = b'"type":"order.reserved"'
TIMEOUT_S: Final = 30.0
SETTLE_S: Final = 0.5
BURST: Final = 20
TEXT: Final = "x" * 60
PUBLISHED: Final = 60
PUBLISHED_BYTES: Final = 32 * 1024
TAGS: Final = 64  # that streams share


@dataclass(slots=True)
class Stage:
    """What a crowd of one size took."""

    viewers: int
    connected: int  # of them, how many came last
    connecting: Reading
    rest_rss_bytes: float
    pins: int
    pinning: Reading
    pin_traffic: Traffic
    skew_s: float  # first to last viewer of a pin, the median
    chats: int
    chatting: Reading
    chat_traffic: Traffic


@dataclass(slots=True)
class LoneBuys:
    """Buys one after the other, of one viewer."""

    waits_s: list[float]
    used: Reading
    traffic: Traffic


@dataclass(slots=True)
class Hubs:
    """What further hubs cost Redis: the same done without and with so many stand-ins."""

    listeners: int
    events: int
    events_without: Reading
    events_with: Reading
    published_bytes: int
    publishing_without: Reading
    publishing: Reading
    leases: int
    idle_s: float
    idle: Reading
    idle_with_leases: Reading
    sums_per_s: float = field(default=2.0)  # how often a hub adds the leases up


class Show:
    """A live stream on a spawned server, with its host and a crowd that grows."""

    def __init__(
        self,
        target: Target,
        meters: Meters,
        host: Client,
        stream: str,
        product: str,
        settle_s: float = SETTLE_S,
    ) -> None:
        self.target = target
        self.meters = meters
        self.host = host
        self.stream = stream
        self.product = product
        self.settle_s = settle_s
        self._api = Api(target.http, target.host_token)
        self._shake = handshake(f"{target.ws}/v1/streams/{stream}/ws", JSON)
        self.crowd = Onlookers(self._shake)

    def hello(self, viewer: str) -> bytes:
        """The first frame of a viewer with a token."""
        token = make_token(self.target.secret, viewer, "viewer")
        return masked(JSON.opcode, JSON.encode({"type": "hello", "id": 0, "token": token}))

    async def grow(self, viewers: int) -> tuple[int, Reading]:
        """Have the crowd be so large; return how many came and what that took."""
        more = viewers - len(self.crowd)
        tag = secrets.token_hex(3)
        hellos = [self.hello(f"o{tag}-{n}") for n in range(more)]
        before = await self.meters.read()
        await asyncio.to_thread(self.crowd.connect, hellos, WELCOME, TIMEOUT_S)
        used = await self.meters.used_since(before)
        await asyncio.sleep(self.settle_s)  # what follows a crowd's coming is no part of the rest
        return more, used

    async def pins(self, times: int) -> tuple[Reading, Traffic, float]:
        """Pin one after the other, each once everybody has the one before."""
        skews = []
        traffic, before = self.crowd.traffic(), await self.meters.read()
        for _ in range(times):
            done = asyncio.create_task(
                asyncio.to_thread(self.crowd.wait_for, PINNED, len(self.crowd), TIMEOUT_S)
            )
            await self._command("pin", product=self.product)
            arrival = await done
            skews.append(arrival.last_at - arrival.first_at)
        used = await self.meters.used_since(before)
        return used, self.crowd.traffic().since(traffic), statistics.median(skews)

    async def chat(self, bursts: int) -> tuple[Reading, Traffic]:
        """Say so many bursts, each once everybody has the one before."""
        traffic, before = self.crowd.traffic(), await self.meters.read()
        for _ in range(bursts):
            done = asyncio.create_task(
                asyncio.to_thread(self.crowd.wait_for, CHATTED, BURST * len(self.crowd), TIMEOUT_S)
            )
            await asyncio.gather(*(self._say() for _ in range(BURST)))
            await done
        used = await self.meters.used_since(before)
        return used, self.crowd.traffic().since(traffic)

    async def stage(self, viewers: int, pins: int, bursts: int) -> Stage:
        """Grow to so many, then be still, pin, and speak."""
        came, connecting = await self.grow(viewers)
        rest = await self.meters.read()
        await self.pins(2)  # the first after a crowd's coming cost more
        pinning, pin_traffic, skew_s = await self.pins(pins)
        chatting, chat_traffic = await self.chat(bursts)
        return Stage(
            viewers=viewers,
            connected=came,
            connecting=connecting,
            rest_rss_bytes=rest.hub_rss_bytes,
            pins=pins,
            pinning=pinning,
            pin_traffic=pin_traffic,
            skew_s=skew_s,
            chats=bursts * BURST,
            chatting=chatting,
            chat_traffic=chat_traffic,
        )

    async def lone_buys(self, times: int) -> LoneBuys:
        """Have one viewer buy so often, each time after the answer to the last."""
        body = {
            "product": self.product,
            "price_minor": 1999,
            "quantity": times + 1,
            "per_viewer": times + 1,
            "hold_s": 600,
            "payment": "required",
        }
        made = await self._api.call("POST", f"/v1/streams/{self.stream}/offers", body)
        offer = str(made["id"])
        await self._api.call("POST", f"/v1/offers/{offer}/open")
        buyer, tag = Onlookers(self._shake), secrets.token_hex(3)
        try:
            await asyncio.to_thread(buyer.connect, [self.hello(f"b{tag}")], WELCOME, TIMEOUT_S)
            frames = [
                masked(
                    JSON.opcode,
                    JSON.encode(
                        {"type": "buy", "id": n + 1, "offer": offer, "qty": 1, "key": f"{tag}.{n}"}
                    ),
                )
                for n in range(times + 1)
            ]
            await asyncio.to_thread(buyer.ask, frames[0], RESERVED, TIMEOUT_S)  # the offer is known
            traffic, before = buyer.traffic(), await self.meters.read()
            waits = [
                await asyncio.to_thread(buyer.ask, frame, RESERVED, TIMEOUT_S)
                for frame in frames[1:]
            ]
            used = await self.meters.used_since(before)
            return LoneBuys(waits, used, buyer.traffic().since(traffic))
        finally:
            buyer.close()

    async def hubs(self, listeners: int, events: int, leases: int, idle_s: float) -> Hubs:
        """Have stand-ins of hubs listen, and see what each costs Redis."""
        redis: Any = self.meters.redis
        tails = [key async for key in redis.scan_iter(match="*:tail", count=1000)]
        without = await self._speak(events)
        alone = await self._publish(0)
        async with _listening(redis, tails, listeners):
            with_ = await self._speak(events)
            published = await self._publish(listeners)
        idle = await self.be_still(idle_s)
        present = [key async for key in redis.scan_iter(match="*:present", count=1000)]
        fakes = {f"loadtest-{n}": "0:9999999999999" for n in range(leases)}
        for key in present:
            await redis.hset(key, mapping=fakes)
        try:
            crowded = await self.be_still(idle_s)
        finally:
            for key in present:
                await redis.hdel(key, *fakes)
        return Hubs(
            listeners=listeners,
            events=events,
            events_without=without,
            events_with=with_,
            published_bytes=PUBLISHED * PUBLISHED_BYTES,
            publishing_without=alone,
            publishing=published,
            leases=leases * len(present),
            idle_s=idle_s,
            idle=idle,
            idle_with_leases=crowded,
        )

    async def _speak(self, events: int) -> Reading:
        before = await self.meters.read()
        for _ in range(events):
            await self._say()
        return await self.meters.used_since(before)

    async def _publish(self, listeners: int) -> Reading:
        """Publish to as many subscribers on a channel of our own, and wait until all was read."""
        redis, channel = self.meters.redis, f"loadtest:{secrets.token_hex(4)}"
        body = b"x" * PUBLISHED_BYTES
        async with _subscribed(redis, channel, listeners) as readers:
            before = await self.meters.read()
            for _ in range(PUBLISHED):
                await redis.publish(channel, body)
            await asyncio.gather(*readers)
            return await self.meters.used_since(before)

    async def be_still(self, seconds: float) -> Reading:
        """Return what is used while nothing is said."""
        before = await self.meters.read()
        await asyncio.sleep(seconds)
        return await self.meters.used_since(before)

    async def _say(self) -> None:
        await self._command("chat", text=TEXT, key=secrets.token_hex(8))

    async def _command(self, name: str, **fields: Any) -> None:
        answer = await self.host.command(name, **fields)
        if answer["type"] != "ok":
            raise ConnectionError(f"{name} was answered {answer}")


@asynccontextmanager
async def show(target: Target, meters: Meters, settle_s: float = SETTLE_S) -> AsyncIterator[Show]:
    """Set a stream up, with a product and a host who is connected."""
    api = Api(target.http, target.host_token)
    stream = str((await api.call("POST", "/v1/streams", {"title": "Calibration"}))["id"])
    product = {"title": "限量茶具組", "price_minor": 1999, "currency": "TWD"}
    made = await api.call("POST", "/v1/products", product | {"sku": f"C-{secrets.token_hex(4)}"})
    await api.call("POST", f"/v1/streams/{stream}/start")
    async with Client.connect(target.ws, stream, token=target.host_token) as host:
        one = Show(target, meters, host, stream, str(made["id"]), settle_s)
        try:
            yield one
        finally:
            one.crowd.close()


@asynccontextmanager
async def _listening(redis: Any, tails: Sequence[bytes], listeners: int) -> AsyncIterator[None]:
    """Read the tails as so many hubs do, each on connections of its own."""

    async def follow(tail: bytes) -> None:
        seen: bytes | str = "$"
        while True:
            found = await redis.xread({tail: seen}, count=500, block=1_000)
            seen = found[0][1][-1][0] if found else seen

    tasks = [asyncio.create_task(follow(tail)) for tail in tails for _ in range(listeners)]
    try:
        await asyncio.sleep(SETTLE_S)  # until each has asked: nothing tells of it
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _subscribed(
    redis: Any, channel: str, listeners: int
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Subscribe so many times; each task ends once it has read all that is published."""

    async def hear(pubsub: Any) -> None:
        for _ in range(PUBLISHED):
            while await pubsub.get_message(ignore_subscribe_messages=True, timeout=5.0) is None:
                pass

    heard = [redis.pubsub() for _ in range(listeners)]
    try:
        for one in heard:
            await one.subscribe(channel)
            await one.get_message(timeout=5.0)  # the confirmation
        yield [asyncio.create_task(hear(one)) for one in heard]
    finally:
        for one in heard:
            await one.aclose()


@dataclass(slots=True)
class Overheard:
    """What one more hub would be told."""

    bytes: int = 0


@asynccontextmanager
async def overheard(redis_url: str) -> AsyncIterator[Overheard]:
    """Listen to all that hubs tell each other, as one more of them."""
    found = Overheard()

    async def hear() -> None:
        while True:
            kind, _, payload = await connection.read_response(
                timeout=None, disconnect_on_error=False
            )
            if kind == b"smessage":
                found.bytes += len(payload)

    # The older protocol: messages come as answers do, and this connection asks nothing else.
    redis: Any = Redis.from_url(redis_url, protocol=2)
    connection = redis.connection_pool.make_connection()
    await connection.connect()
    try:
        channels = [f"{{log:{tag:02d}}}:bus" for tag in range(TAGS)]
        await connection.send_command("SSUBSCRIBE", *channels)
        for _ in channels:
            await connection.read_response()
        hearing = asyncio.create_task(hear())
        try:
            yield found
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
    finally:
        await connection.disconnect()
        await redis.aclose()
