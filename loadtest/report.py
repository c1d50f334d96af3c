"""Numbers of a run, and how they are shown: percentiles, tables, JSON.

Owns presentation only; measures and judges nothing. Called by the command line and the demo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table

from loadtest.history import History
from loadtest.hotrow import HotRow
from loadtest.judge import Audit
from loadtest.wording import words

if TYPE_CHECKING:
    from collections.abc import Mapping

SHARES = (50.0, 90.0, 99.0, 100.0)
VERDICTS = {True: "[green]holds[/]", False: "[red]BROKEN[/]", None: "[yellow]not judged[/]"}


@dataclass(slots=True, frozen=True)
class Spread:
    """Latencies in milliseconds."""

    p50_ms: float = 0.0
    p90_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0


@dataclass(slots=True)
class Sale:
    """What the buyers of one sale saw."""

    buys: int = 0
    sold: int = 0  # orders acknowledged
    units: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    missing: int = 0  # buys without a final answer
    given_up: dict[str, int] = field(default_factory=dict)
    to_last_order_s: float = 0.0  # first buy sent to last order acknowledged
    to_last_answer_s: float = 0.0
    orders_per_s: float = 0.0
    answers_per_s: float = 0.0
    orders_latency: Spread = field(default_factory=Spread)
    refusals_latency: Spread = field(default_factory=Spread)


@dataclass(slots=True)
class Run:
    """One run as a whole."""

    title: str
    parameters: dict[str, object]
    sale: Sale
    audit: Audit | None = None
    hot_row: HotRow | None = None
    ratio: float | None = None  # orders/s of the sale over the hot row's
    events: dict[str, int] = field(default_factory=dict)  # retries, reconnects, closes …
    faults: list[str] = field(default_factory=list)  # where the server broke the protocol
    fault: str = ""  # what was done to the server
    fault_at_s: float | None = None
    connect_s: float = 0.0
    client_cpu_s: float = 0.0
    server_cpu_s: dict[str, float] = field(default_factory=dict)
    unexpected: dict[str, int] = field(default_factory=dict)  # refusals with a code not due

    @property
    def passed(self) -> bool:
        """Nothing missing, nothing broken."""
        judged = self.audit is None or self.audit.passed
        return judged and not (self.sale.missing or self.faults or self.unexpected)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that `share` percent of all do not exceed."""
    if not ordered:
        return 0.0
    rank = -(-share * len(ordered) // 100)  # ceiling
    return ordered[max(0, int(rank) - 1)]


def spread(durations_ns: Sequence[int]) -> Spread:
    """Percentiles of durations."""
    ordered = sorted(ns / 1e6 for ns in durations_ns)
    return Spread(*(round(percentile(ordered, share), 2) for share in SHARES))


def measure(history: History) -> Sale:
    """Sum up a history; its clock starts at the first buy sent."""
    sale = Sale()
    orders: list[int] = []
    refusals: list[int] = []
    order_ends: list[int] = []
    ends: list[int] = []
    started = min((ns for ns in history.sent_ns if ns), default=0)
    for buy in history.buys():
        sale.buys += 1
        if not buy.answered_ns:
            sale.missing += 1
        elif buy.verdict == "acknowledged":
            sale.sold += 1
            sale.units += buy.qty
            orders.append(buy.answered_ns - buy.sent_ns)
            order_ends.append(buy.answered_ns)
        else:
            sale.refused[buy.outcome] = sale.refused.get(buy.outcome, 0) + 1
            refusals.append(buy.answered_ns - buy.sent_ns)
        ends.append(buy.answered_ns)
    sale.missing += len(history) - sale.buys  # never sent: asked for, and not done
    sale.given_up = dict(history.given_up)
    sale.orders_latency, sale.refusals_latency = spread(orders), spread(refusals)
    if order_ends:
        sale.to_last_order_s = (max(order_ends) - started) / 1e9
        sale.orders_per_s = sale.sold / sale.to_last_order_s
    if (last_ns := max(ends, default=0)) > 0:
        sale.to_last_answer_s = (last_ns - started) / 1e9
        sale.answers_per_s = (len(orders) + len(refusals)) / sale.to_last_answer_s
    return sale


def to_json(run: Run) -> str:
    """One line of JSON."""
    document = msgspec.to_builtins(run)
    document["passed"] = run.passed
    return msgspec.json.encode(document).decode()


def show(console: Console, run: Run) -> None:
    """The summary, then the audit."""
    console.print(_sale_table(run))
    if run.events:
        console.print("events: " + _pairs(run.events))
    if run.faults:
        console.print("[red]the server broke the protocol:[/]")
        for fault in run.faults:
            console.print(f"  {fault}", markup=False)
    if run.audit is not None:
        show_audit(console, run.audit)
    if run.hot_row is not None:
        console.print(
            f"hot row, {run.hot_row.tool}, {run.hot_row.clients} clients,"
            f" {run.hot_row.duration_s:.0f} s: {run.hot_row.orders_per_s:,.0f} orders/s;"
            f" the sale: {run.sale.orders_per_s:,.0f}, [bold]{run.ratio or 0:.1f} times[/] as many"
        )
    console.print("[green]PASSED[/]" if run.passed else "[red]FAILED[/]")


def _sale_table(run: Run) -> Table:
    sale = run.sale
    table = Table(title=run.title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for name, value in run.parameters.items():
        table.add_row(name, str(value))
    table.add_section()
    table.add_row("buys sent", f"{sale.buys:,}")
    table.add_row("sold", f"{sale.sold:,} orders, {sale.units:,} units")
    for code, times in sorted(sale.refused.items()):
        due = " [red](not due here)[/]" if code in run.unexpected else ""
        table.add_row(f"refused: {code}", f"{times:,}{due}")
    table.add_row("answers missing", f"{sale.missing:,} {_pairs(sale.given_up)}".rstrip())
    table.add_section()
    table.add_row("first buy → last order", f"{sale.to_last_order_s:.3f} s")
    table.add_row("first buy → last answer", f"{sale.to_last_answer_s:.3f} s")
    table.add_row("orders per second", f"{sale.orders_per_s:,.0f}")
    table.add_row("answers per second", f"{sale.answers_per_s:,.0f}")
    table.add_row("latency of orders", _spread_text(sale.orders_latency))
    table.add_row("latency of refusals", _spread_text(sale.refusals_latency))
    table.add_section()
    table.add_row("connecting", f"{run.connect_s:.2f} s")
    table.add_row("client's processor time", f"{run.client_cpu_s:.2f} s")
    if run.server_cpu_s:
        table.add_row("server's", _pairs({k: f"{v:.2f} s" for k, v in run.server_cpu_s.items()}))
    if run.fault:
        when = "never" if run.fault_at_s is None else f"{run.fault_at_s:.3f} s after the first buy"
        table.add_row("fault", f"{run.fault}, {when}")
    return table


def show_audit(console: Console, audit: Audit) -> None:
    """The audit as a table."""
    table = Table(title=words(f"audit of {audit.offer}"), title_justify="left")
    for heading in ("", "claim", "verdict", "detail"):
        table.add_column(heading)
    for finding in audit.findings:
        table.add_row(
            words(finding.name),
            words(finding.claim),
            VERDICTS[finding.passed],
            words(finding.detail),
        )
    console.print(table)
    told = ", ".join(f"{name} = {value}" for name, value in audit.settings.items())
    console.print(
        words(
            f"{told}; {audit.rows:,} orders in Postgres,"
            f" {audit.live:,} of {audit.quantity:,} units live"
        )
    )


def _spread_text(found: Spread) -> str:
    places = 1 if found.p50_ms < 10 else 0
    values = (found.p50_ms, found.p90_ms, found.p99_ms, found.max_ms)
    names = ("p50", "p90", "p99", "max")
    return ", ".join(f"{n} {v:,.{places}f}" for n, v in zip(names, values, strict=True)) + " ms"


def _pairs(items: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in items.items())
