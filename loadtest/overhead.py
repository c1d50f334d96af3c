"""What the harness itself costs: its crowd against a server that does next to nothing.

Owns the measure: commands a second (in volleys, and one at a time), received events a second (one
at a time, and in bursts) and the processor time of each, of one process of the crowd. Every answer
is matched to its command and every event's number checked, as in any run. Called by its command.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from loadtest.asks import Beat, Buy, Gather, Prepare, Reply, Settle, Tell
from loadtest.crew import CrewFailed, Member, gathered
from loadtest.pulse import Pulse
from loadtest.server import cpu_s
from loadtest.timings import Timing, merged
from streams.client import Client

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
DEADLINE_S = 60.0
POLL_S = 0.02
FLOODS = ((1, 200), (20, 4_000))  # events in one write, and events in all


@dataclass(slots=True, frozen=True)
class Cost:
    """One kind of work: how fast, and what it cost the crowd's process."""

    what: str
    per_s: float
    cpu_us: float
    latency: Timing | None = None  # of an answer, from when its command was due


@dataclass(slots=True, frozen=True)
class Overhead:
    """What was measured, and whether all of it was right."""

    viewers: int
    costs: list[Cost]
    missing: int
    faults: list[str]


async def overhead(viewers: int = 2_000, buys: int = 10) -> Overhead:
    """Measure with one process; where there are two cores, the server has one of its own."""
    async with trivial() as url, gathered(1) as crew:
        member = crew.members[0]
        _apart(member.pid)
        connected = await member.ask(
            Gather(
                url=f"{url.replace('http', 'ws')}/v1/streams/st_1/ws",
                secret="nothing checks it",
                names="v",
                first=0,
                viewers=viewers,
                of=viewers,
                buys_each=2 * buys,
                qty=1,
                key_prefix="k",
            )
        )
        costs = [Cost("connections", viewers / connected.seconds, 0.0)]
        await member.ask(Prepare(offer="of_1", first=0, buys=2 * buys))
        missing = 0
        volley = Buy(first=0, buys=buys)
        lone = Buy(first=buys, buys=buys, over_s=0.001)
        for what, buy in (("commands, a volley each", volley), ("commands, one at a time", lone)):
            cost, left = await _commands(member, what, buy, viewers)
            costs.append(cost)
            missing += left
        costs += [await _events(member, url, viewers, *flood) for flood in FLOODS]
        told = await member.ask(Tell())
    return Overhead(viewers, costs, missing, told.faults)


async def _commands(member: Member, what: str, buy: Buy, viewers: int) -> tuple[Cost, int]:
    await member.ask(Beat(at_s=0.0))
    cpu_began_s, began_s = cpu_s(member.pid), time.perf_counter()
    await member.ask(buy)
    settled = await member.ask(Settle(first=buy.first, buys=buy.buys, deadline_s=DEADLINE_S))
    passed_s, used_s = time.perf_counter() - began_s, cpu_s(member.pid) - cpu_began_s
    total = viewers * buy.buys
    timings = _pulse(await member.ask(Beat(at_s=0.0))).timings
    latency = merged(timings[kind] for kind in ("order", "refusal") if kind in timings)
    return Cost(what, total / passed_s, used_s / total * 1e6, latency), settled.n


async def _events(member: Member, url: str, viewers: int, burst: int, events: int) -> Cost:
    before = _pulse(await member.ask(Beat(at_s=0.0))).counts["events"]
    async with (
        asyncio.timeout(DEADLINE_S),
        Client.connect(url, "st_1", subprotocol="json") as host,
    ):
        await host.command("ping", t0=0)
        cpu_began_s, began_s = cpu_s(member.pid), time.perf_counter()
        flooding = asyncio.ensure_future(host.command("flood", n=events, burst=burst))
        wanted = before + events * viewers
        pulse = _pulse(await member.ask(Beat(at_s=0.0)))
        while pulse.counts["events"] < wanted:
            await asyncio.sleep(POLL_S)
            pulse = _pulse(await member.ask(Beat(at_s=0.0)))
        passed_s, used_s = time.perf_counter() - began_s, cpu_s(member.pid) - cpu_began_s
        await flooding
    what = "events, one at a time" if burst == 1 else f"events, {burst} in a write"
    total = pulse.counts["events"] - before
    return Cost(what, total / passed_s, used_s / total * 1e6)


def _pulse(reply: Reply) -> Pulse:
    assert reply.pulse is not None
    return reply.pulse


def _apart(pid: int) -> None:
    """Give the crowd's process one core and leave the others to the server and to us."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(pid, cores[-1:])


@asynccontextmanager
async def trivial() -> AsyncIterator[str]:
    """Run the server that does nothing for as long as the block lasts; gives its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.trivial"),
        stdin=asyncio.subprocess.PIPE,  # it ends with us
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(process.pid, cores[:-1] or cores)
        assert process.stdout is not None
        async with asyncio.timeout(START_TIMEOUT_S):
            url = (await process.stdout.readline()).decode().strip()
        if not url:
            raise CrewFailed("the trivial server did not start")
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
