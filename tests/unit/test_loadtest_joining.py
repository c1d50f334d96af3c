"""Shares of Locust's workers: cut up, put together, and joined into one result."""

from __future__ import annotations

import pytest

from loadtest.asks import Gather
from loadtest.history import History
from loadtest.joining import (
    Hours,
    Pulses,
    draw_up,
    join_histories,
    missing_of,
    unknown_history,
)
from loadtest.pulse import Pulse
from loadtest.result import Result
from loadtest.shares import Joint, Share, Stage, parts_of
from loadtest.timings import Timer, Timing

OFFER = "of_1"


def stage(first: int, viewers: int = 2) -> Stage:
    gather = Gather(
        url="ws://h/v1/streams/st/ws",
        secret="",
        names="l-",
        first=first,
        viewers=viewers,
        of=viewers,
        buys_each=4,
        qty=1,
        key_prefix="r",
    )
    return Stage(run="r", gather=gather, offers=["of_0", OFFER], buys=2, think_s=1.0, answer_s=1.0)


def history(first: int, answered: int, sent: int) -> History:
    """Two viewers with two buys each."""
    whole = History([f"l-{first}", f"l-{first + 1}"], 2, 1, f"r.{first}")
    for buy in range(sent):
        whole.sent_ns[buy] = 1_000 + buy
    for buy in range(answered):
        whole.note(buy, 2_000_000 + buy, "order.reserved", f"or_{first}.{buy}", buy + 1)
    return whole


def timing(*ms: float) -> Timing:
    timer = Timer()
    for one in ms:
        timer.note_us(one * 1000)
    return timer.written()


def test_a_share_comes_whole_out_of_its_parts_in_any_order() -> None:
    """Parts are no larger than was asked for, and the last one makes the share."""
    share = Share(viewers=7, histories={OFFER: bytes(range(256)) * 40})
    parts = parts_of("r", share, bytes_max=1_000)
    assert len(parts) > 10
    assert all(len(part.data) <= 1_000 for part in parts)
    joint = Joint()
    taken = [joint.take(part) for part in reversed(parts)]
    assert taken[:-1] == [None] * (len(parts) - 1)
    assert taken[-1] == share


def test_a_part_that_is_none_is_refused() -> None:
    """A number beyond the last one is said, not kept."""
    part = parts_of("r", Share())[0]
    part.number = 1
    with pytest.raises(ValueError, match="part 1 of 1"):
        Joint().take(part)


def test_workers_that_beat_at_different_moments_make_one_pulse() -> None:
    """Totals are each worker's latest, timings all that came since the last step."""
    pulses = Pulses()
    pulses.note("a", Pulse(at_s=1.0, counts={"commands": 5}, timings={"order": timing(1)}))
    pulses.note("a", Pulse(at_s=2.0, counts={"commands": 9}, timings={"order": timing(2)}))
    pulses.note("b", Pulse(at_s=0.5, counts={"commands": 1}, gauges={"connections:open": 3}))
    first = pulses.step(2.5, {"stock:left": 4.0})
    assert (first.at_s, first.counts) == (2.5, {"commands": 10})
    assert first.timings["order"].count == 2
    assert first.gauges == {"connections:open": 3.0, "stock:left": 4.0}
    second = pulses.step(3.5, {})
    assert second.counts == {"commands": 10}
    assert second.timings == {}


def test_a_lost_worker_keeps_its_counts_and_loses_its_connections() -> None:
    """What it had told stays told; what it held is gone with it."""
    pulses = Pulses()
    pulses.note("a", Pulse(outcomes={"sold_out": 2}, gauges={"connections:open": 3}))
    pulses.lost("a")
    pulse = pulses.step(1.0, {})
    assert pulse.outcomes == {"sold_out": 2}
    assert pulse.gauges == {}


def test_the_buys_of_a_lost_worker_have_the_keys_that_it_used() -> None:
    """Else the audit would take its viewers' orders for nobody's."""
    unknown = unknown_history(stage(10), OFFER, since_ns=5)
    used = History(["l-10", "l-11"], 4, 1, "r.10")
    assert unknown.keys == [used.keys[n] for n in (2, 3, 6, 7)]
    buys = list(unknown.buys())
    assert [buy.viewer for buy in buys] == ["l-10", "l-10", "l-11", "l-11"]
    assert {(buy.verdict, buy.open_attempts) for buy in buys} == {("unknown", 1)}


def test_histories_of_two_workers_are_one() -> None:
    """Each offer's buys of all workers, and those without an answer are missing."""
    shares = [
        Share(histories={OFFER: history(0, answered=4, sent=4).to_bytes()}),
        Share(histories={OFFER: history(2, answered=1, sent=3).to_bytes()}),
    ]
    joined = join_histories(shares)[OFFER]
    assert joined.viewers == ["l-0", "l-1", "l-2", "l-3"]
    assert len(list(joined.buys())) == 7
    assert missing_of(joined) == 2


def test_a_result_tells_of_every_worker() -> None:
    """Answers, timings, faults and what is missing; a code that was not due fails the run."""
    shares = [
        Share(histories={OFFER: history(0, answered=4, sent=4).to_bytes()}, faults=["I7"]),
        Share(
            histories={OFFER: history(2, answered=2, sent=3).to_bytes()},
            tally={"chat without an answer": 2},
        ),
    ]
    hours = Hours()
    step = Pulse(timings={"order": timing(1, 2, 3)}, gauges={"cpu:client 0": 0.5})
    hours.note(step)
    hours.note(step)
    last = Pulse(counts={"commands": 12}, outcomes={"order.reserved": 6, "forbidden": 1})
    result = Result(scenario="locust", title="", seed=1)
    draw_up(result, shares, join_histories(shares), last, hours, [])
    assert result.counts == {"chat without an answer": 2, "commands": 12}
    assert result.missing == 1 + 2
    assert result.faults == ["I7"]
    assert result.unexpected == {"forbidden": 1}
    assert result.timings["order"].count == 6
    assert result.figures["units"] == 6
    assert (result.client.processes, result.verdict) == (1, "failed")


def test_a_lost_worker_alone_fails_a_run() -> None:
    """What a process took with it may have been anything."""
    whole = Result(scenario="locust", title="", seed=1)
    torn = Result(scenario="locust", title="", seed=1, lost=["worker a"])
    assert [whole.verdict, torn.verdict] == ["passed", "failed"]
