"""The named states of the pages, each set up on a real server until it can be looked at.

Owns what is sold and said in them. Each scene is an async generator that yields the one page to be
looked at, and afterwards mends what it broke. Used by `screenshots`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from playwright.async_api import Page, Route

from tests.browser.browser_rig import People, Person, Screen
from tests.browser.pages import LOCALES, HostPage, PayPage, ViewerPage
from tests.browser.server_rig import Server

TEA = "Alishan oolong tea 阿里山烏龍茶"
CUP = "Hand-thrown tea cup 手拉坯茶杯"
POT = "Clay teapot 紫砂壺"
#: Flat, so that pictures of them stay small: the colour of the ground, and what stands on it.
PICTURES = {
    "tea": (
        "#3f6f5a",
        '<path fill="#f1e9d8" d="M95 190h210c0 90-40 130-105 130S95 280 95 190z"/>'
        '<path fill="#b5843c" d="M115 190h170c-6 26-30 40-85 40s-79-14-85-40z"/>',
    ),
    "cup": (
        "#8a5a44",
        '<path fill="#e7d3bd" d="M130 130h140l-18 170H148z"/>'
        '<path fill="#6f9c94" d="M130 130h140l-5 50H135z"/>',
    ),
    "pot": (
        "#39465c",
        '<path fill="#b4573d" d="M110 220c0-60 40-90 90-90s90 30 90 90-40 90-90 90-90-30-90-90z"/>'
        '<path fill="#b4573d" d="M180 100h40v30h-40zM280 190l70-40-50 110z"/>',
    ),
}
TITLE = "Tea at eight 晚上八點喝茶"
TALK = (
    ("Lin", "晚安大家好！"),
    ("Mia", "Is this the spring harvest?"),
    ("阿豪", "這款上次沒搶到，今天一定要 🙌"),
    ("Sofia", "The cup goes so well with it"),
    ("小美", "可以介紹一下產地嗎？"),
    ("Ken", "Just ordered, thank you!"),
    ("Yuki", "開箱超香的 👍"),
)
DAY_MS = 86_400_000

Scene = AsyncIterator[Page]


@dataclass
class Stage:
    """Where a scene is played: a server, one size of screen, one language."""

    server: Server
    people: People
    screen: Screen
    language: str  # as `words/` has it

    async def person(self, name: str) -> Person:
        """Somebody at that size of screen, to whom the products' pictures are shown."""
        person = await self.people.person(name, self.screen, LOCALES[self.language])
        await person.context.route("https://pictures.example/**", _paint)
        return person

    async def viewer(self, stream: str, *, guest: bool = False, talk: bool = True) -> ViewerPage:
        """A viewer on the stream's page, who hears the others talk."""
        token = "" if guest else self.server.token("viewer", "ann", name="Ann")
        person = await self.person("ann")
        page = await ViewerPage.visit(
            person, self.server, stream, language=self.language, token=token
        )
        await page.connected()
        if talk:
            await self.server.say(stream, TALK)  # who comes later has not heard it
            await page.last_message(TALK[-1][1])
        return page

    async def host(self, stream: str) -> HostPage:
        """The host on the panel, connected."""
        person = await self.person("host")
        page = await HostPage.visit(person, self.server, stream, language=self.language)
        await page.connected()
        await self.server.say(stream, TALK)
        return page

    async def product(self, title: str, picture: str, price_minor: int) -> str:
        """A product with a picture."""
        url = f"https://pictures.example/{picture}.svg"
        return await self.server.product(title, price_minor=price_minor, image_url=url)

    async def show(self, **offer: Any) -> tuple[str, str]:
        """A live stream with a pinned offer of tea; return both ids."""
        server = self.server
        stream = await server.stream(TITLE)
        tea = await self.product(TEA, "tea", 168_000)
        made = await server.offer(stream, tea, **{"price_minor": 128_000, "quantity": 20} | offer)
        await server.pin(stream, tea, made)
        return stream, made


async def _paint(route: Route) -> None:
    """A picture of a product, made here: no photograph is needed, and none is fetched."""
    name = route.request.url.rpartition("/")[2].removesuffix(".svg")
    ground, shape = PICTURES[name]
    picture = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 400">'
        f'<path fill="{ground}" d="M0 0h400v400H0z"/>{shape}</svg>'
    )
    await route.fulfill(body=picture, content_type="image/svg+xml")


# --- the viewer ----------------------------------------------------------------------------------


async def viewer_not_live(stage: Stage) -> Scene:
    starts_at = int(time.time() * 1000) + DAY_MS
    stream = await stage.server.stream(TITLE, live=False, starts_at=starts_at)
    page = await stage.viewer(stream, talk=False)
    yield page.page


