"""The judgements of the audit: pure functions from rows, answers and Redis to findings.

Owns what each invariant means for the data at hand. No I/O: audit reads, and calls these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from loadtest.history import Buy

DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")
LIVE = ("reserved", "confirmed", "shipped")
EXAMPLES_MAX = 3


@dataclass(slots=True, frozen=True)
class Row:
    """One order as Postgres has it."""

    id: str
    viewer: str
    key: str
    qty: int
    status: str
    rank: int


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
    rows: Sequence[Row], buys: Sequence[Buy], contradictions: Sequence[str]
) -> list[Finding]:
    """Hold every answer that a buyer got against the rows."""
    by_key: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_key.setdefault((row.viewer, row.key), []).append(row)
    lost, ranks, ended, revived = [], [], [], []
    for buy in buys:
        found = by_key.pop((buy.viewer, buy.key), [])
        if buy.verdict == "refused" and found:
            revived.append(f"{buy.key}: told {buy.outcome}, yet {found[0].id} {found[0].status}")
        if buy.verdict != "acknowledged":
            continue
        if len(found) != 1 or found[0].id != buy.order or found[0].qty != buy.qty:
            lost.append(f"{buy.key}: told {buy.order}, rows {[row.id for row in found]}")
            continue
        if found[0].rank != buy.rank:
            ranks.append(f"{buy.order}: told rank {buy.rank}, row {found[0].rank}")
        if found[0].status not in LIVE:
            ended.append(f"{buy.order} is {found[0].status}")
    strays = [f"{row.id} for {viewer}" for (viewer, _), found in by_key.items() for row in found]
    return [
        Finding("I2", "every acknowledged order is a row, once", not lost, examples(lost)),
        Finding("I6", "every rank told is its row's", not ranks, examples(ranks)),
        Finding("I8", "no order ended that nobody ended", not ended, examples(ended)),
        Finding(
            "I10",
            "one key, one answer; a refused one has no order",
            not revived and not contradictions,
            examples([*contradictions, *revived]),
        ),
        Finding("I10", "no order that nobody asked for", not strays, examples(strays)),
    ]


def judge_no_unit_lost(offer: OfferRow, rows: Sequence[Row], buys: Sequence[Buy]) -> Finding:
    """No refusal stands that the state at rest contradicts."""
    held: Counter[str] = Counter()
    for row in rows:
        if row.status in LIVE:
            held[row.viewer] += row.qty
    left = offer.quantity - offer.live
    wrong = []
    for buy in buys:
        if buy.verdict != "refused":
            continue
        room = held[buy.viewer] + buy.qty <= offer.per_viewer
        if (buy.outcome == "sold_out" and left >= buy.qty and room) or (
            buy.outcome == "limit_reached" and room
        ):
            wrong.append(f"{buy.key} told {buy.outcome}")
    return Finding(
        "I5",
        "no buy was refused for a unit, or a limit, that is free at rest",
        not wrong,
        f"{left} left" + (f"; {len(wrong)} refused wrongly: {examples(wrong)}" if wrong else ""),
    )


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
