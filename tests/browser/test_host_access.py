"""No barrier in any state of the host's panel, nor on the viewer's page: by axe-core.

The panel's play is done twice, so that both colour schemes, both ends of the sizes and a second
script are looked at in every state: a desk by day in English, and a phone by night in Chinese. The
viewer's page by day and in English is looked at in `test_screens`.
"""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.browser_rig import DESKTOP, PHONE, People, Screen, axe
from tests.browser.host_desk_page import desk
from tests.browser.pages import LOCALES, ViewerPage
from tests.browser.server_rig import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCREENS = pytest.mark.parametrize(
    ("screen", "scheme", "language"), [(DESKTOP, "light", "en"), (PHONE, "dark", "zh-Hant")]
)
TEA = "高山烏龍茶"
OPEN = "dialog[open]"
LINES_PX = 90  # three lines and their padding
STILL: dict[str, Any] = {"reduced_motion": "reduce"}  # half way in, colours are nobody's


@SCREENS
async def test_no_barrier_in_the_hosts_panel(
    server: Server, people: People, screen: Screen, scheme: Any, language: str
) -> None:
    """Every part, every dialog, the charts and the summary: nothing serious."""
    stream = await _busy(server)
    host = await desk(people, server, stream, screen, language, color_scheme=scheme, **STILL)
    page = host.page
    await host.is_in(language)
    await server.say(stream, [("ann", "hello"), ("fay", "+1")])  # who comes later hears nothing
    found: list[str] = []

    async def look(state: str, within: str = "html") -> None:
        found.extend(await axe(page, f"{scheme}, {language}: {state}", within))

    async def dialog(name: str) -> None:
        await expect(page.locator(f"#{name}")).to_be_visible()
        await look(name, OPEN)
        await page.keyboard.press("Escape")
        await expect(page.locator(OPEN)).to_have_count(0)

    await host.charts()
    await expect(page.locator("#refusals b").first).not_to_have_text("")
    await look("figures and charts")
    await host.show("catalogue")
    await look("catalogue", "#catalogue")
    await host.button("new_short", page.locator("#catalogue")).click()
    await dialog("product-dialog")
    await host.show("offers")
    await look("offers", "#offers-panel")
    await host.prepare_form()
    await dialog("offer-dialog")
    sold_out = host.offer("Vase")
    await host.button("restock", sold_out).click()
    await dialog("ask")
    await sold_out.locator("summary").click()
    await look("menu of an offer", "#offers-panel")
    await host.button("waitlist", sold_out).click()
    await expect(page.locator("#waitlist > li")).to_have_count(1)
    await dialog("waitlist-dialog")
    await host.show("orders")
    await look("orders", "#orders-panel")
    await host.look_at("ann")
    await expect(page.locator("#returns > li")).to_have_count(1)
    for box in ("ship-box", "refund-box"):
        await host.unfold(box)
    await dialog("order-dialog")
    await host.show("talk")
    await expect(host.messages()).to_have_count(2)
    await look("chat", "#talk")
    await host.moderate("hello")
    await dialog("moderate")
    await host.comments()
    await look("comments", "#talk")
    top = page.locator("#more")
    for word, name in (("new_stream", "stream-dialog"), ("encoder", "encoder"), ("help", "help")):
        await host.choose(top, word)
        await dialog(name)
    await top.locator("summary").click()
    await look("menu of the page", "header")
    await page.keyboard.press("Escape")
    await host.ask_to_end()
    await look("sure", OPEN)
    await page.locator("#sure-yes").click()
    await host.summed_up("Vase")
    await page.locator("#summary details summary").click()
    await look("summary")
    rows = page.locator("#summary tbody > tr")
    heights = await rows.evaluate_all("rows => rows.map((row) => row.offsetHeight)")
    assert max(heights) < LINES_PX, "a column is too narrow for its words"
    assert not found, "\n".join(found)


async def test_no_barrier_on_the_viewers_page_by_night_in_chinese(
    server: Server, people: People
) -> None:
    """With a pin and an order, in both drawers and at the end: nothing serious."""
    language = "zh-Hant"
    stream = await server.stream("晚上八點")
    tea = await server.product(TEA)
    offer = await server.offer(stream, tea)
    scarce = await server.offer(stream, await server.product("Vase"), quantity=1, waitlist_max=9)
    await server.pin(stream, tea, offer)
    await server.buy(scarce, "bob")
    person = await people.person("ann", PHONE, LOCALES[language], color_scheme="dark", **STILL)
    token = server.token("viewer", "ann", name="ann")
    ann = await ViewerPage.visit(person, server, stream, language=language, token=token)
    await ann.connected()
    await ann.is_in(language)
    found: list[str] = []

    async def look(state: str, within: str = "html") -> None:
        found.extend(await axe(ann.page, f"dark, {language}: {state}", within))

    await ann.chat("hello")
    await ann.buy(TEA)
    await ann.yours(TEA)
    await look("viewer with an order")
    await ann.open_products()
    await look("products", "#products")
    await ann.close_drawer()
    await ann.open_orders()
    await look("orders", "#orders")
    await ann.close_drawer()
    await server.call("POST", f"/v1/streams/{stream}/end")
    await ann.ended()
    await look("viewer at the end")
    assert not found, "\n".join(found)


async def _busy(server: Server) -> str:
    """A live stream with something to see in every part of the panel; return its id."""
    stream = await server.stream("Tea at eight 晚上八點")
    bowl = await server.offer(stream, await server.product("Bowl"), quantity=9, keyword="bowl")
    scarce = await server.offer(stream, await server.product("Vase"), quantity=1, waitlist_max=9)
    tea = await server.product(TEA)
    await server.offer(stream, tea, opened=False, keyword="tea")
    await server.pin(stream, tea)
    order = (await server.buy(bowl, "ann"))["id"]
    await server.call("POST", f"/v1/orders/{order}/pay")
    await server.call("POST", f"/v1/orders/{order}/ship", {"carrier": "Black Cat"})
    buyer = server.token("viewer", "ann")
    await server.call("POST", f"/v1/orders/{order}/returns", {"reason": "too small"}, buyer)
    await server.buy(scarce, "bob")
    waits = server.token("viewer", "cyd")
    await server.call("POST", f"/v1/offers/{scarce}/waitlist", {"qty": 1}, waits)
    for name in ("dan", "eve"):
        await server.turn_away(scarce, name)
    return stream
