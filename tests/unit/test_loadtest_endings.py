"""How orders end: each way in which pay, cancel, expire and the host can go wrong is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtest.endings import Act, Ask, Endings, News
from loadtest.history import Buy
from loadtest.judge import Finding, OfferRow, Row
from loadtest.judge_endings import Release, judge_acts, judge_endings, judge_releases

ROW = Row("or_1", "ann", "k1", 2, "reserved", 1, reserved_ms=1_000, expires_ms=2_000)
BUY = Buy("ann", "k1", 2, 1, 2, "order.reserved", "or_1", 1, 1, 900, 1_100, 2_000)
OFFER = OfferRow(quantity=10, taken=2, per_viewer=2, epoch=1, status="open", live=2)
PAID = Ask("or_1", "pay", 1_200, 1_300, "order.confirmed")
CANCELLED = Ask("or_1", "cancel", 1_200, 1_300, "order.cancelled")


def broken(findings: list[Finding]) -> dict[str, str]:
    """What was found broken, with its detail."""
    return {finding.name: finding.detail for finding in findings if finding.passed is False}


def judged(row: Row, *asks: Ask, news: tuple[News, ...] = (), payment: str = "required") -> str:
    """What the judge says of one order, '' when all is well."""
    endings = Endings(asks=list(asks), news=list(news))
    endings.payment = "none" if payment == "none" else "required"
    return "; ".join(broken(judge_endings([row], [BUY], endings)).values())


@pytest.mark.parametrize(
    ("status", "asks"),
    [
        ("reserved", ()),
        ("expired", ()),
        ("confirmed", (PAID,)),
        ("cancelled", (CANCELLED,)),
        ("confirmed", (replace(PAID, answer=""),)),
        ("cancelled", (replace(CANCELLED, answer="retry"),)),
        ("expired", (replace(PAID, answer="conflict"),)),
        ("confirmed", (PAID, replace(CANCELLED, answer="conflict"))),
    ],
)
def test_an_order_that_ended_as_it_was_asked_to_breaks_nothing(
    status: str, asks: tuple[Ask, ...]
) -> None:
    """Each way to end is allowed to whoever won; what is not known excuses both."""
    assert judged(replace(ROW, status=status), *asks) == ""


@pytest.mark.parametrize("status", ["reserved", "expired", "cancelled"])
def test_an_acknowledged_payment_stays(status: str) -> None:
    """I8: who was told that it is paid has it, and the order, key and moment are named."""
    found = judged(replace(ROW, status=status), PAID)
    assert found.startswith("or_1 (k1 of ann) at 1970-01-01T00:00:01.300Z (+400 ms): ")
    assert f"is {status}; told that it is paid" in found


@pytest.mark.parametrize("status", ["reserved", "expired", "confirmed"])
def test_an_acknowledged_cancellation_stays(status: str) -> None:
    """I8: who was told that it is cancelled pays for nothing."""
    asks = [CANCELLED] if status != "confirmed" else [CANCELLED, replace(PAID, answer="")]
    assert "told that it is cancelled" in judged(replace(ROW, status=status), *asks)


def test_nothing_ends_by_itself() -> None:
    """I8: no cancellation and no payment without somebody who asked for it."""
    assert "nobody cancelled" in judged(replace(ROW, status="cancelled"))
    assert "nobody paid" in judged(replace(ROW, status="confirmed", expires_ms=None))
    assert judged(replace(ROW, status="confirmed", expires_ms=None), payment="none") == ""
    assert "without payment" in judged(ROW, payment="none")


def test_a_refusal_says_how_the_order_was() -> None:
    """I8: a conflict of a live order, or one not found, contradicts the row."""
    assert "refused as a conflict" in judged(ROW, replace(PAID, answer="conflict"))
    assert "refused as a conflict" in judged(ROW, replace(CANCELLED, answer="conflict"))
    assert "was not found" in judged(ROW, replace(PAID, answer="not_found"))


def test_what_was_told_stays_true() -> None:
    """I8: terminal news of another end, and two states under one version, are found."""
    expired = replace(ROW, status="expired")
    told = News("or_1", "cancelled", 2, 1_500)
    assert "(+600 ms): is expired; told cancelled" in judged(expired, news=(told,))
    twice = (News("or_1", "expired", 2, 2_100), News("or_1", "cancelled", 2, 2_100))
    assert "as version 2" in judged(expired, news=twice)
    paid = News("or_1", "confirmed", 2, 1_500)
    assert "told confirmed" in judged(expired, news=(paid,))


def test_an_order_expires_after_its_deadline() -> None:
    """I8: expired before what its row or its buyer says, or without any deadline."""
    expired = replace(ROW, status="expired")
    early, late = News("or_1", "expired", 2, 1_900), News("or_1", "expired", 2, 2_100)
    assert "(+1,000 ms): told expired, due 1970-01-01T00:00:02.000Z" in judged(
        expired, news=(early,)
    )
    assert judged(expired, news=(late,)) == ""
    assert "its deadline" in judged(replace(expired, expires_ms=2_500))
    bare = Endings()
    no_deadline = replace(expired, expires_ms=None)
    found = broken(judge_endings([no_deadline], [replace(BUY, expires_ms=None)], bare))
    assert "without a deadline" in found["I8"]


def test_an_order_that_was_told_of_is_a_row() -> None:
    """I2: private news of an order that Postgres does not have."""
    endings = Endings(news=[News("or_9", "reserved", 1, 1_500)])
    assert "or_9" in broken(judge_endings([ROW], [BUY], endings))["I2"]


EXPIRED = replace(ROW, status="expired")


@pytest.mark.parametrize(
    ("row", "releases", "what"),
    [
        (EXPIRED, [Release("or_1", 2, 2_001), Release("or_1", 2, 2_002)], "twice"),
        (EXPIRED, [], "never"),
        (EXPIRED, [Release("or_1", 1, 2_001)], "of an order of 2"),
        (ROW, [Release("or_1", 2, 2_001)], "which is reserved"),
        (ROW, [Release("or_9", 2, 2_001)], "no row"),
    ],
    ids=["twice", "never", "too few", "of a live order", "of no order"],
)
def test_units_go_back_once(row: Row, releases: list[Release], what: str) -> None:
    """I4: a double release, a lost one, a wrong amount and one of a live order are found."""
    assert what in broken(judge_releases([row], releases, [BUY]))["I4"]


def test_units_go_back_after_the_deadline() -> None:
    """I8: a release of an expired order before its deadline is found; in time it is not."""
    early = judge_releases([EXPIRED], [Release("or_1", 2, 1_500)], [BUY])
    assert "given back, due 1970-01-01T00:00:02.000Z (+1,100 ms)" in broken(early)["I8"]
    assert broken(judge_releases([EXPIRED], [Release("or_1", 2, 2_000)], [BUY])) == {}


def acted(*acts: Act, quantity: int = 10) -> Endings:
    return Endings(quantity=quantity, acts=list(acts))


def test_the_quantity_is_what_the_host_made_it() -> None:
    """I4: a restock counts once, a refused change not at all, an unknown one perhaps."""
    restock = Act("restock", 5, 1_000, 1_100, "ok")
    assert broken(judge_acts(replace(OFFER, quantity=15), [], acted(restock))) == {}
    assert "I4" in broken(judge_acts(replace(OFFER, quantity=20), [], acted(restock)))
    assert "I4" in broken(judge_acts(OFFER, [], acted(restock)))
    refused = Act("quantity", 1, 1_000, 1_100, "conflict")
    assert broken(judge_acts(OFFER, [], acted(refused))) == {}
    unknown = acted(replace(restock, answer=""))
    assert broken(judge_acts(OFFER, [], unknown)) == {}
    assert broken(judge_acts(replace(OFFER, quantity=15), [], unknown)) == {}
    lowered = acted(Act("quantity", 4, 1_000, 1_100, "ok"), restock)
    assert lowered.quantities() == ({10, 4, 9}, {9})
    assert Endings().quantities() == (set(), set())


def test_an_open_offer_is_not_refused_as_shut() -> None:
    """I5: closed before the host closes it, not open after he opened it, open after he closed."""
    closed = replace(BUY, outcome="closed", order="", answered_ms=1_500)
    close = Act("close", 0, 1_400, 1_600, "ok")
    shut = replace(OFFER, status="closed")
    assert broken(judge_acts(shut, [closed], acted(close))) == {}
    assert "told closed" in broken(judge_acts(OFFER, [closed], acted()))["I5"]
    assert "the host closed it" in broken(judge_acts(OFFER, [], acted(close)))["I5"]
    late = acted(replace(close, sent_ms=1_550))
    assert "told closed" in broken(judge_acts(shut, [closed], late))["I5"]
    opened = Act("open", 0, 500, 600, "ok")
    not_open = replace(closed, outcome="not_open")
    assert "told not_open" in broken(judge_acts(OFFER, [not_open], acted(opened)))["I5"]


def test_a_paused_offer_is_not_open() -> None:
    """I5: told `not_open` while a pause was on, or just over, but not before and not long after."""
    opened = Act("open", 0, 500, 600, "ok")
    pause, resume = Act("pause", 0, 1_400, 1_450, "ok"), Act("resume", 0, 1_600, 1_700, "ok")
    ends = acted(opened, pause, resume)
    shut = replace(BUY, outcome="not_open", order="", answered_ms=1_500)
    assert broken(judge_acts(OFFER, [shut], ends)) == {}
    early = replace(shut, answered_ms=1_300)
    late = replace(shut, sent_ms=8_000, answered_ms=8_100)
    for buy in (early, late):
        assert "told not_open" in broken(judge_acts(OFFER, [buy], ends))["I5"]
