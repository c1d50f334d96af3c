"""Single deeds of single viewers, each with what came of it: what a load tool asks of a station.

Owns tickets: which deed still waits, and what came of the others, until it is heard. A latency
counts from the moment when the deed was due, whatever lay in between. What a viewer says and how,
is the swarm's. Used by the station.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import perf_counter_ns
from typing import TYPE_CHECKING

from loadtest.asks import Act, Came, Deed, Hear, Reply
from loadtest.speaking import UNANSWERED, command_of
from loadtest.viewer import READY, Viewer

if TYPE_CHECKING:
    from loadtest.audience import Audience
    from loadtest.frames import Heard


class Deeds:
    """All deeds of one audience, which was gathered to come `later`."""

    def __init__(self, audience: Audience) -> None:
        self._audience = audience
        self._came: list[Came] = []
        self._news = asyncio.Event()
        self._entering: dict[int, Deed] = {}  # by viewer
        self._buying: dict[int, Deed] = {}  # by buy
        self._saying: dict[int, Deed] = {}  # by ticket
        self._beyond_final = audience.swarm.on_final
        audience.swarm.on_final = self._final
        audience.swarm.on_settled = self._settled

    def act(self, ask: Act) -> Reply:
        """Begin with each; ValueError for a deed that there is not."""
        for deed in ask.deeds:
            viewer = self._audience.swarm.viewers[deed.viewer]
            match deed.what:
                case "enter":
                    self._enter(viewer, deed)
                case "buy":
                    self._buy(viewer, deed)
                case "leave":
                    self._leave(viewer, deed)
                case _:
                    self._say(viewer, deed)
        return Reply(n=len(ask.deeds))

    async def hear(self, ask: Hear) -> Reply:
        """Give what came; an empty list when nothing did in time."""
        if not self._came:
            self._news.clear()
            with suppress(TimeoutError):  # nothing came: that is an answer, too
                async with asyncio.timeout(ask.within_s):
                    await self._news.wait()
        came, self._came = self._came, []
        return Reply(came=came)

    def _enter(self, viewer: Viewer, deed: Deed) -> None:
        if viewer.gone or viewer.epoch:
            self._tell(deed, viewer.gone or "welcome")
            return
        self._entering[viewer.number] = deed
        self._audience.swarm.dial(viewer, deed.due_ns)

    def _settled(self, viewer: Viewer) -> None:
        if (deed := self._entering.pop(viewer.number, None)) is not None:
            self._tell(deed, viewer.gone or "welcome")

    def _buy(self, viewer: Viewer, deed: Deed) -> None:
        history = self._audience.history
        buy = history.of_viewer(viewer.number)[deed.buy]
        if history.sent_ns[buy]:
            raise ValueError(f"viewer {viewer.number} makes buy {deed.buy} a second time")
        if viewer.gone:
            self._tell(deed, viewer.gone)
            return
        self._buying[buy] = deed
        self._audience.tap(viewer, buy, deed.due_ns)

    def _final(self, buy: int, at_ns: int) -> None:
        self._beyond_final(buy, at_ns)
        if (deed := self._buying.pop(buy, None)) is not None:
            self._tell(deed, self._audience.history.outcome[buy], at_ns)

    def _leave(self, viewer: Viewer, deed: Deed) -> None:
        """Go for good; what this viewer still waits for, will not come."""
        for said in [one for one in self._saying.values() if one.viewer == viewer.number]:
            del self._saying[said.ticket]
            self._audience.missed(said.what)
            self._tell(said, "")
        self._audience.swarm.leave([viewer.number])
        self._settled(viewer)
        for buy in self._audience.history.of_viewer(viewer.number):
            if (open_buy := self._buying.pop(buy, None)) is not None:
                self._tell(open_buy, "")
        self._tell(deed, "left")

    def _say(self, viewer: Viewer, deed: Deed) -> None:
        audience = self._audience
        command = command_of(deed.what, viewer.number, deed.due_ns, audience.words)
        if viewer.phase != READY:
            self._tell(deed, "away")
            return
        if deed.what in UNANSWERED:
            audience.swarm.tell(viewer, command)
            self._tell(deed, "sent")
            return

        self._saying[deed.ticket] = deed

        def done(heard: Heard | None) -> None:
            if self._saying.pop(deed.ticket, None) is not None:
                self._tell(deed, audience.answered(deed.what, heard, deed.due_ns))

        audience.swarm.ask(viewer, command, done)

    def _tell(self, deed: Deed, code: str, at_ns: int = 0) -> None:
        us = max(0, (at_ns or perf_counter_ns()) - deed.due_ns) // 1000
        self._came.append(Came(deed.ticket, code, us))
        self._news.set()
