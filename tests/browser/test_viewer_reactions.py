"""Reactions on the viewer's page: seen by others, bounded, and at rest for who asked for it."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import WebSocket, expect

from tests.browser.browser_rig import People
from tests.browser.pages import ViewerPage
from tests.browser.server_rig import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

TAPS = 60
SENT_MAX = 20  # of one kind in one message, as the protocol has it
RISING_MAX = 12

#: Counts, from now on, faces in the air: how many rose and how many were there at once.
FACES = """
window.faces = { rose: 0, most: 0 };
const sky = document.getElementById("sky");
new MutationObserver((records) => {
  for (const { addedNodes } of records) faces.rose += addedNodes.length;
  faces.most = Math.max(faces.most, sky.childElementCount);
}).observe(sky, { childList: true });
"""
TAP = "(button, taps) => { for (let n = 0; n < taps; n++) button.click(); }"


async def test_taps_reach_others_and_are_bounded(server: Server, people: People) -> None:
    """A tap rises and counts on another's page; a storm of them is sent as at most 20, with few
    faces in the air; who asked for less motion sees the count and nothing that moves."""
    stream = await server.stream("茶")
    pages = []
    sent: list[int] = []

    def watch(socket: WebSocket) -> None:
        socket.on("framesent", lambda data: count(json.loads(data)))

    def count(frame: dict[str, object]) -> None:
        if frame["type"] == "react":
            assert frame["kind"] == "like"
            sent.append(int(str(frame["n"])))

    for name, motion in (("ann", None), ("bo", None), ("cy", "reduce")):
        person = await people.person(name, reduced_motion=motion)
        if name == "ann":
            person.page.on("websocket", watch)
        page = await ViewerPage.visit(person, server, stream, token=server.token("viewer", name))
        await page.connected()
        await person.page.evaluate(FACES)
        pages.append(page)
    ann, bo, calm = pages

    like = ann.button("react_like")
    await like.click()
    for page in pages:
        await expect(page.button("react_like").locator(".count")).to_have_text("1")
    assert sent == [1]
    assert await ann.page.evaluate("faces.rose") == 1, "its echo rose again"
    assert await bo.page.evaluate("faces.rose") == 1

    await like.evaluate(TAP, TAPS)
    for page in pages:
        await expect(page.button("react_like").locator(".count")).to_have_text(str(1 + SENT_MAX))
    assert sent == [1, SENT_MAX]
    assert await ann.page.evaluate("faces.most") <= RISING_MAX
    assert 1 < await bo.page.evaluate("faces.rose") <= RISING_MAX
    assert await calm.page.evaluate("faces.rose") == 0
    assert await calm.page.evaluate("document.getAnimations().length") == 0
