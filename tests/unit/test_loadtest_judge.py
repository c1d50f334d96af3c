"""Each invariant's judgement finds its own violation, and nothing where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtest.history import Buy, TwoOrders
from loadtest.judge import Finding, Gate, OfferRow, Row, examples, judge_durability, judge_gate
from loadtest.judge_answers import judge_admission_order, judge_history, judge_no_unit_lost

OFFER = OfferRow(quantity=10, taken=2, per_viewer=2, epoch=1, status="open", live=2)
GATE = Gate(left=8, quantity=10, epoch=1, held=frozenset({"or_1", "or_2"}), unwritten={})
LIVE = frozenset({"or_1", "or_2"})
ROW = Row("or_1", "ann", "k1", 1, "reserved", 1)
BOUGHT = Buy("ann", "k1", 1, 1, 2, "order.reserved", "or_1", 1, 1)


def refused(code: str, viewer: str = "bob", key: str = "k2", qty: int = 1) -> Buy:
    return Buy(viewer, key, qty, 1, 2, code, "", 0, 1, sent_ms=900, answered_ms=2_000)


def broken(findings: list[Finding]) -> list[str]:
    """Names of what was found broken."""
    return [finding.name for finding in findings if finding.passed is False]


def test_rows_that_match_the_answers_break_nothing() -> None:
    """A sale as it should be passes whole."""
    assert broken(judge_history([ROW], [BOUGHT, refused("sold_out")], [])) == []


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [replace(ROW, id="or_9")],
        [replace(ROW, qty=2)],
        [ROW, replace(ROW, id="or_9", rank=2)],
    ],
    ids=["no row", "another order", "another quantity", "two rows"],
)
def test_an_acknowledged_order_is_its_one_row(rows: list[Row]) -> None:
    """I2: a lost, swapped, altered or doubled order is found."""
    assert "I2" in broken(judge_history(rows, [BOUGHT], []))


def test_a_rank_that_was_told_is_the_rows_rank() -> None:
    """I6: telling a viewer another place than the row's is found."""
    assert broken(judge_history([replace(ROW, rank=7)], [BOUGHT], [])) == ["I6"]


def test_who_was_served_first_has_the_lower_rank() -> None:
    """I6: a rank below one that was told before the buy was sent is found, with both orders."""
    first = replace(BOUGHT, order="or_1", rank=8, sent_ns=10, answered_ns=20)
    second = replace(BOUGHT, key="k2", order="or_2", rank=7, sent_ns=30, answered_ns=40)
    found = judge_admission_order([second, first])
    assert found.passed is False
    assert "or_2 (k2 of ann)" in found.detail
    assert "or_1" in found.detail
    at_once = replace(second, sent_ns=15)
    assert judge_admission_order([at_once, first]).passed
    assert judge_admission_order([replace(second, rank=9), first]).passed


def test_a_refused_buy_has_no_order() -> None:
    """I10: a viewer who was told "sold out" must not own a unit."""
    row = Row("or_2", "bob", "k2", 1, "reserved", 2)
    assert broken(judge_history([row], [refused("sold_out")], [])) == ["I10"]


def test_a_refusal_answers_one_attempt_only() -> None:
    """I10: where another attempt under the key was cut off, one order may come of it, never two."""
    row = Row("or_2", "bob", "k2", 1, "reserved", 2)
    cut_off = replace(refused("sold_out"), attempts=2, open_attempts=1)
    assert broken(judge_history([row], [cut_off], [])) == []
    twice = [row, replace(row, id="or_3", rank=3)]
    assert broken(judge_history(twice, [cut_off], [])) == ["I10"]


def test_an_unknown_buy_may_end_either_way() -> None:
    """I10: silence allows no row and one row."""
    unknown = replace(BOUGHT, outcome="", order="", rank=0)
    assert broken(judge_history([], [unknown], [])) == []
    assert broken(judge_history([ROW], [unknown], [])) == []


def test_an_order_that_nobody_asked_for_is_found() -> None:
    """I10: a row under a key that no buyer sent is found."""
    assert broken(judge_history([ROW], [], [])) == ["I10"]


def test_contradicting_answers_are_found() -> None:
    """I10: two orders named for one key are found even where one row remains."""
    assert broken(
        judge_history([ROW], [BOUGHT], [TwoOrders("ann", "k1", "or_1", "or_2", 2_000)])
    ) == ["I10"]


