"""The host's page in a browser: what two hosts see, do by keyboard, and take back."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.browser_rig import DESKTOP, PHONE, REFUSED, People, Screen
from tests.browser.pages import HostPage
from tests.browser.server_rig import Server, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNDO_MS = 6_000 + 1_000  # what the page counts down, and what it takes to ask the server then


async def _host(people: People, server: Server, stream: str, screen: Screen = DESKTOP) -> Page:
    """Return the page of one more host of the shop, once it is connected."""
    person = await people.person(f"host {len(people.all) + 1}", screen)
    host = await HostPage.visit(person, server, stream)
    await host.connected()
    return host.page


async def test_two_hosts_see_the_same_and_the_keyboard_sells(
    server: Server, people: People
) -> None:
    """What one host finds, pins and opens by keyboard the other sees; typing fires no shortcut."""
    stream = await server.stream("Keyboard")
    for title in ("Plum jam", "Iron pan"):
        await server.offer(stream, await server.product(title), opened=False)
    one, other = [await _host(people, server, stream) for _ in range(2)]
    await expect(one.locator("#offers .offer")).to_have_count(2)

    await one.keyboard.press("/")
    await one.keyboard.type("pan 12")
    await expect(one.locator("#search")).to_have_value("pan 12")
    await expect(one.locator("#products-empty")).to_have_text("Nothing found.")
    await one.keyboard.press("Escape")
    await one.keyboard.type("plum")
    await expect(one.locator("#products li")).to_have_count(1)
    await one.keyboard.press("Enter")
    await expect(other.locator("#pins li")).to_have_text(["Plum jamUnpin"])

    await one.keyboard.press("Escape")
    await one.keyboard.press("Escape")
    await one.keyboard.press("2")
    await expect(other.locator("#pins li")).to_have_text(["Iron panUnpin", "Plum jamUnpin"])
    await one.keyboard.press("Shift+Digit1")
    await expect(one.locator("#sure-title")).to_have_text("Open “Plum jam”?")
    await expect(one.locator("#sure-costs")).to_contain_text("NT$1,500")
    await one.click("#sure-yes")
    await expect(other.locator("#offers .offer >> nth=0 >> .chip")).to_have_text("On sale")
    await expect(other.locator("#offers .offer >> nth=1 >> .chip")).to_have_text("Draft")
    await one.keyboard.press("?")
    await expect(one.locator("#help")).to_be_visible()


async def test_money_by_hand_is_asked_about(server: Server, people: People) -> None:
    """Mark paid names product, quantity, buyer and amount, and does nothing unless confirmed."""
    stream = await server.stream("By hand")
    offer = await server.offer(stream, await server.product("Bowl"), quantity=5, per_viewer=2)
    await server.buy(offer, "ann", 2)
    page = await _host(people, server, stream)
    mark = page.locator("#orders > li").get_by_role("button", name="Mark paid", exact=True)
    status = page.locator("#orders .chip")

    await mark.click()
    await expect(page.locator("#sure-costs li >> nth=0")).to_have_text(
        "“Bowl” × 2 of buyer ann: NT$3,000."
    )
    await page.click("#sure-no")
    await page.get_by_role("button", name="Details", exact=True).click()
    await page.locator("#order-actions").get_by_role("button", name="Mark paid").click()
    await page.click("#sure-no")
    rows = await server.fetch("select status from orders where offer = $1", offer)
    assert [row["status"] for row in rows] == ["reserved"]

    await page.locator("#order-actions").get_by_role("button", name="Mark paid").click()
    await page.click("#sure-yes")
    await expect(status).to_have_text("Confirmed")


async def test_closing_names_its_cost_and_waits(server: Server, people: People) -> None:
    """Closing tells what is held, is not done when taken back in time, and is done otherwise."""
    stream = await server.stream("Closing")
    offer = await server.offer(stream, await server.product("Bowl"), quantity=5, per_viewer=2)
    await server.buy(offer, "a", 2)
    page = await _host(people, server, stream)

    async def close() -> None:
        await page.click("#offers .menu summary")
        await page.get_by_role("button", name="Close", exact=True).click()

    async def over() -> bool:
        passed: bool = await page.evaluate(f"performance.now() > {by_ms}")
        return passed

    async def status() -> str:
        found: str = (await server.call("GET", f"/v1/offers/{offer}"))["status"]
        return found

    await close()
    costs = page.locator("#sure-costs")
    await expect(costs).to_contain_text("3 units left")
    await expect(costs).to_contain_text("2 unpaid holds")
    await expect(page.locator("#sure-no")).to_be_focused()
    await page.click("#sure-no")
    await expect(page.locator("#undos li")).to_have_count(0)

    await close()
    await page.click("#sure-yes")
    chip = page.locator("#offers .chip")
    await expect(chip).to_have_text("Closing…")
    await expect(page.locator("#offers .sheet button", has_text="Close")).to_be_hidden()
    by_ms = await page.evaluate("performance.now()") + UNDO_MS
    await page.click("#undos button")
    await expect(page.locator("#undos li")).to_have_count(0)
    await until(over, "the seconds in which it would have closed have passed")
    await expect(chip).to_have_text("On sale")
    assert await status() == "open"

    await close()
    await page.click("#sure-yes")
    await page.click("#more summary")
    await page.click("#sign-out")
    await expect(page.locator("#undos li")).to_have_count(0)
    await expect(chip).to_have_text("On sale")
    await page.fill("#token", server.host)
    await page.click("#sign-in button")
    await expect(page.locator("#line")).to_have_text("Connected")
    assert await status() == "open"

    await close()
    await page.click("#sure-yes")
    await expect(chip).to_have_text("Closing…")
    await expect(page.locator("#closed-count")).to_have_text("Closed (1)")
    assert await status() == "closed"


async def test_a_restock_is_taken_back_unless_it_is_sold(server: Server, people: People) -> None:
    """Undone in time a restock leaves the total as it was; once its units are sold it stands."""
    stream = await server.stream("Restock")
    offer = await server.offer(stream, await server.product("Mug"), quantity=2, per_viewer=9)
    page = await _host(people, server, stream)
    people.all[-1].bears.append(REFUSED)
    left = page.locator("#offers dd >> nth=0")

    async def restock() -> None:
        await page.get_by_role("button", name="Restock", exact=True).click()
        await page.fill("#ask-value", "3")
        await page.click("#ask-yes")
        await expect(page.locator("#undos li")).to_have_count(1)
        await expect(left).to_have_text("5")

    await restock()
    await page.keyboard.press("u")
    await expect(left).to_have_text("2")
    await restock()
    await server.buy(offer, "a", 3)
    await page.keyboard.press("u")
    await expect(page.locator("#offers-outcome")).to_have_attribute("data-kind", "bad")
    await expect(left).to_have_text("2")
    assert (await server.call("GET", f"/v1/offers/{offer}"))["quantity"] == 5


async def test_files_are_whole_and_no_address_has_a_token(
    server: Server, people: People, tmp_path: Path
) -> None:
    """Ending names what is held; the files have all orders, and no address has a token."""
    stream = await server.stream("Files")
    offer = await server.offer(stream, await server.product("Vase"), quantity=3)
    for viewer in "abc":
        await server.buy(offer, viewer)
    page = await _host(people, server, stream, PHONE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await expect(page.locator(".tile.unpaid .big")).to_have_text("3")
    await page.click("#end")
    await expect(page.locator("#sure-costs")).to_contain_text("3 unpaid holds (NT$4,500)")
    await page.click("#sure-yes")
    await page.click("#tabs [data-tab=figures]")
    await expect(page.locator("#summary-totals td >> nth=0")).to_have_text("3")
    for kind, lines in (("csv", 4), ("jsonl", 3)):
        async with page.expect_download() as downloading:
            await page.click(f"#export-{kind}")
        file = tmp_path / kind
        await (await downloading.value).save_as(file)
        assert len(file.read_text().splitlines()) == lines
    assert asked
    assert not [url for url in asked if server.host in url]
