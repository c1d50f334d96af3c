"""How a table of simulated drops is shown.

Owns presentation only. Called by `plan --simulate`.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as Grid

from loadtest.plan_report import amount
from loadtest.simulation_runs import Table


def show(console: Console, table: Table) -> None:
    """Print a line for each drop, then what breaks."""
    console.print(f"[bold]{table.note}[/]")
    grid = Grid(title=f"simulated drops, seed {table.seed}", title_justify="left")
    for heading in (
        *("viewers", "depth", "hubs, relays", "offer p50, p99, last", "answer p50, p99, last"),
        *("last order", "end known", "storm: one, tenth, all"),
    ):
        grid.add_column(heading)
    for one in table.outcomes:
        grid.add_row(
            f"{one.viewers:,}",
            str(one.depth),
            f"{one.hubs:,}, {one.relays:,}",
            _times(one.announce_p50_s, one.announce_p99_s, one.announce_last_s),
            _times(one.answer_p50_s, one.answer_p99_s, one.answer_last_s),
            amount(one.to_last_order_s, "s"),
            amount(one.end_told_s, "s"),
            _times(one.storm_one_s, one.storm_tenth_s, one.storm_all_s),
        )
    console.print(grid)
    for one in table.outcomes:
        words = "; ".join(one.breaks) or "nothing is past its bound"
        console.print(f"{one.viewers:,}, depth {one.depth}: {words}", markup=False)


def _times(*seconds: float) -> str:
    return ", ".join(amount(one, "s") for one in seconds)
