"""The commands `calibrate` and `plan`.

Owns their options and exit statuses: `plan --verify` leaves with 1 when a figure is off by more
than a fifth, `plan` when the wish does not fit, 2 when a file cannot be read. Called by cli.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from loadtest.calibration import VIEWERS_MAX
from loadtest.cli_target import AsJson, start

File = Annotated[Path, typer.Option("--calibration", help="What `calibrate` wrote.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("calibrate")(calibrate)
    app.command("plan")(plan)


def calibrate(
    out: Annotated[Path, typer.Option(help="Where to write it.")] = Path("calibration.json"),
    viewers: Annotated[
        int, typer.Option(help=f"The most of any measurement, {VIEWERS_MAX} at most.")
    ] = VIEWERS_MAX,
    rounds: Annotated[int, typer.Option(min=1, max=50)] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure what a viewer, a delivery, a refusal and an order cost on this machine."""
    from loadtest import calibration, costs
    from loadtest.plan_report import show_calibration
    from loadtest.trial import TrialFailed

    try:
        sizes = costs.Plan(viewers=viewers, rounds=rounds)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    console = Console(stderr=as_json)
    try:
        found = start(costs.calibrate(sizes, console.print))
    except TrialFailed as error:
        typer.echo(f"livecart-loadtest: {error}", err=True)
        raise typer.Exit(1) from error
    calibration.write(out, found)
    if as_json:
        _write_json(found)
    else:
        show_calibration(console, found)
        console.print(f"written to {out}")


def plan(
    calibration: File = Path("calibration.json"),
    viewers: Annotated[int, typer.Option(min=1)] = 2_000_000,
    drop: Annotated[int, typer.Option(min=1, help="Units.")] = 50_000,
    buys_per_viewer: Annotated[
        float | None, typer.Option(min=0.01, help="1; of a prediction 5, all at once.")
    ] = None,
    per_viewer: Annotated[
        int, typer.Option(min=1, help="Of a prediction: units of one viewer.")
    ] = 4,
    window_s: Annotated[float, typer.Option(min=0.1, help="In which the crowd taps.")] = 10.0,
    queue_s: Annotated[
        float, typer.Option(min=0.05, max=0.7, help="That an order may wait for its lock.")
    ] = 0.4,
    announce_s: Annotated[
        float, typer.Option(min=0.01, help="In which a hub's last viewer has the offer.")
    ] = 0.5,
    chat_per_s: Annotated[float, typer.Option(min=0)] = 5.0,
    headroom: Annotated[float, typer.Option(min=0.05, max=1, help="Of a core, at most.")] = 0.6,
    cores_per_hub: Annotated[int, typer.Option(min=1, help="Of a hub machine.")] = 1,
    speed: Annotated[float, typer.Option(min=0.05, help="Of a core there, against here.")] = 1.0,
    postgres_cores: Annotated[int, typer.Option(min=1)] = 16,
    predict: Annotated[
        Path | None, typer.Option(help="Foretell a sale on this machine, and write it there.")
    ] = None,
    verify: Annotated[
        Path | None, typer.Option(help="Play the sale of that prediction; 1 when it was wrong.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Of --verify: sales; the median counts.")] = 3,
    simulate: Annotated[
        bool, typer.Option(help="Simulate 10⁵, 10⁶ and 10⁷ viewers over trees of hubs.")
    ] = False,
    curves: Annotated[
        Path | None, typer.Option(help="Of --simulate: where to write the curves, as JSON.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of --simulate.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Compute what a drop needs, foretell one on this machine, or simulate the largest."""
    console = Console(stderr=as_json)
    if verify is not None:
        raise typer.Exit(_verify(verify, runs, console, as_json))
    from loadtest import calibration as files
    from loadtest import capacity, plan_report, prediction
    from loadtest.trial import Sale

    try:
        costs = files.read(calibration)
    except files.CalibrationUnreadable as error:
        typer.echo(f"livecart-loadtest: {error}; run `livecart-loadtest calibrate`", err=True)
        raise typer.Exit(2) from error
    if predict is not None:
        buys = round(buys_per_viewer or 5)
        sale = Sale(viewers=viewers, units=drop, per_viewer=per_viewer, buys=max(1, buys))
        foretold = prediction.predict(costs, sale, _simulated_s(costs, sale, seed))
        prediction.write(predict, foretold)
        if as_json:
            _write_json(foretold)
        else:
            plan_report.show_prediction(console, foretold)
            console.print(f"written to {predict}")
        return
    wish = capacity.Wish(
        viewers=viewers,
        units=drop,
        buys_per_viewer=buys_per_viewer or 1.0,
        window_s=window_s,
        queue_s=queue_s,
        announce_s=announce_s,
        chat_per_s=chat_per_s,
        headroom=headroom,
        cores_per_hub=cores_per_hub,
    )
    assumed = capacity.Assumed(speed=speed, postgres_cores=postgres_cores)
    if simulate:
        _simulate(costs, wish, assumed, seed, curves, console, as_json)
        return
    found = capacity.plan(costs, wish, assumed)
    if as_json:
        _write_json(found)
    else:
        plan_report.show_plan(console, found)
    raise typer.Exit(0 if found.feasible else 1)


def _simulated_s(costs: Any, sale: Any, seed: int) -> float | None:
    """Return what the simulation says of a sale on this machine; None without its libraries."""
    try:
        from loadtest.simulation_runs import one_machine
    except ImportError:
        return None
    return one_machine(costs, sale, seed)


def _verify(path: Path, runs: int, console: Console, as_json: bool) -> int:
    """Play what was foretold; return the exit status."""
    from loadtest import plan_report, prediction
    from loadtest.trial import TrialFailed

    try:
        foretold = prediction.read(path)
        held, trials = start(prediction.verify(foretold, runs, console.print))
    except prediction.PredictionUnreadable as error:
        typer.echo(f"livecart-loadtest: {error}", err=True)
        return 2
    except TrialFailed as error:
        typer.echo(f"livecart-loadtest: {error}", err=True)
        return 1
    if as_json:
        lines = [
            {**msgspec.to_builtins(one), "error": one.error, "passed": one.passed} for one in held
        ]
        _write_json({"prediction": foretold, "held": lines, "trials": trials})
    else:
        plan_report.show_held(console, foretold, held)
        others = statistics.median(trial.others_share for trial in trials)
        console.print(f"others used {others:.0%} of a core meanwhile")
    return 0 if all(one.passed for one in held) else 1


def _simulate(
    costs: Any,
    wish: Any,
    assumed: Any,
    seed: int,
    curves: Path | None,
    console: Console,
    as_json: bool,
) -> None:
    try:
        from loadtest.simulation_report import show
        from loadtest.simulation_runs import table
    except ImportError as error:
        typer.echo(
            "livecart-loadtest: the simulation needs simpy and hdrhistogram:"
            " pip install 'livecart[loadtest]'",
            err=True,
        )
        raise typer.Exit(2) from error
    found = table(costs, wish, assumed, seed, console.print)
    if curves is not None:
        curves.write_bytes(msgspec.json.encode(found))
    if as_json:
        _write_json(found)
    else:
        show(console, found)


def _write_json(document: Any) -> None:
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
