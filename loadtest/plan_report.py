"""How a calibration, a plan, a prediction and a simulation are shown: rich tables.

Owns presentation only. Called by the commands `calibrate` and `plan`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from loadtest.calibration import Calibration
from loadtest.capacity import CapacityPlan
from loadtest.prediction import ERROR_MAX, Held, Prediction

#: Of a core; more than that of others' work and elapsed times say little.
OTHERS_MAX: Final = 0.1


def amount(value: float, unit: str) -> str:
    """Return a figure with a unit that suits its size."""
    if not math.isfinite(value):
        return "never"
    if unit == "bytes":
        return size(value)
    if unit == "s":
        for scale, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
            if abs(value) >= scale:
                return f"{value / scale:,.3g} {name}"
        return f"{value * 1e9:,.3g} ns"
    return f"{value:,.4g} {unit}"


def size(value: float) -> str:
    """Return bytes in the unit that suits them."""
    for scale, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= scale:
            return f"{value / scale:,.3g} {name}"
    return f"{value:,.3g} bytes"


def show_calibration(console: Console, calibration: Calibration) -> None:
    """Print every cost with its spread."""
    table = Table(title=f"unit costs, {calibration.rounds} rounds", title_justify="left")
    for heading, justify in (("", "left"), ("median", "right"), ("least to most", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for cost in calibration.costs.values():
        span = f"{amount(cost.least, cost.unit)} to {amount(cost.most, cost.unit)}"
        table.add_row(cost.how, amount(cost.value, cost.unit), span)
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in calibration.machine.items()))
    if calibration["others_share"] > OTHERS_MAX:
        console.print(
            f"[yellow]others used {calibration['others_share']:.0%} of a core meanwhile: elapsed"
            " times are too long by what they took[/]"
        )


def show_plan(console: Console, plan: CapacityPlan) -> None:
    """Print what a wish needs, its limits, and every assumption."""
    wish = plan.wish
    title = f"{wish.viewers:,} viewers, a drop of {wish.units:,}, tapped for {wish.window_s:g} s"
    tiers = Table(title=title, title_justify="left")
    for heading in ("", "how many", "core used", "memory each", "network out each"):
        tiers.add_column(heading)
    for tier in plan.tiers:
        tiers.add_row(
            tier.name,
            f"{tier.count:,} {tier.of_what}",
            f"{tier.share:.0%}",
            size(tier.memory_bytes) if tier.memory_bytes else "",
            f"{size(tier.out_bytes_per_s)}/s",
        )
    console.print(tiers)
    console.print(
        f"{plan.hubs:,} hubs on {plan.hub_machines:,} machines, {plan.viewers_per_hub:,} viewers"
        f" each, bound by {plan.bound_by}; {plan.buckets} buckets on {plan.gate_nodes} gate nodes"
    )
    console.print(
        f"{plan.taps_per_s:,.0f} buys/s, {plan.orders:,} orders at {plan.orders_per_s:,.0f}/s:"
        f" {size(plan.wal_bytes_per_s)}/s of WAL, {size(plan.wal_bytes)} in all,"
        f" {size(plan.disk_bytes)} of tables and indexes"
    )
    console.print(
        f"first tap to last order {amount(plan.to_last_order_s, 's')}; the offer to the last viewer"
        f" {amount(plan.to_last_delivery_s, 's')}; a lone buy {amount(plan.lone_buy_s, 's')}"
    )
    console.print(
        "after the last order chat, pins and stock are"
        f" {amount(plan.news_late_s, 's')} late: they wait for the news of orders to all hubs"
    )
    network = Table(title="network, all together", title_justify="left", show_header=False)
    for name, rate in plan.network.items():
        network.add_row(name, f"{size(rate)}/s")
    console.print(network)
    limits = Table(title="what no more machines lift", title_justify="left")
    for heading in ("", "used", "full at so many viewers", "why"):
        limits.add_column(heading)
    for limit in plan.limits:
        used = f"{limit.share:.1%}" if math.isfinite(limit.share) else "no room"
        at = f"{limit.breaks_at_viewers:,.0f}" if math.isfinite(limit.breaks_at_viewers) else "–"
        limits.add_row(limit.name, used, at, limit.text)
    console.print(limits)
    console.print(f"first to break: [bold]{plan.breaks_first}[/]")
    console.print("assumptions:")
    for one in plan.assumptions:
        console.print(f"  ({one.source}) {one.text}", markup=False)
    if not plan.feasible:
        console.print("[red]this does not fit: a limit above is passed[/]")


def show_prediction(console: Console, prediction: Prediction) -> None:
    """Print what is foretold."""
    sale = prediction.sale
    title = f"foretold for this machine: {sale.viewers:,} viewers, {sale.units:,} units"
    table = Table(title=title, title_justify="left", show_header=False)
    for figure in prediction.figures.values():
        table.add_row(figure.what, amount(figure.value, figure.unit))
    console.print(table)


def show_held(console: Console, prediction: Prediction, held: Sequence[Held]) -> None:
    """Print foretold, measured and the error of each."""
    table = Table(title="foretold and measured", title_justify="left")
    for heading in ("", "foretold", "measured", "least to most", "error"):
        table.add_column(heading)
    for one in held:
        colour = "green" if one.passed else "red"
        table.add_row(
            prediction.figures[one.name].what,
            amount(one.predicted, one.unit),
            amount(one.measured, one.unit),
            f"{amount(one.least, one.unit)} to {amount(one.most, one.unit)}",
            f"[{colour}]{one.error:+.0%}[/]",
        )
    console.print(table)
    right = sum(one.passed for one in held)
    console.print(f"{right} of {len(held)} within {ERROR_MAX:.0%}")
