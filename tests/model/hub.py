"""What a hub does: the steps of `orders/counter.py`, each one script or one transaction.

What changes nothing but when something is told is left out, since every order of the rest remains:

- a viewer's send and the hold call with his buy are one step: had he waited in the hub, he might as
  well have sent later (one who left while he waited is a fault, and is there);
- a parked buy whose viewer is there is told `retry` at once: to look again is to send again;
- an admission and the hub's hearing of it are one step; that it hears late or never is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from tests.model import postgres, redis
from tests.model.shapes import (
    ACCEPTED,
    CLOSED,
    INTERNAL,
    LIVE,
    WANTS,
    Buy,
    Call,
    Gate,
    Hub,
    Ledger,
    Line,
    Small,
    State,
)

#: What happened in words, the state after it, and the rule that the step itself broke (or '').
Step = tuple[str, State, str]
Buyers = tuple[str, ...]
Undo = tuple[tuple[int, int, int], ...]
T = TypeVar("T", Buy, Line)


def with_hub(
    state: State,
    i: int,
    hub: Hub,
    ledger: Ledger | None = None,
    gate: Gate | None = None,
    buyers: Buyers | None = None,
) -> State:
    """Return the state with one hub's memory changed; hubs are alike, so they are kept sorted."""
    hubs = [*state.hubs]
    hubs[i] = hub
    hubs.sort()
    return State(
        ledger or state.ledger,
        gate or state.gate,
        tuple(hubs),
        state.keepers,
        state.follower,
        buyers or state.buyers,
        state.faults,
        state.events,
    )


def told(buyers: Buyers, lines: Sequence[Buy | Line], word: str) -> Buyers:
    """Answer those of these buys whose viewers are still there."""
    now = list(buyers)
    for line in lines:
        if line.here:
            now[line.buyer] = word
    return tuple(now)


def gone(lines: tuple[T, ...]) -> tuple[T, ...]:
    """The same buys, their viewers no longer waiting for them."""
    return tuple(line._replace(here=False) for line in lines)


def with_undo(undo: Undo, lines: tuple[Line, ...]) -> Undo:
    """What a hub has to give back, with the fresh ones of these holds."""
    fresh = {(line.epoch, line.id, line.rank) for line in lines if line.fresh}
    return tuple(sorted({*undo, *fresh}))


def steps(state: State, small: Small, i: int) -> Iterator[Step]:
    """Everything that hub i may do next of itself."""
    hub = state.hubs[i]
    if hub.waiting or hub.written:
        yield ask(state, small, i)
    for buy in hub.waiting:
        rest = tuple(b for b in hub.waiting if b is not buy)
        buyers = told(state.buyers, (buy,), WANTS)
        after = with_hub(state, i, hub._replace(waiting=rest), buyers=buyers)
        yield f"a hub answers `retry` to the parked {_named(buy)}", after, ""
    if hub.held:
        yield admit(state, small, i)
    for n in range(len(hub.calls)):
        yield see_through(state, small, i, n)
    for n in range(len(hub.late)):
        yield run_late_hold(state, small, i, n)
    for undo in hub.undo:
        epoch, id_, rank = undo
        after_hub = hub._replace(undo=tuple(u for u in hub.undo if u != undo))
        gate = redis.release(state.gate, small, epoch, ((id_, rank),))
        label = f"Redis runs a hub's release of or{id_} up to rank {rank}"
        yield label, with_hub(state, i, after_hub, gate=gate), ""


# --- holds ---------------------------------------------------------------------------------------


def ask(state: State, small: Small, i: int, newcomers: tuple[Buy, ...] = ()) -> Step:
    """Counter._ask: one hold call with all marks and all who wait, and what it says."""
    hub, gate, ledger, buyers = state.hubs[i], state.gate, state.ledger, state.buyers
    buys, marks = (*hub.waiting, *newcomers), hub.written
    hub = hub._replace(waiting=(), written=())
    label = "Redis runs a hub's hold call: " + " ".join(
        [*(f"mark or{id_}" for id_ in marks), *(_named(buy) for buy in buys)]
    )
    if redis.frozen(gate, small):
        buyers = told(buyers, buys, CLOSED if ledger.closed else WANTS)
        if ledger.closed:  # Selling._judge_shut: its rows answer for it
            buyers = told(buyers, tuple(b for b in buys if row_of(ledger, b.buyer)), ACCEPTED)
        return f"{label} (frozen)", with_hub(state, i, hub, buyers=buyers), ""
    buys = _with_ids(state, buys)
    gate, answers = redis.hold(gate, small, marks, buys)
    broken = ""
    for buy, (word, rank, id_) in zip(buys, answers, strict=True):
        if word in ("held", "adopted"):
            line = Line(buy.buyer, buy.here, id_, rank, gate.epoch, word == "held")
            hub = hub._replace(held=(*hub.held, line))
            broken = broken or _old_rank(ledger, line)
            if "acknowledge_before_commit" in small.bugs:
                buyers = told(buyers, (line,), ACCEPTED)
        elif word == "park" and not buy.here:
            hub = hub._replace(waiting=(*hub.waiting, buy._replace(id=0)))
        elif word == "park":
            buyers = told(buyers, (buy,), WANTS)
        elif word == "replay":
            buyers = replay(ledger, buyers, buy)
        else:
            buyers = told(buyers, (buy,), word)
            broken = broken or _false_refusal(ledger, gate, small, buy, word)
    words = " ".join(f"{word}(or{id_} at {rank})" if rank else word for word, rank, id_ in answers)
    return f"{label} -> {words}", with_hub(state, i, hub, gate=gate, buyers=buyers), broken


