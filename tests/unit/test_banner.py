"""What `livecart up` shows a person when it serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from livecart import banner
from livecart.up import links_or

PLAIN = banner.Links("http://h:1/host", "http://h:1/", coded=False)
CODED = banner.Links("http://h:1/host#code=a", "http://h:1/#code=b")


def test_a_link_that_cannot_be_had_at_once_is_asked_for_again() -> None:
    """As while the first worker is still busy with its start."""
    troubles: list[Exception] = [ValueError("503"), ConnectionRefusedError()]

    def made() -> banner.Links:
        if troubles:
            raise troubles.pop()
        return CODED

    assert links_or(PLAIN, made) is CODED
    assert troubles == []


def test_without_links_the_screen_says_how_to_make_them(capsys: pytest.CaptureFixture[str]) -> None:
    """The pages' plain addresses are on it; what was wrong is on stderr."""

    def made() -> banner.Links:
        raise ValueError("no codes here")

    links = links_or(PLAIN, made, within_s=0)
    assert "no codes here" in capsys.readouterr().err
    tokens = banner.Tokens("a-host's", "a-viewer's")
    screen = banner.text("h:1", tokens, links, None, Path("data"), 1.0)
    assert "http://h:1/host\n" in screen
    assert "livecart token --page" in screen
    assert "works once" not in screen
    assert "works once" in banner.text("h:1", tokens, CODED, None, Path("data"), 1.0)
