"""The auditor on real servers: it passes a right sale and finds each wrong one.

The tables here have the documented columns and no constraint, so that a test may write down the
very state that the application's own schema would refuse.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest
from redis.asyncio import Redis

from livecart.embedded import Running
from loadtest.audit import audit, audit_bundles
from loadtest.history import Asked, History
from loadtest.hotrow import find_pgbench, hot_row
from loadtest.judge import Audit
from loadtest.web import Api, ApiError

TABLES = """
create table offers (
    id text, quantity int, taken int, per_viewer int, epoch int, status text, stream text,
    closes_at timestamptz, waiting int default 0, waitlist_max int default 10, seed_hash text,
    seed text);
create table draws (offer text, seed bytea, entries int, winners int, units int);
create table facts (
    stream text, n bigint, kind text, subject text, reason text, body jsonb, at timestamptz);
create table waitlist (
    viewer text, key text, qty int, rank bigint, offer text default 'of_1', left_at timestamptz);
create table movements (
    n bigint, kind text, units int, order_id text, offer text default 'of_1', reason text,
    at timestamptz default now());
create table standings (stream text, viewer text, banned boolean);
create table orders (
    id text, offer text, viewer text, key text, qty int, status text, rank bigint,
    reserved_at timestamptz default now(), expires_at timestamptz, bundle text);
"""
OFFER = "of_1"


@dataclass(slots=True)
class Books:
    """An offer of ten units in Postgres and Redis, three of them sold, as it should be."""

    database: asyncpg.Connection[asyncpg.Record]
    database_url: str
    redis: Redis
    redis_url: str
    history: History

    async def sell_three(self) -> None:
        """Write three orders of three viewers, their holds, and what the viewers were told."""
        await self.database.execute("insert into offers values ($1, 10, 3, 2, 1, 'open')", OFFER)
        for n in range(3):
            await self.insert(f"or_{n}", f"v{n}", f"run.{n}", n + 1)
            await self.redis.hset(f"{{{OFFER}}}:h", f"or_{n}", "x")
            self.history.sent_ns[n] = 1
            self.history.note(n, 2, "order.reserved", f"or_{n}", n + 1)
        run = str((await self.redis.info("server"))["run_id"])
        await self.redis.hset(
            f"{{{OFFER}}}:o", mapping={"left": 7, "quantity": 10, "epoch": 1, "rank": 3, "run": run}
        )

    async def insert(self, order: str, viewer: str, key: str, rank: int | None) -> None:
        await self.database.execute(
            "insert into orders values ($1, $2, $3, $4, 1, 'reserved', $5)",
            *(order, OFFER, viewer, key, rank),
        )

    async def judged(self) -> Audit:
        return await audit(
            self.database_url, OFFER, self.history, gate_url=self.redis_url, rest_wait_s=0
        )

    async def broken(self) -> set[str]:
        """Names of what the auditor finds broken."""
        found = await self.judged()
        return {finding.name for finding in found.findings if finding.passed is False}


@pytest.fixture
async def books(servers: Running, redis_url: str) -> AsyncIterator[Books]:
    """The right state, in a database and a Redis of the test's own."""
    name = f"audit_{secrets.token_hex(4)}"
    admin: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(servers.database_url)
    await admin.execute(f"create database {name}")
    before, _, query = servers.database_url.partition("?")
    url = f"{before.rpartition('/')[0]}/{name}?{query}"
    database: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(url)
    await database.execute(TABLES)
    redis = Redis.from_url(redis_url)
    opened = Books(database, url, redis, redis_url, History(["v0", "v1", "v2", "v3"], 1, 1, "run"))
    try:
        await opened.sell_three()
        yield opened
    finally:
        await redis.aclose()
        await database.close()
        await admin.execute(f"drop database {name} with (force)")
        await admin.close()


