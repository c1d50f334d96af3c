"""The command `livecart-loadtest run`: a scenario played, shown, judged, and written down.

Owns its options and exit statuses: 0 passed, 1 failed, 2 could not be played, 3 the client was its
own bottleneck. Measures and judges nothing itself. Called by cli.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from loadtest import postgres
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
    Workers,
    start,
    target_of,
)
from loadtest.scenarios import SCENARIOS, Scenario
from loadtest.scenarios.scenario import ParameterUnknown

if TYPE_CHECKING:
    from loadtest.play import Manner, Play
    from loadtest.result import Result

SEEDS = 1_000_000
#: Options of their own that set a parameter, where a scenario has it.
Viewers = Annotated[int | None, typer.Option(min=1, help="Viewers; each scenario has its own.")]
Units = Annotated[int | None, typer.Option("--units", "--stock", min=0, help="Units of an offer.")]
Buys = Annotated[int | None, typer.Option(min=0, help="Buys of each viewer.")]
Seconds = Annotated[float | None, typer.Option(min=1, help="How long, where it has a length.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any parameter, as name=value; `scenarios` lists them."),
]
OutFile = Annotated[
    Path | None, typer.Option("--out", help="Write the result here, for `report` and `compare`.")
]
ReportFile = Annotated[Path | None, typer.Option("--report", help="Write an HTML report here.")]
HistoryFile = Annotated[
    Path | None, typer.Option("--history", help="Write what buyers saw here, for `audit`.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("run")(run)
    app.command("scenarios")(list_scenarios)
    app.command("overhead")(overhead)


def run(
    scenario: Annotated[str, typer.Argument(help=f"One of {', '.join(SCENARIOS)}.")],
    url: Url = "",
    spawn: Spawn = False,
    workers: Workers = 1,
    host_token: HostToken = "",
    secret: Secret = "",
    database_url: DatabaseUrl = "",
    redis_url: RedisUrl = "",
    gate_url: GateUrl = "",
    viewers: Viewers = None,
    units: Units = None,
    buys: Buys = None,
    seconds: Seconds = None,
    settings: Set = None,
    seed: Annotated[int | None, typer.Option(help="Of all that is drawn; else a new one.")] = None,
    processes: Annotated[
        int, typer.Option(min=0, max=256, help="Of the crowd; 0: as many as it needs.")
    ] = 0,
    subprotocol: Subprotocol = Subprotocol.JSON,
    network: Annotated[
        str, typer.Option(help="Of the viewers: a mix such as 4g:0.7,train:0.3.")
    ] = "none",
    step: Annotated[float, typer.Option(min=0.2, help="Seconds from beat to beat.")] = 1.0,
    connect_timeout: Annotated[float, typer.Option(help="Seconds for all to be welcome.")] = 120.0,
    answer_timeout: Annotated[float, typer.Option(help="Seconds for every answer.")] = 60.0,
    thresholds: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Limits, in a TOML file.")
    ] = None,
    out: OutFile = None,
    report: ReportFile = None,
    history: HistoryFile = None,
    as_json: AsJson = False,
) -> None:
    """Play a scenario against a server and judge it; exit 1 failed, 3 client overloaded."""
    given = _given(settings, viewers=viewers, units=units, buys=buys, seconds=seconds)
    story = _story(scenario, given)
    try:
        from loadtest import thresholds as rules
        from loadtest.network import NetworkUnknown, mix
        from loadtest.play import Manner, Play
        from loadtest.result import EXIT, encode
    except ModuleNotFoundError as error:
        raise _extra_missing(error) from error
    try:
        limits = dict(story.limits) if thresholds is None else rules.read(thresholds, story.name)
        mix(network)
    except (rules.ThresholdError, NetworkUnknown) as error:
        raise typer.BadParameter(str(error)) from error
    for path in (out, report, history):
        if path is not None and not path.absolute().parent.is_dir():
            raise typer.BadParameter(f"there is no folder {path.parent} for {path.name}")
    manner = Manner(
        seed=secrets.randbelow(SEEDS) if seed is None else seed,
        processes=processes,
        subprotocol=subprotocol.value,
        network=network,
        step_s=step,
        connect_s=connect_timeout,
        answer_s=answer_timeout,
    )
    console = Console(stderr=as_json)

    async def play() -> Play:
        async with target_of(
            url, spawn, workers, host_token, secret, database_url, redis_url, gate_url
        ) as target:
            if target.database_url:  # not to be found out after the run
                await (await postgres.connect(target.database_url)).close()
            return await _played(Play, story, target, manner, console)

    played = start(play())
    result = played.result
    result.limits = rules.judge(result, limits)
    if as_json:
        sys.stdout.write(encode(result).decode() + "\n")
    else:
        from loadtest.summary import show

        show(console, result)
    try:
        if history is not None:
            _keep(history, played)
        _write(result, out, report)
    except OSError as error:
        typer.echo(f"livecart-loadtest: not written: {error}", err=True)
        raise typer.Exit(2) from error
    raise typer.Exit(EXIT[result.verdict])


async def _played(
    kind: type[Play], story: Scenario, target: Any, manner: Manner, console: Console
) -> Play:
    from loadtest.live import Screen, View
    from loadtest.pulse import Pulse
    from loadtest.result import Moment

    about = ", ".join(f"{name} {value}" for name, value in story.options().items())
    view = View(story.title, about)
    with Screen(view, console) as screen:

        def on_pulse(pulse: Pulse) -> None:
            view.note(pulse)
            screen.refresh()

        def on_moment(moment: Moment) -> None:
            view.happened(moment)
            screen.refresh()

        play = kind(story, target, manner, on_pulse, on_moment)
        await play.run()
    return play


def list_scenarios() -> None:
    """List the scenarios with their parameters and defaults."""
    table = Table(box=None, pad_edge=False)
    for heading in ("scenario", "what happens", "parameters"):
        table.add_column(heading)
    for name, story in SCENARIOS.items():
        options = ", ".join(f"{option}={value}" for option, value in story.options().items())
        table.add_row(name, (type(story).__doc__ or "").splitlines()[0], options)
    Console().print(table)


def overhead(
    viewers: Annotated[int, typer.Option(min=1)] = 2_000,
    buys: Annotated[int, typer.Option(min=1, help="Commands of each viewer, twice.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Measure what the harness itself costs, against a server that does nothing."""
    try:
        from loadtest import overhead as measure
    except ModuleNotFoundError as error:
        raise _extra_missing(error) from error
    found = start(measure.overhead(viewers, buys))
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        table = Table(title=f"one process, {found.viewers:,} viewers", title_justify="left")
        for heading in ("", "a second", "processor us each", "p50 ms", "p99 ms"):
            table.add_column(heading, justify="left" if not heading else "right")
        for cost in found.costs:
            told = cost.latency.percentiles_ms if cost.latency is not None else {}
            used = f"{cost.cpu_us:.1f}" if cost.cpu_us else ""
            spread = [f"{told[name]:.1f}" if name in told else "" for name in ("p50", "p99")]
            table.add_row(cost.what, f"{cost.per_s:,.0f}", used, *spread)
        Console().print(table)
        Console().print(f"answers missing: {found.missing}; faults: {found.faults or 'none'}")
    raise typer.Exit(1 if found.missing or found.faults else 0)


