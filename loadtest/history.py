"""The history of a sale as its buyers saw it: every buy, every answer, nothing ever rewritten.

Owns what was sent, when, and what was answered; the audit judges it against Postgres. It knows no
connection. A buy is `acknowledged` (an order was named), `refused` (a final reject) or `unknown`
(no final answer); only an unknown one may end either way. What was asked about orders afterwards
is in `endings`. How one is written down, read and joined with others is history_file's.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from loadtest.endings import Endings

#: Not the end of a buy: the same key is sent again. `internal` too, since it says nothing about
#: whether an order exists.
PASSING = frozenset({"retry", "rate_limited", "internal"})
#: The answer to a buyer who joins a waitlist: an order may come of it, or not.
WAITLISTED = "waitlisted"

#: (buy, answered_ns, "order.<status>" or reject code, order id, rank)
Answer = tuple[int, int, str, str, int]


@dataclass(slots=True, frozen=True)
class Buy:
    """One buy with its end, as the audit reads it."""

    viewer: str
    key: str
    qty: int
    sent_ns: int
    answered_ns: int
    outcome: str
    order: str
    rank: int
    attempts: int
    sent_ms: int = 0  # on the wall clock, which the servers of this machine share
    answered_ms: int = 0
    expires_ms: int | None = None  # as the buyer was told
    open_attempts: int = 0  # sent and never answered: each may still have been carried out
    clock: str = ""  # the machine whose `…_ns` they are; only those of one compare

    @property
    def verdict(self) -> str:
        if self.order:
            return "acknowledged"
        return "refused" if self.outcome not in ("", WAITLISTED) else "unknown"


class TwoOrders(NamedTuple):
    """A buy that was answered with one order, and then with another."""

    viewer: str
    key: str
    order: str
    other: str
    at_ms: int


class Clock(NamedTuple):
    """How the `…_ns` of the buys from `first` on become the wall clock's."""

    first: int  # number of a buy
    wall_ns: int  # what to add
    machine: str  # whose monotonic clock it is; two boots are two machines