async def test_a_right_sale_passes(books: Books) -> None:
    """Nothing is found where nothing is wrong, and durability is read from the server."""
    found = await books.judged()
    assert found.passed
    assert found.settings == {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
    assert (found.rows, found.live, found.quantity) == (3, 3, 10)
    assert found.rest_s is not None


async def test_one_unit_too_many_is_found(books: Books) -> None:
    """I1: live orders beyond the quantity."""
    await books.database.execute("update offers set quantity = 2, taken = 3")
    assert "I1" in await books.broken()


async def test_a_taken_that_is_not_the_sum_is_found(books: Books) -> None:
    """I1: `taken` that differs from the live orders, in either direction."""
    await books.database.execute("update offers set taken = 4")
    assert "I1" in await books.broken()
    await books.database.execute("update offers set taken = 2")
    assert "I1" in await books.broken()


async def test_a_lost_order_is_found(books: Books) -> None:
    """I2: an acknowledged order without a row."""
    await books.database.execute("delete from orders where id = 'or_1'")
    assert "I2" in await books.broken()


async def test_a_greedy_viewer_is_found(books: Books) -> None:
    """I3: live orders of one viewer beyond the limit."""
    await books.database.execute("update orders set viewer = 'v0'")
    assert "I3" in await books.broken()


async def test_redis_that_lost_an_order_is_found(books: Books) -> None:
    """I4: a live order that Redis does not name."""
    await books.redis.hdel(f"{{{OFFER}}}:h", "or_1")
    assert await books.broken() == {"I4"}


async def test_redis_that_forgot_everything_is_found(books: Books) -> None:
    """I4: an open offer without its gate."""
    await books.redis.flushdb()
    assert await books.broken() == {"I4"}


async def test_a_state_of_another_run_is_none(books: Books) -> None:
    """I4, R2: what an older run of the server left is nothing; a closed offer needs none."""
    await books.redis.hset(f"{{{OFFER}}}:o", "run", "0" * 40)
    await books.redis.zadd(f"{{{OFFER}}}:u", {"or_2": 1.0})
    assert await books.broken() == {"I4"}
    await books.database.execute("update offers set status = 'closed'")
    assert await books.broken() == set()


async def test_half_a_bundle_is_found(books: Books) -> None:
    """I2: of two lines one has a row, or another row says that it is of the same bundle."""
    asked = [Asked("v0", "run.0", {OFFER: 1, "of_2": 1}), Asked("v9", "run.9", {OFFER: 1})]
    await books.database.execute("update orders set bundle = 'bu_1' where id = 'or_0'")
    found = await audit_bundles(books.database_url, asked)
    assert found.passed is False
    assert "run.0 of v0" in found.detail
    whole = [Asked("v0", "run.0", {OFFER: 1}, bundle="bu_1")]
    assert (await audit_bundles(books.database_url, whole)).passed
    await books.database.execute("update orders set bundle = 'bu_1' where id = 'or_1'")
    assert (await audit_bundles(books.database_url, whole)).passed is False


async def test_a_refusal_for_stock_that_is_there_is_found(books: Books) -> None:
    """I5: a viewer told "sold out" while seven units are left at rest."""
    books.history.sent_ns[3] = 1
    books.history.note(3, 2, "sold_out", "", 0)
    assert await books.broken() == {"I5"}


async def test_a_rank_given_twice_is_found(books: Books) -> None:
    """I6: two orders of one rank, and an order of none."""
    await books.database.execute("update orders set rank = 2 where id = 'or_2'")
    assert "I6" in await books.broken()
    await books.database.execute("update orders set rank = null where id = 'or_2'")
    assert "I6" in await books.broken()


async def test_a_key_sold_twice_is_found(books: Books) -> None:
    """I10: two rows for one buy."""
    await books.insert("or_9", "v0", "run.0", 9)
    await books.database.execute("update offers set taken = 4")
    assert {"I2", "I10"} <= await books.broken()


async def test_an_unresolved_hold_is_found(books: Books) -> None:
    """I11: a hold that is still unwritten when rest should have come."""
    await books.redis.zadd(f"{{{OFFER}}}:u", {"or_2": 1.0})
    found = await books.judged()
    assert [finding.name for finding in found.findings if finding.passed is False] == ["I11"]
    assert found.rest_s is None


async def test_a_right_waitlist_passes(books: Books) -> None:
    """Who wants more than is free, has all he may have, is banned, or left, may wait."""
    books.history.sent_ns[3] = 1
    books.history.note(3, 2, "order.reserved", "or_7", 4)
    await books.database.execute(
        "update offers set waiting = 3, stream = 'st_1';"
        "insert into standings values ('st_1', 'v8', true);"
        "insert into waitlist values ('v5', 'a', 8, 5), ('v0', 'b', 2, 6), ('v8', 'c', 1, 7);"
        "insert into waitlist values ('v9', 'd', 1, 8, 'of_1', now());"
        "insert into orders values"
        " ('or_7', 'of_1', 'v3', 'run.3', 1, 'expired', 4, now() - interval '1 s', now());"
        "insert into movements values (1, 'take', -1, 'or_2'), (2, 'release', 1, 'or_7')"
    )
    assert await books.broken() == set()


@pytest.mark.parametrize(
    "wrong",
    [
        "insert into waitlist values ('v5', 'a', 2, 5); update offers set waiting = 1",
        "update offers set waiting = 1",
        "insert into waitlist values ('v5', 'a', 9, 5)",
        "insert into waitlist values ('v5', 'a', 9, 5); update offers set waiting = 1,"
        " waitlist_max = 0",
        "insert into waitlist values ('v5', 'a', 9, 5); update offers set waiting = 1,"
        " status = 'closed'",
        "insert into waitlist values ('v5', 'a', 9, 5), ('v5', 'b', 9, 6);"
        " update offers set waiting = 2",
        "insert into waitlist values ('v5', 'a', 9, 2); update offers set waiting = 1",
        "insert into waitlist values ('v5', 'a', 9, 5), ('v6', 'a', 9, 5);"
        " update offers set waiting = 2",
        "insert into waitlist values ('v0', 'run.0', 9, 5); update offers set waiting = 1",
        "insert into movements values (1, 'take', -1, 'or_9')",
        "insert into movements values (1, 'take', -2, 'or_1')",
        "insert into movements values (1, 'take', -1, 'or_1'), (2, 'take', -1, 'or_1')",
    ],
    ids=[
        "who fits beside free units", "counted and not there", "there and not counted",
        "more than may be", "beyond the close", "twice", "rank of an order", "rank of another",
        "key of his order", "handed to nobody", "another number", "handed over twice",
    ],
)  # fmt: skip
async def test_a_wrong_waitlist_is_found(books: Books, wrong: str) -> None:
    """R12: each thing that must not be true of entries and of what came of them."""
    await books.database.execute(wrong)
    assert await books.broken() == {"R12"}


async def test_an_unknown_offer_is_found(books: Books) -> None:
    """An offer that Postgres does not have is a broken sale, not an error."""
    found = await audit(books.database_url, "of_nowhere")
    assert not found.passed


async def test_durability_that_is_off_fails_the_audit(books: Books) -> None:
    """A sale on a server that may forget what it said is not passed."""
    name = await books.database.fetchval("select current_database()")
    await books.database.execute(f"alter database {name} set synchronous_commit = off")
    found = await books.judged()
    assert found.settings["synchronous_commit"] == "off"
    assert not found.passed


async def test_the_names_are_those_of_the_schema(database_url: str) -> None:
    """The documented names are the application's: its empty schema can be asked all questions."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "insert into streams (id, shop, title) values ('st_1', 's', 't');"
            "insert into products (id, shop, sku, title, price_minor, currency)"
            " values ('pr_1', 's', 'k', 't', 1, 'TWD');"
            "insert into offers (id, stream, product, price_minor, quantity, per_viewer, hold_s,"
            " payment) values ('of_1', 'st_1', 'pr_1', 1, 5, 1, 600, 'required')"
        )
    finally:
        await connection.close()
    found = await audit(database_url, "of_1", History(["v0"], 1, 1, "run"))
    assert found.passed
    assert (found.rows, found.quantity) == (0, 5)


async def test_the_hot_row_peer_leaves_nothing_behind(books: Books) -> None:
    """The peer sells on one hot row, and its scratch schema is gone after it."""
    assert next(find_pgbench(), None) is not None
    found = await hot_row(books.database_url, duration_s=1)
    assert found.tool == "pgbench"
    assert found.orders_per_s > 0
    left = "select count(*) from information_schema.schemata where schema_name like 'hotrow%'"
    assert await books.database.fetchval(left) == 0


async def test_the_hot_row_peer_runs_without_pgbench(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no pgbench, a process of its own runs the same transaction, and says so."""
    monkeypatch.setattr("loadtest.hotrow.find_pgbench", lambda: iter(()))
    found = await hot_row(books.database_url, duration_s=1)
    assert found.tool == "asyncpg, one process"
    assert found.orders_per_s > 0


async def test_a_server_that_is_away_is_an_error_of_the_call() -> None:
    """A call that must succeed says which one failed when its time is over."""
    with pytest.raises(ApiError, match="GET /v1/streams"):
        await Api("http://127.0.0.1:9").call("GET", "/v1/streams", deadline_s=0.1)
