"""A sale as its people see it: two hosts, five viewers, three units, and a server that dies twice.

Everything is done on the pages, and every figure on them is held against Postgres.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.browser.browser_rig import AWAY, DESKTOP, PHONE, People
from tests.browser.pages import HostPage, ViewerPage
from tests.browser.server_rig import Server, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEA = "高山烏龍茶"
CUP = "手工茶杯"
VIEWERS = ("aiko", "boris", "chidi", "dora", "emil")
OFFLINE_S = 20.0
ORDERS = "select viewer, status, qty, unit_price_minor from orders where offer = $1"
REVENUE = """
    select coalesce(sum(qty * unit_price_minor - coalesce(refunded_minor, 0)), 0)::bigint as minor
    from orders where offer = $1 and captured_at is not null
"""


@pytest.mark.timeout(240)
async def test_a_sale_of_three_to_five_on_a_server_that_is_killed(
    server: Server, people: People
) -> None:
    """Five press buy, three get one, whoever dies or is offline; every screen says what is so."""
    stream = await server.stream("晚上八點", live=False)
    await server.product(TEA)
    cup = await server.product(CUP)
    host = await HostPage.visit(await people.person("host", DESKTOP), server, stream)
    second = server.token("host", "host-2", name="Lin", shop=server.shop)
    other = await HostPage.visit(
        await people.person("other host", DESKTOP), server, stream, token=second
    )
    await host.go_live()
    await host.prepare(TEA, price="1500", quantity=3)
    await host.pin(TEA)
    viewers = {name: await _enter(server, people, stream, name) for name in VIEWERS}
    await asyncio.gather(*(page.pinned(TEA) for page in viewers.values()))
    await host.open(TEA)
    for person in people.all:
        person.bears.append(AWAY)

    # The server dies when units are sold and nobody was told; whoever pressed is told in the end.
    await asyncio.gather(*(page.left(TEA, 3, 3) for page in viewers.values()))
    server.lay("admit.committed")
    await asyncio.gather(*(page.buy(TEA) for page in viewers.values()))
    await server.shot_dead("admit.committed")
    await server.start()
    (row,) = await server.fetch("select id from offers where stream = $1", stream)
    offer = row["id"]
    await asyncio.gather(*(page.status(TEA, "sold_out") for page in viewers.values()))
    orders = {row["viewer"]: row for row in await server.fetch(ORDERS, offer)}
    got = [name for name in VIEWERS if name in orders]  # those with phones first
    late = [name for name in VIEWERS if name not in orders]
    assert (len(got), len(late), sum(row["qty"] for row in orders.values())) == (3, 2, 3)
    await asyncio.gather(*(viewers[name].yours(TEA) for name in got))
    await asyncio.gather(*(viewers[name].refused(TEA) for name in late))
    await _agree(server, offer, viewers, (host, other))

    # A phone goes offline; meanwhile one pays, one is marked as paid, and the server dies again.
    away, payer, by_hand = got
    for page in viewers.values():
        await page.mark()
    await viewers[away].person.context.set_offline(True)
    gone_s = time.monotonic()
    await viewers[late[0]].chat("first while away")
    await viewers[payer].pay(TEA)
    ref = await server.begun(payer)
    await server.kill()
    await server.start()
    await server.settle(ref)
    await viewers[payer].paid(TEA)
    await host.connected()
    await host.mark_paid(by_hand)
    await host.restock(TEA, 2)
    await server.pin(stream, cup)
    await viewers[late[1]].connected()
    await viewers[late[1]].chat("second while away")
    await viewers[away].lost()
    still_s = OFFLINE_S - (time.monotonic() - gone_s)
    await asyncio.sleep(max(0.0, still_s))  # its length is what is claimed
    assert await viewers[away].messages("while away").count() == 0, "it was not offline"
    await viewers[away].person.context.set_offline(False)

    await viewers[away].connected()
    await until(lambda: _all_money_in(server, offer), "the money of what is paid has moved")
    for page in viewers.values():
        await page.pinned(CUP)
        for text in ("first while away", "second while away"):
            await _once(page, text)
        assert await page.same()
    await _agree(server, offer, viewers, (host, other))


async def _enter(server: Server, people: People, stream: str, name: str) -> ViewerPage:
    screen = DESKTOP if name == "emil" else PHONE
    token = server.token("viewer", name, name=name)
    return await ViewerPage.visit(await people.person(name, screen), server, stream, token=token)


async def _all_money_in(server: Server, offer: str) -> bool:
    unmoved = (
        "select 1 from orders where offer = $1 and status = 'confirmed' and captured_at is null"
    )
    return not await server.fetch(unmoved, offer)


async def _once(page: ViewerPage, text: str) -> None:
    async def shown() -> bool:
        return await page.messages(text).count() == 1

    await until(shown, f"{text!r} once on {page.person.name}'s page")


async def _agree(
    server: Server, offer: str, viewers: dict[str, ViewerPage], hosts: tuple[HostPage, ...]
) -> None:
    """Wait until every screen says of the offer what Postgres says."""
    (row,) = await server.fetch(
        "select quantity, taken, confirmed from offers where id = $1", offer
    )
    quantity, taken, confirmed = row["quantity"], row["taken"], row["confirmed"]
    statuses = {row["viewer"]: row["status"] for row in await server.fetch(ORDERS, offer)}
    for name, page in viewers.items():
        await page.open_products()
        await page.left(TEA, quantity - taken, quantity)
        await page.close_drawer()
        await page.orders(*([statuses[name]] if name in statuses else []))
    (paid,) = await server.fetch(REVENUE, offer)
    for host in hosts:
        await host.tile("left", str(quantity - taken))
        await host.tile("unpaid", str(taken - confirmed))
        await host.tile("revenue", f"NT${paid['minor'] // 100:,}")
        await host.counts(TEA, left=quantity - taken, held=taken - confirmed, sold=confirmed)
        await host.orders(**statuses)
