"""One form for text that people type: width, case and invisible marks make no difference.

Pure. Read by `grammar`, by its word lists, and by whoever keeps keywords unique.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

ROUNDS_MAX = 4  # of folding, until nothing changes: two do for all that is written

#: Invisible, or a mere hint of how to draw what came before; category Cf is left out by itself.
_UNSEEN = dict.fromkeys(
    (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x20E3, 0x3164, 0xFFA0, *range(0x180B, 0x1810))
) | dict.fromkeys((*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
#: Signs that NFKC leaves apart though sellers' customers do not.
_SAME = str.maketrans(
    {"➕": "+", "✕": "×", "✖": "×", "╳": "×", "−": "-", "‐": "-", "–": "-", "—": "-"}
)
#: Thai and Lao, Burmese, Khmer, kana, Han.
_UNSPACED = re.compile("[\u0e00-\u0edf\u1000-\u109f\u1780-\u17ff\u3041-\u9fff\uf900-\ufaff"
                       "\u2e80-\u2fdf\U00020000-\U0003ffff]")  # fmt: skip
#: What may be invisible, or a digit of another script: few lines have any.
_RARE = re.compile(
    "[^\\D0-9]|[\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20e3\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff9-\ufffb\U000110bd-\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+ ?")


def normalise(text: str) -> str:
    """Return NFKC, case-folded text without zero-width and bidi marks, digits ASCII, spaces single.

    Doing it twice does nothing more. A line break stays one; the ends have no spaces.
    """
    if text.isascii():
        return _tidy(text.lower())
    for _ in range(ROUNDS_MAX):
        folded = _folded(text)
        if folded == text:
            break
        text = folded
    return text


def _folded(text: str) -> str:
    kept = unicodedata.normalize("NFKC", text).casefold().translate(_SAME)
    if _RARE.search(kept):
        kept = "".join(_plain(c) for c in kept.translate(_UNSEEN))
        kept = unicodedata.normalize("NFKC", kept)
    return _tidy(kept)


def _tidy(text: str) -> str:
    return _SPACES.sub(" ", _LINES.sub("\n", text)).strip()


def _plain(c: str) -> str:
    if c.isdecimal():
        return str(unicodedata.decimal(c))
    return "" if unicodedata.category(c) == "Cf" else c


def forms(words: Iterable[str]) -> tuple[str, ...]:
    """Return words in their one form, each once, the longest first."""
    return tuple(sorted({normalise(word) for word in words}, key=len, reverse=True))


def unspaced(c: str) -> bool:
    """Tell whether a letter is of a script that writes no spaces between words."""
    return c >= "\u0e00" and _UNSPACED.match(c) is not None


def spaced(c: str) -> bool:
    """Tell whether a character goes on with a word of letters or digits."""
    return (c.isalnum() or c == "_") and not unspaced(c)
