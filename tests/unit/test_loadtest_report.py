"""What a run's numbers say: percentiles, times from the first buy, and when a run has failed."""

from __future__ import annotations

from io import StringIO

import msgspec
from rich.console import Console

from loadtest.history import History
from loadtest.hotrow import HotRow
from loadtest.judge import Audit, Finding
from loadtest.report import Run, measure, percentile, show, spread, to_json


def a_sale() -> History:
    """Two orders and a refusal of four buys; the fourth was never answered."""
    history = History(["v0", "v1"], 2, 3, "run")
    history.sent_ns = [1_000_000_000] * 4
    history.note(0, 1_500_000_000, "order.reserved", "or_1", 1)
    history.note(1, 3_000_000_000, "order.reserved", "or_2", 2)
    history.note(2, 5_000_000_000, "sold_out", "", 0)
    return history


def a_run() -> Run:
    return Run("title", {}, measure(a_sale()))


def test_percentiles_are_of_nearest_rank() -> None:
    """A percentile is a value that was measured, never one in between."""
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (50, 90, 99, 100)] == [50, 90, 99, 100]
    assert percentile([7.0], 50) == 7.0
    assert percentile([], 99) == 0.0
    assert spread([2_000_000, 1_000_000]).p50_ms == 1.0


def test_a_sale_is_timed_from_its_first_buy() -> None:
    """The last order and the last answer are both counted from the first buy sent."""
    sale = measure(a_sale())
    assert (sale.to_last_order_s, sale.to_last_answer_s) == (2.0, 4.0)
    assert sale.orders_per_s == 1.0
    assert (sale.sold, sale.units, sale.refused) == (2, 6, {"sold_out": 1})
    assert sale.orders_latency.max_ms == 2000.0


def test_a_missing_answer_fails_a_run() -> None:
    """A buy without a final answer is counted and fails the run, also one never sent."""
    history = a_sale()
    assert measure(history).missing == 1
    history.sent_ns[3] = 0
    assert measure(history).missing == 1
    assert not a_run().passed


def test_a_run_passes_only_whole() -> None:
    """A broken invariant, a protocol fault or a code that is not due fails a run."""
    history = a_sale()
    history.note(3, 5_000_000_000, "sold_out", "", 0)
    sale = measure(history)
    assert Run("t", {}, sale).passed
    assert not Run("t", {}, sale, faults=["I7: seq 3 after 1"]).passed
    assert not Run("t", {}, sale, unexpected={"not_open": 1}).passed
    judged = Audit("of_1", findings=[Finding("I1", "claim", False)])
    assert not Run("t", {}, sale, audit=judged).passed
    unjudged = Audit("of_1", findings=[Finding("I11", "claim", None)])
    assert Run("t", {}, sale, audit=unjudged).passed


def test_a_run_is_one_line_of_json() -> None:
    """The machine's form has the verdict and every number."""
    line = to_json(a_run())
    assert "\n" not in line
    document = msgspec.json.decode(line)
    assert document["passed"] is False
    assert document["sale"]["refused"] == {"sold_out": 1}


def test_the_tables_name_what_matters() -> None:
    """A person reads sold, refusals, times, verdicts and the ratio."""
    run = a_run()
    run.audit = Audit("of_1", {"fsync": "on"}, [Finding("I1", "claim", False, "live [3]")])
    run.hot_row, run.ratio = HotRow("pgbench", 16, 8, 1620.0), 9.1
    console = Console(width=120, record=True, file=StringIO())
    show(console, run)
    text = console.export_text()
    for words in ("sold_out", "first buy", "p99", "BROKEN", "live [3]", "9.1 times", "FAILED"):
        assert words in text
