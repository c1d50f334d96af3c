"""Scenarios by name: each a small file that reads like the story it tells."""

from loadtest.scenarios.chat import Chat
from loadtest.scenarios.fanout import Fanout
from loadtest.scenarios.flash import Flash
from loadtest.scenarios.mixed import Mixed
from loadtest.scenarios.scenario import Scenario
from loadtest.scenarios.soak import Soak
from loadtest.scenarios.storm import Storm
from loadtest.scenarios.viya import Viya

__all__ = ["SCENARIOS", "Scenario"]

#: Each with the parameters that it has unless others are given.
SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (Flash(), Viya(), Fanout(), Storm(), Chat(), Mixed(), Soak())
}
