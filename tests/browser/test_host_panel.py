"""The host's page in a browser, against a real server: what two hosts see, do, and take back.

Needs Chromium (`make setup-browser`), by the path in LIVECART_TEST_CHROMIUM or on PATH; without one
these tests are skipped by name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Error, Page, async_playwright, expect

from tests.contract.http_rig import Shop, serving

CHROMIUM = os.environ.get("LIVECART_TEST_CHROMIUM") or shutil.which("chromium") or ""
WAIT_MS = 15_000
DESK = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: make setup-browser")
expect.set_options(timeout=WAIT_MS)


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser of this test's own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        await browser.close()


async def _host(browser: Browser, shop: Shop, stream: str, size: dict[str, int] = DESK) -> Page:
    """Return the page as a host of the shop sees it, once it is connected."""
    context = await browser.new_context(viewport=size, locale="en-US")  # type: ignore[arg-type]
    page = await context.new_page()
    page.set_default_timeout(WAIT_MS)
    await page.goto(f"http://127.0.0.1:{shop.port}/host#token={shop.host}&stream={stream}")
    await expect(page.locator("#line")).to_have_text("Connected")
    await expect(page.locator("#system")).to_have_text("Selling works")
    return page


async def test_two_hosts_see_the_same_and_the_keyboard_sells(shop: Shop, browser: Browser) -> None:
    """What one host finds, pins and opens by keyboard the other sees; typing fires no shortcut."""
    stream = await shop.stream()
    tea, pan = [await shop.product(title=title) for title in ("Green tea", "Iron pan")]
    for product in (tea, pan):
        body = {"product": product, "price_minor": 500, "quantity": 5}
        await shop.made("POST", f"/v1/streams/{stream}/offers", body)
    one, other = [await _host(browser, shop, stream) for _ in range(2)]
    faults: list[Error] = []
    for page in (one, other):
        page.on("pageerror", faults.append)
    await expect(one.locator("#offers .offer")).to_have_count(2)

    await one.keyboard.press("/")
    await one.keyboard.type("pan 12")
    await expect(one.locator("#search")).to_have_value("pan 12")
    await expect(one.locator("#products-empty")).to_have_text("Nothing found.")
    await one.keyboard.press("Escape")
    await one.keyboard.type("tea")
    await expect(one.locator("#products li")).to_have_count(1)
    await one.keyboard.press("Enter")
    await expect(other.locator("#pins li")).to_have_text(["Green teaUnpin"])

    await one.keyboard.press("Escape")
    await one.keyboard.press("Escape")
    await one.keyboard.press("2")
    await expect(other.locator("#pins li")).to_have_text(["Iron panUnpin", "Green teaUnpin"])
    await one.keyboard.press("Shift+Digit1")
    await expect(other.locator("#offers .offer >> nth=0 >> .chip")).to_have_text("On sale")
    await expect(other.locator("#offers .offer >> nth=1 >> .chip")).to_have_text("Draft")
    await one.keyboard.press("?")
    await expect(one.locator("#help")).to_be_visible()
    assert faults == []


async def test_closing_names_its_cost_and_waits(shop: Shop, browser: Browser) -> None:
    """Closing tells what is held, is not done when taken back in time, and is done otherwise."""
    stream = await shop.stream()
    offer = await shop.offer(stream, quantity=5, per_viewer=2)
    assert (await shop.buy(offer, "a", 2)).status_code == 201
    page = await _host(browser, shop, stream)

    async def close() -> None:
        await page.click("#offers .menu summary")
        await page.get_by_role("button", name="Close", exact=True).click()

    await close()
    costs = page.locator("#sure-costs")
    await expect(costs).to_contain_text("3 units left")
    await expect(costs).to_contain_text("2 unpaid holds")
    await expect(page.locator("#sure-no")).to_be_focused()
    await page.click("#sure-no")
    await expect(page.locator("#undos li")).to_have_count(0)

    await close()
    await page.click("#sure-yes")
    await page.click("#undos button")
    await expect(page.locator("#undos li")).to_have_count(0)
    assert (await shop.made("GET", f"/v1/offers/{offer}"))["status"] == "open"

    await close()
    await page.click("#sure-yes")
    await expect(page.locator("#offers .chip")).to_have_text("Closing…")
    assert (await shop.made("GET", f"/v1/offers/{offer}"))["status"] == "open"
    await expect(page.locator("#closed-count")).to_have_text("Closed (1)")
    assert (await shop.made("GET", f"/v1/offers/{offer}"))["status"] == "closed"


async def test_a_restock_is_taken_back_unless_it_is_sold(shop: Shop, browser: Browser) -> None:
    """Undone in time a restock leaves the total as it was; once its units are sold it stands."""
    stream = await shop.stream()
    offer = await shop.offer(stream, quantity=2, per_viewer=9)
    page = await _host(browser, shop, stream)
    left = page.locator("#offers dd >> nth=0")

    async def restock() -> None:
        await page.get_by_role("button", name="Restock", exact=True).click()
        await page.fill("#ask-value", "3")
        await page.click("#ask-yes")
        await expect(left).to_have_text("5")

    await restock()
    await page.keyboard.press("u")
    await expect(left).to_have_text("2")
    await restock()
    assert (await shop.buy(offer, "a", 3)).status_code == 201
    await page.keyboard.press("u")
    await expect(page.locator("#offers-outcome")).to_have_attribute("data-kind", "bad")
    await expect(left).to_have_text("2")
    assert (await shop.made("GET", f"/v1/offers/{offer}"))["quantity"] == 5


async def test_figures_and_files_are_those_of_the_server(
    shop: Shop, browser: Browser, tmp_path: Path
) -> None:
    """Figures are the server's; files have all orders, and no address has a token."""
    stream = await shop.stream()
    offer = await shop.offer(stream, quantity=3)
    page = await _host(browser, shop, stream, PHONE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    answers = [await shop.buy(offer, viewer) for viewer in "abcde"]
    assert [answer.status_code for answer in answers] == [201] * 3 + [409] * 2
    await expect(page.locator(".tile.unpaid .big")).to_have_text("3")
    await page.click("#tabs [data-tab=figures]")
    await expect(page.locator(".tile.left .big")).to_have_text("0")
    await expect(page.locator(".tile.refused .big")).to_have_text("2")
    await expect(page.locator("#refusals")).to_have_text("sold out2")
    await page.click("#tabs [data-tab=orders]")
    await page.click("#orders .order >> nth=0 >> text=Mark paid")
    await expect(page.locator(".tile.revenue .big")).to_have_text("NT$15")
    await expect(page.locator(".tile.unpaid .big")).to_have_text("2")

    await page.click("#end")
    await expect(page.locator("#sure-costs")).to_contain_text("2 unpaid holds (NT$30)")
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
    assert not [url for url in asked if shop.host in url]
