"""A million events to viewers who come and go while the server is broken: `make deliveries`.

Owns the length, the rhythm and the order of a run: streams with a host each who pins, opens, closes
and restocks all the time, viewers who chat, all of them leaving at random; a fault every few
seconds, drawn from a printed seed; then rest, and the verdict of the independent reader. A run that
tested nothing fails. Exit status 0 when all is as the protocol says.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import asyncpg
import uvloop

from loadtest.faults import FaultName, NotDone
from loadtest.server import until
from loadtest.swarm import raise_file_limit
from loadtest.web import Api, ApiError, make_token
from tests.faults.hosting import SHOP, Host, new_stream
from tests.faults.links import Form
from tests.faults.plan import Strike
from tests.faults.reader import Reader
from tests.faults.reader_rest import Fact, Rest
from tests.faults.results import FOLDER, commit_of, write_down
from tests.faults.striking import once_there
from tests.faults.tree import Tree, grown
from tests.faults.watching import Ticket, Watcher

STREAMS = 2
KEPT = 2_000  # events of each sequence that a server holds by default for who comes back
FORMS: tuple[Form, ...] = (
    "json",
    "msgpack",
    "json",
    "msgpack",
    "json",
    "msgpack",
    "json",
    "msgpack",
    "events",
)
NARROW_EVERY = 16  # one viewer in so many has a socket that takes but little
CHATTERS = 20  # of each stream
SHEDS_FROM = 200_000  # a run of so many deliveries is long enough for chat to be shed
STOP_S = (0.5, 3.0)
CONNECT_S = 60.0
REST_S = 40.0  # for everybody to be at the last event
BEGIN, END = "<!-- deliveries: begin -->", "<!-- deliveries: end -->"
#: A server that gives up a slow viewer soon: few events wait before chat is shed.
SETTINGS = {"LIVECART_QUEUE_BYTES_MAX": "16384"}

KINDS = (
    FaultName.KILL_WORKER,
    FaultName.DRAIN_WORKER,
    FaultName.KILL_REDIS,
    FaultName.FLUSHALL,
    FaultName.STOP_REDIS,
    FaultName.DROP_REDIS,
    FaultName.DROP_POSTGRES,
    FaultName.KILL_KEEPER,
)
#: Faults that Redis loses the event log by.
LOSING = (FaultName.KILL_REDIS, FaultName.FLUSHALL)


@dataclass(frozen=True, slots=True)
class Plan:
    """A run, drawn from one number."""

    seed: int
    deliveries: int
    viewers: int
    seconds_max: float
    kinds: tuple[FaultName, ...] = KINDS
    pause_s: tuple[float, float] = (0.3, 4.5)  # between one fault's end and the next
    main_per_s: float = 4.0  # commands of each host
    chat_per_s: float = 7.0  # of each stream
    stay_s: float = 20.0  # between two disturbances of one viewer, in the mean

    def strikes(self) -> Iterator[tuple[float, Strike]]:
        """Draw faults without end, each with the pause before it; each kind once in a round."""
        random = Random(f"strikes {self.seed}")
        while True:
            kinds = list(self.kinds)
            random.shuffle(kinds)
            for kind in kinds:
                pause_s = round(random.uniform(*self.pause_s), 2)
                stops = kind is FaultName.STOP_REDIS
                seconds = round(random.uniform(*STOP_S), 2) if stops else 0.0
                yield pause_s, Strike(kind, seconds=seconds, which=random.randrange(2))

    def lines(self) -> Iterator[str]:
        """The whole plan, as far as time could let it be played; a round of faults a line."""
        yield (
            f"seed {self.seed}: {self.deliveries:,} deliveries to {self.viewers} viewers of"
            f" {STREAMS} streams in {self.seconds_max:g} s at the most"
        )
        left_s, strikes = self.seconds_max, self.strikes()
        while left_s > 0:
            line = []
            for _ in self.kinds:
                pause_s, strike = next(strikes)
                left_s -= pause_s + strike.seconds
                more = f" for {strike.seconds:g} s" if strike.seconds else ""
                more += f" {strike.which + 1}" if strike.what.endswith("worker") else ""
                line.append(f"{pause_s:g} s {strike.what}{more}")
            yield "  " + ", ".join(line)

    def tickets(self, streams: list[str], secret: str) -> list[Ticket]:
        """Who watches what: in turns on each stream, in each form, with a token or as a guest."""
        found = []
        for number in range(self.viewers):
            stream, turn = streams[number % STREAMS], number // STREAMS
            name, form = f"viewer-{number}", FORMS[turn % len(FORMS)]
            member = turn % 2 == 0
            token = make_token(secret, name, "viewer") if member else ""
            narrow = turn % NARROW_EVERY == NARROW_EVERY - 1
            found.append(Ticket(name, stream, form, token, narrow))
        return found


@dataclass(slots=True)
class Report:
    """What a run came to."""

    lines: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


class Run:
    """One run under way."""

    def __init__(self, plan: Plan, tree: Tree) -> None:
        self.plan = plan
        self.tree = tree
        self.reader = Reader(KEPT)
        self.watchers: list[Watcher] = []
        self.hosts: list[Host] = []
        self.fired: Counter[str] = Counter()
        self.missed: list[str] = []
        self.seconds = 0.0
        self._random = Random(f"crowd {plan.seed}")
        self._unrest: list[asyncio.Task[None]] = []
        self._watching: list[asyncio.Task[None]] = []
        self._ends = 0.0

    async def set_up(self) -> None:
        """Make the streams, and have everybody watch."""
        target, plan = self.tree.target, self.plan
        raise_file_limit(plan.viewers + 200)
        api = Api(target.http, make_token(target.secret, SHOP, "host"))
        streams = [await new_stream(api) for _ in range(STREAMS)]
        for ticket in plan.tickets(streams, target.secret):
            self._watch(ticket)
        for stream in streams:
            token = make_token(target.secret, SHOP, "host")
            at_desk = self._watch(Ticket(f"host of {stream}", stream, "json", token))
            speak = [
                one for one in self.watchers
                if one.ticket.stream == stream and one.ticket.token
                and one.ticket.form != "events" and one is not at_desk
            ][:CHATTERS]  # fmt: skip
            host = Host(stream, api, at_desk, speak, Random(f"host {stream} {plan.seed}"))
            self.hosts.append(host)
            await host.set_up()
        if not await until(lambda: all(one.link for one in self.watchers), CONNECT_S, 0.05):
            raise TimeoutError("not everybody is welcome")

    def _watch(self, ticket: Ticket) -> Watcher:
        random = Random(f"{ticket.name} {self.plan.seed}")
        watcher = Watcher(ticket, self.tree.target.http, self.reader, random)
        self.watchers.append(watcher)
        self._watching.append(asyncio.ensure_future(watcher.run()))
        return watcher

    # --- trouble ---------------------------------------------------------------------------------

    async def trouble(self) -> None:
        """Events, leaving and faults, until enough was delivered and each kind has struck."""
        plan, began = self.plan, time.monotonic()
        self._ends = began + plan.seconds_max
        for host in self.hosts:
            self._unrest.append(asyncio.ensure_future(host.act(plan.main_per_s)))
            self._unrest.append(asyncio.ensure_future(host.talk(plan.chat_per_s)))
        disturbing = asyncio.ensure_future(self._disturb())
        for pause_s, strike in plan.strikes():
            await until(self._done, min(pause_s, max(0.0, self._ends - time.monotonic())), 0.05)
            if self._done() or time.monotonic() > self._ends:
                break
            await self._strike(strike)
        disturbing.cancel()
        await asyncio.wait({disturbing})
        self.seconds = time.monotonic() - began

    def _done(self) -> bool:
        enough = self.reader.tally["deliveries"] >= self.plan.deliveries
        return enough and all(self.fired[kind] for kind in self.plan.kinds)

    async def _strike(self, strike: Strike) -> None:
        try:
            await once_there(self.tree, strike)
            self.fired[strike.what] += 1
        except NotDone as error:
            self.missed.append(f"{strike.what}: {error}")
        if strike.what == FaultName.KILL_KEEPER:
            await self.tree.well()  # the one that stands by is ours to bring back

    async def _disturb(self) -> None:
        """Disturb one viewer after the other, by the plan's own drawing."""
        while True:
            await asyncio.sleep(self._random.expovariate(self.plan.viewers / self.plan.stay_s))
            self._random.choice(self.watchers).disturb()

    # --- rest ------------------------------------------------------------------------------------

    async def rest(self) -> None:
        """Let everybody come back and hear the last events; who does not is the reader's to say."""
        for host in self.hosts:
            host.rest()
        await asyncio.gather(*self._unrest)
        for watcher in self.watchers:
            watcher.settle()
        await self.tree.well()
        await until(lambda: all(one.link for one in self.watchers), REST_S, 0.05)
        for host in self.hosts:
            await host.last_words()
        await until(self._all_heard, REST_S, 0.05)
        # Somebody new is shown what is left.
        for host in self.hosts:
            self._watch(Ticket(f"late to {host.stream}", host.stream, "msgpack"))
        await until(lambda: all(one.link for one in self.watchers), REST_S, 0.05)
        await until(self._all_heard, REST_S, 0.05)

    def _all_heard(self) -> bool:
        reader = self.reader
        for host in self.hosts:
            places = {reader.places.get(viewer) for viewer, stream in reader.streams.items()
                      if stream == host.stream}  # fmt: skip
            newest = list(reader.epochs[host.stream].values())[-1]
            last_pin = any(heard.event.get("pin") == host.unpinned_last
                           for heard in newest.main.values())  # fmt: skip
            said = all(message in newest.said for message in host.last.values())
            if len(places) != 1 or not last_pin or not said:
                return False
        return True

    async def judge(self) -> Report:
        """Have the reader judge each stream against Postgres and HTTP, and count."""
        connection = await asyncpg.connect(self.tree.target.database_url)
        try:
            for host in self.hosts:
                rest = Rest(self.reader, host.stream, await facts_of(connection, host.stream))
                rest.judge(host.deeds, host.said, host.last, await host.listed())
        finally:
            await connection.close()
        report = Report()
        report.broken += self.reader.findings
        self._count(report)
        return report

    def _count(self, report: Report) -> None:
        tally = self.reader.tally + sum((one.tally for one in self.watchers), Counter[str]())
        epochs = sum(len(epochs) for epochs in self.reader.epochs.values())
        faults = sum(self.fired.values())
        lost = sum(self.fired[kind] for kind in LOSING)
        reconnects = tally["welcomes"] - len(self.watchers)
        facts = sum(host.deeds.acknowledged.total() for host in self.hosts)
        demanded: dict[str, int] = {
            "deliveries": tally["deliveries"], "main": tally["main"], "chat": tally["chat"],
            "reconnects": reconnects, "recovered": tally["recovered"], "anew": tally["anew"],
            "resyncs": tally["resyncs"], "epochs begun anew": epochs - STREAMS,
            "goodbyes": tally["leave"], "resets": tally["reset"], "pauses": tally["pause"],
            "acknowledged commands": facts, "newcomers back": tally["newcomers"],
            **{f"from {form}": tally[f"from {form}"] for form in set(FORMS)},
            **({"skips": tally["skips"]} if self.plan.deliveries >= SHEDS_FROM else {}),
            **{kind: self.fired[kind] for kind in self.plan.kinds},
        }  # fmt: skip
        report.broken += [f"the run had no {what}" for what, n in demanded.items() if n <= 0]
        if tally["deliveries"] < self.plan.deliveries:
            report.broken.append(f"time was up before {self.plan.deliveries:,} deliveries")
        if epochs > STREAMS * (1 + lost):
            report.broken.append(f"{epochs} epochs of {STREAMS} streams; the log was lost {lost}x")
        report.lines = [
            f"{tally['deliveries']:,} deliveries ({tally['main']:,} main, {tally['chat']:,} chat)"
            f" to {len(self.watchers)} viewers of {STREAMS} streams in {self.seconds:.0f} s;"
            f" {reconnects:,} reconnects: {tally['recovered']:,} recovered, {tally['anew']:,} shown"
            f" a snapshot anew, {tally['newcomers'] - len(self.watchers):,} as newcomers;"
            f" {tally['leave']:,} goodbyes, {tally['reset']:,} resets, {tally['pause']:,} pauses;"
            f" {tally['resyncs']:,} resyncs into a new epoch, {tally['resyncs_within']:,} within"
            f" one; {epochs} epochs; {tally['skipped']:,} chat events shed for slow viewers in"
            f" {tally['skips']:,} jumps, {tally['code 4508']:,} sent away as slow;"
            f" {facts:,} acknowledged host commands,"
            f" {sum(host.deeds.unknown.total() for host in self.hosts)} of unknown outcome;"
            f" {tally['snapshots']:,} different snapshots, which alone told viewers of"
            f" {tally['by_snapshot']:,} main events",
            f"{faults} faults: " + ", ".join(f"{k} {n}" for k, n in sorted(self.fired.items())),
            *(f"not done: {missed}" for missed in self.missed),
        ]

    async def close(self) -> None:
        """End what is under way; everybody goes home."""
        for watcher in self.watchers:
            watcher.close()
        for task in [*self._unrest, *self._watching]:
            task.cancel()
        await asyncio.gather(*self._unrest, *self._watching, return_exceptions=True)


