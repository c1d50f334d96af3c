"""The host's page around an offer and before a show: what is pressed there is so in Postgres.

Each claim is seen on the page of whoever it concerns: the host, the other host, a viewer.
"""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta

import httpx
import pytest
from playwright.async_api import Route, expect

from tests.browser.browser_rig import AWAY, DESKTOP, REFUSED, People
from tests.browser.host_offers_page import OffersPage, record, recorded
from tests.browser.pages import ViewerPage
from tests.browser.server_rig import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

AHEAD_S = 5  # a form is sent, and what it made is seen by then, also on a slow core
TERMS = "select price_minor, quantity, per_viewer, hold_s, keyword, status from offers"


async def _host(people: People, server: Server, stream: str = "") -> OffersPage:
    """Return the page of one more host of the shop."""
    count = len(people.all) + 1
    person = await people.person(f"host {count}", DESKTOP)
    token = server.token("host", f"host-{count}", shop=server.shop)
    return await OffersPage.visit(person, server, stream, token=token)


async def _viewer(people: People, server: Server, stream: str) -> ViewerPage:
    """Return the page of a viewer who may buy."""
    person = await people.person("ann", DESKTOP)
    return await ViewerPage.visit(person, server, stream, token=server.token("viewer", "ann"))


async def test_a_scheduled_offer_opens_and_closes_by_itself(server: Server, people: People) -> None:
    """By the form's times it is coming up, then on sale, then closed, with no press at any page."""
    stream = await server.stream("Scheduled")
    product = await server.product("Plum jam")
    host, viewer = await asyncio.gather(
        _host(people, server, stream), _viewer(people, server, stream)
    )
    await asyncio.gather(host.connected(), viewer.connected())
    for page in (host, viewer):
        await record(page.page, "Plum jam")

    await host.prepare_form()
    await host.fill("offer-form", product=product, price="12", quantity="5")
    opens = datetime.now().astimezone().replace(microsecond=0) + timedelta(seconds=AHEAD_S)
    closes = opens + timedelta(seconds=AHEAD_S)
    times = [time.strftime("%Y-%m-%dT%H:%M:%S") for time in (opens, closes)]
    await host.fill("offer-form", closes_at=times[1], opens_at=times[0])
    await host.sent("offer-form")

    await expect(host.page.locator("#closed-count")).to_have_text("Closed (1)")
    await viewer.status("Plum jam", "closed")
    starts, ends = [await host.time(when) for when in (opens, closes)]
    terms = "NT$12 · Limit 1 per person · 10:00 to pay"
    assert await recorded(host.page) == [
        f"Coming up: {terms} · opens {starts} · closes {ends}",
        f"On sale: {terms} · closes {ends}",
        f"Closed: {terms}",
    ]
    assert await recorded(viewer.page) == ["Coming up: ", "On sale: buy", "Closed: "]
    (row,) = await server.fetch(
        "select opens_at, closes_at, closed_at, status from offers where stream = $1", stream
    )
    assert (row["opens_at"], row["closes_at"], row["status"]) == (opens, closes, "closed")
    assert row["closed_at"] >= closes


