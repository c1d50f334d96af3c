"""Money in every order of steps: buyers, hosts, cashiers, notices and the keeper, on real servers.

As in `test_interleavings`, with the provider's calls as steps too, which get lost before or after
their effect. After each: I9 holds as well, between the bank, the payments and the orders.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livecart.embedded import Running
from tests.property.money_scenarios import MONEY
from tests.property.played import DEPTH, play_all
from tests.property.scenarios import Scenario
from tests.property.stepping import stepping
from tests.property.world import World


@pytest.fixture(scope="module")
def stepped(servers: Running, template: str) -> Iterator[tuple[asyncio.Runner, World]]:
    """A loop that can be stepped, and a world on it, on a database of this file's own."""
    with stepping() as runner:
        world = runner.run(World.open(servers, template, "money"))
        yield runner, world
        runner.run(world.steps.close())


@pytest.mark.timeout(240 + 1_800 * DEPTH)
@pytest.mark.parametrize("scenario", MONEY, ids=lambda s: s.name)
def test_every_order_of_steps(
    stepped: tuple[asyncio.Runner, World],
    scenario: Scenario,
    record_property: Callable[[str, object], None],
) -> None:
    """However the steps fall, the shop has what live orders were paid with, and no more."""
    play_all(stepped, scenario, record_property, Path(__file__).name)
