"""The sale goes on through the loss of anything: kill -9 and stop in the middle, on real servers.

Two hubs and a keeper sell one offer to viewers who, like clients, send unanswered and `retry` buys
again with the same key. After each fault: every acknowledged order is a row, exactly once; nothing
is sold twice; and at rest no unit is lost (I1 to I6, I10, I11).
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from livecart.embedded import Running, running
from orders.ledger.ledger import Admitted, LedgerAway, Line
from orders.ledger.migrate import migrate
from orders.records import Accepted, Offer, Outcome, Refused
from tests.faults.outages import OUTAGES, Outage
from tests.shop import Hub, Shop, until

VIEWERS, EACH, UNITS, PER_VIEWER = 60, 6, 200, 4


@pytest.fixture
def own_servers() -> Iterator[Running]:
    """Servers of the test's own, which it may kill."""
    folder = Path(tempfile.mkdtemp(prefix="lc-fault-"))
    try:
        with running(folder) as servers:
            yield servers
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def watched(servers: Running) -> AsyncIterator[None]:
    """Have dead servers started again, as `up` does."""

    async def watch() -> None:
        while True:
            servers.supervisor.tick()
            await asyncio.sleep(0.02)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()


class Sale:
    """One offer, many viewers, two hubs, a keeper, and what each buyer was told."""

    def __init__(self, shop: Shop, hubs: list[Hub], offer: Offer) -> None:
        self.shop = shop
        self.hubs = hubs
        self.offer = offer
        self.told: dict[tuple[str, str], str] = {}  # (viewer, key) -> order id of an acknowledged
        self.refused: dict[tuple[str, str], str] = {}
        self.answers = 0

    async def run(self, fault: Callable[[Sale], Awaitable[None]]) -> None:
        keeper = asyncio.create_task(self.hubs[-1].keeper.run())
        try:
            buyers = [
                asyncio.create_task(self.viewer(n, key))
                for key in range(EACH)
                for n in range(VIEWERS)
            ]
            await until(lambda: self.answers >= 40)
            await fault(self)
            await asyncio.gather(*buyers)
            await self.judge()
        finally:
            keeper.cancel()

    async def viewer(self, n: int, key: int) -> None:
        """Send one buy until its answer is final, each time to the other hub."""
        mine = (f"v{n}", f"k{key}")
        await asyncio.sleep(key * 0.05)  # spread, so that the fault falls into the middle
        async with asyncio.timeout(60):
            for attempt in range(10_000):
                hub = self.hubs[(n + attempt) % len(self.hubs)]
                try:
                    async with asyncio.timeout(2):  # a client gives a dead hub up
                        outcome = await hub.buy(self.offer.id, mine[0], 1, mine[1])
                except TimeoutError:
                    continue
                self.answers += 1
                if isinstance(outcome, Refused) and outcome.why == "retry":
                    await asyncio.sleep(0.03)
                    continue
                self.take(mine, outcome)
                return

    def take(self, mine: tuple[str, str], outcome: Outcome) -> None:
        """Note a final answer; there is one for each buy."""
        assert mine not in self.told.keys() | self.refused.keys()
        if isinstance(outcome, Accepted):
            self.told[mine] = outcome.order.id
        else:
            self.refused[mine] = outcome.why.value

    async def judge(self) -> None:
        async def rested() -> bool:
            try:
                await self.shop.at_rest(self.offer.id)
            except (AssertionError, OSError, asyncpg.PostgresError):
                return False
            return True

        await until(rested, 20)
        await self.shop.at_rest(self.offer.id)
        rows = await self.shop.fetch(
            "select viewer, key, id, status from orders where offer = $1", self.offer.id
        )
        by_key = {(r["viewer"], r["key"]): r["id"] for r in rows}
        assert len(by_key) == len(rows)
        for mine, order in self.told.items():
            assert by_key[mine] == order
        assert len(self.told) == UNITS  # all sold: no unit lost
        assert set(by_key) == set(self.told)
        assert set(self.refused.values()) <= {"limit_reached", "sold_out"}
        assert len(self.told) + len(self.refused) >= VIEWERS * EACH


