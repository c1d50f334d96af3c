"""The viewer's page by keyboard alone: where Tab leads, and where the focus is afterwards."""

from __future__ import annotations

import pytest
from playwright.async_api import Locator, expect

from tests.browser.browser_rig import People, Screen
from tests.browser.pages import ViewerPage
from tests.browser.server_rig import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEA = "高山烏龍茶"
CUP = "手工茶杯"
NARROW = Screen("narrow", 800, 900, False)  # with drawers, and a keyboard
TABS_MAX = 40

OUTLINED = """
(element) => {
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  const outlined = outlineStyle !== "none" && parseFloat(outlineWidth) > 0;
  return outlined && element.matches(":focus-visible");
}
"""


async def _tab_to(page: ViewerPage, wanted: Locator) -> None:
    for _ in range(TABS_MAX):
        await page.page.keyboard.press("Tab")
        if await wanted.evaluate("(element) => element === document.activeElement"):
            return
    raise AssertionError(f"{TABS_MAX} times Tab did not lead there")


async def test_a_sale_by_keyboard_alone(server: Server, people: People) -> None:
    """The first Tab skips to the product, Enter buys, the focus is seen and never lost; a drawer
    keeps it until Escape, and gives it back to what opened it."""
    stream = await server.stream("茶")
    tea, cup = [await server.product(title) for title in (TEA, CUP)]
    offer = await server.offer(stream, tea)
    await server.pin(stream, tea, offer)
    person = await people.person("ann", NARROW)
    token = server.token("viewer", "ann")
    page = await ViewerPage.visit(person, server, stream, token=token)
    await page.connected()
    await page.pinned(TEA)
    keys = person.page.keyboard

    await keys.press("Tab")
    skip = person.page.locator("a.skip")
    await expect(skip).to_be_focused()
    await expect(skip).to_be_in_viewport()
    await keys.press("Enter")
    await expect(person.page.locator("#now")).to_be_focused()
    big = page.big(TEA)
    await _tab_to(page, big)
    assert await big.evaluate(OUTLINED)
    await expect(big).to_have_attribute("aria-disabled", "false")
    await keys.press("Enter")
    await page.yours(TEA)
    await expect(big).to_be_focused()
    rows = await server.fetch("select qty from orders where offer = $1", offer)
    assert [row["qty"] for row in rows] == [1]

    # Paying opens the orders; only once the button has rested does it take the next press.
    await expect(big).to_have_attribute("aria-disabled", "false")
    await keys.press("Enter")
    drawer = person.page.locator("#orders-drawer")
    await expect(drawer).to_have_attribute("open", "")
    inside = "(drawer) => drawer.contains(document.activeElement)"
    assert await drawer.evaluate(inside)
    page_around = "document.activeElement.closest('main') !== null"
    for _ in range(8):
        await keys.press("Tab")
        assert not await person.page.evaluate(page_around), "the focus left the open drawer"
    await keys.press("Escape")
    await expect(drawer).not_to_have_attribute("open", "")
    await expect(big).to_be_focused()

    # Another product comes: the focus is on its card, to be seen, and Enter buys nothing unseen.
    await server.pin(stream, cup, await server.offer(stream, cup))
    await page.pinned(CUP)
    card = person.page.locator("#pinned article")
    await expect(card).to_be_focused()
    assert await card.evaluate(OUTLINED)
    await keys.press("Enter")
    opener = person.page.locator("#products-open")
    await _tab_to(page, opener)
    await keys.press("Enter")
    await expect(person.page.locator("#products-drawer")).to_have_attribute("open", "")
    assert await person.page.locator("#products-drawer").evaluate(inside)
    close = person.page.locator("#products-drawer [data-close]")
    if not await close.evaluate("(element) => element === document.activeElement"):
        await _tab_to(page, close)
    await keys.press("Enter")
    await expect(person.page.locator("dialog[open]")).to_have_count(0)
    await expect(opener).to_be_focused()
    assert await opener.evaluate(OUTLINED)
    assert len(await server.fetch("select 1 from orders where stream = $1", stream)) == 1
