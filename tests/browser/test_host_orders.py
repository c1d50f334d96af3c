"""What a host does to orders, in the panel: money back, shipped, cancelled, sent back, found.

Each outcome is held against Postgres, the second host's screen and the buyer's page.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from playwright.async_api import expect

from tests.browser.browser_rig import People
from tests.browser.host_desk_page import desk, watcher
from tests.browser.server_rig import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

MANY = 53  # orders; the feed has 50 until more are asked for


async def test_money_goes_back_in_part_and_then_whole(server: Server, people: People) -> None:
    """A part given back leaves the order alive; the rest ends it and puts its units on sale."""
    stream = await server.stream("Money back")
    offer = await server.offer(stream, await server.product("Bowl"), quantity=5, per_viewer=2)
    order = await server.buy(offer, "ann", 2)
    await server.call("POST", f"/v1/orders/{order['id']}/pay")
    host, other = [await desk(people, server, stream) for _ in range(2)]
    ann = await watcher(people, server, stream, "ann")
    await ann.left("Bowl", 3, 5)
    await host.tile("revenue", "NT$3,000")

    await host.look_at("ann")
    await host.refund("500", "scratched in the kiln")
    await expect(host.page.locator("#sure-costs li").first).to_contain_text("NT$500")
    await host.agree()
    await host.order_says("refund_begun")
    await host.steps("order_reserved", "order_confirmed", "step_refunded_in_part")
    part = host.page.locator("#timeline > li").last
    await expect(part).to_contain_text("host-1 · scratched in the kiln")
    await expect(host.page.locator("#order-facts")).to_contain_text("NT$500 given back")
    await expect(other.fed("ann")).to_contain_text("NT$500 given back")
    assert await _row(server, order["id"]) == {"status": "confirmed", "refunded_minor": 50_000}
    await host.tile("revenue", "NT$2,500")
    await host.counts("Bowl", left=3, held=0, sold=2)

    await host.refund("", "came back whole", restock=True)
    await expect(host.page.locator("#sure-costs li").first).to_contain_text("NT$2,500")
    await host.agree()
    await expect(host.page.locator("#refund-box")).to_be_hidden()
    await expect(host.page.locator("#timeline > li").last).to_contain_text("came back whole")
    assert await _row(server, order["id"]) == {"status": "refunded", "refunded_minor": 300_000}
    await host.look_away()
    for one in (host, other):
        await one.order_is("ann", "refunded")
        await one.counts("Bowl", left=5, held=0, sold=0)
    await host.tile("revenue", "NT$0")
    await host.told_below("revenue", "0 units")
    await ann.orders("refunded")
    await ann.left("Bowl", 5, 5)
    assert await _units(server, offer) == (5, 0, 0)


async def test_cancelled_orders_give_their_units_back(server: Server, people: People) -> None:
    """A held and a paid order are cancelled when one is sure; units return on every screen."""
    stream = await server.stream("Cancel")
    offer = await server.offer(stream, await server.product("Bowl"), quantity=2)
    held = await server.buy(offer, "ann")
    paid = await server.buy(offer, "bob")
    await server.call("POST", f"/v1/orders/{paid['id']}/pay")
    host, other = [await desk(people, server, stream) for _ in range(2)]
    ann = await watcher(people, server, stream, "ann")
    await ann.left("Bowl", 0, 2)
    await other.counts("Bowl", left=0, held=1, sold=1)

    await host.look_at("ann")
    await host.cancel()
    await expect(host.page.locator("#sure-costs")).to_have_text(
        "No. 1 of buyer ann, NT$1,500." + host.words.text("cancel_units")
    )
    await host.page.locator("#sure-no").click()
    assert (await _row(server, held["id"]))["status"] == "reserved"
    await host.cancel()
    await host.agree()
    await host.order_says("done")
    await host.steps("order_reserved", "order_cancelled")
    await expect(host.page.locator("#order-actions button")).to_have_count(0)
    await host.look_away()
    await other.order_is("ann", "cancelled")
    await other.counts("Bowl", left=1, held=0, sold=1)
    await ann.orders("cancelled")
    await ann.left("Bowl", 1, 2)

    await other.look_at("bob")
    await other.cancel()
    await expect(other.page.locator("#sure-costs")).to_contain_text(
        other.words.text("cancel_money")
    )
    await other.agree()
    await other.steps("order_reserved", "order_confirmed", "order_cancelled")
    await host.order_is("bob", "cancelled")
    await host.counts("Bowl", left=2, held=0, sold=0)
    await other.tile("revenue", "NT$0")
    await ann.left("Bowl", 2, 2)
    assert (await _row(server, paid["id"]))["status"] == "cancelled"
    assert await _units(server, offer) == (2, 0, 0)


async def test_shipped_and_asked_back(server: Server, people: People) -> None:
    """Shipped with carrier and number; one host refuses a return, another accepts; both see it."""
    stream = await server.stream("Returns")
    offer = await server.offer(stream, await server.product("Vase"), quantity=3)
    order = await server.buy(offer, "ann")
    await server.call("POST", f"/v1/orders/{order['id']}/pay")
    host, other = [await desk(people, server, stream) for _ in range(2)]
    ann = await watcher(people, server, stream, "ann")

    await host.look_at("ann")
    await host.ship("Black Cat", "TW-4711")
    await other.order_is("ann", "shipped")
    await ann.orders("shipped")
    await other.look_at("ann")
    shipped = ("order_reserved", "order_confirmed", "order_shipped")
    for one in (host, other):
        await expect(one.page.locator("#order-facts")).to_contain_text("Black CatTW-4711")
        await one.steps(*shipped)
    sql = "select status, carrier, tracking from orders where id = $1"
    (row,) = await server.fetch(sql, order["id"])
    assert tuple(row) == ("shipped", "Black Cat", "TW-4711")

    buyer = server.token("viewer", "ann")
    path = f"/v1/orders/{order['id']}/returns"
    await server.call("POST", path, {"reason": "it is too small"}, buyer)
    asked = [
        one.page.locator("#returns > li").filter(has_text="too small") for one in (host, other)
    ]
    await host.button("refuse_return", asked[0]).click()
    for item in asked:
        await expect(item.locator(".chip")).to_have_text(host.words.text("return_refused"))
        await expect(item.get_by_role("button")).to_have_count(0)
    await server.call("POST", path, {"reason": "it leaks"}, buyer)
    leaks = [one.page.locator("#returns > li").filter(has_text="leaks") for one in (host, other)]
    await other.button("accept_return", leaks[1]).click()
    await other.agree()
    for item in leaks:
        await expect(item.locator(".chip")).to_have_text(host.words.text("return_accepted"))
    for one in (host, other):
        decided = ("step_return_refused", "step_return_asked", "step_return_accepted")
        await one.steps(*shipped, "step_return_asked", *decided)
    rows = await server.fetch(
        "select reason, state, decided_by from returns where order_id = $1 order by at", order["id"]
    )
    assert [tuple(row) for row in rows] == [
        ("it is too small", "refused", "host-1"),
        ("it leaks", "accepted", "host-1"),
    ]
    # Accepted is the parcel: the money is a refund of its own, as the question said.
    assert await _row(server, order["id"]) == {"status": "shipped", "refunded_minor": 0}


async def test_orders_are_found(server: Server, people: People) -> None:
    """By status, by how a buyer's name begins, by both, and past the first fifty by More."""
    stream = await server.stream("Many")
    offer = await server.offer(stream, await server.product("Cup"), quantity=100)
    buyers = [f"{'zoe' if n % 9 == 0 else 'ann'}-{n:02}" for n in range(MANY)]
    made = await _bought(server, offer, buyers)
    for n, step in ((3, "pay"), (9, "pay"), (18, "cancel"), (20, "cancel")):
        await server.call("POST", f"/v1/orders/{made[n]}/{step}")
    host = await desk(people, server, stream)

    async def found(where: str = "true") -> list[str]:
        sql = (
            f"select id from orders where offer = $1 and {where} order by reserved_at desc, id desc"
        )
        return [row["id"] for row in await server.fetch(sql, offer)]

    every = await found()
    assert len(every) == MANY
    await host.listed(every[:50])
    await host.button("show_more", host.page.locator("#orders-panel")).click()
    await host.listed(every)
    await expect(host.page.locator("#orders-more")).to_be_hidden()
    await host.narrow(status="confirmed")
    await host.listed(await found("status = 'confirmed'"))
    await host.narrow(sought="zoe")
    both = await found("status = 'confirmed' and viewer like 'zoe%'")
    assert len(both) == 1
    await host.listed(both)
    await host.narrow(status="")
    await host.listed(await found("viewer like 'zoe%'"))
    await host.narrow(status="cancelled")
    await host.listed(await found("status = 'cancelled' and viewer like 'zoe%'"))
    await host.narrow(sought=made[20])
    await host.listed([made[20]])
    await host.narrow(status="refunded")
    await host.listed([])
    await expect(host.page.locator("#orders-empty")).to_have_text(host.words.text("nothing_found"))


