"""`make model`, with two configurations in place of all: what it prints, and what it fails for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model import __main__ as whole
from tests.model.sales import IN_TEST, Sale

SMALL, OTHER = sorted(IN_TEST, key=lambda sale: sale.states_min)[:2]


@pytest.mark.parametrize(
    ("sales", "status", "last"),
    [((SMALL, OTHER), 0, "none broken"),
     ((replace(SMALL, states_min=10**9), OTHER), 1, "that there are to see")],
    ids=["all are seen", "states are missing"],
)  # fmt: skip
def test_it_says_how_many_states_were_seen(
    sales: tuple[Sale, ...], status: int, last: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A line for each configuration and their sum; 1 where one has fewer states than it must."""
    monkeypatch.setattr(whole, "IN_TEST", sales[:1])
    monkeypatch.setattr(whole, "LARGE", sales[1:])
    assert whole.main() == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(SMALL.small.name)
    assert lines[-1].endswith(last)
    counts = [int(line.split()[0].replace(",", "")) for line in lines[:-1]]
    assert counts[0] >= SMALL.states_min
    if not status:
        assert int(lines[-1].split()[0].replace(",", "")) == sum(counts)
