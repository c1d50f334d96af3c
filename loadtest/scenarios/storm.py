"""A storm: every connection is lost in the same moment, and everybody comes back at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadtest.scenarios.scenario import Scenario

if TYPE_CHECKING:
    from loadtest.play import Play


@dataclass(slots=True, frozen=True, kw_only=True)
class Storm(Scenario):
    """Connections are cut in the middle of a show, so many times; nobody may miss an event."""

    name = "storm"
    title = "everybody reconnects"
    limits = {"counts.not_back": "== 0"}
    patience = {"dials_at_once_max": 10_000}  # nobody waits for others to be let in
    shares = frozenset({"share"})

    viewers: int = 5_000
    storms: int = 3
    share: float = 1.0  # of the viewers who are cut
    pins: int = 5  # while they are away
    within_s: float = 60.0  # for everybody to be back

    async def play(self, play: Play) -> None:
        show = await play.show("Storm")
        product = await show.product()
        crowd = await play.crowd(show, self.viewers)
        slowest_s, away = 0.0, 0
        for storm in range(1, self.storms + 1):
            await crowd.calm()
            play.moment(f"storm {storm}: connections are lost")
            cutting = play.beside(crowd.cut(self.share, self.within_s))
            for _ in range(self.pins):
                await show.pin(product)
            cut, back_s, lost = await cutting
            play.moment(f"storm {storm}: {cut - lost:,} of {cut:,} are back")
            slowest_s, away = max(slowest_s, back_s), away + lost
        play.figure("back_s", slowest_s)
        play.count("not_back", away)
        await crowd.calm()
