"""How fast the hub is beside its peers, in one table: `make bench-hub`, or with names of parts.

Each server gets a crowd of its own and one processor, the crowds the other; rounds go from one
server to the next, and a ratio is that of two figures of one round. Not a test: nothing here
fails because something is slow. Peers that are absent are left out with a word.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import msgpack

from loadtest.bench.asks import Flood, Judge, PingPong, Say
from loadtest.bench.figures import Row, Series, latency, quantile, table, waits
from loadtest.bench.judged import payloads
from loadtest.bench.ours import command, mark_of
from loadtest.bench.stations import Failed, Start, Station, files_for, in_turn, starters, stations
from loadtest.web import make_token

DELIVERIES = 60_000  # of a round, one event at a time
EVENTS_MIN, EVENTS_MAX = 5, 50
BURST, BURST_GAP_S, BURSTS = 20, 0.00025, 3  # 20 within 5 ms
SAMPLE = 20
PING_VIEWERS, PING_S = 500, 1.0
CHAT_PER_S = 500.0
FLOOD_PAUSE_S, FLOOD_TIMEOUT_S = 0.2, 10.0
CONNECT_ROUNDS = 3
AWAY_EVENTS = 20
SETTLE_S = 1.0

Measure = Callable[["Options"], AsyncIterator[Row]]
ALL = ("livecart", "uWebSockets", "nchan", "plain Starlette")


@dataclass(frozen=True)
class Options:
    """What to measure."""

    sizes: tuple[int, ...]
    rounds: int
    pins: int
    offers: int
    idle: int
    starts: dict[str, Start]
    absent: dict[str, str] = field(default_factory=dict)  # peers that are not here, and why


def say(line: str) -> None:
    """Print a line as soon as it is known."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def fanning(
    options: Options, viewers: int, burst: int, names: Sequence[str]
) -> AsyncIterator[Row]:
    """Events to everybody, one at a time or in bursts."""
    if word := files_for(viewers):
        yield f"fan-out to {viewers:,} sockets", word
        return
    events = (
        min(EVENTS_MAX, max(EVENTS_MIN, DELIVERIES // viewers)) if burst == 1 else burst * BURSTS
    )
    async with stations(options.starts, names, options.absent, say) as all_:
        seen = {}
        for name, one in all_.items():
            await one.speakers()
            await one.fill(viewers)
            await one.warm()
            seen[name] = await one.verify(3, SAMPLE)
        idle_s, began_s = all_["livecart"].subject.cpu_s(), time.monotonic()
        await asyncio.sleep(3 * SETTLE_S)
        idle_s = all_["livecart"].subject.cpu_s() - idle_s
        idle = 100 * idle_s / (time.monotonic() - began_s)
        series: dict[str, Series] = defaultdict(Series)
        for one in in_turn(all_, options.rounds):
            answer = await one.say(events, at_once=burst, gap_s=BURST_GAP_S if burst > 1 else 0.0)
            series[one.subject.name].add(answer, one.cpu_s, answer.n / sum(answer.lasts_s))
    what = "one event at a time" if burst == 1 else f"bursts of {burst} within 5 ms"
    yield f"{what}, {viewers:,} sockets", "; ".join(f"{k}: {v}" for k, v in seen.items())
    for row in table({name: series[name] for name in all_}, waits):
        yield row
    yield "  livecart while nothing is said", f"{idle:.1f} % of its processor"


async def events(options: Options) -> AsyncIterator[Row]:
    """One event at a time: from the saying to the last viewer, the log in between."""
    for viewers in options.sizes:
        async for row in fanning(options, viewers, 1, ALL):
            yield row


async def bursts(options: Options) -> AsyncIterator[Row]:
    """20 events within 5 ms; plain Starlette would take minutes."""
    for viewers in options.sizes:
        async for row in fanning(options, viewers, BURST, ALL[:3]):
            yield row


async def pins(options: Options) -> AsyncIterator[Row]:
    """How long a pin, and an opened offer in a chat, take to the last viewer."""
    viewers = max(options.sizes)
    if word := files_for(viewers):
        yield f"pins to {viewers:,} sockets", word
        return
    async with stations(options.starts, ("livecart", "nchan"), options.absent, say) as all_:
        for one in all_.values():
            await one.speakers()
            await one.fill(viewers)
            await one.warm()
        yield f"pin to the last of {viewers:,} viewers", f"{options.pins} pins each, in turn"
        series: dict[str, Series] = defaultdict(Series)
        blocks = min(5, options.pins)
        for one in in_turn(all_, blocks):
            frames = one.pins(options.pins // blocks)
            answer = await one.ask(Say("host", frames, one.subject.pin_mark))
            answer.n = viewers * len(frames)
            series[one.subject.name].add(answer, one.cpu_s, 0)
        for name in all_:
            lasts = [s for answer in series[name].answers for s in answer.lasts_s]
            yield f"  {name}", f"{latency(lasts)}; {series[name].busy}"
        async for row in chatting(options, all_):
            yield row


async def chatting(options: Options, all_: dict[str, Station]) -> AsyncIterator[Row]:
    """An offer is opened (nchan: a pin is sent on) in silence, then in a chat."""
    yield (
        f"offer.opened to the last of {max(options.sizes):,}",
        f"in silence, then while {CHAT_PER_S:.0f} chat messages a second flow",
    )
    for name, one in all_.items():
        kind, asks, mark = "pin", one.pins, one.subject.pin_mark
        if one.subject.api is not None:
            opening = [command("offer.open", n, offer=id_) for n, id_ in
                       enumerate(await _offers(one, 2 * options.offers))]  # fmt: skip
            kind, mark = "offer.opened", mark_of("offer.opened")
            quiet, loud = opening[: options.offers], opening[options.offers :]
        else:
            quiet, loud = asks(options.offers), asks(options.offers)
        calm = await one.ask(Say("host", quiet, mark))
        calm_p99 = quantile(calm.lasts_s, 0.99)
        chat_s = options.offers * 3.0 + FLOOD_TIMEOUT_S
        chats = one.frames(int(CHAT_PER_S * chat_s))
        flood = Flood(
            chatter="speaker", chats=chats, chat_mark=one.subject.mark, per_s=CHAT_PER_S,
            who="host", asks=loud, mark=mark, pause_s=FLOOD_PAUSE_S, timeout_s=FLOOD_TIMEOUT_S,
        )  # fmt: skip
        try:
            answer = await one.ask(flood, 60 + chat_s)
        except Failed as failed:
            yield f"  {name}, {kind}", f"in silence {latency(calm.lasts_s)}; in chat: {failed}"
            continue
        told = f"in silence {latency(calm.lasts_s)}; in chat "
        if answer.lasts_s:
            times = quantile(answer.lasts_s, 0.99) / calm_p99
            told += f"{latency(answer.lasts_s)} ({len(answer.lasts_s)} of them), "
            told += f"p99 {times:.1f} times that in silence"
        if answer.late:
            told += f"not with everybody within {FLOOD_TIMEOUT_S:.0f} s"
        busy = 100 * answer.cpu_s / answer.wall_s
        told += f"; {answer.said:,} messages said, a viewer heard {answer.n:,}"
        told += f" in {answer.wall_s:.0f} s; client {busy:.0f} % busy"
        yield f"  {name}, {kind}", told


async def _offers(one: Station, n: int) -> list[str]:
    """Return so many offers that are not open yet."""
    api, subject = one.subject.api, one.subject
    assert api is not None
    body = {"product": subject.product, "price_minor": 100, "quantity": 10}
    return [
        (await api.call("POST", f"/v1/streams/{subject.stream}/offers", body))["id"]
        for _ in range(n)
    ]


async def memory(options: Options) -> AsyncIterator[Row]:
    """RSS of an idle, welcomed connection, in fresh processes."""
    viewers = options.idle
    yield f"memory of {viewers:,} idle connections", "RSS of the process with the sockets"
    if word := files_for(viewers):
        yield "  all", word
        return
    for name in ALL:
        async with stations(options.starts, (name,), options.absent, say) as all_:
            for one in all_.values():
                await one.speakers()
                await one.fill(10)  # what is made once is made
                await asyncio.sleep(SETTLE_S)
                before = one.subject.rss_bytes()
                await one.fill(viewers)
                await asyncio.sleep(SETTLE_S)
                each = (one.subject.rss_bytes() - before) / viewers
                whole = one.subject.rss_bytes() / 2**20
                yield f"  {name}", f"{each / 1024:.1f} KB each; the process {whole:.0f} MB"


async def connects(options: Options) -> AsyncIterator[Row]:
    """How many viewers a second are let in."""
    for viewers in options.sizes:
        if word := files_for(viewers):
            yield f"connects, {viewers:,} viewers", word
            continue
        series: dict[str, Series] = defaultdict(Series)
        async with stations(options.starts, ALL, options.absent, say) as all_:
            for one in all_.values():
                await one.speakers()  # the room is open, as in a show that goes on
            ways = [*((name, None) for name in all_), ("livecart", _tokens(all_, viewers))]
            for _ in range(CONNECT_ROUNDS):
                for name, tokens in ways:
                    one = all_[name]
                    # A peer's handshake is all that it does; livecart says who and what it is.
                    hellos = {"hellos": tokens} if tokens else {}
                    if name != "livecart":
                        hellos = {"hellos": []}
                    answer = await one.fill(viewers, drop=True, **hellos)
                    key = "livecart, with tokens" if tokens else name
                    series[key].add(answer, one.cpu_s, viewers / answer.wall_s)
                    await one.fill(0, drop=True)
                    await asyncio.sleep(SETTLE_S)
        yield f"connects, {viewers:,} viewers", "livecart with hello and welcome, others without"
        for row in table(series, lambda _: ""):
            yield row


def _tokens(all_: dict[str, Station], viewers: int) -> list[bytes]:
    secret = all_["livecart"].subject.secret
    tokens = (make_token(secret, f"viewer-{n}", "viewer", name="v") for n in range(viewers))
    return [command("hello", 0, token=token) for token in tokens]


async def recovery(options: Options) -> AsyncIterator[Row]:
    """Everybody is dropped and comes back with `since`, while the chat goes on."""
    viewers = max(options.sizes)
    yield f"{viewers:,} dropped at once and back with `since`", f"{AWAY_EVENTS} events meanwhile"
    if word := files_for(viewers):
        yield "  livecart", word
        return
    async with stations(options.starts, ("livecart",), options.absent, say) as all_:
        one = all_["livecart"]
        secret = one.subject.secret
        for kind in ("guests", "with tokens"):
            entered = await one.enter("speaker", *one.subject.speaker)
            welcome = msgpack.unpackb(next(payloads(entered.welcome)))
            await one.fill(viewers, drop=True)
            heard = (await one.say(AWAY_EVENTS, sample=1)).samples[0]
            # The welcome's own may be a second old: a snapshot is shared, and events follow it.
            cseq = [msgpack.unpackb(payload) for payload in payloads(heard)][-1]["cseq"]
            seq = welcome["seq"]  # nothing but chat happens here
            since = {"epoch": welcome["epoch"], "seq": seq, "cseq": cseq}
            hellos = [command("hello", 0, since=since)]
            if kind != "guests":
                hellos = [
                    command("hello", 0, since=since, token=make_token(secret, f"v{n}", "viewer"))
                    for n in range(viewers)
                ]
            frames = one.frames(AWAY_EVENTS)
            back = await one.fill(
                viewers, hellos=hellos, keep=True, drop=True, who="speaker", meanwhile=frames
            )
            await one.say(1)
            judged = await one.ask(Judge(seq, cseq, cseq + AWAY_EVENTS + 1))
            told = f"{back.wall_s:.2f} s; {judged.recovered:,} of {judged.n:,} recovered, "
            told += f"{judged.gaps:,} with a gap{': ' if judged.problem else ''}{judged.problem}"
            busy = 100 * back.cpu_s / back.wall_s
            yield f"  livecart, {kind}", f"{told}; client {busy:.0f} % busy"


async def commands(options: Options) -> AsyncIterator[Row]:
    """`ping` and `pong`, one of each viewer under way all the time."""
    series: dict[str, Series] = defaultdict(Series)
    async with stations(
        options.starts, ("livecart", "plain Starlette"), options.absent, say
    ) as all_:
        for one in all_.values():
            await one.fill(min(PING_VIEWERS, max(options.sizes)))
        for one in in_turn(all_, options.rounds):
            ask = PingPong(one.subject.ping, one.subject.pong, PING_S)
            answer = await one.ask(ask)
            series[one.subject.name].add(answer, one.cpu_s, answer.n / answer.wall_s)
    yield f"ping and pong, {PING_VIEWERS} sockets", "one command of each under way"
    for row in table({name: series[name] for name in all_}, lambda _: ""):
        yield row


MEASUREMENTS: dict[str, Measure] = {
    "events": events,
    "bursts": bursts,
    "pins": pins,
    "memory": memory,
    "connects": connects,
    "recovery": recovery,
    "commands": commands,
}


def main() -> None:
    """Run what was asked for, and print a line as soon as it is known."""
    parser = argparse.ArgumentParser(prog="bench_hub", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(MEASUREMENTS))
    parser.add_argument("--sizes", default="2000,8000", help="of crowds; with commas between")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pins", type=int, default=200)
    parser.add_argument("--offers", type=int, default=60, help="in silence, and as many in a chat")
    parser.add_argument("--idle", type=int, default=18_000, help="connections whose memory counts")
    parser.add_argument(
        "--socketify-python", default=sys.executable, help="a Python that has socketify"
    )
    given = parser.parse_args()
    if unknown := set(given.names) - set(MEASUREMENTS):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    options = Options(
        sizes=tuple(int(size) for size in given.sizes.split(",")),
        rounds=given.rounds,
        pins=given.pins,
        offers=given.offers,
        idle=given.idle,
        starts=starters(given.socketify_python),
    )
    files_for(0)
    well = [
        asyncio.run(_print(MEASUREMENTS[name](options))) for name in given.names or MEASUREMENTS
    ]
    sys.exit(0 if all(well) else "not everything could be measured")


async def _print(rows: AsyncIterator[Row]) -> bool:
    try:
        async for what, figure in rows:
            say(f"{what:<48} {figure}")
    except Failed as failed:
        say(f"  FAILED: {failed}")
        return False
    return True


if __name__ == "__main__":
    main()
