"""Migrations under load: steps, phases, crashes, and a sale that goes on meanwhile."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from orders.ledger.drift import differences
from orders.ledger.files import SchemaFile, read_all
from orders.ledger.migrate import LOCK, Patience, Phase, SchemaError, migrate, pending
from tests.shop import Shop, bought, until

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

ADDED = SchemaFile(
    "migrations/9001_added.sql",
    """-- A column that is filled while everybody sells.
-- transaction: none

-- step: add the column
alter table orders add column note integer

-- batches: fill it
with page as (select id from orders where id > $1 order by id limit 10),
     filled as (update orders o set note = coalesce(o.note, 0) + 1 from page where o.id = page.id)
select max(id), count(*) from page

-- step: index it
create index concurrently if not exists orders_note on orders (note)
""",
)
DROPPED = SchemaFile(
    "migrations/9002_dropped.sql",
    "-- phase: post\nalter table orders drop column ended_reason;\n",
)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    """A connection to a migrated database."""
    connection: Connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def seed(connection: Connection, orders: int) -> None:
    """Orders of an offer that is no more than a name."""
    await connection.execute(
        "insert into orders (id, offer, stream, viewer, key, qty, unit_price_minor, status, rank,"
        " reserved_at) select 'or_' || lpad(i::text, 6, '0'), 'of_x', 'st_x', 'v' || i, 'k', 1, 1,"
        " 'cancelled', i, now() from generate_series(1, $1::integer) i".replace(
            "$1::integer", str(orders)
        )
    )


async def test_a_phase_applies_its_own_files_and_in_order(connection: Connection) -> None:
    """`--pre` leaves what waits; `--post` comes after it; later files wait for both."""
    files = [*read_all(), ADDED, DROPPED]
    assert await migrate(connection, [Phase.PRE], files=files) == [ADDED.name]
    assert [one.how for one in await differences(connection, files)] == ["waits"]
    assert [file.name for file in await pending(connection, files)] == [DROPPED.name]
    later = SchemaFile("migrations/9003_later.sql", "create table later (id integer);")
    with pytest.raises(SchemaError, match=r"9003_later.sql comes after .*9002.* --post"):
        await migrate(connection, [Phase.PRE], files=[*files, later])
    assert await migrate(connection, [Phase.POST], files=files) == [DROPPED.name]
    assert await migrate(connection, files=[*files, later]) == [later.name]
    assert await differences(connection, [*files, later]) == []


async def test_post_waits_for_pre(connection: Connection) -> None:
    """What belongs after the roll-out is refused while its forerunner is not applied."""
    with pytest.raises(SchemaError, match=r"9002_dropped.sql comes after .*9001.* --pre"):
        await migrate(connection, [Phase.POST], files=[*read_all(), ADDED, DROPPED])


async def test_functions_that_a_file_drops_are_there_again_with_its_commit(
    connection: Connection,
) -> None:
    """A file that drops functions has them made anew in its own transaction."""
    drops = SchemaFile(
        "migrations/9000_drops.sql",
        "-- functions: anew\ndrop function if exists shut(offers, integer, timestamptz);",
    )
    files = [*read_all(), drops, ADDED]
    functions = [file.name for file in files if not file.once]
    assert await migrate(connection, files=files) == [drops.name, *functions, ADDED.name]
    assert await differences(connection, files) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("-- phase: later\nselect 1;", "no phase"),
        ("-- transaction: some\nselect 1;", "no transaction"),
        ("-- functions: maybe\nselect 1;", "anew"),
        ("-- transaction: none\nselect 1;", "needs `-- step:` lines"),
        ("-- transaction: none\n-- step: x\ncreate index concurrently i on orders (qty)", "lacks"),
        ("-- transaction: none\n-- batches: x\nselect $1::text, 1", "does not get beyond ''"),
    ],
)
async def test_a_file_that_cannot_be_applied_says_why(
    connection: Connection, text: str, says: str
) -> None:
    """A header that is no header stops the migration before anything of the file is applied."""
    with pytest.raises(SchemaError, match=says):
        await migrate(connection, files=[*read_all(), SchemaFile("migrations/9001_x.sql", text)])


async def test_functions_come_after_steps_that_they_need(connection: Connection) -> None:
    """With no file in one transaction, functions are replaced once the last step is done."""
    needs = SchemaFile(
        "functions/99_note.sql",
        "create or replace function note_of(o orders) returns integer language sql return o.note;",
    )
    files = [*read_all(), ADDED, needs]
    assert await migrate(connection, files=files) == [ADDED.name, needs.name]
    assert await differences(connection, files) == []


async def test_one_migrates_at_a_time(connection: Connection, database_url: str) -> None:
    """A second migrator waits, says so, and finds nothing left to do; an index that is built
    concurrently meanwhile does not wait for it in turn.
    """
    files, said = [*read_all(), ADDED], list[str]()
    other: Connection = await asyncpg.connect(database_url)
    try:
        await other.execute("select pg_advisory_lock($1)".replace("$1", str(LOCK)))
        waiting = asyncio.create_task(migrate(connection, files=files, report=said.append))
        await until(lambda: said == ["another migrates; waiting for it"])
        await other.execute("create index concurrently mine on orders (qty)")
        await other.execute("drop index mine")
        await other.execute(f"select pg_advisory_unlock({LOCK})")
        assert await waiting == [ADDED.name]
        assert await migrate(other, files=files) == []
    finally:
        await other.close()


async def test_a_sale_goes_on_while_a_migration_waits_for_a_lock(shop: Shop) -> None:
    """A long transaction keeps a table from being altered; no buy has to queue behind that."""
    hub, offer, said = shop.hubs[0], await shop.offer(1000), list[str]()
    reader: Connection = await asyncpg.connect(shop.database_url)
    migrator: Connection = await asyncpg.connect(shop.database_url)
    alter = SchemaFile("migrations/9001_alter.sql", "alter table orders add column note text;")
    try:
        report = reader.transaction()
        await report.start()
        await reader.fetch("select count(*) from orders")
        files = [*read_all(), alter]
        migrating = asyncio.create_task(
            migrate(migrator, files=files, report=said.append, patience=Patience(between_s=0.05))
        )
        await until(lambda: len(said) == 1)
        # Long enough for several tries: each of these waits for its answer, none is `retry`.
        accepted = [bought(await hub.buy(offer.id, f"v{n}")) for n in range(60)]
        assert not migrating.done()
        await report.rollback()
        assert await migrating == [alter.name]
        accepted.append(bought(await hub.buy(offer.id, "last")))
    finally:
        await reader.close()
        await migrator.close()
    await shop.rested(offer.id)
    rows = await shop.fetch("select id from orders where offer = $1", offer.id)
    assert {row[0] for row in rows} == {order.id for order in accepted}


async def test_steps_are_applied_while_a_sale_goes_on(shop: Shop) -> None:
    """Steps, batches and an index built concurrently: every buy gets its order, and keeps it."""
    hub, offer = shop.hubs[0], await shop.offer(1000)
    accepted = [bought(await hub.buy(offer.id, f"a{n}")) for n in range(50)]
    migrator: Connection = await asyncpg.connect(shop.database_url)
    try:
        migrating = asyncio.create_task(migrate(migrator, files=[*read_all(), ADDED]))
        # Bounded: else ten rows at a time might never get to the end of what is sold meanwhile.
        while not migrating.done() and len(accepted) < 150:
            accepted.append(bought(await hub.buy(offer.id, f"b{len(accepted)}")))
        assert await migrating == [ADDED.name]
    finally:
        await migrator.close()
    await shop.rested(offer.id)
    rows = await shop.fetch("select id, note from orders where offer = $1", offer.id)
    assert {row["id"] for row in rows} == {order.id for order in accepted}
    assert all(row["note"] == 1 for row in rows if row["id"] <= accepted[49].id)


async def test_a_lock_that_is_never_free_is_told(shop: Shop) -> None:
    """Patience ends: nothing of the file is applied, and the same call may be made again."""
    alter = SchemaFile(
        "migrations/9001_alter.sql",
        "create table left_over (id integer); alter table orders add column note text;",
    )
    reader: Connection = await asyncpg.connect(shop.database_url)
    migrator: Connection = await asyncpg.connect(shop.database_url)
    files = [*read_all(), alter]
    try:
        async with reader.transaction():
            await reader.fetch("select count(*) from orders")
            with pytest.raises(SchemaError, match=r"9001_alter.sql: .*lock.*nothing of it was"):
                await migrate(migrator, files=files, patience=Patience(20, 0.1, 0.01))
        assert await migrator.fetchval("select to_regclass('left_over')") is None
        assert await migrate(migrator, files=files) == [alter.name]
    finally:
        await reader.close()
        await migrator.close()


#: A process that migrates, to be killed.
PROCESS = """
import asyncio, sys, asyncpg
from orders.ledger.files import SchemaFile, read_all
from orders.ledger.migrate import migrate
async def main():
    connection = await asyncpg.connect(sys.argv[1])
    await migrate(connection, files=[*read_all(), SchemaFile(sys.argv[2], sys.argv[3])])
