"""Outbound webhooks and crashes: nothing is lost, nothing comes twice but under the same id."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from livecart.hooks.post import Sent
from orders.ledger.hooks import HookLedger, Outcome
from orders.ledger.ledger import Ledger
from orders.ledger.pool import open_pool
from tests.hooks_rig import Told, at_work, duties, settings_here, telling_shop
from tests.integration.test_partitions import offer_of_year, partition, timed_offer
from tests.integration.up_rig import ROOT, environment
from tests.shop import Shop, bought, until

POINTS = ("hooks.taken", "hooks.made", "hooks.claimed", "hooks.sent")


@pytest.fixture
async def told(redis_url: str, database_url: str) -> AsyncIterator[Told]:
    """A shop with a receiver; nobody tells it anything yet."""
    async with telling_shop(redis_url, database_url) as told:
        yield told


async def test_killed_between_any_two_steps_nothing_is_lost(
    told: Told, redis_url: str, tmp_path: Path
) -> None:
    """SIGKILL of the keeper at each step in turn: every event comes, each under one id."""
    await told.webhook(events=["order.*"])
    offer = await told.offer(await told.stream(), quantity=50)
    shots = tmp_path / "shots"
    shots.mkdir()
    environ = environment() | settings_here(redis_url, told.database_url)
    environ |= {"LIVECART_FAILPOINTS": str(shots), "LIVECART_TESTING": "yes"}
    bought: set[str] = set()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for point in (*POINTS, None):
            if point is not None:
                (shots / f"{point}=kill").touch()
            order = (await told.buy(offer, f"v-{point}")).json()
            bought.add(f"evt_{order['id']}_1")
            processes.append(_keeper(environ))
            if point is not None:
                await asyncio.to_thread(processes[-1].wait, 30)
                assert processes[-1].returncode == -9, point
                await told.hasten()  # the lease of the dead is over
        await told.settled()
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
            process.wait(30)
    assert {one.id for one in told.receiver.got} == bought
    assert len({(one.id, one.body) for one in told.receiver.got}) == len(bought)
    assert len(told.receiver.got) > len(bought)  # those that were killed before their noting


async def test_two_senders_at_once_send_each_event_once(told: Told) -> None:
    """Both make and both send while orders come: each delivery has one attempt, all are in."""
    hook = await told.webhook(events=["order.*"])
    offer = await told.offer(await told.stream(), quantity=200)
    async with (
        duties(told.database_url) as one, duties(told.database_url) as other,
        at_work(one), at_work(other),
    ):  # fmt: skip
        answers = await asyncio.gather(*(told.buy(offer, f"v{n}") for n in range(60)))
        await told.settled()
    bought = sorted(f"evt_{answer.json()['id']}_1" for answer in answers)
    assert sorted(one.id for one in told.receiver.got) == bought
    rows = await told.fetch("select count(*) from hook_attempts where status = 200")
    assert rows[0][0] == 60
    assert len(await told.log(hook["id"], state="delivered", limit="200")) == 60


async def test_an_outcome_that_comes_after_its_lease_changes_nothing(told: Told) -> None:
    """Late news of a failure is not counted against the next attempt; late success is success."""
    hook = await told.webhook(events=["stream.started"])
    await told.stream()
    pool = await open_pool(told.database_url, 2)
    hooks = HookLedger(Ledger(pool))
    try:
        async with duties(told.database_url) as one:
            await one.make()
        (late,) = await hooks.claim({hook["id"]: 1}, 0.0)
        (next_,) = await hooks.claim({hook["id"]: 1}, 60.0)
        assert (late.n, late.attempt, next_.attempt) == (next_.n, 1, 2)
        assert await hooks.claim({hook["id"]: 1}, 60.0) == []
        word, _ = await hooks.note(late, _outcome(500), 5.0, 60.0)
        assert word == "stale"
        assert (await told.log(hook["id"]))[0]["attempts"] == 2
        word, _ = await hooks.note(late, _outcome(200), 5.0, 60.0)
        assert word == "delivered"
        word, _ = await hooks.note(next_, _outcome(500), 5.0, 60.0)
        assert word == "stale"
        assert (await told.log(hook["id"], state="delivered"))[0]["id"] == f"dl_{late.n}"
    finally:
        await pool.close()


async def test_a_fault_of_the_sender_is_a_failed_attempt(told: Told) -> None:
    """What nobody foresaw ends like any failure, and does not come back with each lease (R5)."""
    hook = await told.webhook(events=["stream.started"])
    await told.stream()
    async with duties(told.database_url) as one:
        await one.make()
        assert one._sender is not None
        one._sender._post = _Broken()
        await one.send()

        async def noted() -> bool:
            return bool((await told.log(hook["id"]))[0].get("last"))

        await until(noted)
    (found,) = await told.log(hook["id"])
    assert (found["state"], found["last"]["error"]) == ("pending", "a fault of the sender")


async def test_a_cause_that_is_rolled_back_tells_nothing(told: Told) -> None:
    """The outbox is of the same transaction: without the change there is no event."""
    await told.webhook()
    offer = await told.offer(await told.stream())
    order = (await told.buy(offer, "ann")).json()["id"]
    await told.fetch("delete from hook_outbox")
    async with told.services.pool.acquire() as connection:
        change = connection.transaction()
        await change.start()
        await connection.execute("update orders set status = 'cancelled', version = version + 1"
                                 " where id = $1", order)  # fmt: skip
        assert await connection.fetchval("select orders from hook_outbox") == [order]
        await change.rollback()
    assert await told.fetch("select 1 from hook_outbox") == []


async def test_with_partitions_each_thing_is_noted_once(shop: Shop) -> None:
    """Triggers of the parent and of its partitions do not add up, and none is missing."""
    await partition(shop)
    await shop.fetch(
        "insert into webhooks (id, shop, url, events, of_orders, of_facts)"
        " values ('wh_1', 'shop', 'https://example.org', '{order.*,offer.*}', true, true)"
    )
    for year in (None, 1):
        offer = await (timed_offer(shop) if year is None else offer_of_year(shop, year))
        order = bought(await shop.hubs[0].buy(offer.id, "ann"))
        await shop.hubs[0].changes.cancel(order.id, by_host=False, reason=None)
        rows = await shop.fetch("delete from hook_outbox returning orders, versions, names, fact")
        assert sorted(tuple(row) for row in rows if not row["fact"]) == [
            ([order.id], [1], ["reserved"], None), ([order.id], [2], ["cancelled"], None),
        ]  # fmt: skip
        told = await shop.fetch("select n from facts where stream = $1", offer.stream)
        assert sorted(row["fact"] for row in rows if row["fact"]) == [row["n"] for row in told]


async def test_while_postgres_is_away_the_sender_waits(told: Told) -> None:
    """Its connections are cut again and again: it goes on, and what was told is told once noted."""
    await told.webhook(events=["order.*"])
    offer = await told.offer(await told.stream(), quantity=50)
    name = told.database_url.partition("?")[0].rpartition("/")[2]
    async with duties(told.database_url) as one, at_work(one):
        for n in range(5):
            assert (await told.buy(offer, f"v{n}")).status_code == 201
            await told.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1"
                " and pid <> pg_backend_pid() and query ~ 'hook'", name,
            )  # fmt: skip
        await until(lambda: len({got.id for got in told.receiver.got}) == 5)
        await told.hasten()
        await told.settled()
    assert len({got.body for got in told.receiver.got}) == 5


async def test_a_slow_endpoint_does_not_hold_up_another(told: Told) -> None:
    """One that never answers has its own few attempts; the other is told meanwhile."""
    await told.webhook(events=["order.*"], url=told.receiver.url + "/slow")
    await told.webhook(events=["order.*"])
    told.receiver.held = asyncio.Event()
    released = told.receiver.held
    offer = await told.offer(await told.stream(), quantity=50)
    async with duties(told.database_url) as one:
        for n in range(12):
            await told.buy(offer, f"v{n}")
        async with at_work(one):
            await until(lambda: len(told.receiver.got) == 16)  # eight of each
            assert {got.path for got in told.receiver.got} == {"/in", "/in/slow"}
            told.receiver.held = None
            released.set()
            await told.settled()
    assert len({(got.path, got.id) for got in told.receiver.got}) == 24


class _Broken:
    """A poster with a mistake in it."""

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Sent:
        raise KeyError(url)


def _keeper(environ: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "livecart.worker"]
    return subprocess.Popen(command, env=environ, cwd=ROOT)


def _outcome(status: int) -> Outcome:
    return Outcome(ok=status < 300, duration_ms=1, status=status)
