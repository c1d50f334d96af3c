"""Brings a database to this release's schema.

Numbered files in `migrations/` run once each, in order, and must not change
afterwards (their digest is kept); files in `functions/` are `create or replace` and run
whenever their text changes. An advisory lock makes concurrent calls harmless. Called by
`livecart migrate` and `livecart up`.

A migration library was looked for: those that are kept well bring a second database driver.
"""

from __future__ import annotations

import hashlib
from importlib import resources

import asyncpg

#: Any number, the same for every process of this project.
LOCK = 0x6C697665


class SchemaError(Exception):
    """The database is not one that this release can bring forward."""


async def migrate(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    """Apply what is missing; return the names applied. Raises `SchemaError`."""
    applied: list[str] = []
    async with connection.transaction():
        await connection.execute("set local lock_timeout = 0")  # of another that migrates
        await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
        # A change of a table must not queue in front of a live sale: rather fail, and try again.
        await connection.execute("set local lock_timeout = '5s'")
        await connection.execute(
            "create table if not exists schema_files"
            " (name text primary key, digest text not null,"
            " at timestamptz not null default clock_timestamp())"
        )
        known = {
            r["name"]: r["digest"]
            for r in await connection.fetch("select name, digest from schema_files")
        }
        for folder, once in (("migrations", True), ("functions", False)):
            for name, text in _files(folder):
                digest = hashlib.sha256(text.encode()).hexdigest()
                if known.get(name) == digest:
                    continue
                if once and name in known:
                    raise SchemaError(
                        f"{name} was applied in another form: this database was made by an"
                        " unreleased state of livecart; dump what you need and begin with an"
                        " empty one (with `up`: another --data-dir)"
                    )
                await connection.execute(text)
                await connection.execute(
                    "insert into schema_files (name, digest) values ($1, $2)"
                    " on conflict (name) do update set digest = $2, at = clock_timestamp()",
                    name,
                    digest,
                )
                applied.append(name)
        unknown = set(known) - {n for f in ("migrations", "functions") for n, _ in _files(f)}
        newer = sorted(name for name in unknown if name.startswith("migrations/"))
        if newer:
            raise SchemaError(f"the database is of a newer release: it has {newer[-1]}")
    return applied


async def missing(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    """Return the names of what `migrate` would apply; changes nothing. For `livecart doctor`."""
    known: dict[str, str] = {}
    if await connection.fetchval("select to_regclass('schema_files') is not null"):
        rows = await connection.fetch("select name, digest from schema_files")
        known = {row["name"]: row["digest"] for row in rows}
    return [
        name
        for folder in ("migrations", "functions")
        for name, text in _files(folder)
        if known.get(name) != hashlib.sha256(text.encode()).hexdigest()
    ]


def expected() -> frozenset[str]:
    """Return the names of all files that a database of this release has applied."""
    return frozenset(n for f in ("migrations", "functions") for n, _ in _files(f))


def _files(folder: str) -> list[tuple[str, str]]:
    return sorted(
        (f"{folder}/{entry.name}", entry.read_text("utf-8"))
        for entry in (resources.files("orders.ledger") / folder).iterdir()
        if entry.name.endswith(".sql")
    )
