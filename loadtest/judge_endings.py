"""How orders may end: the judgement of payments, cancellations, expiries and what was told of them.

Owns what I8 and R8 mean for the rows at hand, and what the host's acts must have come to. Pure
functions; audit reads, and calls these. A breach names the order, the key, the viewer, the moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from loadtest.endings import UNKNOWN, Ask, Endings, News, now_ms
from loadtest.history import Buy
from loadtest.judge import CLOCK_SLACK_MS, LIVE, Breach, Finding, OfferRow, Row, finding
from loadtest.judge_answers import began, of_buy, of_row, teller

#: What says a moment.
At = Callable[[int | None], str]

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
    began_ms = began(buys)
    at = teller(began_ms)
    wrong: list[Breach] = []
    early: list[Breach] = []
    known = {row.id for row in rows}
    for row in rows:
        story = stories.get(row.id, _Story())
        wrong += (of_row(row, *what) for what in _ended_wrongly(row, story, endings.payment))
        early += (of_row(row, *what) for what in _expired_early(row, story, at))
    strange = [
        Breach(
            f"told {story.news[0].status}, and there is no such row", order,
            *((story.buy.key, story.buy.viewer) if story.buy else ("", "")),
            at_ms=story.news[0].at_ms,
        )
        for order, story in stories.items()
        if story.news and order not in known
    ]  # fmt: skip
    return [
        finding("I8", "pay, cancel or expire: one won, and it stayed", wrong, began_ms),
        finding("I8", "no order expired before its deadline", early, began_ms),
        finding("I2", "every order told of is a row", strange, began_ms),
    ]


def _ended_wrongly(row: Row, story: _Story, payment: str) -> Iterator[tuple[str, int | None]]:
    """Say what contradicts the row's status, and the moment of it."""
    paid, cancelled = story.granted("pay"), story.granted("cancel")
    if paid and row.status not in PAID:
        yield f"is {row.status}; told that it is paid", paid.answered_ms
    if cancelled and row.status != "cancelled":
        yield f"is {row.status}; told that it is cancelled", cancelled.answered_ms
    if row.status == "cancelled" and not story.asked("cancel"):
        yield "is cancelled, and nobody cancelled it", None
    if row.status in PAID and payment == "required" and not story.asked("pay"):
        yield f"is {row.status}, and nobody paid", None
    if payment == "none" and row.status in ("reserved", "expired"):
        yield f"is {row.status}, of an offer without payment", None
    for ask in story.asks:
        # A conflict says that the order had ended, or (to who cancels) that it was paid.
        still = LIVE if ask.what == "pay" else ("reserved",)
        if ask.answer == "conflict" and row.status in still:
            yield f"is {row.status}; {ask.what} was refused as a conflict", ask.answered_ms
        if ask.answer == "not_found":
            yield f"was not found by {ask.what}", ask.answered_ms
    yield from _told_wrongly(row, story.news)


def _told_wrongly(row: Row, news: Sequence[News]) -> Iterator[tuple[str, int | None]]:
    """Say which news contradict the row or each other; the higher version is the later state."""
    by_version: dict[int, str] = {}
    for told in news:
        if by_version.setdefault(told.version, told.status) != told.status:
            both = f"{told.status} and {by_version[told.version]}"
            yield f"told {both} as version {told.version}", told.at_ms
        ended = told.status in TERMINAL and row.status != told.status
        unpaid = told.status in PAID and row.status not in (*PAID, "cancelled", "refunded")
        if ended or unpaid:
            yield f"is {row.status}; told {told.status}", told.at_ms


def _expired_early(row: Row, story: _Story, at: At) -> Iterator[tuple[str, int | None]]:
    """Say how an order ended before the deadline that its row, or its buyer, has."""
    if row.status != "expired":
        return
    told = story.buy.expires_ms if story.buy else None
    due = row.expires_ms if row.expires_ms is not None else told
    if due is None:
        yield "expired without a deadline", None
        return
    if told is not None and abs(told - due) > 1:
        yield f"has its deadline {at(due)}; told {at(told)}", due
    for news in story.news:
        if news.status == "expired" and news.at_ms + CLOCK_SLACK_MS < due:
            yield f"told expired, due {at(due)}", news.at_ms


