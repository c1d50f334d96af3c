"""The languages of the pages: which there are, and which one a visitor is given.

Owns the matching of `Accept-Language` (RFC 9110) to the files of `livecart/web/words/`. Pure;
called by `pages`.
"""

from __future__ import annotations

from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie

import msgspec

DEFAULT = "en"
COOKIE = "livecart_language"  # what a visitor chose on a page; of no other use
RANGES_MAX = 20  # of one Accept-Language
HEADER_BYTES_MAX = 8_192  # what is looked at of one: nobody's languages take more
TAG_CHARS_MAX = 100
PARTS_MAX = 8  # of a tag, which RFC 5646 sets no bound to


class Language(msgspec.Struct, frozen=True):
    """One file of words: its tag, its own name, and the tags that it serves (BCP 47)."""

    language: str
    name: str
    serves: tuple[str, ...]


def languages(files: Iterable[bytes]) -> tuple[Language, ...]:
    """Return what the files say of themselves."""
    return tuple(msgspec.json.decode(content, type=Language) for content in files)


def choose(known: tuple[Language, ...], accepted: bytes, cookies: bytes = b"") -> str:
    """Return the language for an `Accept-Language`; what was chosen by cookie goes before it."""
    accepted, cookies = accepted[:HEADER_BYTES_MAX], cookies[:HEADER_BYTES_MAX]
    for tag in [*_chosen(cookies), *_by_weight(accepted.decode("latin-1"))]:
        found = _serving(known, tag.lower())
        if found is not None:
            return found
    return DEFAULT


def _chosen(cookies: bytes) -> list[str]:
    try:
        found = SimpleCookie(cookies.decode("latin-1")).get(COOKIE)
    except CookieError:  # somebody else's, unreadable
        return []
    return [] if found is None else [found.value]


def _by_weight(accepted: str) -> list[str]:
    ranges: list[tuple[float, str]] = []
    for part in accepted.split(",")[:RANGES_MAX]:
        tag, _, weight = part.strip().partition(";")
        try:
            q = float(weight.strip().removeprefix("q=")) if weight else 1.0
        except ValueError:
            q = 0.0
        if tag and q > 0:
            ranges.append((-q, tag.strip()))
    return [tag for _, tag in sorted(ranges, key=lambda one: one[0])]


def _serving(known: tuple[Language, ...], tag: str) -> str | None:
    """Return the language that serves the longest beginning of a tag."""
    parts = tag[:TAG_CHARS_MAX].split("-")[:PARTS_MAX]
    while parts:
        for language in known:
            if "-".join(parts) in [served.lower() for served in language.serves]:
                return language.language
        parts.pop()
    return None
