"""The viewer's page on a phone that is locked: it is frozen, and comes back to what is so."""

from __future__ import annotations

import asyncio
import time

import pytest
from playwright.async_api import expect

from tests.browser.browser_rig import AWAY, PHONE, People
from tests.browser.pages import ViewerPage
from tests.browser.server_rig import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEA, CUP = "高山烏龍茶", "手工茶杯"
TICKS_S = 0.02
#: What a lock tells a page first. Chromium without a window hides none, nor does it freeze a page
#: that can be seen: the debugger stands still for the phone.
TURN = """
  (state) => {
    Object.defineProperty(document, "visibilityState", { configurable: true, value: state });
    Object.defineProperty(document, "hidden", { configurable: true, value: state === "hidden" });
    document.dispatchEvent(new Event("visibilitychange"));
  }
"""
COUNT = f"window.rigTicks = 0; setInterval(() => window.rigTicks++, {TICKS_S * 1000})"


async def test_a_locked_phone_comes_back_to_what_is_so(server: Server, people: People) -> None:
    """Nothing runs on a frozen page; what happened meanwhile, a server's death too, is there then.

    A hold that was confirmed, a pin that was replaced, an offer that was sold out, a line of chat.
    """
    stream = await server.stream("晚上八點")
    tea, cup = await server.product(TEA), await server.product(CUP)
    offer = await server.offer(stream, tea, quantity=2)
    await server.pin(stream, tea, offer)
    ann, bob = [
        await ViewerPage.visit(
            await people.person(name, PHONE), server, stream, token=server.token("viewer", name)
        )
        for name in ("ann", "bob")
    ]
    for page in (ann, bob):
        page.person.bears.append(AWAY)
    await ann.buy(TEA)
    await ann.yours(TEA)
    await ann.mark()
    await ann.page.evaluate(COUNT)
    await ann.page.evaluate(TURN, "hidden")
    devtools = await ann.person.context.new_cdp_session(ann.page)
    stopped: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    devtools.on("Debugger.paused", lambda _: stopped.set_result(time.monotonic()))
    await devtools.send("Debugger.enable")
    await devtools.send("Debugger.pause")
    await stopped

    (order,) = await server.fetch("select id from orders where offer = $1", offer)
    await server.kill()
    await server.start()
    await server.call("POST", f"/v1/orders/{order['id']}/pay", {})
    await server.buy(offer, "bob")
    await server.pin(stream, cup)
    await bob.pinned(CUP)
    await bob.chat("while ann's phone is locked")

    locked_s = time.monotonic() - stopped.result()
    await devtools.send("Debugger.resume")
    assert await ann.page.evaluate("window.rigTicks") * TICKS_S < locked_s / 2, "it was not locked"
    await ann.page.evaluate(TURN, "visible")
    await ann.connected()
    await ann.pinned(CUP)
    await ann.open_products()
    await ann.left(TEA, 0, 2)
    await ann.close_drawer()
    await ann.orders("confirmed")
    assert await ann.messages("while ann's phone is locked").count() == 1
    assert await ann.same()


async def test_a_line_without_an_answer_comes_back(server: Server, people: People) -> None:
    """Said without a network, a line is given back after a minute, in words about a line."""
    stream = await server.stream("Tunnel")
    person = await people.person("ann", PHONE)
    person.bears.append(AWAY)
    await person.page.clock.install()
    token = server.token("viewer", "ann")
    ann = await ViewerPage.visit(person, server, stream, token=token)
    await ann.connected()
    await person.context.set_offline(True)
    await ann.lost()
    await ann.chat("from the tunnel", answered=False)
    await expect(person.page.locator("#chat-text")).to_have_value("")
    await person.page.clock.fast_forward(60_000)
    outcome = person.page.locator("#chat-outcome")
    await expect(outcome).to_have_text(ann.words.text("chat_unknown"))
    await expect(person.page.locator("#chat-text")).to_have_value("from the tunnel")
