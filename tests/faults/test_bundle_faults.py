"""Bundles and single buys through the loss of anything: all or nothing, on real servers.

Two hubs and a keeper sell three offers; viewers send bundles of some of them, and single buys,
again under the same key until the answer is final. After each fault: every bundle is whole or not
there, what was acknowledged is there, what was refused is not, and no unit is lost (I1 to I6, I10,
I11).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from livecart.embedded import Running
from orders.ledger.bundles import Judged
from orders.ledger.ledger import LedgerAway
from orders.ledger.migrate import migrate
from orders.records import Accepted, BundleOutcome, Outcome, Refused
from tests.faults.outages import OUTAGES, Outage
from tests.faults.test_selling_faults import own_servers, watched
from tests.shop import Hub, Shop, bought, until, why

__all__ = ["own_servers"]  # a fixture: pytest looks for it here

VIEWERS, EACH, UNITS, PER_VIEWER = 40, 5, 80, 4
Wanted = dict[str, int]  # units by offer; one offer alone is a single buy
Mine = tuple[str, str]  # (viewer, key)


class Sale:
    """Three offers, many viewers, two hubs, a keeper, and what each buyer was told."""

    def __init__(self, shop: Shop, hubs: list[Hub], stream: str, offers: list[str]) -> None:
        self.shop = shop
        self.hubs = hubs
        self.stream = stream
        self.offers = offers
        self.told: dict[Mine, set[str]] = {}  # order ids of what was acknowledged
        self.refused: dict[Mine, str] = {}
        self.wanted: dict[Mine, Wanted] = {}
        self.answers = 0

    async def run(self, fault: Callable[[Sale], Awaitable[None]]) -> None:
        keeper = asyncio.create_task(self.hubs[-1].keeper.run())
        try:
            buyers = [
                asyncio.create_task(self.viewer(n, key))
                for key in range(EACH)
                for n in range(VIEWERS)
            ]
            await until(lambda: self.answers >= 30)
            await fault(self)
            await asyncio.gather(*buyers)
            await self.judge()
        finally:
            keeper.cancel()
            await asyncio.wait({keeper})

    async def viewer(self, n: int, key: int) -> None:
        """Send one bundle or buy until its answer is final, each time to the other hub."""
        mine, rng = (f"v{n}", f"k{key}"), random.Random(f"{n} {key}")
        some = rng.sample(self.offers, rng.choice((1, 2, 2, 3)))
        wanted = self.wanted[mine] = {offer: rng.choice((1, 1, 2)) for offer in some}
        await asyncio.sleep(key * 0.05)  # spread, so that the fault falls into the middle
        async with asyncio.timeout(60):
            for attempt in range(10_000):
                hub = self.hubs[(n + attempt) % len(self.hubs)]
                try:
                    async with asyncio.timeout(3):  # a client gives a dead hub up
                        outcome = await self.send(hub, mine, wanted)
                except TimeoutError:
                    continue
                self.answers += 1
                if isinstance(outcome, Refused) and outcome.why == "retry":
                    await asyncio.sleep(0.03)
                    continue
                if isinstance(outcome, Refused):
                    self.refused[mine] = outcome.why.value
                elif isinstance(outcome, Accepted):
                    self.told[mine] = {outcome.order.id}
                else:
                    self.told[mine] = {order.id for order in outcome.orders}
                return

    async def send(self, hub: Hub, mine: Mine, wanted: Wanted) -> Outcome | BundleOutcome:
        viewer, key = mine
        if len(wanted) == 1:
            ((offer, qty),) = wanted.items()
            return await hub.buy(offer, viewer, qty, key)
        return await hub.start_bundle(self.stream, viewer, list(wanted.items()), key)

    async def judge(self) -> None:
        async def rested() -> bool:
            try:
                for offer in self.offers:
                    await self.shop.at_rest(offer)
            except (AssertionError, OSError, asyncpg.PostgresError):
                return False
            return True

        await until(rested, 20)
        for offer in self.offers:
            await self.shop.at_rest(offer)
        found: dict[Mine, dict[str, tuple[int, str, str | None]]] = {}
        for r in await self.shop.fetch("select viewer, key, offer, qty, id, bundle from orders"):
            rows = found.setdefault((r["viewer"], r["key"]), {})
            rows[r["offer"]] = (r["qty"], r["id"], r["bundle"])
        assert found.keys() == self.told.keys()
        for mine, rows in found.items():
            assert {offer: qty for offer, (qty, _, _) in rows.items()} == self.wanted[mine]
            assert {id_ for _, id_, _ in rows.values()} == self.told[mine]
            bundles = {bundle for _, _, bundle in rows.values()}
            assert len(bundles) == 1
            assert (bundles == {None}) is (len(self.wanted[mine]) == 1)
        assert set(self.refused.values()) <= {"limit_reached", "sold_out"}
        assert len(self.told) + len(self.refused) == VIEWERS * EACH
        await self.sell_out()

    async def sell_out(self) -> None:
        """Whoever comes now gets every unit that is left, and no more (I5)."""
        for offer in self.offers:
            row = await self.shop.fetch("select quantity - taken from offers where id = $1", offer)
            for n in range(row[0][0]):
                bought(await self.hubs[-1].buy_until_final(offer, f"late{n}"))
            assert why(await self.hubs[-1].buy_until_final(offer, "last")) == "sold_out"


@asynccontextmanager
async def a_sale(servers: Running) -> AsyncIterator[Sale]:
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(servers.database_url)
    await migrate(connection)
    await connection.close()
    shop = Shop(servers.database_url, servers.redis_url)
    hubs = [await shop.hub() for _ in range(3)]  # the first serves the judge alone
    try:
        async with watched(servers):
            stream = await shop.stream()
            made = [await shop.offer(UNITS, stream=stream, per_viewer=PER_VIEWER) for _ in range(3)]
            yield Sale(shop, hubs[1:], stream, [offer.id for offer in made])
    finally:
        await shop.close()


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.__name__)
async def test_bundles_survive_the_servers(own_servers: Running, outage: Outage) -> None:
    """Whatever happens to the servers, each bundle is whole or not there (see `outages`)."""

    async def fault(sale: Sale) -> None:
        await outage(own_servers, sale.shop.redis)

    async with a_sale(own_servers) as sale:
        await sale.run(fault)


async def test_a_hub_dies_in_the_middle_of_bundles(own_servers: Running) -> None:
    """A hub whose every task ends at once: some holds are taken, or all, or rows unmarked."""

    async def fault(sale: Sale) -> None:
        dead = sale.hubs.pop(0).selling
        dead.bundles.close()
        for counter in dead._counters.values():
            for task in (*counter._tasks, counter._pump):
                if task is not None:
                    task.cancel()
        await asyncio.wait({*dead.bundles._tasks, asyncio.create_task(asyncio.sleep(0))})
        dead._open = 0
        dead._counters.clear()

    async with a_sale(own_servers) as sale:
        await sale.run(fault)


async def test_a_hub_stops_before_it_admits_bundles(own_servers: Running) -> None:
    """A hub that stops for longer than the grace, then sends its old admissions: none is made."""
    late: list[list[Judged]] = []

    async def fault(sale: Sale) -> None:
        ledger = sale.hubs[0].selling.bundles.ledger
        admit, held_up = ledger.admit, asyncio.Event()
        asyncio.get_running_loop().call_later(4, held_up.set)

        async def slow(*args: Any) -> list[Judged]:
            await held_up.wait()
            late.append(await admit(*args))
            return late[-1]

        ledger.admit = slow  # type: ignore[method-assign,assignment]
        await held_up.wait()
        ledger.admit = admit  # type: ignore[method-assign]

    async with a_sale(own_servers) as sale:
        await sale.run(fault)
    assert late
    assert "ok" not in {line.word for judged in late for line in judged}


async def test_the_answer_to_a_bundles_admission_is_lost(own_servers: Running) -> None:
    """COMMIT happened, the answer never came: the same key finds the bundle, and makes no other."""
    lost = 0

    async def fault(sale: Sale) -> None:
        ledger = sale.hubs[0].selling.bundles.ledger
        admit = ledger.admit

        async def deaf(*args: Any) -> list[Judged]:
            nonlocal lost
            judged = await admit(*args)
            if lost < 5:
                lost += 1
                raise LedgerAway("the answer was lost")
            return judged

        ledger.admit = deaf  # type: ignore[method-assign,assignment]

    async with a_sale(own_servers) as sale:
        await sale.run(fault)
    assert lost
