"""Viewers who come and go: each on one stream, over as many connections as it takes.

Owns when a viewer dials, what it comes back with, and how it is made to leave: with a goodbye, with
RST, or by reading nothing for a while. Whatever it hears goes to the reader first, which alone
judges. Knows no fault of the server. Used by `deliveries`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass
from random import Random
from urllib.parse import urlsplit

from tests.faults.links import EventsLink, Form, Heard, Link, WebSocketLink
from tests.faults.reader import Event, Line, Reader

WELCOME_S = 10.0  # from dialling on; then the viewer tries anew
ANSWER_S = 5.0  # then a command's outcome is unknown
GOODBYE_S = 2.0  # for the server's own
AWAY_S = (0.05, 1.0)  # after a loss, and mostly after leaving
LONG_AWAY_S = (3.0, 8.0)
LONG_AWAY, NEW = 0.05, 0.03  # shares of those who leave: come back late; without `since`
PAUSES_S = (0.3, 3.0)
NARROW_PAUSES_S = (5.0, 12.0)  # long enough for chat to be shed, and for being sent away
HELLO_ID = 0

#: What ends a viewer's visit for good, and so is wrong here: nobody is banned, no token is bad.
FINAL = frozenset({400, 401, 403, 404, 4400, 4401, 4403, 4404, 4413})


@dataclass(frozen=True, slots=True)
class Ticket:
    """Who watches what, and how."""

    name: str
    stream: str
    form: Form
    token: str = ""  # '': a guest
    narrow: bool = False  # its socket takes but little


class Watcher:
    """One viewer."""

    def __init__(self, ticket: Ticket, http: str, reader: Reader, random: Random) -> None:
        self.ticket = ticket
        self.reader = reader
        self.random = random
        self.tally: Counter[str] = Counter()
        self.link: Link | None = None  # while welcome
        self.closing = False
        self.hurry = False  # nobody stays away for long any more
        self._http = urlsplit(http)
        self._line: Line | None = None
        self._welcomed: asyncio.Future[int] = asyncio.Future()  # of the newest link
        self._left = False  # by its own will
        self._forgets = False  # comes back as somebody new
        self._ids = itertools.count(HELLO_ID + 1)
        self._answers: dict[int, asyncio.Future[Event | None]] = {}

    def settle(self) -> None:
        """Read on, and stay away no longer than it takes."""
        self.hurry = True
        if self.link is not None:
            self.link.read_on()

    async def run(self) -> None:
        """Watch until `closing`, over one connection after the other."""
        while not self.closing:
            link = self._next_link()
            try:
                async with asyncio.timeout(WELCOME_S):
                    assert self._http.hostname is not None
                    assert self._http.port is not None
                    await link.dial(self._http.hostname, self._http.port, self.ticket.narrow)
                    ends = self._welcomed, link.lost
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            except (OSError, TimeoutError) as error:
                self.tally[type(error).__name__] += 1
                link.reset()
            if self._welcomed.done() and not link.lost.done():
                self.link = link
                await link.lost
            self._lose(link)
            await asyncio.sleep(self._away_s())

    def _next_link(self) -> Link:
        ticket = self.ticket
        since = None if self._forgets else self.reader.places.get(ticket.name)
        self._forgets = self._left = False
        self._welcomed = asyncio.Future()
        line = self._line = self.reader.line(
            ticket.name, ticket.stream, since, numbered=ticket.form == "events"
        )
        path, heard = f"/v1/streams/{ticket.stream}", self._heard_on(line)
        if ticket.form == "events":
            headers = {"authorization": f"Bearer {ticket.token}"} if ticket.token else {}
            if since is not None:
                headers["last-event-id"] = str(since)
            return EventsLink(heard, self._http.netloc, f"{path}/events", headers)
        hello: Event = {"type": "hello", "id": HELLO_ID}
        if ticket.token:
            hello["token"] = ticket.token
        if since is not None:
            hello["since"] = since._asdict()
        return WebSocketLink(heard, f"ws://{self._http.netloc}{path}/ws", ticket.form, hello)

    def _heard_on(self, line: Line) -> Heard:
        def heard(payload: str | bytes, id_: str | None) -> None:
            self.tally[f"from {self.ticket.form}"] += 1
            event = line.take(payload, id_)
            if event["type"] == "welcome":
                if not self._welcomed.done():
                    self._welcomed.set_result(HELLO_ID)
            elif event.get("re") is not None:
                answer = self._answers.get(event["re"])
                if answer is not None and not answer.done():
                    answer.set_result(event)

        return heard

    def _lose(self, link: Link) -> None:
        self.link = None
        code = link.code
        self.tally[f"code {code}"] += 1
        if code in FINAL:
            self.reader.found(f"{self.ticket.name} was sent away for good: {code}")
        if link.fault is not None:
            self.reader.found(f"{self.ticket.name} could not read what came: {link.fault!r}")
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(None)

    def _away_s(self) -> float:
        if self._left and not self.hurry and self.random.random() < LONG_AWAY:
            return self.random.uniform(*LONG_AWAY_S)
        return self.random.uniform(*AWAY_S)

    # --- being disturbed -------------------------------------------------------------------------

    def disturb(self) -> None:
        """Do what viewers do to their connections; nothing when there is none."""
        link = self.link
        if link is None:
            return
        ways = (
            ("leave", "reset", "pause") if not self.ticket.narrow else ("pause", "pause", "reset")
        )
        way = self.random.choice(ways)
        self.tally[way] += 1
        if way == "pause":
            pause_s = self.random.uniform(*(NARROW_PAUSES_S if self.ticket.narrow else PAUSES_S))
            link.stop_reading()
            asyncio.get_running_loop().call_later(pause_s, link.read_on)
            return
        self._left = True
        self._forgets = self.random.random() < NEW
        if way == "reset":
            link.reset()
        else:
            link.leave()
            asyncio.get_running_loop().call_later(GOODBYE_S, link.reset)

    # --- commands --------------------------------------------------------------------------------

    async def ask(self, type_: str, **fields: object) -> Event | None:
        """Send a command once; return its answer, or None when its outcome is unknown."""
        link = self.link
        if not isinstance(link, WebSocketLink):
            return None
        number = next(self._ids)
        answer: asyncio.Future[Event | None] = asyncio.Future()
        self._answers[number] = answer
        link.send({"type": type_, "id": number, **fields})
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._answers[number]

    def close(self) -> None:
        """Go home."""
        self.closing = True
        if self.link is not None:
            self.link.reset()
