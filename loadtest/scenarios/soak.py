"""A soak: drop after drop for a long time, chat beside it, and nothing may rot."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadtest.scenarios.scenario import Scenario

if TYPE_CHECKING:
    from loadtest.crowd import Crowd
    from loadtest.hosting import Show
    from loadtest.play import Play


@dataclass(slots=True, frozen=True, kw_only=True)
class Soak(Scenario):
    """Every so many seconds an offer opens, is bought empty and closes; chat goes on all the time.

    Each offer is audited when it is over. What its buyers saw is kept until the end.
    """

    name = "soak"
    title = "drop after drop"
    above_zero = Scenario.above_zero | {"every_s"}

    viewers: int = 1_000
    seconds: float = 600.0
    every_s: float = 20.0  # from drop to drop
    units: int = 500
    buys: int = 1  # of each viewer in each drop
    chats_per_s: float = 5.0

    async def play(self, play: Play) -> None:
        show = await play.show("Soak")
        drops = max(1, int(self.seconds / self.every_s))
        crowd = await play.crowd(
            show, self.viewers, buys=self.buys * drops, ramp_s=min(10.0, self.seconds / 20)
        )
        talking = play.beside(crowd.speak("chat", self.chats_per_s, self.seconds))
        began_s = time.monotonic()
        for number in range(1, drops + 1):
            await self._sell(play, show, crowd, number, drops)
            left_s = began_s + number * self.every_s - time.monotonic()
            await asyncio.sleep(max(0.0, left_s))
        play.count("said", await talking)

    async def _sell(self, play: Play, show: Show, crowd: Crowd, number: int, drops: int) -> None:
        drop = await play.offer(show, self.units, per_viewer=self.buys)
        await crowd.prepare(drop, self.buys)
        play.moment(f"drop {number} of {drops}")
        await drop.open()
        await crowd.buy(drop, over_s=self.every_s / 2, think_s=1.0)
        await crowd.answered(drop)
        await drop.close()
        await play.audit(drop, crowd)
