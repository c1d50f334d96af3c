"""The host's desk as a test uses it: one order in full, the talk, the figures, the summary.

Owns where these are on `/host`, beside what `pages.HostPage` knows. Decides nothing about what
should be there. Used by the tests of orders, talk, figures and accessibility in this folder.
"""

from __future__ import annotations

from typing import Any

from playwright.async_api import Locator, expect

from tests.browser.browser_rig import DESKTOP, PHONE, People, Screen
from tests.browser.pages import LOCALES, HostPage, ViewerPage, Words
from tests.browser.server_rig import Server


class HostDesk(HostPage):
    """The panel of somebody who looks after orders and the chat."""

    # --- one order ---------------------------------------------------------------------------

    def fed(self, text: str) -> Locator:
        """The orders of the feed with this text in them."""
        return self.page.locator("#orders > li").filter(has_text=text)

    async def order_is(self, text: str, status: str) -> None:
        """Wait until the one order of the feed with this text has this status."""
        await expect(self.fed(text).locator(".chip")).to_have_text(
            self.words.text(f"order_{status}")
        )

    async def look_at(self, text: str) -> None:
        """Open the one order with this text."""
        await self.button("details", self.fed(text)).click()
        await expect(self.page.locator("#timeline > li").first).to_be_visible()

    async def look_away(self) -> None:
        """Close the order."""
        await self.page.locator("#order-dialog [data-close]").click()
        await expect(self.page.locator("#order-dialog")).to_be_hidden()

    async def steps(self, *steps: str) -> None:
        """Wait until the order's timeline has these steps, oldest first."""
        words = [self.words.text(step) for step in steps]
        await expect(self.page.locator("#timeline > li > b")).to_have_text(words)

    async def refund(self, amount: str, reason: str, *, restock: bool = False) -> None:
        """Give money back; without an amount, all that is left."""
        await self.unfold("refund-box")
        form = self.page.locator("#refund-form")
        await form.locator("[name=amount]").fill(amount)
        await form.locator("[name=reason]").fill(reason)
        await form.locator("[name=restock]").set_checked(restock)
        await self.button("refund", form).click()

    async def ship(self, carrier: str, tracking: str) -> None:
        """Note the order as shipped."""
        await self.unfold("ship-box")
        form = self.page.locator("#ship-form")
        await form.locator("[name=carrier]").fill(carrier)
        await form.locator("[name=tracking]").fill(tracking)
        await self.button("ship", form).click()
        await self.order_says("shipped")

    async def choose(self, menu: Locator, word: str) -> None:
        """Open a menu, and press what is in it."""
        await menu.locator("summary").click()
        await self.button(word, menu).click()

    async def unfold(self, box: str) -> None:
        """Have one of the order's forms seen."""
        if await self.page.locator(f"#{box}:not([open])").count():
            await self.page.locator(f"#{box} summary").click()

    async def cancel(self) -> None:
        """Press what cancels the order, and wait to be asked."""
        await self.button("cancel_order", self.page.locator("#order-actions")).click()
        await expect(self.page.locator("#sure")).to_be_visible()

    async def agree(self) -> None:
        """Say that one is sure."""
        await self.page.locator("#sure-yes").click()
        await expect(self.page.locator("#sure")).to_be_hidden()

    async def order_says(self, word: str) -> None:
        """Wait until this is said of what was done to the order."""
        await expect(self.page.locator("#order-outcome")).to_have_text(self.words.text(word))

    async def narrow(self, status: str | None = None, sought: str | None = None) -> None:
        """Have only orders of a status, of a buyer, or both; with "" all again."""
        if status is not None:
            await self.page.locator("#orders-status").select_option(status)
        if sought is not None:
            await self.page.locator("#orders-search").fill(sought)

    async def listed(self, ids: list[str]) -> None:
        """Wait until the feed has exactly these orders in this order."""
        items = self.page.locator("#orders > li")
        await expect(items).to_have_count(len(ids))
        wanted = "ids => ids.join() === [...document.querySelectorAll('#orders > li')]"
        await self.page.wait_for_function(
            f"{wanted}.map((item) => item.dataset.key).join()", arg=ids
        )

    # --- talk --------------------------------------------------------------------------------

    async def deal_with(self, text: str, what: str) -> None:
        """Do something about a message or who wrote it: remove, mute, unmute, ban."""
        await self.moderate(text)
        await self.button(what, self.page.locator("#moderate-actions")).click()
        if what == "ban":
            await self.agree()

    async def talk_says(self, word: str, /, **gaps: object) -> None:
        """Wait until this is said of what was done in the talk."""
        await expect(self.page.locator("#chat-outcome")).to_have_text(self.words.text(word, **gaps))

    async def comments(self) -> None:
        """Have the queue of comments seen."""
        await self.page.locator("#talk-comments").click()
        await expect(self.page.locator("#comments-box")).to_be_visible()

    def comment(self, text: str) -> Locator:
        """The comments of the queue with this text in them."""
        return self.page.locator("#comments > li").filter(has_text=text)

    # --- figures -----------------------------------------------------------------------------

    async def told_below(self, tile: str, text: str) -> None:
        """Wait until the line below the live figure of that name is this."""
        await expect(self.page.locator(f".tile.{tile} dd.dim")).to_have_text(text)

    async def drawn(self, chart: str) -> list[float]:
        """What a chart's line shows, each as a share of its highest value."""
        points = await self.page.locator(f"#{chart} .stroke").get_attribute("points")
        box = await self.page.locator(f"#{chart} .base").get_attribute("y1")
        floor = float(box or 0)
        heights = [floor - float(point.split(",")[1]) for point in (points or "").split()]
        return [height / (max(heights) or 1) for height in heights]

    async def rows(self, table: str) -> list[list[str]]:
        """The cells of a table of the summary, row by row."""
        found: list[list[str]] = await self.page.locator(f"#{table} > tr").evaluate_all(
            "rows => rows.map((row) => [...row.children].map((cell) => cell.textContent))"
        )
        return found


async def desk(
    people: People,
    server: Server,
    stream: str,
    screen: Screen = DESKTOP,
    language: str = "en",
    **more: Any,
) -> HostDesk:
    """Return one more host of the shop at their desk, connected."""
    name = f"host {len(people.all) + 1}"
    person = await people.person(name, screen, LOCALES[language], **more)
    await HostPage.visit(person, server, stream)
    host = HostDesk(person, Words(language))
    await host.connected()
    return host


async def watcher(people: People, server: Server, stream: str, name: str) -> ViewerPage:
    """Return a viewer of that name on their phone, connected."""
    person = await people.person(name, PHONE)
    token = server.token("viewer", name, name=name)
    page = await ViewerPage.visit(person, server, stream, token=token)
    await page.connected()
    return page
