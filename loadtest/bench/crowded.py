"""The contests of servers with a crowd: fan-out, connects, memory; every side in turn.

Owns their rounds. A peer that fails is left out and named; if livecart fails, so does the contest.
Called by `compare`.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from loadtest.bench.comparison import OURS, Contest, entries_of
from loadtest.bench.stations import (
    Announce,
    Failed,
    Start,
    Station,
    files_for,
    in_turn,
    stations,
)
from loadtest.bench.subject import EVENT_BYTES

EVENTS_MIN, EVENTS_MAX = 3, 50  # of a side in a round
ROUND_S = 1.0  # that a side takes, if its events are not too few or too many for it
WARM_EVENTS, WARM_AT_ONCE, WARM_S = 20, 5, 3.0  # the first after a crowd's coming are slower
CONNECTS_MAX = 2_000
#: Rounds that are held however slow the machine is, and after how long there are no more.
ROUNDS_MIN, ROUNDS_S_MAX = 3, 75.0
SAMPLE = 20  # viewers of whom every frame is looked at
SETTLE_S = 1.0
FIRST_VIEWERS = 10  # before memory counts: what is made once is made


@dataclass(frozen=True)
class Options:
    """What to compare, and where it is said what happens."""

    viewers: int
    rounds: int
    starts: dict[str, Start]
    announce: Announce
    versions: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)  # peers that are not here, and why
    failed: dict[str, str] = field(default_factory=dict)  # peers that could not


async def fan_out(options: Options) -> Contest:
    """Events to everybody, one at a time: deliveries a second, the last viewer's included."""
    viewers = options.viewers
    events: dict[str, int] = {}  # of a round, by side
    figures: dict[str, list[float]] = defaultdict(list)

    async def settle(one: Station) -> None:
        await one.speakers()
        await one.fill(viewers)
        rate = await warm(one)
        await one.verify(EVENTS_MIN, min(SAMPLE, viewers))
        many = int(rate * ROUND_S / viewers)
        events[one.subject.name] = min(EVENTS_MAX, max(EVENTS_MIN, many))

    async def round_of(one: Station) -> None:
        answer = await one.say(events[one.subject.name])
        figures[one.subject.name].append(answer.n / sum(answer.lasts_s))

    async with everybody(options) as all_:
        await each(options, all_, settle, "viewers are there")
        await turns(options, all_, round_of, figures, "deliveries/s")
    return Contest(
        name="fan-out",
        what=f"An event of {EVENT_BYTES} bytes is said over a socket and reaches {viewers:,}"
        " viewers, the next one after the last of them has it.",
        unit="deliveries/s",
        rounds=len(figures[OURS]),
        entries=entries_of(of_all(figures, all_)),
        notes=[
            "livecart checks each event, appends it to the log in Redis and reads it from there;"
            " the peers pass on what they are sent. Where there are two processors, all processes"
            " of a server have one and its crowd has the other, here and in the contests of"
            " connects and memory."
        ],
    )


def rounds_of(options: Options) -> Iterator[int]:
    """Give the numbers of a contest's rounds: fewer than wanted where they take too long."""
    ends_s = time.monotonic() + ROUNDS_S_MAX
    for number in range(1, options.rounds + 1):
        if number > ROUNDS_MIN and time.monotonic() > ends_s:
            options.announce(f"  {number - 1} rounds are enough here: they take long")
            return
        yield number


