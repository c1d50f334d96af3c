"""What the pages look like to a test: every role, label and id that the browser tests rely on.

Owns where things are on the viewer's page, the host's and the checkout, in the words of the page's
language. Decides nothing about what should be there. Used by the tests in this folder and by
`screenshots`; when a page is laid out anew, this file changes and they do not.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.async_api import Locator, expect

import livecart
from tests.browser.browser_rig import WAIT_MS, Person
from tests.browser.server_rig import Server

WORDS = Path(livecart.__file__).parent / "web" / "words"
#: What a browser that reads a language of ours asks for.
LOCALES = {"en": "en-US", "zh-Hant": "zh-TW", "zh-Hans": "zh-CN"}
_GAP = re.compile(r"\\\{\w+\\\}")

expect.set_options(timeout=WAIT_MS)


class Words:
    """The words of one language, as patterns that find them on a page."""

    def __init__(self, language: str) -> None:
        file = WORDS / f"{language}.json"
        self._words: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))["words"]

    def text(self, name: str, /, **gaps: object) -> str:
        """The words themselves, with their gaps filled."""
        return self._words[name].format(**gaps)

    def like(self, *names: str, whole: bool = True) -> re.Pattern[str]:
        """A pattern of any of these words with anything in their gaps."""
        each = [_GAP.sub(".*", re.escape(self._words[name])) for name in names]
        pattern = f"(?:{'|'.join(each)})"
        return re.compile(rf"^\s*{pattern}\s*$" if whole else pattern)


class _Page:
    def __init__(self, person: Person, words: Words) -> None:
        self.person = person
        self.page = person.page
        self.words = words

    def button(self, word: str, within: Locator | None = None) -> Locator:
        """The button with these words."""
        where = within or self.page.locator("body")
        return where.get_by_role("button", name=self.words.like(word))

    async def connected(self) -> None:
        """Wait until the page's line to the server is open."""
        await expect(self.page.locator("#line")).to_have_text(self.words.text("line_open"))

    async def says(self, word: str, **gaps: object) -> None:
        """Wait until the page's notice says this."""
        await expect(self.page.locator("#notice")).to_have_text(self.words.text(word, **gaps))

    async def is_in(self, language: str) -> None:
        """Wait until the page says of itself that it is in this language."""
        await expect(self.page.locator("html")).to_have_attribute("lang", language)

    async def mark(self) -> None:
        """Leave a mark that a reload would take away."""
        await self.page.evaluate("window.rigSame = true")

    async def same(self) -> bool:
        """Tell whether the page was not loaded anew since `mark`."""
        found: bool = await self.page.evaluate("window.rigSame === true")
        return found

    # --- chat ------------------------------------------------------------------------------------

    async def chat(self, text: str, *, answered: bool = True) -> None:
        """Say something, and wait until it stands in the log unless `answered` is false."""
        await self.page.locator("#chat-text").fill(text)
        await self.page.locator("#chat-text").press("Enter")
        if answered:
            await expect(self.messages(text)).to_have_count(1)

    async def last_message(self, text: str) -> None:
        """Wait until the newest message has this text; the page has little to do for this look."""
        await expect(self.page.locator("#messages > *").last).to_contain_text(text)

    def messages(self, text: str | re.Pattern[str] = "") -> Locator:
        """The messages with this text in them."""
        return self.page.locator("#messages > *").filter(has_text=text)


