"""Plans of seeded faults, and the book of their results: drawn alike, counted right, kept."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from loadtest.faults import FaultName
from orders.failpoints import shot_of
from tests.faults import seeded
from tests.faults.plan import KINDS, NEVER_READS, SALE_POINTS, TWICE, plan_of
from tests.faults.results import Book, code_of, rows_of, table, write_down
from tests.faults.sale import Struck
from tests.faults.seeded import ATTEMPTS_MAX, Garden, run_all, span
from tests.faults.verdict import IN_FLIGHT_MIN, Result


def result(seed: int, verdict: str = "held", kind: str = "kill-worker") -> Result:
    """A run as it might have been."""
    return msgspec.convert(
        {
            "seed": seed, "kind": kind, "plan": "…", "verdict": verdict, "buys": 2_000,
            "orders": 1_000, "bundles": 40, "seconds": 2.0, "resolved_s": 0.1, "slowest_s": 0.9,
            "broken": [], "uncounted": [],
            "struck": [Struck(kind, kind, 1, 700, "pid 7 ended by SIGKILL"),
                       Struck("flushall", "flushall", 1, 20, "")],
        },
        Result,
    )  # fmt: skip


def test_a_seed_is_one_plan() -> None:
    """Drawn twice it is the same, in every choice; another seed is another sale."""
    for seed in range(200):
        assert plan_of(seed) == plan_of(seed)
        assert plan_of(seed).qtys() == plan_of(seed).qtys()
    one, again = plan_of(7).chooser(), plan_of(7).chooser()
    assert [one(n) for n in range(500)] == [again(n) for n in range(500)]
    assert len({plan_of(seed).line() for seed in range(200)}) == 200


def test_every_stretch_of_seeds_has_every_kind_of_fault() -> None:
    """From outside, by the clients, and at each named point, with each of the actions."""
    assert set(KINDS) == {*FaultName, TWICE, NEVER_READS, *SALE_POINTS}
    assert {plan_of(seed).kind for seed in range(1, len(KINDS) + 1)} == set(KINDS)
    actions = set()
    for seed in range(200):
        plan = plan_of(seed)
        assert plan.kind in {strike.kind for strike in plan.strikes}
        for strike in plan.strikes:
            if strike.point:
                actions.add(shot_of(strike.what).action + shot_of(strike.what).value)
    assert actions == {"kill", "stop", "dropredis", "droppostgres", "sleep2600"}


def test_a_plan_is_thousands_of_buys_in_one_line() -> None:
    """More buys than a fault's moment needs, with and without expiry, and printed whole."""
    plans = [plan_of(seed) for seed in range(200)]
    assert min(plan.viewers * plan.buys_each for plan in plans) > 10 * IN_FLIGHT_MIN
    assert {plan.payment for plan in plans} == {"required", "none"}
    assert {plan.workers for plan in plans} == {1, 2}
    assert any(plan.hold_s == 1 for plan in plans)
    assert all("\n" not in plan.line() and f"seed={plan.seed} " in plan.line() for plan in plans)


def test_results_are_kept_by_the_code_that_they_were_made_with(tmp_path: Path) -> None:
    """What stands is not run again; what did not count is, and so is all once the code differs."""
    path = tmp_path / "kept" / "seeds.jsonl"
    book = Book(path, "c0de", "abc")
    book.add(result(1))
    book.add(result(2, "not counted"))
    again = Book(path, "c0de", "abc")
    assert (again.done(1), again.done(2), again.done(3)) == (True, False, False)
    again.add(result(2))
    assert Book(path, "c0de", "abc").done(2)
    assert not Book(path, "0ther", "def").done(1)
    with path.open("a") as file:
        file.write('{"code": "0ld", "commit": "x", "result": {"seed": 1}}\n')
    assert Book(path, "c0de", "abc").done(1)


def test_the_code_is_every_file_that_decides_a_run(tmp_path: Path) -> None:
    """A changed script is other code, a changed document is not."""
    (tmp_path / "orders").mkdir()
    script, text = tmp_path / "orders" / "hold.lua", tmp_path / "orders" / "notes.md"
    script.write_text("return 1")
    text.write_text("one")
    before = code_of(tmp_path)
    text.write_text("two")
    assert code_of(tmp_path) == before
    script.write_text("return 2")
    assert code_of(tmp_path) != before


def test_the_table_counts_by_kind() -> None:
    """Seeds, faults that fired, buys, orders, the smallest crowd, and each verdict."""
    row = rows_of([result(1), result(41, "broken"), result(81, "not counted")])[0]
    assert (row.kind, row.seeds, row.fired, row.in_flight) == ("kill-worker", 3, 3, 700)
    assert row.verdicts == {"held": 1, "broken": 1, "not counted": 1}
    again = result(1)
    again.uncounted = ["flushall did not fire", "7 buys in flight at kill-worker"]
    assert rows_of([again, result(2)])[0].uncounted == 2
    text = table([result(1), result(2, kind="flushall")])
    assert "| kill-worker | 1 | 1 | 2,000 | 1,000 | 700 | 0 | 1 held |" in text
    assert "| **all** | 2 | 2 | 4,000 | 2,000 | | 0 | 2 held |" in text


def test_a_text_is_written_between_its_marks(tmp_path: Path) -> None:
    """What was there is replaced, what is around it stays, and missing marks are an error."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- faults: begin -->\nold\n<!-- faults: end -->\nafter\n")
    write_down("new", document=page)
    assert page.read_text() == (
        "before\n<!-- faults: begin -->\nnew\n<!-- faults: end -->\nafter\n"
    )
    page.write_text("nothing")
    with pytest.raises(ValueError, match="begin"):
        write_down("new", document=page)


def test_a_span_is_two_numbers_or_one() -> None:
    """As `SEEDS=a..b` has them."""
    assert span("3..5") == [3, 4, 5]
    assert span("7") == [7]


@pytest.mark.parametrize(
    ("verdicts", "minutes", "status"),
    [
        (["held", "held"], 1.0, 0),
        (["held", "broken"], 1.0, 1),
        (["held", "not counted"], 1.0, 75),
        (["held", "held"], -1.0, 75),
    ],
    ids=["all held", "one broken", "one did not count", "no time"],
)
def test_the_status_says_whether_all_held(
    verdicts: list[str], minutes: float, status: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """0 only when every seed that was asked for has a result, and held."""

    def played(seed: int, garden: Garden) -> Result:
        return result(seed, verdicts[seed])

    monkeypatch.setattr(seeded, "run_seed", played)
    book = Book(tmp_path / "seeds.jsonl", "c0de", "abc")
    assert run_all(range(len(verdicts)), minutes, book) == status
    assert ATTEMPTS_MAX > 1
