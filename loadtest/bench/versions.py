"""Versions of what a comparison ran on, beyond what every result says of its machine.

Owns our own commit and the packages of peers. Called by `compare`.
"""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("starlette", "httptools", "uvloop", "hiredis")
_ROOT = Path(__file__).parents[2]


def versions() -> dict[str, str]:
    """Return versions by name; what is not installed, or no checkout, lacks."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # then it did not run
    if commit := _commit():
        found["commit"] = commit
    return found


def _commit() -> str:
    """Return the commit of this checkout, `+` behind it when files of the product differ."""
    git = shutil.which("git")
    if git is None or not (_ROOT / ".git").exists():
        return ""
    asked = [git, "-C", str(_ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
    return "" if told.returncode else told.stdout.strip()
