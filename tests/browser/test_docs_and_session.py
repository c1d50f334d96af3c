"""The page of the API and the way to a token, in a real browser under the pages' own policy."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from tests.browser.browser_rig import find_chromium
from tests.contract.http_rig import Shop, bearer, serving, token

CHROMIUM = find_chromium()
AXE = Path(__file__).parents[1] / "web" / "node_modules" / "axe-core" / "axe.min.js"
SIZES = {"phone": (390, 844), "desktop": (1280, 860)}
SERIOUS = ("serious", "critical")

if (CHROMIUM is None or not AXE.exists()) and os.environ.get("CI") != "true":
    pytest.skip("Chromium or axe-core is missing: make setup-browser", allow_module_level=True)


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A page in a browser of its own; what it complains of fails the test."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        made = await browser.new_page()
        complaints: list[str] = []
        made.on("pageerror", lambda error: complaints.append(str(error)))
        made.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        yield made
        await browser.close()
    # That a call was refused is what some tests ask for.
    assert [text for text in complaints if "Failed to load resource" not in text] == []


async def test_the_page_of_the_api_shows_all_and_finds(shop: Shop, page: Page) -> None:
    """Every call and message is on it at phone and desktop size; axe finds nothing serious."""
    spec = (await shop.call("GET", "/openapi.json")).json()
    socket = (await shop.call("GET", "/asyncapi.json")).json()
    calls = {f"{m.upper()} {path}" for path, methods in spec["paths"].items() for m in methods}
    messages = [message["name"] for message in socket["components"]["messages"].values()]
    for width, height in SIZES.values():
        await page.set_viewport_size({"width": width, "height": height})
        await page.goto(f"http://127.0.0.1:{shop.port}/docs")
        await page.wait_for_selector("#codes .entry")
        shown = await page.locator("#http .entry > summary").all_inner_texts()
        assert {" ".join(text.split()[:2]) for text in shown} == calls
        of_socket = page.locator("#commands .entry code, #events .entry code")
        assert sorted(await of_socket.all_inner_texts()) == sorted(messages)
        wide = "document.documentElement.scrollWidth > innerWidth"
        assert not await page.evaluate(wide)
        await page.fill("#search", "left version stock")
        visible = page.locator("main .entry:visible > summary")
        assert "stock" in [text.split()[0] for text in await visible.all_inner_texts()]
        assert len(await visible.all_inner_texts()) < len(calls)
        await page.goto(f"http://127.0.0.1:{shop.port}/docs#post--v1-streams-id-offers")
        body = page.locator("#post--v1-streams-id-offers td:first-child")
        assert "price_minor required" in await body.all_inner_texts()
        await page.evaluate(AXE.read_text())  # past the policy, which no script of ours gets
        found = await page.evaluate("axe.run()")
        bad = [v["id"] for v in found["violations"] if v["impact"] in SERIOUS]
        assert bad == []


ENTER = """async (key) => {
  const { enter } = await import("/static/session.js");
  return [await enter(key), location.href, sessionStorage.getItem(key)];
}"""
CALL = """async ([name, key]) => {
  const session = await import("/static/session.js");
  return [await session[name](key), sessionStorage.getItem(key)];
}"""


async def test_a_page_trades_its_code_and_keeps_the_token(shop: Shop, page: Page) -> None:
    """The code leaves the address before it is traded, works once, and the token is renewed."""
    service = bearer(token("service", "s"))
    made = await shop.http.post(
        "/v1/page-codes", json={"sub": "ann", "role": "viewer"}, headers=service
    )
    base = f"http://127.0.0.1:{shop.port}"
    code = made.json()["code"]
    await page.goto(f"{base}/docs#code={code}&stream=st_1")
    given, address, kept = await page.evaluate(ENTER, "k")
    assert address == f"{base}/docs#stream=st_1"
    assert given == kept
    orders = await shop.call("GET", "/v1/orders", token=given)
    assert orders.status_code == 200
    renewed, kept = await page.evaluate(CALL, ["renew", "k"])
    assert renewed == kept != given
    await page.reload()
    assert (await page.evaluate(ENTER, "k"))[0] == renewed
    assert await page.evaluate(CALL, ["leave", "k"]) == [None, None]
    assert (await page.evaluate(ENTER, "k"))[0] is None
    await page.goto(f"{base}/docs?back#code={code}")  # used: as if there were none
    assert (await page.evaluate(ENTER, "k"))[:2] == [None, f"{base}/docs?back"]
    plain = token("viewer", "bob")
    await page.goto(f"{base}/docs?again#token={plain}")
    assert (await page.evaluate(ENTER, "k"))[:2] == [plain, f"{base}/docs?again"]
    # Never traded for a code, so it cannot be renewed, and stays what it is.
    assert await page.evaluate(CALL, ["renew", "k"]) == [plain, plain]


async def test_two_who_enter_at_once_trade_one_code(shop: Shop, page: Page) -> None:
    """A code is in one call only, whoever of the page's parts asks first; used, it is as none."""
    service = bearer(token("service", "s"))
    made = await shop.http.post(
        "/v1/page-codes", json={"sub": "ann", "role": "viewer"}, headers=service
    )
    await page.goto(f"http://127.0.0.1:{shop.port}/docs#code={made.json()['code']}")
    both = """async () => {
      const { enter } = await import("/static/session.js");
      return Promise.all([enter("k"), enter("k")]);
    }"""
    first, second = await page.evaluate(both)
    assert first == second
    assert first is not None
