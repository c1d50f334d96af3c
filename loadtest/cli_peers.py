"""`livecart-loadtest compare`: the peers of livecart in one run, or two results of runs.

Owns the options. Without files it holds the contests of `loadtest.bench`; with two, what differs
between them is `loadtest.cli_report`'s. Exits 0 when all was measured, whatever the ratios are.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from loadtest.cli_report import compare_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loadtest.bench.compare import Hold
    from loadtest.bench.comparison import Comparison

MISSING = (
    "livecart-loadtest: {name} is not installed: make loadtest, or pip install 'livecart[loadtest]'"
)
PLAIN_WIDTH = 110
NAMES = "fan-out, orders, connects, memory"

Files = Annotated[
    list[Path] | None,
    typer.Argument(help="Two results of runs to compare; without, the peers are run."),
]
Only = Annotated[str, typer.Option(help=f"Contests, with commas between: {NAMES}.")]
Viewers = Annotated[int, typer.Option(min=1, help="Of every crowd, and of the sale.")]
Rounds = Annotated[int, typer.Option(min=1, max=99, help="Of every contest, each with all sides.")]
Socketify = Annotated[str, typer.Option(help="A Python that has socketify, for uWebSockets.")]
Write = Annotated[Path | None, typer.Option(help="Write the page of the docs there, too.")]
Peers = Annotated[str, typer.Option(help="Peers of the crowds, with commas between; else all.")]
WorseThan = Annotated[
    float | None,
    typer.Option(help="With two files: exit 1 when a figure is this many times as bad."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON in place of tables.")]


def compare(
    files: Files = None,
    only: Only = "",
    peers: Peers = "",
    viewers: Viewers = 5_000,
    rounds: Rounds = 5,
    socketify_python: Socketify = sys.executable,
    write: Write = None,
    worse_than: WorseThan = None,
    as_json: AsJson = False,
) -> None:
    """Run what a user would pick instead beside livecart, or compare two results."""
    if files:
        if len(files) != 2:
            raise typer.BadParameter("name two results to compare, or none to run the peers")
        a, b = files
        raise typer.Exit(compare_files(a, b, as_json=as_json, worse_than=worse_than))
    if worse_than is not None:
        raise typer.BadParameter("--worse-than needs two results to compare")
    try:
        found = hold(only, peers, viewers, rounds, socketify_python, as_json)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "loadtest":
            raise
        typer.echo(MISSING.format(name=error.name), err=True)
        raise typer.Exit(2) from error
    finish(found, write, as_json)


def hold(
    only: str,
    peers: str,
    viewers: int,
    rounds: int,
    socketify_python: str,
    as_json: bool,
    contests: Mapping[str, Hold] | None = None,
) -> Comparison:
    """Hold the contests that are named; leave with status 2 when livecart itself could not."""
    from loadtest.bench.compare import CONTESTS
    from loadtest.bench.compare import compare as hold_all
    from loadtest.bench.crowded import Options
    from loadtest.bench.stations import Failed, chosen, starters
    from loadtest.cli_target import start

    held = contests or CONTESTS
    names = _names(only)
    if unknown := set(names) - set(held):
        raise typer.BadParameter(
            f"no such contest: {', '.join(sorted(unknown))}; there are {', '.join(held)}"
        )
    try:
        starts = chosen(starters(socketify_python), _names(peers))
    except KeyError as error:
        raise typer.BadParameter(f"no such peer: {error.args[0]}") from error
    console = Console(stderr=as_json, highlight=False)
    options = Options(
        viewers, rounds, starts, lambda line: console.print(line, markup=False, soft_wrap=True)
    )
    try:
        return start(hold_all(options, names, held))
    except Failed as failed:
        typer.echo(f"livecart-loadtest: {failed}", err=True)
        raise typer.Exit(2) from failed


def finish(found: Comparison, write: Path | None, as_json: bool) -> None:
    """Print a comparison, and write its page."""
    import msgspec

    from loadtest.bench.table import markdown, show

    if write is not None:
        write.write_text(markdown(found))
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        console = Console()
        # A file or a pipe has no width of its own.
        show(console if console.is_terminal else Console(width=PLAIN_WIDTH), found)


def _names(given: str) -> list[str]:
    return [name.strip() for name in given.split(",") if name.strip()]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare)
