"""The gate's scripts as pure functions, each as its Lua file in `orders/stock/lua` decides.

Each takes the gate's state and returns the new one with the answer. What the real scripts keep as
counters besides the holds (units and unwritten holds by viewer) is computed from the holds here;
`tests/model/test_servers.py` compares both with the real ones after every step.
"""

from __future__ import annotations

from tests.model.shapes import Buy, Copy, Gate, Hold, Small, Stale

Answer = tuple[str, int, int]  # word, rank, order id


def frozen(gate: Gate, small: Small) -> bool:
    """Tell whether scripts must leave the state alone: it is missing, or of another run (R2)."""
    return gate.epoch == 0 or (not gate.run and "no_run_check" not in small.bugs)


def hold(
    gate: Gate, small: Small, marks: tuple[int, ...], buys: tuple[Buy, ...]
) -> tuple[Gate, tuple[Answer, ...]]:
    """hold.lua: mark as written, then decide each buy in order. The gate must not be frozen."""
    bugs = small.bugs
    # The rank of a written hold is looked at by no script: it is let go.
    holds = {h.id: Hold(h.id, h.buyer, 0, True) if h.id in marks else h for h in gate.holds}
    keys = dict(gate.keys)
    left, rank = gate.left, gate.rank
    fresh: set[int] = set()  # buyers
    answers: list[Answer] = []
    for buy in buys:
        viewer, qty = small.buyers[buy.buyer]
        bound = keys.get(buy.buyer)
        if bound is not None and "gate_key_off" not in bugs:
            named = holds.get(bound)
            if named is None or named.written:
                answers.append(("replay", 0, bound))
            elif buy.buyer in fresh:
                answers.append(("park", 0, 0))
            else:
                fresh.add(buy.buyer)
                rank += "adopt_keeps_rank" not in bugs
                at = named.rank if "adopt_keeps_rank" in bugs else rank
                holds[bound] = named._replace(rank=at)
                answers.append(("adopted", at, bound))
            continue
        word = _refusal(gate, small, holds, left, viewer, qty)
        if word:
            answers.append((word, 0, 0))
            continue
        rank, left = rank + 1, left - qty
        fresh.add(buy.buyer)
        keys[buy.buyer] = buy.id
        holds[buy.id] = Hold(buy.id, buy.buyer, rank, "mark_before_commit" in bugs)
        answers.append(("held", rank, buy.id))
    now = gate._replace(
        left=left, rank=rank, holds=tuple(sorted(holds.values())), keys=tuple(sorted(keys.items()))
    )
    return now, tuple(answers)


def _refusal(
    gate: Gate, small: Small, holds: dict[int, Hold], left: int, viewer: int, qty: int
) -> str:
    """Why a buy with a new key is not held, in the order of the rules (R6); empty when it is."""
    bugs = small.bugs
    if gate.closed:
        return "closed"
    own = [h for h in holds.values() if small.buyers[h.buyer][0] == viewer]
    have = sum(small.buyers[h.buyer][1] for h in own)
    if have + qty > small.per_viewer and "gate_limit_off" not in bugs:
        waits = any(not h.written for h in own) and "limit_early" not in bugs
        return "park" if waits else "limit_reached"
    if left < qty and "gate_stock_off" not in bugs:
        waits = any(not h.written for h in holds.values()) and "sold_out_early" not in bugs
        return "park" if waits else "sold_out"
    return ""


def fail(gate: Gate, small: Small, buyer: int) -> Gate:
    """A hold call that dies after its first write, which Lua does not undo: `Gate._freeze` (R5)."""
    gate = gate._replace(left=gate.left - small.buyers[buyer][1])
    return gate if "error_freezes_not" in small.bugs else gate._replace(run=False)


def give_back(gate: Gate, small: Small, hold: Hold) -> Gate:
    """Expiry by keyspace events or by Redis' clock, which this project does not have (R8)."""
    units = small.buyers[hold.buyer][1]
    holds = tuple(h for h in gate.holds if h != hold)
    return gate._replace(left=gate.left + units, holds=holds)


def release(gate: Gate, small: Small, epoch: int, named: Stale) -> Gate:
    """release.lua: give back unwritten holds by (id, rank at the most)."""
    bugs = small.bugs
    if frozen(gate, small) or (epoch != gate.epoch and "release_epoch_off" not in bugs):
        return gate
    rank_of = dict(named)
    gone = [
        h
        for h in gate.holds
        if h.id in rank_of
        and (not h.written or "release_written" in bugs)
        and (h.rank <= rank_of[h.id] or "release_rank_off" in bugs)
    ]
    if not gone:
        return gate
    buyers = {h.buyer for h in gone}
    return gate._replace(
        left=gate.left + sum(small.buyers[h.buyer][1] for h in gone),
        holds=tuple(h for h in gate.holds if h not in gone),
        keys=tuple(k for k in gate.keys if k[0] not in buyers),
    )


def apply(
    gate: Gate, small: Small, epoch: int, at: int, moves: tuple[tuple[int, int], ...], closed: bool
) -> tuple[Gate, str]:
    """apply.lua: bring the gate up to later movements; the word is ok, moved or frozen (R4, R7)."""
    bugs = small.bugs
    if frozen(gate, small) or epoch != gate.epoch:
        return gate, "frozen"
    if gate.at != at and "apply_position_off" not in bugs:
        return gate, "moved"
    left = gate.left
    holds = {h.id: h for h in gate.holds}
    for id_, units in moves:
        if id_ == 0:
            left += units
            if "left_clamped" in bugs:
                left = max(0, left)
        elif id_ in holds:
            left += small.buyers[holds.pop(id_).buyer][1]
        elif "apply_id_off" in bugs:
            left += units
    now = gate._replace(
        at=at + len(moves), left=left, closed=closed, holds=tuple(sorted(holds.values()))
    )
    return now, "ok"


def install(gate: Gate, small: Small, epoch: int, copy: Copy, whole: bool) -> tuple[Gate, bool]:
    """install.lua: put a whole staged rebuild in place of a lower epoch (R2)."""
    over = gate.epoch >= epoch and "rebuild_keeps_epoch" not in small.bugs
    if over or not whole:
        return gate, False
    return Gate(True, epoch, *copy), True


def stale(gate: Gate) -> Stale:
    """probe.lua: name the unwritten holds; time is not modelled, so each is old enough."""
    return tuple((h.id, h.rank) for h in gate.holds if not h.written)
