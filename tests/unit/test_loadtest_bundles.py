"""Bundles as the harness sees them: each half that is there without its other is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtest.history import Asked, History
from loadtest.judge_bundles import BundleRow, judge_bundles

ASKED = Asked("ann", "k1", {"of_1": 1, "of_2": 2}, bundle="bu_1")
ONE = BundleRow("or_1", "ann", "k1", "of_1", 1, "bu_1")
TWO = BundleRow("or_2", "ann", "k1", "of_2", 2, "bu_1")
REFUSED = replace(ASKED, bundle="", code="sold_out")
UNKNOWN = replace(ASKED, bundle="")


@pytest.mark.parametrize(
    ("asked", "rows"),
    [(ASKED, [ONE, TWO]), (REFUSED, []), (UNKNOWN, []), (UNKNOWN, [TWO, ONE])],
    ids=["acknowledged", "refused", "unknown, not there", "unknown, there"],
)
def test_a_whole_bundle_breaks_nothing(asked: Asked, rows: list[BundleRow]) -> None:
    """All of it where it was acknowledged, none where it was refused, either where nobody knows."""
    assert judge_bundles([asked], rows).passed


@pytest.mark.parametrize(
    ("asked", "rows", "what"),
    [
        (ASKED, [ONE], "asked for"),
        (UNKNOWN, [TWO], "asked for"),
        (ASKED, [], "no order"),
        (ASKED, [ONE, replace(TWO, qty=1)], "asked for"),
        (ASKED, [ONE, replace(TWO, bundle="bu_2")], "asked for"),
        (ASKED, [replace(ONE, bundle=None), replace(TWO, bundle=None)], "asked for"),
        (ASKED, [replace(ONE, bundle="bu_9"), replace(TWO, bundle="bu_9")], "told bu_1"),
        (ASKED, [ONE, TWO, replace(ONE, id="or_3", key="k2")], "another key"),
        (ASKED, [ONE, TWO, BundleRow("or_4", "bob", "k7", "of_1", 1, "bu_7")], "nobody asked"),
    ],
    ids=[
        "half, acknowledged", "half, unknown", "gone", "short", "torn", "of no bundle",
        "another than told", "with another key", "of nobody",
    ],
)  # fmt: skip
def test_half_a_bundle_is_found(asked: Asked, rows: list[BundleRow], what: str) -> None:
    """I2: a line that is missing, of other units, of another bundle, or that nobody wanted."""
    found = judge_bundles([asked], rows)
    assert found.passed is False
    assert what in found.detail


def test_histories_of_one_offer_are_judged_together() -> None:
    """Buys of those beside, and their contradictions, are in the record too."""
    mine, beside = History(["ann"], 1, 1, "a"), History(["bob"], 1, 1, "b")
    mine.beside.append(beside)
    mine.sent_ns[0] = beside.sent_ns[0] = 1
    assert [buy.key for buy in mine.buys()] == ["a.0", "b.0"]
    beside.note(0, 2, "order.reserved", "or_1", 1)
    beside.note(0, 3, "order.reserved", "or_2", 2)
    assert [two[:4] for two in mine.contradictions()] == [("bob", "b.0", "or_1", "or_2")]
