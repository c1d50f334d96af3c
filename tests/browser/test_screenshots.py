"""The pictures of the pages' states that the documentation has; needs no browser."""

from __future__ import annotations

from tests.browser.browser_rig import DESKTOP, PHONE
from tests.browser.scenes import SCENES
from tests.browser.screenshots import INTO

PNG = b"\x89PNG\r\n\x1a\n"


def test_every_state_has_its_two_pictures() -> None:
    """Every named state of the pages has a picture at the size of a phone and of a desktop."""
    files = [INTO / f"{scene}-{screen.name}.png" for scene in SCENES for screen in (PHONE, DESKTOP)]
    assert [file.name for file in files if not file.exists()] == []
    assert [file.name for file in files if not file.read_bytes().startswith(PNG)] == []
