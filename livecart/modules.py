"""ES modules as one, and scripts and styles without the lines that only people read.

Owns how modules are put together (what they import from each other and their `export` are left
out, in the order in which they would run) and which lines are left out (comments, and empty ones
beyond the first). Rewrites nothing and never touches a line with code on it: what would need that
is an error. Never knows what the code does. Called by `bundle` and, as it reads its files, by
`api.pages`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_LINK = re.compile(r'^(import|export) (?:(\w+), )?\{([^}]*)\}(?: from "([^"]+)")?;\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async |class |const |function |let )", re.MULTILINE)
_LINKED = re.compile(r"^(?:import|export)\b", re.MULTILINE)
_DECLARED = re.compile(r"^(?:async )?(?:class|const|function|let) (\w+)", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*(?://.*|/\*[^*]*(?:\*(?!/)[^*]*)*\*/[ \t]*)\n", re.MULTILINE)
_EMPTY = re.compile(r"\n{3,}")


class ModuleError(Exception):
    """The code is not of the simple form that can be put together without rewriting it."""


def bare(code: str) -> str:
    """Return a script or a style without the comments that have lines of their own."""
    found = _EMPTY.sub("\n\n", _COMMENT.sub("", code))
    if any(line.count("`") % 2 for line in found.splitlines()):
        raise ModuleError("a template of several lines may hold what looks like a comment")
    return found


def joined(sources: Mapping[str, str], entry: str, apart: frozenset[str] = frozenset()) -> str:
    """Return one module made of `entry` and what it imports, with the exports of `entry`.

    `sources` are texts without comments, by file name; addresses in `apart` stay imports.
    """
    outside: dict[str, tuple[set[str], set[str]]] = {}
    declared: dict[str, str] = {}
    exported: list[str] = []
    bodies: list[str] = []
    for module in _order(sources, entry, apart):
        for verb, default, listed, address in _LINK.findall(sources[module]):
            names = _names(module, listed)
            if address in apart:
                defaults, named = outside.setdefault(address, (set(), set()))
                defaults.update(filter(None, [default]))
                named.update(names)
            if verb == "export" and module == entry:
                exported += names
        body = _LINK.sub("", sources[module])
        inner = _EXPORT.sub("", body)
        if _LINKED.search(inner):
            raise ModuleError(f"{module} imports or exports in another way")
        for top in _DECLARED.findall(inner):
            if top in declared:
                raise ModuleError(f"{top} is declared in {declared[top]} and in {module}")
            declared[top] = module
        bodies.append((body if module == entry else inner).strip("\n"))
    for name in exported:
        if name not in declared:
            raise ModuleError(f"{name} is exported and not declared")
    if exported:
        bodies.append(f"export {{ {', '.join(exported)} }};")
    return "\n".join(f"{part}\n" for part in ["\n".join(_imports(outside)), *bodies] if part)


def _order(sources: Mapping[str, str], entry: str, apart: frozenset[str]) -> list[str]:
    """Return the modules in the order in which they run: each after what it imports."""
    found: list[str] = []
    under_way: list[str] = []

    def walk(module: str) -> None:
        if module in found:
            return
        if module in under_way:
            raise ModuleError(f"{module} imports itself, by {' and '.join(under_way)}")
        under_way.append(module)
        for _, default, _, address in _LINK.findall(sources[module]):
            if not address or address in apart:
                continue
            if default or not address.startswith("./"):
                raise ModuleError(f"{module} imports {address} in another way")
            walk(address.removeprefix("./"))
        under_way.pop()
        found.append(module)

    walk(entry)
    return found


def _names(module: str, listed: str) -> list[str]:
    names = [name.strip() for name in listed.split(",") if name.strip()]
    if any(" " in name for name in names):
        raise ModuleError(f"{module} changes a name on its way: {listed.strip()}")
    return names


def _imports(outside: Mapping[str, tuple[set[str], set[str]]]) -> Iterator[str]:
    for address, (defaults, named) in sorted(outside.items()):
        if len(defaults) > 1:
            raise ModuleError(f"the default of {address} has several names")
        parts = [*defaults, "{ " + ", ".join(sorted(named)) + " }"]
        yield f'import {", ".join(parts)} from "{address}";'
