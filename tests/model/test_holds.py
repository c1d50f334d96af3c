"""Holds that come late, twice or are lost keep every invariant."""

from __future__ import annotations

import sys

import pytest

from tests.model.explorer import explore
from tests.model.sales import HOLDS, Sale


@pytest.mark.parametrize("sale", HOLDS, ids=lambda sale: sale.small.name)
def test_nothing_breaks_in_any_state(sale: Sale) -> None:
    """Every reachable state is looked at, none is broken, and rest is reached from each."""
    found = explore(sale.small)
    sys.stdout.write(f"{found.states:,} states, {found.resting} at rest: {sale.small.name}\n")
    assert not found.broken, found.trace
    assert found.states >= sale.states_min
    assert found.resting > 0