class ViewerPage(_Page):
    """`/s/{stream}`, as its viewers use it."""

    @classmethod
    async def visit(
        cls, person: Person, server: Server, stream: str, *, language: str = "en", token: str = ""
    ) -> ViewerPage:
        """Open a stream's page; without a token as a guest."""
        page = cls(person, Words(language))
        await person.page.goto(f"{server.http}/s/{stream}" + (token and f"#token={token}"))
        return page

    # --- what is on sale -------------------------------------------------------------------------

    def card(self, title: str) -> Locator:
        """What is to be seen of a product: the big card, or the one on the shelf."""
        cards = self.page.locator("#pinned article, #cards article").filter(has_text=title)
        return cards.filter(visible=True).first

    def big(self, title: str) -> Locator:
        """The one button of a card."""
        return self.card(title).locator("button.buy")

    async def buy(self, title: str) -> None:
        """Press the button that buys."""
        await expect(self.big(title)).to_have_text(self.words.like("buy"))
        await expect(self.big(title)).to_have_attribute("aria-disabled", "false")
        await self.big(title).click()

    async def reserving(self, title: str) -> None:
        """Wait until the page says that it asks the server."""
        await expect(self.big(title)).to_have_text(self.words.text("act_reserving"))

    async def yours(self, title: str) -> None:
        """Wait until the page says that a unit is held for this viewer, and until when."""
        await expect(self.card(title)).to_contain_text(self._part("note_yours"))

    async def refused(self, title: str) -> None:
        """Wait until the page says that this viewer was too late."""
        await expect(self.card(title)).to_contain_text(self.words.text("code_sold_out"))

    async def left(self, title: str, left: int, quantity: int) -> None:
        """Wait until it is shown that so many of so many are left, or that all are sold."""
        if left == 0:
            await self.status(title, "sold_out")
            return
        stock = self.card(title).locator(".stock")
        await expect(stock).to_have_text(self.words.text("left", left=left, quantity=quantity))
        await expect(stock).to_be_visible()

    async def status(self, title: str, status: str) -> None:
        """Wait until the offer has this status."""
        chip = self.card(title).locator(".chip")
        await expect(chip).to_have_text(self.words.text(f"offer_{status}"))

    async def pinned(self, title: str) -> None:
        """Wait until the product is the one on the big card."""
        shown = self.page.locator("#pinned article.is-pinned").filter(has_text=title)
        await expect(shown).to_be_visible()

    async def wait(self, title: str) -> None:
        """Join the waitlist, and wait for the place on it."""
        await self.button("wait", self.card(title)).click()
        await expect(self.card(title)).to_contain_text(self._part("waitlisted"))

    async def cannot_buy(self, title: str, why: str) -> None:
        """Wait until the card says why nothing can be bought."""
        await expect(self.card(title)).to_contain_text(self.words.text(why))
        await expect(self.big(title)).to_have_attribute("aria-disabled", "true")

    async def pay(self, title: str) -> None:
        """Press the button again, which pays now, and wait until the payment is waited for."""
        await expect(self.big(title)).to_have_text(self.words.like("act_pay"))
        await self.big(title).click()
        await expect(self.page.locator("#orders")).to_contain_text(self.words.text("payment_waits"))
        await self.close_drawer()

    async def paid(self, title: str) -> None:
        """Wait until the card says that it is paid."""
        await expect(self.card(title)).to_contain_text(self._part("note_paid"))

    # --- the drawers -----------------------------------------------------------------------------

    async def open_products(self) -> None:
        """Have all products seen, in a drawer where there is no room beside the picture."""
        await self._open("products")

    async def open_orders(self) -> None:
        """Have this viewer's orders seen."""
        await self._open("orders")

    async def close_drawer(self) -> None:
        """Put the drawer away, if one is open."""
        if await self.page.locator("dialog[open]").count():
            await self.page.keyboard.press("Escape")
            await expect(self.page.locator("dialog[open]")).to_have_count(0)

    async def orders(self, *statuses: str) -> None:
        """Wait until this viewer's orders are these, newest first."""
        await self.open_orders()
        items = self.page.locator("#orders-list > li")
        await expect(items).to_have_count(len(statuses))
        for index, status in enumerate(statuses):
            chip = items.nth(index).locator(".chip")
            await expect(chip).to_have_text(self.words.text(f"order_{status}"))
            await expect(chip).to_be_visible()
        await self.close_drawer()

    async def _open(self, name: str) -> None:
        section = self.page.locator(f"#{name}")
        if not await section.is_visible():
            await self.page.locator(f"#{name}-open").click()
        await expect(section).to_be_visible()

    # --- the rest --------------------------------------------------------------------------------

    async def ended(self) -> None:
        """Wait until the page says that the show is over."""
        await expect(self.page.locator("#live")).to_have_text(self.words.text("status_ended"))

    async def cannot_chat(self, why: str) -> None:
        """Wait until the chat says why nothing can be written."""
        field = self.page.locator("#chat-text")
        await expect(field).to_be_disabled()
        await expect(field).to_have_attribute("placeholder", self.words.text(why))

    async def lost(self) -> None:
        """Wait until the page says that it is not connected."""
        line = self.page.locator("#line")
        await expect(line).to_have_text(self.words.like("line_waiting", "line_connecting"))

    async def go_on_as_guest(self) -> None:
        """Take the way out that a bad token leaves."""
        await self.button("as_guest").click()

    async def choose_language(self, language: str) -> None:
        """Have the page in another language."""
        self.words = Words(language)
        await self.page.locator("#language").select_option(language)
        await self.is_in(language)
        await self.connected()

    def _part(self, word: str) -> re.Pattern[str]:
        return self.words.like(word, whole=False)


