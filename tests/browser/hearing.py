"""What a screen reader would say on a page: each change of a live region that it would hear.

Owns the script that listens. Knows no words; those are the tests' to expect. A region is heard when
it is rendered, not switched off, and not behind an open dialog. Used by `test_viewer_said`.
"""

from __future__ import annotations

import re

from tests.browser.browser_rig import Person


class Hearing:
    """Somebody who hears a page, one utterance after the other."""

    def __init__(self, person: Person) -> None:
        self._page = person.page
        self._taken = 0

    @classmethod
    async def of(cls, person: Person) -> Hearing:
        """Listen to a person's page from its next load on."""
        await person.context.add_init_script(_LISTEN)
        return cls(person)

    async def next(self) -> str:
        """Wait for the next utterance."""
        number = self._taken
        await self._page.wait_for_function("(number) => heard.length > number", arg=number)
        self._taken += 1
        text: str = await self._page.evaluate("(number) => heard[number]", number)
        return text

    async def says(self, pattern: re.Pattern[str], about: str = "") -> None:
        """Wait for the next utterance, which must be this and be about that."""
        text = await self.next()
        assert pattern.search(text), (text, pattern.pattern)
        assert about in text, text

    async def rest(self) -> list[str]:
        """What was said beyond what was waited for."""
        texts: list[str] = await self._page.evaluate("(number) => heard.slice(number)", self._taken)
        self._taken += len(texts)
        return texts


_LISTEN = """
window.heard = [];
const LIVE = "[aria-live], [role=status], [role=alert], output";
function hears(region) {
  if (region.getAttribute("aria-live") === "off" || !region.checkVisibility()) return false;
  const open = document.querySelector("dialog:modal");
  return open === null || open.contains(region);
}
new MutationObserver((records) => {
  const regions = new Set();
  for (const { target } of records) {
    const element = target.nodeType === Node.ELEMENT_NODE ? target : target.parentElement;
    const region = element?.closest(LIVE);
    if (region) regions.add(region);
  }
  for (const region of regions) {
    const text = region.textContent.trim();
    if (text !== "" && hears(region)) window.heard.push(text);
  }
}).observe(document, { subtree: true, childList: true, characterData: true });
"""
