"""What hosts ask of a million orders, on a server of its own: `make bench-orders`.

Whole exports and what they take of the server's memory; then lists by every filter and the summary,
at rest and while orders come in at a steady rate. Prints a table; exits 1 where what is wanted does
not hold.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil

from livecart.auth import issue
from livecart.embedded import Running
from orders.ids import Ids
from orders.ledger.ledger import Ledger, Line
from orders.ledger.pool import open_pool
from orders.ledger.sales import fold
from tests.bench.rig import ROOT, Row, servers
from tests.bench.rig import open_shop as migrated

ORDERS = int(os.environ.get("ORDERS", "1000000"))
PER_S = int(os.environ.get("PER_S", "5000"))  # orders that come in meanwhile
ROUNDS = int(os.environ.get("ROUNDS", "40"))  # of all questions
BATCH, HUBS = 100, 4  # orders of one admission, and admissions under way at once
OFFERS = 20
SECRET = "a secret that only benches have: 0123456789"
STREAM = "st_big"
WANTED_MS, WANTED_ROWS_PER_S, WANTED_BYTES = 50, 50_000, 100 * 2**20

#: A live stream of 20 offers, and 200 older ones.
_SEED = """
insert into streams (id, shop, title, status, created_at, ended_at)
select 'st_' || i, case i % 3 when 0 then 'other' else 'shop' end, 'Show', 'ended',
       now() - make_interval(days => i), now() - make_interval(days => i, hours => -4)
  from generate_series(1, 200) i;
insert into streams (id, shop, title, status, created_at)
values ('st_big', 'shop', 'Show', 'live', now() - interval '5 hours');
insert into products (id, shop, sku, title, price_minor, currency, tax_bp)
select 'pr_' || s.id || '_' || k, s.shop, 'SKU-' || k, 'Thing ' || k, 2900, 'TWD', 500
  from streams s, generate_series(1, 20) k where s.id = 'st_big' or k <= 2;
insert into offers (id, stream, product, price_minor, quantity, per_viewer, status, hold_s, payment,
                    announced)
select 'of' || substr(p.id, 3), s.id, p.id, 2900, 1000000, 1000,
       case s.status when 'live' then 'open' else 'closed' end, 600, 'required', true
  from products p join streams s on starts_with(p.id, 'pr_' || s.id || '_');
"""
#: Orders $1 to $1 + $2 of the live stream, over four hours, in all states, 50 to an admission.
_ORDERS = """
insert into orders (id, offer, stream, viewer, key, qty, unit_price_minor, status, rank,
                    reserved_at, expires_at, confirmed_at, captured_at, refunded_minor, late_at)
select 'or_' || lpad(to_hex((extract(epoch from x.at) * 1000)::bigint), 11, '0')
             || lpad(to_hex(i), 15, '0'),
       'of_st_big_' || (x.admission * 7 % 20 + 1), 'st_big',
       'viewer-' || lpad((hashint4(i) & 262143)::text, 7, '0'), gen_random_uuid(), 1 + i % 3, 2900,
       x.status, i, x.at,
       case x.status when 'reserved' then x.at + interval '1 day' end,
       case when x.status in ('confirmed', 'shipped', 'refunded') then x.at + interval '9 s' end,
       case when x.status in ('shipped', 'refunded') or x.status = 'confirmed' and i % 10 > 0
            then x.at + interval '9 s' end,
       case x.status when 'refunded' then (1 + i % 3) * 2900
                     when 'shipped' then nullif(100 * (i % 50 = 0)::integer, 0) end,
       case when x.status = 'confirmed' and i % 997 = 0 then x.at + interval '3 days' end
  from generate_series($1::integer + 1, $1 + $2::integer) i
 cross join lateral (
       select i / 50 as admission, now() - interval '4 hours' + i / 50 * interval '0.7 s' as at,
              (array['reserved', 'confirmed', 'confirmed', 'confirmed', 'confirmed', 'confirmed',
                     'shipped', 'expired', 'cancelled', 'refunded']
              )[1 + (hashint4(i + 7) & 1023) % 10] as status) x
"""
_OLD = """
insert into orders (id, offer, stream, viewer, key, qty, unit_price_minor, status, rank,
                    reserved_at)
