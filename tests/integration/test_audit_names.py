"""The auditor names what is broken: exactly that invariant, its order, key, viewer and moment.

Each state here is what a planted bug leaves behind, and nothing else is wrong with it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import NamedTuple

import asyncpg
import pytest
from redis.asyncio import Redis

from livecart.embedded import Running
from loadtest.audit import audit
from loadtest.endings import now_ms
from loadtest.history import History
from loadtest.judge import Breach, Finding
from loadtest.verdicts import INVARIANTS, verdicts
from loadtest.waiting import judge_waitlist
from tests.conftest import database_url_of
from tests.integration.test_audit import OFFER, TABLES, Books

Damage = Callable[[Books], Awaitable[None]]


class Case(NamedTuple):
    """A damage, the one invariant that it breaks, whose order it is, and what is said of it."""

    damage: Damage
    name: str
    order: str
    key: str
    viewer: str
    what: str


@pytest.fixture(scope="module")
def tables(servers: Running) -> Iterator[str]:
    """A database with the documented tables, for all tests here: a new one for each takes long."""
    name = f"audit_{secrets.token_hex(4)}"
    url = database_url_of(servers.database_url, name)
    asyncio.run(run_sql(servers.database_url, f"create database {name}"))
    asyncio.run(run_sql(url, TABLES))
    yield url
    asyncio.run(run_sql(servers.database_url, f"drop database {name} with (force)"))


async def run_sql(url: str, sql: str) -> None:
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.fixture
async def books(tables: str, redis_url: str) -> AsyncIterator[Books]:
    """Three orders as they should be, in emptied tables and an emptied Redis."""
    database: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(tables)
    redis = Redis.from_url(redis_url)
    opened = Books(
        database, tables, redis, redis_url, History(["v0", "v1", "v2", "v3"], 1, 1, "run")
    )
    try:
        await database.execute(
            "truncate offers, draws, facts, waitlist, movements, standings, orders"
        )
        await opened.sell_three()
        yield opened
    finally:
        await redis.aclose()
        await database.close()


async def gate(books: Books, left: int, **more: int) -> None:
    """Make Redis say the same as Postgres now does."""
    for name, value in {"left": left, **more}.items():
        await books.redis.hset(f"{{{OFFER}}}:o", name, str(value))


async def oversold(books: Books) -> None:
    await books.database.execute("update offers set quantity = 2")
    await gate(books, -1, quantity=2)


async def miscounted(books: Books) -> None:
    await books.database.execute("update offers set taken = 4")


async def lost(books: Books) -> None:
    await books.database.execute("delete from orders where id = 'or_1'")
    await books.database.execute("update offers set taken = 2")
    await books.redis.hdel(f"{{{OFFER}}}:h", "or_1")
    await gate(books, 8)


async def told_of_nothing(books: Books) -> None:
    books.history.endings.told("or_ghost", "reserved", 1)


async def greedy(books: Books) -> None:
    await books.insert("or_9", "v0", "run.3", 9)
    await books.database.execute("update offers set taken = 4, per_viewer = 1")
    await books.redis.hset(f"{{{OFFER}}}:h", "or_9", "x")
    await gate(books, 6)
    books.history.viewers[3] = "v0"
    books.history.sent_ns[3] = 3
    books.history.note(3, 4, "order.reserved", "or_9", 9)


async def released_in_redis(books: Books) -> None:
    await books.redis.hdel(f"{{{OFFER}}}:h", "or_1")


async def held_in_redis(books: Books) -> None:
    await books.redis.hset(f"{{{OFFER}}}:h", "or_8", "8 1 3:bérun.8")


async def left_twice(books: Books) -> None:
    await gate(books, 8)


async def given_back_twice(books: Books) -> None:
    await ended(books, "expired")
    sql = "insert into movements values (1, 'release', 1, 'or_1'), (2, 'release', 1, 'or_1')"
    await books.database.execute(sql)


async def restocked_twice(books: Books) -> None:
    books.history.endings.quantity = 10
    books.history.endings.act("restock", 5).answer = "ok"
    await books.database.execute("update offers set quantity = 20")
    await gate(books, 17, quantity=20)


async def refused_what_is_free(books: Books) -> None:
    books.history.sent_ns[3] = 1
    books.history.note(3, 2, "sold_out", "", 0)


async def refused_below_the_limit(books: Books) -> None:
    books.history.sent_ns[3] = 1
    books.history.note(3, 2, "limit_reached", "", 0)


async def same_rank(books: Books) -> None:
    await books.database.execute("update orders set rank = 2 where id = 'or_2'")


async def overtaken(books: Books) -> None:
    for n, (rank, at_ns) in enumerate(((3, 10), (2, 30), (1, 50))):
        books.history.rank[n], books.history.sent_ns[n] = rank, at_ns
        books.history.final_ns[n] = at_ns + 5
        await books.database.execute(f"update orders set rank = {rank} where id = 'or_{n}'")


async def overdue(books: Books) -> None:
    sql = "update orders set expires_at = now() - interval '9 s' where id = 'or_1'"
    await books.database.execute(sql)


async def ended(books: Books, status: str) -> None:
    """End an order everywhere, its units given back."""
    await books.database.execute(
        f"update orders set status = '{status}', expires_at = now() - interval '10 s',"
        " reserved_at = now() - interval '20 s' where id = 'or_1'"
    )
    await books.database.execute("update offers set taken = 2")
    await books.redis.hdel(f"{{{OFFER}}}:h", "or_1")
    await gate(books, 8)


async def cancelled_by_nobody(books: Books) -> None:
    await ended(books, "cancelled")
    await books.database.execute("insert into movements values (1, 'release', 1, 'or_1')")


async def revived(books: Books) -> None:
    books.history.endings.told("or_1", "expired", 2)
    books.history.endings.ask("or_1", "pay").answer = "order.confirmed"
    await books.database.execute("update orders set status = 'confirmed' where id = 'or_1'")


async def expired_early(books: Books) -> None:
    await ended(books, "expired")
    due = await books.database.fetchval(
        "update orders set expires_at = now() + interval '60 s' where id = 'or_1'"
        " returning (extract(epoch from expires_at) * 1000)::bigint"
    )
    books.history.expires_ms[1] = due
    await books.database.execute("insert into movements values (1, 'release', 1, 'or_1')")


async def refused_and_sold(books: Books) -> None:
    await stray(books)
    books.history.sent_ns[3] = 1
    books.history.note(3, 2, "forbidden", "", 0)


async def stray(books: Books) -> None:
    await books.insert("or_9", "v3", "run.3", 9)
    await books.database.execute("update offers set taken = 4")
    await books.redis.hset(f"{{{OFFER}}}:h", "or_9", "x")
    await gate(books, 6)


async def two_answers(books: Books) -> None:
    books.history.note(1, 9_000_000_000, "order.reserved", "or_2", 3)


async def unwritten(books: Books) -> None:
    await books.redis.zadd(f"{{{OFFER}}}:u", {"or_1": now_ms() - 9_000})


async def sold_while_shut(books: Books) -> None:
    act = books.history.endings.act("pause")
    act.answer, act.answered_ms = "ok", now_ms() - 60_000
    await books.database.execute(
        "update orders set reserved_at = now() - interval '120 s' where id <> 'or_1'"
    )


CASES = [
    Case(oversold, "I1", "or_2", "run.2", "v2", "3 units of 2 with it"),
    Case(miscounted, "I1", "", "", "", "live 3, taken 4, quantity 10"),
    Case(lost, "I2", "or_1", "run.1", "v1", "rows: none"),
    Case(told_of_nothing, "I2", "or_ghost", "", "", "there is no such row"),
    Case(greedy, "I3", "or_9", "run.3", "v0", "holds 2 of 1 allowed, with or_0 or_9"),
    Case(released_in_redis, "I4", "or_1", "run.1", "v1", "only in Postgres"),
    Case(held_in_redis, "I4", "or_8", "run.8", "bé", "only in Redis"),
    Case(left_twice, "I4", "", "", "", "left + live ≠ quantity: 11, 10"),
    Case(given_back_twice, "I4", "or_1", "run.1", "v1", "given back twice"),
    Case(restocked_twice, "I4", "", "", "", "quantity 20, not 15"),
    Case(refused_what_is_free, "I5", "", "run.3", "v3", "told sold_out of 1"),
    Case(refused_below_the_limit, "I5", "", "run.3", "v3", "orders of 0 of 2 units"),
    Case(same_rank, "I6", "or_2", "run.2", "v2", "rank 2 × 2: or_1 or_2"),
    Case(overtaken, "I6", "or_1", "run.1", "v1", "or_0 (run.0 of v0) had 3"),
    Case(overdue, "I8", "or_1", "run.1", "v1", "still reserved"),
    Case(cancelled_by_nobody, "I8", "or_1", "run.1", "v1", "nobody cancelled it"),
    Case(revived, "I8", "or_1", "run.1", "v1", "is confirmed; told expired"),
    Case(expired_early, "I8", "or_1", "run.1", "v1", "given back, due"),
    Case(refused_and_sold, "I10", "or_9", "run.3", "v3", "told forbidden, yet there is or_9"),
    Case(stray, "I10", "or_9", "run.3", "v3", "nobody asked for it"),
    Case(two_answers, "I10", "or_1", "run.1", "v1", "told or_2 too"),
    Case(unwritten, "I11", "or_1", "run.1", "v1", "not known to be a row"),
    Case(sold_while_shut, "host", "or_1", "run.1", "v1", "pause was acknowledged"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.damage.__name__)
async def test_what_is_broken_is_named(books: Books, case: Case) -> None:
    """One invariant is found broken, no other, and the breach has all there is to know of it."""
    await case.damage(books)
    before = time.time_ns() // 1_000_000
    found = await books.judged()
    broken = [one for one in found.findings if one.passed is False]
    assert {one.name for one in broken} == {case.name}, broken
    breach = broken[0].breaches[0]
    assert (breach.order, breach.key, breach.viewer) == (case.order, case.key, case.viewer)
    assert case.what in breach.what
    assert breach.at_ms is not None
    assert breach.since_ms == breach.at_ms - found.began_ms
    assert 0 < breach.at_ms < before + 120_000
    assert breach.text in broken[0].detail


async def test_who_joined_first_is_served_first(books: Books) -> None:
    """R12: an order of a later entry, while an earlier one that wants no more waits."""
    await books.database.execute(
        "update offers set quantity = 4, taken = 4, waiting = 1;"
        "insert into orders values ('or_7', 'of_1', 'v6', 'k', 1, 'reserved', 7);"
        "insert into movements values (1, 'take', -1, 'or_7');"
        "insert into waitlist values ('v5', 'w', 1, 5)"
    )

    async def passed_over() -> list[Breach]:
        found = await judge_waitlist(books.database, OFFER)
        return [breach for one in found if not one.passed for breach in one.breaches]

    (breach,) = await passed_over()
    assert (breach.order, breach.key, breach.viewer) == ("or_7", "k", "v6")
    assert "v5 (w) waits at rank 5" in breach.what
    await books.database.execute("update waitlist set qty = 2")
    assert await passed_over() == []


async def test_units_of_another_bucket_come_to_who_waits(books: Books) -> None:
    """R12: at rest nobody waits in one bucket for what another has free."""
    await books.database.execute(
        "alter table offers add column if not exists parent text,"
        "  add column if not exists bucket int;"
        "alter table orders add column if not exists bucket int;"
        "alter table waitlist add column if not exists bucket int;"
        "update offers set quantity = 5; update orders set bucket = 1;"
        "insert into offers"
        "  (id, quantity, taken, per_viewer, epoch, status, parent, bucket, waiting)"
        "  values ('of_1~1', 3, 3, 2, 1, 'open', 'of_1', 1, 1),"
        "         ('of_1~2', 2, 0, 2, 1, 'open', 'of_1', 2, 0);"
        "insert into waitlist (viewer, key, qty, rank, bucket) values ('v5', 'w', 2, 5, 1)"
    )
    found = await audit(books.database_url, OFFER, rest_wait_s=0)
    (broken,) = [one for one in found.findings if one.passed is False]
    assert (broken.name, broken.breaches[0].viewer) == ("R12", "v5")
    assert "waits for 2 of 2 free in all buckets" in broken.breaches[0].what
    await books.database.execute("update waitlist set qty = 3")
    assert (await audit(books.database_url, OFFER, rest_wait_s=0)).passed


def test_each_invariant_has_a_verdict() -> None:
    """Broken before held, held before unjudged; what was not judged says why, in part too."""
    found = [
        ("of_1", Finding("I1", "a", True)),
        ("of_1", Finding("I5", "b", None, "not judged: no history")),
        ("of_1", Finding("I6", "c", True)),
        ("of_1", Finding("I6", "d", None, "not judged: no history")),
        ("of_2", Finding("I6", "c", False, "x", (Breach("x", "or_1"),), 7)),
        ("of_2", Finding("draw", "e", False, "y")),
    ]
    gathered = {one.name: one for one in verdicts(found)}
    assert gathered.keys() == {*INVARIANTS, "draw"}
    words = {name: one.word for name, one in gathered.items() if one.word != "not judged"}
    assert words == {"I1": "holds", "I6": "BROKEN", "draw": "BROKEN"}
    assert gathered["I2"].why == "nothing was asked about it"
    assert gathered["I5"].why == "“b” not: no history"
    assert gathered["I6"].why == "in part: “d” not: no history"
    assert (gathered["I6"].broken, gathered["I6"].breaches) == (7, (("of_2", Breach("x", "or_1")),))
    assert gathered["draw"].breaches == (("of_2", Breach("e: y")),)