def replay(ledger: Ledger, buyers: Buyers, buy: Buy | Line) -> Buyers:
    """Selling.replay: answer by the key's row."""
    there = row_of(ledger, buy.buyer)
    return told(buyers, (buy,), ACCEPTED if there else WANTS)


def row_of(ledger: Ledger, buyer: int) -> int:
    """The id of the row that a key has, or 0."""
    return next((row.id for row in ledger.rows if row.buyer == buyer), 0)


def _old_rank(ledger: Ledger, line: Line) -> str:
    """Ranks follow admission: one that the ledger may still admit is above all that it has."""
    highest = max((row.rank for row in ledger.rows), default=0)
    return "I6" if line.epoch == ledger.epoch and line.rank <= highest else ""


def _false_refusal(ledger: Ledger, gate: Gate, small: Small, buy: Buy, word: str) -> str:
    """R6 said as a claim: rows that the gate has not given back yet must bear the refusal out."""
    viewer, qty = small.buyers[buy.buyer]
    unheard = {id_ for id_, _ in ledger.moves[gate.at :]}
    rows = [row for row in ledger.rows if row.status in LIVE or row.id in unheard]
    if word == "sold_out":
        known = ledger.quantity - sum(units for id_, units in ledger.moves[gate.at :] if id_ == 0)
        taken = sum(small.buyers[row.buyer][1] for row in rows)
        return "" if taken + qty > min(known, ledger.quantity) else "I5"
    if word == "limit_reached":
        own = [row for row in rows if small.buyers[row.buyer][0] == viewer]
        have = sum(small.buyers[row.buyer][1] for row in own)
        return "" if have + qty > small.per_viewer else "R6"
    return ""


def _with_ids(state: State, buys: tuple[Buy, ...]) -> tuple[Buy, ...]:
    """Give each buy an id that nobody knows: the lowest, so that equal worlds look equal."""
    bound = [buyer for buyer, _ in state.gate.keys]
    if all(buy.id or buy.buyer in bound for buy in buys):
        return buys
    used = {row.id for row in state.ledger.rows} | {id_ for _, id_ in state.gate.keys}
    used |= {hold.id for hold in state.gate.holds} | {buy.id for buy in buys}
    for hub in state.hubs:
        used |= {buy.id for buy in hub.waiting} | {line.id for line in hub.held}
        used |= {line.id for call in hub.calls for line in call.lines}
        used |= {id_ for _, id_, _ in hub.undo} | set(hub.written)
        for marks, late in hub.late:
            used |= {*marks, *(buy.id for buy in late)}
    for actor in (*state.keepers, state.follower):
        used |= set(_numbers(actor[1:]))
    now, lowest = [], 1
    for buy in buys:
        if not buy.id:
            while lowest in used:
                lowest += 1
            used.add(lowest)
            buy = buy._replace(id=lowest)
        now.append(buy)
    return tuple(now)


def _numbers(part: tuple[object, ...]) -> Iterator[int]:
    """Every number in an actor's notes: the ids among them, and some more."""
    for one in part:
        if isinstance(one, tuple):
            yield from _numbers(one)
        elif isinstance(one, int):
            yield one


def run_late_hold(state: State, small: Small, i: int, n: int) -> Step:
    """A hold call that its hub gave up is run; what it takes is given back (_undo_late)."""
    hub = state.hubs[i]
    marks, buys = hub.late[n]
    hub = hub._replace(late=hub.late[:n] + hub.late[n + 1 :])
    label = "Redis runs a late hold call: " + " ".join(_named(b) for b in buys)
    if redis.frozen(state.gate, small):
        return label + " (frozen)", with_hub(state, i, hub), ""
    gate, answers = redis.hold(state.gate, small, marks, _with_ids(state, buys))
    undo = {(gate.epoch, id_, rank) for word, rank, id_ in answers if word == "held"}
    hub = hub._replace(undo=tuple(sorted({*hub.undo, *undo})))
    return label, with_hub(state, i, hub, gate=gate), ""


# --- admissions ----------------------------------------------------------------------------------


