"""The planted bugs: what each is, and how it is put into a copy of the project.

A patch is a unified diff under `patches/`, with its bug in the first line. Hunks are found by their
text, which must occur exactly once, so that a patch either plants just what it says or fails.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "patches"

_HUNK = re.compile(r"^@@ [^\n]*\n(?P<body>(?:[ +\-\\][^\n]*\n|\n)+)", re.MULTILINE)
_FILE = re.compile(r"^--- a/[^\n]*\n\+\+\+ b/(?P<path>[^\n]+)\n", re.MULTILINE)


class DoesNotApply(Exception):
    """The code that a patch is about is not there, or is there twice."""


class Mutation(NamedTuple):
    """One planted bug."""

    name: str
    bug: str
    patch: str

    def plant(self, root: Path) -> None:
        """Put the bug into the files below `root`; raise `DoesNotApply` and change nothing."""
        changed: dict[Path, str] = {}
        files = list(_FILE.finditer(self.patch))
        for n, found in enumerate(files):
            end = files[n + 1].start() if n + 1 < len(files) else len(self.patch)
            path = root / found["path"]
            text = changed.get(path) or path.read_text()
            for hunk in _HUNK.finditer(self.patch, found.end(), end):
                old, new = _sides(hunk["body"])
                times = text.count(old)
                if times != 1:
                    raise DoesNotApply(f"{self.name}: {found['path']} has it {times} times")
                text = text.replace(old, new)
            changed[path] = text
        if not changed:
            raise DoesNotApply(f"{self.name}: no diff")
        for path, text in changed.items():
            path.write_text(text)


def _sides(body: str) -> tuple[str, str]:
    """Return the text before and after a hunk."""
    lines = [line or " " for line in body.split("\n")[:-1]]
    old = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
    new = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
    return old, new


def mutations() -> list[Mutation]:
    """Return all planted bugs, by name."""
    found = []
    for path in sorted(FOLDER.glob("*.patch")):
        patch = path.read_text()
        found.append(Mutation(path.stem, patch.partition("\n")[0], patch))
    return found
