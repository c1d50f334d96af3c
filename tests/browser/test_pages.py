"""What can be held of the static pages without a browser: content policy, words, references.

Owns no server and runs no JavaScript; reads `livecart/web/` as text. Run by pytest everywhere.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import livecart
from streams.codes import Close, Code

WEB = Path(livecart.__file__).parent / "web"
PAGES = sorted(WEB.glob("*.html"))
SCRIPTS = sorted(WEB.glob("*.js"))
LINES_MAX = 400

ROW = re.compile(r'^  (\w+): \["((?:[^"\\]|\\.)+)", "((?:[^"\\]|\\.)+)"\],$', re.MULTILINE)
GAP = re.compile(r"\{(\w+)\}")


def words() -> dict[str, tuple[str, str]]:
    """The rows of the one table of strings: name to (Chinese, English)."""
    return {
        name: (chinese, english)
        for name, chinese, english in ROW.findall((WEB / "text.js").read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_nothing_inline(page: Path) -> None:
    """No page holds an inline script, style or handler, which the content policy would refuse."""
    markup = page.read_text(encoding="utf-8")
    assert "<style" not in markup
    assert not re.search(r"<[^>]+\s(?:style|on\w+)=", markup)
    assert all(' src="/static/' in tag for tag in re.findall(r"<script[^>]*>", markup))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_refers_to_is_there(page: Path) -> None:
    """Every /static/ file that a page names is beside it, and no other origin is asked."""
    markup = page.read_text(encoding="utf-8")
    for name in re.findall(r'(?:src|href)="([^"]+)"', markup):
        assert name == "data:," or (WEB / name.removeprefix("/static/")).is_file(), name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_imports_only_its_neighbours(script: Path) -> None:
    """Every import names a file of this folder: no dependency and no build step."""
    for name in re.findall(
        r'^(?:import|\} from|export).* from "([^"]+)"', script.read_text(), re.M
    ):
        assert name.startswith("./"), name
        assert (WEB / name).is_file(), name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_no_script_makes_markup_of_text(script: Path) -> None:
    """User text reaches the page as text nodes only, and a file reads in one sitting."""
    source = script.read_text(encoding="utf-8")
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in source
    assert source.count("\n") <= LINES_MAX


def test_every_string_is_said_in_both_languages() -> None:
    """Each row of the table has both languages with the same gaps, and no row is malformed."""
    table = words()
    source = (WEB / "text.js").read_text(encoding="utf-8")
    rows = re.findall(r"^  \w+: \[", source, re.MULTILINE)
    assert len(rows) == len(table)
    for name, (chinese, english) in table.items():
        assert sorted(GAP.findall(chinese)) == sorted(GAP.findall(english)), name


def test_every_string_asked_for_exists() -> None:
    """Each name that a page or script asks the table for is a row of it."""
    asked: set[str] = set()
    for page in PAGES:
        markup = page.read_text(encoding="utf-8")
        asked.update(re.findall(r'data-t(?:-[a-z-]+)?="(\w+)"', markup))
    for script in SCRIPTS:
        asked.update(re.findall(r'\bt\("(\w+)"', script.read_text(encoding="utf-8")))
    assert asked <= words().keys()


def test_every_refusal_and_final_close_has_words() -> None:
    """Each reject code, and each close code that a client stops at, is told in plain words."""
    table = words()
    assert {f"code_{code.value}" for code in Code} <= table.keys()
    client = (WEB / "livecart.js").read_text(encoding="utf-8")
    listed = re.search(r"FINAL_CODES = new Set\(\[([\d, ]+)\]\)", client)
    assert listed is not None
    final = {int(code) for code in listed[1].split(",")}
    assert final <= {int(code) for code in Close}
    assert {f"stop_{code}" for code in final} <= table.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_element_a_script_asks_for_is_in_its_page(page: Path) -> None:
    """Each id that the page's own script looks up is on that page."""
    ids = set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8")))
    own = [script for script in SCRIPTS if script.name.startswith(page.stem)]
    chats = any('"./chat.js"' in script.read_text(encoding="utf-8") for script in own)
    shared = [WEB / "chat.js"] if chats else []
    for script in own + shared:
        asked = set(re.findall(r'\bat\("([^"]+)"\)', script.read_text(encoding="utf-8")))
        assert asked <= ids, (script.name, asked - ids)
