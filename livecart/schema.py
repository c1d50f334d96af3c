"""`livecart migrate`: the schema's files and the database, brought together or compared.

Owns the connection and what is said meanwhile; how it is done is `orders.ledger`'s. Called by `cli`
and, before anything is served, by `up`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from orders.ledger.drift import differences
from orders.ledger.migrate import Phase, SchemaError, migrate

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

CONNECT_TIMEOUT_S = 5.0
_T = TypeVar("_T")


class DatabaseFault(Exception):
    """The database cannot be reached or brought forward; the text is meant for the user."""


def bring_schema_forward(
    database_url: str,
    asked: tuple[Phase, ...] = tuple(Phase),
    partitions: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Apply what the database lacks and return its names; raises DatabaseFault."""
    return _run(
        database_url,
        lambda connection: migrate(connection, asked, report=report, options=partitions),
        "the database cannot be brought forward",
    )


def phases(*, pre: bool, post: bool) -> tuple[Phase, ...]:
    """Return the phases that were asked for."""
    return tuple(phase for phase, asked in ((Phase.PRE, pre), (Phase.POST, post)) if asked)


def bring(database_url: str, asked: tuple[Phase, ...], partitions: bool) -> None:
    """Apply what is lacking of the phases, saying so line by line; raises DatabaseFault."""
    if not bring_schema_forward(database_url, asked, partitions, _say):
        _say("nothing to do: the schema is this release's")


def check(database_url: str, as_json: bool, *, post: bool) -> int:
    """Print what differs, a line each, and return the status; raises DatabaseFault.

    Not `post`: what waits for the end of the roll-out is no difference yet.
    """
    found = _run(database_url, differences, "the schema cannot be compared")
    found = [one for one in found if post or one.how != "waits"]
    if as_json:
        _say(json.dumps({"differences": [one._asdict() for one in found]}))
    else:
        for one in found:
            _say(str(one))
        if not found:
            _say("the schema is this release's")
    return 1 if found else 0


def _run(database_url: str, call: Callable[[Connection], Awaitable[_T]], fault: str) -> _T:
    async def run() -> _T:
        connection = await asyncpg.connect(database_url, timeout=CONNECT_TIMEOUT_S)
        try:
            return await call(connection)
        finally:
            await connection.close()

    try:
        return asyncio.run(run())
    except SchemaError as error:
        raise DatabaseFault(str(error)) from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        what = str(error) or type(error).__name__
        raise DatabaseFault(f"{fault}: {what}") from error


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
