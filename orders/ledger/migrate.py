"""Brings a database to this release's schema, also in the middle of a sale.

Owns the order of files, and what is noted of each in `schema_files` and `schema_steps`; what a
file says of itself is in `files`. Migrations run once each, in the order of their numbers, and must
not change afterwards (their digest is kept); `functions/` are `create or replace` and run whenever
their text changes. Called by `livecart migrate` and `livecart up`.

One works at a time, by an advisory lock of its session. Nothing waits long for a lock that live
sales would queue behind: it gives up after `lock_timeout_ms`, lets them by, and tries again. A
crash between any two steps leaves what is needed to go on; called again, it does.

A migration library was looked for: those that are kept well bring a second database driver.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from orders.ledger.files import Phase, SchemaError, SchemaFile, Step, read_all, runs
from orders.ledger.queries import load

__all__ = [
    "LOCK",
    "Patience",
    "Phase",
    "SchemaError",
    "expected",
    "files_for",
    "known_files",
    "migrate",
    "pending",
]

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

#: Any number, the same for every process of this project.
LOCK = 0x6C697665
SQL = load("orders.ledger", "sql/schema.sql")
#: Somebody else has the lock, or each of us had what the other wanted.
_BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)

Report = Callable[[str], None]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for others."""

    lock_timeout_ms: int = 150  # for one lock; buys give up after 600 ms of waiting
    all_s: float = 120.0  # for all tries of one transaction
    between_s: float = 0.25  # tries


async def migrate(
    connection: Connection,
    phases: Collection[Phase] = tuple(Phase),
    *,
    report: Report = lambda line: None,
    patience: Patience = Patience(),
    files: Sequence[SchemaFile] | None = None,
    options: bool = False,
) -> list[str]:
    """Apply what is missing of these phases; return the names applied. Raises `SchemaError`.

    `options`: what nobody need have, too; a database that has it keeps it.

    Functions are of `pre`, and come with the last run of its files that has a transaction: what
    drops a function to make it anew with other arguments leaves no gap.
    """
    work = _Work(connection, report, patience)
    async with work.alone():
        await connection.execute(SQL["make_notes"])
        files = await files_for(connection, options) if files is None else files
        due = _in_order(await pending(connection, files), phases)
        functions = [f for f in files if not f.once] if Phase.PRE in phases else []
        parts = runs([f for f in due if f.once])
        last = max(
            (i for i, p in enumerate(parts) if p[0].whole and p[0].phase == "pre"), default=-1
        )
        if last < 0 and any(not f.once for f in due):
            last = sum(part[0].phase == "pre" for part in parts)  # after all steps of pre
            parts.insert(last, [])
        for at, part in enumerate(parts):
            if part and not part[0].whole:
                await work.step_by_step(part[0])
            else:
                await work.in_one(part, functions if at == last else [])
        if Phase.PRE in phases and functions:
            await work.make_partitions()
    return work.applied


