"""All that livecart is held up to, in one table: `make bench`, which writes docs/benchmarks.md.

The contests of `livecart-loadtest compare`, and one that it cannot hold: the gate's holds beside
redis-benchmark, since the gate is the project's own module. Exits 0 when all was measured.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import typer

from loadtest.bench.compare import CONTESTS, ROUNDS, VIEWERS, Hold
from loadtest.bench.comparison import OURS, Contest, entries_of
from loadtest.bench.crowded import Options, rounds_of
from loadtest.cli_peers import AsJson, Only, Peers, Rounds, Socketify, Viewers, finish, hold
from loadtest.peers import redis_benchmark
from tests.bench.bench_core import empty_gate, take_holds
from tests.bench.rig import open_shop, servers

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
HOLDS, CALLS = 50_000, 100_000  # of a round
SCRIPT, DECR = "EVALSHA of `return 1`", "DECR"


async def reservations(options: Options) -> Contest:
    """Holds a second through the gate of one process, beside the least that a call can cost."""
    figures: dict[str, list[float]] = defaultdict(list)
    options.versions["redis-benchmark"] = await redis_benchmark.version()
    with servers() as urls:
        async with open_shop(urls) as shop:
            gate = shop.hubs[0].gate
            for number in rounds_of(options):
                await empty_gate(gate)
                found = {
                    OURS: HOLDS / await take_holds(gate, 0, HOLDS),
                    SCRIPT: await redis_benchmark.calls_per_s(urls.redis_url, CALLS),
                    DECR: await redis_benchmark.decrs_per_s(urls.redis_url, CALLS),
                }
                for name, rate in found.items():
                    if rate is None:
                        options.absent[name] = f"no redis-benchmark; {redis_benchmark.GET}"
                        continue
                    figures[name].append(rate)
                    options.announce(f"  round {number}: {name} {rate:,.0f} calls/s")
    return Contest(
        name="reservations",
        what=f"{HOLDS:,} holds through the gate of one process, in batches as they come, each with"
        " its viewer's limit, its key and its order's id.",
        unit="holds/s",
        rounds=len(figures[OURS]),
        entries=entries_of(figures),
        notes=[
            f"The peers are redis-benchmark, {redis_benchmark.CLIENTS} clients, one call at a time"
            " each: a script that does nothing, and a bare count that knows no viewer. All on the"
            " same server."
        ],
    )


def contests() -> dict[str, Hold]:
    """Return all contests, this one where it belongs: after the orders."""
    found: dict[str, Hold] = {}
    for name, held in CONTESTS.items():
        found[name] = held
        if name == "orders":
            found["reservations"] = reservations
    return found


def main(
    only: Only = "",
    peers: Peers = "",
    viewers: Viewers = VIEWERS,
    rounds: Rounds = ROUNDS,
    socketify_python: Socketify = sys.executable,
    write: Path = PAGE,
    as_json: AsJson = False,
) -> None:
    """Hold livecart up to its peers, and write the page of the docs."""
    found = hold(only, peers, viewers, rounds, socketify_python, as_json, contests())
    finish(found, write, as_json)


if __name__ == "__main__":
    typer.run(main)
