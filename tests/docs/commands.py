"""Commands out of code blocks, and whether what a command names is there.

Owns the splitting of blocks into commands with the output that is shown for them, and the check of
a command that is not run: its program, subcommand, options and make targets exist. Runs nothing but
`bash -n` and `--help`. Called by the tests of this folder.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

import typer

import livecart.cli
import loadtest.cli
from tests.docs.pages import ROOT, Block
from tests.integration.up_rig import environment

SHELL = ("sh", "bash", "shell", "console")
ANSWER = "answer"  # the title of a block that shows what the command before it prints
APPS = {"livecart": livecart.cli.app, "livecart-loadtest": loadtest.cli.app}
_TIMEOUT_S = 30
# `locust --help` prints no options of a locustfile.
_LOCUST = (
    "import loadtest.locustfile; from locust.argument_parser import get_parser;"
    "get_parser().print_help()"
)


@dataclass(slots=True)
class Command:
    """One command of a page, and the output that the page shows for it."""

    page: str
    line: int
    text: str
    language: str = "sh"  # or `python`
    expected: str | None = None

    @property
    def where(self) -> str:
        """Where it is, for a person."""
        return f"{self.page}:{self.line}"


def commands(found: list[Block]) -> list[Command]:
    """Return the commands of a page's blocks, in order."""
    made: list[Command] = []
    for block in found:
        page = block.where.rpartition(":")[0]
        if block.title == ANSWER:
            if not made:
                raise ValueError(f"{block.where}: an answer to nothing")
            made[-1].expected = block.text
        elif block.language == "console":
            made += _console(page, block)
        elif block.language in SHELL:
            made += _shell(page, block.line + 1, block.text.splitlines())
        elif block.language == "python":
            made.append(Command(page, block.line + 1, block.text, "python"))
    return made


def _console(page: str, block: Block) -> list[Command]:
    """Split what a terminal shows: `$ ` begins a command, `> ` goes on, the rest is output."""
    made: list[Command] = []
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        if line.startswith("$ "):
            made.append(Command(page, number, line[2:]))
        elif not made:
            raise ValueError(f"{page}:{number}: output before a command")
        elif line.startswith("> ") and made[-1].expected is None:
            made[-1].text += f"\n{line[2:]}"
        else:
            made[-1].expected = (made[-1].expected or "") + line + "\n"
    return made


def _shell(page: str, first: int, lines: list[str]) -> list[Command]:
    made: list[Command] = []
    begun: list[str] = []
    for number, line in enumerate(lines, first):
        if not begun and (not line.strip() or line.lstrip().startswith("#")):
            continue
        begun.append(line)
        text = "\n".join(begun)
        if _complete(text):
            made.append(Command(page, number - len(begun) + 1, text))
            begun = []
    if begun:
        raise ValueError(f"{page}:{first}: a command without an end: {begun}")
    return made


def _complete(text: str) -> bool:
    if text.endswith("\\"):
        return False
    if not re.search(r"[\"'{(<]|\b(?:do|then|in)\b", text):
        return True  # nothing that could go on
    done = subprocess.run(["bash", "-n"], input=text + "\n", capture_output=True, text=True)
    return done.returncode == 0 and not done.stderr


def bare(text: str) -> str:
    """Return a command without the comment behind it."""
    words = shlex.split(text, comments=True)
    for hash_sign in re.finditer(r"\s+#", text):
        try:
            if shlex.split(text[: hash_sign.start()]) == words:
                return text[: hash_sign.start()]
        except ValueError:
            continue  # within quotes
    return text


# --- what is not run ----------------------------------------------------------------------------


def named(command: str) -> None:
    """Raise `LookupError` unless the programs, targets, subcommands and options are there."""
    for line in re.sub(r"\\\n\s*", " ", command).splitlines():
        words = [word for word in shlex.split(line, comments=True) if "…" not in word]
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words.pop(0)
        if words:
            _named(words)


def _named(words: list[str]) -> None:
    program = words[0].removeprefix(".venv/bin/")
    if program in APPS:
        _of_app(program, words[1:])
    elif program == "make":
        _of_make(words[1:])
    elif program == "locust":
        _of_help([sys.executable, "-c", _LOCUST], words[1:])
    elif program == "python" and words[1:2] == ["-m"] and words[2].startswith("tests."):
        _of_help([sys.executable, *words[1:3]], words[3:])
    elif program == "docker":
        _of_compose(words[1:])
    elif program == "pip":
        _of_extras(words[1:])
    else:
        raise LookupError(f"no way to tell whether it is there: {shlex.join(words)}")


def _of_app(program: str, words: list[str]) -> None:
    app = typer.main.get_command(APPS[program])
    if not words or words[0] == "--help":
        return
    command = getattr(app, "commands", {}).get(words[0])
    if command is None:
        raise LookupError(f"{program} has no command {words[0]!r}")
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {
        "--help"
    }
    loose = command.context_settings.get("ignore_unknown_options", False)
    for option in _options(words[1:]):
        if option not in known and not loose:
            raise LookupError(f"{program} {words[0]} has no option {option}")


def _of_make(words: list[str]) -> None:
    """The Makefile has the targets and variables; what takes ARGS has the options."""
    makefile = re.sub(r"\\\n\s*", " ", (ROOT / "Makefile").read_text("utf-8"))
    given = dict(word.split("=", 1) for word in words if "=" in word)
    for variable in given:
        if not re.search(rf"\$\({variable}\)", makefile):
            raise LookupError(f"the Makefile knows no {variable}")
    for target in (word for word in words if "=" not in word):
        rule = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)*)", makefile, re.MULTILINE)
        if rule is None:
            raise LookupError(f"there is no make {target}")
        if "ARGS" in given:
            _takes_args(target, rule[1], shlex.split(given["ARGS"]))


def _takes_args(target: str, recipe: str, words: list[str]) -> None:
    taker = re.search(r"(?:-m (tests\.[\w.]+|pytest)|\(BIN\)/(livecart)) .*\$\(ARGS\)", recipe)
    if taker is None:
        raise LookupError(f"make {target} takes no ARGS")
    if taker[2]:
        _of_app(taker[2], [target, *words])
    else:
        _of_help([sys.executable, "-m", taker[1]], words)


def _of_help(program: list[str], words: list[str]) -> None:
    options = _options(words)
    if program[1] == "-m" and importlib.util.find_spec(program[2]) is None:
        raise LookupError(f"there is no module {program[2]}")
    helped = _help(tuple(program)) if options else ""
    for option in options:
        if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", helped):
            raise LookupError(f"{shlex.join(program)} has no option {option}")


@cache
def _help(program: tuple[str, ...]) -> str:
    done = subprocess.run(
        [*program, "--help"],
        cwd=ROOT,
        env=environment() | {"COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise LookupError(f"{shlex.join(program)}: {done.stderr}")
    return done.stdout


def _of_compose(words: list[str]) -> None:
    """tests/contract/test_compose.py holds the file itself to its specification."""
    if words[:2] != ["compose", "up"] or not (ROOT / "docker-compose.yml").is_file():
        raise LookupError(f"docker {shlex.join(words)}")


def _of_extras(words: list[str]) -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for extra in re.findall(r"livecart\[(\w+)\]", " ".join(words)):
        if not re.search(rf"^{extra} = \[", project, re.MULTILINE):
            raise LookupError(f"there is no extra {extra!r}")


def _options(words: list[str]) -> list[str]:
    found = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
    return [word if word.startswith("--") else word[:2] for word in found]
