"""Modules of a page as one: a phone asks once, and not once for each file.

Owns how they are put together: what they import from each other and their `export` are left out,
in the order in which they would run; nothing is rewritten. What is imported from a module that
stays apart is imported once. Never knows what they do. Called by `pages` as it reads its files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_IMPORT = re.compile(r'^import (?:(\w+), )?\{([^}]*)\} from "([^"]+)";\n', re.MULTILINE)
_AGAIN = re.compile(r"^export \{[^}]*\};\n", re.MULTILINE)  # of what was imported
_EXPORT = re.compile(r"^export (?=async |class |const |function |let )", re.MULTILINE)
_LINKED = re.compile(r"^(?:import|export)\b", re.MULTILINE)
_DECLARED = re.compile(r"^(?:async )?(?:class|const|function|let) (\w+)", re.MULTILINE)


class JoinError(Exception):
    """The modules are not of the simple form that can be put together."""


def joined(sources: Mapping[str, str], entry: str, apart: frozenset[str]) -> str:
    """Return one module made of `entry` and what it imports; addresses in `apart` stay imports."""
    bodies: list[str] = []
    outside: dict[str, tuple[set[str], set[str]]] = {}
    declared: dict[str, str] = {}
    for name in _order(sources, entry, apart):
        for default, names, address in _IMPORT.findall(sources[name]):
            if address in apart:
                defaults, named = outside.setdefault(address, (set(), set()))
                defaults.update(filter(None, [default]))
                named.update(_names(name, names))
        body = _EXPORT.sub("", _AGAIN.sub("", _IMPORT.sub("", sources[name])))
        if _LINKED.search(body):
            raise JoinError(f"{name} imports or exports in another way")
        for top in _DECLARED.findall(body):
            if top in declared:
                raise JoinError(f"{top} is declared in {declared[top]} and in {name}")
            declared[top] = name
        bodies.append(body)
    return "".join([*_imports(outside), *bodies])


def _order(sources: Mapping[str, str], entry: str, apart: frozenset[str]) -> list[str]:
    """Return the modules in the order in which they run: each after what it imports."""
    found: list[str] = []
    under_way: set[str] = set()

    def walk(name: str) -> None:
        if name in found:
            return
        if name in under_way:
            raise JoinError(f"{name} imports itself, by way of others")
        under_way.add(name)
        for default, names, address in _IMPORT.findall(sources[name]):
            if address in apart:
                continue
            if default or not address.startswith("./"):
                raise JoinError(f"{name} imports {address} in another way")
            _names(name, names)
            walk(address.removeprefix("./"))
        found.append(name)

    walk(entry)
    return found


def _names(module: str, names: str) -> list[str]:
    found = [name.strip() for name in names.split(",") if name.strip()]
    if any(" " in name for name in found):
        raise JoinError(f"{module} imports under another name: {names}")
    return found


def _imports(outside: Mapping[str, tuple[set[str], set[str]]]) -> Iterator[str]:
    for address, (defaults, named) in sorted(outside.items()):
        if len(defaults) > 1:
            raise JoinError(f"the default of {address} has several names")
        parts = [*defaults, "{ " + ", ".join(sorted(named)) + " }"]
        yield f'import {", ".join(parts)} from "{address}";\n'
