"""The judgements of the audit: what a finding is, and what Redis and the settings must say.

Owns Finding, Audit and Breach, which every judge makes, and the shapes that are judged. Pure
functions, no I/O: audit reads, and calls these; judge_answers holds answers against rows,
judge_endings says how orders may end. A breach names the order, the key, the viewer, the moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")
LIVE = ("reserved", "confirmed", "shipped")
#: Breaches that a finding's own line shows; it keeps BREACHES_KEPT_MAX of them and counts the rest.
EXAMPLES_MAX = 3
BREACHES_KEPT_MAX = 100
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
    unwritten: Mapping[str, int]  # holds without a known row, and when each was made (ms)


@dataclass(slots=True, frozen=True)
class Breach:
    """One place where an invariant is broken; what does not apply is empty."""

    what: str
    order: str = ""
    key: str = ""
    viewer: str = ""
    at_ms: int | None = None  # on the wall clock
    since_ms: int | None = None  # the same, since the run began
    number: str = ""  # of an event: `epoch seq 17`

    @property
    def text(self) -> str:
        """All of it in one line."""
        both = self.key and self.viewer
        buyer = f"{self.key} of {self.viewer}" if both else self.key or self.viewer
        who = f"{self.order} ({buyer})" if self.order and buyer else self.order or buyer
        when = f"at {moment(self.at_ms, self.since_ms)}" if self.at_ms else ""
        head = " ".join(part for part in (who, self.number, when) if part)
        return f"{head}: {self.what}" if head else self.what


@dataclass(slots=True, frozen=True)
class Finding:
    """One invariant with its verdict; `passed` is None when it could not be judged."""

    name: str
    claim: str
    passed: bool | None
    detail: str = ""
    breaches: tuple[Breach, ...] = ()  # the first few
    broken: int = 0  # how many there are


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
    began_ms: int = 0  # the run's first moment; 0: nothing happened

    @property
    def passed(self) -> bool:
        return all(finding.passed is not False for finding in self.findings)


def moment(at_ms: int | None, since_ms: int | None = None) -> str:
    """Say a moment of the wall clock: ISO 8601 in UTC, and ms since the run began where known."""
    if not at_ms:
        return "no known time"
    iso = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return iso.replace("+00:00", "Z") + (f" ({since_ms:+,} ms)" if since_ms is not None else "")


def finding(
    name: str, claim: str, breaches: Iterable[Breach], began_ms: int = 0, held: str = ""
) -> Finding:
    """Make the finding of a claim that is broken as often as there are breaches.

    `began_ms`: what moments are counted from; `held`: the detail of a claim that holds, which
    goes before the first breaches of one that does not.
    """
    found = [
        replace(one, since_ms=one.at_ms - began_ms) if one.at_ms and began_ms else one
        for one in breaches
    ]
    if not found:
        return Finding(name, claim, True, held)
    shown = examples((one.text for one in found[: EXAMPLES_MAX + 1]), len(found))
    detail = f"{held}; {shown}" if held else shown
    return Finding(name, claim, False, detail, tuple(found[:BREACHES_KEPT_MAX]), len(found))


def judge_durability(settings: dict[str, str]) -> Finding:
    """A fast sale on a server that may forget it proves nothing."""
    off = [f"{name} = {settings.get(name)}" for name in DURABILITY if settings.get(name) != "on"]
    return Finding("durability", "fsync and its kin are on", not off, "; ".join(off))


def judge_gate(
    offer: OfferRow,
    live: frozenset[str],
    gate: Gate | None,
    named: Mapping[str, Breach] | None = None,
) -> dict[str, list[Breach]]:
    """Compare by ids, not sums: two errors that cancel out are two errors.

    `named`: whose order an id is, as far as that is known.
    """
    if gate is None:
        # A closed offer needs no gate: nobody is admitted any more.
        return {} if offer.status == "closed" else {"I4": [Breach("Redis does not have the offer")]}
    named = named or {}
    differs = [
        *_named(gate.held - live, "only in Redis", named),
        *_named(live - gate.held, "only in Postgres", named),
    ]
    sums = {
        "left + live ≠ quantity": (gate.left + offer.live, offer.quantity),
        "quantity in Redis, in Postgres": (gate.quantity, offer.quantity),
        "epoch in Redis, in Postgres": (gate.epoch, offer.epoch),
    }
    for what, (one, other) in sums.items():
        if one != other:
            more = f" (left {gate.left}, live {offer.live})" if what.startswith("left") else ""
            differs.append(Breach(f"{what}: {one}, {other}{more}"))
    wrong = {"I4": differs} if differs else {}
    if gate.unwritten:
        wrong["I11"] = [
            replace(one, at_ms=gate.unwritten[one.order] or None)
            for one in _named(gate.unwritten, "held, and not known to be a row", named)
        ]
    return wrong


def _named(ids: Iterable[str], what: str, named: Mapping[str, Breach]) -> list[Breach]:
    return [replace(named.get(id_, Breach("")), order=id_, what=what) for id_ in sorted(ids)]


def examples(items: Iterable[str], total: int | None = None) -> str:
    """The first few, and how many more there are; `total` of them where not all are given."""
    found = list(items)
    more = (len(found) if total is None else total) - EXAMPLES_MAX
    return ", ".join(found[:EXAMPLES_MAX]) + (f" and {more} more" if more > 0 else "")
