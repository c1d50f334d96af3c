"""Where a command leads, and whether a test leads there too.

Owns the following of a command that is not run: through make's own dry run, or from the command
line's function to what that imports; and the reading of a test's source. Runs nothing but
`make -n`. Called by the tests of this folder.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
from functools import cache
from pathlib import Path

import typer

from tests.docs import making
from tests.docs.commands import APPS, bare
from tests.docs.pages import ROOT


def leads_to(command: str, environ: dict[str, str]) -> set[str]:
    """Return the commands, modules and files that a command leads to; LookupError."""
    found: set[str] = set()
    words = shlex.split(bare(command).replace("\\\n", " "))
    if words[:1] == ["make"]:
        lines = making.dry(words[1:], environ).splitlines()
        lines = [line for line in lines if not line.startswith("make: ")]  # nothing to be done
        found |= {shlex.join(words)} if lines else set()
        for line in lines:
            found |= _of_line(shlex.split(line))
    else:
        found |= _of_line(words)
    return found


def _of_line(words: list[str]) -> set[str]:
    while words and (re.fullmatch(r"\w+=.*", words[0]) or words[0] == "exec"):
        words = words[1:]
    if not words:
        return set()
    program = words[0].rpartition("/")[2]
    if program in APPS and len(words) > 1:
        return {shlex.join([program, words[1]]), *_of_app(program, words[1])}
    if words[1:2] == ["-m"]:
        named = [word for word in words if word.startswith("tests/")]
        return {words[2], *named}
    if words[:2] == ["docker", "compose"]:
        return {"docker-compose.yml"}
    return {program, *(word for word in words if (ROOT / word).is_file())}


def _of_app(program: str, command: str) -> set[str]:
    """The module that has a command's function, and what that imports, also when it is called."""
    found = getattr(typer.main.get_command(APPS[program]), "commands", {}).get(command)
    if found is None or found.callback is None:
        raise LookupError(f"{program} has no command {command!r}")
    name = found.callback.__module__
    file = sys.modules[name].__file__
    assert file is not None
    return {name, *imports(Path(file))}


@cache
def imports(file: Path) -> frozenset[str]:
    """Return the modules that a file imports, anywhere; of `from a import b`, `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return frozenset(found)


def has(test: str, entry: str) -> bool:
    """Tell whether a test imports a module or names a file or command, itself or by its rig."""
    path = ROOT / test
    if not path.is_file() or entry == test:
        return path.is_file()
    if path.suffix != ".py":
        program, *words = entry.split()
        lines = [line.split() for line in path.read_text("utf-8").splitlines()]
        return any(line[:1] == [program] and set(words) <= set(line) for line in lines)
    files = [path, *(rig for name in imports(path) if (rig := _rig(name)) is not None)]
    if any(entry in imports(file) for file in files):
        return True
    return any(re.search(rf"[\"'/]{re.escape(entry)}[\"']", f.read_text("utf-8")) for f in files)


def _rig(module: str) -> Path | None:
    """The file of what tests share, without being tests themselves."""
    path = (ROOT / module.replace(".", "/")).with_suffix(".py")
    ours = module.startswith("tests.") and not path.name.startswith("test_")
    return path if ours and path.is_file() else None
