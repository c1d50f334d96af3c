"""How orders may end: the judgement of payments, cancellations, expiries and what was told of them.

Owns what I8 and R8 mean for the rows at hand, and what the host's acts must have come to. Pure
functions; audit reads, and calls these. A violation names the order, the key and the moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from loadtest.endings import UNKNOWN, Ask, Endings, News
from loadtest.history import Buy
from loadtest.judge import CLOCK_SLACK_MS, LIVE, Finding, OfferRow, Row, examples, moments

TERMINAL = ("expired", "cancelled", "refunded")
#: What an order may be once its buyer was told that it was paid: nobody here refunds.
PAID = ("confirmed", "shipped")

#: How long the gate may not know yet, when it was away, that a pause is over.
LAG_MS = 5_000


@dataclass(slots=True, frozen=True)
class Release:
    """One movement that gave an order's units back."""

    order: str
    units: int
    at_ms: int


@dataclass(slots=True)
class _Story:
    """All that was asked and told about one order."""

    asks: list[Ask] = field(default_factory=list)
    news: list[News] = field(default_factory=list)
    buy: Buy | None = None

    def asked(self, what: str) -> list[Ask]:
        return [ask for ask in self.asks if ask.what == what]

    def granted(self, what: str) -> Ask | None:
        return next((a for a in self.asked(what) if a.verdict == "acknowledged"), None)


def judge_endings(rows: Sequence[Row], buys: Sequence[Buy], endings: Endings) -> list[Finding]:
    """Hold what was asked of orders, and told of them, against what they are now (I8, R8)."""
    stories: dict[str, _Story] = defaultdict(_Story)
    for ask in endings.asks:
        stories[ask.order].asks.append(ask)
    for news in endings.news:
        stories[news.order].news.append(news)
    for buy in buys:
        if buy.order:
            stories[buy.order].buy = buy
    at = moments(buys)
    wrong: list[str] = []
    early: list[str] = []
    known = {row.id for row in rows}
    for row in rows:
        story = stories.get(row.id, _Story())
        name = f"{row.id} ({row.key} of {row.viewer})"
        wrong += (f"{name} {what}" for what in _ended_wrongly(row, story, endings.payment, at))
        early += (f"{name} {what}" for what in _expired_early(row, story, at))
    strange = [
        f"{order}, told {story.news[0].status} {at(story.news[0].at_ms)}"
        for order, story in stories.items()
        if story.news and order not in known
    ]
    return [
        Finding("I8", "pay, cancel or expire: one won, and it stayed", not wrong, examples(wrong)),
        Finding("I8", "no order expired before its deadline", not early, examples(early)),
        Finding("I2", "every order told of is a row", not strange, examples(strange)),
    ]


def _ended_wrongly(
    row: Row, story: _Story, payment: str, at: Callable[[int], str]
) -> Iterator[str]:
    """Say what contradicts the row's status."""
    paid, cancelled = story.granted("pay"), story.granted("cancel")
    if paid and row.status not in PAID:
        yield f"is {row.status}; told that it is paid {at(paid.answered_ms)}"
    if cancelled and row.status != "cancelled":
        yield f"is {row.status}; told that it is cancelled {at(cancelled.answered_ms)}"
    if row.status == "cancelled" and not story.asked("cancel"):
        yield "is cancelled, and nobody cancelled it"
    if row.status in PAID and payment == "required" and not story.asked("pay"):
        yield f"is {row.status}, and nobody paid"
    if payment == "none" and row.status in ("reserved", "expired"):
        yield f"is {row.status}, of an offer without payment"
    for ask in story.asks:
        # A conflict says that the order had ended, or (to who cancels) that it was paid.
        still = LIVE if ask.what == "pay" else ("reserved",)
        if ask.answer == "conflict" and row.status in still:
            yield f"is {row.status}; {ask.what} was refused as a conflict {at(ask.answered_ms)}"
        if ask.answer == "not_found":
            yield f"was not found by {ask.what} {at(ask.answered_ms)}"
    yield from _told_wrongly(row, story.news, at)


def _told_wrongly(row: Row, news: Sequence[News], at: Callable[[int], str]) -> Iterator[str]:
    """Say which news contradict the row or each other; the higher version is the later state."""
    by_version: dict[int, str] = {}
    for told in news:
        if by_version.setdefault(told.version, told.status) != told.status:
            yield f"told {told.status} and {by_version[told.version]} as version {told.version}"
        ended = told.status in TERMINAL and row.status != told.status
        unpaid = told.status in PAID and row.status not in (*PAID, "cancelled", "refunded")
        if ended or unpaid:
            yield f"is {row.status}; told {told.status} {at(told.at_ms)}"


