"""The transition relation: every step that anybody may do next, and every fault that may happen.

A step is tagged: `go` is progress (hubs, keepers, viewers who come back), `fate` a fault or a
change by the host, a payer or the clock. Rest must be reachable from everywhere by `go` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, cast

from tests.model import hub, keeper, postgres, redis
from tests.model.hub import Step, T, gone, told, with_hub, with_undo
from tests.model.ranks import in_order
from tests.model.shapes import (
    EMPTY,
    IDLE,
    NEW,
    WAITS,
    WANTS,
    WIPED,
    Actor,
    Buy,
    Call,
    Copy,
    Gate,
    Small,
    State,
)

Move = tuple[Literal["go", "fate"], str, State, str]


def moves(state: State, small: Small) -> Iterator[Move]:
    """Every transition out of a state: its tag, in words, where it leads, what it broke."""
    for label, after, broken in _sends(state, small):
        yield "go", label, after, broken
    for i, one in enumerate(state.hubs):
        if one != EMPTY and one not in state.hubs[:i]:
            for label, after, broken in hub.steps(state, small, i):
                yield "go", label, after, broken
    for i, actor in enumerate(state.keepers):
        if actor not in state.keepers[:i]:
            label, now, ledger, gate = keeper.step(state, small, actor)
            if now is not actor or gate is not state.gate:
                after = _with_keeper(state, i, now)._replace(ledger=ledger, gate=gate)
                yield "go", label, after, ""
    if state.follower != IDLE:
        label, now, ledger, gate = keeper.step(state, small, state.follower)
        yield "go", label, state._replace(follower=now, ledger=ledger, gate=gate), ""
    if "gate_expires" in small.bugs:  # R8: a clock that is not Postgres' decides
        for hold in state.gate.holds:
            gate = redis.give_back(state.gate, small, hold)
            yield "fate", f"Redis' own clock ends or{hold.id}", state._replace(gate=gate), ""
    for label, after in _events(state, small):
        yield "fate", label, after, ""
    if state.faults:
        spent = state._replace(faults=state.faults - 1)
        for label, after, broken in _faults(spent, small):
            yield "fate", label, after, broken


def _senders(state: State, small: Small) -> Iterator[int]:
    """Buyers without an answer: each sends, or sends again with the same key, to any hub."""
    for buyer, status in enumerate(state.buyers):
        # Buyers who are alike ask for the first time in their order: the others are mirror images.
        twin = buyer and small.buyers[buyer - 1][1] == small.buyers[buyer][1]
        if status == WANTS or (status == NEW and not (twin and state.buyers[buyer - 1] == NEW)):
            yield buyer


def _sends(state: State, small: Small) -> Iterator[Step]:
    for buyer in _senders(state, small):
        waits = _as(state, buyer, WAITS)
        for i, one in enumerate(state.hubs):
            if one not in state.hubs[:i] and not (small.alone and one.busy):
                yield hub.ask(waits, small, i, (Buy(buyer, True, 0),))


def _as(state: State, buyer: int, word: str) -> State:
    return state._replace(buyers=(*state.buyers[:buyer], word, *state.buyers[buyer + 1 :]))


def _with_keeper(state: State, i: int, now: Actor) -> State:
    keepers = [*state.keepers]
    keepers[i] = now
    return state._replace(keepers=in_order(keepers))


def _events(state: State, small: Small) -> Iterator[tuple[str, State]]:
    """What a host, a payer or the clock does: one transaction, then the gate is told of it."""
    for n, (event, _) in enumerate(small.events):
        if not state.events[n]:
            continue
        spent = (*state.events[:n], state.events[n] - 1, *state.events[n + 1 :])
        if event == "rebuild":  # reconcile, or a keeper who read the offer's row a while ago
            if state.follower == IDLE:
                begun = state._replace(follower=("raise", state.gate.epoch), events=spent)
                yield "somebody has the gate built anew, well as it is", begun
            continue
        for label, ledger in postgres.change(state.ledger, small, event):
            after = state._replace(ledger=ledger, events=spent)
            yield f"somebody {label}; its gate is left to the keeper", after
            if small.follows and state.follower == IDLE:
                after = after._replace(follower=("follow", keeper.NOBODY))
                yield f"somebody {label}, and tells the gate next", after


# --- faults --------------------------------------------------------------------------------------


def _faults(state: State, small: Small) -> Iterator[Step]:
    for i, one in enumerate(state.hubs):
        if one not in state.hubs[:i]:
            for buyer in _senders(state, small):
                yield from _unanswered(state, small, i, buyer)
            if one != EMPTY:
                yield from _hub_faults(state, small, i)
    kinds, gate = small.kinds, state.gate
    if "crash_keeper" in kinds:
        for i, actor in enumerate(state.keepers):
            if actor != IDLE and actor not in state.keepers[:i]:
                yield f"FAULT: a keeper dies before: {actor[0]}", _with_keeper(state, i, IDLE), ""
        if state.follower != IDLE:
            yield "FAULT: who tells the gate dies", state._replace(follower=IDLE), ""
    if "wipe" in kinds and gate != WIPED:
        yield "FAULT: FLUSHALL", _unstaged(state._replace(gate=WIPED)), ""
    if gate.epoch and "restart" in kinds:
        after = state._replace(gate=gate._replace(run=False))
        yield "FAULT: Redis restarts with its data", after, ""
    if gate.epoch and "stale" in kinds:
        old = Gate(False, 1, 0, small.quantity, 0, False, (), ())
        yield "FAULT: Redis restarts with old data", _unstaged(state._replace(gate=old)), ""


def _unstaged(state: State) -> State:
    """Staged rebuilds go with the rest; of one without orders nothing is missed."""
    keepers = tuple(_without_stage(actor) for actor in state.keepers)
    return state._replace(keepers=keepers, follower=_without_stage(state.follower))


def _without_stage(actor: Actor) -> Actor:
    if actor[0] != "install":
        return actor
    phase, epoch, copy, whole = actor
    return (phase, epoch, copy, whole and not cast(Copy, copy).keys)


def _unanswered(state: State, small: Small, i: int, buyer: int) -> Iterator[Step]:
    """A viewer sends, and his connection or the hub's patience ends before the hold call."""
    one, left = state.hubs[i], _as(state, buyer, WANTS)
    if small.alone and one.busy:
        return
    buy = Buy(buyer, False, 0)
    if "lose_send" in small.kinds:
        after = one._replace(waiting=(*one.waiting, buy))
        label = f"FAULT: b{buyer} is sent, and the connection breaks"
        yield label, with_hub(left, i, after), ""
    if "script_error" in small.kinds and not redis.frozen(state.gate, small):
        after = one._replace(waiting=())  # its marks are kept for the next call
        buyers = told(left.buyers, one.waiting, WANTS)
        gate = redis.fail(state.gate, small, buyer)
        label = f"FAULT: b{buyer} is sent, and the script fails half way"
        yield label, with_hub(left, i, after, gate=gate, buyers=buyers), ""
    if "late_hold" in small.kinds:
        late = (one.written, (*gone(one.waiting), buy))
        after = one._replace(waiting=(), written=(), late=(*one.late, late))
        buyers = told(left.buyers, one.waiting, WANTS)
        label = f"FAULT: b{buyer} is sent, and the hub gives up a hold call that is run later"
        yield label, with_hub(left, i, after, buyers=buyers), ""


