"""A dozen of the seeded sales of `make faults`: whole server, real processes, thousands of buys.

Each is the sale that `make faults SEEDS=n..n` plays; what it came to is the audit's word. A run
that proved nothing is played again, as there; a broken one never is. Then the shortest `make soak`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import uvloop

from tests.faults.plan import plan_of
from tests.faults.seeded import Garden, garden, run_seed
from tests.faults.soak import soak

#: In turns a process killed, one stopped, memory lost, a connection dropped; first those of one
#: worker, then those of two, so that two servers do for all.
SEEDS = (3, 5, 7, 19, 20, 21, 8, 9, 12, 13, 14, 15)


@pytest.fixture(scope="module")
def ours() -> Iterator[Garden]:
    """One server at a time, for as many seeds as can share it."""
    with garden() as found:
        yield found


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"{seed} {plan_of(seed).kind}")
def test_a_sale_with_a_fault_loses_nothing(seed: int, ours: Garden) -> None:
    """I1 to I6, I8, I10 and I11 hold, the fault was seen to fire, and a crowd was in flight."""
    result = run_seed(seed, ours)
    assert (result.verdict, result.broken, result.why) == ("held", [], "")


def test_a_soak_ends_at_rest_and_says_what_it_did(ours: Garden) -> None:
    """Its crowd buys, a fault of its seed strikes meanwhile, and all is exact in the end."""
    report, exact = uvloop.run(soak(4711, 2.0, ours.tree(2)))
    assert exact, report
    assert ", 1 faults: restart-postgres 1\n" in report
    assert "answers: order.reserved " in report
