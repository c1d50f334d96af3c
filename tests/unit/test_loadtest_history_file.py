"""Histories as bytes: what is read is what was written, several make one, and rubbish is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from loadtest import history_file
from loadtest.deliveries import Deliveries
from loadtest.history import Asked, Clock, History, TwoOrders
from loadtest.history_file import HistoryUnreadable, Kept, read_file, write_file
from loadtest.judge_answers import judge_admission_order


def crowd(name: str, viewers: int = 2, each: int = 2, at_ns: int = 1_000_000_000) -> History:
    """A crowd whose first buys were answered with orders, and the others refused or not at all."""
    history = History([f"{name}{n}" for n in range(viewers)], each, 1, name)
    for n in range(len(history)):
        history.sent_ns[n] = history.written_ns[n] = at_ns + n
        history.attempts[n] = 1
    for n in range(viewers):
        history.note(n * each, at_ns + 100, "order.reserved", f"or_{name}{n}", n + 1, 5_000)
    history.note(1, at_ns + 200, "sold_out", "", 0)
    history.note(0, at_ns + 300, "order.reserved", "or_other", 9)
    history.give_up(3, "gone")
    history.endings.ask(f"or_{name}0", "pay").answer = "order.confirmed"
    history.endings.told(f"or_{name}0", "confirmed", 2)
    return history


def test_what_is_read_is_what_was_written() -> None:
    """Every buy, contradiction, ending and sum is the same, of those beside too."""
    history = crowd("a")
    history.beside.append(crowd("b"))
    history.endings.quantity = 7
    history.endings.act("restock", 5).answer = "ok"
    read = History.from_bytes(history.to_bytes())
    assert list(read.buys()) == list(history.buys())
    assert read.contradictions() == history.contradictions() != []
    assert read.endings == history.endings
    assert (read.tally, read.given_up) == (history.tally, history.given_up)
    assert (read.unanswered, read.done.is_set()) == (0, True)
    at_ms = history.wall_ms(1_000_000_000) + 1
    assert read.in_flight(at_ms) == history.in_flight(at_ms) == 1  # the one that was given up


def test_crowds_of_one_machine_make_one() -> None:
    """Buys are numbered anew and keep what they were; sums, endings and contradictions add up."""
    parts = [crowd("a"), crowd("b"), crowd("c")]
    parts[1].endings.quantity = 12
    parts[2].endings.payment = "none"
    read = [History.from_bytes(part.to_bytes()) for part in parts]
    whole = History.joined(read)
    assert list(whole.buys()) == [buy for part in parts for buy in part.buys()]
    assert whole.contradictions() == [two for part in parts for two in part.contradictions()]
    assert len(whole) == len(whole.keys) == 12
    assert list(whole.of_viewer(5)) == [10, 11]
    assert whole.tally == Counter({"order.reserved": 6, "sold_out": 3})
    assert whole.given_up == Counter(gone=3)
    assert len(whole.endings.asks) == len(whole.endings.news) == 3
    assert (whole.endings.quantity, whole.endings.payment) == (12, "none")
    assert whole.done.is_set()


def test_crowds_of_different_sizes_make_one() -> None:
    """Each buy keeps its viewer where viewers do not all send as many; once more joined, too."""
    parts = [crowd("a", 2, 2), crowd("b", 3, 4)]
    whole = History.joined(parts)
    again = History.from_bytes(History.joined([whole, crowd("c")]).to_bytes())
    owners = [again.owner(n) for n in range(len(again))]
    assert owners == [f"a{n // 2}" for n in range(4)] + [f"b{n // 4}" for n in range(12)] + [
        f"c{n // 2}" for n in range(4)
    ]
    assert again.unanswered == whole.unanswered == parts[1].unanswered > 0
    assert not again.done.is_set()


def test_each_machine_keeps_its_clock() -> None:
    """Moments of another machine are moved by its wall clock; the wall clock's own stay right."""
    here, there = crowd("a", at_ns=1_000_000_000), crowd("b", at_ns=9_000_000_000_000)
    here.clocks = [Clock(0, 50_000_000_000, "here")]
    there.clocks = [Clock(0, 2_000_000_000, "there")]
    whole = History.joined([here, there])
    buys = {buy.key: buy for buy in whole.buys()}
    assert buys["a.0"].sent_ms == 51_000
    assert buys["b.0"].sent_ms == 9_002_000
    assert buys["b.0"].sent_ns == 9_000_000_000_000 + 2_000_000_000 - 50_000_000_000
    assert whole.wall_ms(whole.sent_ns[4], 4) == 9_002_000
    assert whole.in_flight(51_000) == 1
    assert whole.in_flight(9_002_000) == 2  # with the first crowd's that was given up
    # Two clocks never agree well enough for an order of events: such pairs are not judged.
    assert {buy.clock for buy in whole.buys()} == {"here", "there"}
    assert judge_admission_order(list(whole.buys())).passed