def _given(settings: list[str] | None, **named: float | None) -> dict[str, str | float]:
    """Parameters as they were given; an option of its own, or `--set`, not both."""
    given: dict[str, str | float] = {k: v for k, v in named.items() if v is not None}
    for setting in settings or ():
        name, equals, value = setting.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise typer.BadParameter(f"--set takes name=value, not {setting!r}")
        if name in given:
            raise typer.BadParameter(f"{name} is given twice")
        given[name] = value
    return given


def _story(name: str, given: dict[str, str | float]) -> Scenario:
    if name not in SCENARIOS:
        raise typer.BadParameter(f"no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    try:
        return SCENARIOS[name].with_options(given)
    except ParameterUnknown as error:
        raise typer.BadParameter(str(error)) from error


def _keep(path: Path, play: Play) -> None:
    from loadtest.history_file import Kept, write_file

    write_file(path, Kept(stream=play.stream, offers=play.histories, deliveries=play.deliveries))


def _write(result: Result, out: Path | None, report: Path | None) -> None:
    if out is not None:
        from loadtest.result import write

        write(out, result)
    if report is not None:
        from loadtest.charts import write_html

        write_html(report, result)


def _extra_missing(error: ModuleNotFoundError) -> typer.Exit:
    typer.echo(
        f"livecart-loadtest: {error.name} is not installed: `make loadtest`, or"
        " pip install 'livecart[loadtest]'",
        err=True,
    )
    return typer.Exit(2)
