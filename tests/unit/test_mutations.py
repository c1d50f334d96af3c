"""The planted bugs fit the code that is there: a patch that no longer applies proves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations.patches import DoesNotApply, Mutation, mutations

ROOT = Path(__file__).parents[2]
DIFF = """A bug

--- a/orders/x.py
+++ b/orders/x.py
@@ -1,2 +1,2 @@
 one
-two
+three
"""


def _copy(root: Path, mutation: Mutation) -> list[Path]:
    """Copy the files that a patch names."""
    names = {
        line.removeprefix("+++ b/") for line in mutation.patch.split("\n") if line[:6] == "+++ b/"
    }
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text((ROOT / name).read_text())
    return [Path(name) for name in sorted(names)]


@pytest.mark.parametrize("mutation", mutations(), ids=lambda m: m.name)
def test_each_planted_bug_applies(mutation: Mutation, tmp_path: Path) -> None:
    """It says what it is, and changes each file that it names."""
    assert len(mutation.bug) > 10
    names = _copy(tmp_path, mutation)
    assert names
    mutation.plant(tmp_path)
    for name in names:
        assert (tmp_path / name).read_text() != (ROOT / name).read_text()


@pytest.mark.parametrize("text", ["one\n2\n", "one\ntwo\none\ntwo\n"])
def test_a_patch_that_is_not_clear_changes_nothing(text: str, tmp_path: Path) -> None:
    """Code that is gone, or that is there twice, is an error and no guess."""
    (tmp_path / "orders").mkdir()
    path = tmp_path / "orders" / "x.py"
    path.write_text(text)
    with pytest.raises(DoesNotApply):
        Mutation("x", "A bug", DIFF).plant(tmp_path)
    assert path.read_text() == text
    path.write_text("one\ntwo\n")
    Mutation("x", "A bug", DIFF).plant(tmp_path)
    assert path.read_text() == "one\nthree\n"
