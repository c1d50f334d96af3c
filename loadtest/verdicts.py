"""What an audit says of each invariant, judged or not: its findings gathered by name.

Owns the list of invariants that are asked for, and how several findings make one verdict. Judges
nothing itself and prints nothing. Called by the command `audit` and by the planted bugs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from loadtest.judge import Breach, Finding

Word = Literal["holds", "BROKEN", "not judged"]

#: INVARIANTS.md in a few words each; I9, money, is no part of an audit.
INVARIANTS: Final = {
    "I1": "no more units are sold than there are",
    "I2": "an acknowledged order is a row, once",
    "I3": "no viewer holds more than one may",
    "I4": "at rest left + live = quantity; Redis and Postgres agree",
    "I5": "no unit is lost: nobody is refused what is free",
    "I6": "ranks are unique and follow admission",
    "I7": "one order of events for all: no gap, no repeat",
    "I8": "pay, cancel or expire: exactly one wins, and stays",
    "I10": "an unknown outcome ends as 0 or 1 order",
    "I11": "no hold stays without a row",
}
#: What else may have been judged.
OTHERS: Final = {
    "R12": "the waitlist serves in turn, once",
    "draw": "a draw is what its seed says",
    "host": "what the host shut is not sold",
    "durability": "Postgres forgets nothing",
}


@dataclass(slots=True, frozen=True)
class Verdict:
    """One invariant over all offers that were asked about."""

    name: str
    claim: str
    word: Word
    why: str = ""  # of what was not judged
    broken: int = 0
    breaches: tuple[tuple[str, Breach], ...] = ()  # with the offer or stream; the first few


def verdicts(found: Sequence[tuple[str, Finding]]) -> list[Verdict]:
    """Return the verdict of each invariant; `found` has findings with the offer they are of."""
    names = [*INVARIANTS, *(name for name in OTHERS if any(f.name == name for _, f in found))]
    return [_verdict(name, [(of, one) for of, one in found if one.name == name]) for name in names]


def worst(found: Sequence[Finding]) -> Finding | None:
    """Return the first finding that is broken."""
    return next((one for one in found if one.passed is False), None)


def _verdict(name: str, found: Sequence[tuple[str, Finding]]) -> Verdict:
    claim = INVARIANTS.get(name) or OTHERS[name]
    wrong = [(of, one) for of, one in found if one.passed is False]
    breaches = tuple((of, breach) for of, one in wrong for breach in shown(one))
    judged = [one for _, one in found if one.passed is not None]
    why = "; ".join(dict.fromkeys(_why(one) for _, one in found if one.passed is None))
    if not judged:
        return Verdict(name, claim, "not judged", why or "nothing was asked about it")
    if why:
        why = f"in part: {why}"
    broken = sum(one.broken or 1 for _, one in wrong)
    return Verdict(name, claim, "BROKEN" if wrong else "holds", why, broken, breaches)


def shown(one: Finding) -> tuple[Breach, ...]:
    """Return a finding's breaches, or what it says where it names none."""
    return one.breaches or (Breach(f"{one.claim}: {one.detail}"),)


def _why(one: Finding) -> str:
    reason = one.detail.removeprefix("not judged: ")
    return f"“{one.claim}” not: {reason}" if reason else one.claim