def rows(count: int, viewer: str = "", reserved_ms: int = 1_000) -> list[Row]:
    """Orders of one unit each, all born at one moment."""
    return [
        Row(f"or_{n}", viewer or f"v{n}", f"b{n}", 1, "reserved", n, reserved_ms)
        for n in range(1, count + 1)
    ]


def test_sold_out_stands_only_without_stock() -> None:
    """I5: a refusal for lack of stock is wrong when orders had not taken that much by then."""
    assert judge_no_unit_lost(OFFER, [], [refused("sold_out")]).passed is False
    assert judge_no_unit_lost(OFFER, rows(9), [refused("sold_out")]).passed is False
    assert judge_no_unit_lost(OFFER, rows(10), [refused("sold_out")]).passed is True
    assert judge_no_unit_lost(OFFER, rows(9), [refused("sold_out", qty=2)]).passed is True


def test_sold_out_is_judged_by_the_moment_at_which_it_was_said() -> None:
    """I5: orders that were born afterwards excuse nothing, and ended ones were there once."""
    late = rows(10, reserved_ms=5_000)
    found = judge_no_unit_lost(OFFER, late, [refused("sold_out")])
    assert found.passed is False
    assert "k2 of bob" in found.detail
    assert "0 of 10 units" in found.detail
    ended = [replace(row, status="expired") for row in rows(10)]
    assert judge_no_unit_lost(OFFER, ended, [refused("sold_out")]).passed is True


def test_a_lowered_quantity_excuses_what_it_explains() -> None:
    """I5: the lowest quantity that ever stood is what a refusal may be due to."""
    assert judge_no_unit_lost(OFFER, rows(8), [refused("sold_out")], 8).passed is True
    assert judge_no_unit_lost(OFFER, rows(7), [refused("sold_out")], 8).passed is False


def test_limit_reached_stands_only_at_the_limit() -> None:
    """I5: a refusal for the viewer's limit is wrong when the viewer's rows leave room."""
    full = rows(2, "bob")
    assert judge_no_unit_lost(OFFER, full, [refused("limit_reached")]).passed is True
    assert judge_no_unit_lost(OFFER, full[:1], [refused("limit_reached")]).passed is False
    late = [full[0], replace(full[1], reserved_ms=9_000)]
    assert judge_no_unit_lost(OFFER, late, [refused("limit_reached")]).passed is False


def test_a_gate_that_agrees_is_at_rest() -> None:
    """I4 and I11 hold when Redis names exactly the live orders."""
    assert judge_gate(OFFER, LIVE, GATE) == {}


@pytest.mark.parametrize(
    "gate",
    [
        replace(GATE, left=7),
        replace(GATE, quantity=11),
        replace(GATE, epoch=2),
        replace(GATE, held=frozenset({"or_1"})),
        replace(GATE, held=frozenset({"or_1", "or_2", "or_3"})),
        replace(GATE, held=frozenset({"or_1", "or_3"})),
        None,
    ],
    ids=["left", "quantity", "epoch", "lost", "stray", "swapped", "missing"],
)
def test_a_gate_that_differs_is_found(gate: Gate | None) -> None:
    """I4: differences are found by ids, also where the sums agree."""
    assert "I4" in judge_gate(OFFER, LIVE, gate)


def test_an_unwritten_hold_is_not_rest() -> None:
    """I11: a hold whose row is not known to exist is found."""
    assert list(judge_gate(OFFER, LIVE, replace(GATE, unwritten={"or_2": 1_500}))) == ["I11"]


def test_a_closed_offer_needs_no_gate() -> None:
    """I4: once an offer is closed, Redis may have dropped it."""
    assert judge_gate(replace(OFFER, status="closed"), LIVE, None) == {}


def test_durability_that_is_off_is_found() -> None:
    """A sale on a server that may forget is no proof."""
    on = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
    assert judge_durability(on).passed
    assert judge_durability(on | {"fsync": "off"}).detail == "fsync = off"


def test_examples_are_bounded() -> None:
    """A thousand violations are one line."""
    assert examples(f"n{n}" for n in range(1000)) == "n0, n1, n2 and 997 more"
