"""The history of buyers: nothing is rewritten, and each buy has one of three verdicts."""

from __future__ import annotations

from loadtest.history import History, TwoOrders
from loadtest.patience import Patience


def sent(viewers: int = 2, buys_each: int = 2) -> History:
    """A history in which every buy was sent at 1,000 ns."""
    history = History([f"v{n}" for n in range(viewers)], buys_each, 1, "run")
    history.sent_ns = [1_000] * len(history)
    return history


def verdicts(history: History) -> list[str]:
    return [buy.verdict for buy in history.buys()]


def test_a_buy_is_acknowledged_refused_or_unknown() -> None:
    """An order makes a buy acknowledged, a final reject refused, and silence leaves it unknown."""
    history = sent()
    history.note(0, 2_000, "order.reserved", "or_1", 1)
    history.note(1, 2_000, "sold_out", "", 0)
    assert verdicts(history) == ["acknowledged", "refused", "unknown", "unknown"]


def test_a_passing_refusal_decides_nothing() -> None:
    """`retry`, `rate_limited` and `internal` leave a buy open: its key is sent again."""
    history = sent()
    for code in ("retry", "rate_limited", "internal"):
        assert not history.note(0, 2_000, code, "", 0)
    assert history.unanswered == len(history)
    assert history.note(0, 3_000, "order.reserved", "or_1", 1)


def test_the_first_final_answer_stands_and_later_ones_are_kept() -> None:
    """A second answer changes no outcome, yet stays in the record."""
    history = sent()
    assert history.note(0, 2_000, "order.reserved", "or_1", 1)
    assert not history.note(0, 2_500, "order.reserved", "or_1", 1)
    assert next(iter(history.buys())).answered_ns == 2_000
    assert len(history.answers) == 2


def test_an_order_that_is_named_late_counts() -> None:
    """A buy that was given up, then told of an order, must have its row."""
    history = sent()
    history.give_up(0, "attempts")
    history.note(0, 9_000, "order.reserved", "or_1", 1)
    assert verdicts(history)[0] == "acknowledged"


def test_an_attempt_without_an_answer_stays_open() -> None:
    """What was sent and cut off may still be carried out, whatever a later attempt was told."""
    history = sent()
    history.attempts[0] = 2
    history.note(0, 2_000, "sold_out", "", 0)
    assert next(iter(history.buys())).open_attempts == 1
    history.note(0, 3_000, "sold_out", "", 0)
    assert next(iter(history.buys())).open_attempts == 0


def test_two_orders_for_one_key_are_a_contradiction() -> None:
    """A replay names the same order; any other is reported."""
    history = sent()
    history.note(0, 2_000, "order.reserved", "or_1", 1)
    history.note(0, 3_000, "order.reserved", "or_1", 1)
    assert history.contradictions() == []
    history.note(0, 4_000, "order.reserved", "or_2", 2)
    assert history.contradictions() == [
        TwoOrders("v0", "run.0", "or_1", "or_2", history.wall_ms(4_000))
    ]


def test_it_is_done_when_every_buy_has_ended() -> None:
    """Answers and giving up both end a buy, each buy once."""
    history = sent(viewers=1)
    history.note(0, 2_000, "sold_out", "", 0)
    history.note(0, 2_100, "sold_out", "", 0)
    assert not history.done.is_set()
    history.give_up(1, "gone")
    assert history.done.is_set()
    assert history.given_up == {"gone": 1}


def test_nothing_to_buy_is_done_at_once() -> None:
    """A crowd that only watches waits for no answer."""
    assert History(["v0"], 0, 1, "run").done.is_set()


def test_a_mark_is_set_at_its_share_of_answers() -> None:
    """A fault can be timed by the share of the buys that have ended."""
    history = sent()
    half = history.mark(0.5)
    assert history.mark(0.0).is_set()
    history.note(0, 2_000, "sold_out", "", 0)
    assert not half.is_set()
    history.note(1, 2_000, "sold_out", "", 0)
    assert half.is_set()


def test_a_buy_that_was_never_sent_is_not_in_the_record() -> None:
    """The audit judges what was said to the server, not what was planned."""
    history = History(["v0"], 3, 1, "run")
    assert list(history.buys()) == []


def test_a_key_is_sent_again_after_the_time_named_and_ever_less_often() -> None:
    """Back-off starts at what the server asked for and grows to its bound, with full jitter."""
    patience = Patience(retry_min_s=0.1, retry_max_s=2.0)
    late = [patience.retry_s(30, 200) for _ in range(500)]
    assert 0.2 <= min(late) < 0.6
    assert 1.8 < max(late) <= 2.2
    assert max(patience.retry_s(1, None) for _ in range(500)) <= 0.2


def test_viewers_come_back_with_full_jitter() -> None:
    """Reconnection is spread over the whole of a doubling, bounded time."""
    patience = Patience()
    assert max(patience.back_off_s(0) for _ in range(500)) <= 0.5
    late = [patience.back_off_s(50) for _ in range(500)]
    assert min(late) < 2
    assert 18 < max(late) <= 20
