"""What may happen next to processes that are stepped, and which of it commutes.

Plain values; knows no servers. Called by `stepping`, which makes them, and by searches.
"""

from __future__ import annotations

from typing import NamedTuple

FAULTS = ("lost", "deaf", "slow", "late", "die")


class Choice(NamedTuple):
    """Something that may happen next; equal in two runs when it is the same thing."""

    kind: str  # go, answer, time, or one of FAULTS
    process: str
    number: int = 0  # of the call, in its process
    verb: str = ""
    store: str = ""  # redis or sql
    offer: str = ""  # that a script is called for
    reads: bool = False

    def __str__(self) -> str:
        what = f"{self.process}.{self.verb}:{self.number}" if self.verb else self.process
        return what if self.kind == "go" else f"{self.kind}({what})"


def independent(one: Choice, other: Choice) -> bool:
    """Tell whether two choices lead to the same state in either order, and allow each other."""
    if one.process == other.process or "time" in (one.kind, other.kind):
        return False
    if one.kind in FAULTS and other.kind in FAULTS:
        return False  # there are only so many
    for choice in (one, other):
        if choice.kind in ("answer", "lost", "slow", "die"):
            return True  # no effect on a server
    verbs = {one.verb, other.verb}
    if "hold" in verbs and verbs & {"admit", "admit_bundle"}:
        return False  # whether an answer of the gate is true depends on the rows there are
    if one.store != other.store or (one.reads and other.reads):
        return True
    if one.store == "sql" or "wipe" in verbs:
        return False
    return "stage" in verbs or one.offer != other.offer  # a stage is nobody else's
