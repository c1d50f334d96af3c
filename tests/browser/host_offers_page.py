"""What the host's page looks like to a test around an offer and before a show.

Owns where the cards' menus, the forms, the waitlist and the encoder's dialog are; the rest of the
panel is in `pages`. Decides nothing about what should be there. Used by `test_host_offers`.
"""

from __future__ import annotations

import json
from datetime import datetime

from playwright.async_api import Locator, Page, expect

from tests.browser.browser_rig import Person
from tests.browser.pages import HostPage
from tests.browser.server_rig import Server


class OffersPage(HostPage):
    """`/host`, as hosts use it before a show and for what they sell."""

    @classmethod
    async def visit(
        cls, person: Person, server: Server, stream: str = "", *, language: str = "en",
        token: str = "",
    ) -> OffersPage:  # fmt: skip
        """Open the panel, signed in, on a stream or on the one that it chooses."""
        page = await super().visit(person, server, stream, language=language, token=token)
        assert isinstance(page, cls)
        return page

    # --- an offer --------------------------------------------------------------------------------

    async def menu(self, title: str, word: str) -> None:
        """Press what stands in the menu of an offer's card."""
        await self.offer(title).locator(".menu summary").click()
        await self.button(word, self.offer(title)).click()

    async def fill(self, form: str, **fields: str) -> None:
        """Fill in fields of a form by their names; a choice is one by its value."""
        for name, value in fields.items():
            field = self.page.locator(f"#{form} [name={name}]")
            if name == "product":
                await field.select_option(value)
            else:
                await field.fill(value)

    async def send(self, form: str) -> None:
        """Press the button that sends a form."""
        await self.page.locator(f"#{form} button.primary").click()

    async def sent(self, form: str) -> None:
        """Send a form, and wait until its dialog is gone: it was taken."""
        await self.send(form)
        await expect(self.page.locator(f"#{form}")).to_be_hidden()

    def field(self, form: str, name: str) -> Locator:
        """A field of a form."""
        return self.page.locator(f"#{form} [name={name}]")

    async def status(self, title: str, status: str) -> None:
        """Wait until an offer's card has this status."""
        chip = self.offer(title).locator(".chip")
        await expect(chip).to_have_text(self.words.text(f"offer_{status}"))

    async def time(self, when: datetime) -> str:
        """Return a time of today as the browser writes it."""
        js = "at => new Intl.DateTimeFormat('en', { timeStyle: 'short' }).format(at)"
        text: str = await self.page.evaluate(js, when.timestamp() * 1_000)
        return text

    async def total(self, title: str, quantity: int) -> None:
        """Choose another total of an offer."""
        await self.menu(title, "set_quantity")
        await self.page.locator("#ask-value").fill(str(quantity))
        await self.page.locator("#ask-yes").click()

    # --- products --------------------------------------------------------------------------------

    def product(self, title: str) -> Locator:
        """A product in the list of what the search finds."""
        return self.page.locator("#products > li").filter(has_text=title)

    async def search(self, typed: str) -> None:
        """Type into the search of products."""
        await self.page.locator("#search").fill(typed)

    # --- the waitlist ----------------------------------------------------------------------------

    async def waits(self, *waiting: tuple[str, int]) -> None:
        """Wait until the open list has these viewers and units, in this order and no others."""
        rows = self.page.locator("#waitlist > li")
        await expect(rows).to_have_count(len(waiting))
        for index, (viewer, qty) in enumerate(waiting):
            row = rows.nth(index)
            cells = [str(index + 1), self.words.text("buyer", id=viewer), f"× {qty}"]
            for cell, text in enumerate(cells):
                await expect(row.locator("> *").nth(cell)).to_have_text(text)

    # --- streams and the encoder -----------------------------------------------------------------

    async def press_menu(self, word: str) -> None:
        """Press what stands in the page's menu."""
        await self.page.locator("#more > summary").click()
        await self.button(word, self.page.locator("#more")).click()

    async def stands(self, status: str) -> None:
        """Wait until the chosen stream has this status."""
        await expect(self.page.locator("#live")).to_have_text(self.words.text(f"status_{status}"))

    def choice(self) -> Locator:
        """The choice among streams."""
        return self.page.locator("#stream-choice")

    async def agree_to_a_key(self) -> None:
        """Have a stream key made, in the open dialog."""
        await self.page.locator("#encoder-make").click()
        await self.page.locator("#sure-yes").click()

    async def make_key(self) -> str:
        """Make a stream key, in the open dialog, and return what is shown."""
        await self.agree_to_a_key()
        shown = self.page.locator("#encoder-shown").get_by_label(self.words.text("encoder_key"))
        await expect(shown).to_be_visible()
        return await shown.input_value()


async def record(page: Page, title: str) -> None:
    """Note from now on each state of a product's card: its chip, and what else tells of it.

    That is on a host's card the terms, on a viewer's what the button does.
    """
    await page.evaluate(_RECORD, title)


async def recorded(page: Page) -> list[str]:
    """Return the states that were noted, each once in a row."""
    found: list[str] = json.loads(await page.evaluate("JSON.stringify(window.rigStates)"))
    return found


_RECORD = """title => {
  window.rigStates = [];
  const look = () => {
    const card = [...document.querySelectorAll("article")]
      .find((one) => one.querySelector("h3").textContent === title);
    if (!card) return;
    const act = card.querySelector("button.buy")?.dataset.act;
    const more = act ?? card.querySelector("p.dim").textContent;
    const state = `${card.querySelector(".chip").textContent}: ${more}`;
    if (window.rigStates.at(-1) !== state) window.rigStates.push(state);
  };
  new MutationObserver(look).observe(document.body, {
    subtree: true, childList: true, characterData: true, attributes: true,
  });
}"""
