"""What the viewer's page has a screen reader say: each thing once, and no flood."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.browser.browser_rig import AWAY, DESKTOP, People
from tests.browser.hearing import Hearing
from tests.browser.pages import ViewerPage
from tests.browser.server_rig import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEA = "高山烏龍茶"
CUP = "手工茶杯"
BOWL = "Bowl"
OFFERS = 20
SENTENCES_MAX = 3
HOLD_S = 8  # its end is near after two thirds: room for a slow page to have said the rest by then


async def _entered(
    server: Server, people: People, stream: str, language: str, locale: str
) -> tuple[ViewerPage, Hearing]:
    person = await people.person("ann", DESKTOP, locale)  # wide: offers stand there twice
    hearing = await Hearing.of(person)
    token = server.token("viewer", "ann", name="Ann")
    page = await ViewerPage.visit(person, server, stream, language=language, token=token)
    await page.connected()
    await hearing.rest()
    return page, hearing


async def test_each_turn_of_a_sale_is_said_once(server: Server, people: People) -> None:
    """Pin, opening, own order, its end coming near, expiry, sold out, a refusal, a place on the
    waitlist, the turn, payment and a lost connection: each once, in the page's language."""
    stream = await server.stream("茶")
    tea = await server.product(TEA)
    offer = await server.offer(stream, tea, opened=False, quantity=1, hold_s=HOLD_S, waitlist_max=5)
    cup = await server.offer(stream, await server.product(CUP), eligibility="ticket", opened=False)
    page, hearing = await _entered(server, people, stream, "zh-Hant", "zh-TW")
    page.person.bears.append(AWAY)

    async def says(word: str, about: str = TEA) -> None:
        await hearing.says(page.words.like(word), about)

    await server.pin(stream, tea, offer)
    await says("said_pinned")
    await server.call("POST", f"/v1/offers/{offer}/open")
    await says("said_opened")
    await page.buy(TEA)
    await says("said_reserved")
    await says("said_sold_out")
    await says("said_soon")
    await says("said_expired")
    await says("said_restocked")
    other = await server.buy(offer, "bo")
    await says("said_sold_out")
    await page.wait(TEA)
    await says("waitlisted", "1")
    bo = server.token("viewer", "bo")
    await server.call("POST", f"/v1/orders/{other['id']}/cancel", {}, bo)
    await says("said_reserved")
    await page.pay(TEA)
    await says("payment_waits", "")
    await server.settle(await server.begun("ann"))
    await says("said_confirmed")
    await server.call("POST", f"/v1/offers/{cup}/open")
    await says("said_opened", CUP)
    await page.buy(CUP)
    await says("code_forbidden", "")

    await page.person.context.set_offline(True)
    await page.lost()
    await says("away", "")
    await page.person.context.set_offline(False)
    await page.connected()
    await says("line_open", "")
    await server.call("POST", f"/v1/offers/{cup}/close")
    await server.pin(stream, tea, offer)
    await says("said_pinned")
    assert await hearing.rest() == []


async def test_many_offers_at_once_are_no_flood(server: Server, people: People) -> None:
    """Of 20 offers that open together at most three are named at a time, and the rest counted."""
    stream = await server.stream("Bowls")
    bowl = await server.product(BOWL)
    offers = await asyncio.gather(
        *(server.offer(stream, bowl, opened=False) for _ in range(OFFERS))
    )
    page, hearing = await _entered(server, people, stream, "en", "en")
    await asyncio.gather(*(server.call("POST", f"/v1/offers/{one}/open") for one in offers))
    said = 0
    more = page.words.like("said_more", whole=False)
    opened = page.words.like("said_opened", whole=False)
    while said < OFFERS:
        text = await hearing.next()
        named = len(re.findall(f"{BOWL} is on sale", text))
        assert opened.search(text), text
        assert named <= SENTENCES_MAX, text
        counted = more.search(text)
        assert counted is None or named == SENTENCES_MAX, text
        said += named + (int(re.findall(r"\d+", counted[0])[0]) if counted else 0)
    assert said == OFFERS
    assert await hearing.rest() == []
