"""A realistic evening: people come, the host pins, three drops, chat, some leave, the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadtest.hosting import TITLES
from loadtest.scenarios.scenario import Scenario

if TYPE_CHECKING:
    from loadtest.crowd import Crowd
    from loadtest.hosting import Drop, Show
    from loadtest.play import Play

DROPS = 3


@dataclass(slots=True, frozen=True, kw_only=True)
class Mixed(Scenario):
    """An hour (`seconds=3600`) or less, in the same proportions.

    A tenth of it viewers come; then each third has pins and a drop; after each a share leaves.
    """

    name = "mixed"
    title = "an evening"
    shares = frozenset({"leavers"})

    viewers: int = 2_000
    seconds: float = 300.0
    units: int = 1_000  # of each of the three drops
    per_viewer: int = 2
    buys: int = 2  # of each viewer in each drop
    pins: int = 4  # before each drop
    chats_per_s: float = 10.0
    reacts_per_s: float = 20.0
    leavers: float = 0.1  # of those who are there, after each drop

    async def play(self, play: Play) -> None:
        show = await play.show("An evening")
        ramp_s = self.seconds / 10
        crowd = await play.crowd(show, self.viewers, buys=self.buys * DROPS, ramp_s=ramp_s)
        third_s = (self.seconds - ramp_s) / DROPS
        talking = [
            play.beside(crowd.speak(what, per_s, third_s * DROPS))
            for what, per_s in (("chat", self.chats_per_s), ("react", self.reacts_per_s))
            if per_s
        ]
        drops = []
        for number in range(DROPS):
            drops.append(await self._third(play, show, crowd, number, third_s))
        said = await asyncio.gather(*talking)
        play.count("said", sum(said))
        play.moment("the host says goodbye")
        await show.end()
        for drop in drops:
            await play.audit(drop, crowd)

    async def _third(
        self, play: Play, show: Show, crowd: Crowd, number: int, third_s: float
    ) -> Drop:
        """Talk about it, sell it, and lose some viewers."""
        title = TITLES[number]
        drop = await play.offer(show, self.units, title=title, per_viewer=self.per_viewer)
        await crowd.prepare(drop, self.buys)
        for _ in range(self.pins):
            await show.pin(await show.product(title))
            await asyncio.sleep(third_s / 2 / self.pins)
        play.moment(f"drop {number + 1} opens: {self.units:,} of {title}")
        opened = play.beside(asyncio.sleep(third_s / 2))
        await drop.open()
        await crowd.buy(drop, over_s=third_s / 6, think_s=third_s / 60)
        await crowd.answered(drop)
        await opened
        left = await crowd.leave(self.leavers)
        play.moment(f"{left:,} viewers leave")
        return drop