async def test_a_draft_is_changed_and_an_offer_duplicated(server: Server, people: People) -> None:
    """What the form says of a draft is in Postgres; a duplicate has its terms, not its keyword.
    Once the show is live its keyword stays, and the form says so."""
    stream = await server.stream("Drafts", live=False)
    product = await server.product("Bowl")
    await server.offer(stream, product, opened=False, per_viewer=2, hold_s=120, keyword="bowl")
    host = await _host(people, server, stream)

    await host.menu("Bowl", "edit")
    await host.fill("offer-form", price="1,234.5", quantity="7", keyword="plum")
    await host.sent("offer-form")
    await expect(host.offer("Bowl")).to_contain_text("NT$1,234.50")
    await expect(host.offer("Bowl")).to_contain_text("Keyword plum")
    changed = (123_450, 7, 2, 120, "plum", "draft")
    rows = await server.fetch(f"{TERMS} where stream = $1 order by id", stream)
    assert [tuple(row) for row in rows] == [changed]

    await host.menu("Bowl", "duplicate")
    await host.sent("offer-form")
    await expect(host.offer("Bowl")).to_have_count(2)
    rows = await server.fetch(f"{TERMS} where stream = $1 order by id", stream)
    assert [tuple(row) for row in rows] == [changed, (123_450, 7, 2, 120, None, "draft")]

    await server.call("POST", f"/v1/streams/{stream}/start")
    await host.stands("live")
    await host.menu("Keyword plum", "edit")
    await expect(host.field("offer-form", "keyword")).to_be_disabled()
    outcome = host.page.locator("#offer-outcome")
    await expect(outcome).to_have_text(host.words.text("keyword_stays"))
    await host.fill("offer-form", quantity="8")
    await host.sent("offer-form")
    (row,) = await server.fetch(f"{TERMS} where stream = $1 and keyword = 'plum'", stream)
    assert row["quantity"] == 8


async def test_what_one_host_does_to_an_offer_everybody_sees(
    server: Server, people: People
) -> None:
    """Opened and pinned once by two presses, paused, resumed, and its total set up and down, never
    lower than what is taken: so on the viewer's page, on the other host's, and in Postgres."""
    stream = await server.stream("Everybody")
    bowl = await server.product("Bowl")
    offer = await server.offer(stream, bowl, opened=False, quantity=5, per_viewer=2)
    host, other, viewer = await asyncio.gather(
        _host(people, server, stream),
        _host(people, server, stream),
        _viewer(people, server, stream),
    )

    async def are(status: str, quantity: int) -> None:
        for page in (host, other):
            await page.status("Bowl", status)
            await page.counts("Bowl", left=quantity - 2, held=2, sold=0)
        stock = viewer.card("Bowl").locator(".stock")
        await expect(stock).to_have_text(re.compile(rf"^{quantity - 2} of "))
        (row,) = await server.fetch("select status, quantity from offers where id = $1", offer)
        assert (row["status"], row["quantity"]) == (status, quantity)

    twice = "button => { button.click(); button.click(); }"
    await host.button("open_offer", host.offer("Bowl")).evaluate(twice)
    await asyncio.gather(other.pinned("Bowl"), viewer.pinned("Bowl"))
    await server.buy(offer, "boris", 2)
    await host.button("pause_offer", host.offer("Bowl")).click()
    await viewer.cannot_buy("Bowl", "state_paused")
    await are("paused", 5)
    await other.button("resume_offer", other.offer("Bowl")).click()
    await expect(viewer.big("Bowl")).to_have_attribute("aria-disabled", "false")
    await are("open", 5)

    await host.total("Bowl", 9)
    await are("open", 9)
    await other.total("Bowl", 1)
    await expect(other.page.locator("#ask")).to_be_visible()  # two are held
    await other.page.locator("#ask-value").fill("3")
    await other.page.locator("#ask-yes").click()
    await are("open", 3)
    await viewer.buy("Bowl")
    await viewer.yours("Bowl")
    await other.button("unpin", other.offer("Bowl")).dblclick()
    await expect(host.page.locator("#pins > li")).to_have_count(0)
    await expect(viewer.page.locator("#pinned article.is-pinned")).to_have_count(0)
    sql = "select offer, unpinned_at is null as shown from pins where stream = $1"
    assert [tuple(pin) for pin in await server.fetch(sql, stream)] == [(offer, False)]


