"""The host's figures against the truth: refusals by reason, charts by the minute, the summary.

The truth is Postgres, what was refused on purpose, and the server's own Prometheus counters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx
import pytest
from playwright.async_api import expect

from tests.browser.browser_rig import People
from tests.browser.host_desk_page import HostDesk, desk
from tests.browser.server_rig import Server, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

REFUSED = {"sold_out": 4, "limit_reached": 2, "not_open": 1}
EARLY_S = 52  # of a minute; what is left of it is enough for a few orders
COUNTED = re.compile(r'^livecart_buys_total\{outcome="(\w+)"\} ([\d.e+]+)$', re.MULTILINE)
MINUTE = "extract(epoch from date_trunc('minute', reserved_at))::bigint"
#: Sums of orders as Postgres has them, by the expression in the gap: a product, a minute.
SUMS = """
    select {by} as at, count(*) as orders,
           coalesce(sum(r.qty) filter (where r.live), 0)::bigint as units,
           coalesce(sum(r.amount) filter (where r.captured_at is not null), 0)::bigint as captured,
           coalesce(sum(r.back) filter (where r.captured_at is not null), 0)::bigint as refunded,
           count(*) filter (where r.live and r.captured_at is null) as unpaid,
           coalesce(sum(r.amount) filter (where r.live and r.captured_at is null), 0)::bigint
               as owed
      from (select o.*, o.qty * o.unit_price_minor as amount, coalesce(o.refunded_minor, 0) as back,
                   o.status in ('reserved', 'confirmed', 'shipped') as live, p.title
              from orders o join offers f on f.id = o.offer join products p on p.id = f.product
             where f.stream = $1) r
     group by 1 order by 1 desc
"""


async def test_refusals_by_reason_are_the_truth(server: Server, people: People) -> None:
    """A known number of buys turned away for known reasons: every screen and counter says so."""
    stream = await server.stream("Refusals")
    scarce = await server.offer(stream, await server.product("Vase"), quantity=1)
    paused = await server.offer(stream, await server.product("Bowl"), quantity=5)
    plenty = await server.offer(stream, await server.product("Cup"), quantity=5)
    before = await _counted(server)
    host = await desk(people, server, stream)
    await host.charts()
    await expect(host.page.locator("#refusals")).to_have_text(host.words.text("no_refusals"))
    await server.buy(scarce, "first")
    await server.buy(plenty, "ann")
    await server.call("POST", f"/v1/offers/{paused}/pause")
    for n in range(REFUSED["sold_out"]):
        await server.turn_away(scarce, f"late-{n}")
    for _ in range(REFUSED["limit_reached"]):
        await server.turn_away(plenty, "ann")
    await server.turn_away(paused, "bob")

    await host.tile("refused", str(sum(REFUSED.values())))
    await host.told_below("refused", "sold out 4 · limit 2")
    lines = host.page.locator("#refusals > li")
    words = [f"{host.words.text(f'why_{code}')}{n}" for code, n in REFUSED.items()]
    await expect(lines).to_have_text(words)
    figures = await server.call("GET", f"/v1/streams/{stream}/figures")
    assert figures["refusals"] == REFUSED
    assert figures["orders"] == 2

    async def told() -> bool:
        now = await _counted(server)
        more = {code: now[code] - before.get(code, 0) for code in now}
        return {code: n for code, n in more.items() if n} == REFUSED | {"reserved": 2}

    await until(told, f"/metrics tells of {REFUSED}")


async def test_charts_and_summary_are_what_postgres_has(server: Server, people: People) -> None:
    """Orders of known minutes: what each chart draws and says, and the sums after the end."""
    stream = await server.stream("Sums")
    # Alone in its minute there is no line to draw, but what is there is said.
    bowl = await _sold(server, stream, "Bowl", minutes_ago=0, paid=1)
    host = await desk(people, server, stream, timezone_id="UTC")
    await host.charts()
    orders = host.page.locator("#chart-orders")
    about = host.words.text("orders_per_minute")
    said = re.compile(f"^{about}: at most 1, now [01]$")  # 0: its minute is over by now
    await expect(orders).to_have_attribute("aria-label", said)
    await expect(orders.locator(".peak")).to_have_count(1)
    await _sold(server, stream, "Vase", minutes_ago=4, paid=2, held=1)
    await _sold(server, stream, "Cup", minutes_ago=2, paid=3, refund_minor=50_000)
    await server.call("POST", f"/v1/orders/{bowl[0]}/refund", {"restock": True})

    by_minute = await _sums(server, stream, MINUTE)
    assert [row["orders"] for row in by_minute.values()] == [1, 3, 3]
    last_s = max(by_minute)
    ago = {(last_s - at_s) // 60: row for at_s, row in by_minute.items()}
    per_minute = host.words.text("orders_per_minute")
    await _draws(host, "orders", per_minute, {n: row["orders"] for n, row in ago.items()}, str)
    revenue = host.words.text("revenue_per_minute", currency="TWD")
    await _draws(host, "revenue", revenue, {n: _net(row) for n, row in ago.items()}, _money)
    (total,) = (await _sums(server, stream, "1")).values()
    await host.tile("revenue", _money(_net(total)))

    await host.end()
    await host.summed_up("Cup")
    by_product = await _sums(server, stream, "title")
    rows = await host.rows("summary-rows")
    assert {row[0]: row[1:] for row in rows} == {
        title: _cells(row) for title, row in by_product.items()
    }
    assert len(rows) == len(by_product) == 3
    in_all = [host.words.text("in_all"), *_cells(total)]
    assert await host.rows("summary-totals") == [in_all]
    await host.page.locator("#summary details summary").click()
    await expect(host.page.locator("#minutes-rows > tr").first).to_be_visible()
    minutes = await host.rows("minutes-rows")
    assert [row[1:] for row in minutes] == [_cells(row) for row in by_minute.values()]
    clock = await host.page.evaluate(
        "all => all.map((at) => new Intl.DateTimeFormat('en', { timeStyle: 'short' })"
        ".format(at * 1000))",
        list(by_minute),
    )
    assert [row[0].split(", ")[-1] for row in minutes] == clock


async def _draws(
    host: HostDesk, chart: str, label: str, values: dict[int, int], write: Callable[[int], str]
) -> None:
    """Wait until a chart says and draws these values, each of so many minutes before the newest."""
    svg = host.page.locator(f"#chart-{chart}")
    high, first = max(values.values()), max(values)
    said = re.compile(f"^{re.escape(f'{label}: at most {write(high)}, now ')}")
    await expect(svg).to_have_attribute("aria-label", said)
    await expect(svg.locator(".high")).to_have_text(write(high))
    await expect(host.page.locator("figure").filter(has=svg)).to_contain_text(label)

    async def drawn() -> bool:
        line = await host.drawn(f"chart-{chart}")
        # A point a minute from the first order's to this one; an order's may be over by now.
        wanted = [values.get(first - n, 0) / high for n in range(len(line))]
        return len(line) > first and line == pytest.approx(wanted, abs=0.02)

    await until(drawn, f"the chart of {chart} draws {values}")


async def _counted(server: Server) -> dict[str, int]:
    """Buys by outcome, as the server's metrics have them."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{server.http}/metrics")).text
    return {outcome: round(float(n)) for outcome, n in COUNTED.findall(text)}


