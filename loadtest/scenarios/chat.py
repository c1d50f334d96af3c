"""Chat: the whole room talks, and in the middle of it an offer opens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadtest.scenarios.scenario import Scenario

if TYPE_CHECKING:
    from loadtest.play import Play


@dataclass(slots=True, frozen=True, kw_only=True)
class Chat(Scenario):
    """So many messages a second to everybody, reactions and pings beside them."""

    name = "chat"
    title = "the room talks"

    viewers: int = 2_000
    chats_per_s: float = 50.0
    reacts_per_s: float = 50.0
    pings_per_s: float = 20.0
    seconds: float = 20.0
    units: int = 500

    async def play(self, play: Play) -> None:
        show = await play.show("Chat")
        drop = await play.offer(show, self.units)
        crowd = await play.crowd(show, self.viewers, buys=1)
        await crowd.prepare(drop, 1)
        await crowd.calm()

        play.moment("the room begins to talk")
        talking = [
            play.beside(crowd.speak(what, per_s, self.seconds))
            for what, per_s in (
                ("chat", self.chats_per_s),
                ("react", self.reacts_per_s),
                ("ping", self.pings_per_s),
            )
            if per_s
        ]
        await asyncio.sleep(self.seconds / 2)
        play.moment("the offer opens")
        await drop.open()
        await crowd.buy(drop, over_s=self.seconds / 4)
        said = await asyncio.gather(*talking)
        await crowd.answered(drop)
        play.moment("the room is quiet")
        play.count("said", sum(said))

        await play.audit(drop, crowd)
