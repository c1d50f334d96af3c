"""The grammar of comments, on a table of lines as people write them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from orders.comments.grammar import Asks, Reading, Unclear, Vocabulary, Word, keyword_form

TABLE = Path(__file__).with_name("comment_lines.txt")
KEYWORDS = [
    "A01",
    "A1",
    "A10",
    "B02",
    "sb001",
    "dm1",
    "dm2",
    "粉",
    "白",
    "粉紅",
    "烏龍茶",
    "แดง",
    "đỏ",
    "vestido",
]
WORDS = [*(Word(k, k) for k in KEYWORDS), Word("Red Dress", "Red Dress"), Word("X9", "X9", "exact")]
VOCABULARY = Vocabulary(WORDS, ["PIN"])


def rows() -> list[tuple[str, str, str]]:
    lines = TABLE.read_text("utf-8").splitlines()
    parts = (line.split(" | ", 2) for line in lines if line and not line.startswith("#"))
    return [(language, reading, text.replace("\\n", "\n")) for language, reading, text in parts]


def written(reading: Reading) -> str:
    if isinstance(reading, Asks):
        return ", ".join(f"{ask.offer}={ask.qty}" for ask in reading.asks)
    return reading.why if isinstance(reading, Unclear) else "-"


@pytest.mark.parametrize(("language", "reading", "text"), rows())
def test_a_line_is_read_as_the_table_says(language: str, reading: str, text: str) -> None:
    """Each line of the table is read as it says."""
    assert written(VOCABULARY.read(text)) == reading


def test_the_table_is_large_and_of_five_languages() -> None:
    """At least 150 lines, each once, some of each language and of each kind of reading."""
    table = rows()
    assert len({text for _, _, text in table}) == len(table) >= 150
    counted = Counter(language for language, _, _ in table)
    assert set(counted) == {"zh", "en", "th", "vi", "es"}
    assert min(counted.values()) > 20
    assert {"-", "ambiguous", "unreadable"} < {reading for _, reading, _ in table}


@pytest.mark.parametrize("pinned", [[], ["of_1", "of_2"]])
def test_plus_one_is_ambiguous_unless_one_offer_is_pinned(pinned: list[str]) -> None:
    """`+1` alone is nobody's guess when no offer is pinned, or two are."""
    assert written(Vocabulary(WORDS, pinned).read("+1")) == "ambiguous"


def test_one_keyword_of_two_offers_is_ambiguous() -> None:
    """Keywords that differ in case and width alone are one, and who says it is asked."""
    both = Vocabulary([Word("A01", "of_1"), Word("ａ０１", "of_2")])
    assert written(both.read("a01+1")) == "ambiguous"


def test_what_is_cut_off_is_not_guessed() -> None:
    """A line that is longer than what is read is for a person to look at, if it asks at all."""
    assert written(VOCABULARY.read("A01+1 " + "." * 2_000)) == "unreadable"
    assert written(VOCABULARY.read("." * 2_000)) == "-"


@pytest.mark.parametrize(
    "keyword",
    ["", " ", "\u200b", "+1", "a+b", "a,b", "粉、白", "0912345678", "-a", "a-", "…", "x" * 65],
)
def test_a_keyword_that_no_line_could_have_is_none(keyword: str) -> None:
    """Keywords that the grammar would read as something else have no form."""
    assert keyword_form(keyword) is None


@pytest.mark.parametrize("keyword", ["A01", "粉", "red dress", "a-1", "7", "đỏ", "🍎1", "x" * 64])
def test_a_keyword_that_a_line_may_have_is_found_alone(keyword: str) -> None:
    """What has a form is read where it stands alone."""
    assert written(Vocabulary([Word(keyword, "of_1")]).read(keyword)) == "of_1=1"
