"""How fast a host's questions are answered with 10^6 orders in the table, while more come in.

Runs a whole `up` of its own, fills it by SQL, sells beside it from a process of its own, and asks
over HTTP like a host's page does. Prints figures; not a test and not in CI.

    python -m tests.bench.bench_orders_at_size [--orders N] [--rate N] [--seconds N]
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from livecart.auth import issue
from loadtest.bench.figures import quantile
from orders.records import Accepted, Buy, Outcome
from tests.bench.rig import ROOT, Quiet
from tests.integration.up_rig import Up, environment
from tests.shop import Shop, until

SHOP, STREAMS, OFFERS_EACH = "shop", 40, 25
SELLING_OFFERS = 5
PAGES = 3  # of a list, one after the other, as a host leafs through it
#: What is asked in turn: what it is called, and its address.
QUESTIONS: dict[str, str] = {
    "all orders of a shop": "/v1/orders?limit=50",
    "those of a stream": "/v1/orders?limit=50&stream=st_20",
    "those of a stream, to be sent": "/v1/orders?limit=50&stream=st_20&status=confirmed",
    "those of a stream, one in a thousand": "/v1/orders?limit=50&stream=st_20&status=refunded",
    "those of the stream that sells": "/v1/orders?limit=50&stream=st_live",
    "those of a viewer": "/v1/orders?limit=50&viewer=v77",
}

# As many orders an offer, an offer after the other and a second between two orders; ids as the
# server makes them. One in a thousand was given its money back.
_FILL = (
    "insert into streams (id, shop, title, status, started_at, ended_at)"
    f" select 'st_' || s, '{SHOP}', 'Show', 'ended', now(), now()"
    f" from generate_series(1, {STREAMS}) s"
    f" union all select 'st_live', '{SHOP}', 'Show', 'live', now(), null",
    "insert into products (id, shop, sku, title, price_minor, currency)"
    f" values ('pr_filled', '{SHOP}', 'a', 'Thing', 2900, 'TWD')",
    "insert into offers (id, stream, product, price_minor, quantity, per_viewer, status, hold_s,"
    " payment, announced, closed_at)"
    " select 'of_' || s || '_' || o, 'st_' || s, 'pr_filled', 2900, 1000000, 1000000, 'closed',"
    " 600, 'none', true, now() - interval '30 days'"
    f" from generate_series(1, {STREAMS}) s, generate_series(1, {OFFERS_EACH}) o",
)
_ORDERS = f"""
insert into orders (id, offer, stream, viewer, key, qty, unit_price_minor, status, rank,
                    reserved_at, confirmed_at)
select 'or_' || lpad(to_hex((extract(epoch from at) * 1000)::bigint), 11, '0')
             || substr(md5(i::text), 1, 15),
       'of_' || s || '_' || o, 'st_' || s, 'v' || i % 100000, 'k' || i, 1, 2900,
       case when i % 1000 = 0 then 'refunded' when i % 10 = 1 then 'expired'
            when i % 10 < 4 then 'confirmed' else 'shipped' end,
       i + 1, at, at
  from (select i, now() - make_interval(secs => $3::integer - i) as at,
               1 + i / ($3 / {STREAMS}) as s,
               1 + i / ($3 / {STREAMS * OFFERS_EACH}) % {OFFERS_EACH} as o
          from generate_series($1::integer, $2::integer - 1) i) x
"""
_COUNT = """
update offers o set taken = x.live, confirmed = x.live
  from (select offer, sum(qty) filter (where status in ('confirmed', 'shipped')) as live
          from orders group by offer) x
 where x.offer = o.id
"""
PART = 50_000


async def fill(url: str, orders: int) -> None:
    """Put so many orders of ended streams in, and have Postgres look at them."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(url)
    try:
        for statement in _FILL:
            await connection.execute(statement)
        for first in range(0, orders, PART):
            await connection.execute(_ORDERS, first, min(first + PART, orders), orders)
        await connection.execute(_COUNT)
        await connection.execute("vacuum analyze")
    finally:
        await connection.close()