async def viewer_live_pinned(stage: Stage) -> Scene:
    stream, offer = await stage.show()
    for n in range(6):
        await stage.server.buy(offer, f"buyer-{n}")
    page = await stage.viewer(stream)
    await page.left(TEA, 14, 20)
    yield page.page


async def viewer_scheduled_countdown(stage: Stage) -> Scene:
    opens_at = int(time.time() * 1000) + 180_000
    stream, _ = await stage.show(opened=False, opens_at=opens_at)
    page = await stage.viewer(stream)
    await page.status(TEA, "scheduled")
    yield page.page


async def viewer_reserving(stage: Stage) -> Scene:
    stream, _ = await stage.show()
    page = await stage.viewer(stream)
    await page.left(TEA, 20, 20)
    with stage.server.paused():
        await page.buy(TEA)
        await page.reserving(TEA)
        yield page.page


async def viewer_yours_until(stage: Stage) -> Scene:
    stream, _ = await stage.show()
    page = await stage.viewer(stream)
    await page.buy(TEA)
    await page.yours(TEA)
    yield page.page


async def viewer_paid(stage: Stage) -> Scene:
    stream, offer = await stage.show()
    page = await stage.viewer(stream)
    order = await stage.server.buy(offer, "ann")
    await page.yours(TEA)
    await stage.server.call("POST", f"/v1/orders/{order['id']}/pay")
    await page.paid(TEA)
    yield page.page


async def viewer_sold_out(stage: Stage) -> Scene:
    stream, offer = await stage.show(quantity=2, waitlist_max=50)
    page = await stage.viewer(stream)
    for n in range(2):
        await stage.server.buy(offer, f"buyer-{n}")
    await page.left(TEA, 0, 2)
    yield page.page


async def viewer_waitlisted(stage: Stage) -> Scene:
    stream, offer = await stage.show(quantity=1, waitlist_max=50)
    page = await stage.viewer(stream)
    await stage.server.buy(offer, "buyer-1")
    await page.left(TEA, 0, 1)
    await page.wait(TEA)
    yield page.page


async def viewer_products(stage: Stage) -> Scene:
    stream, _ = await stage.show()
    await stage.server.offer(stream, await stage.product(CUP, "cup", 98_000), price_minor=78_000)
    pot = await stage.product(POT, "pot", 420_000)
    opens_at = int(time.time() * 1000) + 3_600_000
    await stage.server.offer(stream, pot, opened=False, opens_at=opens_at, price_minor=360_000)
    page = await stage.viewer(stream)
    await page.open_products()
    await page.left(CUP, 10, 10)
    yield page.page


async def viewer_orders(stage: Stage) -> Scene:
    stream, offer = await stage.show()
    cup = await stage.product(CUP, "cup", 98_000)
    second = await stage.server.offer(stream, cup, price_minor=78_000)
    page = await stage.viewer(stream)
    paid = await stage.server.buy(second, "ann")
    await stage.server.call("POST", f"/v1/orders/{paid['id']}/pay")
    await stage.server.buy(offer, "ann")
    await page.orders("reserved", "confirmed")
    await page.open_orders()
    yield page.page


async def viewer_chat(stage: Stage) -> Scene:
    stream, _ = await stage.show()
    page = await stage.viewer(stream)
    await page.chat("Greetings from Taipei 👋")
    yield page.page


async def viewer_offline(stage: Stage) -> Scene:
    stream, _ = await stage.show()
    page = await stage.viewer(stream)
    await page.person.context.set_offline(True)
    # A killed server is what tells a browser at once; that it is offline keeps it from coming back.
    await stage.server.kill()
    await stage.server.start()
    await page.lost()
    yield page.page


async def viewer_draining(stage: Stage) -> Scene:
    stream, _ = await stage.show()
    page = await stage.viewer(stream)
    stage.server.drain()
    await page.says("draining")
    yield page.page
    await stage.server.stop()
    await stage.server.start()


async def viewer_ended(stage: Stage) -> Scene:
    stream, _ = await stage.show()
    page = await stage.viewer(stream)
    await stage.server.call("POST", f"/v1/streams/{stream}/end")
    await page.ended()
    yield page.page


async def viewer_guest(stage: Stage) -> Scene:
    stream, _ = await stage.show()
    page = await stage.viewer(stream, guest=True)
    await page.cannot_buy(TEA, "guest_cannot_buy")
    yield page.page


