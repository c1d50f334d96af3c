"""A flash sale: everybody is there, the offer opens, everybody taps in the same moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadtest.scenarios.scenario import Scenario

if TYPE_CHECKING:
    from loadtest.play import Play


@dataclass(slots=True, frozen=True, kw_only=True)
class Flash(Scenario):
    """Every viewer sends all his buys in the moment in which the offer opens."""

    name = "flash"
    title = "flash sale"

    viewers: int = 5_000
    units: int = 15_000
    per_viewer: int = 4
    buys: int = 5  # of each viewer
    qty: int = 1
    buckets: int = 1  # that the units are spread over

    async def play(self, play: Play) -> None:
        show = await play.show("Flash sale")
        terms = {"per_viewer": self.per_viewer, "buckets": self.buckets}
        drop = await play.offer(show, self.units, **terms)
        crowd = await play.crowd(show, self.viewers, buys=self.buys, qty=self.qty)
        await crowd.prepare(drop, self.buys)
        await crowd.calm()

        play.moment("the offer opens")
        await drop.open()
        play.figure("sent_within_s", await crowd.buy_at_once(drop))
        await crowd.answered(drop)
        play.moment("the last answer")

        await play.audit(drop, crowd)
