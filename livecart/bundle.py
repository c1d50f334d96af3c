"""Puts the sources of `livecart.js` together: one ES module without imports, and its npm package.

Owns that the modules of `web/sdk/` become `web/livecart.js`, and what the package holds; `modules`
knows how. Called by hand (`python -m livecart.bundle`) and by the test that holds the files equal.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path

from livecart.modules import bare, joined
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


def bundle(sources: Mapping[str, str]) -> str:
    """Return the module made of `sources` (text by file name); ModuleError: they do not fit."""
    code = {name: bare(text) for name, text in sources.items()}
    return f"{HEAD}\n{joined(code, 'index.js')}"


def sources() -> dict[str, str]:
    """Return the text of each source by its file name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(SDK.glob("*.js"))}


def package(folder: Path) -> None:
    """Lay the npm package out in `folder`, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (MODULE, LICENSE, *(SDK / name for name in PACKAGED)):
        shutil.copyfile(path, folder / path.name)


def main() -> None:
    """Write the generated files, and the package where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m livecart.bundle", description=main.__doc__)
    parser.add_argument(
        "--package", metavar="FOLDER", type=Path, help="lay the npm package out there"
    )
    folder: Path | None = parser.parse_args().package
    for path, text in ((TYPES, declarations()), (MODULE, bundle(sources()))):
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # a server may serve it
            path.write_text(text, encoding="utf-8")
    if folder is not None:
        package(folder)


if __name__ == "__main__":
    main()
