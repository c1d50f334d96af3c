"""The files that make the schema, and what each of them says about how it must be applied.

Owns the reading of `migrations/`, `functions/` and `options/` (what nobody need have); knows no
database. Called by `migrate`, which applies them, and by `drift`, which compares a database with
what they make.

A migration may say in its first lines of comment:

    -- phase: post         after the roll-out: the release before must not be running any more.
                           Without it: pre, which only adds, and harms no release that runs.
    -- transaction: none   no transaction around the file. It is a row of steps then, each of one
                           statement, and each applied, noted and gone on after by itself.
    -- functions: anew     it drops functions, or what they are made of: all are made again in its
                           transaction.

A step begins with `-- step: WORDS` or `-- batches: WORDS`. The latter is repeated, each time in a
transaction of its own: its `$1` is the text that it went up to (empty at first), and its row is
(up to where it is now, how many rows that were); null ends it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from importlib import resources

_DECLARED = re.compile(r"^-- (phase|transaction|functions): *(\S+) *$")
_STEP = re.compile(r"^-- (step|batches): *(\S.*)$", re.MULTILINE)
_INDEX = re.compile(
    r"create\s+(?:unique\s+)?index\s+concurrently\s+(if\s+not\s+exists\s+)?(\w+)", re.IGNORECASE
)


class SchemaError(Exception):
    """The database is not one that this release can bring forward, or a file cannot be applied."""


class Phase(StrEnum):
    """When a file is applied: before the roll-out of its release, or after."""

    PRE = "pre"
    POST = "post"


@dataclass(frozen=True)
class Step:
    """One statement of a file without a transaction."""

    words: str
    text: str
    batches: bool

    @property
    def concurrent(self) -> bool:
        """Tell whether it waits for others without anybody's queueing behind it."""
        return re.search(r"\bconcurrently\b", self.text, re.IGNORECASE) is not None

    @property
    def builds(self) -> str | None:
        """Return the name of the index that it builds concurrently."""
        found = _INDEX.search(self.text)
        return found[2] if found else None


@dataclass(frozen=True)
class SchemaFile:
    """A file by its name, as `migrations/0001_tables.sql`."""

    name: str
    text: str

    @cached_property
    def digest(self) -> str:
        """What is kept of it once it is applied."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def once(self) -> bool:
        """Tell a migration, which runs once, from functions, which are replaced by newer text."""
        return not self.name.startswith("functions/")

    @cached_property
    def _declared(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in self.text.splitlines():
            if not line.startswith("--"):
                break
            if match := _DECLARED.match(line):
                found[match[1]] = match[2]
        return found

    @property
    def phase(self) -> Phase:
        """Return what it declares; raises SchemaError at a word that is no phase."""
        word = self._declared.get("phase", "pre")
        if word not in ("pre", "post"):
            raise SchemaError(f"{self.name}: {word!a} is no phase: pre or post")
        return Phase(word)

    @property
    def whole(self) -> bool:
        """Tell whether it is applied in one transaction; raises SchemaError as `phase` does."""
        word = self._declared.get("transaction", "file")
        if word not in ("file", "none"):
            raise SchemaError(f"{self.name}: {word!a} is no transaction: file or none")
        return word == "file"

    @property
    def anew(self) -> bool:
        """Tell whether all functions are made again with it; raises SchemaError as `phase` does."""
        word = self._declared.get("functions", "anew")
        if word != "anew":
            raise SchemaError(f"{self.name}: {word!a} is not said of functions, but anew")
        return "functions" in self._declared

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Return the steps of a file without a transaction; raises SchemaError at none."""
        parts = _STEP.split(self.text)[1:]
        steps = tuple(
            Step(words.strip(), text.strip(), kind == "batches")
            for kind, words, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        )
        if not steps:
            raise SchemaError(f"{self.name}: without a transaction, it needs `-- step:` lines")
        for step in steps:
            found = _INDEX.search(step.text)
            if found and not found[1]:  # else it could not be gone on with after a crash
                raise SchemaError(f"{self.name}: {found[2]} lacks `if not exists`")
        return steps


def read(folder: str) -> list[SchemaFile]:
    """Return the files of `migrations`, `functions` or `options`, in order."""
    return sorted(
        (
            SchemaFile(f"{folder}/{entry.name}", entry.read_text("utf-8"))
            for entry in (resources.files("orders.ledger") / folder).iterdir()
            if entry.name.endswith(".sql")
        ),
        key=lambda file: file.name,
    )


def read_all(options: bool = False) -> list[SchemaFile]:
    """Return all files: migrations in order, what nobody need have if asked for, then functions."""
    return [*read("migrations"), *(read("options") if options else ()), *read("functions")]


def runs(files: Sequence[SchemaFile]) -> list[list[SchemaFile]]:
    """Split files into runs that share a transaction, and those of steps, each alone."""
    found: list[list[SchemaFile]] = []
    for file in files:
        if found and file.whole and found[-1][-1].whole and file.phase is found[-1][-1].phase:
            found[-1].append(file)
        else:
            found.append([file])
    return found
