"""A shop for tests: the real selling core on real servers, with a listener that remembers.

Used by the tests of `orders`; builds what `livecart` builds, without sockets.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from orders.changes import Changes
from orders.ids import Ids
from orders.keeper import Keeper, KeeperLimits
from orders.ledger.ledger import Admitted, Ledger
from orders.ledger.pool import open_pool
from orders.limits import SellingLimits
from orders.rebuild import Rebuilder
from orders.records import (
    Accepted,
    Bundle,
    Bundled,
    BundleOutcome,
    Buy,
    Figures,
    Offer,
    Order,
    Outcome,
    Refused,
)
from orders.selling import Selling
from orders.stock.cluster import ClusterClient, open_client
from orders.stock.gate import Gate, Standing
from orders.stock.keys import key_field, keys_of
from orders.whole import sum_up

_numbers = itertools.count(1)


class Remembering:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.sales: list[Order] = []
        self.changes: list[Order] = []
        self.last: dict[str, Figures] = {}
        self.streams: list[str] = []

    def sold(self, sales: Sequence[tuple[Buy, Order]], figures: Figures | None) -> None:
        self.sales += [order for _, order in sales]
        if figures is not None:
            self.figures(figures)

    def changed(self, orders: Sequence[Order]) -> None:
        self.changes += orders

    def figures(self, figures: Figures) -> None:
        known = self.last.get(figures.offer)
        if known is None or known.version < figures.version:
            self.last[figures.offer] = figures

    def told(self, stream: str) -> None:
        self.streams.append(stream)


class Hub:
    """One hub's selling, as one worker process has it."""

    def __init__(
        self, pool: asyncpg.Pool[asyncpg.Record], client: redis.asyncio.Redis | ClusterClient,
        limits: SellingLimits, keeper_limits: KeeperLimits,
    ) -> None:  # fmt: skip
        self.heard = Remembering()
        self.ledger = Ledger(pool)
        self.gate = Gate(client, limits.unwritten_offer_max)
        self.rebuilder = Rebuilder(self.gate, self.ledger)
        self.changes = Changes(self.ledger, self.rebuilder, self.heard)
        self.ids = Ids(lambda: int(time.time() * 1000))
        self.selling = Selling(self.gate, self.ledger, self.heard, self.ids, limits, self.rebuilder)
        self.keeper = Keeper(
            self.ledger, self.gate, self.changes, self.rebuilder, self.heard, keeper_limits
        )

    def start_buy(
        self, offer: str, viewer: str, qty: int = 1, key: str | None = None
    ) -> asyncio.Future[Outcome]:
        """Send a buy in; the future is its outcome."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(buy: Buy, outcome: Outcome) -> None:
            future.set_result(outcome)

        self.selling.buy(Buy(offer, viewer, qty, key or f"k{next(_numbers)}", done))
        return future

    async def buy(self, offer: str, viewer: str, qty: int = 1, key: str | None = None) -> Outcome:
        """Buy and wait for the outcome."""
        return await self.start_buy(offer, viewer, qty, key)

    async def buy_until_final(
        self, offer: str, viewer: str, qty: int = 1, key: str | None = None
    ) -> Outcome:
        """Buy, sending the same key again while the answer is `retry`, as a client does."""
        key = key or f"k{next(_numbers)}"
        async with asyncio.timeout(30):
            while True:
                outcome = await self.buy(offer, viewer, qty, key)
                if not (isinstance(outcome, Refused) and outcome.why == "retry"):
                    return outcome
                await asyncio.sleep(0.02)

    def start_bundle(
        self, stream: str, viewer: str, lines: Sequence[tuple[str, int]], key: str | None = None
    ) -> asyncio.Future[BundleOutcome]:
        """Send a bundle in; the future is its outcome."""
        future: asyncio.Future[BundleOutcome] = asyncio.get_running_loop().create_future()
        bundle = Bundle(
            stream, viewer, lines, key or f"k{next(_numbers)}", lambda _, o: future.set_result(o)
        )
        self.selling.bundles.buy(bundle)
        return future

    async def bundle(
        self, stream: str, viewer: str, lines: Sequence[tuple[str, int]], key: str | None = None
    ) -> BundleOutcome:
        """Buy a bundle, sending the same key again while the answer is `retry`."""
        key = key or f"k{next(_numbers)}"
        async with asyncio.timeout(30):
            while True:
                outcome = await self.start_bundle(stream, viewer, lines, key)
                if not (isinstance(outcome, Refused) and outcome.why == "retry"):
                    return outcome
                await asyncio.sleep(0.02)

    async def left(self, offer: str) -> int:
        """Return what the gate says is left; below zero while more is held than there is."""
        standing = await self.gate.probe(offer, 1 << 40, 0)
        assert isinstance(standing, Standing)
        return standing.left

    @asynccontextmanager
    async def held_up(self, offer: str, buys: int) -> AsyncIterator[list[asyncio.Future[Outcome]]]:
        """Have so many buys held, of viewers v0, v1…; they are admitted when the block ends."""
        admit, go = self.ledger.admit, asyncio.Event()

        async def slow(*args: Any) -> Admitted:
            await go.wait()
            return await admit(*args)

        async def all_held() -> bool:
            standing = await self.gate.probe(offer, 1 << 40, 0)
            return isinstance(standing, Standing) and standing.unwritten == buys

        self.ledger.admit = slow  # type: ignore[method-assign,assignment]
        try:
            futures = [self.start_buy(offer, f"v{n}") for n in range(buys)]
            await until(all_held)
            yield futures
        finally:
            self.ledger.admit = admit  # type: ignore[method-assign]
            go.set()


class Shop:
    """A database with one live stream, and any number of hubs on it."""

    def __init__(self, database_url: str, redis_url: str, gate_url: str | None = None) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.gate_url = gate_url  # of a server or a cluster that must answer; else `redis_url`
        self.hubs: list[Hub] = []
        self._pools: list[asyncpg.Pool[asyncpg.Record]] = []
        self._clients: list[redis.asyncio.Redis | ClusterClient] = []

    async def hub(
        self, limits: SellingLimits | None = None, keeper_limits: KeeperLimits | None = None
    ) -> Hub:
        """Open one more hub, with connections of its own."""
        pool = await open_pool(self.database_url, 6)
        client: redis.asyncio.Redis | ClusterClient
        if self.gate_url is not None:
            client = await open_client(self.gate_url, 32, 0.9)
        else:
            client = redis.asyncio.Redis.from_url(
                self.redis_url, socket_timeout=0.9, retry=Retry(NoBackoff(), 0)
            )
        self._pools.append(pool)
        self._clients.append(client)
        hub = Hub(pool, client, limits or SellingLimits(), keeper_limits or KeeperLimits())
        self.hubs.append(hub)
        return hub

    @property
    def redis(self) -> redis.asyncio.Redis:
        client = self._clients[0]
        assert isinstance(client, redis.asyncio.Redis)
        return client

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        return await self._pools[0].fetch(sql, *args)

    async def stream(self, status: str = "live") -> str:
        """Make a stream of the shop `shop`."""
        stream = f"st_{next(_numbers)}"
        await self.fetch(
            "insert into streams (id, shop, title, status) values ($1, 'shop', 'Show', $2)",
            stream, status,
        )  # fmt: skip
        return stream

    async def offer(
        self, quantity: int = 10, *, stream: str | None = None, opened: bool = True, **more: Any
    ) -> Offer:
        """Make an offer of a product of its own, opened unless told otherwise."""
        stream = stream or await self.stream()
        number = next(_numbers)
        await self.fetch(
            "insert into products (id, shop, sku, title, price_minor, currency)"
            " values ($1, 'shop', $1, 'Thing', 2900, 'TWD')",
            f"pr_{number}",
        )
        terms: dict[str, Any] = {
            "price_minor": 2900, "per_viewer": 1, "opens_at": None, "closes_at": None,
            "hold_s": 600, "payment": "required", "keyword": None, "extends": 0,
        }  # fmt: skip
        changes = self.hubs[0].changes
        made = await changes.create_offer(
            f"of_{number}", stream, f"pr_{number}", quantity=quantity, **(terms | more)
        )
        assert isinstance(made, Offer)
        if opened:
            now = await changes.open_offer(made.id)
            assert isinstance(now, Offer)
            return now
        return made

    async def rested(self, offer: str) -> None:
        """Wait until no hub has anything under way, then hold the offer to its invariants."""

        def idle(hub: Hub) -> bool:
            counters = hub.selling._counters.values()
            return not hub.selling.bundles.under_way and all(c.idle for c in counters)

        await until(lambda: all(idle(hub) for hub in self.hubs))
        await self.at_rest(offer)

    async def at_rest(self, offer: str) -> None:
        """Assert I1 to I4, I6 and I11 of an offer, or a bucket, by queries of the test's own."""
        row = (await self.fetch("select * from offers where id = $1", offer))[0]
        orders = await self.fetch(
            "select id, viewer, key, qty, rank, status in ('reserved', 'confirmed', 'shipped')"
            " as live from orders where offer = $1 and bucket = $2",
            row["parent"] or offer, row["bucket"],
        )  # fmt: skip
        live = {r["id"]: r["qty"] for r in orders if r["live"]}
        assert sum(live.values()) == row["taken"] <= row["quantity"]
        per_viewer: dict[str, int] = {}
        for r in orders:
            if r["live"]:
                per_viewer[r["viewer"]] = per_viewer.get(r["viewer"], 0) + r["qty"]
        assert max(per_viewer.values(), default=0) <= row["per_viewer"]
        assert len({r["rank"] for r in orders}) == len(orders)
        keys = keys_of(offer)
        pipe: Any = self._clients[0].pipeline(transaction=True)  # of one tag: on a cluster too
        pipe.hgetall(keys.state).hgetall(keys.holds).hgetall(keys.keys).hgetall(keys.viewers)
        pipe.zcard(keys.unwritten).hlen(keys.waiting)
        *hashes, unwritten, waiting = await pipe.execute()
        state, holds, bound, viewers = (
            {_text(k): _text(v) for k, v in found.items()} for found in hashes
        )
        assert (unwritten, waiting) == (0, 0)
        assert set(holds) == set(live)
        assert bound == {key_field(r["viewer"], r["key"]): r["id"] for r in orders}
        assert int(state.get("mv", -1)) == row["last_movement"]
        assert int(state.get("left", -1)) == row["quantity"] - row["taken"]
        assert {viewer: int(n) for viewer, n in viewers.items()} == per_viewer

    async def whole_at_rest(self, offer: str, hub: Hub | None = None) -> None:
        """Wait until nothing is under way; assert `at_rest` of each bucket, and of their sums.

        The last transfer may be one that only its lender's gate does not know of yet, and the
        offer's own row is summed up as a keeper does it in his next round.
        """
        hub = hub or self.hubs[0]
        parts = await self.fetch("select * from offers where parent = $1 order by bucket", offer)

        async def followed() -> bool:
            stands = [await hub.gate.probe(part["id"], 1 << 40, 0) for part in parts]
            return all(not isinstance(one, Standing) or one.unwritten == 0 for one in stands)

        await until(followed)
        for part in parts:
            await self.rested(part["id"])
        await sum_up(hub.ledger, hub.heard, offer)
        row = (await self.fetch("select * from offers where id = $1", offer))[0]
        parts = await self.fetch("select * from offers where parent = $1 order by bucket", offer)
        assert len(parts) == row["buckets"]
        for name in ("quantity", "taken", "confirmed", "waiting"):
            assert sum(part[name] for part in parts) == row[name], name
        orders = await self.fetch("select * from orders where offer = $1", offer)
        live = [r for r in orders if r["status"] in ("reserved", "confirmed", "shipped")]
        assert sum(r["qty"] for r in live) == row["taken"]
        assert len({r["rank"] for r in orders}) == len(orders)
        assert all((r["rank"] - r["bucket"]) % row["buckets"] == 0 for r in orders)
        lent = await self.fetch("select * from transfers where lender like $1 || '~%'", offer)
        moved = await self.fetch(
            "select offer, order_id, units from movements where kind in ('lend', 'borrow')"
            " and offer like $1 || '~%'", offer,
        )  # fmt: skip
        ends = [(t["lender"], t["id"], -t["units"]) for t in lent]
        ends += [(t["borrower"], t["id"], t["units"]) for t in lent]
        assert sorted(tuple(m) for m in moved) == sorted(ends)

    async def close(self) -> None:
        for hub in self.hubs:
            await hub.selling.drain(5)
            hub.selling.close()
            await hub.selling.wholes.close()
            await hub.changes.close()
            await hub.rebuilder.close()
        for client in self._clients:
            await client.aclose()
        for pool in self._pools:
            pool.terminate()


