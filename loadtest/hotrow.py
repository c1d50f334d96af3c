"""The peer that a sale is measured against: one hot row, sixteen clients, the same server.

Owns a scratch schema, a pgbench run (or, without pgbench, the same transaction from a process of
its own over asyncpg), and the rate that came out. This is how a shop without a gate in front of
Postgres would sell: one UPDATE and one INSERT for each order.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from loadtest.peers.pgbench import CLIENTS, run_program, run_script
from loadtest.peers.pgbench import find_pgbench as find_pgbench

DURATION_S = 8

_SCHEMA = """
create schema {schema};
create table {schema}.hot_offer (
    id int primary key, quantity bigint not null, sold bigint not null);
create table {schema}.hot_order (
    id bigint generated always as identity primary key,
    offer int not null references {schema}.hot_offer, viewer int not null, qty int not null,
    reserved_at timestamptz not null default clock_timestamp());
insert into {schema}.hot_offer values (1, 1000000000, 0);
"""
_UPDATE = "update {schema}.hot_offer set sold = sold + 1 where id = 1 and sold < quantity"
_INSERT = "insert into {schema}.hot_order (offer, viewer, qty) values (1, {viewer}, 1)"


@dataclass(slots=True, frozen=True)
class HotRow:
    """How fast the peer sold."""

    tool: str
    clients: int
    duration_s: float
    orders_per_s: float


#: Where the process that stands in for pgbench is told of the server: never on a command line.
ADDRESS = "LIVECART_HOT_ROW_URL"


async def hot_row(database_url: str, duration_s: int = DURATION_S) -> HotRow:
    """Run the peer for `duration_s` against the server of `database_url`."""
    schema = f"hotrow_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_SCHEMA.format(schema=schema))
        try:
            program = next(find_pgbench(), None)
            if program is not None:
                return await _pgbench(program, database_url, schema, duration_s)
            return await _asyncpg(database_url, schema, duration_s)
        finally:
            await connection.execute(f"drop schema {schema} cascade")
    finally:
        await connection.close()


async def _pgbench(program: Path, database_url: str, schema: str, duration_s: int) -> HotRow:
    script = "\n".join(
        (
            r"\set viewer random(1, 5000)",
            "begin;",
            _UPDATE.format(schema=schema) + ";",
            _INSERT.format(schema=schema, viewer=":viewer") + ";",
            "commit;\n",
        )
    )
    ran = await run_script(program, database_url, script, duration_s)
    return HotRow("pgbench", CLIENTS, duration_s, ran.per_s)


async def _asyncpg(database_url: str, schema: str, duration_s: int) -> HotRow:
    output = await run_program(
        *(sys.executable, "-m", "loadtest.hotrow", schema, str(duration_s)),
        environment={**os.environ, ADDRESS: database_url},
    )
    return HotRow("asyncpg, one process", CLIENTS, duration_s, float(output))


async def _sell(database_url: str, schema: str, duration_s: float) -> float:
    """The pgbench script over asyncpg; returns orders per second."""
    update, insert = _UPDATE.format(schema=schema), _INSERT.format(schema=schema, viewer="$1")
    connections = [await asyncpg.connect(database_url) for _ in range(CLIENTS)]
    started = time.perf_counter()

    async def client(connection: asyncpg.Connection, viewer: int) -> int:
        sold = 0
        update_one = await connection.prepare(update)
        insert_one = await connection.prepare(insert)
        while time.perf_counter() - started < duration_s:
            async with connection.transaction():
                await update_one.fetch()
                await insert_one.fetch(viewer)
            sold += 1
        return sold

    sold = await asyncio.gather(*(client(c, n) for n, c in enumerate(connections)))
    rate = sum(sold) / (time.perf_counter() - started)
    for connection in connections:
        await connection.close()
    return rate


def main() -> None:
    """Entry of the process that stands in for pgbench."""
    import uvloop

    rate = uvloop.run(_sell(os.environ[ADDRESS], sys.argv[1], float(sys.argv[2])))
    sys.stdout.write(f"{rate}\n")


if __name__ == "__main__":
    main()