select 'or_' || s.id || '_' || i, 'of_' || s.id || '_' || (i % 2 + 1), s.id, 'viewer-' || i,
       gen_random_uuid(), 1, 2900, 'expired', i, s.created_at + i * interval '10 s'
  from streams s, generate_series(1, 50) i where s.id <> 'st_big'
"""

QUESTIONS = {
    "list of the shop": "/v1/orders",
    "list of the stream": f"/v1/orders?stream={STREAM}",
    "list, reserved": f"/v1/orders?stream={STREAM}&status=reserved",
    "list, confirmed and unpaid": f"/v1/orders?stream={STREAM}&status=confirmed&paid=false",
    "list, shipped, of the shop": "/v1/orders?status=shipped",
    "list, late": f"/v1/orders?stream={STREAM}&late=true",
    "list, late, of the shop": "/v1/orders?late=true",
    "list, refunded": f"/v1/orders?stream={STREAM}&refunded=true",
    "list of an offer": "/v1/orders?offer=of_st_big_3",
    "list of an offer, cancelled": "/v1/orders?offer=of_st_big_3&status=cancelled",
    "list of a product, late": "/v1/orders?product=pr_st_big_3&late=true",
    "list of a viewer": "/v1/orders?viewer=viewer-0000012",
    "list, viewer begins with": "/v1/orders?q=viewer-00001",
    "list, ten minutes two hours ago": f"/v1/orders?stream={STREAM}&since=FROM&until=UPTO",
    "summary": f"/v1/streams/{STREAM}/summary",
}


async def seed(url: str) -> None:
    """Make the rows, and the statistics that autovacuum would have made by then."""
    pool = await open_pool(url, 1, lock_timeout_ms=60_000)
    try:
        await pool.execute(_SEED)
        for begin in range(0, ORDERS, 50_000):
            await pool.execute(_ORDERS, begin, min(50_000, ORDERS - begin))
        await pool.execute(_OLD)
        while await fold(Ledger(pool)):
            pass
        await pool.execute("analyze")
    finally:
        await pool.close()


@asynccontextmanager
async def a_server(urls: Running) -> AsyncIterator[tuple[str, psutil.Process]]:
    """One real server process; yields its address and itself."""
    environ = {
        **os.environ,
        "LIVECART_REDIS_URL": urls.redis_url,
        "LIVECART_DATABASE_URL": urls.database_url,
        "LIVECART_SECRET": SECRET,
        "LIVECART_LOG_LEVEL": "error",
    }
    with socket.create_server(("127.0.0.1", 0)) as listening, TemporaryDirectory() as folder:
        port, fd = listening.getsockname()[1], listening.fileno()
        mark = Path(folder) / "ready"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "livecart.serve", "--fd", str(fd), "--mark", str(mark),
            env=environ, cwd=ROOT, pass_fds=[fd],
        )  # fmt: skip
        try:
            async with asyncio.timeout(30):
                while not mark.exists():  # noqa: ASYNC110 - a file tells nobody
                    await asyncio.sleep(0.05)
            yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
        finally:
            process.terminate()
            await process.wait()


async def come_in(url: str, comes: Event, stop: Event) -> float:
    """Admit orders at a steady rate, as hubs do, and fold as the keeper does; return the rate."""
    pool = await open_pool(url, 5)
    ledger, ids = Ledger(pool), Ids(lambda: int(time.time() * 1000))
    begun, made, rank = time.monotonic(), 0, 10 * ORDERS

    async def admit(offer: int) -> None:
        nonlocal made, rank
        first, rank = rank, rank + BATCH
        lines = [
            Line(ids.new("or"), f"buyer-{first + n}", f"k{first + n}", 1, first + n)
            for n in range(BATCH)
        ]
        admitted = await ledger.admit(f"of_st_big_{offer + 1}", 1, lines)
        assert admitted.outcomes is None, admitted.outcomes
        made += BATCH
        comes.set()

    async def keep() -> None:
        while not stop.is_set():
            await fold(ledger)
            await asyncio.sleep(0.25)

    async def sell(first: int) -> None:
        for turn in itertools.count(first, HUBS):
            if stop.is_set():
                return
            await admit(turn % OFFERS)
            await asyncio.sleep(max(0.0, begun + made / PER_S - time.monotonic()))

    try:
        await asyncio.gather(keep(), *(sell(n) for n in range(HUBS)))
    finally:
        await pool.close()
    return made / (time.monotonic() - begun)


def _come_in(url: str, comes: Event, stop: Event, told: Connection) -> None:
    told.send(asyncio.run(come_in(url, comes, stop)))


async def asked_meanwhile(url: str, base: str, token: str) -> list[Row]:
    """Ask everything while another process, which must not delay who asks, has orders come in."""
    spawned = multiprocessing.get_context("spawn")
    comes, stop, (hears, told) = spawned.Event(), spawned.Event(), spawned.Pipe(duplex=False)
    selling = spawned.Process(target=_come_in, args=(url, comes, stop, told), daemon=True)
    selling.start()
    if not await asyncio.to_thread(comes.wait, 30):
        raise RuntimeError("no order comes in")
    try:
        rows = await ask(base, token)
    finally:
        stop.set()
        await asyncio.to_thread(selling.join, 30)
    if not hears.poll():
        raise RuntimeError("who has orders come in died")
    rate = hears.recv()
    rows.append(Row("orders that came in meanwhile", f"{rate:,.0f}/s", f"{PER_S:,}/s",
                    rate >= 0.95 * PER_S))  # fmt: skip
    return rows


async def ask(base: str, token: str) -> list[Row]:
    """Ask everything round by round, and return the times of each question."""
    took: dict[str, list[float]] = {name: [] for name in QUESTIONS}
    upto = int(time.time() * 1000) - 2 * 3_600_000
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=30) as http:
        for _ in range(ROUNDS):
            for name, path in QUESTIONS.items():
                path = path.replace("FROM", str(upto - 600_000)).replace("UPTO", str(upto))
                begun = time.perf_counter()
                response = await http.get(path)
                took[name].append((time.perf_counter() - begun) * 1000)
                assert response.status_code == 200, (path, response.text)
                body = response.json()
                assert "items" in body or "totals" in body, path
    return [_row(name, sorted(times)) for name, times in took.items()]


def _row(name: str, times: Sequence[float]) -> Row:
    middle, p99 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    figure = f"{middle:.1f} ms, p99 {p99:.1f} ms"
    return Row(name, figure, f"p99 at most {WANTED_MS} ms", p99 <= WANTED_MS)


async def export(base: str, token: str, process: psutil.Process, name: str) -> list[Row]:
    """Take a whole export, and return how fast it came and what the server's memory did."""
    before, most, lines, size = process.memory_info().rss, 0, 0, 0
    begun = looked = time.perf_counter()
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(base_url=base, headers=headers, timeout=60) as http,
        http.stream("GET", f"/v1/streams/{STREAM}/{name}") as response,
    ):
        assert response.status_code == 200
        async for piece in response.aiter_raw(1 << 20):
            lines += piece.count(b"\n")
            size += len(piece)
            if time.perf_counter() - looked > 0.1:
                looked = time.perf_counter()
                most = max(most, process.memory_info().rss)
    rate = lines / (time.perf_counter() - begun)
    grown = most - before
    return [
        Row(f"{name}: {lines:,} lines, {size >> 20} MiB", f"{rate:,.0f} rows/s",
            f"at least {WANTED_ROWS_PER_S:,}", rate >= WANTED_ROWS_PER_S),
        Row(f"{name}: memory of the server", f"+{grown / 2**20:.1f} MiB",
            f"at most {WANTED_BYTES >> 20} MiB more", grown <= WANTED_BYTES),
    ]  # fmt: skip


async def bench() -> list[Row]:
    """Measure all of it."""
    rows: list[Row] = []
    with servers() as urls:
        async with migrated(urls):
            pass
        await seed(urls.database_url)
        token = issue(SECRET, role="host", sub="host-1", shop="shop")
        async with a_server(urls) as (base, process):
            for name in ("orders.csv", "orders.jsonl"):
                rows += await export(base, token, process, name)
            at_rest = await ask(base, token)
            rows += [row._replace(what=f"{row.what}, at rest") for row in at_rest]
            rows += await asked_meanwhile(urls.database_url, base, token)
    return rows


def main() -> None:
    """Print the table; exit 1 where something wanted does not hold."""
    rows = asyncio.run(bench())
    for row in rows:
        mark = {True: "ok", False: "NOT HELD", None: ""}[row.holds]
        sys.stdout.write(f"{row.what:45} {row.figure:32} {row.wanted:24} {mark}\n")
    sys.exit(any(row.holds is False for row in rows))


if __name__ == "__main__":
    main()
