"""The command `livecart-loadtest audit`: sales judged as they are now, with a history or without.

Owns its options, what it prints and its exit status: 0 when all that was judged holds, 1 when
something is broken, 2 when nothing could be judged. Judges nothing itself. Registered by cli.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn

import asyncpg
import msgspec
import typer
from redis.exceptions import RedisError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtest.audit import audit, audit_bundles, audit_deliveries
from loadtest.gates import Gates
from loadtest.history_file import HistoryUnreadable, Kept, read_file
from loadtest.judge import BREACHES_KEPT_MAX, EXAMPLES_MAX, Audit, Finding
from loadtest.judge_deliveries import unjudged
from loadtest.postgres import connect, offers_of
from loadtest.verdicts import Verdict, verdicts

COULD_NOT_JUDGE = 2
REACH_S = 5.0
COLOURS = {"holds": "green", "BROKEN": "red", "not judged": "yellow"}


class CannotJudge(Exception):
    """There is nothing to judge, or no way to; the message says why."""


@dataclass(slots=True)
class Judged:
    """Everything that one command found."""

    audits: list[Audit] = field(default_factory=list)
    others: list[tuple[str, Finding]] = field(default_factory=list)  # of a stream, of bundles

    @property
    def found(self) -> list[tuple[str, Finding]]:
        """Every finding with what it is of."""
        return [(one.offer, f) for one in self.audits for f in one.findings] + self.others


@dataclass(slots=True, frozen=True)
class Place:
    """Where the sale that is judged can be asked about."""

    database_url: str
    gate_url: str
    http_url: str
    wait_s: float


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit")(audit_command)


def audit_command(
    offers: Annotated[list[str] | None, typer.Argument(help="Ids of offers.")] = None,
    stream: Annotated[str, typer.Option(help="Judge all offers of this stream.")] = "",
    history: Annotated[
        Path | None, typer.Option(help="What buyers and viewers saw, as a run wrote it down.")
    ] = None,
    database_url: Annotated[str, typer.Option(envvar="LIVECART_DATABASE_URL")] = "",
    redis_url: Annotated[str, typer.Option(envvar="LIVECART_REDIS_URL")] = "",
    gate_url: Annotated[
        str,
        typer.Option(
            envvar="LIVECART_GATE_URL",
            help="Where holds are, if not at --redis-url: a Redis, or any node of a cluster.",
        ),
    ] = "",
    url: Annotated[str, typer.Option(help="Server, to be asked what it says is left.")] = "",
    wait: Annotated[float, typer.Option(min=0, help="Seconds for the sale to come to rest.")] = 30,
    examples: Annotated[
        int, typer.Option(min=1, max=BREACHES_KEPT_MAX, help="Shown of each; the rest is counted.")
    ] = EXAMPLES_MAX,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON in place of tables.")
    ] = False,
) -> None:
    """Judge sales by Postgres, Redis and what buyers saw: I1 to I8, I10 and I11.

    Exit status: 0 all that was judged holds, 1 something is broken, 2 nothing could be judged.
    """
    if not database_url:
        raise typer.BadParameter("--database-url (or LIVECART_DATABASE_URL) is needed")
    if not (offers or stream or history):
        raise typer.BadParameter("name offers, --stream or --history")
    place = Place(database_url, gate_url or redis_url, url, wait)
    try:
        judged = asyncio.run(judge(place, offers or [], stream, history))
    except (CannotJudge, HistoryUnreadable) as error:
        _cannot(str(error))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        _cannot(f"Postgres: {type(error).__name__}: {error}")
    except RedisError as error:
        _cannot(f"Redis: {type(error).__name__}: {error}")
    gathered = verdicts(judged.found)
    if as_json:
        document = to_document(judged, gathered, examples)
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    else:
        show(Console(), judged, gathered, examples)
    raise typer.Exit(int(any(one.word == "BROKEN" for one in gathered)))


async def judge(place: Place, offers: Sequence[str], stream: str, history: Path | None) -> Judged:
    """Judge what was named; CannotJudge when that is nothing, or Redis is not there."""
    kept = read_file(history) if history is not None else Kept()
    if "" in kept.offers:  # one history, of an offer that is named here
        if len(offers) != 1:
            raise CannotJudge("the history names no offer: name the one it is of")
        kept.offers = {offers[0]: kept.offers[""]}
    stream = stream or kept.stream
    await (await connect(place.database_url, REACH_S)).close()
    if place.gate_url:
        await _reach(place.gate_url)
    named = list(dict.fromkeys([*offers, *kept.offers]))
    if stream and not offers:
        named = list(dict.fromkeys([*named, *await offers_of(place.database_url, stream)]))
    if not named:
        raise CannotJudge(f"stream {stream} has no offers")
    judged = Judged()
    for offer in named:
        found = await audit(
            place.database_url, offer, kept.offers.get(offer),
            http_url=place.http_url, gate_url=place.gate_url, rest_wait_s=place.wait_s,
        )  # fmt: skip
        if found.rows == 0 and offer not in kept.offers and _missing(found):
            raise CannotJudge(f"there is no offer {offer}")
        judged.audits.append(found)
    began_ms = min((one.began_ms for one in judged.audits if one.began_ms), default=0)
    if kept.bundles:
        judged.others.append(("bundles", await audit_bundles(place.database_url, kept.bundles)))
    if kept.deliveries is None:
        told = unjudged("no record of what viewers were delivered")
    else:
        told = await audit_deliveries(place.database_url, stream, kept.deliveries, began_ms)
    judged.others += ((stream or "stream", one) for one in told)
    return judged


def _missing(found: Audit) -> bool:
    return any(one.claim == "the offer is a row" for one in found.findings)


async def _reach(gate_url: str) -> None:
    """Raise RedisError or OSError when nobody answers there: that breaks no invariant."""
    gates = Gates(gate_url)
    try:
        async with asyncio.timeout(REACH_S):
            await gates.reach()
    except TimeoutError as error:
        raise CannotJudge("Redis does not answer") from error
    finally:
        await gates.aclose()


def _cannot(why: str) -> NoReturn:
    typer.echo(f"livecart-loadtest: could not judge: {why}", err=True)
    raise typer.Exit(COULD_NOT_JUDGE)


def to_document(judged: Judged, gathered: Sequence[Verdict], examples: int) -> dict[str, Any]:
    """Return what `--json` prints."""
    broken = any(one.word == "BROKEN" for one in gathered)
    return {
        "verdict": "broken" if broken else "holds",
        "invariants": [
            {
                "name": one.name,
                "claim": one.claim,
                "verdict": one.word.lower(),
                "not_judged": one.why,
                "broken": one.broken,
                "breaches": [
                    {"of": of, "text": breach.text, **msgspec.to_builtins(breach)}
                    for of, breach in one.breaches[:examples]
                ],
            }
            for one in gathered
        ],
        "audits": msgspec.to_builtins(judged.audits),
    }


def show(console: Console, judged: Judged, gathered: Sequence[Verdict], examples: int) -> None:
    """Print a line for each invariant, and below what breaks it."""
    for sale in judged.audits:
        rest = "not at rest" if sale.rest_s is None else f"at rest after {sale.rest_s:.1f} s"
        console.print(
            f"audit of {sale.offer}: {sale.rows:,} orders, {sale.live:,} of {sale.quantity:,} units"
            f" live, {rest}",
            highlight=False,
        )
    table = Table(show_header=False, box=None, pad_edge=False)
    for one in gathered:
        count = f" {one.broken:,} times" if one.broken > 1 else ""
        why = f" [dim]({escape(one.why)})[/]" if one.why else ""
        table.add_row(
            one.name, f"[{COLOURS[one.word]}]{one.word}{count}[/]", escape(one.claim) + why
        )
    console.print(table)
    broken = [one for one in gathered if one.word == "BROKEN"]
    for one in broken:
        console.print(f"[red]{one.name} is broken[/]: {escape(one.claim)}", highlight=False)
        for of, breach in one.breaches[:examples]:
            console.print(f"  {of}: {breach.text}", markup=False, highlight=False, soft_wrap=True)
        more = one.broken - len(one.breaches[:examples])
        if more > 0:
            console.print(f"  and {more:,} more")
    names = ", ".join(one.name for one in broken)
    console.print(f"[red]BROKEN: {names}[/]" if broken else "[green]HOLDS[/]")
