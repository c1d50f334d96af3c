"""Fan-out: the host pins one product after the other, and everybody must see each at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadtest.scenarios.scenario import Scenario

if TYPE_CHECKING:
    from loadtest.play import Play


@dataclass(slots=True, frozen=True, kw_only=True)
class Fanout(Scenario):
    """Pins at a steady pace to viewers who only watch."""

    name = "fanout"
    title = "pins to everybody"

    viewers: int = 5_000
    pins: int = 30
    every_s: float = 0.5

    async def play(self, play: Play) -> None:
        show = await play.show("Fan-out")
        products = [await show.product() for _ in range(3)]
        crowd = await play.crowd(show, self.viewers)
        await crowd.calm()

        play.moment("the first pin")
        for number in range(self.pins):
            pinning = play.beside(show.pin(products[number % len(products)]))
            await asyncio.sleep(self.every_s)
            await pinning
        await crowd.calm()
        play.moment("the last pin is seen")
