"""Renames ranks and epochs to the lowest numbers in the same order, so that the space is finite.

Nothing in the rules looks at a rank or an epoch but to compare it, to take the highest, or to go on
from the highest by one; so worlds that differ in the numbers alone behave alike. An epoch goes on
from the highest of all, and its renaming is exact. Of ranks only those are told apart that somebody
still compares: a fence is as good as the highest of them that it stops, the gate's last rank as the
highest of them that it gave. A rank of an older epoch may be met by a new one sooner than in truth;
ranks of two epochs are compared by nobody, since the epoch is asked for first.
"""

from __future__ import annotations

from typing import cast

from tests.model.shapes import Actor, Copy, Hold, Hub, Line, Row, Stale, State

Names = dict[int, int]


def dense(state: State) -> State:
    """Return the state in the lowest numbers."""
    ledger, gate = state.ledger, state.gate
    # Sets of small numbers, as bits: this is asked about every step of every state.
    ranks, epochs = _of_lines(state.hubs)
    fence = _highest(ranks, ledger.fence)
    for row in ledger.rows:
        ranks |= 1 << row.rank
    for hold in gate.holds:
        ranks |= 1 << hold.rank
    epochs |= 1 << ledger.epoch | 1 << gate.epoch
    for actor in (*state.keepers, state.follower):
        if len(actor) > 1:
            more_ranks, more_epochs = _of_actor(actor)
            ranks |= more_ranks
            epochs |= more_epochs
    last = _highest(ranks, gate.rank)
    if ranks & (ranks + 1) or epochs & (epochs + 1):
        return _renamed(state, fence, last, _names(ranks), _names(epochs))
    if fence != ledger.fence:
        state = state._replace(ledger=ledger._replace(fence=fence))
    return state if last == gate.rank else state._replace(gate=gate._replace(rank=last))


def _highest(numbers: int, limit: int) -> int:
    """The highest of these numbers that is not above the limit."""
    return (numbers & ((2 << limit) - 1)).bit_length() - 1


def _names(numbers: int) -> Names:
    there = [n for n in range(numbers.bit_length()) if numbers >> n & 1]
    return {old: new for new, old in enumerate(there)}


def _of_lines(hubs: tuple[Hub, ...]) -> tuple[int, int]:
    """The ranks and epochs that admission may still be asked about, or a release; and 0."""
    ranks, epochs = 1, 1
    for hub in hubs:
        for line in hub.held:
            ranks |= 1 << line.rank
            epochs |= 1 << line.epoch
        for call in hub.calls:
            for line in call.lines:
                ranks |= 1 << line.rank
                epochs |= 1 << line.epoch
        for epoch, _, rank in hub.undo:
            ranks |= 1 << rank
            epochs |= 1 << epoch
    return ranks, epochs


def _of_actor(actor: Actor) -> tuple[int, int]:
    """The ranks and epochs in an actor's notes."""
    epoch, stale = noted(actor)
    ranks, epochs = 0, 1 << epoch
    for _, rank in stale:
        ranks |= 1 << rank
    for part in actor[1:]:
        if isinstance(part, Copy):
            ranks |= 1 << part.rank
    if isinstance(actor[1], int):
        epochs |= 1 << actor[1]
    return ranks, epochs


def _renamed(state: State, fence: int, last: int, r: Names, e: Names) -> State:
    ledger, gate = state.ledger, state.gate
    rows = tuple(Row(row.id, row.buyer, r[row.rank], row.status) for row in ledger.rows)
    return state._replace(
        ledger=ledger._replace(epoch=e[ledger.epoch], fence=r[fence], rows=rows),
        gate=gate._replace(epoch=e[gate.epoch], rank=r[last], holds=_holds(gate.holds, r)),
        hubs=tuple(sorted([_hub(hub, r, e) for hub in state.hubs])),
        keepers=in_order([_actor(k, r, e) for k in state.keepers]),
        follower=_actor(state.follower, r, e),
    )


def in_order(keepers: list[Actor]) -> tuple[Actor, ...]:
    """Keepers are alike: they stand in one order."""
    if len(keepers) > 1:
        keepers.sort(key=repr)
    return tuple(keepers)


def noted(actor: Actor) -> tuple[int, Stale]:
    """The epoch and the (id, rank) pairs that an actor goes by, or is to go by afterwards."""
    phase = actor[0]
    if phase in ("follow", "read", "apply"):
        return cast("tuple[int, Stale]", actor[-1])
    if phase in ("fence", "rows", "early rows", "late fence"):
        return cast(int, actor[1]), cast(Stale, actor[2])
    if phase == "mark":
        return cast(int, actor[1]), cast(Stale, actor[3])
    if phase == "release":
        return cast(int, actor[1]), cast(Stale, actor[2])
    return 0, ()


def _holds(holds: tuple[Hold, ...], r: Names) -> tuple[Hold, ...]:
    return tuple(Hold(hold.id, hold.buyer, r[hold.rank], hold.written) for hold in holds)


def _lines(lines: tuple[Line, ...], r: Names, e: Names) -> tuple[Line, ...]:
    return tuple(line._replace(rank=r[line.rank], epoch=e[line.epoch]) for line in lines)


def _hub(hub: Hub, r: Names, e: Names) -> Hub:
    if not (hub.held or hub.calls or hub.undo):
        return hub
    return hub._replace(
        held=_lines(hub.held, r, e),
        calls=tuple(call._replace(lines=_lines(call.lines, r, e)) for call in hub.calls),
        undo=tuple((e[epoch], id_, r[rank]) for epoch, id_, rank in hub.undo),
    )


def _actor(actor: Actor, r: Names, e: Names) -> Actor:
    """Rename in an actor's notes; each part is known by its shape and its place."""
    if len(actor) == 1:
        return actor
    phase, *parts = actor
    if isinstance(parts[0], int):
        parts[0] = e[parts[0]]
    for i, part in enumerate(parts):
        if isinstance(part, Copy):
            parts[i] = part._replace(rank=r[part.rank])
    if phase in ("follow", "read", "apply"):
        epoch, stale = cast("tuple[int, Stale]", parts[-1])
        parts[-1] = (e[epoch], _stale(stale, r))
    elif phase in ("fence", "rows", "early rows", "release"):
        parts[1] = _stale(cast(Stale, parts[1]), r)
    elif phase == "mark":
        parts[2] = _stale(cast(Stale, parts[2]), r)
    elif phase == "late fence":
        parts[1:] = [_stale(cast(Stale, parts[1]), r), _actor(cast(Actor, parts[2]), r, e)]
    return (phase, *parts)


def _stale(stale: Stale, r: Names) -> Stale:
    return tuple((id_, r[rank]) for id_, rank in stale)
