"""The peer that keeps a row for each unit: `FOR UPDATE SKIP LOCKED LIMIT 1`, sixteen clients.

Owns a scratch schema, the script and the count of what it sold. One statement finds a free unit,
marks it and writes the order, so that nothing but the COMMIT is waited for; the free ones have an
index of their own. No viewer's limit is looked at.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import asyncpg

from loadtest.peers import pgbench

UNITS_PER_S = 20_000  # that are there to be sold: more than it can

_SCHEMA = """
create schema {schema};
create table {schema}.unit (id int primary key, sold_at timestamptz);
create table {schema}.unit_order (
    id bigint generated always as identity primary key,
    unit int not null references {schema}.unit, viewer int not null,
    reserved_at timestamptz not null default clock_timestamp());
insert into {schema}.unit (id) select generate_series(1, {units});
create index on {schema}.unit (id) where sold_at is null;
analyze {schema}.unit;
"""
_SCRIPT = r"""\set viewer random(1, 5000)
with free as (
  select id from {schema}.unit where sold_at is null order by id limit 1 for update skip locked
), sold as (
  update {schema}.unit u set sold_at = clock_timestamp() from free where u.id = free.id
  returning u.id
)
insert into {schema}.unit_order (unit, viewer) select id, :viewer from sold;
"""
_COUNT = """
select count(*) as orders, count(*) - count(distinct unit) as twice,
       (select count(*) from {schema}.unit where sold_at is not null) as marked
  from {schema}.unit_order
"""


@dataclass(slots=True, frozen=True)
class SkipLocked:
    """How fast it sold, and what became of the units."""

    orders_per_s: float
    orders: int
    sold_twice: int  # units with more than one order
    lost: int  # units that are marked and have no order
    version: str


async def skip_locked(database_url: str, duration_s: int) -> SkipLocked | None:
    """Sell for so long against the server of `database_url`; None: there is no pgbench."""
    program = next(pgbench.find_pgbench(), None)
    if program is None:
        return None
    schema = f"skip_locked_{secrets.token_hex(4)}"
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
    try:
        units = UNITS_PER_S * duration_s
        await connection.execute(_SCHEMA.format(schema=schema, units=units))
        try:
            script = _SCRIPT.format(schema=schema)
            ran = await pgbench.run_script(program, database_url, script, duration_s)
            found = await connection.fetchrow(_COUNT.format(schema=schema))
        finally:
            await connection.execute(f"drop schema {schema} cascade")
    finally:
        await connection.close()
    assert found is not None
    orders = int(found["orders"])
    return SkipLocked(
        # A script that finds no unit any more is a transaction, too, but no order.
        orders_per_s=ran.per_s * orders / max(ran.transactions, 1),
        orders=orders,
        sold_twice=int(found["twice"]),
        lost=int(found["marked"]) - orders + int(found["twice"]),
        version=ran.version,
    )
