"""Plays the commands of one page in a shell, and compares what they print with what is shown.

Owns the shell that a page's commands share, in order, as a reader would type them; and the words
that stand for what differs each time: `…` in a shown line stands for anything, a line of `…` for
any lines, ids and times for any of their kind. Knows no page. Called by `test_commands`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.docs.commands import Command

PAGE_S_MAX = 180
TIME_MS_LEAST = 10**12  # integers from here on are times
ANY = "…"
_MARK = "\x1e"  # no program of ours prints it
_ID = re.compile(r"(?:st|pr|of|or|pin|msg|bu|pay|co|wh|re)_")


class Differs(AssertionError):
    """A command failed, or printed what its page does not show."""


def play(todo: list[tuple[Command, str]], folder: Path, environ: Mapping[str, str]) -> None:
    """Run commands one after the other; the second of a pair is what is run. Raise `Differs`."""
    script = ["set -euo pipefail", "exec 2>&1 </dev/null"]
    for number, (command, text) in enumerate(todo):
        if command.language == "python":
            file = folder / f"lines-{number}.py"
            file.write_text(text, "utf-8")
            text = f"python {file.name}"
        # `set -e` lets the first half of `a && b` fail.
        script += [f"printf '\\036{number}\\036'", text, "[ $? -eq 0 ]"]
    script.append(f"printf '\\036{len(todo)}\\036'")
    status, output = _run("\n".join(script), folder, environ)
    parts = output.split(_MARK)
    for at, printed in zip(parts[1::2], parts[2::2], strict=True):
        if int(at) == len(todo):
            return
        command = todo[int(at)][0]
        if int(at) == len(parts) // 2 - 1:  # the last that began
            raise Differs(f"{command.where}: {status} of\n{command.text}\n{printed}")
        if command.expected is not None:
            compare(command.where, command.expected, printed)
        elif '"type":"about:blank"' in printed:
            raise Differs(f"{command.where}: refused, which the page does not show: {printed}")
    raise Differs(f"{status} before the first command: {output}")


def _run(script: str, folder: Path, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return how a shell ended and what it printed; past its time, it and all that it began end."""
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=dict(environ),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            output, _ = shell.communicate(timeout=PAGE_S_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            return f"no end within {PAGE_S_MAX} s", shell.communicate()[0]
        return f"status {shell.returncode}", output


def compare(where: str, shown: str, printed: str) -> None:
    """Raise `Differs` unless this is what is shown."""
    try:
        wanted = json.loads(shown)
    except ValueError:
        if not _lines_fit(shown.splitlines(), printed.strip("\n").splitlines()):
            raise Differs(f"{where}: shown\n{shown}\nprinted\n{printed}") from None
        return
    try:
        found = json.loads(printed)
    except ValueError as error:
        raise Differs(f"{where}: printed, which is no JSON\n{printed}") from error
    if not fits(wanted, found):
        raise Differs(f"{where}: shown\n{shown}\nprinted\n{printed}")


def fits(wanted: Any, found: Any) -> bool:
    """Tell whether a JSON value is what is shown; `"…": "…"` stands for further fields."""
    if wanted == ANY:
        return True
    if isinstance(wanted, dict):
        if not isinstance(found, dict) or not wanted.keys() - {ANY} <= found.keys():
            return False
        exact = ANY in wanted or wanted.keys() == found.keys()
        return exact and all(fits(wanted[each], found[each]) for each in wanted.keys() - {ANY})
    if isinstance(wanted, list):
        if not isinstance(found, list) or (ANY not in wanted and len(wanted) != len(found)):
            return False
        return all(fits(w, f) for w, f in zip((w for w in wanted if w != ANY), found, strict=False))
    if isinstance(wanted, str) and isinstance(found, str):
        return _text_fits(wanted, found)
    if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted >= TIME_MS_LEAST:
        return isinstance(found, int) and found >= TIME_MS_LEAST
    return type(wanted) is type(found) and bool(wanted == found)


def _text_fits(wanted: str, found: str) -> bool:
    kind = _ID.match(wanted)
    if kind is not None and found.startswith(kind[0]):
        return True
    return re.fullmatch(re.escape(wanted).replace(ANY, ".*"), found, re.DOTALL) is not None


def _lines_fit(wanted: list[str], found: list[str]) -> bool:
    if not wanted:
        return not found
    if wanted[0].strip() == ANY:
        return any(_lines_fit(wanted[1:], found[skip:]) for skip in range(len(found) + 1))
    return bool(found) and _text_fits(wanted[0], found[0]) and _lines_fit(wanted[1:], found[1:])