async def warm(one: Station) -> float:
    """Have some events heard, or fewer by a slow server; return the deliveries/s of the last."""
    ends_s, rate = time.monotonic() + WARM_S, 0.0
    for _ in range(WARM_EVENTS // WARM_AT_ONCE):
        answer = await one.say(WARM_AT_ONCE)
        rate = answer.n / sum(answer.lasts_s)
        if time.monotonic() > ends_s:
            break
    return rate


async def connects(options: Options) -> Contest:
    """How many viewers a second are let in, from the dialling to where events would reach them."""
    viewers = min(options.viewers, CONNECTS_MAX)
    figures: dict[str, list[float]] = defaultdict(list)

    async def settle(one: Station) -> None:
        await one.speakers()  # the room is open, as in a show that goes on

    async def round_of(one: Station) -> None:
        answer = await one.fill(viewers, drop=True)
        figures[one.subject.name].append(viewers / answer.wall_s)
        await one.fill(0, drop=True)
        await asyncio.sleep(SETTLE_S)  # the server buries them in time that is nobody's

    async with everybody(options) as all_:
        await each(options, all_, settle, "is up")
        await turns(options, all_, round_of, figures, "connects/s")
    return Contest(
        name="connects",
        what=f"{viewers:,} viewers come as fast as they are let in, until events would reach them.",
        unit="connects/s",
        rounds=len(figures[OURS]),
        entries=entries_of(of_all(figures, all_)),
        notes=[
            "nchan and uWebSockets are asked for the handshake alone; plain Starlette and Socket.IO"
            " answer a hello; livecart answers it with all that a page shows."
        ],
    )


async def memory(options: Options) -> Contest:
    """Memory of an idle connection, in fresh processes."""
    figures: dict[str, list[float]] = {}

    async def fill(one: Station) -> None:
        await one.speakers()
        await one.fill(FIRST_VIEWERS)
        await asyncio.sleep(SETTLE_S)
        before = one.subject.rss_bytes()
        await one.fill(options.viewers)
        await asyncio.sleep(SETTLE_S)
        each_kb = (one.subject.rss_bytes() - before) / options.viewers / 1024
        figures[one.subject.name] = [each_kb]
        options.announce(f"  {one.subject.name}: {each_kb:.1f} KB each")

    for name in options.starts:
        async with everybody(options, (name,)) as all_:
            await each(options, all_, fill)
    return Contest(
        name="memory",
        what=f"RSS of the process that holds the sockets, for each of {options.viewers:,} idle"
        " viewers.",
        unit="KB",
        more_is_better=False,
        entries=entries_of(figures, more_is_better=False),
    )


@asynccontextmanager
async def everybody(
    options: Options, names: tuple[str, ...] = ()
) -> AsyncIterator[dict[str, Station]]:
    """All sides that are here, each with its crowd."""
    if word := files_for(options.viewers):
        raise Failed(word)
    run, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert run is not None
    # Who is told to end must not leave servers behind.
    loop.add_signal_handler(signal.SIGTERM, run.cancel)
    wanted = names or tuple(options.starts)
    try:
        async with stations(options.starts, wanted, options.absent, options.announce) as all_:
            for one in all_.values():
                options.versions.update(one.subject.versions)
            yield all_
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def each(
    options: Options,
    all_: dict[str, Station],
    act: Callable[[Station], Awaitable[None]],
    told: str = "",
) -> None:
    """Do something with every side; a peer that cannot is taken out."""
    for name, one in list(all_.items()):
        began_s = time.monotonic()
        if await attempt(options, all_, one, act) and told:
            options.announce(f"  {name}: {told} ({time.monotonic() - began_s:.1f} s)")


async def turns(
    options: Options,
    all_: dict[str, Station],
    act: Callable[[Station], Awaitable[None]],
    figures: dict[str, list[float]],
    unit: str,
) -> None:
    """Have every side do it in every round, each time another first; say what came of it."""
    order, sides = in_turn(all_, options.rounds), len(all_)
    for number in rounds_of(options):
        for one in order[(number - 1) * sides : number * sides]:
            if one.subject.name in all_ and await attempt(options, all_, one, act):
                rate = figures[one.subject.name][-1]
                options.announce(f"  round {number}: {one.subject.name} {rate:,.0f} {unit}")


async def attempt(
    options: Options,
    all_: dict[str, Station],
    one: Station,
    act: Callable[[Station], Awaitable[None]],
) -> bool:
    """Tell whether it went well; a peer with which it did not is out, and its figures with it."""
    name = one.subject.name
    try:
        await act(one)
    except (Failed, TimeoutError) as failure:
        if name == OURS:
            raise
        options.failed[name] = str(failure) or "it took too long"
        options.announce(f"  {name} is out: {options.failed[name]}")
        del all_[name]
        return False
    return True


def of_all(figures: dict[str, list[float]], all_: dict[str, Station]) -> dict[str, list[float]]:
    """Return the figures of those who went through all rounds."""
    return {name: found for name, found in figures.items() if name in all_}
