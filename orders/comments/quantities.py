"""The numbers in a comment, and which of them may be quantities.

Pure. Owns how a quantity is written (`+2`, `x2`, `兩件`, `2 cái`, `สองตัว`) and what is none:
telephone numbers, prices, sizes, parts of words. Must never know a keyword. Called by `grammar`,
with a line that is normalised; time is linear in it, since every pattern is tried at one place and
repeats only a bounded set of characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from orders.comments import lexicon
from orders.comments.normal import forms, normalise, spaced, unspaced

QTY_DIGITS_MAX = 4
PHONE_DIGITS_MIN = 7  # in one run; a number in groups needs one more
PHONE_DIGITS_MAX = 15  # E.164
LOCAL_DIGITS_MAX = 9  # past this no more groups are taken: what follows is something else
BEFORE_MAX = 24  # characters before a number that say what it is

Span = tuple[int, int]


class Number(msgspec.Struct, frozen=True):
    """A number, and what was written around it."""

    start: int  # of its sign, where it has one
    end: int  # past its counter, where it has one
    value: int | None  # None: one that no order has: 0, negative, too long
    sign: str  # `+`, `x`, `=`…, "label"; "": none
    counted: bool  # a counter follows


def _either(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in forms(words))


_THAI = {normalise(word): n for word, n in lexicon.THAI_NUMBERS.items()}
_WORDS = {normalise(word): n for word, n in lexicon.WORD_NUMBERS.items()}
_HAN = "".join(lexicon.HAN_DIGITS) + "十"

_COUNTER = re.compile(rf" ?(?:{_either(lexicon.MEASURES_UNSPACED)})"
                      rf"| ?(?:{_either(lexicon.MEASURES_SPACED)})(?!\w)")  # fmt: skip
_CURRENCY = re.compile(rf" ?(?:(?:{_either(lexicon.CURRENCIES)})(?!\w)|[元塊块圓円])")
_SIZE = re.compile(rf"(?:{_either(lexicon.SIZES)})(?![^\W\d_])")
_PRICE_MARK = re.compile(r"(?:[$¥฿₫€£]|\bnt)[ .]?\Z")
_SIGN = re.compile(r"(?:[+*×=:]{1,3} ?-?|(?<![^\W_])x ?|-)\Z")
_LABEL = re.compile(rf"(?:{_either(lexicon.LABELS)})[ :=]{{0,2}}\Z")
_LETTERS = re.compile(r"[^\W\d_]{1,12}")
_GROUP = re.compile(r"(?:\) ?|[ .-])(\d+)")  # one more of a telephone number
_JOINED = re.compile(r"-\d{3,4}(?:-\d{3,4})?(?![\w-])|[ .-]\d{3}[ .-]\d{3,4}(?![\w-])")
_RUN = re.compile(r"\d+")


def phones(line: str) -> Iterator[tuple[int, int]]:
    """Find telephone numbers: long runs of digits, or groups of them that begin as such do."""
    at = 0
    while (first := _RUN.search(line, at)) is not None:
        start = first.start()
        while start and line[start - 1] in "+(" and start > first.start() - 2:
            start -= 1
        at = first.end()
        if first.start() and spaced(line[first.start() - 1]):
            continue
        end = _phone_end(line, start, first)
        if end is not None:
            yield start, end
            at = end


def _phone_end(line: str, start: int, first: re.Match[str]) -> int | None:
    """Return where the telephone number ends that begins here, None when there is none."""
    code, run = first[0], len(first[0])
    end, digits = first.end(), run
    abroad = line[start] == "+"
    if run < PHONE_DIGITS_MIN and abroad and code not in lexicon.COUNTRY_CODES:
        return None  # a quantity, whatever follows
    if run < PHONE_DIGITS_MIN and not abroad and code[0] != "0" and line[start] != "(":
        # `2345-6789` and `612 345 678` are some as well; else it might be a quantity and more
        joined = _JOINED.match(line, end)
        whole = run + sum(c.isdigit() for c in joined[0]) if joined else 0
        return joined.end() if joined and run > 2 and whole > PHONE_DIGITS_MIN else None
    if run < PHONE_DIGITS_MIN or line[end : end + 1] in ("-", "."):
        enough = PHONE_DIGITS_MAX if abroad else LOCAL_DIGITS_MAX
        while digits < enough and (more := _GROUP.match(line, end)):
            longest = 10 if abroad and digits == run else 4 if abroad else 8
            if not 2 <= len(more[1]) <= longest:
                break
            end, digits = more.end(), digits + len(more[1])
    if code == "1" and abroad and digits != 11:
        return None  # `+1 612345678`: one, and a number of this country
    return None if digits < PHONE_DIGITS_MIN + (digits > run) else end


def numbers(line: str, taken: Iterable[Span]) -> Iterator[Number]:
    """Find what may be a quantity, outside of what is taken by telephone numbers and keywords."""
    at = 0
    for start, end in [*sorted(taken), (len(line), len(line))]:
        yield from _numbers_between(line, at, start)
        at = end


def _numbers_between(line: str, start: int, end: int) -> Iterator[Number]:
    at = start
    while at < end:
        c = line[at]
        if c.isdigit():
            run = _RUN.match(line, at, end)
            assert run is not None
            number = _in_digits(line, start, run, end)
            at = run.end()
        elif c in _HAN:
            number = _in_han(line, start, at)
            at += 1
        elif unspaced(c):
            number = _in_thai(line, at, end)
            at += 1
        elif letters := _LETTERS.match(line, at, end):
            number = _in_letters(line, start, letters)
            at = letters.end()
        else:
            number = None
            at += 1
        if number is not None:
            yield number
            at = max(at, number.end)


def _in_digits(line: str, since: int, run: re.Match[str], until: int) -> Number | None:
    """Return the number that a run of digits is; None for a price, a size, a part of a word.

    `since`, `until`: between which nothing else was found yet.
    """
    before = line[max(since, run.start() - BEFORE_MAX) : run.start()]
    sign, start = _signed(before, run.start())
    end = run.end()
    counter = _COUNTER.match(line, end)
    joined = line[run.end() : min(run.end() + 2, until)]
    fraction = len(joined) == 2 and joined[0] in ".,:/" and joined[1].isdigit()
    inside = before != "" and (
        spaced(before[-1]) or (before[-1] in ".,:/" and before[-2:-1].isdigit())
    )
    if not sign and (fraction or inside):
        return None
    priced, odd = False, False
    if counter is not None:
        end = counter.end()
    else:
        priced = bool(_CURRENCY.match(line, end) or _PRICE_MARK.search(before))
        odd = end < until and spaced(line[end]) and not _times(line, end, until)
        if not sign and (priced or (odd and _SIZE.match(line, end))):
            return None  # `100ml`
    # What it is of nobody knows, where letters follow: `+1A02`, `2hh`.
    digits, doubtful = run[0], "-" in sign or fraction or priced or odd
    good = len(digits) <= QTY_DIGITS_MAX and int(digits) > 0 and not doubtful
    return Number(start, end, int(digits) if good else None, sign, counter is not None)


def _times(line: str, at: int, until: int) -> bool:
    """Tell whether an `x` here says how many: `2x` does, `2xl` does not."""
    return line[at] == "x" and not (at + 1 < until and spaced(line[at + 1]))


def _signed(before: str, at: int) -> tuple[str, int]:
    """Return the sign, or label, right before a number, and where the number begins with it."""
    if found := _SIGN.search(before):
        return found[0].strip() or "x", at - len(found[0])
    if found := _LABEL.search(before):
        return "label", at - len(found[0])
    return "", at


def counted_han(line: str, at: int) -> tuple[int, int] | None:
    """Return (value, end) of a Han number with its counter; None when there is none."""
    end = at
    while end < len(line) and end - at < 3 and line[end] in _HAN:
        end += 1
    value = _han_value(line[at:end])
    counter = _COUNTER.match(line, end)
    return None if value is None or counter is None else (value, counter.end())


def _han_value(han: str) -> int | None:
    tens, ten, ones = han.rpartition("十")
    digits = lexicon.HAN_DIGITS
    if len(tens) > 1 or len(ones) > 1 or not han or "十" in tens:
        return None
    high = (digits[tens] if tens else 1) * 10 if ten else 0
    return high + (digits[ones] if ones else 0)


def _in_han(line: str, since: int, at: int) -> Number | None:
    sign, start = _signed(line[max(since, at - BEFORE_MAX) : at], at)
    if (counted := counted_han(line, at)) is not None:
        return Number(start, counted[1], counted[0], sign, True)
    end = at
    while end < len(line) and end - at < 3 and line[end] in _HAN:
        end += 1
    value = _han_value(line[at:end])
    beside = since > 0 and not line[since:at].strip(" ")  # `A01二`
    if value is None or not (sign or beside) or (end < len(line) and unspaced(line[end])):
        return None
    return Number(start, end, value, sign, False)


def _in_thai(line: str, at: int, until: int) -> Number | None:
    for word, value in _THAI.items():
        end = at + len(word)
        if end <= until and line.startswith(word, at):
            counter = _COUNTER.match(line, end)
            if counter is not None:
                return Number(at, counter.end(), value, "", True)
            if end == len(line) or line[end] in " ,\n":
                return Number(at, end, value, "", False)
    return None


def _in_letters(line: str, since: int, letters: re.Match[str]) -> Number | None:
    """Return the number that a word is, where it is beside a keyword or has a counter."""
    value = _WORDS.get(letters[0])
    if value is None or (letters.start() and spaced(line[letters.start() - 1])):
        return None
    counter = _COUNTER.match(line, letters.end())
    end = letters.end() if counter is None else counter.end()
    return Number(letters.start(), end, value, "", counter is not None)