def test_one_clock_for_all_processes_is_not_moved() -> None:
    """Where the machine is the same its monotonic clock is one, however the wall clock was set."""
    one, two = crowd("a"), crowd("b")
    two.clocks = [two.clocks[0]._replace(wall_ns=two.clocks[0].wall_ns + 3_000_000)]
    whole = History.joined([one, two])
    assert whole.sent_ns == one.sent_ns + two.sent_ns
    assert [buy.sent_ms for buy in whole.buys()] == [
        buy.sent_ms for part in (one, two) for buy in part.buys()
    ]


def test_the_same_buy_twice_is_refused() -> None:
    """Two crowds with the same viewer and key are no crowds of one sale."""
    with pytest.raises(ValueError, match=r"the same buy: \('a0', 'a\.0'\)"):
        History.joined([crowd("a"), crowd("a")])


def test_a_buy_that_is_named_late_was_answered_late() -> None:
    """Refused first and sold when it came again: its moment is that of the order."""
    history = crowd("a")
    history.note(1, 5_000_000_000, "order.reserved", "or_late", 8)
    assert next(b for b in history.buys() if b.key == "a.1").answered_ns == 5_000_000_000
    assert TwoOrders(
        "a0", "a.0", "or_a0", "or_other", history.wall_ms(1_000_000_300)
    ) in history.contradictions()  # fmt: skip


def test_a_file_holds_a_whole_run(tmp_path: Path) -> None:
    """Several offers, the bundles and what viewers were sent come back from a file."""
    told = Deliveries(["v0"])
    told.welcome(0, "e1", 3, 0)
    told.main(0, 4)
    kept = Kept("st_1", {"of_1": crowd("a"), "of_2": crowd("b")}, [Asked("a0", "k", {"of_1": 1})])
    kept.deliveries = told
    write_file(tmp_path / "run", kept)
    read = read_file(tmp_path / "run")
    assert (read.stream, read.bundles) == (kept.stream, kept.bundles)
    assert {offer: list(one.buys()) for offer, one in read.offers.items()} == {
        offer: list(one.buys()) for offer, one in kept.offers.items()
    }
    assert read.deliveries is not None
    assert read.deliveries.written() == told.written()


def damaged(**changes: object) -> bytes:
    """A good history with some fields of its offer changed."""
    document = msgspec.msgpack.decode(crowd("a").to_bytes())
    document["offers"][""] |= changes
    return msgspec.msgpack.encode(document)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "truncated"),
        (b'{"format": "livecart-history"}', "Expected `object`"),
        (b"\x00" * 1_000, "Expected `object`"),
        (msgspec.msgpack.encode({"version": 1}), "missing required field `format`"),
        (msgspec.msgpack.encode({"format": "other", "version": 1}), "of the format 'other'"),
        (
            msgspec.msgpack.encode({"format": "livecart-history", "version": 2}),
            "version 2, this reads 1",
        ),
        (crowd("a").to_bytes()[:-9], "truncated"),
        (Kept("st_1", {}).to_bytes(), "of 0 offers"),
        (damaged(keys=["k"]), "columns of different lengths"),
        (damaged(viewers=["v"]), "no viewer's"),
        (damaged(owners=[0, 0, 0, 9]), "no viewer's"),
        (damaged(answers=[[7, 1, "sold_out", "", 0]]), "answers to no buy"),
        (damaged(clocks=[]), "without a clock"),
        (damaged(clocks=[[1, 5, "here"]]), "without a clock"),
        (damaged(order=[1, 2, 3, 4]), r"Expected `str`, got `int`"),
    ],
)
def test_rubbish_is_named(data: bytes, why: str) -> None:
    """What is no history, or does not fit itself, is one clear error and no guess."""
    with pytest.raises(HistoryUnreadable, match=why):
        History.from_bytes(data)


def test_reading_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beyond the bound is refused before it is decoded; one that is not there is named."""
    path = tmp_path / "run"
    write_file(path, Kept(offers={"": crowd("a")}))
    monkeypatch.setattr(history_file, "FILE_BYTES_MAX", 100)
    with pytest.raises(HistoryUnreadable, match="more than 100 bytes"):
        read_file(path)
    with pytest.raises(HistoryUnreadable, match="No such file"):
        read_file(tmp_path / "nowhere")
