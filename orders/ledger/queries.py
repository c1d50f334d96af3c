"""Loads named SQL blocks from `.sql` files, so that SQL lives in SQL files.

A block begins with `-- name: some_name` and goes to the next such line or the end. Called once by
each module that asks the database.
"""

from __future__ import annotations

import re
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def load(package: str, file: str) -> dict[str, str]:
    """Return the blocks of `file` beside `package`, by name; raise ValueError on a double name."""
    text = (resources.files(package) / file).read_text("utf-8")
    parts = _NAME.split(text)[1:]
    blocks: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in blocks:
            raise ValueError(f"{file}: {name} is there twice")
        blocks[name] = body.strip()
    return blocks