async def test_a_product_is_made_found_and_pinned(server: Server, people: People) -> None:
    """A bad price is refused with words; then it is made once, found, pinned and unpinned."""
    stream = await server.stream("Products")
    await server.product("Iron pan")
    host = await _host(people, server, stream)
    await host.connected()

    await host.page.locator("#product-new").click()
    await host.fill("product-form", title=" Plum jam ", sku="JAM-1", price="12,50")
    await host.send("product-form")
    outcome = host.page.locator("#product-outcome")
    await expect(outcome).to_have_text(host.words.text("price_bad", currency="TWD", digits=2))
    await host.button("keep", host.page.locator("#product-form")).click()
    await host.page.locator("#product-new").click()
    await expect(outcome).to_have_text("")
    await host.fill("product-form", price="12.50")
    twice = "form => { form.requestSubmit(); form.requestSubmit(); }"
    await host.page.locator("#product-form").evaluate(twice)
    await expect(host.page.locator("#product-form")).to_be_hidden()
    await expect(host.product("").locator("b")).to_have_text(["Plum jam", "Iron pan"])
    made = await server.fetch(
        "select title, sku, price_minor, currency from products where shop = $1 order by id",
        server.shop,
    )
    assert [tuple(row) for row in made[1:]] == [("Plum jam", "JAM-1", 1_250, "TWD")]

    await host.search("jam-1 plum")
    await expect(host.product("")).to_have_count(1)
    await host.product("Plum jam").dblclick()
    await host.pinned("Plum jam")
    await expect(host.product("Plum jam")).to_contain_text(host.words.text("unpin"))
    shown = "select p.title from pins join products p on p.id = product where stream = $1"
    rows = await server.fetch(f"{shown} and unpinned_at is null", stream)
    assert [row["title"] for row in rows] == ["Plum jam"]
    await host.product("Plum jam").click()
    await expect(host.page.locator("#pins > li")).to_have_count(0)
    assert await server.fetch(f"{shown} and unpinned_at is null", stream) == []


async def test_the_waitlist_is_told_in_order_and_restocked(server: Server, people: People) -> None:
    """Who waits for how much is listed first come first; what a restock gives leaves the list,
    on the screen of a host who has it open too."""
    stream = await server.stream("Waitlist")
    mug = await server.product("Mug")
    offer = await server.offer(stream, mug, quantity=1, per_viewer=2, waitlist_max=10)
    await server.buy(offer, "first")
    for viewer, qty in (("ann", 2), ("boris", 1)):
        token = server.token("viewer", viewer)
        await server.call("POST", f"/v1/offers/{offer}/waitlist", {"qty": qty}, token)
    host, other = await asyncio.gather(*(_host(people, server, stream) for _ in range(2)))

    for page in (host, other):
        await page.menu("Mug", "waitlist")
        await page.waits(("ann", 2), ("boris", 1))
    await host.button("close_dialog", host.page.locator("#waitlist-dialog")).click()
    await host.restock("Mug", 2)
    await host.counts("Mug", left=0, held=3, sold=0)
    await other.waits(("boris", 1))
    await host.menu("Mug", "waitlist")
    await host.waits(("boris", 1))
    orders = await server.fetch(
        "select viewer, qty, status from orders where offer = $1 order by rank", offer
    )
    held = [("first", 1, "reserved"), ("ann", 2, "reserved")]
    assert [tuple(order) for order in orders] == held
    await server.call("POST", f"/v1/offers/{offer}/restock", {"add": 5})
    await expect(host.page.locator("#waitlist-empty")).to_have_text("Nobody waits.")
    await host.waits()


