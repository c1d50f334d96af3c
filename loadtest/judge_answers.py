"""What buyers were answered, held against the rows: pure functions of the audit.

Owns what I2, I5, I6 and I10 mean for a history. How orders end is judge_endings'. Called by audit;
a breach names the order, the key, the viewer and the moment.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from loadtest.history import Buy, TwoOrders
from loadtest.judge import CLOCK_SLACK_MS, Breach, Finding, OfferRow, Row, finding, moment

#: What is said of claims that only a history can be asked about.
NEEDS_HISTORY = "not judged: no history of what buyers were told"
CLAIMS = {
    "I2": "every acknowledged order is a row, once",
    "I5": "no buy was refused for a unit, or a limit, that was free",
    "I6": "ranks follow admission",
    "I10": "one key, one answer; a refused one has no order",
}


def unjudged() -> list[Finding]:
    """Return the claims of this module as they stand when there is no history."""
    return [Finding(name, claim, None, NEEDS_HISTORY) for name, claim in CLAIMS.items()]


def judge_history(
    rows: Sequence[Row], buys: Sequence[Buy], contradictions: Sequence[TwoOrders], buckets: int = 1
) -> list[Finding]:
    """Hold every answer that a buyer got against the rows.

    `buckets`: that the offer's units are spread over; each gives every so manieth rank.
    """
    by_key: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_key.setdefault((row.viewer, row.key), []).append(row)
    began_ms = began(buys)
    lost, ranks, revived = [], [], []
    for buy in buys:
        found = by_key.pop((buy.viewer, buy.key), [])
        # A refusal answers one attempt: another, cut off before its answer, may come later.
        allowed = 1 if buy.open_attempts else 0
        if buy.verdict == "refused" and len(found) > allowed:
            what = f"told {buy.outcome}, yet there is {_names(found)}, {found[0].status}"
            revived.append(of_buy(buy, what, found[0].id))
        if buy.verdict != "acknowledged":
            continue
        if len(found) != 1 or found[0].id != buy.order or found[0].qty != buy.qty:
            lost.append(of_buy(buy, f"told of {buy.qty} units, rows: {_names(found) or 'none'}"))
        elif found[0].rank != buy.rank:
            ranks.append(of_buy(buy, f"told rank {buy.rank}, its row has {found[0].rank}"))
    strays = [
        of_row(row, f"{row.status}, and nobody asked for it")
        for found in by_key.values()
        for row in found
    ]
    double = [
        Breach(f"told {two.other} too", two.order, two.key, two.viewer, two.at_ms)
        for two in contradictions
    ]
    return [
        finding("I2", CLAIMS["I2"], lost, began_ms),
        finding("I6", "every rank told is its row's", ranks, began_ms),
        judge_admission_order(buys, buckets),
        finding("I10", CLAIMS["I10"], [*double, *revived], began_ms),
        finding("I10", "no order that nobody asked for", strays, began_ms),
    ]


def began(buys: Iterable[Buy]) -> int:
    """Return when the first buy was sent, in ms of the wall clock; 0 without any."""
    return min((buy.sent_ms for buy in buys), default=0)


def of_buy(buy: Buy, what: str, order: str = "") -> Breach:
    """Return what is wrong with a buy, at the moment when it was answered."""
    return Breach(
        what, buy.order or order, buy.key, buy.viewer, buy.answered_ms or buy.sent_ms or None
    )


def of_row(row: Row, what: str, at_ms: int | None = None) -> Breach:
    """Return what is wrong with an order; without a moment, when it was born."""
    return Breach(what, row.id, row.key, row.viewer, at_ms or row.reserved_ms or None)


def teller(began_ms: int) -> Callable[[int | None], str]:
    """Return what says a moment within a breach's words."""
    return lambda ms: moment(ms, ms - began_ms if ms and began_ms else None)


def _names(rows: Sequence[Row]) -> str:
    return " and ".join(f"{row.id} of {row.qty}" for row in rows)


def judge_admission_order(buys: Sequence[Buy], buckets: int = 1) -> Finding:
    """Who was told his rank before another sent his buy was admitted before him, in his bucket.

    Only moments of one machine's clock are compared.
    """
    wrong: list[Breach] = []
    for clock in {buy.clock for buy in buys}:
        for bucket in range(buckets):
            wrong += _out_of_order([
                buy for buy in buys
                if buy.order and buy.clock == clock and buy.rank % buckets == bucket
            ], began(buys))  # fmt: skip
    return finding("I6", CLAIMS["I6"], wrong, began(buys))


def _out_of_order(buys: Sequence[Buy], began_ms: int) -> Iterator[Breach]:
    ranked = sorted(buys, key=lambda buy: buy.sent_ns)
    told = sorted(ranked, key=lambda buy: buy.answered_ns or buy.sent_ns)
    at, before, last = teller(began_ms), 0, None
    for buy in ranked:
        while before < len(told) and 0 < told[before].answered_ns < buy.sent_ns:
            if last is None or told[before].rank > last.rank:
                last = told[before]
            before += 1
        if last is not None and last.rank > buy.rank:
            yield Breach(
                f"has rank {buy.rank}; {last.order} ({last.key} of {last.viewer}) had {last.rank}"
                f" by {at(last.answered_ms)}, before this was sent",
                buy.order, buy.key, buy.viewer, buy.sent_ms,
            )  # fmt: skip


def judge_no_unit_lost(
    offer: OfferRow, rows: Sequence[Row], buys: Sequence[Buy], quantity_low: int | None = None
) -> Finding:
    """No refusal was said while rows could not yet have explained it.

    "Sold out" is said only when every taken unit is a row (R6), and a row is born before its buyer
    is told. So the units of all orders born until then, ended ones too, must leave less than what
    was asked of the lowest quantity that the offer ever had. The same for each viewer's limit.
    """
    low = offer.quantity if quantity_low is None else quantity_low
    born = Births(rows)
    own: dict[str, Births] = {}
    for row in rows:
        own.setdefault(row.viewer, Births([])).add(row)
    wrong = []
    for buy in buys:
        if buy.verdict != "refused" or buy.outcome not in ("sold_out", "limit_reached"):
            continue
        until = buy.answered_ms + CLOCK_SLACK_MS
        mine = own[buy.viewer].units(until) if buy.viewer in own else 0
        taken, most = born.units(until), low
        if buy.outcome == "limit_reached":
            taken, most = mine, offer.per_viewer
        if taken + buy.qty <= most:
            wrong.append(
                of_buy(
                    buy,
                    f"told {buy.outcome} of {buy.qty}, when orders of {taken} of {most} units were"
                    " born",
                )
            )
    return finding("I5", CLAIMS["I5"], wrong, began(buys), f"{offer.quantity - offer.live} left")


class Births:
    """How many units had been ordered by a moment, ended orders too."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._units: list[tuple[int, int]] = sorted((row.reserved_ms, row.qty) for row in rows)
        self._sums: list[int] = []

    def add(self, row: Row) -> None:
        insort(self._units, (row.reserved_ms, row.qty))
        self._sums = []

    def units(self, until_ms: int) -> int:
        if len(self._sums) != len(self._units):
            self._sums = list(accumulate(qty for _, qty in self._units))
        born = bisect_right(self._units, until_ms, key=lambda unit: unit[0])
        return self._sums[born - 1] if born else 0
