"""The languages of pages: what a visitor sends costs little, however long it is."""

from __future__ import annotations

from collections.abc import Iterator

from livecart.api.words import COOKIE, PARTS_MAX, Language, choose


class Counted(tuple[Language, ...]):
    """Languages that count how often they are gone through."""

    looked = 0

    def __iter__(self) -> Iterator[Language]:
        """Go through them once more."""
        type(self).looked += 1
        return super().__iter__()


def test_a_long_tag_costs_no_more_than_a_short_one() -> None:
    """200 KB of dashes, in the header or the cookie, are looked at as far as languages go."""
    known = Counted([Language("en", "English", ("en",)), Language("x", "X", ("x-y",))])
    long = b"a-" * 100_000
    for accepted, cookies in ((long, b""), (b"", COOKIE.encode() + b"=" + long), (long, long)):
        Counted.looked = 0
        assert choose(known, accepted, cookies) == "en"
        assert Counted.looked <= PARTS_MAX
    assert choose(known, b"X-y-" + long) == "x"