class HostPage(_Page):
    """`/host`, as hosts use it."""

    @classmethod
    async def visit(
        cls, person: Person, server: Server, stream: str, *, language: str = "en", token: str = ""
    ) -> HostPage:
        """Open the panel on a stream, signed in."""
        page = cls(person, Words(language))
        await person.page.goto(f"{server.http}/host#token={token or server.host}&stream={stream}")
        return page

    async def go_live(self) -> None:
        """Start the stream."""
        await self.button("go_live").click()
        await expect(self.page.locator("#live")).to_have_text(self.words.text("status_live"))

    async def end(self) -> None:
        """End the stream, and say that one is sure."""
        await self.ask_to_end()
        await self.page.locator("#sure-yes").click()
        await expect(self.page.locator("#live")).to_have_text(self.words.text("status_ended"))

    async def ask_to_end(self) -> None:
        """Press what ends the stream, and wait to be asked."""
        await self.button("end_stream").click()
        await expect(self.page.locator("#sure")).to_be_visible()

    # --- offers ----------------------------------------------------------------------------------

    async def prepare(self, title: str, *, price: str, quantity: int) -> None:
        """Fill in the form of a new offer of a product, and wait until it is listed."""
        await self.prepare_form()
        form = self.page.locator("#offer-form")
        chosen = form.locator("[name=product] option").filter(has_text=title)
        product = await chosen.first.get_attribute("value")  # the newest
        await form.locator("[name=product]").select_option(value=product)
        await form.locator("[name=price]").fill(price)
        await form.locator("[name=quantity]").fill(str(quantity))
        await self.button("create", form).click()
        await expect(self.offer(title)).to_have_count(1)

    def offer(self, title: str) -> Locator:
        """The card of an offer, by its product."""
        return self.page.locator("#offers > *").filter(has_text=title)

    async def open(self, title: str) -> None:
        """Open an offer."""
        await self.button("open_offer", self.offer(title)).click()
        await expect(self.offer(title)).to_contain_text(self.words.text("offer_open"))

    async def pin(self, title: str) -> None:
        """Show an offer."""
        await self.button("pin", self.offer(title)).click()
        await self.pinned(title)

    async def pinned(self, title: str) -> None:
        """Wait until the product is listed as shown."""
        await expect(self.page.locator("#pins > li").filter(has_text=title)).to_have_count(1)

    async def restock(self, title: str, add: int) -> None:
        """Add units to an offer."""
        await self.button("restock", self.offer(title)).click()
        await self.page.locator("#ask-value").fill(str(add))
        await self.page.locator("#ask-yes").click()
        await expect(self.page.locator("#ask")).to_be_hidden()

    async def counts(self, title: str, *, left: int, held: int, sold: int) -> None:
        """Wait until an offer's figures are these."""
        wanted = {"left_now": left, "reserved_now": held, "confirmed_now": sold}
        for word, number in wanted.items():
            named = self.page.locator("dt", has_text=self.words.like(word))
            cell = self.offer(title).locator("dl > div").filter(has=named)
            await expect(cell.locator("dd")).to_have_text(str(number))

    async def tile(self, name: str, value: str) -> None:
        """Wait until the live figure of that name is this."""
        named = self.page.locator("dt", has_text=self.words.like(f"tile_{name}"))
        tile = self.page.locator("#tiles > div").filter(has=named)
        await expect(tile.locator("dd.big")).to_have_text(value)

    # --- orders ----------------------------------------------------------------------------------

    async def orders(self, **statuses: str) -> None:
        """Wait until the feed has the orders of these buyers and no others, in these statuses."""
        items = self.page.locator("#orders > li")
        await expect(items).to_have_count(len(statuses))
        for buyer, status in statuses.items():
            words = self.words.text(f"order_{status}")
            await expect(items.filter(has_text=buyer)).to_contain_text(words)

    async def show(self, part: str) -> None:
        """Bring a part to the front where the screen has room for one: offers, orders, talk, …"""
        tab = self.page.locator(f"#tabs [data-tab={part}]")
        if await tab.is_visible():
            await tab.click()

    async def prepare_form(self) -> None:
        """Open the form of a new offer."""
        await self.button("prepare").click()
        await expect(self.page.locator("#offer-form")).to_be_visible()

    async def open_order(self, buyer: str) -> None:
        """Open the order of a buyer."""
        item = self.page.locator("#orders > li").filter(has_text=buyer)
        await self.button("details", item).click()
        await expect(self.page.locator("#timeline > li").first).to_be_visible()

    async def charts(self) -> None:
        """Have the charts seen."""
        await self.show("figures")
        charts = self.page.locator("#charts")
        if not await charts.is_visible():
            await self.button("charts").click()
        await expect(charts).to_be_visible()

    async def summed_up(self, title: str) -> None:
        """Wait until the summary of an ended stream has a product's row."""
        await self.show("figures")
        row = self.page.locator("#summary-rows > tr").filter(has_text=title)
        await expect(row).to_be_visible()
        await row.scroll_into_view_if_needed()

    async def moderate(self, text: str) -> None:
        """Ask what can be done about a message."""
        await self.messages(text).get_by_role("button").click()
        await expect(self.page.locator("#moderate")).to_be_visible()

    async def mark_paid(self, buyer: str) -> None:
        """Mark the order of a buyer as paid by hand."""
        item = self.page.locator("#orders > li").filter(has_text=buyer)
        await self.button("mark_paid", item).click()
        await expect(self.page.locator("#sure-costs")).to_contain_text(buyer)
        await self.page.locator("#sure-yes").click()
        await expect(item).to_contain_text(self.words.text("order_confirmed"))


class PayPage(_Page):
    """`/pay`, as buyers use it."""

    @classmethod
    async def visit(
        cls, person: Person, server: Server, link: str, *, language: str = "en"
    ) -> PayPage:
        """Open a checkout link."""
        page = cls(person, Words(language))
        await person.page.goto(server.http + link)
        return page

    async def pay(self, provider: str) -> None:
        """Begin to pay through a provider."""
        await self.page.locator("#provider").select_option(provider)
        await self.button("pay").click()

    async def total(self, amount: str) -> None:
        """Wait until the page says what is to pay."""
        await expect(self.page.locator("#total")).to_contain_text(amount)

    async def paid(self) -> None:
        """Wait until the page thanks."""
        await expect(self.page.locator("#outcome")).to_have_text(self.words.text("paid_thanks"))