async def viewer_stopped(stage: Stage) -> Scene:
    stream, _ = await stage.show()
    token = stage.server.token("viewer", "ann", streams=["another"])
    page = await ViewerPage.visit(
        await stage.person("ann"), stage.server, stream, language=stage.language, token=token
    )
    await page.says("stop_4403")
    yield page.page


# --- the host ------------------------------------------------------------------------------------


async def host_sign_in(stage: Stage) -> Scene:
    person = await stage.person("host")
    await person.page.goto(f"{stage.server.http}/host")
    yield person.page


async def host_before_live(stage: Stage) -> Scene:
    starts_at = int(time.time() * 1000) + 900_000
    stream = await stage.server.stream(TITLE, live=False, starts_at=starts_at)
    tea = await stage.product(TEA, "tea", 168_000)
    await stage.server.offer(stream, tea, opened=False, price_minor=128_000)
    page = await stage.host(stream)
    yield page.page


async def _selling(stage: Stage) -> tuple[HostPage, str]:
    """A panel in the middle of a sale; and the stream."""
    server = stage.server
    stream, offer = await stage.show()
    cup = await server.offer(stream, await stage.product(CUP, "cup", 98_000), quantity=3)
    pot = await stage.product(POT, "pot", 420_000)
    await server.offer(stream, pot, opened=False, price_minor=360_000, quantity=5)
    for n, name in enumerate(("lin", "mia", "ken", "yuki", "sofia", "hao", "mei")):
        order = await server.buy(offer, name)
        if n % 2:
            await server.call("POST", f"/v1/orders/{order['id']}/pay")
    for name in ("lin", "mia", "ken"):
        await server.buy(cup, name)
    for name in ("yuki", "hao"):
        await server.turn_away(cup, name)
    page = await stage.host(stream)
    await page.tile("unpaid", "7")
    return page, stream


async def host_live(stage: Stage) -> Scene:
    page, _ = await _selling(stage)
    yield page.page


async def host_figures(stage: Stage) -> Scene:
    page, _ = await _selling(stage)
    await page.charts()
    yield page.page


async def host_offers(stage: Stage) -> Scene:
    page, _ = await _selling(stage)
    await page.show("offers")
    await page.prepare_form()
    yield page.page


async def host_orders(stage: Stage) -> Scene:
    page, _ = await _selling(stage)
    await page.show("orders")
    await page.open_order("yuki")
    yield page.page


async def host_chat(stage: Stage) -> Scene:
    page, _ = await _selling(stage)
    await page.show("talk")
    await page.moderate("spring harvest")
    yield page.page


async def host_confirmation(stage: Stage) -> Scene:
    page, _ = await _selling(stage)
    await page.ask_to_end()
    yield page.page


async def host_summary(stage: Stage) -> Scene:
    page, _ = await _selling(stage)
    await page.end()
    await page.summed_up(TEA)
    yield page.page


# --- the checkout and the documentation ----------------------------------------------------------


async def _till(stage: Stage) -> tuple[PayPage, str]:
    _, offer = await stage.show()
    order = await stage.server.buy(offer, "ann")
    link = (await stage.server.call("POST", f"/v1/orders/{order['id']}/link", {}))["path"]
    page = await PayPage.visit(
        await stage.person("ann"), stage.server, link, language=stage.language
    )
    await page.total("1,280")
    return page, order["id"]


async def pay_to_pay(stage: Stage) -> Scene:
    page, _ = await _till(stage)
    yield page.page


async def pay_paid(stage: Stage) -> Scene:
    page, order = await _till(stage)
    await stage.server.call("POST", f"/v1/orders/{order}/pay")
    await page.paid()
    yield page.page


async def docs(stage: Stage) -> Scene:
    person = await stage.person("reader")
    await person.page.goto(f"{stage.server.http}/docs")
    await person.page.get_by_role("heading").nth(3).wait_for()  # below the title: it is filled in
    yield person.page


#: Every scene, by the name of its file.
SCENES: dict[str, Callable[[Stage], Scene]] = {
    scene.__name__.replace("_", "-"): scene
    for scene in (
        viewer_not_live, viewer_live_pinned, viewer_scheduled_countdown, viewer_reserving,
        viewer_yours_until, viewer_paid, viewer_sold_out, viewer_waitlisted, viewer_products,
        viewer_orders, viewer_chat, viewer_offline, viewer_draining, viewer_ended, viewer_guest,
        viewer_stopped,
        host_sign_in, host_before_live, host_live, host_figures, host_offers, host_orders,
        host_chat, host_confirmation, host_summary,
        pay_to_pay, pay_paid, docs,
    )
}  # fmt: skip
