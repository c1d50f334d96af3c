"""Every command of README and docs/ does what it says: each page is played on a running `up`."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.docs import making
from tests.docs.commands import SHELL, Command, bare, commands, named
from tests.docs.given import GIVEN, GIVEN_PYTHON, shop
from tests.docs.leading import has, leads_to
from tests.docs.making import MadeUp
from tests.docs.pages import PAGES, ROOT, blocks, name, prose, spans
from tests.docs.playing import PAGE_S_MAX, Differs, compare, play
from tests.docs.told import INSTEAD, SPOKEN, TWINS, Instead
from tests.integration.up_rig import environment

PLAYED = {page: commands(blocks(page)) for page in PAGES if name(page) not in TWINS}


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which make finds everything prepared."""
    return making.environment(tmp_path_factory.mktemp("stamps"))


@pytest.fixture(scope="module")
def up(environ: dict[str, str]) -> Iterator[MadeUp]:
    """The server that `make up` starts, with its data folder where the docs have it."""
    folder = Path(tempfile.mkdtemp(prefix="lc-docs-"))
    running = MadeUp(folder / ".livecart", environ)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


def steps(page: str, found: list[Command]) -> list[tuple[Command, str]]:
    """Return what of a page is run."""
    todo: list[tuple[Command, str]] = []
    for command in found:
        row = row_of(command)
        if command.language == "python":
            todo.append((command, GIVEN_PYTHON.get(page, "") + command.text))
        elif row is None:
            todo.append((command, command.text))
        elif not row.test:
            todo.append((command, row.text(command.text)))
    return todo


def row_of(command: Command) -> Instead | None:
    """Return the row that says how a command is run, if it is not as it stands."""
    return next((row for row in INSTEAD if row.matches(command.text)), None)


@pytest.mark.timeout(PAGE_S_MAX + 60)
@pytest.mark.parametrize("page", [page for page in PLAYED if PLAYED[page]], ids=name)
def test_what_a_page_says_to_do_works(
    up: MadeUp, environ: dict[str, str], tmp_path: Path, page: Path
) -> None:
    """Its commands, in their order, succeed and print what is shown."""
    _programs_of(page)
    (tmp_path / ".livecart").symlink_to(up.data_dir)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    given = GIVEN[name(page)](up, tmp_path) if name(page) in GIVEN else {}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    todo = steps(name(page), PLAYED[page])
    own = {"PATH": path, "HOME": str(tmp_path), "STARTED": up.command}
    if todo:
        play(todo, tmp_path, environ | given | own)


def _programs_of(page: Path) -> None:
    """Skip, or fail in CI, where a page needs what is not there."""
    words = {word for command in PLAYED[page] for word in re.findall(r"[\w-]+", command.text)}
    for program in ("bash", *sorted(words & {"curl", "openssl", "xxd", "npm", "jq"})):
        if shutil.which(program) is None:
            say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            how = " (make setup-browser)" if program in ("npm", "jq") else ""
            say(f"{program} is not there{how}: no command of {name(page)} was run")


def test_what_is_not_run_is_run_with_less_by_a_test_that_is_named(environ: dict[str, str]) -> None:
    """Its programs, targets, subcommands and options exist, and it leads where that test leads."""
    for found in PLAYED.values():
        for command in found:
            row = row_of(command)
            if row is None or not row.test:
                continue
            try:
                named(command.text)
                leads = leads_to(command.text, environ)
            except LookupError as error:
                pytest.fail(f"{command.where}: {error}")
            assert row.entry in leads, f"{command.where}: {row.entry}, but {sorted(leads)}"
            assert has(row.test, row.entry), f"{command.where}: {row.test} has no {row.entry}"


