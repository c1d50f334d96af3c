"""What can be held of the static pages without a browser: content policy, words, references.

Owns no server and runs no JavaScript; reads `livecart/web/` as text. Run by pytest everywhere.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import livecart
from livecart.api.words import choose, languages
from streams.codes import Close, Code

WEB = Path(livecart.__file__).parent / "web"
PAGES = sorted(WEB.glob("*.html"))
SCRIPTS = sorted(WEB.rglob("*.js"))
LINES_MAX = 400

LANGUAGES = sorted((WEB / "words").glob("*.json"))

GAP = re.compile(r"\{(\w+)\}")


def words(language: str = "en") -> dict[str, str]:
    """One language's words by name."""
    file = WEB / "words" / f"{language}.json"
    table: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))["words"]
    return table


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_nothing_inline(page: Path) -> None:
    """No page holds an inline script, style or handler, which the content policy would refuse."""
    markup = page.read_text(encoding="utf-8")
    assert "<style" not in markup
    assert not re.search(r"<[^>]+\s(?:style|on\w+)=", markup)
    ours = re.compile(r' src="/(?:static/|words\.js")')
    assert all(ours.search(tag) for tag in re.findall(r"<script[^>]*>", markup))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_refers_to_is_there(page: Path) -> None:
    """Every /static/ file that a page names is beside it, and no other origin is asked."""
    markup = page.read_text(encoding="utf-8")
    for name in re.findall(r'(?:src|href)="([^"]+)"', markup):
        served = ("data:,", "/words.js", "/openapi.json", "/asyncapi.json")
        if name in served or name.startswith("#"):
            continue
        assert (WEB / name.removeprefix("/static/")).is_file(), name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_imports_only_its_neighbours(script: Path) -> None:
    """Every import names a file beside it or the words: no dependency and no build step."""
    for name in re.findall(
        r'^(?:import|\} from|export).* from "([^"]+)"', script.read_text(), re.M
    ):
        if name == "/words.js":
            continue
        assert name.startswith(("./", "../")), name
        assert (script.parent / name).is_file(), name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_no_script_makes_markup_of_text(script: Path) -> None:
    """User text reaches the page as text nodes only, and a file reads in one sitting."""
    source = script.read_text(encoding="utf-8")
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in source
    assert script.name == "livecart.js" or source.count("\n") <= LINES_MAX  # that is generated


@pytest.mark.parametrize("file", LANGUAGES, ids=lambda file: file.stem)
def test_every_string_is_said_in_every_language(file: Path) -> None:
    """Each language has the words that English has and no other, with the same gaps."""
    english, theirs = words(), words(file.stem)
    assert list(theirs) == list(english)
    for name, text in theirs.items():
        assert text.strip() == text != "", name
        assert sorted(GAP.findall(text)) == sorted(GAP.findall(english[name])), name


@pytest.mark.parametrize(
    ("accepted", "cookies", "language"),
    [
        (b"", b"", "en"),
        (b"de-DE,de;q=0.9", b"", "en"),
        (b"zh-TW,zh;q=0.9,en;q=0.8", b"", "zh-Hant"),
        (b"zh-Hant-HK", b"", "zh-Hant"),
        (b"zh-CN,zh;q=0.9", b"", "zh-Hans"),
        (b"fr, zh-HK;q=0.3, en-GB;q=0.5", b"", "en"),
        (b"en;q=0, zh-SG;q=0.1", b"", "zh-Hans"),
        (b"en;q=much, zh-MO", b"", "zh-Hant"),
        (b"en", b"a=1; livecart_language=zh-Hant", "zh-Hant"),
        (b"zh-TW", b"livecart_language=tlh", "zh-Hant"),
        (b"zh-TW", b"\xff=;;,livecart_language", "zh-Hant"),
    ],
)
def test_a_visitor_reads_a_language_of_theirs(
    accepted: bytes, cookies: bytes, language: str
) -> None:
    """What was chosen first, then the browser's languages by weight, else English."""
    known = languages(file.read_bytes() for file in LANGUAGES)
    assert choose(known, accepted, cookies) == language


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
    for script in own:
        asked = set(re.findall(r'\bat\("([^"]+)"\)', script.read_text(encoding="utf-8")))
        assert asked <= ids, (script.name, asked - ids)
