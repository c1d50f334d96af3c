"""What became of orders, as those outside saw it: asked, told, and done by the host.

Owns three append-only lists: payments and cancellations with their answers, private news of orders,
and the host's acts. Knows no connection and judges nothing; a History has one, the audit reads it.
Times are of the wall clock, in ms, which the servers of one machine share.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

#: What a host may do to an offer.
Deed = Literal["open", "restock", "quantity", "pause", "resume", "close"]

#: Answers after which it is not known whether the change was made.
UNKNOWN = frozenset({"", "retry", "internal", "rate_limited"})


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Ask:
    """One payment or cancellation of an order; `answer` is `order.<status>`, a code, or nothing."""

    order: str
    what: Literal["pay", "cancel"]
    sent_ms: int
    answered_ms: int = 0
    answer: str = ""

    @property
    def verdict(self) -> str:
        if self.answer in UNKNOWN:
            return "unknown"
        return "acknowledged" if self.answer.startswith("order.") else "refused"


class News(NamedTuple):
    """An order as its buyer was told of it."""

    order: str
    status: str
    version: int
    at_ms: int


@dataclass(slots=True)
class Act:
    """One thing that the host did; `answer` is `ok`, a code, or nothing."""

    what: Deed
    units: int
    sent_ms: int
    answered_ms: int = 0
    answer: str = ""


@dataclass(slots=True)
class Endings:
    """Everything that was asked and told about the orders of one offer after their birth."""

    payment: Literal["required", "none"] = "required"
    quantity: int | None = None  # that the offer was made with; None: not known
    asks: list[Ask] = field(default_factory=list)
    news: list[News] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)

    def ask(self, order: str, what: Literal["pay", "cancel"]) -> Ask:
        """Note that something is being asked; its answer is written into what is returned."""
        asked = Ask(order, what, now_ms())
        self.asks.append(asked)
        return asked

    def act(self, what: Deed, units: int = 0) -> Act:
        """Note that the host is doing something."""
        done = Act(what, units, now_ms())
        self.acts.append(done)
        return done

    def told(self, order: str, status: str, version: int) -> None:
        """Note news of an order."""
        self.news.append(News(order, status, version, now_ms()))

    def quantities(self) -> tuple[set[int], set[int]]:
        """The quantities that the offer may ever have had, and those that may stand now.

        An act without an answer may have been done or not. Empty when the first is not known.
        """
        if self.quantity is None:
            return set(), set()
        now = {self.quantity}
        ever = set(now)
        for act in self.acts:
            if act.what not in ("restock", "quantity") or act.answer not in {"ok", *UNKNOWN}:
                continue
            after = {at + act.units for at in now} if act.what == "restock" else {act.units}
            now = after if act.answer == "ok" else now | after
            ever |= after
        return ever, now
