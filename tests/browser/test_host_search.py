"""The search of the host's page in a shop that has more products than the page loads."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Route, expect

from tests.browser.browser_rig import DESKTOP, People
from tests.browser.pages import HostPage
from tests.browser.server_rig import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOADED = 2_000
PAUSE_MS = 1_000  # more than the page waits for more to be typed
MANY = """
insert into products (id, shop, sku, title, price_minor, currency, found_by)
select 'pr_' || lpad(to_hex(n), 20, '0') || substr(md5($1), 1, 8), $1, 'SKU-' || n, title, 100,
       'TWD', lower(title || ' SKU-' || n)
  from (select n, case n when 1 then '斑馬 rug' when 2 then 'Zinc pail'
                         else 'Bowl ' || n end as title
          from generate_series(1, $2 + 2) n) named
"""


async def test_what_was_not_loaded_is_found_and_pinned(server: Server, people: People) -> None:
    """The server is asked when typing has paused, not for a half-composed word; stale is stale."""
    stream = await server.stream("Many")
    await server.fetch(MANY, server.shop, LOADED)
    person = await people.person("host", DESKTOP)
    await person.page.clock.install()
    host = await HostPage.visit(person, server, stream)
    await host.connected()
    page = host.page
    rows = page.locator("#products > li")
    await expect(rows).to_have_count(60)
    asked: list[str] = []
    answer = asyncio.Event()

    async def hold_zinc(route: Route) -> None:
        asked.extend(parse_qs(urlsplit(route.request.url).query)["q"])
        if asked[-1] == "zinc":
            await answer.wait()
        await route.continue_()

    await page.route("**/v1/products?*q=*", hold_zinc)
    await page.focus("#search")
    now_s = await page.evaluate("Date.now()") / 1_000
    await page.clock.pause_at(now_s + 1)  # however slowly it is typed, that is no pause
    await page.keyboard.type("zinc")
    await expect(rows).to_have_count(0)
    await page.clock.run_for(PAUSE_MS)
    await expect(page.locator("#products-empty")).to_have_text(host.words.text("loading"))
    await page.clock.resume()

    # Something else is typed before the answer, and found among what is here.
    await page.fill("#search", "bowl 77 sku")
    await expect(rows.first).to_contain_text("Bowl 1977")
    async with page.expect_response(lambda response: "q=zinc" in response.url):
        answer.set()
    await page.clock.run_for(PAUSE_MS)
    await expect(rows.filter(has_text="Zinc")).to_have_count(0)

    # Composed letter by letter, the word is asked for when it is whole.
    await page.fill("#search", "")
    composing = await page.context.new_cdp_session(page)
    for text in ("b", "ban", "banma"):
        await composing.send(
            "Input.imeSetComposition",
            {"text": text, "selectionStart": len(text), "selectionEnd": len(text)},
        )
        await page.clock.run_for(PAUSE_MS)
    await expect(page.locator("#search")).to_have_value("banma")
    await composing.send("Input.insertText", {"text": "斑馬"})
    await page.clock.run_for(PAUSE_MS)
    await expect(rows).to_have_text(["斑馬 rug" + "NT$1 · SKU-1" + host.words.text("pin")])
    assert asked == ["zinc", "bowl 77 sku", "斑馬"]
    await page.keyboard.press("Enter")
    await host.pinned("斑馬 rug")
    [pinned] = await server.fetch(
        "select x.product, p.title from pins x join products p on p.id = x.product"
        " where x.stream = $1 and x.unpinned_at is null", stream,
    )  # fmt: skip
    assert pinned["title"] == "斑馬 rug"

    # Where the server finds more than it says at once, nobody is told that this is all.
    await page.fill("#search", "bowl")
    await page.clock.run_for(PAUSE_MS)
    many = host.words.text("found_many", n=f"{LOADED:,}")
    await expect(page.locator("#products-empty")).to_have_text(many)