async def test_a_stream_key_is_shown_once_and_ends_the_one_before(
    server: Server, people: People
) -> None:
    """The newest key that the dialog showed starts the stream, the one before is refused; what
    comes when the dialog is closed is not kept; an ended stream gets no key, and that is said."""
    stream = await server.stream("Encoder", live=False)
    host = await _host(people, server, stream)
    host.person.bears.append(REFUSED)
    await host.person.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dialog = host.page.locator("#encoder")
    shown = host.page.locator("#encoder-shown input")

    async def publish(key: str) -> int:
        notice = {"call": "publish", "name": key, "clientid": "1"}
        async with httpx.AsyncClient(base_url=server.http) as http:
            answer = await http.post("/v1/hooks/ingest/rtmp", data=notice)
        return answer.status_code

    going_on = asyncio.Event()

    async def hold(route: Route) -> None:
        await going_on.wait()
        await route.continue_()

    await host.page.route("**/key", hold)
    await host.press_menu("encoder")
    async with host.page.expect_response("**/key") as answer:
        await host.agree_to_a_key()
        await host.button("close_dialog", dialog).click()
        going_on.set()
    await (await answer.value).finished()

    keys = []
    for _ in range(2):
        assert "sk_" not in await host.page.content()
        await host.press_menu("encoder")
        keys.append(await host.make_key())
        await expect(shown.first).to_have_value(stream)
        await expect(host.button("encoder_make", dialog)).to_be_hidden()
        await host.button("copy", dialog).last.click()
        assert await host.page.evaluate("navigator.clipboard.readText()") == keys[-1]
        await host.button("close_dialog", dialog).click()
        await expect(shown).to_have_count(0)
    assert "sk_" not in await host.page.content()
    assert await publish(keys[0]) == 401
    await host.stands("scheduled")
    assert await publish(keys[1]) == 302
    await host.stands("live")

    await host.press_menu("encoder")
    await server.call("POST", f"/v1/streams/{stream}/end")
    await host.stands("ended")
    await host.agree_to_a_key()
    outcome = host.page.locator("#encoder-outcome")
    await expect(outcome).to_have_text(host.words.text("code_conflict"))
    await expect(shown).to_have_count(0)
    await host.button("close_dialog", dialog).click()
    await host.page.locator("#more > summary").click()
    await expect(host.page.locator("#encoder-open")).to_be_hidden()


async def test_streams_are_made_chosen_and_taken_live(server: Server, people: People) -> None:
    """The form refuses with words, then makes a stream; another host chooses it and sees nothing
    of the one before; what goes live on one page is live on the other."""
    host = await _host(people, server)
    host.person.bears.append(REFUSED)
    await host.page.locator("#first-stream").click()
    await host.fill("stream-form", title="Evening", playback_url="ftp://cdn.example.com/a.m3u8")
    await host.send("stream-form")
    await expect(host.page.locator("#stream-outcome")).to_contain_text("playback_url")
    url = "https://cdn.example.com/a.m3u8"
    await host.fill("stream-form", playback_url=url, starts_at="2031-05-06T20:30")
    await host.sent("stream-form")
    await host.stands("scheduled")
    await expect(host.page.locator("#since")).to_contain_text("5/6/31, 8:30")
    (row,) = await server.fetch(
        "select id, title, status, playback_url, starts_at from streams where shop = $1",
        server.shop,
    )
    assert tuple(row)[1:4] == ("Evening", "scheduled", url)
    assert row["starts_at"] == datetime(2031, 5, 6, 20, 30).astimezone()

    evening = row["id"]
    morning = await server.stream("Morning", live=False)
    await server.offer(morning, await server.product("Bowl"), opened=False)
    other = await _host(people, server, morning)
    await expect(other.choice().locator("option")).to_have_text(
        ["Morning · Not started", "Evening · Not started"]
    )
    await other.pin("Bowl")
    await other.chat("about the bowl")
    other.person.bears.append(AWAY)
    await other.person.context.set_offline(True)  # nothing is learnt of the evening yet
    await other.choice().select_option(evening)
    for gone in (other.offer(""), other.page.locator("#pins > li"), other.messages()):
        await expect(gone).to_have_count(0)
    await expect(other.page.locator("#line")).to_have_attribute("aria-live", "off")
    await other.person.context.set_offline(False)
    await other.connected()
    await expect(other.page.locator("#line")).to_have_attribute("aria-live", "polite")
    await expect(other.page).to_have_url(re.compile(f"#stream={evening}$"))

    await host.go_live()
    await other.stands("live")
    await expect(other.choice().locator("option").nth(1)).to_have_text("Evening · Live")
    await expect(other.button("go_live")).to_be_hidden()
    await expect(other.button("end_stream")).to_be_visible()
    await other.choice().select_option(morning)
    await other.stands("scheduled")
    await expect(other.offer("Bowl")).to_have_count(1)
    rows = await server.fetch("select title, status from streams where shop = $1", server.shop)
    assert {tuple(row) for row in rows} == {("Evening", "live"), ("Morning", "scheduled")}