def this_machine() -> str:
    """Name the machine whose clocks this process reads, since it was started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{uuid.getnode():x}"


@dataclass(slots=True)
class Asked:
    """One bundle and its end: an id when it was acknowledged, a code when it was refused."""

    viewer: str
    key: str
    lines: dict[str, int]  # units by offer
    bundle: str = ""
    code: str = ""


class History:
    """Buys are numbered: viewer `v` owns `v * buys_each` up to `(v + 1) * buys_each`."""

    def __init__(
        self, viewers: list[str], buys_each: int, qty: int | Sequence[int], run: str
    ) -> None:
        """`run` keeps the keys of two runs against one offer apart; `qty` is of all, or of each."""
        total = len(viewers) * buys_each
        self.viewers = viewers
        self.buys_each = buys_each
        self.qtys = [qty] * total if isinstance(qty, int) else list(qty)
        assert len(self.qtys) == total
        self.keys = [f"{run}.{n}" for n in range(total)]
        self.sent_ns = [0] * total  # first attempt; 0: never sent
        self.written_ns = [0] * total  # first time on a connection; 0: there was none yet
        self.asked_ns = [0] * total  # last time on a connection
        self.final_ns = [0] * total  # final answer; 0: none yet
        self.outcome = [""] * total
        self.order = [""] * total
        self.rank = [0] * total
        self.expires_ms: list[int | None] = [None] * total
        self.attempts = [0] * total
        self.answers: list[Answer] = []  # every one that came, also late and double ones
        self.endings = Endings()
        self.beside: list[History] = []  # of other buyers of the same offer, judged with these
        self.given_up: Counter[str] = Counter()
        self.tally: Counter[str] = Counter()  # final outcomes so far
        self.unanswered = total
        self.done = asyncio.Event()
        self._marks: list[tuple[int, asyncio.Event]] = []
        wall_ns = time.time_ns() - time.perf_counter_ns()
        self.clocks = [Clock(0, wall_ns, this_machine())]
        self.owners: list[int] | None = None  # viewer of each buy; None: `buys_each` says it
        if total == 0:
            self.done.set()

    def __len__(self) -> int:
        return len(self.keys)

    def of_viewer(self, viewer: int) -> range:
        """Numbers of the buys that `viewer` makes; not of a history that was joined unevenly."""
        assert self.owners is None
        return range(viewer * self.buys_each, (viewer + 1) * self.buys_each)

    def mark(self, share: float) -> asyncio.Event:
        """An event that is set once `share` (0 to 1) of the buys have their final answer."""
        event = asyncio.Event()
        self._marks.append((len(self) - int(len(self) * share), event))
        self._check_marks()
        return event

    def clock_of(self, buy: int) -> Clock:
        """The clock that a buy's moments are of."""
        clocks = self.clocks
        if len(clocks) == 1:
            return clocks[0]
        return clocks[bisect_right(clocks, buy, key=lambda clock: clock.first) - 1]

    def owner(self, buy: int) -> str:
        """Name of the viewer whose buy it is."""
        return self.viewers[self.owners[buy] if self.owners else buy // self.buys_each]

    def wall_ms(self, at_ns: int, buy: int = 0) -> int:
        """Turn a moment of a buy into the wall clock's, in ms."""
        return (at_ns + self.clock_of(buy).wall_ns) // 1_000_000

    def in_flight(self, at_ms: int) -> int:
        """Buys that were on a connection and had no final answer at a moment of the wall clock."""
        total = 0
        bounds = [*(clock.first for clock in self.clocks[1:]), len(self)]
        for clock, end in zip(self.clocks, bounds, strict=True):
            at_ns = at_ms * 1_000_000 - clock.wall_ns
            part = slice(clock.first, end)
            total += sum(
                0 < written <= at_ns and not 0 < final <= at_ns
                for written, final in zip(self.written_ns[part], self.final_ns[part], strict=True)
            )
        return total

    def note(
        self,
        buy: int,
        at_ns: int,
        what: str,
        order: str,
        rank: int,
        expires_ms: int | None = None,
    ) -> bool:
        """Record an answer; true when it is the first final one of that buy."""
        self.answers.append((buy, at_ns, what, order, rank))
        if self.final_ns[buy] or what in PASSING:
            return False
        self.final_ns[buy] = at_ns
        self.outcome[buy] = what
        self.order[buy] = order
        self.rank[buy] = rank
        self.expires_ms[buy] = expires_ms
        self.tally[what] += 1
        self._closed_one()
        return True

    def give_up(self, buy: int, why: str) -> None:
        """No more attempts: the outcome of this buy stays unknown."""
        if self.final_ns[buy]:
            return
        self.final_ns[buy] = -1
        self.given_up[why] += 1
        self._closed_one()

    def _closed_one(self) -> None:
        self.unanswered -= 1
        if self._marks:
            self._check_marks()
        if self.unanswered == 0:
            self.done.set()

    def _check_marks(self) -> None:
        reached = [mark for mark in self._marks if self.unanswered <= mark[0]]
        for mark in reached:
            mark[1].set()
            self._marks.remove(mark)

    def buys(self) -> Iterator[Buy]:
        """Every buy that was sent, with its end, and those beside them.

        An order named late, after the buy had been given up or refused, counts: the viewer was
        told of it, so its row must exist.
        """
        late = {answer[0]: answer for answer in self.answers if answer[3]}
        answered = Counter(answer[0] for answer in self.answers)
        for n, key in enumerate(self.keys):
            if not self.sent_ns[n]:
                continue
            outcome, order, rank = self.outcome[n], self.order[n], self.rank[n]
            answered_ns = max(self.final_ns[n], 0)
            if not order and n in late:
                _, answered_ns, outcome, order, rank = late[n]
            clock = self.clock_of(n)
            yield Buy(
                viewer=self.owner(n),
                key=key,
                qty=self.qtys[n],
                sent_ns=self.sent_ns[n],
                answered_ns=answered_ns,
                outcome=outcome,
                order=order,
                rank=rank,
                attempts=self.attempts[n],
                sent_ms=(self.sent_ns[n] + clock.wall_ns) // 1_000_000,
                answered_ms=(answered_ns + clock.wall_ns) // 1_000_000 if answered_ns else 0,
                expires_ms=self.expires_ms[n],
                open_attempts=max(0, self.attempts[n] - answered[n]),
                clock=clock.machine,
            )
        for other in self.beside:
            yield from other.buys()

    def contradictions(self) -> list[TwoOrders]:
        """Buys that were answered with two different orders."""
        named: dict[int, str] = {}
        wrong = []
        for buy, at_ns, _, order, _ in self.answers:
            if order and named.setdefault(buy, order) != order:
                at_ms = self.wall_ms(at_ns, buy)
                wrong.append(TwoOrders(self.owner(buy), self.keys[buy], named[buy], order, at_ms))
        return wrong + [what for other in self.beside for what in other.contradictions()]

    # --- kept and joined: history_file says how ---

    def to_bytes(self) -> bytes:
        """Return all of it, as `from_bytes` reads it, in this process or another."""
        from loadtest.history_file import history_to_bytes

        return history_to_bytes(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> History:
        """Read what `to_bytes` wrote; HistoryUnreadable when it is something else."""
        from loadtest.history_file import history_from_bytes

        return history_from_bytes(data)

    @classmethod
    def joined(cls, histories: Sequence[History]) -> History:
        """Make one of the histories of several crowds that bought of the same offer."""
        from loadtest.history_file import join

        return join(histories)
