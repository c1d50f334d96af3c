"""The history of a sale as its buyers saw it: every buy, every answer, nothing ever rewritten.

Owns what was sent, when, and what was answered; the audit judges it against Postgres. It knows no
connection. A buy is `acknowledged` (an order was named), `refused` (a final reject) or `unknown`
(no final answer); only an unknown one may end either way. What was asked about orders afterwards
is in `endings`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.endings import Endings

#: Not the end of a buy: the same key is sent again. `internal` too, since it says nothing about
#: whether an order exists.
PASSING = frozenset({"retry", "rate_limited", "internal"})

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

    @property
    def verdict(self) -> str:
        if self.order:
            return "acknowledged"
        return "refused" if self.outcome else "unknown"


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
        self._wall_ns = time.time_ns() - time.perf_counter_ns()
        if total == 0:
            self.done.set()

    def __len__(self) -> int:
        return len(self.keys)

    def of_viewer(self, viewer: int) -> range:
        """Numbers of the buys that `viewer` makes."""
        return range(viewer * self.buys_each, (viewer + 1) * self.buys_each)

    def mark(self, share: float) -> asyncio.Event:
        """An event that is set once `share` (0 to 1) of the buys have their final answer."""
        event = asyncio.Event()
        self._marks.append((len(self) - int(len(self) * share), event))
        self._check_marks()
        return event

    def wall_ms(self, at_ns: int) -> int:
        """Turn a moment of this history into the wall clock's, in ms."""
        return (at_ns + self._wall_ns) // 1_000_000

    def in_flight(self, at_ms: int) -> int:
        """Buys that were on a connection and had no final answer at a moment of the wall clock."""
        at_ns = at_ms * 1_000_000 - self._wall_ns
        return sum(
            0 < written <= at_ns and not 0 < final <= at_ns
            for written, final in zip(self.written_ns, self.final_ns, strict=True)
        )

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
            if not order and n in late:
                _, _, outcome, order, rank = late[n]
            answered_ns = max(self.final_ns[n], 0)
            yield Buy(
                viewer=self.viewers[n // self.buys_each],
                key=key,
                qty=self.qtys[n],
                sent_ns=self.sent_ns[n],
                answered_ns=answered_ns,
                outcome=outcome,
                order=order,
                rank=rank,
                attempts=self.attempts[n],
                sent_ms=self.wall_ms(self.sent_ns[n]),
                answered_ms=self.wall_ms(answered_ns) if answered_ns else 0,
                expires_ms=self.expires_ms[n],
                open_attempts=max(0, self.attempts[n] - answered[n]),
            )
        for other in self.beside:
            yield from other.buys()

    def contradictions(self) -> list[str]:
        """Buys that were answered with two different orders."""
        named: dict[int, str] = {}
        wrong = []
        for buy, _, _, order, _ in self.answers:
            if order and named.setdefault(buy, order) != order:
                wrong.append(f"{self.keys[buy]}: {named[buy]} and {order}")
        return wrong + [what for other in self.beside for what in other.contradictions()]
