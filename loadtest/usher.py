"""A Locust worker's viewers: brought by one station, asked by the greenlets of Locust's users.

Owns the station of a worker, which of its viewers have come, and what of their deeds is still
open. Deeds of many users go to the station in one message, and what came of them comes back in
one, as many as there are by then. Knows no stream and no verdict. Used by locustfile.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from time import perf_counter_ns
from typing import Final

import gevent  # type: ignore[import-untyped]
import msgspec
from gevent.event import AsyncResult, Event  # type: ignore[import-untyped]

from loadtest import asks
from loadtest.asks import Act, Asked, Beat, Close, Collect, Deed, Hear, Prepare, Replied, Tell
from loadtest.history import this_machine
from loadtest.partner import Partner, PartnerFailed
from loadtest.pulse import Pulse
from loadtest.result import DUE
from loadtest.shares import Share, Sign, Stage

HEAR_S: Final = 5.0
STATION_TIMEOUT_S: Final = 60.0
#: What else is an answer, and no failure.
RIGHT: Final = frozenset({"welcome", "ok", "pong", "sent", "left"})
_decode: Final = msgspec.msgpack.Decoder(Replied).decode

#: Called with what was done, the code that it came to, and ms since it was due.
Told = Callable[[str, str, float], None]

Station = Partner[asks.Reply]

log = logging.getLogger(__name__)


def open_station() -> Station:
    """Start a station, which takes a while; it serves one run."""
    return Partner("loadtest.station", Asked, _decode)


class Open:
    """A deed that is on its way."""

    __slots__ = ("due_ns", "result", "ticket", "what")

    def __init__(self, ticket: int, what: str, due_ns: int) -> None:
        self.ticket = ticket
        self.what = what
        self.due_ns = due_ns
        self.result = AsyncResult()


class Usher:
    """One worker's part in one run."""

    def __init__(self, station: Station, stage: Stage, secret: str, told: Told) -> None:
        """Make a new station ready; PartnerFailed or TimeoutError when it cannot be."""
        self.stage = stage
        self.came = 0  # viewers
        self.bought = 0
        self._told = told
        self._station = station
        self._tickets = itertools.count(1)
        self._open: dict[int, Open] = {}
        self._deeds: list[Deed] = []
        self._wake = Event()
        self._failed = False  # the station is gone, and nothing will come any more
        self._began_s = time.perf_counter()
        gather = msgspec.structs.replace(stage.gather, secret=secret)
        self._station.ask(gather, STATION_TIMEOUT_S)
        for number, offer in enumerate(stage.offers):
            first = number * stage.buys
            self._station.ask(Prepare(offer=offer, first=first, buys=stage.buys))
        self._greenlets = [gevent.spawn(self._send), gevent.spawn(self._hear)]

    # --- what users ask ----------------------------------------------------------------------

    def viewer(self) -> int | None:
        """Take a viewer who has not come yet; None when all have."""
        if self.came == self.stage.gather.viewers:
            return None
        self.came += 1
        return self.came - 1

    def begin(self, viewer: int, what: str, due_ns: int = 0, buy: int = 0) -> Open:
        """Have a viewer do something that was due at a moment (0: now)."""
        deed = Open(next(self._tickets), what, due_ns or perf_counter_ns())
        self._open[deed.ticket] = deed
        self._deeds.append(Deed(deed.ticket, viewer, what, deed.due_ns, buy))
        self.bought += what == "buy"
        self._wake.set()
        if self._failed:
            self._came(deed.ticket, "", 0)
        return deed

    def wait(self, deed: Open) -> str:
        """Wait for what comes of it; empty when nothing did in time, which is told as well."""
        try:
            code: str = deed.result.get(timeout=self.stage.answer_s)
        except gevent.Timeout:
            code = ""
            self._came(deed.ticket, code, (perf_counter_ns() - deed.due_ns) // 1000)
        return code

    # --- what the station is asked -----------------------------------------------------------

    def beat(self) -> Sign:
        """Ask what was seen since the last time."""
        reply = self._station.ask(Beat(at_s=time.perf_counter() - self._began_s), STATION_TIMEOUT_S)
        pulse = reply.pulse or Pulse()
        return Sign(run=self.stage.run, pulse=pulse, viewers=self.came, buys=self.bought)

    def share(self) -> Share:
        """Collect all that was seen; PartnerFailed when the station is gone."""
        stage, station = self.stage, self._station
        histories = {}
        for number, offer in enumerate(stage.offers):
            ask = Collect(first=number * stage.buys, buys=stage.buys, buyers_only=True)
            histories[offer] = station.ask(ask, STATION_TIMEOUT_S).history
        told = station.ask(Tell(), STATION_TIMEOUT_S)
        return Share(
            machine=this_machine(),
            viewers=self.came,
            pulse=self.beat().pulse,
            tally=told.tally,
            faults=told.faults,
            seen=told.seen,
            histories=histories,
            deliveries=told.deliveries,
        )

    def close(self) -> None:
        """End the station."""
        gevent.killall(self._greenlets)
        try:
            self._station.ask(Close(), STATION_TIMEOUT_S)
        except (PartnerFailed, TimeoutError) as error:
            log.error("%s", error)
        self._station.end()

    # --- the two ways ------------------------------------------------------------------------

    def _send(self) -> None:
        """Give the station what users asked while it was given the last."""
        try:
            while True:
                self._wake.wait()
                self._wake.clear()
                deeds, self._deeds = self._deeds, []
                self._station.ask(Act(deeds=deeds))
        except PartnerFailed as error:
            self._fail(error)

    def _hear(self) -> None:
        """Tell each user what came, until the station ends."""
        try:
            while True:
                reply = self._station.ask(Hear(within_s=HEAR_S))
                for came in reply.came:
                    self._came(came.ticket, came.code, came.us)
        except PartnerFailed as error:
            self._fail(error)

    def _fail(self, error: PartnerFailed) -> None:
        log.error("%s", error)
        self._failed = True
        for ticket in list(self._open):
            self._came(ticket, "", 0)

    def _came(self, ticket: int, code: str, us: int) -> None:
        if (deed := self._open.pop(ticket, None)) is not None:  # else it came too late
            self._told(deed.what, code, us / 1000)
            deed.result.set(code)


def right(what: str, code: str) -> bool:
    """Tell whether a code is an answer that a sale owes its viewers, and no failure."""
    if what == "buy":
        return code.startswith("order.") or code in DUE
    return code in RIGHT
