"""The host's page when a press comes twice, an answer does not come, or a list moves meanwhile."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, Request, Route, expect

from tests.browser.browser_rig import DESKTOP, REFUSED, People
from tests.browser.pages import HostPage
from tests.browser.server_rig import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

DROPPED = re.compile(r"net::ERR_FAILED")
DIFFERS = re.compile(r"status of 409 \(Conflict\) \S+/v1/offers/\w+$")


async def test_a_failing_part_hides_no_other(server: Server, people: People) -> None:
    """Without an answer the lists are asked for again; without figures the orders still come."""
    stream = await server.stream("Parts")
    offer = await server.offer(stream, await server.product("Bowl"), quantity=5)
    person = await people.person("host", DESKTOP)
    person.bears.append(DROPPED)
    dropped: list[str] = []

    async def drop_twice(route: Route) -> None:
        if len(dropped) < 2:
            dropped.append(route.request.url)
            await route.abort()
        else:
            await route.continue_()

    async def cut_off(route: Route) -> None:
        await route.fulfill(status=200, content_type="application/json", body='{"now": 1')

    await person.page.route("**/v1/streams?shop=*", drop_twice)
    await person.page.route("**/figures", cut_off)
    host = await HostPage.visit(person, server, stream)
    await host.connected()
    assert len(dropped) == 2
    await server.buy(offer, "ann")
    await host.orders(ann="reserved")
    await expect(person.page.locator("#notice")).not_to_have_text("")


async def test_a_form_sent_twice_is_sent_once(server: Server, people: People) -> None:
    """A second press while an offer is made, or money given back, does nothing."""
    stream = await server.stream("Twice")
    offer = await server.offer(stream, await server.product("Bowl"), quantity=5)
    order = await server.buy(offer, "ann")
    await server.call("POST", f"/v1/orders/{order['id']}/pay", {})
    host = await HostPage.visit(await people.person("host", DESKTOP), server, stream)
    await host.connected()
    page = host.page
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request))
    twice = "form => { form.requestSubmit(); form.requestSubmit(); }"

    await host.prepare_form()
    await page.fill("#offer-form [name=quantity]", "7")
    await page.locator("#offer-form").evaluate(twice)
    await expect(page.locator("#offers .offer")).to_have_count(2)
    assert len([one for one in sent if one.url.endswith("/offers") and one.method == "POST"]) == 1

    await host.open_order("ann")
    await page.click("#refund-box summary")
    await page.fill("#refund-form [name=amount]", "12,50")
    await page.locator("#refund-form").evaluate("form => form.requestSubmit()")
    await expect(page.locator("#order-outcome")).to_have_attribute("data-kind", "bad")
    await page.fill("#refund-form [name=amount]", "12.50")
    await page.locator("#refund-submit").press("Enter")
    await expect(page.locator("#refund-submit")).to_be_disabled()
    await page.click("#sure-yes")
    await expect(page.locator("#refund-form [name=amount]")).to_have_value("")
    await expect(page.locator("#refund-submit")).to_be_enabled()
    await expect(page.locator("#refund-submit")).to_be_focused()
    refunds = [one for one in sent if one.url.endswith("/refund")]
    assert len({one.headers["idempotency-key"] for one in refunds}) == len(refunds) == 1


async def test_what_is_made_is_made_once(server: Server, people: People) -> None:
    """An offer and a product are tried again when no answer comes, and made once all the same;
    also where what is said to a try after it is that there were too many."""
    stream = await server.stream("Once")
    await server.product("Bowl")
    person = await people.person("host", DESKTOP)
    person.bears += [DROPPED, REFUSED]
    host = await HostPage.visit(person, server, stream)
    page = host.page
    lost: list[str] = []
    limited: list[str] = []

    async def lose_first(route: Route) -> None:
        url = route.request.url
        if route.request.method == "POST" and url not in lost:
            lost.append(url)
            await route.fetch()
            await route.abort()
        elif route.request.method == "POST" and url.endswith("/products") and not limited:
            limited.append(url)
            await route.fulfill(status=429, json={"code": "rate_limited", "detail": "too fast"})
        else:
            await route.continue_()

    for path in (f"/v1/streams/{stream}/offers", "/v1/products"):
        await page.route(f"**{path}", lose_first)
    await page.click("#product-new")
    for name, value in {"title": "Cup", "sku": "C-1", "price": "5"}.items():
        await page.fill(f"#product-form [name={name}]", value)
    await page.locator("#product-form").evaluate("form => form.requestSubmit()")
    await expect(page.locator("#product-outcome")).to_have_text(
        host.words.like("code_rate_limited")
    )
    await page.locator("#product-form").evaluate("form => form.requestSubmit()")
    await expect(page.locator("#products-outcome")).to_have_text(host.words.text("created"))
    await host.prepare("Cup", price="5", quantity=2)
    assert len(lost) == 2
    rows = await server.fetch(
        "select sku, (select count(*) from offers o where o.product = p.id) from products p"
        " where shop = (select shop from streams where id = $1) order by sku", stream,
    )  # fmt: skip
    assert [tuple(row) for row in rows if row["sku"] == "C-1"] == [("C-1", 1)]


async def _losing(page: Page, path: str) -> list[str]:
    """Lose the first answer, and say of the next try that there were too many; return all tries."""
    tries: list[str] = []

    async def lose(route: Route) -> None:
        tries.append(route.request.url)
        if len(tries) == 1:
            await route.fetch()
            await route.abort()
        elif len(tries) == 2:
            await route.fulfill(status=429, json={"code": "rate_limited", "detail": "too fast"})
        else:
            await route.continue_()

    await page.route(path, lose)
    return tries


async def test_what_is_pressed_again_without_an_answer_is_once(
    server: Server, people: People
) -> None:
    """A restock, and a refund whose dialog was closed meanwhile, are one though pressed again."""
    stream = await server.stream("Lost")
    offer = await server.offer(stream, await server.product("Bowl"), quantity=5)
    order = await server.buy(offer, "ann")
    await server.call("POST", f"/v1/orders/{order['id']}/pay", {})
    person = await people.person("host", DESKTOP)
    person.bears += [DROPPED, REFUSED]
    host = await HostPage.visit(person, server, stream)
    page = host.page

    tries = await _losing(page, "**/restock")
    await host.restock("Bowl", 3)
    await expect(page.locator("#offers-outcome")).to_have_attribute("data-kind", "bad")
    await host.restock("Bowl", 3)
    await host.counts("Bowl", left=7, held=0, sold=1)
    assert len(tries) == 3
    assert (await server.call("GET", f"/v1/offers/{offer}"))["quantity"] == 8

    tries = await _losing(page, "**/refund")
    for kind in ("bad", "good"):
        await host.open_order("ann")
        await page.click("#refund-box summary")
        await page.fill("#refund-form [name=amount]", "12.50")
        await page.locator("#refund-submit").press("Enter")
        await page.click("#sure-yes")
        await expect(page.locator("#order-outcome")).to_have_attribute("data-kind", kind)
        await page.locator("#order-dialog [data-close]").click()
    assert len(tries) == 3
    refunds = await server.fetch("select refunded_minor from orders where id = $1", order["id"])
    assert [row["refunded_minor"] for row in refunds] == [1_250]


async def test_a_digit_stays_with_its_offer(server: Server, people: People) -> None:
    """When an offer closes the others keep their digits, and a new one takes the next."""
    stream = await server.stream("Digits")
    offers = [
        await server.offer(stream, await server.product(title)) for title in ("Ash", "Birch", "Elm")
    ]
    host = await HostPage.visit(await people.person("host", DESKTOP), server, stream)
    slots = host.page.locator("#offers .slot")
    await expect(slots).to_have_text(["1", "2", "3"])
    await server.call("POST", f"/v1/offers/{offers[1]}/close", {})
    await expect(slots).to_have_text(["1", "3"])
    await server.offer(stream, await server.product("Oak"))
    await expect(slots).to_have_text(["1", "3", "4"])
    await host.page.keyboard.press("3")
    await host.pinned("Elm")


async def test_a_total_changed_meanwhile_is_not_overwritten(server: Server, people: People) -> None:
    """Setting a quantity asks when it is much more, and is refused when the total has changed."""
    stream = await server.stream("Totals")
    offer = await server.offer(stream, await server.product("Bowl"), quantity=5)
    person = await people.person("host", DESKTOP)
    person.bears.append(DIFFERS)
    host = await HostPage.visit(person, server, stream)
    page = host.page

    async def choose(quantity: str) -> None:
        await page.click("#offers .menu summary")
        await host.button("set_quantity", host.offer("Bowl")).click()
        await page.fill("#ask-value", quantity)

    await choose("5000")
    await page.click("#ask-yes")
    await expect(page.locator("#sure-costs")).to_contain_text("5 to 5,000")
    await page.click("#sure-no")
    await choose("6")
    await server.call("POST", f"/v1/offers/{offer}/restock", {"add": 3})
    await page.click("#ask-yes")
    await expect(page.locator("#offers-outcome")).to_have_attribute("data-kind", "bad")
    assert (await server.call("GET", f"/v1/offers/{offer}"))["quantity"] == 8


async def test_an_undone_restock_leaves_what_others_added(server: Server, people: People) -> None:
    """Taking a restock back takes off its own units, from whatever the total is by then."""
    stream = await server.stream("Undone")
    offer = await server.offer(stream, await server.product("Bowl"), quantity=5)
    person = await people.person("host", DESKTOP)
    person.bears.append(DIFFERS)
    host = await HostPage.visit(person, server, stream)
    page = host.page
    await host.restock("Bowl", 3)
    await expect(page.locator("#undos li")).to_have_count(1)
    await server.call("POST", f"/v1/offers/{offer}/restock", {"add": 4})
    await page.click("#undos button")
    await expect(page.locator("#offers-outcome")).to_have_text(host.words.text("undone"))
    assert (await server.call("GET", f"/v1/offers/{offer}"))["quantity"] == 9


async def test_a_chosen_offer_that_closes_is_no_longer_chosen(
    server: Server, people: People
) -> None:
    """An unread comment is ordered of what the host chose, never of what came in its place."""
    stream = await server.stream("Comments")
    ash, _ = [
        await server.offer(stream, await server.product(title), keyword=title.lower())
        for title in ("Ash", "Birch")
    ]
    host = await HostPage.visit(await people.person("host", DESKTOP), server, stream)
    await host.connected()
    page = host.page
    await server.say(stream, [("ann", "+1")])
    await page.click("#talk-comments")
    item = page.locator("#comments > li")
    order = item.get_by_role("button", name="Order", exact=True)
    await expect(order).to_be_disabled()
    await item.locator("select").select_option(label="Ash")
    await expect(order).to_be_enabled()
    await server.call("POST", f"/v1/offers/{ash}/close", {})
    await expect(order).to_be_disabled()
    await expect(item.locator("select")).to_have_value("")
    await item.locator("select").select_option(label="Birch")
    await order.click()
    await expect(item).to_have_count(0)
    await host.orders(ann="reserved")


async def test_a_draft_keeps_what_its_form_was_not_told(server: Server, people: People) -> None:
    """Changing a draft's quantity leaves its keyword and its time to close; emptied, they go."""
    stream = await server.stream("Draft", live=False)
    closes_at = 4_102_444_800_000
    offer = await server.offer(
        stream, await server.product("Bowl"), opened=False, keyword="bowl", closes_at=closes_at
    )
    host = await HostPage.visit(await people.person("host", DESKTOP), server, stream)
    page = host.page
    await page.click("#offers .menu summary")
    await host.button("edit", host.offer("Bowl")).click()
    await expect(page.locator("#offer-form [name=closes_at]")).to_have_value(
        re.compile("^(2100-01-01|2099-12-31)")
    )
    await page.fill("#offer-form [name=quantity]", "7")
    await page.click("#offer-submit")
    await expect(page.locator("#offers-outcome")).to_have_text("Saved.")
    now = await server.call("GET", f"/v1/offers/{offer}")
    assert (now["quantity"], now["keyword"], now["closes_at"]) == (7, "bowl", closes_at)

    await host.counts("Bowl", left=7, held=0, sold=0)
    await page.click("#offers .menu summary")
    await host.button("edit", host.offer("Bowl")).click()
    for name in ("keyword", "closes_at"):
        await page.fill(f"#offer-form [name={name}]", "")
    await page.click("#offer-submit")
    await expect(page.locator("#offer-dialog")).to_be_hidden()
    emptied = await server.call("GET", f"/v1/offers/{offer}")
    assert emptied.keys() == now.keys() - {"keyword", "closes_at"}
