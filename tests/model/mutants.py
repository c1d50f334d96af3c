"""The rules of INVARIANTS.md left out, one at a time: what each breaks, in which sale, how soon.

A model that cannot fail proves nothing. Each mutant switches something off in the model's rules
(`Small.bugs`) and must be caught; `steps` is the length of the shortest way to the broken state,
which a breadth-first search finds. Where two lines of defence guard one invariant, the mutant takes
away both: with one of them left nothing breaks, and that is what the second is for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.model.explorer import Verdict, explore
from tests.model.sales import LATE_HOLDS, LOSSES, ONE_VIEWER
from tests.model.shapes import Fault, Small


def _with(*kinds: Fault) -> frozenset[Fault]:
    return frozenset(kinds)


PLAIN = Small("two buyers of one unit", faults=0)
TWO_KEYS = Small("one viewer with two keys", faults=0, quantity=2, buyers=ONE_VIEWER)
CRASH = Small("a hub is killed", kinds=_with("crash_hub"))
LATE = Small("hold calls come late", kinds=LATE_HOLDS)
LOST_ADMISSION = Small("an admission is not heard of", kinds=_with("lost_admission"))
LOSS = Small("the gate is lost", kinds=LOSSES)
POISON = Small("an order that cannot be written", faults=0, quantity=2, poison=frozenset({0}))
SCRIPT = Small("a script fails half way", kinds=_with("script_error"))
ENDED = Small("orders end", faults=0, follows=True, events=(("expire", 1), ("pay", 1)))
ENDED_LOSS = Small("an order ends, the gate is lost", kinds=LOSSES, events=(("expire", 1),))
QUANTITY = Small(
    "the quantity changes", faults=0, follows=True, events=(("lower", 1), ("restock", 1))
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule left out, the sale that shows it, and what is found there."""

    rule: str
    what: str
    bugs: tuple[str, ...]
    sale: Small
    broken: str
    steps: int

    def explore(self) -> Verdict:
        """Look for the shortest way to something broken."""
        return explore(replace(self.sale, bugs=frozenset(self.bugs)))

    def told(self) -> str:
        """Return the mutant's line in docs/model.md."""
        return f"| {self.rule} | {self.what} | {self.broken} | {self.steps} |"


MUTANTS = (
    Mutant("R1", "the keeper releases without a fence", ("fence_off",), PLAIN, "I1 second line", 6),
    Mutant("R1", "rows are read before the fence", ("rows_before_fence",), PLAIN,
           "I1 second line", 8),
    Mutant("R1", "rows are not read at all", ("rows_unread",), PLAIN, "I1 second line", 8),
    Mutant("R1", "admission ignores the fence", ("admit_fence_off",), PLAIN, "I1 second line", 7),
    Mutant("R1", "an adopted hold keeps its rank", ("adopt_keeps_rank",), CRASH, "I6", 3),
    Mutant("R1", "a release ignores the rank", ("release_rank_off",), CRASH, "I1 second line", 9),
    Mutant("R1", "a hub undoes what it sent to admission", ("undo_after_admission",),
           LOST_ADMISSION, "I4", 3),
    Mutant("R2", "scripts do not compare the run id", ("no_run_check",), LOSS, "I6", 4),
    Mutant("R2", "the snapshot is taken before the epoch is raised", ("snapshot_first",), LOSS,
           "I6", 9),
    Mutant("R2", "a rebuild does not raise the epoch", ("rebuild_keeps_epoch",), LOSS, "I6", 9),
    Mutant("R2", "admission ignores the epoch", ("admit_epoch_off",), LOSS, "I6", 9),
    Mutant("R2", "a rebuild begins ranks anew", ("rebuild_rank_off",), LOSS, "I6", 11),
    Mutant("R2", "a rebuild forgets the keys of ended orders", ("rebuild_live_keys",), ENDED_LOSS,
           "I10", 12),
    Mutant("R3", "check and insert are two transactions", ("check_apart",), PLAIN,
           "I1 second line", 9),
    Mutant("R3", "admission ignores that the key has a row", ("admit_key_off",), CRASH,
           "I3 second line", 4),
    Mutant("R3", "neither line keeps the limit", ("gate_limit_off", "admit_limit_off"), TWO_KEYS,
           "I3", 3),
    Mutant("R3", "neither line counts units", ("gate_stock_off", "admit_quantity_off"), PLAIN,
           "I1", 3),
    Mutant("R3", "`taken` grows by what was asked for", ("taken_by_batch",), CRASH, "I4", 4),
    Mutant("R3", "acknowledged before the COMMIT", ("acknowledge_before_commit",), PLAIN, "I2", 1),
    Mutant("R4", "marked as written before the COMMIT", ("mark_before_commit",), CRASH, "I5", 2),
    Mutant("R4", "the movement is not written with its cause", ("movement_apart",), ENDED, "I5", 4),
    Mutant("R4", "units come back by number, not by name", ("apply_id_off", "apply_position_off"),
           ENDED, "I4", 13),
    Mutant("R5", "a batch is refused for one of its lines", ("no_bisect",), POISON, "R5", 3),
    Mutant("R5", "a script that failed half way freezes nothing", ("error_freezes_not",), SCRIPT,
           "I4", 1),
    Mutant("R6", "`sold_out` while a hold may go back", ("sold_out_early",), PLAIN, "I5", 2),
    Mutant("R6", "`limit_reached` while his own hold may go back", ("limit_early",), TWO_KEYS,
           "R6", 2),
    Mutant("R7", "`left` is never below zero", ("left_clamped",), QUANTITY, "I4", 8),
    Mutant("R7", "a change of quantity is applied twice", ("apply_position_off",), QUANTITY,
           "I5", 10),
    Mutant("R8", "Redis' clock ends holds", ("gate_expires",), PLAIN, "I1 second line", 4),
    Mutant("R8", "expiry does not ask for the status", ("expire_any_status",), ENDED, "I8", 4),
    Mutant("R8", "pay does not ask for the status", ("pay_any_status",), ENDED, "I8", 4),
)  # fmt: skip
