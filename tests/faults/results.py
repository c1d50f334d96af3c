"""What seeded runs came to: kept in a file, counted, and written down where people look.

Owns the file under `.livecart-faults/` (one line of JSON a run, appended, never rewritten), which
code its lines were made with, and the table. Knows no server. Called by `seeded` and `soak`.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.faults.plan import KINDS
from tests.faults.verdict import Result

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".livecart-faults"
DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
_CODE = ("livecart", "orders", "streams", "loadtest", "tests/faults")
_SUFFIXES = (".py", ".lua", ".sql")


class Line(msgspec.Struct):
    """One run, and the code that it was made with."""

    code: str
    commit: str
    result: msgspec.Raw  # read only where the code is ours: others' may have other fields


def code_of(root: Path = ROOT) -> str:
    """A digest of every file that decides a run: results of other code are not carried over."""
    digest = hashlib.sha256()
    for folder in _CODE:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in _SUFFIXES:
                digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def commit_of(root: Path = ROOT) -> str:
    """The commit that is checked out; a `+` behind it says that files differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    head = git("rev-parse", "--short=10", "HEAD") or "unknown"
    return head + ("+" if git("status", "--porcelain", "--", *_CODE) else "")


class Book:
    """The results so far, of this code."""

    def __init__(self, path: Path, code: str, commit: str) -> None:
        self.path = path
        self.code = code
        self.commit = commit
        self.results: dict[int, Result] = {}  # the last of each seed
        decoder = msgspec.json.Decoder(Line)
        if path.exists():
            for text in path.read_bytes().splitlines():
                line = decoder.decode(text)
                if line.code == code:
                    result = msgspec.json.decode(line.result, type=Result)
                    self.results[result.seed] = result

    def done(self, seed: int) -> bool:
        """Tell whether a seed has a result that stands."""
        found = self.results.get(seed)
        return found is not None and found.verdict != "not counted"

    def add(self, result: Result) -> None:
        """Keep a result."""
        self.results[result.seed] = result
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("ab") as file:
            kept = msgspec.Raw(msgspec.json.encode(result))
            file.write(msgspec.json.encode(Line(self.code, self.commit, kept)) + b"\n")


@dataclass(slots=True)
class Row:
    """One kind of fault in the table."""

    kind: str
    seeds: int = 0
    fired: int = 0  # faults that a log shows, those beside the seed's own too
    buys: int = 0
    orders: int = 0
    in_flight: int = 0  # the fewest, when the seed's own fault struck
    uncounted: int = 0  # plays that proved nothing, and were followed by another
    verdicts: Counter[str] = field(default_factory=Counter)


def rows_of(results: Iterable[Result]) -> list[Row]:
    """Count by the seed's own kind of fault."""
    rows = {kind: Row(kind) for kind in KINDS}
    for result in results:
        row = rows.setdefault(result.kind, Row(result.kind))
        row.seeds += 1
        row.buys += result.buys
        row.orders += result.orders
        row.uncounted += len(result.uncounted)
        row.verdicts[result.verdict] += 1
        row.fired += sum(1 for struck in result.struck if struck.evidence)
        if result.verdict != "not counted":
            crowd = max((s.in_flight for s in result.struck if s.kind == result.kind), default=0)
            row.in_flight = min(row.in_flight or crowd, crowd)
    return [row for row in rows.values() if row.seeds]


def table(results: Sequence[Result]) -> str:
    """The summary as Markdown, which a terminal shows well enough."""
    lines = [
        "| fault | seeds | fired | buys | orders | in flight, fewest | played again | verdict |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    rows = rows_of(results)
    for row in rows:
        words = ", ".join(f"{n} {word}" for word, n in sorted(row.verdicts.items()))
        lines.append(
            f"| {row.kind} | {row.seeds} | {row.fired} | {row.buys:,} | {row.orders:,}"
            f" | {row.in_flight:,} | {row.uncounted} | {words} |"
        )
    total: Counter[str] = Counter()
    for row in rows:
        total += row.verdicts
    words = ", ".join(f"{n} {word}" for word, n in sorted(total.items()))
    lines.append(
        f"| **all** | {sum(row.seeds for row in rows)} | {sum(row.fired for row in rows)}"
        f" | {sum(row.buys for row in rows):,} | {sum(row.orders for row in rows):,} |"
        f" | {sum(row.uncounted for row in rows)} | {words} |"
    )
    return "\n".join(lines)


def write_down(text: str, begin: str = BEGIN, end: str = END, document: Path = DOCUMENT) -> None:
    """Put a text between its two marks in the document; ValueError when they are not there."""
    whole = document.read_text("utf-8")
    before, found, rest = whole.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{document} has no {begin} … {end}")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")
