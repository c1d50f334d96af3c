"""What is written in README and docs/, as text: code blocks, code spans, headings and links.

Owns the reading of our own Markdown, as far as we use it. Knows no server and runs nothing. Called
by the tests of this folder, and by who makes `docs/settings.md`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
READMES = (ROOT / "README.md", ROOT / "README.zh-Hant.md")
PAGES = (*READMES, *sorted(DOCS.rglob("*.md")))

_FENCE = re.compile(
    r'^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w-]*)(?: title="(?P<title>[^"]*)")?$'
)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"!?\[(?:[^\]`]|`[^`]*`)*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `line` is that of its fence, from 1."""

    page: Path
    line: int
    language: str
    title: str | None
    text: str

    @property
    def where(self) -> str:
        """Where it is, for a person."""
        return f"{name(self.page)}:{self.line}"


def name(page: Path) -> str:
    """Return a page's path as we write it."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order; raise `ValueError` for one without an end."""
    return _split(page)[0]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks, line for line."""
    return _split(page)[1]


def _split(page: Path) -> tuple[list[Block], str]:
    found: list[Block] = []
    outside: list[str] = []
    begun: tuple[int, re.Match[str]] | None = None
    inside: list[str] = []
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if begun is not None and line.strip() == begun[1]["ticks"]:
            at, fence = begun
            text = "".join(f"{each}\n" for each in inside)
            found.append(Block(page, at, fence["language"], fence["title"], text))
            begun, inside = None, []
        elif begun is not None:
            inside.append(line.removeprefix(begun[1]["indent"]))
        elif line.lstrip().startswith("```"):
            opening = _FENCE.match(line)
            if opening is None:
                raise ValueError(f"{name(page)}:{number}: not a fence of ours: {line}")
            begun = (number, opening)
        outside.append("" if begun is not None or line.lstrip().startswith("```") else line)
    if begun is not None:
        raise ValueError(f"{name(page)}:{begun[0]}: the block has no end")
    return found, "\n".join(outside)


def spans(text: str) -> list[str]:
    """Return the code spans of prose, on one line each."""
    return [" ".join(inner.split()) for _, inner in _SPAN.findall(text)]


def links(page: Path) -> list[str]:
    """Return where the links and images of a page lead."""
    text = _SPAN.sub(lambda span: "`" * len(span[0]), prose(page))
    return _LINK.findall(text)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and our site both make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        number = 0
        while (one := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(one)
    return found


def section(page: Path, heading: str) -> str:
    """Return the prose under a heading, up to the next of its level or above; KeyError."""
    lines = prose(page).splitlines()
    depth = len(heading) - len(heading.lstrip("#"))
    if heading not in lines:
        raise KeyError(f"{name(page)} has no heading {heading!r}")
    kept: list[str] = []
    for line in lines[lines.index(heading) + 1 :]:
        above = re.match(r"(#+) ", line)
        if above is not None and len(above[1]) <= depth:
            break
        kept.append(line)
    return "\n".join(kept)


def table(text: str) -> list[list[str]]:
    """Return the cells of every table row in a text, headings and rules left out."""
    rows: list[list[str]] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("|") or re.fullmatch(r"[|\s:-]+", line):
            continue
        if number + 1 < len(lines) and re.fullmatch(r"\|[\s:-]+\|[|\s:-]*", lines[number + 1]):
            continue
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])])
    return rows
