"""What a keeper does, and who follows a change of his own: the steps of `keeper.py`, `rebuild.py`.

An actor is (its next step, what it knows). Each step is one transaction or one script; what comes
between, the actor's own thinking, belongs to the step before. Time is not modelled: every unwritten
hold is old enough, and patience (`building_s`) is seeing the difference of epochs as it is now.
"""

from __future__ import annotations

from typing import cast

from tests.model import postgres, redis
from tests.model.shapes import IDLE, Actor, Copy, Gate, Ledger, Small, Stale, State

Done = tuple[str, Actor, Ledger, Gate]
NOBODY: tuple[int, Stale] = (0, ())  # no stale holds to resolve afterwards


def step(state: State, small: Small, actor: Actor) -> Done:
    """Do the actor's next step: in words, what he does next, and the two stores after it."""
    phase = cast(str, actor[0])
    return _STEPS[phase](state.ledger, state.gate, small, actor)


def _idle(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """Keeper._look_after: what is to be done, by the offer's row and a probe.

    The row is read a moment before; what it misses by that, the next round finds.
    """
    now: Actor = IDLE
    then = (gate.epoch, redis.stale(gate))
    if redis.frozen(gate, small):
        if not ledger.closed:  # a closed offer is answered from its rows
            now = _rebuild(gate, small)
    elif gate.epoch != ledger.epoch and not ledger.closed:
        now = _rebuild(gate, small)
    elif gate.at < len(ledger.moves):
        now = ("follow", then)
    else:
        now = _resolve(then, small)
    return f"the keeper probes the gate, next: {now[0]}", now, ledger, gate


def _rebuild(gate: Gate, small: Small) -> Actor:
    return ("snapshot first" if "snapshot_first" in small.bugs else "raise", gate.epoch)


def _resolve(then: tuple[int, Stale], small: Small) -> Actor:
    epoch, stale = then
    if not stale:
        return IDLE
    if "fence_off" in small.bugs:
        return ("rows", epoch, stale)
    if "rows_before_fence" in small.bugs:
        return ("early rows", epoch, stale)
    return ("fence", epoch, stale)


# --- rebuild (R2) --------------------------------------------------------------------------------


def _raise(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """Rebuilder.rebuild: raise_epoch, committed before the snapshot."""
    if "rebuild_keeps_epoch" not in small.bugs:
        ledger = postgres.raise_epoch(ledger, cast(int, actor[1]))
    return (
        f"the keeper begins a rebuild: epoch {ledger.epoch}",
        ("snapshot", ledger.epoch),
        ledger,
        gate,
    )


def _snapshot(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """orders/ledger/snapshot.py: offer, fence and orders as of one moment."""
    now = ("stage", actor[1], postgres.snapshot(ledger, small))
    return "the keeper takes a rebuild's snapshot", now, ledger, gate


def _snapshot_first(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """The bug: a snapshot that orders of the old epoch may follow."""
    now = ("raise late", actor[1], postgres.snapshot(ledger, small))
    return "the keeper takes a snapshot before it raises the epoch", now, ledger, gate


def _raise_late(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """The rest of that bug."""
    ledger = postgres.raise_epoch(ledger, cast(int, actor[1]))
    now = ("stage", ledger.epoch, actor[2])
    return "the keeper raises the epoch after its snapshot", now, ledger, gate


def _stage(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """stage.lua, all parts of it."""
    return "the keeper stages a rebuild", ("install", *actor[1:], True), ledger, gate


def _install(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """install.lua, then Rebuilder.follow."""
    _, epoch, copy, whole = cast("tuple[str, int, Copy, bool]", actor)
    gate, done = redis.install(gate, small, epoch, copy, whole)
    word = "installs" if done else "may not install"
    return (
        f"the keeper {word} the rebuild of epoch {epoch}",
        ("follow", NOBODY) if done else IDLE,
        ledger,
        gate,
    )


# --- movements (R4, R7) --------------------------------------------------------------------------


def _follow(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """Rebuilder._follow: its probe.lua."""
    then = cast("tuple[int, Stale]", actor[1])
    if redis.frozen(gate, small):
        now = _resolve(then, small)
    else:
        now = ("read", gate.epoch, gate.at, then)
    return "somebody probes the gate to follow the movements", now, ledger, gate


def _read(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """Rebuilder._follow: movements_after, and the offer's row."""
    _, epoch, at, then = cast("tuple[str, int, int, tuple[int, Stale]]", actor)
    moves = ledger.moves[at:]
    now = ("apply", epoch, at, moves, ledger.closed, then) if moves else _resolve(then, small)
    return f"somebody reads the movements after {at}", now, ledger, gate


def _apply(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """Rebuilder._follow: apply.lua, and round again from where the gate stands."""
    _, epoch, at, moves, closed, then = cast(
        "tuple[str, int, int, tuple[tuple[int, int], ...], bool, tuple[int, Stale]]", actor
    )
    gate, word = redis.apply(gate, small, epoch, at, moves, closed)
    now: Actor = ("read", epoch, gate.at, then)
    if word == "frozen":
        now = _resolve(then, small)
    return f"somebody applies movements after {at}: {word}", now, ledger, gate


# --- holds without a row (R1) --------------------------------------------------------------------


def _fence(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """Keeper.resolve: fence, committed before the rows are read."""
    _, epoch, stale = cast("tuple[str, int, Stale]", actor)
    highest = max(rank for _, rank in stale)
    ledger, stands = postgres.fence(ledger, epoch, highest)
    now = ("rows", epoch, stale) if stands else IDLE
    return f"the keeper fences rank {highest}: {stands}", now, ledger, gate


def _rows(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """Keeper.resolve: orders_by_id."""
    _, epoch, stale = cast("tuple[str, int, Stale]", actor)
    return (
        "the keeper reads the rows of stale holds",
        _sorted(ledger, small, epoch, stale),
        ledger,
        gate,
    )


def _sorted(ledger: Ledger, small: Small, epoch: int, stale: Stale) -> Actor:
    there = {row.id for row in ledger.rows}
    found = tuple(id_ for id_, _ in stale if id_ in there)
    orphans = tuple(named for named in stale if named[0] not in there)
    if "rows_unread" in small.bugs:
        found, orphans = (), stale
    return ("mark", epoch, found, orphans) if found else ("release", epoch, orphans)


def _early_rows(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """The bug: rows that an admission may still follow."""
    _, epoch, stale = cast("tuple[str, int, Stale]", actor)
    now = ("late fence", epoch, stale, _sorted(ledger, small, epoch, stale))
    return "the keeper reads the rows before it fences", now, ledger, gate


def _late_fence(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """The rest of that bug."""
    word, _, ledger, gate = _fence(ledger, gate, small, ("fence", actor[1], actor[2]))
    return word, cast(Actor, actor[3]), ledger, gate


def _mark(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """Keeper.resolve: hold.lua with marks alone."""
    _, epoch, found, orphans = cast("tuple[str, int, tuple[int, ...], Stale]", actor)
    if not redis.frozen(gate, small):
        gate, _ = redis.hold(gate, small, found, ())
    now: Actor = ("release", epoch, orphans) if orphans else IDLE
    return f"the keeper marks {found} as written", now, ledger, gate


def _release(ledger: Ledger, gate: Gate, small: Small, actor: Actor) -> Done:
    """Keeper.resolve: release.lua."""
    _, epoch, orphans = cast("tuple[str, int, Stale]", actor)
    gate = redis.release(gate, small, epoch, orphans)
    return f"the keeper releases {orphans}, (id, rank)", IDLE, ledger, gate


_STEPS = {
    "idle": _idle,
    "raise": _raise,
    "snapshot": _snapshot,
    "snapshot first": _snapshot_first,
    "raise late": _raise_late,
    "stage": _stage,
    "install": _install,
    "follow": _follow,
    "read": _read,
    "apply": _apply,
    "fence": _fence,
    "rows": _rows,
    "early rows": _early_rows,
    "late fence": _late_fence,
    "mark": _mark,
    "release": _release,
}
