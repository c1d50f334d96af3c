"""A result in the terminal: figures, answers, percentiles, limits, audits, and the verdict.

Owns its look there, and nothing else; the HTML report is loadtest/charts.py. Called by `run` and
`report`.
"""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.report import show_audit
from loadtest.result import Result
from loadtest.wording import VERDICTS, figure, limit_value, number, reasons, words

STYLES: Final = {"passed": "bold green", "failed": "bold red", "overloaded": "bold yellow"}
LIMITS: Final = {
    True: Text("passed", "green"),
    False: Text("FAILED", "red"),
    None: Text("not judged", "yellow"),
}
SHOWN: Final = ("p50", "p90", "p99", "p99.9", "max")
REASONS_MAX: Final = 20


def show(console: Console, result: Result) -> None:
    """Print a result; its verdict comes last, where the eye is when a run ends."""
    console.print(words(result.title, "bold"))
    console.print(_figures(result))
    if result.timings:
        console.print(_timings(result))
    if result.limits:
        console.print(_limits(result))
    for audit in result.audits:
        # A long evening has many offers, and whoever looks wants to see what does not hold.
        if len(result.audits) > 1 and all(finding.passed for finding in audit.findings):
            told = f"audit of {audit.offer}: all {len(audit.findings)} claims hold"
            units = f", {audit.live:,} of {audit.quantity:,} units live" if audit.quantity else ""
            console.print(words(told + units))
        else:
            show_audit(console, audit)
    console.print(_client(result), style="dim")
    for note in result.notes:
        console.print(words(note, "yellow"))
    style = STYLES[result.verdict]
    console.print(words(VERDICTS[result.verdict], style))
    found = reasons(result)
    for reason in found[:REASONS_MAX]:
        console.print(words(f"  {reason}", style.removeprefix("bold ")))
    if len(found) > REASONS_MAX:
        console.print(f"  and {len(found) - REASONS_MAX:,} more")


def _figures(result: Result) -> Table:
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in result.figures.items():
        shown, text = figure(name, value)
        table.add_row(words(shown), text)
    table.add_section()
    for name, count in result.outcomes.items():
        style = "green" if name.startswith("order.") else ""
        table.add_row(words(name, style), f"{count:,}")
    table.add_row("missing", Text(f"{result.missing:,}", "red" if result.missing else ""))
    table.add_section()
    for name, count in result.counts.items():
        table.add_row(words(name, "not bold"), f"{count:,}")
    return table


def _timings(result: Result) -> Table:
    table = Table(title="latency, ms, from the moment each was due", title_justify="left")
    for heading in ("", "count", "mean", *SHOWN):
        table.add_column(heading, justify="right" if heading else "left")
    for kind, timing in result.timings.items():
        shares = [timing.percentiles_ms.get(name) for name in SHOWN]
        values = [timing.mean_ms if timing.count else None, *shares]
        cells = ("–" if value is None else number(value) for value in values)
        table.add_row(words(kind), f"{timing.count:,}", *cells)
    return table


def _limits(result: Result) -> Table:
    table = Table(title="limits", title_justify="left")
    for heading in ("limit", "rule", "measured", "", ""):
        table.add_column(heading, justify="right" if heading == "measured" else "left")
    for limit in result.limits:
        table.add_row(
            words(limit.name),
            words(limit.rule),
            limit_value(limit),
            LIMITS[limit.passed],
            words(limit.why),
        )
    return table


def _client(result: Result) -> str:
    client = result.client
    shares = ", ".join(f"{share:.2f}" for share in client.cpu_share)
    told = [f"client: {client.processes} process{'es' * (client.processes != 1)}"]
    told += [f"{shares} of a core"] if shares else []
    told += [f"{number(client.cpu_s)} s of processor time"]
    if client.lag.count:
        told.append(f"its timers late by p99 {number(client.lag.percentiles_ms['p99'])} ms")
    return ", ".join(told)
