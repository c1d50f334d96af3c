"""A waitlist goes on through the loss of anything: units go round it while servers die."""

from __future__ import annotations

import asyncio
import os
import signal

import asyncpg
import psutil

from livecart.embedded import Running
from loadtest.audit import audit
from orders.ledger.ledger import LedgerAway
from orders.records import Accepted, Order, Refused
from tests.faults.test_selling_faults import Sale, a_sale, own_servers
from tests.shop import Hub, until

__all__ = ["own_servers"]

VIEWERS, UNITS = 60, 6
GIVEN_BACK = 24  # orders, before anybody pays


class Round:
    """Viewers who all want one of few units; so many give theirs back, the next ones pay."""

    def __init__(self, sale: Sale) -> None:
        self.sale = sale
        self.offer = sale.offer.id
        self.got = 0  # orders that viewers gave back
        self.paid: set[str] = set()
        self.answered: set[str] = set()  # ids of orders that a join was answered with

    async def viewer(self, n: int) -> None:
        """Join until that is answered, wait for an order, then give it back or pay."""
        name = f"v{n}"
        await self.join(n, name)
        while len(self.paid) < UNITS:
            order = await self.order_of(n, name)
            if order is not None and order.status == "reserved":
                await self.end(n, order)
            elif order is not None:
                if order.status == "confirmed":  # be it that the answer was lost
                    self.paid.add(name)
                return
            await asyncio.sleep(0.05)

    async def join(self, n: int, name: str) -> None:
        for attempt in range(10_000):
            waitlist = self.hub(n + attempt).selling.waitlist
            try:
                async with asyncio.timeout(2):  # a client gives a dead hub up
                    answer = await waitlist.join(self.offer, name, 1, "k")
            except TimeoutError:
                continue
            if isinstance(answer, Refused):
                assert answer.why == "retry", answer
                await asyncio.sleep(0.03)
                continue
            if isinstance(answer, Accepted):
                self.answered.add(answer.order.id)
            return

    async def order_of(self, n: int, name: str) -> Order | None:
        try:
            found = await self.hub(n).ledger.orders_by_key([(self.offer, name, "k")])
        except LedgerAway:
            return None
        return found[0] if found else None

    async def end(self, n: int, order: Order) -> None:
        """Give back, or pay; an outage leaves it to the next look."""
        changes = self.hub(n).changes
        try:
            if self.got < GIVEN_BACK:
                self.got += 1
                await changes.cancel(order.id, by_host=False, reason=None)
            else:
                await changes.pay(order.id)
        except LedgerAway:
            return

    def hub(self, n: int) -> Hub:
        return self.sale.hubs[n % len(self.sale.hubs)]


async def test_units_go_round_while_servers_die(own_servers: Running) -> None:
    """FLUSHALL, kill -9 of Postgres, of Redis, one after the other: all units end up with payers.

    Whoever got an order is told of it, and the audit finds nothing wrong at the end.
    """
    async with a_sale(own_servers) as sale:
        await sale.hubs[0].changes.revise_offer(sale.offer.id, {"quantity": UNITS})
        held = Round(sale)
        keeper = asyncio.create_task(sale.hubs[-1].keeper.run())
        try:
            viewers = asyncio.gather(*(held.viewer(n) for n in range(VIEWERS)))
            await until(lambda: held.got >= 5, 30)
            await sale.shop.redis.flushall()
            await until(lambda: held.got >= 10, 30)
            kill_postgres(own_servers)
            await until(lambda: held.got >= 17, 30)
            os.kill(own_servers.supervisor.pids()["redis"], signal.SIGKILL)
            async with asyncio.timeout(60):
                await viewers
            await judge(held, own_servers)
        finally:
            keeper.cancel()


def kill_postgres(servers: Running) -> None:
    """End the postmaster and all its backends at once."""
    parent = psutil.Process(servers.supervisor.pids()["postgres"])
    for process in [parent, *parent.children(recursive=True)]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


async def judge(held: Round, servers: Running) -> None:
    shop, offer = held.sale.shop, held.offer

    async def rested() -> bool:
        try:
            await shop.at_rest(offer)
        except (AssertionError, OSError, asyncpg.PostgresError):
            return False
        return True

    await until(rested, 20)
    found = await audit(servers.database_url, offer, gate_url=servers.redis_url)
    assert found.passed, [one for one in found.findings if one.passed is False]
    rows = await shop.fetch("select id, viewer, status from orders where offer = $1", offer)
    assert sum(row["status"] == "confirmed" for row in rows) == UNITS
    assert len({row["viewer"] for row in rows}) == len(rows)
    told = {order.id for hub in shop.hubs for order in (*hub.heard.sales, *hub.heard.changes)}
    assert {row["id"] for row in rows} <= told | held.answered