def test_make_demo_plays_a_short_sale_and_audits_it(up: MadeUp, environ: dict[str, str]) -> None:
    """What README ends with, for fewer viewers and on the server of the pages."""
    options = f"--url {up.ready['http']} --viewers 8 --units 5 --seconds 1"
    given = {"ARGS": options, "COLUMNS": "120"} | shop(up, ROOT)
    done = subprocess.run(
        shlex.split("make demo"),
        cwd=ROOT, env=environ | given, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout


def test_targets_that_sentences_name_lead_where_their_tests_lead(environ: dict[str, str]) -> None:
    """Each is a command of some page, or has its row; what it would run is there."""
    played = {c.text.split()[1] for f in PLAYED.values() for c in f if c.text.startswith("make ")}
    spoken = {
        words[1]
        for page in PAGES
        for span in spans(prose(page))
        if len(words := span.split()) > 1 and words[0] == "make"
    }
    assert spoken - played == SPOKEN.keys()
    for target, row in SPOKEN.items():
        leads = leads_to(f"make {target}", environ)
        for module in (each for each in leads if each.startswith("tests.")):
            assert importlib.util.find_spec(module), target
        if row is not None:
            test, entry = row
            assert entry in leads, f"{target}: {entry}, but {sorted(leads)}"
            assert has(test, entry), f"{target}: {test} has no {entry}"


def test_make_finds_everything_prepared(environ: dict[str, str]) -> None:
    """The server of this test was started by `make up` alone: nothing was installed for it."""
    (line,) = making.dry(["up"], environ | {"ARGS": "--port 0"}).splitlines()
    assert line.endswith("/bin/livecart up --port 0")


@pytest.mark.parametrize(
    ("test", "entry"),
    [("tests/faults/test_none.py", "tests.faults.soak"), (".ci/run", "make soak"),
     ("tests/unit/test_pace.py", "tests.faults.soak"), ("tests/docs/test_site.py", "nothing.yml")],
)  # fmt: skip
def test_a_test_that_leads_elsewhere_is_found(test: str, entry: str) -> None:
    """A test is not taken on trust either."""
    assert not has(test, entry)


@pytest.mark.parametrize(
    ("command", "entry"),
    [("make proofs ARGS='-k x'", "tests/property/test_money_interleavings.py"),
     ("make soak SECONDS=1 # short", "tests.faults.soak"), ("livecart prune", "livecart.books"),
     ("python -m tests.faults.seeded", "tests.faults.seeded")],
)  # fmt: skip
def test_where_a_command_leads_is_found(environ: dict[str, str], command: str, entry: str) -> None:
    """Through make, through a function of the command line, or straight."""
    assert entry in leads_to(command, environ)
    with pytest.raises(LookupError):
        leads_to("make nothing", environ)


@pytest.mark.parametrize(
    ("text", "without"),
    [("a b  # c", "a b"), ("a '# b' # c # d", "a '# b'"), ("a#b", "a#b"),
     ("a \\\n  b   # c", "a \\\n  b")],
)  # fmt: skip
def test_a_comment_is_no_part_of_a_command(text: str, without: str) -> None:
    """What stands in quotes or within a word is none."""
    assert bare(text) == without


async def test_the_queries_of_the_audit_page_are_answered(up: MadeUp) -> None:
    """What anybody may paste into psql is SQL of this schema, and finds nothing wrong."""
    (block,) = (each for each in blocks(ROOT / "docs/audit.md") if each.language == "sql")
    connection = await asyncpg.connect(up.ready["database_url"])
    try:
        for query in block.text.split(";\n")[:-1]:
            for word in ("offer", "stream"):
                query = query.replace(f":'{word}'", f"'{up.ready[f'demo_{word}']}'")
            rows = await connection.fetch(query)
            if "o.quantity, o.taken" in query:
                assert [row["taken"] for row in rows] == [row["live"] for row in rows]
            elif "from facts" in query:
                assert [row["n"] for row in rows] == list(range(1, len(rows) + 1))
            else:
                assert rows == []
    finally:
        await connection.close()


def test_each_row_of_the_table_is_still_needed() -> None:
    """No stand-in is left for a command that no page has any more, and each says why."""
    every = [command.text for found in PLAYED.values() for command in found]
    for row in INSTEAD:
        assert row.why
        assert any(row.matches(text) for text in every), row
    pages = {name(page) for page, found in PLAYED.items() if found}
    assert {*GIVEN, *GIVEN_PYTHON} <= pages


@pytest.mark.parametrize("twin", TWINS)
def test_a_twin_has_the_same_commands(twin: str) -> None:
    """A page in another language has the commands and answers of the one that is played."""
    one, other = (blocks(ROOT / path) for path in (twin, TWINS[twin]))
    assert [each.text for each in one] == [each.text for each in other]


def test_no_command_is_written_where_it_is_not_run() -> None:
    """Every block says what it is, and none is made by indenting, which would escape this test."""
    for page in PAGES:
        for block in blocks(page):
            assert block.language, f"{block.where}: no language"
            first = block.text.lstrip().partition(" ")[0]
            if first in ("$", "make", "livecart", "livecart-loadtest", "curl", "pip", "docker"):
                assert block.language in SHELL, f"{block.where}: commands in {block.language}"


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ('{"id": "or_…", "qty": 1}', '{"id": "or_1", "qty": 2}'),
        ('{"id": "or_…"}', '{"id": "of_1"}'),
        ('{"id": "or_…"}', '{"id": "or_1", "qty": 1}'),
        ('{"qty": 1, "…": "…"}', '{"id": "or_1"}'),
        ('{"at": 1800000000000}', '{"at": 1}'),
        ('{"items": []}', '{"items": [1]}'),
        ("ok …", "no"),
        ("one\n…\nthree", "one\ntwo"),
    ],
)
def test_what_is_shown_and_is_not_so_is_found(shown: str, printed: str) -> None:
    """The comparison lets nothing pass but what `…`, ids and times stand for."""
    with pytest.raises(Differs):
        compare("a page", shown, printed)


def test_what_differs_each_time_may(tmp_path: Path) -> None:
    """Ids and times of their kind, and whatever `…` stands for, are what is shown."""
    compare(
        "a page", '{"id": "or_01…", "at": 1800000000000}', '{"id": "or_9", "at": 1700000000001}'
    )
    compare("a page", '{"qty": 1, "…": "…"}', '{"qty": 1, "id": "x"}')
    compare("a page", "one\n…\nthree", "one\n2\n2\nthree\n")


@pytest.mark.parametrize(
    "command",
    ["make nothing", "livecart sell", "livecart up --fast", "livecart-loadtest run x --no-such",
     "make soak ARGS='--no-such'", "locust --no-such", "unheard-of"],
)  # fmt: skip
def test_what_is_not_there_is_found(command: str) -> None:
    """A command that is only looked up is not taken on trust."""
    with pytest.raises(LookupError):
        named(command)


@pytest.mark.parametrize("fails", ["false", "false && true", "false | cat", "true; false # why"])
def test_a_command_that_fails_is_named(tmp_path: Path, fails: str) -> None:
    """The page and line of the first command that fails are told, and none after it is run."""
    found = [Command("p.md", 3, "true"), Command("p.md", 4, fails), Command("p.md", 5, "touch x")]
    with pytest.raises(Differs, match=r"p\.md:4"):
        play([(each, each.text) for each in found], tmp_path, environment())
    assert not (tmp_path / "x").exists()
