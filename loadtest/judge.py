"""The judgements of the audit: pure functions from rows, answers and Redis to findings.

Owns what each invariant means for the data at hand; how orders end is judged by judge_endings. No
I/O: audit reads, and calls these. A violation names the order, the key and the moment.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from loadtest.history import Buy

DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")
LIVE = ("reserved", "confirmed", "shipped")
EXAMPLES_MAX = 3
#: What two clocks of one machine, and rounding to milliseconds, may differ by.
CLOCK_SLACK_MS = 20


@dataclass(slots=True, frozen=True)
class Row:
    """One order as Postgres has it."""

    id: str
    viewer: str
    key: str
    qty: int
    status: str
    rank: int
    reserved_ms: int = 0
    expires_ms: int | None = None  # kept when it expired; none once it is paid


@dataclass(slots=True, frozen=True)
class OfferRow:
    """One offer as Postgres has it, and the sum over its live orders."""

    quantity: int
    taken: int
    per_viewer: int
    epoch: int
    status: str
    live: int


@dataclass(slots=True, frozen=True)
class Gate:
    """One offer as Redis has it."""

    left: int
    quantity: int
    epoch: int
    held: frozenset[str]  # ids of the live orders
    unwritten: frozenset[str]  # holds without a known row


@dataclass(slots=True, frozen=True)
class Finding:
    """One invariant with its verdict; `passed` is None when it could not be judged."""

    name: str
    claim: str
    passed: bool | None
    detail: str = ""


@dataclass(slots=True)
class Audit:
    """All that was found about one offer."""

    offer: str
    settings: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    rows: int = 0
    quantity: int = 0
    live: int = 0
    rest_s: float | None = None  # from the start of the audit until all agreed

    @property
    def passed(self) -> bool:
        return all(finding.passed is not False for finding in self.findings)


def judge_durability(settings: dict[str, str]) -> Finding:
    """A fast sale on a server that may forget it proves nothing."""
    off = [f"{name} = {settings.get(name)}" for name in DURABILITY if settings.get(name) != "on"]
    return Finding("durability", "fsync and its kin are on", not off, "; ".join(off))


def judge_history(
    rows: Sequence[Row], buys: Sequence[Buy], contradictions: Sequence[str], buckets: int = 1
) -> list[Finding]:
    """Hold every answer that a buyer got against the rows.

    `buckets`: that the offer's units are spread over; each gives every so manieth rank.
    """
    by_key: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_key.setdefault((row.viewer, row.key), []).append(row)
    at = moments(buys)
    lost, ranks, revived = [], [], []
    for buy in buys:
        found = by_key.pop((buy.viewer, buy.key), [])
        when = f"{buy.key} of {buy.viewer}, {at(buy.answered_ms)}"
        # A refusal answers one attempt: another, cut off before its answer, may come later.
        allowed = 1 if buy.open_attempts else 0
        if buy.verdict == "refused" and len(found) > allowed:
            revived.append(f"{when}: told {buy.outcome}, yet {found[0].id} {found[0].status}")
        if buy.verdict != "acknowledged":
            continue
        if len(found) != 1 or found[0].id != buy.order or found[0].qty != buy.qty:
            lost.append(f"{when}: told {buy.order} × {buy.qty}, rows {_named(found)}")
            continue
        if found[0].rank != buy.rank:
            ranks.append(f"{buy.order} ({when}): told rank {buy.rank}, row {found[0].rank}")
    strays = [
        f"{row.id} {row.key} for {viewer}, {at(row.reserved_ms)}"
        for (viewer, _), found in by_key.items()
        for row in found
    ]
    return [
        Finding("I2", "every acknowledged order is a row, once", not lost, examples(lost)),
        Finding("I6", "every rank told is its row's", not ranks, examples(ranks)),
        judge_admission_order(buys, buckets),
        Finding(
            "I10",
            "one key, one answer; a refused one has no order",
            not revived and not contradictions,
            examples([*contradictions, *revived]),
        ),
        Finding("I10", "no order that nobody asked for", not strays, examples(strays)),
    ]


def _named(rows: Sequence[Row]) -> list[str]:
    return [f"{row.id} × {row.qty}" for row in rows]


def judge_admission_order(buys: Sequence[Buy], buckets: int = 1) -> Finding:
    """Who was told his rank before another sent his buy was admitted before him, in his bucket."""
    wrong: list[str] = []
    for bucket in range(buckets):
        wrong += _out_of_order([b for b in buys if b.order and b.rank % buckets == bucket], buys)
    return Finding("I6", "ranks follow admission", not wrong, examples(wrong))


def _out_of_order(ordered: Sequence[Buy], buys: Sequence[Buy]) -> list[str]:
    ranked = sorted(ordered, key=lambda buy: buy.sent_ns)
    told = sorted(ranked, key=lambda buy: buy.answered_ns or buy.sent_ns)
    at, before, last, wrong = moments(buys), 0, None, []
    for buy in ranked:
        while before < len(told) and 0 < told[before].answered_ns < buy.sent_ns:
            if last is None or told[before].rank > last.rank:
                last = told[before]
            before += 1
        if last is not None and last.rank > buy.rank:
            wrong.append(
                f"{buy.order} ({buy.key}), sent {at(buy.sent_ms)}, has rank {buy.rank};"
                f" {last.order} had {last.rank} by {at(last.answered_ms)}"
            )
    return wrong


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
    at, wrong = moments(buys), []
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
                f"{buy.key} of {buy.viewer} told {buy.outcome} of {buy.qty} {at(buy.answered_ms)},"
                f" when orders of {taken} of {most} units were born"
            )
    return Finding(
        "I5",
        "no buy was refused for a unit, or a limit, that was free",
        not wrong,
        f"{offer.quantity - offer.live} left"
        + (f"; {len(wrong)} refused wrongly: {examples(wrong)}" if wrong else ""),
    )


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


def moments(buys: Sequence[Buy]) -> Callable[[int], str]:
    """Return what says a moment as time since the first buy."""
    first = min((buy.sent_ms for buy in buys), default=0)
    return lambda ms: f"at {(ms - first) / 1000:+.3f} s" if ms else "never answered"


def judge_gate(offer: OfferRow, live: frozenset[str], gate: Gate | None) -> dict[str, str]:
    """Compare by ids, not sums: two errors that cancel out are two errors."""
    if gate is None:
        # A closed offer needs no gate: nobody is admitted any more.
        return {} if offer.status == "closed" else {"I4": "Redis does not have the offer"}
    wrong = {}
    if gate.unwritten:
        wrong["I11"] = f"{len(gate.unwritten)} unwritten holds: {examples(gate.unwritten)}"
    only_redis, only_postgres = gate.held - live, live - gate.held
    differs = []
    if only_redis:
        differs.append(f"{len(only_redis)} only in Redis: {examples(only_redis)}")
    if only_postgres:
        differs.append(f"{len(only_postgres)} only in Postgres: {examples(only_postgres)}")
    if gate.left + offer.live != offer.quantity:
        differs.append(f"left {gate.left} + live {offer.live} ≠ quantity {offer.quantity}")
    if gate.quantity != offer.quantity:
        differs.append(f"quantity {gate.quantity} in Redis, {offer.quantity} in Postgres")
    if gate.epoch != offer.epoch:
        differs.append(f"epoch {gate.epoch} in Redis, {offer.epoch} in Postgres")
    if differs:
        wrong["I4"] = "; ".join(differs)
    return wrong


def examples(items: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    found = list(items)
    more = f" and {len(found) - EXAMPLES_MAX} more" if len(found) > EXAMPLES_MAX else ""
    return ", ".join(found[:EXAMPLES_MAX]) + more
