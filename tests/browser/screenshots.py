"""Writes a picture of every named state of the pages, at the size of a phone and of a desktop.

    python -m tests.browser.screenshots [--only viewer-paid] [--language zh-Hant] [--into FOLDER]

Owns the server that it starts for that, and the names of the files: `<state>-<screen>.png`. What is
in the states is in `scenes`. Run by hand (`make screenshots`), by nobody else.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from playwright.async_api import Browser

from livecart.embedded import running
from orders.ledger.migrate import migrate
from tests.browser.browser_rig import DESKTOP, PHONE, People, Screen, chromium
from tests.browser.pages import LOCALES
from tests.browser.png import small
from tests.browser.scenes import SCENES, Stage
from tests.browser.server_rig import Server

INTO = Path(__file__).parents[2] / "docs" / "img"


async def shoot(
    server: Server, browser: Browser, name: str, screen: Screen, language: str
) -> bytes:
    """Play one scene at one size; return its picture."""
    people = People(browser)
    server.new_shop()
    try:
        async with asynccontextmanager(SCENES[name])(
            Stage(server, people, screen, language)
        ) as page:
            await page.evaluate("document.fonts.ready")
            picture = await page.screenshot(animations="disabled", caret="hide")
        blank = await people.person("painter")
        return await small(blank.page, picture)
    finally:
        await people.leave()


async def _all(names: list[str], language: str, into: Path, folder: Path) -> int:
    with running(folder / "servers") as urls:
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(urls.database_url)
        try:
            await migrate(connection)
        finally:
            await connection.close()
        server = Server(urls.redis_url, urls.database_url, folder)
        await server.start()
        total_bytes = 0
        try:
            async with chromium() as browser:
                for name in names:
                    for screen in (PHONE, DESKTOP):
                        picture = await shoot(server, browser, name, screen, language)
                        file = into / f"{name}-{screen.name}.png"
                        file.write_bytes(picture)
                        total_bytes += len(picture)
                        sys.stdout.write(f"{file.name}: {len(picture) / 1024:.0f} KB\n")
        finally:
            await server.stop()
        return total_bytes


def main() -> None:
    """Write the pictures that were asked for."""
    parser = argparse.ArgumentParser(prog="screenshots")
    parser.add_argument("--only", action="append", choices=sorted(SCENES), help="may be repeated")
    parser.add_argument("--language", default="en", choices=sorted(LOCALES))
    parser.add_argument("--into", type=Path, default=INTO)
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="lc-shots-"))
    try:
        names = options.only or list(SCENES)
        total_bytes = asyncio.run(_all(names, options.language, options.into, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(f"{total_bytes / 2**20:.1f} MB in all\n")


if __name__ == "__main__":
    main()
