"""README and docs/ hang together: links lead somewhere, settings exist, and the site is whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from livecart.settings import VARIABLES
from tests.docs.commands import named
from tests.docs.made import SETTINGS, settings
from tests.docs.pages import DOCS, PAGES, READMES, ROOT, anchors, blocks, links, name, prose, spans
from tests.integration.up_rig import environment

#: What begins a code span that is a command.
PROGRAMS = ("livecart", "livecart-loadtest", "make", "pip", "docker")
BUILD_S_MAX = 180


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Each relative link of a page is a file that is there, and each anchor a heading of it."""
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{name(page)}: {link}"


def test_the_site_links_to_nothing_outside_it() -> None:
    """No page of docs/ leads to a file that the site does not have."""
    for page in set(PAGES) - set(READMES):
        for link in links(page):
            if not re.match(r"[a-z]+:|#", link):
                target = (page.parent / link.partition("#")[0]).resolve()
                assert target.is_relative_to(DOCS), f"{name(page)}: {link}"


def test_every_setting_that_is_named_exists() -> None:
    """Each LIVECART_ word of README and docs/, code blocks too, is a row of the table; one more is
    read by the tests of the pages alone, to find a browser."""
    known = {variable.name for variable in VARIABLES} | {"LIVECART_TEST_CHROMIUM"}
    for page in PAGES:
        found = set(re.findall(r"\bLIVECART_[A-Z]+(?:_[A-Z]+)*\b", page.read_text("utf-8")))
        assert found <= known, f"{name(page)}: {found - known}"


def test_every_setting_is_documented() -> None:
    """docs/settings.md is what the code says: `python -m tests.docs.made` writes it anew."""
    assert SETTINGS.read_text("utf-8") == settings()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_in_the_text_exists(page: Path) -> None:
    """A command that is named in a sentence has a program, a target and options that are there."""
    for span in spans(prose(page)):
        words = re.sub(r"[\[\]]", "", span.removeprefix(".venv/bin/"))
        if words.partition(" ")[0] in PROGRAMS and " " in words:
            try:
                named(words)
            except LookupError as error:
                pytest.fail(f"{name(page)}: `{span}`: {error}")


def test_every_example_of_data_can_be_read() -> None:
    """Blocks of JSON and TOML are that."""
    for page in PAGES:
        for block in blocks(page):
            if block.language in ("json", "toml"):
                try:
                    (json if block.language == "json" else tomllib).loads(block.text)
                except ValueError as error:
                    pytest.fail(f"{block.where}: {error}")


class Loads(HTMLParser):
    """Which addresses a page loads by itself; where its links lead is the reader's choice."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what a tag loads."""
        given = dict(attrs)
        self.found += [given["src"] or ""] if "src" in given else []
        if tag == "link" and given.get("rel") != "canonical":
            self.found.append(given.get("href") or "")


def test_the_site_is_built_and_asks_nobody_else(tmp_path: Path) -> None:
    """`mkdocs build --strict` finds nothing to complain of, and no page loads from elsewhere."""
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=BUILD_S_MAX,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > len(PAGES) - len(READMES)
    for page in pages:
        reader = Loads()
        text = page.read_text("utf-8")
        reader.feed(text)
        assert reader.found
        assert not [each for each in reader.found if re.match(r"(?:[a-z]+:)?//", each)], page
        assert 'class="mermaid"' not in text, f"{page}: its script would come from elsewhere"
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:", sheet.read_text("utf-8")), sheet