def _hub_faults(state: State, small: Small, i: int) -> Iterator[Step]:
    one, kinds = state.hubs[i], small.kinds
    if "crash_hub" in kinds:
        yield "FAULT: a hub is killed", _killed(state, i), ""
    if "lose_viewer" in kinds:
        here = {line.buyer for lines in (one.waiting, one.held) for line in lines if line.here}
        for buyer in here:
            after = one._replace(
                waiting=_without(one.waiting, buyer), held=_without(one.held, buyer)
            )
            label = f"FAULT: the connection of b{buyer} breaks"
            yield label, with_hub(_as(state, buyer, WANTS), i, after), ""
    if one.held:
        buyers = told(state.buyers, one.held, WANTS)
        if "lost_hold" in kinds:
            after = one._replace(held=())
            yield (
                "FAULT: a hub never hears of its holds",
                with_hub(state, i, after, buyers=buyers),
                "",
            )
        if "slow_hold" in kinds:
            after = one._replace(held=(), undo=with_undo(one.undo, one.held))
            label = "FAULT: a hub hears too late of its holds"
            yield label, with_hub(state, i, after, buyers=buyers), ""
        yield from _admission_faults(state, small, i)


def _without(lines: tuple[T, ...], buyer: int) -> tuple[T, ...]:
    return tuple(line._replace(here=line.here and line.buyer != buyer) for line in lines)


def _killed(state: State, i: int) -> State:
    """A hub's memory is gone, and all its connections."""
    one, buyers = state.hubs[i], state.buyers
    for lines in (one.held, *(call.lines for call in one.calls)):
        buyers = told(buyers, lines, WANTS)
    return with_hub(state, i, EMPTY, buyers=told(buyers, one.waiting, WANTS))


def _admission_faults(state: State, small: Small, i: int) -> Iterator[Step]:
    """An admission is committed and nobody hears of it in time, or it is committed late."""
    one, kinds = state.hubs[i], small.kinds
    lines, rest = hub.batch(one.held)
    buyers = told(state.buyers, lines, WANTS)
    one = one._replace(held=rest)
    if "undo_after_admission" in small.bugs:
        one = one._replace(undo=with_undo(one.undo, lines))
    if "late_admission" in kinds:
        after = one._replace(calls=(*one.calls, Call(gone(lines), (), True)))
        label = "FAULT: a hub gives up an admission, which is committed later"
        yield label, with_hub(state, i, after, buyers=buyers), ""
    ledger, outcomes, label, broken = hub.commit(state.ledger, small, lines)
    if "slow_admission" in kinds:
        after = one._replace(calls=(*one.calls, Call(gone(lines), outcomes, True)))
        after_state = with_hub(state, i, after, ledger=ledger, buyers=buyers)
        yield f"FAULT: the hub hears too late: {label}", after_state, broken
    if "lost_admission" in kinds:
        after_state = with_hub(state, i, one, ledger=ledger, buyers=buyers)
        yield f"FAULT: the hub never hears: {label}", after_state, broken
    if "crash_hub" in kinds:
        yield (
            f"FAULT: the hub is killed after: {label}",
            _killed(state, i)._replace(ledger=ledger),
            broken,
        )
