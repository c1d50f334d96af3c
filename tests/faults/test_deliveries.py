"""A small `make deliveries`: a worker and Redis are killed, Redis is emptied, and all listen."""

from __future__ import annotations

import uvloop

from loadtest.faults import FaultName
from tests.faults.deliveries import SETTINGS, Plan, play
from tests.faults.tree import grown

PLAN = Plan(
    seed=3,
    deliveries=30_000,
    viewers=150,
    seconds_max=30.0,
    kinds=(FaultName.KILL_WORKER, FaultName.KILL_REDIS, FaultName.FLUSHALL),
    pause_s=(0.5, 2.0),
    main_per_s=10.0,
    chat_per_s=24.0,
    stay_s=5.0,
)


def test_everybody_hears_everything_once_and_in_one_order() -> None:
    """I7, by a reader of its own: no gap, no repeat, one order; and each fault struck meanwhile."""
    with grown(2, **SETTINGS) as tree:
        report = uvloop.run(play(PLAN, tree))
    assert report.broken == [], report.lines
