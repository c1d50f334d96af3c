"""What a person sees in states other than a plain sale, on real pages of a real server.

Accessibility, hostile text, languages, keyboard, guests, lost connections, a busy chat.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import pytest
import websockets
from playwright.async_api import Browser, expect

from tests.browser.browser_rig import AWAY, DESKTOP, PHONE, REFUSED, People, axe
from tests.browser.main_thread import traced
from tests.browser.pages import HostPage, PayPage, ViewerPage
from tests.browser.server_rig import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEA = "高山烏龍茶"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}} javascript:alert(3)"
SPEAKERS = 4  # each hears all of them: more would keep this process busy, not the page
CHAT_PER_S = 200
RATE_LEAST = 0.9  # of it, in the attempt that counts: a machine too slow to talk proves nothing
CHAT_S = 5.0
LONG_MS = 50.0
ATTEMPTS_MAX = 3


async def enter(
    server: Server, people: People, stream: str, name: str, **more: object
) -> ViewerPage:
    """Have a viewer open the stream, and wait for the connection."""
    person = await people.person(name, PHONE)
    token = server.token("viewer", name, name=name)
    page = await ViewerPage.visit(person, server, stream, token=token)
    await page.connected()
    return page


async def test_accessibility_of_the_viewers_page(server: Server, people: People) -> None:
    """Before the show, with a pin and an order, sold out, as a guest and at the end: no barrier."""
    found: list[str] = []
    stream = await server.stream("晚上八點", live=False)
    ann = await enter(server, people, stream, "ann")
    guest = await ViewerPage.visit(await people.person("guest", DESKTOP), server, stream)
    await guest.connected()
    found += await axe(ann.page, "viewer, not live")
    await server.call("POST", f"/v1/streams/{stream}/start")
    product = await server.product(TEA)
    offer = await server.offer(stream, product, quantity=1, waitlist_max=10)
    await server.pin(stream, product, offer)
    await ann.chat("hello")
    await ann.buy(TEA)
    await ann.yours(TEA)
    await ann.orders("reserved")
    await guest.status(TEA, "sold_out")
    found += await axe(ann.page, "viewer with an order")
    found += await axe(guest.page, "guest, sold out")
    await server.call("POST", f"/v1/streams/{stream}/end")
    await ann.ended()
    found += await axe(ann.page, "viewer at the end")
    assert not found, "\n".join(found)


async def test_accessibility_of_the_hosts_panel_and_the_checkout(
    server: Server, people: People
) -> None:
    """Signing in, before the show, in it, what a buyer pays on, and /docs: no barrier."""
    found: list[str] = []
    person = await people.person("host", DESKTOP)
    await person.page.goto(f"{server.http}/host")
    found += await axe(person.page, "sign-in")
    stream = await server.stream("晚上八點", live=False)
    host = await HostPage.visit(person, server, stream)
    await host.connected()
    found += await axe(host.page, "host, not live")
    await server.product(TEA)
    await host.page.reload()
    await host.go_live()
    await host.prepare(TEA, price="1500", quantity=3)
    await host.open(TEA)
    await host.pinned(TEA)  # by itself: what is sold now should be seen
    await host.chat("welcome")
    (offer,) = await server.fetch("select id from offers where stream = $1", stream)
    order = await server.buy(offer["id"], "ann")
    await host.orders(ann="reserved")
    found += await axe(host.page, "host, live")
    link = (await server.call("POST", f"/v1/orders/{order['id']}/link", {}))["path"]
    buyer = await people.person("ann")
    till = await PayPage.visit(buyer, server, link)
    await till.total("1,500")
    found += await axe(till.page, "checkout")
    await till.pay("manual")
    await host.mark_paid("ann")
    await till.paid()
    found += await axe(till.page, "paid")
    buyer.bears.append(REFUSED)
    broken = await PayPage.visit(await people.person("nobody", DESKTOP), server, "/pay")
    await broken.says("link_bad")
    found += await axe(broken.page, "bad link")
    reader = await people.person("reader", DESKTOP)
    await reader.page.goto(f"{server.http}/docs")
    await reader.page.get_by_role("heading").first.wait_for()
    found += await axe(reader.page, "docs")
    assert not found, "\n".join(found)


async def test_text_of_others_is_text(server: Server, people: People) -> None:
    """Titles, names and messages that look like markup or script are shown letter for letter."""
    stream = await server.stream(HOSTILE[:120])
    product = await server.product(HOSTILE[:120], description=HOSTILE)
    offer = await server.offer(stream, product)
    await server.pin(stream, product, offer)
    host = await HostPage.visit(await people.person("host", DESKTOP), server, stream)
    await host.connected()
    person = await people.person("<b>mallory</b>")
    token = server.token("viewer", "<i>mallory</i>", name="<b>mallory</b>")
    page = await ViewerPage.visit(person, server, stream, token=token)
    await page.connected()
    await page.chat(HOSTILE)
    await page.buy(HOSTILE[:120])
    await page.yours(HOSTILE[:120])
    await page.orders("reserved")
    await host.orders(**{"<i>mallory</i>": "reserved"})
    for one in (page, host):
        await expect(one.messages(HOSTILE)).to_have_count(1)
        await expect(one.messages("<b>mallory</b>")).to_have_count(1)
        shown = await one.page.locator("body").inner_text()
        assert HOSTILE[:120] in shown
        made = await one.page.evaluate(
            "document.querySelectorAll('[onerror], img[src=x], body script, main b > b').length"
        )
        assert made == 0


@pytest.mark.parametrize(
    ("locale", "language"), [("en-GB", "en"), ("zh-TW", "zh-Hant"), ("zh-CN", "zh-Hans")]
)
async def test_each_reads_in_a_language_of_theirs(
    server: Server, people: People, locale: str, language: str
) -> None:
    """A browser's language is the page's, down to the button, until another one is chosen."""
    stream = await server.stream("茶", live=True)
    await server.offer(stream, await server.product(TEA))
    person = await people.person("ann", PHONE, locale)
    token = server.token("viewer", "ann")
    page = await ViewerPage.visit(person, server, stream, language=language, token=token)
    await page.connected()
    await page.buy(TEA)
    await page.yours(TEA)
    await page.is_in(language)
    chosen = "en" if language != "en" else "zh-Hant"
    await page.choose_language(chosen)
    await page.orders("reserved")
    await page.is_in(chosen)


async def test_buying_takes_a_keyboard_and_nothing_else(server: Server, people: People) -> None:
    """Tab finds the button, Enter buys, and the focus stays where the outcome is told."""
    stream = await server.stream("茶")
    await server.offer(stream, await server.product(TEA))
    person = await people.person("ann", DESKTOP, reduced_motion="reduce")
    token = server.token("viewer", "ann")
    page = await ViewerPage.visit(person, server, stream, token=token)
    await page.connected()
    button = page.button("buy", page.card(TEA))
    await expect(button).to_be_visible()
    for _ in range(60):
        await person.page.keyboard.press("Tab")
        if await button.evaluate("(element) => element === document.activeElement"):
            break
    await expect(button).to_be_focused()
    await person.page.keyboard.press("Enter")
    await page.yours(TEA)
    assert await person.page.evaluate("document.activeElement !== document.body")
    # Whoever asked for less motion sees none: nothing moves while the outcome comes in.
    moving = "document.getAnimations().filter((one) => one.playState === 'running').length"
    assert await person.page.evaluate(moving) == 0


async def test_a_guest_sees_all_and_can_take_nothing(server: Server, people: People) -> None:
    """Without a token one watches: why one cannot buy is said, and nothing can be written."""
    stream = await server.stream("茶")
    await server.offer(stream, await server.product(TEA))
    page = await ViewerPage.visit(await people.person("guest"), server, stream)
    await page.connected()
    await page.left(TEA, 10, 10)
    await page.cannot_buy(TEA, "guest_cannot_buy")
    await page.cannot_chat("guest_cannot_chat")


async def test_what_is_wrong_with_the_connection_is_said(server: Server, people: People) -> None:
    """A restart is announced, waited for and passed; an expired sign-in is final, and said so."""
    stream = await server.stream("茶")
    page = await enter(server, people, stream, "ann")
    page.person.bears.append(AWAY)
    await page.mark()
    server.drain()
    await page.says("draining")
    await page.lost()
    await server.stop()
    await server.start()
    await page.connected()
    assert await page.same()
    late = await people.person("late")
    late.bears.append(REFUSED)
    token = server.token("viewer", "late", ttl_s=1)
    await asyncio.sleep(1.1)  # a token is good to the second
    stopped = await ViewerPage.visit(late, server, stream, token=token)
    await stopped.says("stop_4401")
    await stopped.go_on_as_guest()
    await stopped.connected()


async def test_a_busy_chat_leaves_the_page_at_ease(
    server: Server, people: People, browser: Browser, record_property: Callable[[str, object], None]
) -> None:
    """200 messages a second for 5 s: no task of the page's main thread takes more than 50 ms.

    What is held to 50 ms is the processor time of each task, from Chromium's own trace: on a
    machine of its own it is the task's length. Its length on the wall has in it whatever else ran
    on the machine's cores meanwhile (other tests, this server, these speakers), and is told beside
    it. Even processor time grows when cores are shared, so the first of three attempts that
    is within the limit counts, if the messages came at 0.9 of their rate or more.
    """
    stream = await server.stream("茶")
    offer = await server.offer(stream, await server.product(TEA))
    await server.pin(
        stream, (await server.call("GET", f"/v1/offers/{offer}"))["product"]["id"], offer
    )
    page = await enter(server, people, stream, "ann")
    figures = []
    for attempt in range(ATTEMPTS_MAX):
        async with traced(browser, page.page) as longest:
            per_s = await _crowd(server, stream, f"attempt-{attempt}")
            await page.chat(f"attempt-{attempt}: that was all", answered=False)
            await page.last_message(f"attempt-{attempt}: that was all")
        assert longest.tasks > 100, "the trace has no tasks"
        assert longest.cpu_ms > 0, "the trace has no thread times"
        cpu, wall = longest.cpu_ms, longest.wall_ms
        figures.append(f"{cpu:.1f} ms ({wall:.1f} ms on the wall) at {per_s:.0f} messages/s")
        if longest.cpu_ms <= LONG_MS and per_s >= RATE_LEAST * CHAT_PER_S:
            break
    told = f"longest main-thread task of a viewer's page: {', '.join(figures)}"
    record_property("covered", told)
    assert per_s >= RATE_LEAST * CHAT_PER_S, told
    assert longest.cpu_ms <= LONG_MS, told


async def _crowd(server: Server, stream: str, words: str) -> float:
    """Have a crowd talk at its rate, each until all of theirs was taken; return the rate got."""
    url = server.http.replace("http", "ws") + f"/v1/streams/{stream}/ws"
    each = round(CHAT_PER_S * CHAT_S / SPEAKERS)

    async def speak(name: str) -> None:
        async with websockets.connect(url) as socket:
            token = server.token("viewer", name, name=name)
            await socket.send(json.dumps({"type": "hello", "id": 0, "token": token}))
            hearing = asyncio.create_task(_taken(socket, each))
            started_s = time.monotonic()
            for n in range(1, each + 1):
                text = f"{words}: {name} says {n} of {each} 好看！"
                chat = {"type": "chat", "id": n, "text": text, "key": f"{words}-{n}"}
                await socket.send(json.dumps(chat))
                await asyncio.sleep(started_s + n * SPEAKERS / CHAT_PER_S - time.monotonic())
            await asyncio.wait_for(hearing, 30)

    started_s = time.monotonic()
    await asyncio.gather(*(speak(f"speaker-{n}") for n in range(SPEAKERS)))
    return each * SPEAKERS / (time.monotonic() - started_s)


async def _taken(socket: websockets.ClientConnection, number: int) -> None:
    """Wait until so many messages were acknowledged."""
    async for data in socket:
        frame = json.loads(data)
        assert frame["type"] != "reject", frame
        number -= frame["type"] == "ok"
        if number == 0:
            return