def _expired_early(row: Row, story: _Story, at: Callable[[int], str]) -> Iterator[str]:
    """Say how an order ended before the deadline that its row, or its buyer, has."""
    if row.status != "expired":
        return
    told = story.buy.expires_ms if story.buy else None
    due = row.expires_ms if row.expires_ms is not None else told
    if due is None:
        yield "expired without a deadline"
        return
    if told is not None and abs(told - due) > 1:
        yield f"has its deadline {at(due)}, told {at(told)}"
    for news in story.news:
        if news.status == "expired" and news.at_ms + CLOCK_SLACK_MS < due:
            yield f"told expired {at(news.at_ms)}, due {at(due)}"


def judge_releases(
    rows: Sequence[Row], releases: Sequence[Release], buys: Sequence[Buy]
) -> list[Finding]:
    """Units go back once, of ended orders alone, and not before a deadline."""
    by_id: Mapping[str, Row] = {row.id: row for row in rows}
    at, wrong, early = moments(buys), [], []
    given: set[str] = set()
    for release in releases:
        row = by_id.get(release.order)
        when = at(release.at_ms)
        if release.order in given:
            wrong.append(f"{release.order} twice, {when}")
        given.add(release.order)
        if row is None or row.status in LIVE:
            wrong.append(f"{release.order} {when}, which is {row.status if row else 'no row'}")
        elif release.units != row.qty:
            wrong.append(f"{release.units} of {row.id} {when}, which is of {row.qty}")
        elif row.status == "expired" and release.at_ms + 1 < (row.expires_ms or 0):
            early.append(f"{row.id} ({row.key}) {when}, due {at(row.expires_ms or 0)}")
    kept = [f"{row.id} ({row.key})" for row in rows if row.status not in LIVE]
    wrong += [f"{name} never" for name in kept if name.partition(" ")[0] not in given]
    return [
        Finding("I4", "units were given back once, of ended orders", not wrong, examples(wrong)),
        Finding("I8", "nothing was given back before its deadline", not early, examples(early)),
    ]


def judge_acts(offer: OfferRow, buys: Sequence[Buy], endings: Endings) -> list[Finding]:
    """The quantity is what the host was told; nobody is told `closed` before the host closes."""
    at = moments(buys)
    _, now = endings.quantities()
    findings = [
        Finding(
            "I4",
            "the quantity is what the host made it",
            not now or offer.quantity in now,
            f"{offer.quantity}, not {sorted(now)}" if now and offer.quantity not in now else "",
        )
    ]
    closing = min((a.sent_ms for a in endings.acts if a.what == "close"), default=None)
    opened = min(
        (a.answered_ms for a in endings.acts if a.what == "open" and a.answer == "ok"), default=0
    )
    pauses = [act for act in endings.acts if act.what in ("pause", "resume")]

    def paused(buy: Buy) -> bool:
        """Whether a pause may have been on, as far as the gate knew, while the buy was."""
        begun = [act for act in pauses if act.what == "pause" and act.sent_ms <= buy.answered_ms]
        over = [act.answered_ms for act in pauses if act.what == "resume" and act.answer == "ok"]
        return bool(begun) and buy.sent_ms <= max(over, default=buy.sent_ms) + LAG_MS

    wrong = []
    for buy in buys:
        if buy.outcome == "closed" and (closing is None or buy.answered_ms < closing):
            wrong.append(f"{buy.key} told closed {at(buy.answered_ms)}")
        elif (
            buy.outcome in ("not_open", "not_live")
            and opened
            and buy.sent_ms > opened
            and not (buy.outcome == "not_open" and paused(buy))
        ):
            wrong.append(f"{buy.key}, sent {at(buy.sent_ms)}, told {buy.outcome}")
    closed_ok = [a for a in endings.acts if a.what == "close" and a.answer not in UNKNOWN]
    if closed_ok and offer.status != "closed":
        wrong.append(f"the offer is {offer.status}; the host closed it {at(closed_ok[0].sent_ms)}")
    findings.append(
        Finding("I5", "an open offer is not refused as shut", not wrong, examples(wrong))
    )
    return findings
