"""What is done with results that were written down: `report`, and `compare` of two of them.

Owns the options of the one, and the exit statuses of both; `compare` itself is registered by
cli_peers, which runs the peers where it is given no files. A file that is no result is one line
and status 2. What needs the `loadtest` extra is imported inside the functions, so that the other
commands run without it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

UNREADABLE = 2
WORSE = 1


def register(app: typer.Typer) -> None:
    """Add the command to the harness."""
    app.command("report")(report)


def report(
    result: Annotated[Path, typer.Argument(help="What `run --out` wrote.")],
    out: Annotated[Path | None, typer.Option(help="The HTML file; else beside the result.")] = None,
) -> None:
    """Print a result, and draw it as one HTML file that needs no network."""
    with _extra():
        from loadtest import charts, summary
        from loadtest.result import ResultUnreadable, read
    path = out or result.with_suffix(".html")
    try:
        found = read(result)
        summary.show(Console(), found)
        charts.write_html(path, found)
    except (ResultUnreadable, OSError) as error:
        raise _unreadable(error) from error
    Console().print(f"report: {path}", markup=False, highlight=False, soft_wrap=True)


def compare_files(
    a: Path, b: Path, *, as_json: bool = False, worse_than: float | None = None
) -> int:
    """Print what differs between two results; return the exit status.

    0, also when they differ; 1 when something is worse than `worse_than` allows; typer.Exit(2)
    when a file is no result.
    """
    with _extra():
        from loadtest import difference
        from loadtest.result import ResultUnreadable, read
    try:
        found = difference.compare(read(a), read(b), worse_than)
    except ResultUnreadable as error:
        raise _unreadable(error) from error
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        difference.show(Console(), found)
    return WORSE if found.worse else 0


@contextmanager
def _extra() -> Iterator[None]:
    """Turn a missing library of the extra into one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        typer.echo(
            f"livecart-loadtest: {error.name} is not installed: make loadtest, or"
            " pip install 'livecart[loadtest]'",
            err=True,
        )
        raise typer.Exit(UNREADABLE) from error


def _unreadable(error: Exception) -> typer.Exit:
    typer.echo(f"livecart-loadtest: {error}", err=True)
    return typer.Exit(UNREADABLE)
