"""What a comment asks for: one line of text against the keywords of a stream's offers.

Pure: the rules of reading and nothing else. Must never know a viewer, stock or where a line came
from. Called by the clerk for every comment, and for each line of chat in a stream that has
keywords. Reading takes time linear in the text, whoever wrote it; it never raises.

A line is first normalised. The longest known keyword that stands by itself is found at each place;
numbers are told apart (telephone numbers, prices and sizes are no quantities); and each number is
given to the keyword that it is of. What is in doubt is `Unclear`, for a person to look at: a wrong
guess sells somebody what he did not ask for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from orders.comments import lexicon
from orders.comments.normal import forms, normalise, spaced, unspaced
from orders.comments.quantities import (
    PHONE_DIGITS_MIN,
    QTY_DIGITS_MAX,
    Number,
    Span,
    counted_han,
    numbers,
    phones,
)

TEXT_MAX = 1_000  # code points that are read, after normalising
ASKS_MAX = 20  # offers of one line
KEYWORD_MAX = 64  # code points of a normalised keyword
GAP_MAX = 48  # code points before a number that say whose it is

Mode = Literal["contains", "exact"]
MODES: tuple[Mode, ...] = ("contains", "exact")


class Word(msgspec.Struct, frozen=True):
    """A keyword, in any form, and the offer that it stands for."""

    keyword: str
    offer: str
    mode: Mode = "contains"


class Ask(msgspec.Struct, frozen=True):
    """Units of one offer."""

    offer: str
    qty: int


class Asks(msgspec.Struct, frozen=True):
    """What a line asks for: each offer once, in the order in which they were named."""

    asks: list[Ask]


class Unclear(msgspec.Struct, frozen=True):
    """It looks like an order and cannot be read as one."""

    why: Literal["ambiguous", "unreadable"]


Reading = Asks | Unclear | None  # None: just talk

AMBIGUOUS = Unclear("ambiguous")
UNREADABLE = Unclear("unreadable")


def keyword_form(keyword: str) -> str | None:
    """Return a keyword's one form; None when no line could be read that has it.

    A sign of the grammar in it would be taken for one, and so would a telephone number.
    """
    form = normalise(keyword)
    if not form or len(form) > KEYWORD_MAX or not any(c.isalnum() for c in form):
        return None
    if any(c in "+*=×,;、\n" for c in form) or form[0] in "-:." or form[-1] in "-:.":
        return None
    if form.isdigit() and len(form) >= PHONE_DIGITS_MIN:
        return None
    return form


# --- the pieces of a line ------------------------------------------------------------------------


class _Named(msgspec.Struct, frozen=True):
    start: int
    end: int
    word: str


def _either(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in forms(words))


_LEADS = forms(lexicon.LEADS)
_FOLLOWERS = forms((*lexicon.FOLLOWERS, *lexicon.THAI_NUMBERS))
_CONNECTED = re.compile(rf" ?(?:(?:{_either(lexicon.CONNECTORS)}) ?)?\Z")
_LINKED = re.compile(rf" ?(?:{_either(lexicon.CONNECTORS)}) ?\Z")
_CODE = re.compile(r"(?:^|[\s,;、])([^\s,;、+*=×]{1,40}) ?[+*=×] ?\d{1,4}(?!\d)")
_TIMES = re.compile(r"(?<![\w-])[^\W\d_]{1,8}\d{1,8} ?x ?\d{1,4}(?!\w)")
#: Before a sign and after a keyword: some other code, or a sign that is of something else.
_ODD = re.compile(r"(?:(?:^|[\s,;、])(?=[a-z]{1,20}\d|\d{1,20}[a-z])[a-z\d]{2,40}"
                  r"|[+*] ?[^\W\d][^+*]{0,40})\Z")  # fmt: skip
_NICE = re.compile(_either(lexicon.PLEASANTRIES))
_ALONE = re.compile(r"[\s,;、.!~。…❤👍🙏]*\Z")
_LISTED = re.compile(r"(?:(?<!\w)\d{1,16}|[^\w])/\Z")
_COUNTABLE = re.compile(rf"[\d{''.join(lexicon.HAN_DIGITS)}十]")
_RUN = re.compile(r"\d+")


class Vocabulary:
    """The keywords of one stream, and what `+1` alone means there now."""

    __slots__ = ("_begins", "_lengths", "_pinned", "_words")

    def __init__(self, words: Iterable[Word], pinned: Sequence[str] = ()) -> None:
        self._words: dict[str, list[Word]] = {}
        for word in words:
            form = keyword_form(word.keyword)
            if form is not None:
                self._words.setdefault(form, []).append(word)
        self._begins = {form[0] for form in self._words}
        self._lengths = sorted({len(form) for form in self._words}, reverse=True)
        self._pinned = list(dict.fromkeys(pinned))

    @property
    def empty(self) -> bool:
        """Tell whether no offer has a keyword."""
        return not self._words

    def read(self, text: str) -> Reading:
        """Return what a line asks for."""
        whole = normalise(text[:TEXT_MAX])
        line = whole[:TEXT_MAX]
        reading = self._read(line)
        if isinstance(reading, Asks) and (len(text) > TEXT_MAX or len(whole) > TEXT_MAX):
            return UNREADABLE  # the rest of it may say otherwise
        return reading

    def _read(self, line: str) -> Reading:
        skipped = list(phones(line))
        named = self._named(line, skipped)
        if not named and not _COUNTABLE.search(line):
            return None  # nearly all that is said
        found = list(numbers(line, [*skipped, *((name.start, name.end) for name in named)]))
        signed = any(number.sign for number in found)
        if not named:
            return self._unnamed(line, found)
        if lexicon.REFUSALS.search(line) or line.endswith("-"):
            return UNREADABLE
        if lexicon.QUESTIONS.search(line):
            return UNREADABLE if signed else None
        if any(len(self._words[name.word]) > 1 for name in named):
            return AMBIGUOUS
        if len({name.word for name in named}) > 1 and lexicon.CHOICES.search(line):
            return AMBIGUOUS
        given = _given(line, named, found)
        if isinstance(given, Unclear):
            return given
        return self._asks(line, named, found, given)

    def _named(self, line: str, skipped: Sequence[Span]) -> list[_Named]:
        """Find the keywords, from left to right, the longest at each place."""
        found: list[_Named] = []
        ends = dict(skipped)
        at, end_of_line = 0, len(line)
        while at < end_of_line:
            if at in ends:
                at = ends[at]
                continue
            for length in self._lengths if line[at] in self._begins else ():
                end = at + length
                if end <= end_of_line and line[at:end] in self._words and _stands(line, at, end):
                    found.append(_Named(at, end, line[at:end]))
                    at = end - 1
                    break
            at += 1
        return found

    def _unnamed(self, line: str, found: Sequence[Number]) -> Reading:
        """Read a line without any keyword: `+1` is the pinned offer's, `B99+1` nobody's."""
        plus = [number for number in found if _adds(line, number)]
        if plus and len(plus) == len(found):
            rest = line[: plus[0].start] + " " + line[plus[0].end :]
            if not any(c.isalnum() for c in _NICE.sub("", rest)):
                if lexicon.REFUSALS.search(line) or plus[0].value is None or len(plus) > 1:
                    return UNREADABLE
                if lexicon.QUESTIONS.search(line):
                    return UNREADABLE
                if len(self._pinned) != 1:
                    return AMBIGUOUS
                return Asks([Ask(self._pinned[0], plus[0].value)])
            return UNREADABLE
        if any(number.sign == "label" for number in found) or _TIMES.search(line):
            return UNREADABLE
        return UNREADABLE if any(map(_coded, _CODE.finditer(line))) else None

    def _asks(
        self, line: str, named: Sequence[_Named], found: Sequence[Number],
        given: dict[str, int | None],
    ) -> Reading:  # fmt: skip
        said = any(qty is not None for qty in given.values())
        kept: dict[str, int] = {}
        for form, qty in given.items():
            word = self._words[form][0]
            if word.mode == "exact" and not _alone(line, named, found):
                if qty is not None:
                    return UNREADABLE
                continue  # talked of
            kept[word.offer] = kept.get(word.offer, 0) + (1 if qty is None else qty)
        if not kept:
            return None
        partly = said and any(qty is None for qty in given.values())
        if len(kept) > 1 and partly and any(qty not in (None, 1) for qty in given.values()):
            return AMBIGUOUS  # `A1 A2 +2`: of which?
        if len(kept) > ASKS_MAX or max(kept.values()) >= 10**QTY_DIGITS_MAX:
            return UNREADABLE
        return Asks([Ask(offer, qty) for offer, qty in kept.items()])


# --- keywords ------------------------------------------------------------------------------------


def _stands(line: str, start: int, end: int) -> bool:
    """Tell whether what is between stands by itself, and is no part of a longer word."""
    first, last = line[start], line[end - 1]
    if start:
        before = line[start - 1]
        if spaced(before) and spaced(first) and not _multiplies(line, start):
            return False
        if before == "@" or (before in "-_.&'" and start > 1 and spaced(line[start - 2])):
            return False
        if before == "/" and start > 1 and not _LISTED.search(line[max(0, start - 18) : start]):
            return False  # of an address; `0912345678/A01` is a list
        if unspaced(before) and unspaced(first) and not line.endswith(_LEADS, 0, start):
            return False
        if first.isdigit() and line[start:end].isdigit() and before in "+*=×":
            return False  # that is a quantity
    if end < len(line):
        after = line[end]
        if spaced(after) and spaced(last) and not _RUN.match(line, _past_x(line, end)):
            return False
        if after in "_./&'@" and end + 1 < len(line) and spaced(line[end + 1]):
            return False
        if after == "-" and end + 1 < len(line) and line[end + 1].isalpha():
            return False
        if unspaced(after) and unspaced(last):
            return line.startswith(_FOLLOWERS, end) or counted_han(line, end) is not None
    return True


def _adds(line: str, number: Number) -> bool:
    """Tell whether a number is one that `+`, or the word for it, comes before."""
    return number.sign in ("+", "+-", "+ -") or line.startswith("加", number.start)


def _coded(found: re.Match[str]) -> bool:
    """Tell whether what a number is added to may be some keyword, and not a sum: `1+1=2`."""
    word = found[1]
    return any(c.isalpha() for c in word) or (
        len(word) > 1 and not found.string.startswith("=", found.end())
    )


def _past_x(line: str, at: int) -> int:
    """Return where a number would begin that an `x` at this place multiplies by; else the end."""
    if line[at] != "x":
        return len(line)
    return at + 2 if line.startswith(" ", at + 1) else at + 1


def _multiplies(line: str, start: int) -> bool:
    """Tell whether `2x` comes right before: the keyword is what there are two of."""
    return start > 1 and line[start - 1] == "x" and line[start - 2].isdigit()


# --- which number is whose -----------------------------------------------------------------------


def _given(
    line: str, named: Sequence[_Named], found: Sequence[Number]
) -> dict[str, int | None] | Unclear:
    """Return the quantity that is said of each keyword; None: none is said."""
    told: dict[int, list[Number]] = {n: [] for n in range(len(named))}
    loose: dict[int, list[Number]] = {n: [] for n in range(len(named))}
    first = line[found[0].end : named[0].start] if found else "far"
    leading = bool(found) and found[0].end <= named[0].start and bool(_CONNECTED.match(first))
    each: int | None = None
    for number in found:
        after = next((n for n, name in enumerate(named) if name.start >= number.end), len(named))
        gap = line[named[after - 1].end : number.start] if after else "far"
        ahead = line[number.end : named[after].start] if after < len(named) else "far"
        beside, joined = not gap.strip(" "), _CONNECTED.match(ahead) is not None
        linked = _LINKED.match(ahead) is not None
        worded = not number.sign and not line[number.start].isdigit() and not number.counted
        if line.startswith("各", number.start) or line.endswith("各", 0, number.start):
            each = number.value
            if each is None or after < len(named):
                return UNREADABLE
        elif number.sign and after:
            if not beside and _ODD.search(gap.rstrip()[-GAP_MAX:]):
                return UNREADABLE  # `A1 B99+1`: of what nobody knows; `A1+all+1`
            told[after - 1].append(number)
        elif joined and (leading or (linked and not beside)):
            told[after].append(number)
        elif leading and beside:
            return UNREADABLE  # on either side of a keyword
        elif number.counted and after:
            told[after - 1].append(number)
        elif worded and not beside:
            pass  # `A1 for my one and only`
        elif beside:
            loose[after - 1].append(number)
        elif number.sign:
            return UNREADABLE
        else:
            loose[max(after - 1, 0)] += [number, number]  # too far to be sure of
    given: dict[str, int | None] = {}
    for n, name in enumerate(named):
        mine = told[n] or loose[n]
        if len(mine) > 1:
            return AMBIGUOUS if told[n] else UNREADABLE
        if mine and mine[0].value is None:
            return UNREADABLE
        qty = mine[0].value if mine else each
        before = given.get(name.word)
        if qty is not None and before is not None:
            return AMBIGUOUS  # `A1+1 A1+2`: the one, the other or both
        given[name.word] = before if qty is None else qty
    return given


def _alone(line: str, named: Sequence[_Named], found: Sequence[Number]) -> bool:
    """Tell whether a line is nothing but keywords and their numbers."""
    at = 0
    spans = [(name.start, name.end) for name in named]
    for start, end in sorted([*spans, *((number.start, number.end) for number in found)]):
        if _ALONE.match(line[at:start]) is None:
            return False
        at = max(at, end)
    return _ALONE.match(line[at:]) is not None