async def sell(database_url: str, redis_url: str, rate: int, seconds: float) -> None:
    """Buy at this rate of offers of the live stream; say how it went."""
    shop = Shop(database_url, redis_url)
    hub = await shop.hub()
    hub.selling.listener = Quiet()
    offers = [await shop.offer(10**6, stream="st_live") for _ in range(SELLING_OFFERS)]
    sent, outcomes = 0, list[Outcome]()
    took_ms = list[float]()

    def answered(buy: Buy, outcome: Outcome) -> None:
        took_ms.append((time.perf_counter() - buy.tag) * 1000)
        outcomes.append(outcome)

    started = time.perf_counter()
    sys.stdout.write("selling\n")
    sys.stdout.flush()
    while (at_s := time.perf_counter() - started) < seconds:
        while sent < rate * at_s:
            offer = offers[sent % SELLING_OFFERS].id
            buy = Buy(offer, f"b{sent}", 1, str(uuid.uuid4()), answered)
            buy.tag = time.perf_counter()
            hub.selling.buy(buy)
            sent += 1
        await asyncio.sleep(0.005)
    await until(lambda: len(outcomes) == sent, 30)
    accepted = sum(isinstance(outcome, Accepted) for outcome in outcomes)
    sys.stdout.write(
        f"orders meanwhile: {accepted / seconds:,.0f} /s of {rate:,} asked,"
        f" p99 {quantile(took_ms, 0.99):.0f} ms\n"
    )
    await shop.close()


def ask(connection: http.client.HTTPConnection, path: str, token: str) -> float:
    """Ask for the first pages of a list; return the ms that the slowest took; inf: no answer."""
    slowest_ms, cursor = 0.0, ""
    for _ in range(PAGES):
        started = time.perf_counter()
        connection.request("GET", path + cursor, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        body = json.loads(response.read())
        slowest_ms = max(slowest_ms, (time.perf_counter() - started) * 1000)
        if response.status == 503:
            return float("inf")
        assert response.status == 200, body
        if body.get("next_cursor") is None:
            break
        cursor = f"&cursor={body['next_cursor']}"
    return slowest_ms


def ask_all(base: str, token: str, seconds: float) -> dict[str, list[float]]:
    """Ask every question in turn for so long; return what each took, in ms."""
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=30)
    took: dict[str, list[float]] = {what: [] for what in QUESTIONS}
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        for what, path in QUESTIONS.items():
            took[what].append(ask(connection, path, token))
            time.sleep(0.01)  # a host reads, too
    connection.close()
    return took


def say(when: str, took: dict[str, list[float]]) -> None:
    """Print a line a question."""
    for what, ms in took.items():
        p50, p99 = quantile(ms, 0.5), quantile(ms, 0.99)
        verdict = "ok" if p99 <= 50 else "FALLS SHORT of ≤ 50 ms"
        sys.stdout.write(f"{when}, {what:<38} p50 {p50:6.1f}  p99 {p99:6.1f} ms  {verdict}\n")
    sys.stdout.flush()


def measure(orders: int, rate: int, seconds: float) -> None:
    """Fill, ask at rest, ask while it sells."""
    folder = Path(tempfile.mkdtemp(prefix="lc-bench-"))
    up = Up(folder / "data", "--no-demo")
    try:
        urls = up.ready["database_url"], up.ready["redis_url"]
        started = time.perf_counter()
        asyncio.run(fill(urls[0], orders))
        took_s = time.perf_counter() - started
        sys.stdout.write(f"{orders:,} orders were put in, in {took_s:.0f} s\n")
        secret = (folder / "data" / "secret").read_text().strip()
        token = issue(secret, role="host", sub="hana", shop=SHOP)
        say("at rest", ask_all(up.ready["http"], token, seconds))
        command = (sys.executable, "-m", "tests.bench.bench_orders_at_size", "--sell", *urls)
        numbers = ("--rate", str(rate), "--seconds", str(seconds + 1))
        with subprocess.Popen(
            [*command, *numbers], stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT
        ) as seller:
            assert seller.stdout is not None
            assert seller.stdout.readline() == "selling\n"
            say(f"at {rate:,} /s", ask_all(up.ready["http"], token, seconds))
            sys.stdout.write(seller.stdout.read())
    finally:
        up.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, or be the seller of one that measures."""
    parser = argparse.ArgumentParser(prog="bench_orders_at_size", description=__doc__)
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=5_000, help="orders a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--sell", nargs=2, metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.sell:
        database_url, redis_url = options.sell
        asyncio.run(sell(database_url, redis_url, options.rate, options.seconds))
    else:
        measure(options.orders, options.rate, options.seconds)


if __name__ == "__main__":
    main()
