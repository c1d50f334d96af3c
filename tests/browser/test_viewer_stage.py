"""The stage of the viewer's page before there is a picture: its title, and who is there."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.browser_rig import PHONE, People
from tests.browser.pages import LOCALES, ViewerPage
from tests.browser.playhead import undecodable
from tests.browser.server_rig import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

TITLE = "今晚八點一起喝梨山高山烏龍茶，限量紫砂壺開賣（新品）"
ALONE = {"zh-Hant": "1 人在線上", "zh-Hans": "1 人在线", "en": "1 watching"}

#: The lines of an element's text, as they are laid out.
LINES = """
(element) => {
  const lines = [];
  let top = null;
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    for (let at = 0; at < node.length; at++) {
      const range = new Range();
      range.setStart(node, at);
      range.setEnd(node, at + 1);
      const box = range.getBoundingClientRect();
      if (top === null || Math.abs(box.top - top) > box.height / 2) lines.push("");
      top = box.top;
      lines.push(lines.pop() + node.data[at]);
    }
  }
  return lines;
}
"""
WORDS = """
(text) => Array.from(new Intl.Segmenter("zh", { granularity: "word" }).segment(text),
  (one) => one.segment)
"""


async def test_a_title_breaks_between_words_and_one_viewer_is_one(
    server: Server, people: People
) -> None:
    """The lines of a long Chinese title end where clauses or words do, and none begins with
    a comma; a single viewer is counted in words that fit one, in each language."""
    stream = await server.stream(TITLE)
    person = await people.person("ann", PHONE, LOCALES["zh-Hant"])
    page = await ViewerPage.visit(person, server, stream, language="zh-Hant")
    await page.connected()
    lines = await person.page.locator("#poster-title").evaluate(LINES)
    assert "".join(lines) == TITLE
    assert 1 < len(lines) <= 5, lines
    rest = await person.page.evaluate(WORDS, TITLE)
    for line in lines:
        begun = ""
        while len(begun) < len(line):
            begun += rest.pop(0)
        assert begun == line, lines
        assert len(line) > 2, lines
        assert line[0] not in "，）", lines
        assert line[-1] != "（", lines
    assert any(line.endswith("，") for line in lines), lines
    for language, words in ALONE.items():
        if language != "zh-Hant":
            await page.choose_language(language)
        await expect(person.page.locator("#viewers")).to_have_text(words)


async def test_a_video_that_stays_broken_is_loaded_anew(server: Server, people: People) -> None:
    """What the player cannot mend by itself is loaded again after a pause, and the page says so;
    the player is not left to try for ever."""
    url = "https://video.invalid/live.m3u8"
    stream = await server.stream("Broken", playback_url=url)
    person = await people.person("ann", PHONE)
    await undecodable(person)
    page = await ViewerPage.visit(person, server, stream)
    await page.connected()
    await expect(person.page.locator("#film-said")).to_have_text(page.words.text("film_trouble"))
    await person.page.wait_for_function("() => rig.players > 1")
    assert await person.page.evaluate("0 < rig.recoveries && rig.recoveries <= rig.players")