@asynccontextmanager
async def a_sale(servers: Running) -> AsyncIterator[Sale]:
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(servers.database_url)
    await migrate(connection)
    await connection.close()
    shop = Shop(servers.database_url, servers.redis_url)
    hubs = [await shop.hub() for _ in range(3)]  # the third serves the keeper and the judge
    try:
        async with watched(servers):
            offer = await shop.offer(UNITS, per_viewer=PER_VIEWER)
            sale = Sale(shop, [hubs[1], hubs[2]], offer)
            yield sale
    finally:
        await shop.close()


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.__name__)
async def test_a_sale_survives_the_servers(own_servers: Running, outage: Outage) -> None:
    """Whatever happens to the servers, all units are sold, once each (see `outages`)."""

    async def fault(sale: Sale) -> None:
        await outage(own_servers, sale.shop.redis)

    async with a_sale(own_servers) as sale:
        await sale.run(fault)


@pytest.mark.parametrize("name", ["redis", "postgres"])
async def test_a_server_hangs(own_servers: Running, name: str) -> None:
    """A server that hangs rather than dies: buys are answered `retry` within a second meanwhile."""

    async def fault(sale: Sale) -> None:
        # Of an offer that nobody else buys: the sale's own may have its last unit held by then.
        offer, hub = await sale.shop.offer(10, per_viewer=1), sale.hubs[0]
        first = await hub.buy_until_final(offer.id, "x", 1, "k")
        assert isinstance(first, Accepted)
        parent = psutil.Process(own_servers.supervisor.pids()[name])
        family = [parent, *parent.children(recursive=True)]
        for process in family:
            process.suspend()
        try:
            loop = asyncio.get_running_loop()
            for attempt in range(5):
                started = loop.time()
                outcome = await hub.buy(offer.id, f"x{attempt}", 1, "k")
                assert isinstance(outcome, Refused)
                assert outcome.why == "retry"
                assert loop.time() - started < 1.5  # a second, and what two busy cores add
        finally:
            for process in family:
                process.resume()
        # What became of these is not known to their senders: they ask again with the same key.
        told = {first.order.id}
        for attempt in range(5):
            outcome = await hub.buy_until_final(offer.id, f"x{attempt}", 1, "k")
            assert isinstance(outcome, Accepted)
            told.add(outcome.order.id)
        rows = await sale.shop.fetch("select id from orders where offer = $1", offer.id)
        assert sorted(row["id"] for row in rows) == sorted(told)

    async with a_sale(own_servers) as sale:
        await sale.run(fault)


async def test_a_hub_dies_between_hold_and_row(own_servers: Running) -> None:
    """A hub whose every task ends at once, as by kill -9: its holds are resolved by the keeper."""

    async def fault(sale: Sale) -> None:
        dead = sale.hubs.pop(0)
        for counter in dead.selling._counters.values():
            for task in (*counter._tasks, counter._pump):
                if task is not None:
                    task.cancel()
        dead.selling._open = 0
        dead.selling._counters.clear()

    async with a_sale(own_servers) as sale:
        await sale.run(fault)


async def test_a_hub_stops_before_its_admission(own_servers: Running) -> None:
    """A hub that stops for longer than the grace, then sends its old admissions: all are fenced."""
    late: list[Admitted] = []
    held_up = asyncio.Event()

    async def fault(sale: Sale) -> None:
        await held_up.wait()

    async with a_sale(own_servers) as sale:
        hub, loop = sale.hubs[0], asyncio.get_running_loop()
        admit, stopped = hub.ledger.admit, asyncio.Event()

        async def slow(offer: str, epoch: int, lines: list[Line]) -> Admitted:
            if held_up.is_set():
                return await admit(offer, epoch, lines)
            if not stopped.is_set():
                stopped.set()
                loop.call_later(4, held_up.set)
            await held_up.wait()
            admitted = await admit(offer, epoch, lines)
            late.append(admitted)
            return admitted

        # From the first buy on: a busy machine may sell all before a fault in the middle comes.
        hub.ledger.admit = slow  # type: ignore[method-assign,assignment]
        await sale.run(fault)
    assert late


async def test_the_answer_to_an_admission_is_lost(own_servers: Running) -> None:
    """COMMIT happened, the answer never came: the same key finds the row, and makes no other."""

    async def fault(sale: Sale) -> None:
        hub = sale.hubs[0]
        admit = hub.ledger.admit
        lost = 0

        async def deaf(offer: str, epoch: int, lines: list[Line]) -> Admitted:
            nonlocal lost
            admitted = await admit(offer, epoch, lines)
            if lost < 3:
                lost += 1
                raise LedgerAway("the answer was lost")
            return admitted

        hub.ledger.admit = deaf  # type: ignore[method-assign,assignment]
        await until(lambda: lost > 0 or len(sale.told) >= UNITS)

    async with a_sale(own_servers) as sale:
        await sale.run(fault)
