"""The command `audit`: what it says of a right sale and of a broken one, and its exit status."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from loadtest import cli_audit
from loadtest.cli import app
from loadtest.deliveries import Deliveries
from loadtest.history_file import Kept, write_file
from loadtest.verdicts import INVARIANTS
from tests.integration.test_audit import OFFER, Books
from tests.integration.test_audit_names import books, tables

__all__ = ["books", "tables"]


async def command(books: Books, *arguments: str, redis: str = "") -> Result:
    """Run `audit` as from a shell."""
    where = ("--database-url", books.database_url, "--redis-url", redis or books.redis_url)
    command = ["audit", *arguments, *where, "--wait", "0"]
    environ = {"COLUMNS": "200", "NO_COLOR": "1", "LIVECART_GATE_URL": ""}
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, command, env=environ))


def run_of(books: Books, folder: Path) -> str:
    """Write down what the buyers saw, and an onlooker; return the file's name."""
    told = Deliveries(["v0"])
    told.welcome(0, "e1", 4, 0)
    told.main(0, 5)
    write_file(folder / "run", Kept("st_1", {OFFER: books.history}, [], told))
    return str(folder / "run")


async def test_the_command_says_what_holds(books: Books, tmp_path: Path) -> None:
    """Status 0: every invariant has its line, and those that were not judged say why."""
    found = await command(books, OFFER)
    assert found.exit_code == 0, found.output
    assert "audit of of_1: 3 orders, 3 of 10 units live, at rest" in found.output
    lines = {line.split()[0]: line for line in found.output.splitlines() if line.strip()}
    assert INVARIANTS.keys() <= lines.keys()
    assert "holds" in lines["I1"]
    assert "not judged" in lines["I5"]
    assert "no history of what buyers were told" in lines["I5"]
    assert "no record of what viewers were delivered" in lines["I7"]
    assert lines["HOLDS"]
    told = await command(books, "--history", run_of(books, tmp_path))
    assert told.exit_code == 0, told.output
    assert "no history" not in told.output
    await books.database.execute("update offers set stream = 'st_1'")
    assert "audit of of_1" in (await command(books, "--stream", "st_1")).output


async def test_the_command_says_what_is_broken(books: Books, tmp_path: Path) -> None:
    """Status 1: order, key, viewer and moment, as many as were asked for, and the rest counted."""
    file = run_of(books, tmp_path)
    await books.database.execute("delete from orders")
    await books.database.execute("update offers set taken = 0")
    found = await command(books, "--history", file, "--examples", "2")
    assert found.exit_code == 1, found.output
    lines = found.output.splitlines()
    at = lines.index("I2 is broken: an acknowledged order is a row, once")
    assert lines[at + 1].startswith("  of_1: or_0 (run.0 of v0) at 20")
    assert lines[at + 1].endswith("Z (+0 ms): told of 1 units, rows: none")
    assert lines[at + 3] == "  and 1 more"
    assert lines[-1] == "BROKEN: I2, I4"
    told = await command(books, "--history", file, "--json")
    document: dict[str, Any] = msgspec.json.decode(told.stdout)
    assert (told.exit_code, document["verdict"]) == (1, "broken")
    broken = next(one for one in document["invariants"] if one["name"] == "I2")
    assert broken["broken"] == 3
    first = broken["breaches"][0]
    assert (first["of"], first["order"], first["key"]) == (OFFER, "or_0", "run.0")
    assert first["since_ms"] == 0


async def test_one_history_is_of_the_offer_that_is_named(books: Books, tmp_path: Path) -> None:
    """What a crowd sent over a pipe can be kept as it is, and judged when its offer is named."""
    (tmp_path / "one").write_bytes(books.history.to_bytes())
    named = await command(books, OFFER, "--history", str(tmp_path / "one"))
    assert named.exit_code == 0, named.output
    unnamed = await command(books, "--history", str(tmp_path / "one"))
    assert unnamed.exit_code == 2
    assert "name the one it is of" in unnamed.output


async def test_what_cannot_be_judged_is_not_broken(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 2: no such offer, nobody at an address, a file that is no history."""
    monkeypatch.setattr(cli_audit, "REACH_S", 0.3)
    (tmp_path / "rubbish").write_bytes(b"no history")
    for arguments, redis, why in (
        (["of_9"], "", "there is no offer of_9"),
        (["--stream", "st_9"], "", "stream st_9 has no offers"),
        ([OFFER], "redis://127.0.0.1:9", "Redis: ConnectionError"),
        (["--history", str(tmp_path / "rubbish")], "", "rubbish: "),
        ([OFFER, "--history", str(tmp_path / "none")], "", "No such file"),
    ):
        found = await command(books, *arguments, redis=redis)
        assert found.exit_code == 2, found.output
        assert why in found.output
        assert "Traceback" not in found.output
    books.database_url = "postgresql://nobody@127.0.0.1:9/none"
    gone = await command(books, OFFER)
    assert gone.exit_code == 2
    assert "could not judge: Postgres: " in gone.output
    nothing = await command(books)
    assert nothing.exit_code == 2
    assert "name offers, --stream or --history" in nothing.output
