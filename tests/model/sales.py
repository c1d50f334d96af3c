"""The configurations of the small model: which sale, with which faults, is explored whole.

Each has one unit or two, two buyers (of one viewer or of two), up to two hubs and two keepers. The
floor is what an exploration must at least have seen: a model that silently lost a step sees less.
Read by the tests (`IN_TEST`), by `make model` (all) and by the mutants.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.model.shapes import Fault, Small

LATE_HOLDS = frozenset[Fault]({"late_hold", "slow_hold", "lost_hold"})
LATE_ADMISSIONS = frozenset[Fault]({"late_admission", "slow_admission", "lost_admission"})
CONNECTIONS = frozenset[Fault]({"lose_send", "lose_viewer"})
LOSSES = frozenset[Fault]({"wipe", "restart", "stale"})
CRASHES = frozenset[Fault]({"crash_hub", "crash_keeper"})
SCRIPT_ERROR = frozenset[Fault]({"script_error"})
EVERY = LATE_HOLDS | LATE_ADMISSIONS | CONNECTIONS | LOSSES | CRASHES | SCRIPT_ERROR

ONE_VIEWER = ((1, 1), (1, 1))  # with two keys, and room for one unit


@dataclass(frozen=True, slots=True)
class Sale:
    """A configuration with the least number of states that it has."""

    small: Small
    states_min: int


HUBS = (
    Sale(Small("nothing happens but the order of steps", faults=0), 600),
    # A third hub, since one that waits for a late answer here takes no other buy.
    Sale(
        Small("an admission comes late or never", hubs=3, alone=True, kinds=LATE_ADMISSIONS),
        21_000,
    ),
    Sale(
        Small(
            "one viewer with two keys, and a crash",
            quantity=2, buyers=ONE_VIEWER, kinds=frozenset({"crash_hub", "lost_admission", "wipe"}),
        ),
        6_000,
    ),
    Sale(
        Small(
            "an order that Postgres cannot write",
            hubs=1, quantity=2, poison=frozenset({0}), kinds=frozenset({"crash_hub"}),
        ),
        5_500,
    ),
    Sale(Small("a script fails half way", kinds=SCRIPT_ERROR), 4_000),
)  # fmt: skip

HOLDS = (
    Sale(Small("a hold call comes late or never", kinds=LATE_HOLDS), 45_000),
    Sale(Small("one key over both hubs", kinds=CONNECTIONS, alone=True), 5_800),
    Sale(Small("two units, and the gate is lost", quantity=2,
               kinds=frozenset({"wipe", "crash_keeper"})), 30_000),
)  # fmt: skip

STORES = (
    Sale(Small("the gate is lost in any way", kinds=LOSSES | CRASHES), 9_500),
    Sale(
        Small("a crash, and the gate is lost", faults=2, kinds=frozenset({"crash_hub", "wipe"})),
        22_000,
    ),
    Sale(
        Small("the gate is lost twice, with one hub", hubs=1, faults=2, kinds=LOSSES | CRASHES),
        11_000,
    ),
    Sale(Small("the gate is made", opening=True, kinds=CRASHES | {"wipe"}), 6_000),
    Sale(
        Small("an order expires, and who tells the gate dies", follows=True,
              kinds=frozenset({"crash_keeper"}), events=(("expire", 1),)),
        17_000,
    ),
    Sale(
        Small("an order is cancelled, and the gate is lost", hubs=1,
              kinds=frozenset({"wipe", "restart", "crash_hub"}), events=(("cancel", 1),)),
        8_000,
    ),
    Sale(
        Small("an order is paid or expires", faults=0, follows=True,
              events=(("expire", 1), ("pay", 1))),
        19_000,
    ),
    Sale(
        Small("the quantity is lowered and raised", faults=0, hubs=1,
              events=(("lower", 1), ("restock", 1))),
        18_000,
    ),
    Sale(
        Small("the offer is closed", hubs=1, kinds=frozenset({"wipe", "crash_hub"}),
              events=(("close", 1),)),
        11_000,
    ),
    Sale(
        Small("two keepers, one buyer, and the gate is lost", hubs=1, keepers=2, buyers=((1, 1),),
              kinds=LOSSES | {"crash_hub"}),
        15_000,
    ),
    Sale(Small("two keepers", hubs=1, keepers=2, faults=0), 8_000),
    Sale(Small("a sound gate is built anew", hubs=1, faults=0, events=(("rebuild", 1),)), 26_000),
)  # fmt: skip

IN_TEST = HUBS + HOLDS + STORES

LARGE = (
    Sale(Small("an admission comes late, buys together", kinds=LATE_ADMISSIONS), 110_000),
    Sale(Small("every fault there is", kinds=EVERY), 220_000),
    Sale(Small("one key over both hubs, and buys together", kinds=CONNECTIONS), 65_000),
    Sale(Small("two units, and a hub is killed", quantity=2, kinds=frozenset({"crash_hub"})),
         42_000),
    Sale(Small("two units, and the gate is lost in any way", quantity=2, kinds=LOSSES), 56_000),
    Sale(Small("two keepers, and every loss", hubs=1, keepers=2, kinds=LOSSES | CRASHES), 175_000),
    Sale(Small("the gate is built anew, with two hubs", faults=0, events=(("rebuild", 1),)),
         155_000),
    Sale(
        Small("the gate is built anew and lost", hubs=1, kinds=LOSSES | CRASHES,
              events=(("rebuild", 1),)),
        290_000,
    ),
    Sale(
        Small("orders end while the gate is lost", quantity=2, kinds=LOSSES,
              events=(("expire", 1), ("pay", 1))),
        350_000,
    ),
    Sale(
        Small("three buyers of two viewers", buyers=((1, 1), (1, 1), (2, 1)),
              kinds=frozenset({"crash_hub"})),
        50_000,
    ),
)  # fmt: skip
