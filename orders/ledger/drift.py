"""Where a database differs from what this release's files make.

Owns the comparison; changes nothing. Called by `livecart migrate --check` and `livecart doctor`.

What the files make is found by having them make it: in a schema beside ours, in a transaction that
is rolled back. So the same server words both sides, whatever its version, and nothing recorded can
be out of date. It costs about half a second, the right to create a schema, and no lock that anybody
else wants.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from orders.ledger.files import Phase, SchemaFile
from orders.ledger.migrate import files_for, known_files
from orders.ledger.queries import load

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

SQL = load("orders.ledger", "sql/schema.sql")
#: What `migrate` keeps beside what the files make.
NOTES = ["schema_files", "schema_steps"]
DETAIL_MAX = 200  # characters; past that, that it differs must do


class Difference(NamedTuple):
    """One thing that is not as the files have it."""

    kind: str  # file, table, view, column, index, constraint, trigger, function
    name: str  # with its table, as `orders.qty`
    how: str  # missing, extra, differs, newer; of a file that waits for the roll-out's end: waits
    detail: str

    def __str__(self) -> str:
        says = {
            "missing": "is missing",
            "extra": "is in none of our files",
            "differs": "is not as our files have it",
            "newer": "is of a newer release",
            "waits": "waits for the end of the roll-out",
        }[self.how]
        return f"{self.kind} {self.name} {says}" + (f": {self.detail}" if self.detail else "")


class Thing(NamedTuple):
    """One row of the catalog."""

    kind: str
    owner: str | None
    name: str

    @property
    def path(self) -> str:
        """How people call it."""
        return f"{self.owner}.{self.name}" if self.owner else self.name


async def differences(
    connection: Connection, files: Sequence[SchemaFile] | None = None
) -> list[Difference]:
    """Return what differs, in a fixed order; raises what asyncpg raises.

    While files are missing nothing else is compared: all that they make would be missing, too.
    """
    files = await files_for(connection) if files is None else files
    found = _compare_files(files, await known_files(connection))
    if any(one.how != "waits" for one in found):
        return found
    waiting = {one.name for one in found}
    made_by = [file for file in files if file.name not in waiting]
    transaction = connection.transaction()
    await transaction.start()
    try:
        ours = await connection.fetchval("select current_schema()")
        real = await _catalog(connection, ours)
        wanted = await _catalog(connection, await _make(connection, made_by))
    finally:
        await transaction.rollback()
    return found + _compare(real, wanted)


def _compare_files(files: Sequence[SchemaFile], known: dict[str, str]) -> list[Difference]:
    found = []
    for file in files:
        if file.name not in known:
            how = "waits" if file.phase is Phase.POST else "missing"
            found.append(Difference("file", file.name, how, ""))
        elif known[file.name] != file.digest:
            detail = "applied in another form" if file.once else "an older text was applied"
            found.append(Difference("file", file.name, "differs", detail))
    ours = {file.name for file in files}
    found += [
        Difference("file", name, "newer", "")
        for name in sorted(known)
        if name not in ours and name.startswith("migrations/")
    ]
    return found


async def _make(connection: Connection, files: Sequence[SchemaFile]) -> str:
    """Apply files to an empty schema; return its name. The caller rolls back."""
    schema = f"livecart_{secrets.token_hex(6)}"
    await connection.execute(f"create schema {schema}; set local search_path = {schema}")
    await connection.execute("set local client_min_messages = warning")
    for file in sorted(files, key=lambda file: not file.once):  # functions come last
        if file.whole:
            await connection.execute(file.text)
            continue
        for step in file.steps:
            if not step.batches:  # there is no row that it could change
                # Nobody else sees these tables, and in a transaction it must not be concurrent.
                await connection.execute(re.sub(r"(?i)\bconcurrently\b", "", step.text))
    return schema


async def _catalog(connection: Connection, schema: str) -> dict[Thing, str]:
    await connection.execute(f'set local search_path = "{schema}"')
    rows = await connection.fetch(SQL["catalog"], schema, NOTES)
    return {Thing(row[0], row[1], row[2]): row[3] for row in rows}


def _compare(real: dict[Thing, str], wanted: dict[Thing, str]) -> list[Difference]:
    found = []
    # Of a table that is not there at all, its columns need not be named.
    whole = {thing.name for thing in real.keys() ^ wanted.keys() if thing.kind == "table"}
    for thing in sorted(real.keys() | wanted.keys(), key=lambda t: (t.kind, t.path)):
        if thing.owner in whole:
            continue
        if thing not in real:
            found.append(Difference(thing.kind, thing.path, "missing", ""))
        elif thing not in wanted:
            found.append(Difference(thing.kind, thing.path, "extra", ""))
        elif real[thing] != wanted[thing]:
            detail = f"is `{real[thing]}`, ought to be `{wanted[thing]}`"
            if len(detail) > DETAIL_MAX or "\n" in detail:
                detail = ""
            found.append(Difference(thing.kind, thing.path, "differs", detail))
    return found
