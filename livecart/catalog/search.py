"""What a search for products compares: every word of it is somewhere in the title or the SKU.

Owns the form in which both are compared, without the difference of case (any script's) and width:
what Postgres makes of that depends on its locale. Pure. Called by the catalog's store.
"""

from __future__ import annotations

import re
import unicodedata

_SPECIAL = re.compile(r"[\\%_]")


def form(text: str) -> str:
    """Return a text as it is compared."""
    return unicodedata.normalize("NFKC", text).casefold()


def found_by(title: str, sku: str) -> str:
    """Return what a product's row is found by."""
    return form(f"{title} {sku}")


def patterns(asked: str) -> list[str]:
    """Return a pattern of `like` for each word of a search; all must match."""
    return as_typed(form(asked))


def as_typed(asked: str) -> list[str]:
    """Return the patterns of a search in the form that it came in: of rows that have no other."""
    words = dict.fromkeys(asked.split())
    return [f"%{_SPECIAL.sub(lambda found: chr(92) + found[0], word)}%" for word in words]
