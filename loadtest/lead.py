"""The leading process of a Locust run: the master, or the only one there is.

Owns who takes part, and that the result tells of everybody: it waits for each worker's share, and
says which will not come. What a host does is the desk's, in a process of its own; Locust's messages
are the locustfile's. Knows no viewer. Used by locustfile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

import gevent  # type: ignore[import-untyped]
import msgspec

from loadtest.desk_asks import (
    Asked,
    Begin,
    Enlist,
    Greet,
    Judge,
    Lose,
    Note,
    Reply,
    Take,
    decode_replied,
)
from loadtest.partner import Partner, PartnerFailed
from loadtest.result import Result
from loadtest.shares import Joint, Part, Share, Sign, Stage

BEGIN_TIMEOUT_S: Final = 60.0
SHARES_TIMEOUT_S: Final = 120.0
JUDGE_TIMEOUT_S: Final = 600.0
#: A worker is away for so long before it is given up.
GONE_S: Final = 1.0
POLL_S: Final = 0.1

log = logging.getLogger(__name__)


def open_desk() -> Partner[Reply]:
    """Start a desk, and wait for it; it serves one run after the other."""
    desk: Partner[Reply] = Partner("loadtest.desk", Asked, decode_replied)
    desk.ask(Greet(), BEGIN_TIMEOUT_S)
    return desk


class Lead:
    """One run, as its master sees it."""

    def __init__(self, desk: Partner[Reply], begin: Begin) -> None:
        """Have the desk set the sale up; PartnerFailed or TimeoutError when it could not."""
        self._desk = desk
        self._stages: dict[str, Stage] = {}  # by worker
        self._joints: dict[str, Joint] = {}
        self._buys: dict[str, int] = {}  # that each has told of
        self._done: dict[str, str] = {}  # workers whose share came, or why it will not
        self._desk.ask(begin, BEGIN_TIMEOUT_S)

    def enlist(self, worker: str) -> Stage:
        """Give a worker its stage."""
        if worker not in self._stages:
            stage = self._desk.ask(Enlist(worker=worker)).stage
            assert stage is not None
            self._stages[worker] = stage
            self._joints[worker] = Joint()
        return self._stages[worker]

    def note(self, worker: str, sign: Sign) -> None:
        """Take a sign of life; one of another run is no news."""
        if self._is_of(worker, sign.run):
            self._buys[worker] = sign.buys
            self._desk.ask(Note(worker=worker, sign=sign))

    @property
    def buys(self) -> int:
        """How many buys were made, as far as is known."""
        return sum(self._buys.values())

    def take(self, worker: str, part: Part) -> None:
        """Take a part of a share."""
        if self._is_of(worker, part.run):
            share = self._joints[worker].take(part)
            if share is not None:
                self.take_whole(worker, share)

    def take_whole(self, worker: str, share: Share) -> None:
        """Take a share."""
        # Said first: once its share is on the way to the desk, a worker may go.
        self._done[worker] = ""
        try:
            self._desk.ask(Take(worker=worker, share=share))
        except PartnerFailed as error:
            del self._done[worker]
            self.lose(worker, self._stages[worker].run, str(error))

    def lose(self, worker: str, run: str, why: str) -> None:
        """Note that a worker has nothing to give."""
        if self._is_of(worker, run):
            log.error("worker %s is lost: %s", worker, why)
            self._desk.ask(Lose(worker=worker, why=why))
            self._done[worker] = why

    def wait(self, gone: Callable[[str], str]) -> None:
        """Wait for every share; `gone` says why one will not come, or nothing."""
        began_s = time.monotonic()
        here_s = dict.fromkeys(self._stages, began_s)  # when each was last seen
        while awaited := [worker for worker in self._stages if worker not in self._done]:
            now_s = time.monotonic()
            for worker in awaited:
                why = gone(worker)
                if not why:
                    here_s[worker] = now_s
                if now_s - began_s > SHARES_TIMEOUT_S:
                    why = why or f"nothing from it for {SHARES_TIMEOUT_S:g} s"
                elif now_s - here_s[worker] < GONE_S:
                    why = ""  # it may have said all, and gone, a moment ago
                if why:
                    self.lose(worker, self._stages[worker].run, why)
            gevent.sleep(POLL_S)

    def judge(self, out: str, history: str) -> Result:
        """Return what came of the run; PartnerFailed or TimeoutError when it cannot be said."""
        reply = self._desk.ask(Judge(out=out, history=history), JUDGE_TIMEOUT_S)
        return msgspec.json.decode(reply.result, type=Result)

    def _is_of(self, worker: str, run: str) -> bool:
        """Tell whether something more is to be heard from a worker, and of this run."""
        if worker in self._done or worker not in self._stages:
            return False
        return self._stages[worker].run == run
