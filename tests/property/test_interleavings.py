"""The real code of two or three actors, in every order of their steps, on real servers.

A step is one script call or one SQL call; between any two of them anybody else may go on, a process
may die, a request or an answer may get lost, and patience may end. Each scenario is played from a
fresh offer once per order (orders that only swap what commutes are one). After each: the keeper
comes to rest, and I1 to I6, I8, I10 and I11 hold, told answers are true, and what is left sells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livecart.embedded import Running
from tests.property.played import DEPTH, play_all
from tests.property.scenarios import SCENARIOS, Scenario
from tests.property.stepping import stepping
from tests.property.world import World


@pytest.fixture(scope="module")
def stepped(servers: Running, template: str) -> Iterator[tuple[asyncio.Runner, World]]:
    """A loop that can be stepped, and a world on it, on a database of this file's own."""
    with stepping() as runner:
        world = runner.run(World.open(servers, template, "interleavings"))
        yield runner, world
        runner.run(world.steps.close())


@pytest.mark.timeout(240 + 1_800 * DEPTH)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_every_order_of_steps(
    stepped: tuple[asyncio.Runner, World],
    scenario: Scenario,
    record_property: Callable[[str, object], None],
) -> None:
    """However the steps of the actors fall, nothing is oversold or lost and no answer is untrue."""
    play_all(stepped, scenario, record_property, Path(__file__).name)
