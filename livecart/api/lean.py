"""Scripts and styles as they are sent: without the lines that only people read.

Owns what may be left out: whole lines that are comments, and empty ones. Never touches a line with
code on it, so that line-wise is enough; that no string spans lines is held by a test of the pages.
Called by `pages`, once a file.
"""

from __future__ import annotations

from collections.abc import Iterator

KINDS = (b"text/javascript", b"text/css")


def lean(kind: bytes, content: bytes) -> bytes:
    """Return what to send of a file of that Content-Type; neither script nor style: all of it."""
    if not kind.startswith(KINDS):
        return content
    return b"".join(_kept(content.splitlines(keepends=True)))


def _kept(lines: list[bytes]) -> Iterator[bytes]:
    within = False  # a comment of several lines
    for line in lines:
        text = line.strip()
        if within:
            within = not text.endswith(b"*/")
        elif text.startswith(b"/*") and b"*/" not in text:
            within = True
        elif text and not text.startswith(b"//") and not _is_one_comment(text):
            yield line


def _is_one_comment(text: bytes) -> bool:
    return text.startswith(b"/*") and text.index(b"*/") == len(text) - 2
