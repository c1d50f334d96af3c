"""Puts the sources of `livecart.js` together: one ES module without imports, and its npm package.

Owns how the modules of `web/sdk/` become `web/livecart.js` (what they import from each other and
their comments are left out; nothing is rewritten), and what the package holds. Must never know what
they do. Called by hand (`python -m livecart.bundle`) and by the test that holds the files equal.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from streams.typescript import declarations

WEB = Path(__file__).parent / "web"
SDK = WEB / "sdk"
MODULE = WEB / "livecart.js"
TYPES = SDK / "protocol.d.ts"
LICENSE = Path(__file__).parent.parent / "LICENSE"
#: What the npm package is made of, beside the module and the licence.
PACKAGED = ("README.md", "livecart.d.ts", "package.json", "protocol.d.ts")

HEAD = """\
// livecart.js: the client of one stream, for browsers and Node. One ES module, no dependency.
//
// Generated from livecart/web/sdk/, where it is explained: `python -m livecart.bundle` writes it.
// SPDX-License-Identifier: Apache-2.0
"""

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w-]+)\.js";\n', re.MULTILINE)
_REEXPORT = re.compile(r'^export \{([^}]*)\} from "\./([\w-]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async |class |const |function |let )", re.MULTILINE)
_LINKED = re.compile(r"^(?:import|export)\b", re.MULTILINE)
_DECLARED = re.compile(r"^(?:export )?(?:async )?(?:class|const|function|let) (\w+)", re.MULTILINE)
_BLOCK = re.compile(r"^[ \t]*/\*.*?\*/[ \t]*\n?", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"^[ \t]*//.*\n", re.MULTILINE)
_BLANK = re.compile(r"\n{3,}")


class BundleError(Exception):
    """The sources are not of the simple form that this can put together."""


def bundle(sources: dict[str, str], entry: str = "index") -> str:
    """Return the module made of `sources` (text by name), whose exports are those of `entry`."""
    index = sources[entry]
    exported = [name for names, _ in _REEXPORT.findall(index) for name in _names(names)]
    if _bare(_REEXPORT.sub("", index)).strip():
        raise BundleError(f"{entry}.js does more than to export")
    declared: dict[str, str] = {}
    parts = [HEAD]
    for name in _order(sources, [module for _, module in _REEXPORT.findall(index)]):
        text = sources[name]
        for top in _DECLARED.findall(text):
            if top in declared:
                raise BundleError(f"{top} is declared in {declared[top]}.js and in {name}.js")
            declared[top] = name
        part = _EXPORT.sub("", _bare(_IMPORT.sub("", text))).strip("\n") + "\n"
        if _LINKED.search(part):
            raise BundleError(f"{name}.js imports or exports in a way that is not understood")
        parts.append(part)
    for name in exported:
        if name not in declared:
            raise BundleError(f"{name} is exported and not declared")
    return "\n".join([*parts, f"export {{ {', '.join(exported)} }};\n"])


def sources() -> dict[str, str]:
    """Return the text of each source by its name."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(SDK.glob("*.js"))}


def package(folder: Path) -> None:
    """Lay the npm package out in `folder`, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (MODULE, LICENSE, *(SDK / name for name in PACKAGED)):
        shutil.copyfile(path, folder / path.name)


def _names(listed: str) -> list[str]:
    names = [name.strip() for name in listed.split(",") if name.strip()]
    if any(" " in name for name in names):
        raise BundleError(f"a name is changed on its way: {listed.strip()}")
    return names


def _order(sources: dict[str, str], wanted: list[str]) -> list[str]:
    """Return the modules that are needed, each after those that it imports."""
    ordered: list[str] = []
    under_way: list[str] = []

    def visit(name: str) -> None:
        if name in ordered:
            return
        if name in under_way:
            raise BundleError(f"{name}.js imports itself, by {' and '.join(under_way)}")
        under_way.append(name)
        for names, module in _IMPORT.findall(sources[name]):
            _names(names)
            visit(module)
        under_way.pop()
        ordered.append(name)

    for name in wanted:
        visit(name)
    return ordered


def _bare(text: str) -> str:
    """Return code without the comments that have lines of their own."""
    bare = _BLANK.sub("\n\n", _LINE.sub("", _BLOCK.sub("", text)))
    if any(line.count("`") % 2 for line in bare.splitlines()):
        raise BundleError("a template of several lines may hold what looks like a comment")
    return bare


def main() -> None:
    """Write the generated files, and the package where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m livecart.bundle", description=main.__doc__)
    parser.add_argument(
        "--package", metavar="FOLDER", type=Path, help="lay the npm package out there"
    )
    folder: Path | None = parser.parse_args().package
    TYPES.write_text(declarations(), encoding="utf-8")
    MODULE.write_text(bundle(sources()), encoding="utf-8")
    if folder is not None:
        package(folder)


if __name__ == "__main__":
    main()
