"""The schema comes up once, stays as it is, and refuses what it does not know."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest

from livecart.cli import run
from livecart.doctor import Verdict
from livecart.doctor import postgres as examined
from livecart.settings import load
from orders.ledger.drift import differences
from orders.ledger.migrate import SchemaError, migrate


async def test_migrating_twice_changes_nothing(database_url: str) -> None:
    """A database that is up to date is left alone."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
    try:
        assert await migrate(connection) == []
    finally:
        await connection.close()


async def test_a_newer_database_is_refused(database_url: str) -> None:
    """An old release must not run on a schema that it does not know."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "insert into schema_files (name, digest) values ('migrations/9999_later.sql', 'x')"
        )
        with pytest.raises(SchemaError, match="newer release"):
            await migrate(connection)
    finally:
        await connection.close()


async def test_a_changed_migration_is_refused(database_url: str) -> None:
    """A migration that was applied in another form stops the start, rather than being skipped."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
    try:
        await connection.execute("update schema_files set digest = 'x' where name like 'migr%'")
        with pytest.raises(SchemaError, match="another form"):
            await migrate(connection)
    finally:
        await connection.close()


async def test_what_the_files_make_is_no_difference(database_url: str) -> None:
    """A migrated database is as the files have it, and comparing leaves nothing behind."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
    try:
        schemas = "select nspname from pg_namespace order by 1"
        before = await connection.fetch(schemas)
        assert await differences(connection) == []
        assert await connection.fetch(schemas) == before
    finally:
        await connection.close()


#: What was done to the schema, and the line that says so.
CHANGES = [
    ("create index mine on orders (qty)", "index orders.mine is in none of our files"),
    ("drop index orders_due", "index orders.orders_due is missing"),
    (
        "alter table orders drop constraint orders_rank_is_unique",
        "constraint orders.orders_rank_is_unique is missing",
    ),
    (
        "alter table offers drop constraint offers_never_oversold, add constraint"
        " offers_never_oversold check (taken <= quantity)",
        "constraint offers.offers_never_oversold is not as our files have it: is"
        " `CHECK (taken <= quantity)`, ought to be `CHECK (0 <= taken AND taken <= quantity)`",
    ),
    (
        "alter table orders disable trigger orders_stay",
        "trigger orders.orders_stay is not as our files have it",
    ),
    ("drop trigger movements_stay on movements", "trigger movements.movements_stay is missing"),
    ("alter table orders add column more integer", "column orders.more is in none of our files"),
    (
        "alter table restocks alter column units type bigint",
        "column restocks.units is not as our files have it: is `bigint not null`, ought to be"
        " `integer not null`",
    ),
    ("create table mine (id integer primary key)", "table mine is in none of our files"),
    ("drop table restocks", "table restocks is missing"),
    ("alter table orders set (fillfactor = 90)", "table orders is not as our files have it"),
    ("create view mine as select 1 as one", "view mine is in none of our files"),
    (
        "create function ms(t integer) returns integer language sql return t",
        "function ms(t integer) is in none of our files",
    ),
    (
        "create or replace function ms(t timestamptz) returns bigint language sql immutable"
        " strict parallel safe return 0",
        "function ms(t timestamp with time zone) is not as our files have it",
    ),
    ("drop function keep_lead(integer)", "function keep_lead(p_lock integer) is missing"),
    (
        "delete from schema_files where name = 'functions/02_admit.sql'",
        "file functions/02_admit.sql is missing",
    ),
    (
        "update schema_files set digest = 'x' where name = 'functions/02_admit.sql'",
        "file functions/02_admit.sql is not as our files have it: an older text was applied",
    ),
    (
        "insert into schema_files (name, digest) values ('migrations/9999_later.sql', 'x')",
        "file migrations/9999_later.sql is of a newer release",
    ),
]


async def test_each_difference_is_a_line_that_names_it(database_url: str) -> None:
    """Whatever was done to the schema by hand, or by another release, is found, and alone."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
    try:
        for change, says in CHANGES:
            undone = connection.transaction()
            await undone.start()
            await connection.execute(f"set local client_min_messages = error; {change}")
            (line,) = map(str, await differences(connection))
            await undone.rollback()
            assert line.startswith(says)
            assert "\n" not in line
        assert await differences(connection) == []
    finally:
        await connection.close()


@pytest.mark.parametrize("as_json", [False, True])
async def test_check_ends_with_status_1_when_they_differ(
    database_url: str,
    as_json: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """0 and nothing named while they are alike; 1 and what differs once they are not."""
    monkeypatch.setenv("LIVECART_DATABASE_URL", database_url)
    command = ["migrate", "--check", *(["--json"] if as_json else [])]
    assert await asyncio.to_thread(run, command) == 0
    said = capsys.readouterr().out
    assert (json.loads(said) == {"differences": []}) if as_json else ("release" in said)
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
    try:
        await connection.execute("drop index orders_due")
    finally:
        await connection.close()
    assert await asyncio.to_thread(run, command) == 1
    said = capsys.readouterr().out
    one = {"kind": "index", "name": "orders.orders_due", "how": "missing", "detail": ""}
    if as_json:
        assert json.loads(said) == {"differences": [one]}
    else:
        assert said == "index orders.orders_due is missing\n"


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ("create index mine on orders (qty)", Verdict.NOTE),
        ("drop index orders_due", Verdict.FAIL),
        ("update schema_files set digest = 'x' where name like 'functions/02%'", Verdict.FAIL),
    ],
)
async def test_doctor_tells_what_does_harm(
    database_url: str, change: str, verdict: Verdict
) -> None:
    """What somebody added for himself is a note; what is missing or old is a failure."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
    try:
        await connection.execute(change)
    finally:
        await connection.close()
    found = await examined(database_url, load({}))
    assert [one.verdict for one in found if one.what.startswith("schema")] == [verdict]