@asynccontextmanager
async def open_shop(
    database_url: str, redis_url: str, gate_url: str | None = None
) -> AsyncIterator[Shop]:
    """Open a shop with one hub; everything is closed at the end."""
    shop = Shop(database_url, redis_url, gate_url)
    await shop.hub()
    try:
        yield shop
    finally:
        await shop.close()


@asynccontextmanager
async def kept(hub: Hub) -> AsyncIterator[None]:
    """Have a hub's keeper at work."""
    work = asyncio.create_task(hub.keeper.run())
    try:
        yield
    finally:
        work.cancel()
        await asyncio.wait({work})


async def until(condition: Any, timeout_s: float = 30.0) -> None:
    """Wait until `condition()` (a call or a coroutine function) holds."""
    async with asyncio.timeout(timeout_s):
        while True:
            held = condition()
            if asyncio.iscoroutine(held):
                held = await held
            if held:
                return
            await asyncio.sleep(0.01)


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw


def bought(outcome: Outcome) -> Order:
    """Return the order of an accepted buy."""
    assert isinstance(outcome, Accepted), outcome
    return outcome.order


def together(outcome: BundleOutcome) -> Bundled:
    """Return an accepted bundle."""
    assert isinstance(outcome, Bundled), outcome
    return outcome


def done(result: Any) -> Any:
    """Return what a change made of it; it must not have been refused."""
    assert not isinstance(result, Refused), result
    return result


def why(outcome: Outcome | BundleOutcome | Order | Offer | None) -> str:
    """Return the word of a refusal."""
    assert isinstance(outcome, Refused), outcome
    return outcome.why.value