def judge_releases(
    rows: Sequence[Row], releases: Sequence[Release], buys: Sequence[Buy]
) -> list[Finding]:
    """Units go back once, of ended orders alone, and not before a deadline."""
    by_id: Mapping[str, Row] = {row.id: row for row in rows}
    began_ms = began(buys)
    at, wrong, early = teller(began_ms), [], []
    given: set[str] = set()
    for release in releases:
        row = by_id.get(release.order)
        when = release.at_ms

        def of(what: str, row: Row | None = row, release: Release = release) -> Breach:
            if row is None:
                return Breach(what, release.order, at_ms=release.at_ms)
            return of_row(row, what, release.at_ms)

        if release.order in given:
            wrong.append(of("given back twice"))
        given.add(release.order)
        if row is None or row.status in LIVE:
            wrong.append(of(f"given back, which is {row.status if row else 'no row'}"))
        elif release.units != row.qty:
            wrong.append(of(f"{release.units} units given back of an order of {row.qty}"))
        elif row.status == "expired" and when + 1 < (row.expires_ms or 0):
            early.append(of(f"given back, due {at(row.expires_ms)}"))
    wrong += [
        of_row(row, f"{row.status}, and never given back")
        for row in rows
        if row.status not in LIVE and row.id not in given
    ]
    return [
        finding("I4", "units were given back once, of ended orders", wrong, began_ms),
        finding("I8", "nothing was given back before its deadline", early, began_ms),
    ]


def judge_acts(
    offer: OfferRow, buys: Sequence[Buy], endings: Endings, rows: Sequence[Row] = ()
) -> list[Finding]:
    """The quantity is what the host made it; nobody is told it is shut when it is not, nor sold."""
    began_ms = began(buys)
    return [
        finding("I4", "the quantity is what the host made it", _quantity(offer, endings), began_ms),
        finding(
            "I5", "an open offer is not refused as shut", _refused(offer, buys, endings), began_ms
        ),
        finding("host", "nothing is sold while it is shut", _sold_shut(rows, endings), began_ms),
    ]


def _quantity(offer: OfferRow, endings: Endings) -> Iterator[Breach]:
    _, now = endings.quantities()
    if now and offer.quantity not in now:
        made = [act for act in endings.acts if act.what in ("restock", "quantity")]
        said = ", ".join(f"{act.what} {act.units}: {act.answer or 'no answer'}" for act in made)
        when = made[-1].answered_ms or made[-1].sent_ms if made else now_ms()
        what = f"quantity {offer.quantity}, not {' or '.join(map(str, sorted(now)))}"
        yield Breach(
            f"{what} (made with {endings.quantity}; {said or 'never changed'})", at_ms=when
        )


def _refused(offer: OfferRow, buys: Sequence[Buy], endings: Endings) -> Iterator[Breach]:
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

    for buy in buys:
        if buy.outcome == "closed" and (closing is None or buy.answered_ms < closing):
            yield of_buy(buy, "told closed, and the host had not closed it")
        elif (
            buy.outcome in ("not_open", "not_live")
            and opened
            and buy.sent_ms > opened
            and not (buy.outcome == "not_open" and paused(buy))
        ):
            yield of_buy(buy, f"told {buy.outcome}, and the host had opened it")
    closed_ok = [a for a in endings.acts if a.what == "close" and a.answer not in UNKNOWN]
    if closed_ok and offer.status != "closed":
        what = f"the offer is {offer.status}; the host closed it"
        yield Breach(what, at_ms=closed_ok[0].answered_ms or closed_ok[0].sent_ms)


def _sold_shut(rows: Sequence[Row], endings: Endings) -> Iterator[Breach]:
    """Orders born while a pause, or a close, had been acknowledged and not been taken back."""
    acts = sorted(
        (act for act in endings.acts if act.what in ("pause", "resume", "close")),
        key=lambda act: act.sent_ms,
    )
    for n, act in enumerate(acts):
        if act.what == "resume" or act.answer != "ok":
            continue
        since = act.answered_ms + CLOCK_SLACK_MS
        over = [a.sent_ms for a in acts[n + 1 :] if a.what == "resume" and act.what == "pause"]
        until = min(over, default=None)
        for row in rows:
            if since < row.reserved_ms and (until is None or row.reserved_ms < until):
                yield of_row(row, f"sold, and the host's {act.what} was acknowledged before")
