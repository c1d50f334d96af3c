"""Invoice numbers: no gap and no double, whoever dies in the middle of taking one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest

from orders.ledger.invoices import invoices_of, issue
from orders.ledger.ledger import Ledger, LedgerAway
from orders.ledger.pool import open_pool
from orders.money import TAX_BP_MAX, split_tax
from tests.orders_rig import World, build, fill

TASKS = 20


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """Connections to a database of the test's own."""
    pool = await open_pool(database_url, 10, lock_timeout_ms=10_000)
    try:
        yield pool
    finally:
        await pool.close()


async def _paid(
    pool: asyncpg.Pool[asyncpg.Record], world: World, orders: int, shop: str = "shop"
) -> list[str]:
    """Make orders whose money has moved; return their ids."""
    await fill(pool, world, orders * 2)
    rows = await pool.fetch(
        "select r.id from orders r join streams s on s.id = r.stream"
        " where r.captured_at is not null and s.shop = $1 order by r.id", shop,
    )  # fmt: skip
    return [row["id"] for row in rows]


#: What asyncpg says to a call whose session is killed, depending on where it was.
KILLED = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


async def test_numbers_have_no_gap_whoever_is_killed(
    pool: asyncpg.Pool[asyncpg.Record], database_url: str
) -> None:
    """Twenty at once, while sessions are killed, calls cut off and transactions rolled back."""
    world = await build(pool)
    orders = await _paid(pool, world, 120)
    assert len(orders) > 60
    chance = random.Random(3)
    ledger = Ledger(pool, acquire_s=20, timeout_s=20)
    todo = [order for order in orders for _ in range(2)]  # each twice: two taps of one button
    chance.shuffle(todo)
    issuing, killed = True, 0

    async def work() -> None:
        while todo:
            order = todo.pop()
            if chance.random() < 0.2:  # one who takes a number and goes back
                with suppress(*KILLED):
                    async with pool.acquire() as connection:
                        transaction = connection.transaction()
                        await transaction.start()
                        await connection.fetchval(
                            "select issue_invoice($1, 'INV', 'CN', 'host')", order
                        )
                        await transaction.rollback()
            if chance.random() < 0.2:  # one who is cut off
                call = asyncio.create_task(issue(ledger, order, "host"))
                await asyncio.wait({call}, timeout=chance.random() / 100)
                call.cancel()
                with suppress(asyncio.CancelledError, LedgerAway):
                    await call
            while True:
                with suppress(LedgerAway):
                    assert await issue(ledger, order, "host") in ("ok", "again")
                    break

    async def kill() -> None:
        nonlocal killed
        killer: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
        try:
            while issuing:
                killed += await killer.fetchval(
                    "select count(*) from (select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                    " and state <> 'idle' order by random() limit 1) x"
                )
                await asyncio.sleep(0.1)
        finally:
            await killer.close()

    killing = asyncio.create_task(kill())
    try:
        await asyncio.gather(*(work() for _ in range(TASKS)))
    finally:
        issuing = False
        await killing
    assert killed > 0
    rows = await pool.fetch("select series, year, n, order_id, kind from invoices")
    invoices = [row["n"] for row in rows if row["kind"] == "invoice"]
    assert sorted(invoices) == list(range(1, len(orders) + 1))
    assert {row["order_id"] for row in rows} == set(orders)
    notes = [row["n"] for row in rows if row["kind"] == "credit_note"]
    assert notes
    assert sorted(notes) == list(range(1, len(notes) + 1))
    for row in await pool.fetch("select * from invoice_series"):
        assert row["last"] == (len(invoices) if row["series"] == "INV" else len(notes))


async def test_shops_and_years_have_numbers_of_their_own(
    pool: asyncpg.Pool[asyncpg.Record],
) -> None:
    """Each shop counts from 1 in each series, and what was issued is never rewritten."""
    world = await build(pool)
    await fill(pool, world, 200)
    ledger = Ledger(pool)
    for shop in ("shop", "other"):
        for n, order in enumerate((await _paid(pool, world, 0, shop))[:3], start=1):
            assert await issue(ledger, order, "host") == "ok"
            number = (await invoices_of(ledger, order))[0].number
            assert number.startswith("INV-2")
            assert number.endswith(f"-{n:06d}")
    for sql in ("delete from invoices", "update invoices set n = n + 1", "truncate invoice_series"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await pool.execute(sql)


async def test_nothing_is_invoiced_that_was_not_paid(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """An order whose money has not moved has no invoice, and takes no number."""
    world = await build(pool)
    await fill(pool, world, 60)
    ledger = Ledger(pool)
    for row in await pool.fetch("select id from orders where captured_at is null"):
        assert await issue(ledger, row["id"], "host") == "conflict"
    assert await issue(ledger, "or_none", "host") == "not_found"
    assert await pool.fetch("select * from invoice_series") == []


async def test_credit_notes_sum_to_what_was_given_back(
    pool: asyncpg.Pool[asyncpg.Record],
) -> None:
    """Refunds in parts get a note each; those of the whole cancel invoice and tax to the unit."""
    world = await build(pool)
    await fill(pool, world, 150)
    ledger = Ledger(pool)
    order = await pool.fetchval(
        "select r.id from order_rows r where r.status in ('confirmed', 'shipped') and r.qty = 3"
        " and r.captured_at is not null and r.refunded_minor is null and r.tax_bp is not null"
        " limit 1"
    )
    assert await issue(ledger, order, "host") == "ok"
    for n, amount in enumerate((1, 333, 1_000, None)):
        await pool.execute(
            "update offers set taken = 10, confirmed = 10"
            " where id = (select offer from orders where id = $1)", order,
        )  # fmt: skip
        await pool.fetch(
            "select * from refund($1, $2, $3, $4, null, 'host')", order, f"k{n}", amount, False
        )
        assert await issue(ledger, order, "host") == "ok"
        assert await issue(ledger, order, "host") == "again"
    invoice, *notes = await invoices_of(ledger, order)
    assert [note.amount_minor for note in notes] == [1, 333, 1_000, 8_700 - 1_334]
    assert sum(note.amount_minor for note in notes) == invoice.amount_minor
    assert sum(note.tax_minor or 0 for note in notes) == invoice.tax_minor
    assert invoice.tax_minor == split_tax(8_700, 500).tax_minor


async def test_both_places_reckon_tax_alike(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """The tax that Postgres puts on invoices is the one that views and exports show."""
    chance = random.Random(1)
    cases = [(chance.randrange(10 ** chance.randint(1, 15)), chance.randint(0, TAX_BP_MAX))
             for _ in range(2_000)]  # fmt: skip
    rows = await pool.fetch(
        "select tax_in(amount, bp) as tax from unnest($1::bigint[], $2::integer[])"
        " with ordinality as x (amount, bp, place) order by place",
        [amount for amount, _ in cases], [bp for _, bp in cases],
    )  # fmt: skip
    assert [row["tax"] for row in rows] == [split_tax(*case).tax_minor for case in cases]
