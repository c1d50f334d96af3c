"""The planted bugs that the auditor is asked about: all of them, each with attacks or a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations import audited
from tests.mutations.attacks import ATTACKS, plan_of
from tests.mutations.audited import (
    PROVOKED_BY,
    SECOND_LINE,
    UNMENDED,
    UNSEEN,
    table,
    write,
)
from tests.mutations.patches import mutations
from tests.mutations.run import NOTHING

ROOT = Path(__file__).parents[2]


def test_every_bug_is_provoked_or_has_a_reason() -> None:
    """No planted bug is left out in silence, and every attack that is named is one."""
    names = {mutation.name for mutation in mutations()}
    assert PROVOKED_BY.keys() | UNSEEN.keys() == names
    assert not PROVOKED_BY.keys() & UNSEEN.keys()
    assert SECOND_LINE.keys() <= PROVOKED_BY.keys()
    assert {attack for attacks in PROVOKED_BY.values() for attack in attacks} <= ATTACKS.keys()
    assert audited.attacks_on(NOTHING) == ()
    for attack, changes in ATTACKS.values():
        assert attack.__doc__
        plan_of(1, **changes).line()


def test_reconcile_can_be_left_out(tmp_path: Path) -> None:
    """What every copy gets applies to the code that is there."""
    path = tmp_path / "orders" / "keeper.py"
    path.parent.mkdir()
    before = (ROOT / "orders" / "keeper.py").read_text()
    path.write_text(before)
    UNMENDED.plant(tmp_path)
    assert path.read_text() != before


def test_the_page_has_what_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table takes the old one's place, and says why a bug was not played."""
    page = tmp_path / "audit.md"
    page.write_text(f"a\n{audited.BEGIN}\nold\n{audited.END}\nz\n")
    monkeypatch.setattr(audited, "TABLE", page)
    rows: list[audited.Result] = [
        {"name": "cancel-twice", "bug": "B", "verdict": "caught", "by": ["I1", "I4"],
         "attack": "rush", "s": 9.6},
        {"name": "batch-not-bisected", "bug": "C", "verdict": "cannot show"},
    ]  # fmt: skip
    write(rows)
    text = page.read_text()
    assert text == f"a\n{audited.BEGIN}\n{table(rows)}\n{audited.END}\nz\n"
    assert "| B | I1, I4 | rush | 10 s |" in text
    assert f"| C | **cannot show**: {UNSEEN['batch-not-bisected']} |  |  |" in text
