"""The viewers of a play, in however many processes, as a story speaks of them.

Owns which of each viewer's buys are for which offer, and putting together what the processes say.
Called by scenarios through the play; what a viewer does is the audience's.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loadtest.asks import Buy, Collect, Cut, Gather, Leave, Prepare, Quiet, Settle, Speak
from loadtest.crew import Crew
from loadtest.history import History
from loadtest.hosting import Drop, Show
from loadtest.server import Target

if TYPE_CHECKING:
    from loadtest.play import Manner

#: From the word to the first buy, so that every process begins at the same moment.
LEAD_S = 0.02
#: A think time is drawn; one in 150 viewers thinks for longer than this many means.
THINKS = 5.0


class Crowd:
    """All viewers of one show."""

    def __init__(
        self,
        crew: Crew,
        target: Target,
        manner: Manner,
        show: Show,
        viewers: int,
        buys: int,
        qty: int,
    ) -> None:
        self.viewers = viewers
        self.gathered = False
        self.welcome = 0  # viewers, once they were gathered
        self.missing = 0  # buys without a final answer, and those that were never sent
        self.restless = 0  # times that a process was still told something after ten seconds of it
        self._crew = crew
        self._target = target
        self._manner = manner
        self._show = show
        self._buys = buys
        self._qty = qty
        self._tag = secrets.token_hex(3)
        self._planned_s: dict[str, float] = {}  # by offer: how long its buys may be thought about
        self._taken = 0  # of each viewer's buys
        self._of: dict[str, tuple[int, int]] = {}  # by offer: first buy, and how many

    async def connect(
        self, ramp_s: float = 0.0, patience: Mapping[str, Any] | None = None
    ) -> float:
        """Bring everybody; returns the seconds until the last one was welcome."""
        shares = self._crew.shares(self.viewers)
        manner = self._manner

        def gather(number: int) -> Gather:
            return Gather(
                url=f"{self._target.ws}/v1/streams/{self._show.stream}/ws",
                secret=self._target.secret,
                names=f"v{self._tag}-",
                first=shares[number].start,
                viewers=len(shares[number]),
                of=self.viewers,
                buys_each=self._buys,
                qty=self._qty,
                key_prefix=self._tag,
                subprotocol=manner.subprotocol,
                network=manner.network,
                ramp_s=ramp_s,
                seed=manner.seed,
                deadline_s=ramp_s + manner.connect_s,
                patience=dict(patience or {}),
            )

        self.gathered = True  # a beat tells of those who are coming
        replies = await self._crew.each(gather)
        self.welcome = sum(reply.n for reply in replies)
        return max(reply.seconds for reply in replies)

    # --- buying ------------------------------------------------------------------------------

    async def prepare(self, drop: Drop, buys: int) -> None:
        """Have everybody ready to make so many buys of an offer, before it opens."""
        if self._taken + buys > self._buys:
            raise ValueError(f"viewers came for {self._buys} buys; {self._taken + buys} are asked")
        self._of[drop.offer] = self._taken, buys
        await self._crew.all(Prepare(offer=drop.offer, first=self._taken, buys=buys))
        self._taken += buys

    async def buy_at_once(self, drop: Drop) -> float:
        """Have everybody send all his buys at one moment; returns the seconds that it took."""
        first, buys = self._of[drop.offer]
        at_ns = time.perf_counter_ns() + int(LEAD_S * 1e9)
        await self._crew.all(Buy(first=first, buys=buys, at_ns=at_ns))
        return max(0.0, (time.perf_counter_ns() - at_ns) / 1e9)

    async def buy(self, drop: Drop, over_s: float, think_s: float = 0.0) -> None:
        """Have everybody tap within a time, most of them early; each thinks between his buys."""
        first, buys = self._of[drop.offer]
        self._planned_s[drop.offer] = over_s + THINKS * think_s * (buys - 1)
        await self._crew.all(Buy(first=first, buys=buys, over_s=over_s, think_s=think_s))

    async def answered(self, drop: Drop, within_s: float = 0.0) -> None:
        """Wait for every final answer; those that are still missing are counted.

        `within_s`: from now; else as long as the buying was planned to take, and the time for an
        answer.
        """
        first, buys = self._of[drop.offer]
        planned_s = self._planned_s.get(drop.offer, 0.0)
        deadline_s = within_s or planned_s + self._manner.answer_s
        replies = await self._crew.all(Settle(first=first, buys=buys, deadline_s=deadline_s))
        self.missing += sum(reply.n for reply in replies)

    async def history(self, drop: Drop) -> History | None:
        """Return what all of them saw of their buys of an offer; None when they made none."""
        if drop.offer not in self._of:
            return None
        first, buys = self._of[drop.offer]
        replies = await self._crew.all(Collect(first=first, buys=buys))
        return History.joined([History.from_bytes(reply.history) for reply in replies])

    # --- the rest of an evening --------------------------------------------------------------

    async def speak(self, what: str, per_s: float, seconds: float) -> int:
        """Have viewers `chat`, `react` or `ping`, so many a second together; returns how many."""
        if not per_s:
            return 0
        share = per_s / len(self._crew.members)
        deadline_s = self._manner.answer_s
        speak = Speak(what=what, per_s=share, seconds=seconds, deadline_s=deadline_s)
        replies = await self._crew.all(speak)
        return sum(reply.n for reply in replies)

    async def cut(self, share: float = 1.0, deadline_s: float = 60.0) -> tuple[int, float, int]:
        """Lose connections at one moment; returns how many, seconds until all are back, and away.

        The last is how many were not back at the deadline.
        """
        replies = await self._crew.all(Cut(share=share, deadline_s=deadline_s))
        away = sum(reply.tally["away"] for reply in replies)
        return sum(r.n for r in replies), max(r.seconds for r in replies), away

    async def calm(self) -> None:
        """Wait until what was under way has come to everybody."""
        replies = await self._crew.all(Quiet())
        self.restless += sum(not reply.n for reply in replies)

    async def leave(self, share: float) -> int:
        """Have some go for good; returns how many."""
        return sum(reply.n for reply in await self._crew.all(Leave(share=share)))