asyncio.run(main())
"""


async def test_a_killed_migration_goes_on_where_it_was(
    connection: Connection, database_url: str
) -> None:
    """kill -9 among the batches: no row is filled twice, none is left out."""
    await seed(connection, 1000)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, database_url, ADDED.name, ADDED.text,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip

    async def in_the_middle() -> bool:
        if not await connection.fetchval("select to_regclass('schema_steps') is not null"):
            return False
        return bool(
            await connection.fetchval(
                "select exists (select 1 from schema_steps where step = 2 and position > 'or_0001')"
            )
        )

    await until(in_the_middle, 60)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert await connection.fetchval("select count(*) from orders where note is null") > 0
    changed = SchemaFile(ADDED.name, ADDED.text + "-- another text\n")
    with pytest.raises(SchemaError, match="begun in another form"):
        await migrate(connection, files=[*read_all(), changed])
    assert await migrate(connection, files=[*read_all(), ADDED]) == [ADDED.name]
    rows = await connection.fetch("select note, count(*) from orders group by note")
    assert [tuple(row) for row in rows] == [(1, 1000)]
    assert await differences(connection, [*read_all(), ADDED]) == []


async def test_a_half_built_index_is_built_anew(connection: Connection) -> None:
    """What a crash left of an index is not taken for it."""
    await seed(connection, 2)
    steps = SchemaFile(
        "migrations/9001_unique.sql",
        "-- transaction: none\n-- step: build\n"
        "create unique index concurrently if not exists orders_once on orders (offer)",
    )
    with pytest.raises(asyncpg.UniqueViolationError):
        await migrate(connection, files=[*read_all(), steps])
    assert await connection.fetchval("select to_regclass('orders_once') is not null")
    await connection.execute("alter table orders disable trigger user; delete from orders")
    await connection.execute("alter table orders enable trigger user")
    assert await migrate(connection, files=[*read_all(), steps]) == [steps.name]
    assert await differences(connection, [*read_all(), steps]) == []
