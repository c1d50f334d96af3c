"""Draws the icons of the pages from their SVG: `python -m tests.web.icons`, after a change of one.

Owns the sizes. Needs what `make setup-browser` installs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

import livecart

ICONS = Path(livecart.__file__).parent / "web" / "icons"
DRAWN = (("icon", 192), ("icon", 512), ("mask", 512))


def main() -> None:
    """Write each PNG beside its SVG."""
    chromium = os.environ.get("LIVECART_TEST_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium)
        for name, size in DRAWN:
            page = browser.new_page(viewport={"width": size, "height": size})
            page.goto((ICONS / f"{name}.svg").as_uri())
            page.screenshot(path=ICONS / f"{name}-{size}.png", omit_background=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
