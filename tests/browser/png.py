"""A small PNG of a screenshot: 256 colours at most, compressed as well as zlib can.

The colours are chosen by the browser that took it (`palette.js`), which has the pixels at hand.
Used by `screenshots`.
"""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

from playwright.async_api import Page

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHOOSE = Path(__file__).with_name("palette.js")
INDEXED = 3  # PNG's colour type of pictures with a palette
NO_FILTER = b"\x00"  # of a row; the others predict amounts, which indices are not


async def small(blank: Page, png: bytes) -> bytes:
    """Return the picture with a palette; `blank` is any page, to compute in."""
    found = await blank.evaluate(CHOOSE.read_text("utf-8"), base64.b64encode(png).decode())
    width, height = found["width"], found["height"]
    indices = base64.b64decode(found["indices"])
    rows = [indices[at : at + width] for at in range(0, len(indices), width)]
    head = struct.pack(">IIBBBBB", width, height, 8, INDEXED, 0, 0, 0)
    data = b"".join(NO_FILTER + row for row in rows)
    return SIGNATURE + b"".join(
        (
            _chunk(b"IHDR", head),
            _chunk(b"PLTE", base64.b64decode(found["palette"])),
            _chunk(b"IDAT", zlib.compress(data, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
