"""Visits every reachable state, breadth first, and says what broke on the shortest way there.

Knows the transition relation and the invariants, not what they are about. A test asks `explore` and
reads the verdict; `Verdict.trace` is the way from the start, in words, with both stores after each
step that changed them.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass

from tests.model import invariants
from tests.model.ranks import dense
from tests.model.shapes import Gate, Ledger, Small, State
from tests.model.world import moves


@dataclass(frozen=True)
class Verdict:
    """What an exploration found: nothing broken, or the invariant and the way to it."""

    states: int
    resting: int  # of them, those at rest
    broken: str = ""
    steps: int = 0  # of the shortest way to it
    trace: str = ""


class _Search:
    def __init__(self, small: Small) -> None:
        self.small = small
        self.states = [small.start]
        self.index = {small.start: 0}
        self.came: list[tuple[int, str]] = [(0, "")]  # from which state, and how, in words
        self.back: list[list[int]] = [[]]  # from which states by progress alone
        self.resting: list[int] = []
        self.settled: list[int] = []

    def run(self, states_max: int) -> Verdict:
        """Visit everything; stop at the first thing broken."""
        at = 0
        while at < len(self.states):
            state = self.states[at]
            broken = self._look(at, state)
            if broken:
                return self._verdict(broken, at)
            for tag, label, reached, broken in moves(state, self.small):
                after = dense(reached)
                to = self.index.get(after)
                if to is None:
                    to = self.index[after] = len(self.states)
                    self.states.append(after)
                    self.came.append((at, label))
                    self.back.append([])
                    if len(self.states) > states_max:
                        raise MemoryError(f"more than {states_max} states: {self.small.name}")
                broken = broken or self._watch(state, reached)
                if broken:
                    return self._verdict(broken, at, label, reached)
                if tag == "go":
                    self.back[to].append(at)
            at += 1
        stuck = self._stuck()
        if stuck is not None:
            return self._verdict("no rest", stuck)
        return Verdict(len(self.states), len(self.resting))

    def _watch(self, state: State, after: State) -> str:
        """Hold a step to what must be true of every one."""
        broken = ""
        if after.ledger is not state.ledger:
            broken = invariants.broken_step(state.ledger, after.ledger)
            broken = broken or invariants.broken_always(after.ledger, self.small)
        if not broken:
            broken = invariants.broken_answers(after, self.small)
        return broken

    def _look(self, at: int, state: State) -> str:
        """Hold a state at rest to what must be true there."""
        if not invariants.at_rest(state, self.small):
            return ""
        self.resting.append(at)
        if invariants.answered(state):
            self.settled.append(at)
        return invariants.broken_at_rest(state, self.small)

    def _stuck(self) -> int | None:
        """Return the first state from which progress alone never ends with everybody answered."""
        reach = set(self.settled)
        edge = list(reach)
        while edge:
            for before in self.back[edge.pop()]:
                if before not in reach:
                    reach.add(before)
                    edge.append(before)
        return next((i for i in range(len(self.states)) if i not in reach), None)

    def _verdict(
        self, broken: str, at: int, label: str = "", after: State | None = None
    ) -> Verdict:
        way = [(label, after)] if after is not None else []
        while at:
            before, how = self.came[at]
            way.append((how, self.states[at]))
            at = before
        trace = _in_words([("the offer opens", self.states[0]), *reversed(way)])
        return Verdict(len(self.states), len(self.resting), broken, len(way), f"{broken}:\n{trace}")


def explore(small: Small, states_max: int = 400_000) -> Verdict:
    """Explore one configuration."""
    gc.disable()  # millions of tuples without a cycle among them: looking for one is half the time
    try:
        return _Search(small).run(states_max)
    finally:
        gc.enable()


def _in_words(way: list[tuple[str, State]]) -> str:
    lines: list[str] = []
    gate: Gate | None = None
    ledger: Ledger | None = None
    buyers: tuple[str, ...] = ()
    for n, (label, state) in enumerate(way):
        lines.append(f"{n:3} {label}")
        if state.gate != gate:
            gate = state.gate
            lines.append(f"      Redis    {_gate(gate)}")
        if state.ledger != ledger:
            ledger = state.ledger
            lines.append(f"      Postgres {_ledger(ledger)}")
        if state.buyers != buyers:
            buyers = state.buyers
            lines.append(f"      buyers   {' '.join(buyers)}")
    return "\n".join(lines)


def _gate(gate: Gate) -> str:
    holds = " ".join(
        f"or{h.id}(b{h.buyer} at {h.rank}{'' if h.written else ', unwritten'})" for h in gate.holds
    )
    run = "" if gate.run else "another run, "
    return f"{run}epoch {gate.epoch} at {gate.at} left {gate.left} rank {gate.rank} [{holds}]"


def _ledger(ledger: Ledger) -> str:
    rows = " ".join(f"or{r.id}(b{r.buyer} at {r.rank}, {r.status})" for r in ledger.rows)
    return (
        f"epoch {ledger.epoch} fence {ledger.fence} taken {ledger.taken} of {ledger.quantity}"
        f"{' closed' if ledger.closed else ''} [{rows}] {len(ledger.moves)} movements"
    )