def admit(state: State, small: Small, i: int) -> Step:
    """Counter._admit: one admission for the held buys of one epoch, and what comes of it."""
    hub = state.hubs[i]
    lines, rest = batch(hub.held)
    ledger, outcomes, label, broken = commit(state.ledger, small, lines)
    hub = hub._replace(held=rest)
    if outcomes == ("checked",):
        hub = hub._replace(calls=(*hub.calls, Call(lines, outcomes, False)))
        return label, with_hub(state, i, hub), ""
    hub, buyers = settle(hub, ledger, state.buyers, Call(lines, outcomes, False))
    return label, with_hub(state, i, hub, ledger=ledger, buyers=buyers), broken


def batch(held: tuple[Line, ...]) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """Counter._admit_next: the held buys of the first one's epoch, each id once; and the rest."""
    lines: list[Line] = []
    for line in held:
        if line.epoch != held[0].epoch or line.id in [one.id for one in lines]:
            break
        lines.append(line)
    return tuple(lines), held[len(lines) :]


def commit(
    ledger: Ledger, small: Small, lines: tuple[Line, ...]
) -> tuple[Ledger, tuple[str, ...], str, str]:
    """Run an admission: the ledger after it, a word a line, what it was, what it broke.

    The gate's promise: it lets nobody through whom the ledger has to refuse. Only a quantity that
    the host lowers may come between.
    """
    names = " ".join(f"or{line.id} at {line.rank}" for line in lines)
    if any(line.buyer in small.poison for line in lines):  # nothing is written: halved (R5)
        alone = len(lines) == 1 or "no_bisect" in small.bugs
        word = "internal" if alone else "apart"
        return ledger, (word,) * len(lines), f"Postgres cannot write one of {names}", ""
    after, outcomes = postgres.admit(ledger, small, lines)
    if "check_apart" in small.bugs and outcomes == ("ok",):
        return ledger, ("checked",), f"Postgres checks {names} in a transaction of its own", ""
    broken = ""
    if "limit_reached" in outcomes:
        broken = "I3 second line"
    elif "sold_out" in outcomes and not any(event == "lower" for event, _ in small.events):
        broken = "I1 second line"
    return after, outcomes, f"Postgres admits {names} -> {' '.join(outcomes)}", broken


def see_through(state: State, small: Small, i: int, n: int) -> Step:
    """Counter._see_through: an admission that was given up is committed, or is heard of."""
    hub, ledger, buyers = state.hubs[i], state.ledger, state.buyers
    call = hub.calls[n]
    rest = hub.calls[:n] + hub.calls[n + 1 :]
    if call.outcomes == ("checked",):
        ledger = postgres.insert(ledger, small, call.lines[0])
        hub, buyers = settle(
            hub._replace(calls=rest), ledger, buyers, call._replace(outcomes=("ok",))
        )
        label = "Postgres inserts what it checked before"
        return label, with_hub(state, i, hub, ledger=ledger, buyers=buyers), ""
    if not call.outcomes:
        ledger, outcomes, label, broken = commit(ledger, small, call.lines)
        hub = hub._replace(calls=(*rest, call._replace(outcomes=outcomes)))
        return f"late, {label}", with_hub(state, i, hub, ledger=ledger), broken
    hub, buyers = settle(hub._replace(calls=rest), ledger, buyers, call)
    label = f"a hub hears late of its admission: {' '.join(call.outcomes)}"
    return label, with_hub(state, i, hub, buyers=buyers), ""


def settle(hub: Hub, ledger: Ledger, buyers: Buyers, call: Call) -> tuple[Hub, Buyers]:
    """Counter._settle: answer a committed batch and remember to tell the gate."""
    written, undo = set(hub.written), hub.undo
    for line, word in zip(call.lines, call.outcomes, strict=True):
        if word == "ok":
            written.add(line.id)
            buyers = told(buyers, (line,), ACCEPTED)
        elif word == "again":
            if row_of(ledger, line.buyer) == line.id:
                written.add(line.id)
            buyers = replay(ledger, buyers, line)
        elif word == "epoch":
            buyers = told(buyers, (line,), WANTS)
        elif word == "apart":  # Counter._bisect
            hub = hub._replace(calls=(*hub.calls, Call((line,), (), call.answered)))
        elif word == "internal":  # its hold is left to the keeper
            buyers = told(buyers, (line,), INTERNAL)
        elif word == "fenced":
            if not call.answered:  # adopts its own hold anew, if that stands (R1)
                hub = hub._replace(waiting=(*hub.waiting, Buy(line.buyer, line.here, line.id)))
        else:
            undo = with_undo(undo, (line,))
            buyers = told(buyers, (line,), word)
    return hub._replace(written=tuple(sorted(written)), undo=undo), buyers


def _named(buy: Buy | Line) -> str:
    return f"b{buy.buyer}" + ("" if buy.here else " (gone)")
