"""make, as somebody runs it who has prepared everything: what it would install is there already.

Owns the variables that say so: the environment of this test stands for `.venv/`, and its stamps are
files of the test's own, so that make believes them and installs nothing. Knows no page. Called by
the tests of this folder.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT
from tests.integration import up_rig
from tests.integration.up_rig import Up

_STAMPS = ("STAMP", "DEV_STAMP", "LOAD_STAMP")  # in the order in which make would make them
#: Of a make or a pytest that this test runs in, and what `make` takes from the environment.
_OF_OTHERS = re.compile(r"MAKE|MFLAGS|PYTEST_|(?:ARGS|SEEDS?|SECONDS|DEPTH|PROOF_\w+)$")


def environment(folder: Path) -> dict[str, str]:
    """Return our environment with the variables that have make believe; writes into `folder`."""
    kept = {k: v for k, v in up_rig.environment().items() if not _OF_OTHERS.match(k)}
    # Relative where it can be: a path with a space would be two words to make.
    given = {"BIN": Path(os.path.relpath(sys.prefix, ROOT)) / "bin"}
    for name in _STAMPS:
        given[name] = folder / name.lower()
        given[name].write_text(os.path.realpath(ROOT) if name == "STAMP" else "", "utf-8")
    flags = " ".join(f"{name}={value}" for name, value in given.items())
    return kept | {"MAKEFLAGS": flags, "MAKELEVEL": "0", "CHECKOUT": str(ROOT)}


def dry(words: list[str], environ: dict[str, str]) -> str:
    """Return the lines that `make` with these words would run; LookupError when it refuses."""
    done = subprocess.run(
        [_make(), "-n", *words],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise LookupError(f"make {shlex.join(words)}: {done.stderr}")
    return re.sub(r"\\\n\s*", " ", done.stdout)


class MadeUp(Up):
    """A server that `make up` started; its options come by the environment, as ARGS."""

    command = "make up"

    def __init__(self, data_dir: Path, environ: dict[str, str]) -> None:
        options = shlex.join(["--json", "--port", "0", "--data-dir", str(data_dir)])
        super().__init__(
            data_dir,
            argv=[_make(), *self.command.split()[1:]],
            variables=environ | {"ARGS": options},
        )


def _make() -> str:
    found = shutil.which("make")
    assert found is not None, "make is not there"
    return found
