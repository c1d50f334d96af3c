"""What came of a comparison: contests, in each of them our figures and those of every peer.

Owns the shape of its JSON and how a ratio is made: of two figures of the same round, never of two
medians. Pure; filled by `crowded` and `selling`, shown by `table`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import msgspec

OURS = "livecart"


class Entry(msgspec.Struct, kw_only=True):
    """One side of a contest: medians of the rounds, with both ends."""

    name: str
    figure: float
    low: float
    high: float
    ratio: float | None = (
        None  # how many times as good livecart is; None: it is livecart, or too little
    )
    ratio_low: float | None = None
    ratio_high: float | None = None
    note: str = ""  # what else is to be said of it

    @property
    def behind(self) -> bool:
        """Tell whether livecart is behind it, by more than the digits that are shown."""
        return self.ratio is not None and round(self.ratio, 2) < 1


class Contest(msgspec.Struct, kw_only=True):
    """One thing that all sides did, in turn."""

    name: str  # fan-out
    what: str  # a sentence on what was done
    unit: str  # deliveries/s
    more_is_better: bool = True
    rounds: int = 1
    entries: list[Entry] = []  # livecart first
    notes: list[str] = []

    @property
    def behind(self) -> list[Entry]:
        """Return the peers that are ahead of livecart."""
        return [one for one in self.entries if one.behind]


class Comparison(msgspec.Struct, kw_only=True):
    """A whole run."""

    began: str  # 2026-01-02 03:04 UTC
    took_s: float = 0.0
    options: dict[str, int] = {}  # viewers, rounds
    load_before: float = 0.0  # processes that wanted a processor in the minute before
    machine: dict[str, str] = {}  # processor, cores, memory, system, its packages
    versions: dict[str, str] = {}  # of all that ran
    contests: list[Contest] = []
    absent: dict[str, str] = {}  # peers that are not here: why, and how to get them
    failed: dict[str, str] = {}  # peers that could not do what was asked
    left_out: dict[str, str] = {}  # contests that were not held, and why


def entries_of(
    figures: Mapping[str, Sequence[float]],
    more_is_better: bool = True,
    notes: Mapping[str, str] | None = None,
) -> list[Entry]:
    """Return what is said of each side, livecart first; each needs a figure of every round."""
    ours = figures[OURS]
    found = []
    for name in sorted(figures, key=lambda name: name != OURS):
        theirs = figures[name]
        entry = Entry(
            name=name,
            figure=statistics.median(theirs),
            low=min(theirs),
            high=max(theirs),
            note=(notes or {}).get(name, ""),
        )
        if name != OURS:
            pairs = zip(ours, theirs, strict=True)
            # What is too little to be measured is not compared: a few viewers' memory.
            if ratios := [a / b if more_is_better else b / a for a, b in pairs if min(a, b) > 0]:
                entry.ratio = statistics.median(ratios)
                entry.ratio_low, entry.ratio_high = min(ratios), max(ratios)
        found.append(entry)
    return found
