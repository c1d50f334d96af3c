"""All contests, one after the other: what `livecart-loadtest compare` and `make bench` run.

Owns their order and the document that comes of them. Contests that need the project's own modules
are handed in: nothing here knows them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

from loadtest.bench.comparison import Comparison, Contest
from loadtest.bench.crowded import Options, connects, fan_out, memory
from loadtest.bench.selling import orders
from loadtest.bench.table import busy
from loadtest.bench.versions import versions
from loadtest.machine import machine

VIEWERS, ROUNDS = 5_000, 5

Hold = Callable[[Options], Awaitable[Contest]]

CONTESTS: Mapping[str, Hold] = {
    "fan-out": fan_out,
    "orders": orders,
    "connects": connects,
    "memory": memory,
}
#: Held by `make bench` alone, and why.
ELSEWHERE = {
    "reservations": "the gate is no part of the public protocol: `make bench` holds it up to"
    " redis-benchmark"
}


async def compare(
    options: Options, only: Sequence[str] = (), contests: Mapping[str, Hold] = CONTESTS
) -> Comparison:
    """Hold the contests that are named, or all; Failed when livecart itself could not."""
    began_s = time.monotonic()
    found = Comparison(
        began=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        options={"viewers": options.viewers, "rounds": options.rounds},
        load_before=round(os.getloadavg()[0], 1),
        machine=machine(),
        versions=versions(),  # now: a checkout may be edited while this runs
        left_out={name: why for name, why in ELSEWHERE.items() if name not in contests},
    )
    if word := busy(found):
        options.announce(word)
    for name, hold in contests.items():
        if only and name not in only:
            found.left_out[name] = "not asked for"
            continue
        options.announce(f"{name} ({time.monotonic() - began_s:.0f} s so far)")
        found.contests.append(await hold(options))
    found.took_s = round(time.monotonic() - began_s, 1)
    found.versions |= options.versions
    found.absent, found.failed = options.absent, options.failed
    return found
