"""The grammar of comments, on lines that nobody thought of."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from orders.comments.grammar import (
    ASKS_MAX,
    TEXT_MAX,
    Ask,
    Asks,
    Unclear,
    Vocabulary,
    Word,
    keyword_form,
)
from orders.comments.normal import normalise

KEYWORDS = ["a01", "a1", "a10", "粉", "粉紅", "แดง", "đỏ", "red dress", "b-2", "7"]
VOCABULARY = Vocabulary([Word(k, k) for k in KEYWORDS], ["pinned"])
EXACT = Vocabulary([Word(k, k, "exact") for k in KEYWORDS], ["pinned"])
#: Pieces that lines are made of, so that what comes out is close to what is read.
PIECES = [
    *KEYWORDS, "+", "*", "x", "=", "-", "1", "2", "0", "9999", "12345", ",", "、", "，", "\n",
    "個", "各", "要", "謝謝", "ตัว", "cái", "de", "of", "?", "取消",
]  # fmt: skip
SHORT = [*PIECES, "1 ", "a1 ", "+1", "一", "ﷺ", "0-", "a1+", "(0) ", "x1"]
lines = st.lists(st.sampled_from([*PIECES, " ", "0912345678", "\u200b"]), max_size=30).map("".join)
quantities = st.integers(1, 9999)
WIDE = str.maketrans({c: chr(ord(c) + 0xFEE0) for c in map(chr, range(0x21, 0x7F))})


@st.composite
def phones(draw: st.DrawFn) -> str:
    """A telephone number as people write them: local, in groups, or from abroad."""
    digits = draw(st.sampled_from("123456789")) + draw(
        st.text("0123456789", min_size=8, max_size=8)
    )
    local = "0" + digits
    grouped = draw(st.sampled_from(["-", " "])).join((local[:4], local[4:7], local[7:]))
    return draw(st.sampled_from([local, grouped, f"+84{digits}", f"+886 {digits}", f"({local[:2]}) "
                                 f"{digits[:4]}-{digits[4:8]}"]))  # fmt: skip


@given(st.text(max_size=400) | lines)
@example("ﷺ" * 300)
@example("ǰ̌" * 100)
def test_normalising_twice_does_nothing_more(text: str) -> None:
    """What is normalised is in its one form, and no mark that cannot be seen is left."""
    once = normalise(text)
    assert normalise(once) == once
    assert not {"\u200b", "\u200e", "\u202e", "\ufeff"} & set(once)


@given(st.text(max_size=1_500) | lines, st.booleans())
def test_any_text_is_read(text: str, exact: bool) -> None:
    """Reading never raises, and what it gives is within its bounds and of known offers."""
    reading = (EXACT if exact else VOCABULARY).read(text)
    if isinstance(reading, Asks):
        assert 1 <= len(reading.asks) <= ASKS_MAX
        assert all(1 <= ask.qty <= 9999 for ask in reading.asks)
        offers = [ask.offer for ask in reading.asks]
        assert len(set(offers)) == len(offers)
        assert set(offers) <= {*KEYWORDS, "pinned"}
    else:
        assert reading is None or isinstance(reading, Unclear)


@given(
    st.lists(st.tuples(st.sampled_from(KEYWORDS), quantities), min_size=1, max_size=8,
             unique_by=lambda ask: ask[0]),
    st.sampled_from(["+", " +", " + ", "x", " x ", "*", "=", " "]),
    st.sampled_from([", ", "，", "、", "\n"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_what_is_built_is_read_back(
    asks: list[tuple[str, int]], sign: str, between: str, wide: bool, upper: bool, exact: bool
) -> None:
    """A line of known keywords with quantities gives these, in any width, case and mode."""
    assume(not (sign == "x" and any(keyword == "7" for keyword, _ in asks)))  # `x7` is a quantity
    assume(len(asks) == 1 or sign != " ")
    text = between.join(f"{keyword}{sign}{qty}" for keyword, qty in asks)
    text = text.upper() if upper else text
    text = text.translate(WIDE) if wide else text
    expected = Asks([Ask(keyword, qty) for keyword, qty in asks])
    assert (EXACT if exact else VOCABULARY).read(text) == expected


@given(st.sampled_from(KEYWORDS[:-1]), phones(), st.sampled_from([" ", "\n", ", ", " tel "]))
def test_no_digit_of_a_telephone_number_is_a_quantity(
    keyword: str, phone: str, between: str
) -> None:
    """A keyword with a telephone number is one unit, whichever comes first."""
    one = Asks([Ask(keyword, 1)])
    assert VOCABULARY.read(f"{keyword}{between}{phone}") == one
    assert VOCABULARY.read(f"{phone}{between}{keyword}") == one


@given(st.sampled_from(KEYWORDS), quantities, phones())
def test_a_quantity_beside_a_telephone_number_is_read(keyword: str, qty: int, phone: str) -> None:
    """A number of one's own is a quantity all the same."""
    read = VOCABULARY.read(f"{keyword}+{qty}, {phone}")
    assert read == Asks([Ask(keyword, qty)])


@given(st.sampled_from(KEYWORDS), st.sampled_from(["0", "00", "-1", "-20", "10000", "123456"]))
def test_a_quantity_that_no_order_has_is_refused(keyword: str, number: str) -> None:
    """0, negative and more than four digits are not read as some other quantity."""
    assert isinstance(VOCABULARY.read(f"{keyword}+{number}"), Unclear)


@given(st.text(st.characters(categories=["Lu", "Ll", "Lo", "Nd"]), min_size=1, max_size=64))
def test_a_keyword_is_read_where_it_stands_alone(keyword: str) -> None:
    """Whatever may be a keyword is read from a line that is it."""
    assume(keyword_form(keyword) is not None)
    reading = Vocabulary([Word(keyword, "of_1")]).read(keyword)
    assert reading == Asks([Ask("of_1", 1)])


@pytest.mark.parametrize(
    "piece", [*PIECES, "1 ", "a1 ", "+1", "一", "ﷺ", "0-", "a1+", "(0) ", "x1"]
)
def test_a_hostile_line_is_read_in_the_end(piece: str) -> None:
    """No line of one thing over and over makes a pattern try again and again for ever."""
    words = [Word("a1" * n, f"of_{n}") for n in range(1, 33)]
    Vocabulary([*words, Word("一", "of_0")]).read(piece * TEXT_MAX)
