"""The schema comes up once, stays as it is, and refuses what it does not know."""

from __future__ import annotations

import asyncpg
import pytest

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