async def facts_of(connection: asyncpg.Connection[asyncpg.Record], stream: str) -> list[Fact]:
    """Read Postgres' own main events of a stream, by a query of our own."""
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=json.loads)
    rows = await connection.fetch(
        "select n, kind, subject, reason, (extract(epoch from at) * 1000)::bigint, body"
        " from facts where stream = $1 order by n",
        stream,
    )
    return [Fact(*row) for row in rows]


async def play(plan: Plan, tree: Tree) -> Report:
    """Play a plan on a server; the server is whole again when it returns."""
    await tree.well()
    run = Run(plan, tree)
    # Whatever is raised where nobody waits for it is the run's business all the same.
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: run.reader.found(f"unexpected: {context}")
    )
    try:
        await run.set_up()
        await run.trouble()
        await run.rest()
        return await run.judge()
    finally:
        await run.close()


def main() -> None:
    """Run as the command line asks."""
    parser = argparse.ArgumentParser(prog="tests.faults.deliveries", description=__doc__)
    parser.add_argument("--deliveries", type=int, default=1_000_000)
    parser.add_argument("--viewers", type=int, default=400)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--seconds-max", type=float, default=1_200.0)
    parser.add_argument("--write", action="store_true", help="put the report into docs/")
    options = parser.parse_args()
    plan = Plan(options.seed, options.deliveries, options.viewers, options.seconds_max)
    for line in plan.lines():
        sys.stdout.write(line + "\n")
    sys.stdout.flush()
    with grown(2, **SETTINGS) as tree:
        try:
            report = uvloop.run(play(plan, tree))
        except (TimeoutError, NotDone, ApiError):
            sys.stdout.write(tree.traces(200))
            raise
        if report.broken:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / f"deliveries-{plan.seed}.log").write_text(tree.traces(5_000), "utf-8")
    verdict = "no gap, no repeat, one order for all" if not report.broken else "BROKEN"
    text = "\n".join([f"seed {plan.seed}: {verdict}", *report.lines])
    sys.stdout.write("\n".join([text, *(f"BROKEN {what}" for what in report.broken)]) + "\n")
    if options.write and not report.broken:
        made = f'`make deliveries ARGS="--seed {plan.seed}"` at commit `{commit_of()}`'
        write_down("\n".join([f"{made}: {verdict}.", *report.lines]), BEGIN, END)
    sys.exit(bool(report.broken))


if __name__ == "__main__":
    main()
