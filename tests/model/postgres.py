"""The ledger's transactions as pure functions, each as its function in `orders/ledger` decides.

Each takes the ledger and returns the new one with the answer; each is one transaction under the
offer's lock. The table's unique constraints are left out on purpose: what they would hide from the
model is a broken rule before them, and the invariants name it.
"""

from __future__ import annotations

from tests.model.shapes import LIVE, Copy, Event, Hold, Ledger, Line, Row, Small


def admit(ledger: Ledger, small: Small, lines: tuple[Line, ...]) -> tuple[Ledger, tuple[str, ...]]:
    """admit: make rows for held buys of one epoch; a word a line (R3)."""
    bugs = small.bugs
    rows = list(ledger.rows)
    taken, outcomes = ledger.taken, []
    for line in lines:
        qty = small.buyers[line.buyer][1]
        word = judge(ledger, small, line, rows, taken)
        if word == "ok":
            rows.append(Row(line.id, line.buyer, line.rank, "reserved"))
        if word == "ok" or "taken_by_batch" in bugs:
            taken += qty
        outcomes.append(word)
    return ledger._replace(taken=taken, rows=tuple(sorted(rows))), tuple(outcomes)


def judge(ledger: Ledger, small: Small, line: Line, rows: list[Row], taken: int) -> str:
    """What admission answers to one line, given the rows and units of those before it."""
    bugs = small.bugs
    viewer, qty = small.buyers[line.buyer]
    if any(row.buyer == line.buyer for row in rows) and "admit_key_off" not in bugs:
        return "again"
    if ledger.closed:
        return "closed"
    if line.epoch != ledger.epoch and "admit_epoch_off" not in bugs:
        return "epoch"
    if line.rank <= ledger.fence and "admit_fence_off" not in bugs:
        return "fenced"
    have = sum(
        small.buyers[row.buyer][1]
        for row in rows
        if row.status in LIVE and small.buyers[row.buyer][0] == viewer
    )
    if have + qty > small.per_viewer and "admit_limit_off" not in bugs:
        return "limit_reached"
    if taken + qty > ledger.quantity and "admit_quantity_off" not in bugs:
        return "sold_out"
    return "ok"


def insert(ledger: Ledger, small: Small, line: Line) -> Ledger:
    """The second half of an admission that checks and inserts in two transactions (a bug, R3)."""
    row = Row(line.id, line.buyer, line.rank, "reserved")
    taken = ledger.taken + small.buyers[line.buyer][1]
    return ledger._replace(taken=taken, rows=tuple(sorted((*ledger.rows, row))))


def fence(ledger: Ledger, epoch: int, rank: int) -> tuple[Ledger, bool]:
    """fence: refuse ranks up to this one from now on; whether that stands (R1)."""
    if epoch != ledger.epoch and not ledger.closed:
        return ledger, False
    return ledger._replace(fence=max(ledger.fence, rank)), True


def raise_epoch(ledger: Ledger, gate_epoch: int) -> Ledger:
    """raise_epoch: begin a rebuild; admissions of older epochs are refused from here (R2)."""
    return ledger._replace(epoch=max(ledger.epoch, gate_epoch) + 1)


def snapshot(ledger: Ledger, small: Small) -> Copy:
    """What `Rebuilder.rebuild` makes of one REPEATABLE READ snapshot (R2)."""
    bugs = small.bugs
    live = [row for row in ledger.rows if row.status in LIVE]
    bound = live if "rebuild_live_keys" in bugs else ledger.rows
    highest = max((row.rank for row in ledger.rows), default=0)
    return Copy(
        at=len(ledger.moves),
        left=ledger.quantity - sum(small.buyers[row.buyer][1] for row in live),
        rank=0 if "rebuild_rank_off" in bugs else max(ledger.fence, highest),
        closed=ledger.closed,
        holds=tuple(Hold(row.id, row.buyer, 0, True) for row in live),
        keys=tuple(sorted((row.buyer, row.id) for row in bound)),
    )


def change(ledger: Ledger, small: Small, event: Event) -> list[tuple[str, Ledger]]:
    """What one call of a host, a payer or the clock may do, in words, and the ledger after it."""
    if event in ("expire", "cancel"):
        return [
            (f"{event}s or{row.id}", _end(ledger, small, row, event))
            for row in ledger.rows
            if row.status == "reserved" or f"{event}_any_status" in small.bugs
        ]
    if event == "pay":
        return [
            (f"pays or{row.id}", _write(ledger, row, "confirmed", (0, 0)))
            for row in ledger.rows
            if row.status == "reserved" or "pay_any_status" in small.bugs
        ]
    if ledger.closed:
        return []
    if event == "close":
        return [("closes the offer", ledger._replace(closed=True, moves=(*ledger.moves, (0, 0))))]
    units = 1 if event == "restock" else -1
    if ledger.quantity + units < ledger.taken:
        return []
    now = ledger._replace(quantity=ledger.quantity + units, moves=(*ledger.moves, (0, units)))
    return [(f"{event}s by 1", now)]


def _end(ledger: Ledger, small: Small, row: Row, event: Event) -> Ledger:
    qty = small.buyers[row.buyer][1]
    status = "expired" if event == "expire" else "cancelled"
    now = _write(ledger, row, status, (row.id, qty))
    now = now._replace(taken=ledger.taken - qty)
    return now._replace(moves=ledger.moves) if "movement_apart" in small.bugs else now


def _write(ledger: Ledger, row: Row, status: str, move: tuple[int, int]) -> Ledger:
    rows = tuple(row._replace(status=status) if r == row else r for r in ledger.rows)
    return ledger._replace(rows=rows, moves=(*ledger.moves, move))
