"""The invariants of INVARIANTS.md, as questions about one state, one step, or a state at rest.

I7 and I9 are about events and money, which the model does not have. What a step itself must not do
(refuse wrongly: I5, R6; let through what the ledger must refuse) the step reports. `taken` and the
sums are compared in every state, since nothing may ever part them.
"""

from __future__ import annotations

from tests.model import keeper, redis
from tests.model.shapes import (
    ACCEPTED,
    CLOSED,
    EMPTY,
    IDLE,
    INTERNAL,
    LIMIT,
    LIVE,
    NEW,
    SOLD_OUT,
    WAITS,
    WANTS,
    Ledger,
    Small,
    State,
)


def broken_always(ledger: Ledger, small: Small) -> str:
    """Name the invariant that the ledger of any reachable state breaks, or ''."""
    live = [row for row in ledger.rows if row.status in LIVE]
    units = sum(small.buyers[row.buyer][1] for row in live)
    if units > ledger.quantity:
        return "I1"
    if units != ledger.taken:
        return "I4"
    have: dict[int, int] = {}
    for row in live:
        viewer, qty = small.buyers[row.buyer]
        have[viewer] = have.get(viewer, 0) + qty
    if any(n > small.per_viewer for n in have.values()):
        return "I3"
    if len({row.rank for row in ledger.rows}) < len(ledger.rows):
        return "I6"
    if len({row.buyer for row in ledger.rows}) < len(ledger.rows):
        return "I10"
    return ""


def broken_answers(state: State, small: Small) -> str:
    """Name the invariant that what a buyer was told breaks, or ''."""
    there = {row.buyer for row in state.ledger.rows}
    for buyer, told in enumerate(state.buyers):
        if told == ACCEPTED and buyer not in there:
            return "I2"
        if told in (SOLD_OUT, LIMIT, CLOSED) and buyer in there:
            return "I10"
        if told == INTERNAL and buyer not in small.poison:
            return "R5"
    return ""


def broken_step(before: Ledger, after: Ledger) -> str:
    """Name the invariant that one step from ledger to ledger breaks, or ''."""
    now = {row.id: row.status for row in after.rows}
    for row in before.rows:
        if row.id not in now:
            return "I2"
        if row.status != "reserved" and now[row.id] != row.status:
            return "I8"
    return ""


def at_rest(state: State, small: Small) -> bool:
    """Tell whether nothing is under way, and the keeper's rounds change nothing any more."""
    if (
        any(hub != EMPTY for hub in state.hubs)
        or any(actor != IDLE for actor in state.keepers)
        or state.follower != IDLE
        or WAITS in state.buyers
    ):
        return False
    _, actor, ledger, gate = keeper.step(state, small, IDLE)
    while actor != IDLE:
        now = state._replace(ledger=ledger, gate=gate)
        _, actor, ledger, gate = keeper.step(now, small, actor)
    return ledger == state.ledger and gate == state.gate


def answered(state: State) -> bool:
    """Tell whether every buyer has a final answer."""
    return NEW not in state.buyers and WANTS not in state.buyers


def broken_at_rest(state: State, small: Small) -> str:
    """Name the invariant that a state at rest breaks, or ''."""
    ledger, gate = state.ledger, state.gate
    if redis.frozen(gate, small):
        # Only a closed offer may stay so: its rows answer for it.
        return "" if ledger.closed else "I4"
    if redis.stale(gate):
        return "I11"
    live = {row.id for row in ledger.rows if row.status in LIVE}
    if gate.left + ledger.taken != ledger.quantity or {hold.id for hold in gate.holds} != live:
        return "I4"
    if gate.at != len(ledger.moves) or gate.closed != ledger.closed:
        return "I4"
    if set(gate.keys) != {(row.buyer, row.id) for row in ledger.rows}:
        return "I10"
    highest = max((row.rank for row in ledger.rows), default=0)
    if gate.epoch == ledger.epoch and gate.rank < highest:
        return "I6"
    return ""