async def _bought(server: Server, offer: str, buyers: list[str]) -> list[str]:
    """Have each of these buy one; return their orders. One connection: fifty would be slow."""
    orders = []
    async with httpx.AsyncClient(base_url=server.http) as http:
        for buyer in buyers:
            headers = {"Authorization": f"Bearer {server.token('viewer', buyer)}"}
            headers["Idempotency-Key"] = "one"
            path = f"/v1/offers/{offer}/orders"
            orders.append((await http.post(path, json={"qty": 1}, headers=headers)).json()["id"])
    return orders


async def _row(server: Server, order: str) -> dict[str, Any]:
    """What Postgres has of an order."""
    sql = "select status, coalesce(refunded_minor, 0) as refunded_minor from orders where id = $1"
    return dict((await server.fetch(sql, order))[0])


async def _units(server: Server, offer: str) -> tuple[int, int, int]:
    """Units left, held and sold of an offer, counted from its quantity and its orders."""
    (row,) = await server.fetch(
        "select f.quantity,"
        " coalesce(sum(o.qty) filter (where o.status = 'reserved'), 0) as held,"
        " coalesce(sum(o.qty) filter (where o.status in ('confirmed', 'shipped')), 0) as sold"
        " from offers f left join orders o on o.offer = f.id where f.id = $1 group by f.quantity",
        offer,
    )
    return row["quantity"] - row["held"] - row["sold"], row["held"], row["sold"]
