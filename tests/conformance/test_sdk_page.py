"""`livecart.js` in a real page: what the browser tells of the page and the network is acted on.

Drives Chromium through playwright; the page's own script is left out, so that the client is alone.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page, async_playwright

from tests.browser.browser_rig import find_chromium
from tests.conformance.test_clients import Scene, staging
from tests.contract.http_rig import token
from tests.shop import until

#: Makes a client that keeps what it hears, under the page's own content policy.
START = """async ({ stream, token }) => {
  const { LiveCart } = await import("/static/livecart.js");
  const cart = new LiveCart({ stream, token, transports: ["socket"] });
  Object.assign(window, { cart, heard: [], statuses: [] });
  cart.addEventListener("event", ({ detail }) => heard.push(detail.frame));
  cart.addEventListener("status", () => statuses.push(cart.status));
  cart.connect();
}"""
FREEZE = "document.dispatchEvent(new Event('freeze'))"
RESUME = "document.dispatchEvent(new Event('resume'))"


def chromium() -> str:
    """Return the browser's path; without one, skip, but fail in CI."""
    found = find_chromium()
    if found is None:
        message = "Chromium is missing: make setup-browser"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture
async def scene(redis_url: str, database_url: str) -> AsyncIterator[Scene]:
    """A scene of this test's own."""
    async with staging(redis_url, database_url) as scene:
        yield scene


async def sees(page: Page, what: str, timeout_s: float = 30) -> None:
    """Wait until an expression holds in the page; its policy lets playwright not wait there."""
    await until(lambda: page.evaluate(what), timeout_s)


@asynccontextmanager
async def page_of(scene: Scene) -> AsyncIterator[Page]:
    """Open a page of the server with a client on it, behind the relay."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(),
            args=["--no-sandbox"],
            ignore_default_args=["--disable-back-forward-cache"],
        )
        page = await browser.new_page()
        await page.route("**/static/viewer.js", lambda route: route.abort())
        await page.goto(f"http://127.0.0.1:{scene.relay.port}/s/{scene.stream}")
        given = {"stream": scene.stream, "token": token("viewer", "ann")}
        await page.evaluate(START, given)
        await sees(page, "cart.status === 'open'")
        yield page
        await browser.close()


async def test_a_page_that_freezes_lets_go_and_comes_back_whole(scene: Scene) -> None:
    """A frozen page has no connection; thawed, it goes on from where it was, and not before."""
    async with page_of(scene) as page:
        await page.evaluate(FREEZE)
        await until(lambda: not scene.shop.services.hub.sessions)
        assert await page.evaluate("cart.status") == "waiting"
        await scene.pin()
        await page.evaluate("cart.probe()")
        assert await page.evaluate("cart.status") == "waiting"
        await page.evaluate(RESUME)
        await sees(page, "heard.filter((frame) => frame.type === 'welcome').length == 2")
        await sees(page, "heard.some((frame) => frame.type === 'pinned')")
        assert await page.evaluate("heard.find((f) => f.recovered !== undefined).recovered") is True


async def test_a_network_that_comes_back_is_used_at_once(scene: Scene) -> None:
    """`online` ends the wait for the next attempt; a page that is shown again asks who is there."""
    async with page_of(scene) as page:
        scene.relay.away = True
        scene.relay.cut()
        await sees(page, "cart.status === 'waiting'")
        # Some attempts later, one of its pauses is long.
        await sees(page, "cart.retryAt - performance.now() > 1500", timeout_s=40)
        scene.relay.away = False
        await page.evaluate("statuses.length = 0; window.dispatchEvent(new Event('online'))")
        assert await page.evaluate("statuses[0]") == "connecting"
        await sees(page, "cart.status === 'open'")
        scene.relay.said.clear()
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await until(lambda: scene.relay.count('"ping"') >= 1)


async def test_a_page_kept_for_back_lets_go_and_comes_back_with_what_it_asked_for(
    scene: Scene,
) -> None:
    """Come back to, it is the same page, and the buy that was under way has its one outcome."""
    offer = await scene.shop.offer(scene.stream)
    async with page_of(scene) as page:
        scene.relay.hold()
        await page.evaluate("(offer) => { window.outcome = cart.buy(offer, 1); }", offer)
        await until(lambda: scene.orders(offer))
        await page.goto(f"http://127.0.0.1:{scene.shop.port}/docs", wait_until="commit")
        await until(lambda: not scene.shop.services.hub.sessions)
        scene.relay.release()
        await scene.pin()
        await page.go_back(wait_until="commit")
        await sees(page, "heard.some((frame) => frame.type === 'pinned')")
        statuses = ["connecting", "open", "waiting", "connecting", "open"]
        assert await page.evaluate("statuses") == statuses
        outcome = await page.evaluate("outcome")
        assert [order["id"] for order in await scene.orders(offer)] == [outcome["order"]["id"]]
