"""The talk in the host's panel: who is muted or banned, what is removed, slow mode, the queue.

Each is held against Postgres, the second host's screen and the page of the viewer it is about.
"""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.async_api import Route, expect

from tests.browser.browser_rig import REFUSED, People
from tests.browser.host_desk_page import desk, watcher
from tests.browser.server_rig import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

DROPPED = re.compile(r"net::ERR_FAILED")


async def test_a_viewer_is_muted_heard_again_and_banned(server: Server, people: People) -> None:
    """Muted one's page says so and nothing of it is heard; unmuted it is; banned it is put out."""
    stream = await server.stream("Mute")
    host = await desk(people, server, stream)
    ann = await watcher(people, server, stream, "ann")
    outcome = ann.page.locator("#chat-outcome")

    async def standing() -> tuple[bool, bool]:
        sql = "select banned, muted_until is not null as muted from standings where stream = $1"
        (row,) = await server.fetch(f"{sql} and viewer = 'ann'", stream)
        return row["banned"], row["muted"]

    await ann.chat("buy from me instead")
    await host.deal_with("buy from me instead", "mute")
    await host.talk_says("mute_done", name="ann")
    await expect(outcome).to_have_text(ann.words.text("muted"))
    assert await standing() == (False, True)
    await ann.chat("are you there?", answered=False)
    await expect(ann.page.locator("#chat-text")).to_have_value("are you there?")
    await expect(outcome).to_have_text(ann.words.text("code_muted"))

    await host.deal_with("buy from me instead", "unmute")
    await host.talk_says("unmute_done", name="ann")
    await expect(outcome).to_have_text(ann.words.text("unmuted"))
    assert await standing() == (False, False)
    await ann.chat("thank you")
    await expect(host.messages("thank you")).to_have_count(1)
    await expect(host.messages("are you there?")).to_have_count(0)

    await host.moderate("thank you")
    await host.button("ban", host.page.locator("#moderate-actions")).click()
    await expect(host.page.locator("#sure-costs")).to_have_text(
        host.words.text("ban_sure", name="ann")
    )
    await host.page.locator("#sure-no").click()
    await expect(ann.page.locator("#line")).to_have_text(ann.words.text("line_open"))
    await host.deal_with("thank you", "ban")
    await host.talk_says("ban_done", name="ann")
    await ann.says("stop_4403")
    assert (await standing())[0]
    await ann.page.reload()
    await ann.says("stop_4403")
    await ann.go_on_as_guest()
    await ann.connected()
    await ann.cannot_chat("guest_cannot_chat")


async def test_a_removed_message_is_gone_and_slow_mode_is_for_all(
    server: Server, people: People
) -> None:
    """A message removed is gone on every screen, the others stay; slow mode is seen and kept."""
    stream = await server.stream("Remove")
    host, other = [await desk(people, server, stream) for _ in range(2)]
    ann = await watcher(people, server, stream, "ann")
    await ann.chat("a rude word")
    await ann.chat("a kind word")
    await expect(other.messages()).to_have_count(2)
    await host.deal_with("a rude word", "remove")
    await host.talk_says("remove_done")
    for one in (host, other, ann):
        await expect(one.messages("a rude word")).to_have_count(0)
        await expect(one.messages("a kind word")).to_have_count(1)
    late = await watcher(people, server, stream, "late")
    await expect(late.messages("a rude word")).to_have_count(0)

    await host.page.locator("#slow").focus()  # and it stays there
    await host.page.locator("#slow").select_option("60")
    await host.talk_says("done")
    await expect(other.page.locator("#slow")).to_have_value("60")
    (row,) = await server.fetch("select chat_every_s from streams where id = $1", stream)
    assert row["chat_every_s"] == 60
    await ann.chat("first of this minute")
    await expect(host.messages("first of this minute")).to_have_count(1)
    said = await _say(server, stream, "ann", "too soon")
    assert (said.status_code, said.json()["code"]) == (429, "rate_limited")
    await ann.chat("still in the field", answered=False)
    await expect(ann.page.locator("#chat-outcome")).to_have_text(ann.words.like("chat_wait"))
    await expect(ann.page.locator("#chat-text")).to_have_value("still in the field")
    await expect(ann.messages("still in the field")).to_have_count(0)
    await host.chat("a host may")
    await host.chat("say more")
    await expect(ann.messages("say more")).to_have_count(1)
    other.person.bears.append(DROPPED)
    await other.page.route(f"**/v1/streams/{stream}", _drop_changes)
    await other.page.locator("#slow").select_option("300")
    await other.talk_says("code_unreachable")
    await expect(other.page.locator("#slow")).to_have_value("60")
    await other.page.unroute(f"**/v1/streams/{stream}")
    await other.page.locator("#slow").select_option("0")
    await other.talk_says("done")
    await expect(host.page.locator("#slow")).to_have_value("0")
    await ann.chat("as often as I like")
    for one in (host, other):
        await expect(one.messages("as often as I like")).to_have_count(1)
        await expect(one.messages("too soon")).to_have_count(0)


async def test_the_queue_of_comments_is_worked_off(server: Server, people: People) -> None:
    """Ordered, a comment becomes its writer's order of what was chosen; dismissed, nothing."""
    stream = await server.stream("Queue")
    ash, birch = [
        await server.offer(
            stream, await server.product(title), keyword=title.lower(), quantity=5, per_viewer=3
        )
        for title in ("Ash", "Birch")
    ]
    host, other = [await desk(people, server, stream) for _ in range(2)]
    host.person.bears.append(REFUSED)
    ann = await watcher(people, server, stream, "ann")
    await ann.chat("+1")
    await server.say(stream, [("bob", "+2")])
    for one in (host, other):
        await expect(one.page.locator("#talk-comments")).to_have_text(
            one.words.text("comments", n=2)
        )
        await one.comments()
    item = host.comment("ann")
    await item.locator("select").select_option(label="Birch")
    await item.locator("input").fill("4")
    await host.button("order_it", item).click()
    await host.talk_says("code_limit_reached")
    await expect(other.comment("ann")).to_have_count(1)
    await item.locator("input").fill("3")
    await host.button("order_it", item).click()
    await other.button("dismiss", other.comment("bob")).click()
    for one in (host, other):
        await expect(one.page.locator("#comments > li")).to_have_count(0)
        await expect(one.page.locator("#comments-empty")).to_be_visible()
        await one.orders(ann="reserved")
        await one.counts("Birch", left=2, held=3, sold=0)
        await one.counts("Ash", left=5, held=0, sold=0)
    await ann.orders("reserved")
    await ann.left("Birch", 2, 5)
    orders = await server.fetch(
        "select viewer, offer, qty from orders where offer = any($1)", [ash, birch]
    )
    assert [tuple(row) for row in orders] == [("ann", birch, 3)]
    states = await server.fetch("select viewer, state from comments where stream = $1", stream)
    assert {row["viewer"]: row["state"] for row in states} == {"ann": "done", "bob": "dismissed"}


async def _drop_changes(route: Route) -> None:
    """Have no change of the stream arrive."""
    if route.request.method == "PATCH":
        await route.abort()
    else:
        await route.continue_()


async def _say(server: Server, stream: str, name: str, text: str) -> httpx.Response:
    """Have a viewer say this over HTTP, and return the answer."""
    headers = {"Authorization": f"Bearer {server.token('viewer', name)}", "Idempotency-Key": "once"}
    async with httpx.AsyncClient(base_url=server.http) as http:
        return await http.post(f"/v1/streams/{stream}/chat", json={"text": text}, headers=headers)
