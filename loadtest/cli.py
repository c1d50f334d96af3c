"""The command line of the harness: `livecart-loadtest run`, `audit`, `sale`, `demo` and more.

Owns options, and turning a run into output and an exit status: 0 only when no answer is missing
and no invariant broken. Measures nothing itself.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.console import Console

from loadtest import cli_audit, cli_peers, cli_plan, cli_report, cli_run
from loadtest.cli_target import (
    AsJson,
    DatabaseUrl,
    GateUrl,
    HostToken,
    RedisUrl,
    Secret,
    Spawn,
    Subprotocol,
    Url,
    Via,
    Workers,
    start,
    target_of,
)
from loadtest.demo import Demo, run_demo
from loadtest.faults import FaultName
from loadtest.hotrow import DURATION_S, hot_row
from loadtest.patience import Patience
from loadtest.report import Run, show, to_json
from loadtest.sale import Flash, run_flash

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Load, doubt and audit livecart."
)
for part in (cli_run, cli_report, cli_audit, cli_peers, cli_plan):
    part.register(app)


@app.command("sale")
def sale(
    url: Url = "",
    spawn: Spawn = False,
    workers: Workers = 1,
    host_token: HostToken = "",
    secret: Secret = "",
    database_url: DatabaseUrl = "",
    redis_url: RedisUrl = "",
    gate_url: GateUrl = "",
    viewers: Annotated[int, typer.Option(min=1)] = 5_000,
    units: Annotated[int, typer.Option(min=0)] = 15_000,
    per_viewer: Annotated[int, typer.Option(min=1)] = 4,
    buckets: Annotated[
        int, typer.Option(min=1, max=64, help="That the units are spread over.")
    ] = 1,
    buys: Annotated[int, typer.Option(min=1, help="Buys that each viewer sends at once.")] = 5,
    qty: Annotated[int, typer.Option(min=1, help="Units of each buy.")] = 1,
    subprotocol: Subprotocol = Subprotocol.JSON,
    via: Via = Via.WS,
    connections: Annotated[int, typer.Option(min=1, help="HTTP connections of --via http.")] = 256,
    watch: Annotated[
        bool, typer.Option(help="With --via http: every viewer's WebSocket is connected, too.")
    ] = False,
    with_hot_row: Annotated[
        bool, typer.Option("--hot-row", help="Measure the pgbench peer right after the sale.")
    ] = False,
    hot_row_s: Annotated[int, typer.Option(min=1, max=60)] = DURATION_S,
    fault: Annotated[
        FaultName | None, typer.Option(help="Done to a spawned server in the middle.")
    ] = None,
    fault_at: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the answers seen when it strikes.")
    ] = 0.3,
    deadline: Annotated[float, typer.Option(help="Seconds for every answer to come.")] = 60.0,
    back_off_max: Annotated[
        float | None, typer.Option(help="Seconds; 20 without, 2 with a fault.")
    ] = None,
    answer_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds of silence before reconnecting; 20 without, 3 with a fault."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """One sale by one process, over WebSocket or HTTP, also with a fault in its middle."""
    faulty = fault is not None
    if faulty and url:
        raise typer.BadParameter("--fault is only done to a server spawned for the run")
    parameters = Flash(
        viewers=viewers,
        units=units,
        per_viewer=per_viewer,
        buckets=buckets,
        buys=buys,
        qty=qty,
        via=via.value,
        subprotocol=subprotocol.value,
        http_connections=connections,
        watch=watch,
        deadline_s=deadline,
        hot_row_s=hot_row_s if with_hot_row else 0,
        fault=fault,
        fault_at=fault_at,
        patience=patience(faulty, back_off_max, answer_timeout),
    )
    console = Console(stderr=as_json)

    async def play() -> Run:
        async with target_of(
            url, spawn, workers, host_token, secret, database_url, redis_url, gate_url
        ) as target:
            return await run_flash(parameters, target, console.print)

    run = start(play())
    finish(run, console, as_json)


@app.command("demo")
def demo(
    url: Url = "",
    spawn: Spawn = False,
    workers: Workers = 1,
    host_token: HostToken = "",
    secret: Secret = "",
    database_url: DatabaseUrl = "",
    redis_url: RedisUrl = "",
    gate_url: GateUrl = "",
    viewers: Annotated[int, typer.Option(min=1)] = 300,
    units: Annotated[int, typer.Option(min=0)] = 500,
    per_viewer: Annotated[int, typer.Option(min=1)] = 2,
    buys: Annotated[int, typer.Option(min=1, help="Buys of each viewer.")] = 3,
    seconds: Annotated[float, typer.Option(help="Over which the buys are spread.")] = 6.0,
    as_json: AsJson = False,
) -> None:
    """Watch a short sale with simulated viewers, then its summary and audit."""
    parameters = Demo(viewers, units, per_viewer, buys, seconds)
    console = Console(stderr=as_json)

    async def play() -> Run:
        async with target_of(
            url, spawn, workers, host_token, secret, database_url, redis_url, gate_url
        ) as target:
            return await run_demo(parameters, target, console)

    finish(start(play()), console, as_json)


def patience(
    faulty: bool, back_off_max_s: float | None = None, answer_timeout_s: float | None = None
) -> Patience:
    """Protocol v1's back-off; a quicker one where a fault is part of the run."""
    return Patience(
        # Dials to a stopped worker hang until their timeout, and hold up the others.
        dials_at_once_max=512 if faulty else 128,
        back_off_min_s=0.1 if faulty else 0.5,
        back_off_max_s=back_off_max_s or (2.0 if faulty else 20.0),
        answer_timeout_s=answer_timeout_s or (3.0 if faulty else 20.0),
        handshake_timeout_s=3.0 if faulty else 10.0,
    )


@app.command("hot-row")
def hot_row_command(
    database_url: DatabaseUrl = "",
    seconds: Annotated[int, typer.Option(min=1, max=60)] = DURATION_S,
) -> None:
    """Measure the peer alone: sixteen clients on one row."""
    if not database_url:
        raise typer.BadParameter("--database-url (or LIVECART_DATABASE_URL) is needed")
    found = start(hot_row(database_url, seconds))
    Console().print(f"{found.tool}, {found.clients} clients: {found.orders_per_s:,.0f} orders/s")


def finish(run: Run, console: Console, as_json: bool) -> None:
    """Print a run and leave with its status."""
    if as_json:
        sys.stdout.write(to_json(run) + os.linesep)
    else:
        show(console, run)
    raise typer.Exit(0 if run.passed else 1)


def main() -> None:
    """Console script `livecart-loadtest`."""
    app()


if __name__ == "__main__":
    main()
