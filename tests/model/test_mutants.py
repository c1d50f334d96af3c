"""Each rule left out of the model is found to break something: the model can fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.model.mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.rule} {m.what}")
def test_a_rule_left_out_is_caught_on_the_shortest_way(mutant: Mutant) -> None:
    """The invariant that breaks and the length of the way there are those of the table."""
    found = mutant.explore()
    sys.stdout.write(found.trace)
    assert (found.broken, found.steps) == (mutant.broken, mutant.steps)
    assert found.trace.count("\n") >= found.steps  # every step is told


def test_every_rule_of_the_gate_and_the_ledger_has_a_mutant() -> None:
    """R1 to R8, each left out at least once."""
    assert {mutant.rule for mutant in MUTANTS} == {f"R{n}" for n in range(1, 9)}


def test_the_documented_table_is_that_of_the_mutants() -> None:
    """docs/model.md names each mutant, in order, with what caught it and after how many steps."""
    told = (Path(__file__).parents[2] / "docs" / "model.md").read_text("utf-8")
    assert "\n".join(mutant.told() for mutant in MUTANTS) in told
