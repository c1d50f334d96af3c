"""Chromium for tests, found and never downloaded; people with a page each, and its complaints.

Owns finding and launching the browser, the two sizes of screen, and the watch on each page: errors,
refusals of the content policy, long tasks, findings of axe-core. Knows no element of a page; those
are in `pages`. Used by the tests in this folder and by `screenshots`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    async_playwright,
)

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW = "make setup-browser installs one; LIVECART_TEST_CHROMIUM names another"
AXE = Path(__file__).parents[1] / "web" / "node_modules" / "axe-core" / "axe.min.js"
WAIT_MS = 20_000.0  # a slow core, three tests at a time

#: What a page may say while its server is away or its network off: the browser says it, not us.
AWAY = re.compile(
    r"net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INTERNET_DISCONNECTED|EMPTY_RESPONSE"
    r"|SOCKET_NOT_CONNECTED|NETWORK_CHANGED|ABORTED|INCOMPLETE_CHUNKED_ENCODING)"
    r"|WebSocket connection to .* failed"
)
#: A refusal of the server that the page is expected to tell its person.
REFUSED = re.compile(r"the server responded with a status of (4\d\d|503)")


class Screen(msgspec.Struct, frozen=True):
    """A size of screen, and what touches it."""

    name: str
    width: int
    height: int
    touch: bool


PHONE = Screen("phone", 390, 844, True)
DESKTOP = Screen("desktop", 1280, 800, False)


def find_chromium() -> str | None:
    """Return the path of a Chromium or Chrome on this machine; None when there is none."""
    named = os.environ.get("LIVECART_TEST_CHROMIUM")
    if named:
        return shutil.which(named)
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run one for the length of the block."""
    path = find_chromium()
    if path is None:
        raise LookupError(f"no Chromium: {HOW}")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path,
            # As root there is no sandbox; small shared memory is what containers have.
            args=["--disable-dev-shm-usage", *(["--no-sandbox"] if root else [])],
        )
        try:
            yield browser
        finally:
            await browser.close()


class Person:
    """Somebody with a browser of their own, and what their pages complained of."""

    def __init__(self, name: str, context: BrowserContext) -> None:
        self.name = name
        self.context = context
        self.page: Page
        self.complaints: list[str] = []
        self.bears: list[re.Pattern[str]] = []  # complaints that are part of the play

    async def open(self) -> Page:
        """Open the page that is watched from its first script on."""
        await self.context.expose_binding("tellRig", lambda _, text: self.complaints.append(text))
        await self.context.add_init_script(_WATCH)
        self.page = await self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("dialog", self._asked)
        return self.page

    def faults(self) -> list[str]:
        """What it complained of beyond what the play is about."""
        borne = [one for one in self.complaints if any(it.search(one) for it in self.bears)]
        return [f"{self.name}: {one}" for one in self.complaints if one not in borne]

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            where = message.location.get("url", "")
            self.complaints.append(f"console: {message.text} {where}".split("#")[0])

    async def _asked(self, dialog: Dialog) -> None:
        self.complaints.append(f"a {dialog.type} of the browser's own: {dialog.message}")
        await dialog.dismiss()


#: Runs before any script of the page, and outside of its content policy.
_WATCH = """
addEventListener("securitypolicyviolation", (event) => window.tellRig(
  `content policy: ${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile ?? ""}`,
));
addEventListener("unhandledrejection", (event) => window.tellRig(`unhandled: ${event.reason}`));
"""


class People:
    """Makes persons, each with a browser context, and judges at the end what their pages said."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.all: list[Person] = []

    async def person(
        self, name: str, screen: Screen = PHONE, locale: str = "en", **more: Any
    ) -> Person:
        """Return a person at a screen who reads a language."""
        context = await self._browser.new_context(
            viewport={"width": screen.width, "height": screen.height},
            has_touch=screen.touch,
            is_mobile=screen.touch,
            locale=locale,
            **more,
        )
        person = Person(name, context)
        self.all.append(person)
        await person.open()
        return person

    async def leave(self) -> list[str]:
        """Close every context; return the faults of all pages."""
        await asyncio.gather(*(person.context.close() for person in self.all))
        return [fault for person in self.all for fault in person.faults()]


async def axe(page: Page, state: str, within: str = "html") -> list[str]:
    """Return what axe-core finds that is serious or critical, each with the name of the state.

    Evaluated through the debugger, so that the page's content policy stays as it is.
    """
    if await page.evaluate("typeof axe === 'undefined'"):
        await page.evaluate(AXE.read_text(encoding="utf-8"))
    result: str = await page.evaluate("where => axe.run(where).then(JSON.stringify)", within)
    return [
        f"{state}: {found['impact']} {found['id']}: {' '.join(map(str, node['target']))}: "
        + "; ".join(check["message"] for check in node["any"])
        for found in json.loads(result)["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]