class _Work:
    """One call of `migrate`."""

    def __init__(self, connection: Connection, report: Report, patience: Patience) -> None:
        self._connection = connection
        self._report = report
        self._patience = patience
        self.applied: list[str] = []

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Keep every other migrator out.

        By trying, not by waiting in Postgres: who waits there has a snapshot, which an index that
        is built concurrently waits for in turn.
        """
        connection, told = self._connection, False
        while not await connection.fetchval("select pg_try_advisory_lock($1)", LOCK):
            if not told:
                self._report("another migrates; waiting for it")
            told = True
            await asyncio.sleep(self._patience.between_s)
        try:
            # A role may have a limit that is meant for those who sell.
            await connection.execute("set statement_timeout = 0")
            # Should we be killed, the server notices, ends what it does for us, and another may go
            # on. Not every platform can.
            with contextlib.suppress(asyncpg.InvalidParameterValueError):
                await connection.execute("set client_connection_check_interval = '2s'")
            yield
        finally:
            # Where the connection is gone, so is the lock.
            with contextlib.suppress(asyncpg.InterfaceError, OSError):
                await connection.execute(SQL["unsettle"])
                await connection.execute("select pg_advisory_unlock($1)", LOCK)

    async def in_one(self, files: Sequence[SchemaFile], functions: Sequence[SchemaFile]) -> None:
        """Apply files in one transaction; then, of the functions, what is not there as it is."""
        names: list[str] = []

        async def attempt() -> None:
            names.clear()
            for file in files:
                await self._execute(file)
            known = await known_files(self._connection)
            due = [f for f in functions if known.get(f.name) != f.digest]
            if any(file.anew for file in files):
                due = list(functions)
            for file in due:
                await self._execute(file)
            names.extend(file.name for file in (*files, *due))

        what = files[0].name if files else "functions"
        await self._patiently(what, attempt)
        for name in names:
            self._report(name)
        self.applied += names

    async def _execute(self, file: SchemaFile) -> None:
        await self._connection.execute(file.text)
        await self._connection.execute(SQL["note_file"], file.name, file.digest)

    async def step_by_step(self, file: SchemaFile) -> None:
        """Apply the steps of a file that are not done yet, and note each."""
        rows = await self._connection.fetch(SQL["steps_of"], file.name)
        if any(row["digest"] != file.digest for row in rows):
            raise SchemaError(f"{file.name} was begun in another form: end it with that release")
        known = {row["step"]: row for row in rows}
        for n, step in enumerate(file.steps, 1):
            row = known.get(n)
            if row is not None and row["done"]:
                continue
            self._report(f"{file.name} {n}/{len(file.steps)}: {step.words}")
            if step.batches:
                await self._in_batches(file, n, step, row["position"] if row else "")
            else:
                await self._one_step(file, n, step)
            await self._connection.execute(SQL["note_step"], file.name, n, file.digest, None, True)
        async with self._connection.transaction():
            await self._connection.execute(SQL["note_file"], file.name, file.digest)
            await self._connection.execute(SQL["forget_steps"], file.name)
        self._report(file.name)
        self.applied.append(file.name)

    async def make_partitions(self) -> None:
        """Make what is lacking ahead of time; a row without its partition would be refused."""
        while part := await self._patiently("a partition", self._make_partition):
            self._report(f"partition {part}")

    async def _make_partition(self) -> str | None:
        made: str | None = await self._connection.fetchval(SQL["make_partition"])
        return made

    async def _one_step(self, file: SchemaFile, n: int, step: Step) -> None:
        """Apply a statement by itself; what a crash left half built is built anew."""
        if step.builds and await self._connection.fetchval(SQL["is_half_built"], step.builds):
            await self._connection.execute(f"drop index concurrently {step.builds}")
        if not step.concurrent:
            await self._patiently(f"{file.name} {n}", lambda: self._connection.execute(step.text))
            return
        # It waits for transactions to end, with a lock that nobody who reads or writes minds.
        await self._connection.execute("set lock_timeout = 0")
        await self._connection.execute(step.text)

    async def _in_batches(self, file: SchemaFile, n: int, step: Step, position: str | None) -> None:
        """Repeat a statement until it is through; its position is committed with its rows."""
        done, told_s = 0, time.monotonic()
        while position is not None:
            began_s, after = time.monotonic(), position

            async def attempt(after: str = after) -> asyncpg.Record:
                row = await self._connection.fetchrow(step.text, after)
                assert row is not None
                if row[0] is not None and row[0] <= after:
                    raise SchemaError(f"{file.name} {n}: it does not get beyond {after!a}")
                await self._connection.execute(
                    SQL["note_step"], file.name, n, file.digest, row[0], False
                )
                return row

            position, rows = await self._patiently(f"{file.name} {n}", attempt)
            done += rows or 0
            if time.monotonic() > told_s + 2 or position is None:
                told_s = time.monotonic()
                self._report(f"{file.name} {n}/{len(file.steps)}: {done:,} rows")
            # Half of the time is the sale's.
            await asyncio.sleep(time.monotonic() - began_s)

    async def _patiently(self, what: str, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Try in a transaction until no lock was in the way; raises SchemaError in the end."""
        until_s, told = time.monotonic() + self._patience.all_s, False
        while True:
            try:
                async with self._connection.transaction():
                    timeout = f"set local lock_timeout = {self._patience.lock_timeout_ms}"
                    await self._connection.execute(timeout)
                    return await attempt()
            except _BUSY as error:
                if time.monotonic() > until_s:
                    raise SchemaError(
                        f"{what}: {error}; tried for {self._patience.all_s:.0f} s: nothing of it"
                        " was applied; find who holds that lock (pg_stat_activity)"
                    ) from error
                if not told:
                    self._report(f"{what}: waits until a lock is free")
                told = True
            await asyncio.sleep(self._patience.between_s)


async def pending(
    connection: Connection, files: Sequence[SchemaFile] | None = None
) -> list[SchemaFile]:
    """Return what is not applied as it is; changes nothing. Raises `SchemaError` as `migrate`."""
    known = await known_files(connection)
    files = read_all(_chosen(known)) if files is None else files
    for file in files:
        if file.once and known.get(file.name, file.digest) != file.digest:
            raise SchemaError(
                f"{file.name} was applied in another form: this database was made by an"
                " unreleased state of livecart; dump what you need and begin with an"
                " empty one (with `up`: another --data-dir)"
            )
    ours = {file.name for file in files}
    newer = sorted(n for n in known if n.startswith("migrations/") and n not in ours)
    if newer:
        raise SchemaError(f"the database is of a newer release: it has {newer[-1]}")
    return [file for file in files if known.get(file.name) != file.digest]


def expected() -> frozenset[str]:
    """Return the names of all files that a database must have applied for this release to run."""
    return frozenset(file.name for file in read_all() if file.phase is Phase.PRE)


async def files_for(connection: Connection, options: bool = False) -> list[SchemaFile]:
    """Return this release's files for a database: with the options that it has."""
    return read_all(options or _chosen(await known_files(connection)))


def _chosen(known: Collection[str]) -> bool:
    return any(name.startswith("options/") for name in known)


async def known_files(connection: Connection) -> dict[str, str]:
    """Return the digest of each file that was applied, by name."""
    if not await connection.fetchval("select to_regclass('schema_files') is not null"):
        return {}
    return {row["name"]: row["digest"] for row in await connection.fetch(SQL["files"])}


def _in_order(due: Sequence[SchemaFile], phases: Collection[Phase]) -> list[SchemaFile]:
    """Return what is to be applied; raises SchemaError where that would not be in order."""
    asked = [file for file in due if file.phase in phases]
    for file in asked:
        before = next((f for f in due if f.once and f.name < file.name and f not in asked), None)
        if file.once and before is not None:
            raise SchemaError(
                f"{file.name} comes after {before.name}: `livecart migrate --{before.phase}` first"
            )
    if Phase.PRE not in phases and any(not file.once for file in due):
        raise SchemaError("functions are of another release yet: `livecart migrate --pre`")
    return asked
