"""Plays a scenario in one order of its steps after the other, and judges each.

Owns how many orders, drawn or all, and what a failure says. Called by the tests of interleavings.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tests.property.choices import FAULTS, Choice, independent
from tests.property.scenarios import Scenario
from tests.property.schedules import Redundant, Replay, Sample, Search
from tests.property.world import World, said

DEPTH = int(os.environ.get("PROOF_DEPTH", "0"))  # with more: one more fault, and all orders
REPLAY = os.environ.get("PROOF_REPLAY")  # the schedule that a failure printed
STEPS_MAX = 300  # in one schedule; the longest has a third of them
SEED = int(os.environ.get("PROOF_SEED", "1"))


class Plan(NamedTuple):
    """One search through the orders of a scenario, with so many faults in each."""

    search: Search[Choice]
    faults: int
    waits: int
    most: int


def _plans(scenario: Scenario) -> list[Plan]:
    """Say how to search; the next of them is for what the one before did not reach."""
    faults, waits, drawn = scenario.faults, scenario.waits, scenario.drawn
    if REPLAY is not None:
        return [Plan(Replay(REPLAY), STEPS_MAX, STEPS_MAX, 1)]
    if DEPTH:
        most = 3_000 * DEPTH
        whole = Plan(Search(independent), faults + 1, waits, most)
        return [whole, Plan(Sample(SEED), faults + 1, waits, most)]
    if scenario.wide:
        return [Plan(Sample(SEED), faults, waits, drawn)]
    if faults:
        plain = Plan(Search(independent), 0, waits, 1_000)
        return [plain, Plan(Sample(SEED), faults, waits, drawn)]
    search: Search[Choice] = Sample(SEED) if drawn else Search(independent)
    return [Plan(search, 0, waits, drawn or 1_000)]


async def _play(world: World, scenario: Scenario, plan: Plan, test: str) -> None:
    steps, search = world.steps, plan.search
    faults, waits, length = plan.faults, plan.waits, 0
    try:
        await world.begin(scenario.units, scenario.per_viewer, scenario.offers, scenario.buckets)
        await scenario.begin(world)
        steps.deciding = True  # no actor has begun: nothing was awaited since
        while True:
            await steps.idle()
            if steps.choices((), False):
                choice = search.choose(steps.choices(scenario.kinds if faults else (), waits > 0))
            elif all(actor.done() for actor in world.actors):
                break
            else:
                choice = Choice("time", "all")  # only time helps
                waits += 1
            length += 1
            assert length < STEPS_MAX, "this never ends"
            faults -= choice.kind in FAULTS
            waits -= choice.kind == "time"
            steps.take(choice)
        steps.deciding = False
        for actor in world.actors:
            if not actor.cancelled():
                actor.result()
        await world.judge()
        assert scenario.masked or not world.masked, world.masked
        assert all(way != "rebuild" for way, _ in world.mended), world.mended
    except Redundant:
        raise
    except BaseException as error:
        order = " ".join(map(str, search.schedule))
        error.add_note(
            f"{scenario.name}, schedule {search.played}. To replay it alone:\n"
            f"PROOF_REPLAY='{order}' .venv/bin/python -m pytest"
            f" 'tests/property/{test}::test_every_order_of_steps[{scenario.name}]'\n"
            f"{said(world)}"
        )
        raise
    finally:
        steps.deciding = False
        await world.end()


def play_all(
    stepped: tuple[asyncio.Runner, World],
    scenario: Scenario,
    record_property: Callable[[str, object], None],
    test: str,
) -> None:
    """Play a scenario in the orders of its plan; `test`: the file that does, for a failure."""
    runner, world = stepped
    started, covered = time.monotonic(), []
    for plan in _plans(scenario):
        whole = runner.run(plan.search.run(partial(_play, world, scenario, plan, test), plan.most))
        drawn = isinstance(plan.search, Sample)
        how = f"drawn with seed {SEED}" if drawn else "all there are" if whole else "not all"
        faults = f" with up to {plan.faults} faults" if plan.faults else ""
        covered.append(f"{plan.search.played} orders of steps{faults}, {how}")
        if DEPTH and whole:
            break
        assert DEPTH or whole
    record_property(
        "covered", f"{scenario.name}: {'; '.join(covered)}; {time.monotonic() - started:.1f} s"
    )