async def _sold(
    server: Server,
    stream: str,
    title: str,
    *,
    minutes_ago: int,
    paid: int,
    held: int = 0,
    refund_minor: int = 0,
) -> list[str]:
    """Have so many orders of a product, as of so many minutes ago; return their ids."""
    offer = await server.offer(stream, await server.product(title), quantity=9)
    await until(lambda: _early(server), "a minute with time for all of these orders")
    ids = [(await server.buy(offer, f"{title}-{n}"))["id"] for n in range(paid + held)]
    for id_ in ids[:paid]:
        await server.call("POST", f"/v1/orders/{id_}/pay")
    if refund_minor:
        await server.call("POST", f"/v1/orders/{ids[0]}/refund", {"amount_minor": refund_minor})
    await _move_back(server, offer, minutes_ago)
    return ids


async def _early(server: Server) -> bool:
    """Tell whether the minute has begun lately: orders of one minute must not end up in two."""
    (row,) = await server.fetch("select extract(second from now()) < $1 as early", EARLY_S)
    early: bool = row["early"]
    return early


async def _move_back(server: Server, offer: str, minutes: int) -> None:
    """Have an offer's orders, and what was counted of them, be of so many minutes before.

    Nobody may rewrite when an order was admitted, so that the triggers are out for this.
    """
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(server.database_url)
    try:
        async with connection.transaction():
            await connection.execute("set local session_replication_role = replica")
            await connection.execute("lock table sales, sales_steps in exclusive mode")
            for table, column in (
                ("sales", "minute"), ("sales_steps", "minute"), ("orders", "reserved_at")
            ):  # fmt: skip
                await connection.execute(
                    f"update {table} set {column} = {column} - $2 * interval '1 minute'"
                    " where offer = $1",
                    offer,
                    minutes,
                )
    finally:
        await connection.close()


async def _sums(server: Server, stream: str, by: str) -> dict[Any, asyncpg.Record]:
    """What the orders of a stream sum to, by this."""
    rows = await server.fetch(SUMS.format(by=by), stream)
    return {row["at"]: row for row in rows}


def _net(row: asyncpg.Record) -> int:
    net: int = row["captured"] - row["refunded"]
    return net


def _money(minor: int) -> str:
    return f"NT${minor // 100:,}"


def _cells(row: asyncpg.Record) -> list[str]:
    """The sums as a row of the summary has them."""
    amounts = [_money(n) for n in (row["captured"], row["refunded"], _net(row))]
    owed = f"{row['unpaid']} · {_money(row['owed'])}"
    return [str(row["orders"]), str(row["units"]), *amounts, owed]
