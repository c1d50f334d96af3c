"""Histories as bytes: of one crowd over a pipe, of a whole run in a file, and several as one.

Owns the format `livecart-history` (version 1; docs/audit.md describes it) and how histories of one
offer are joined. It judges nothing. History calls it for its bytes; scenarios write files, the
command `audit` reads them. Whatever is read is bounded and checked before it is believed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from loadtest.deliveries import Deliveries, WrittenDeliveries
from loadtest.endings import Endings
from loadtest.history import Answer, Asked, Clock, History

FORMAT: Final = "livecart-history"
VERSION: Final = 1
#: 25,000 buys are some 3 MB.
FILE_BYTES_MAX: Final = 1 << 30

#: Columns that have a value for each buy.
COLUMNS: Final = (
    "keys", "qtys", "sent_ns", "written_ns", "asked_ns", "final_ns", "outcome", "order", "rank",
    "expires_ms", "attempts",
)  # fmt: skip


class HistoryUnreadable(Exception):
    """These bytes are no history, or of a later release; the message says which and why."""


class Written(msgspec.Struct, kw_only=True):
    """One History, column by column."""

    viewers: list[str]
    buys_each: int
    owners: list[int] | None
    keys: list[str]
    qtys: list[int]
    sent_ns: list[int]
    written_ns: list[int]
    asked_ns: list[int]
    final_ns: list[int]
    outcome: list[str]
    order: list[str]
    rank: list[int]
    expires_ms: list[int | None]
    attempts: list[int]
    answers: list[Answer]
    clocks: list[Clock]
    given_up: dict[str, int]
    endings: Endings
    beside: list[Written]


class Head(msgspec.Struct):
    """What every version of the format begins with."""

    format: str
    version: int


class File(msgspec.Struct, kw_only=True):
    """All of one run; a single history is the one of an offer without a name."""

    format: str = FORMAT
    version: int = VERSION
    stream: str = ""
    offers: dict[str, Written]
    bundles: list[Asked] = []
    deliveries: WrittenDeliveries | None = None


@dataclass(slots=True)
class Kept:
    """What a file holds: the histories of a stream's offers, and what its viewers were sent."""

    stream: str = ""
    offers: dict[str, History] = field(default_factory=dict)  # by id
    bundles: list[Asked] = field(default_factory=list)
    deliveries: Deliveries | None = None

    def to_bytes(self) -> bytes:
        """Return it in the format of files."""
        told = self.deliveries.written() if self.deliveries is not None else None
        offers = {offer: _written(history) for offer, history in self.offers.items()}
        file = File(stream=self.stream, offers=offers, bundles=self.bundles, deliveries=told)
        return msgspec.msgpack.encode(file)

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "history") -> Kept:
        """Read a file's bytes; HistoryUnreadable when they are something else."""
        file = _decoded(data, name)
        try:
            told = Deliveries.of(file.deliveries) if file.deliveries is not None else None
            offers = {offer: _read(one) for offer, one in file.offers.items()}
        except ValueError as error:
            raise HistoryUnreadable(f"{name}: {error}") from error
        return cls(file.stream, offers, file.bundles, told)


def write_file(path: Path, kept: Kept) -> None:
    """Write a run's histories down."""
    path.write_bytes(kept.to_bytes())


def read_file(path: Path) -> Kept:
    """Read a file that `write_file` made; HistoryUnreadable when it is none, or too large."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise HistoryUnreadable(f"{path}: {error.strerror or error}") from error
    return Kept.from_bytes(data, str(path))


def history_to_bytes(history: History) -> bytes:
    """Return one history, as `history_from_bytes` reads it."""
    return Kept(offers={"": history}).to_bytes()


def history_from_bytes(data: bytes) -> History:
    """Read one history; HistoryUnreadable when these bytes are none, or several."""
    offers = Kept.from_bytes(data).offers
    if len(offers) != 1:
        raise HistoryUnreadable(f"history: of {len(offers)} offers, not of one")
    return next(iter(offers.values()))


def join(histories: Sequence[History]) -> History:
    """Make one history of several of the same offer; ValueError when two have the same buy.

    Buys are numbered anew. Moments of one machine stay as they are; those of another are moved by
    what its wall clock says, and each keeps the clock that it was read on.
    """
    whole = History([], 0, [], "")
    whole.done.clear()
    even = {one.buys_each for one in histories if one.owners is None}
    owners: list[int] = []
    clocks: list[Clock] = []
    for one in histories:
        first, viewers = len(whole.keys), len(whole.viewers)
        owners += (viewers + (one.owners[n] if one.owners else n // one.buys_each)
                   for n in range(len(one)))  # fmt: skip
        whole.viewers += one.viewers
        _join_columns(whole, one, first, clocks)
        whole.given_up += one.given_up
        whole.tally += one.tally
        whole.unanswered += one.unanswered
        whole.beside += one.beside
    _join_endings(whole.endings, [one.endings for one in histories])
    whole.clocks = clocks or whole.clocks
    if len(even) == 1 and all(one.owners is None for one in histories):
        whole.buys_each = even.pop()
    else:
        whole.owners = owners
    twice = Counter((whole.owner(n), key) for n, key in enumerate(whole.keys))
    if len(twice) != len(whole):
        raise ValueError(f"two histories have the same buy: {twice.most_common(1)[0][0]}")
    if whole.unanswered == 0:
        whole.done.set()
    return whole


def part_of(
    history: History, first: int, buys: int, viewers: Sequence[int] | None = None
) -> History:
    """Return each viewer's buys from `first` on, which are all of one offer; of some, if given."""
    each = history.buys_each
    of = range(len(history.viewers)) if viewers is None else viewers
    numbers = [viewer * each + first + n for viewer in of for n in range(buys)]
    names = [history.viewers[viewer] for viewer in of]
    part = History(names, buys, 1, "")
    for name in COLUMNS:
        column = getattr(history, name)
        setattr(part, name, [column[n] for n in numbers])
    new = {old: number for number, old in enumerate(numbers)}
    part.answers = [
        (new[buy], at_ns, what, order, rank)
        for buy, at_ns, what, order, rank in history.answers
        if buy in new
    ]
    part.tally = Counter(what for what in part.outcome if what)
    orders = {answer[3] for answer in part.answers}
    part.endings.news = [news for news in history.endings.news if news.order in orders]
    return part


def _join_columns(whole: History, one: History, first: int, clocks: list[Clock]) -> None:
    """Put a history's columns and answers behind the others', on their clock."""
    moves = []  # by how much the moments of each of its clocks are moved
    for clock in one.clocks:
        base = clocks[0] if clocks else clock
        move = 0 if clock.machine == base.machine else clock.wall_ns - base.wall_ns
        moves.append((clock.first, move))
        clocks.append(Clock(first + clock.first, clock.wall_ns - move, clock.machine))
    for name in COLUMNS:
        values = getattr(one, name)
        if name.endswith("_ns") and any(move for _, move in moves):
            values = [
                at + _move_of(moves, n) if at > 0 else at  # 0 and -1 are no moments
                for n, at in enumerate(values)
            ]
        getattr(whole, name).extend(values)
    whole.answers += (
        (first + buy, at_ns + _move_of(moves, buy), what, order, rank)
        for buy, at_ns, what, order, rank in one.answers
    )


def _move_of(moves: Sequence[tuple[int, int]], buy: int) -> int:
    return next(move for first, move in reversed(moves) if first <= buy)


def _join_endings(whole: Endings, parts: Sequence[Endings]) -> None:
    for one in parts:
        if one.payment == "none":
            whole.payment = "none"
        if whole.quantity is None:
            whole.quantity = one.quantity
        whole.asks += one.asks
        whole.news += one.news
        whole.acts += one.acts
    whole.acts.sort(key=lambda act: act.sent_ms)


def _written(history: History) -> Written:
    columns = {name: getattr(history, name) for name in COLUMNS}
    return Written(
        viewers=history.viewers,
        buys_each=history.buys_each,
        owners=history.owners,
        answers=history.answers,
        clocks=history.clocks,
        given_up=dict(history.given_up),
        endings=history.endings,
        beside=[_written(other) for other in history.beside],
        **columns,
    )


def _decoded(data: bytes, name: str) -> File:
    if len(data) > FILE_BYTES_MAX:
        raise HistoryUnreadable(f"{name}: more than {FILE_BYTES_MAX:,} bytes")
    try:
        head = msgspec.msgpack.decode(data, type=Head)
        if head.format != FORMAT:
            raise HistoryUnreadable(f"{name}: of the format {head.format!r}, not {FORMAT!r}")
        if head.version != VERSION:
            raise HistoryUnreadable(f"{name}: version {head.version}, this reads {VERSION}")
        return msgspec.msgpack.decode(data, type=File)
    except (msgspec.DecodeError, RecursionError) as error:
        raise HistoryUnreadable(f"{name}: {error}") from error


def _read(one: Written) -> History:
    """Make a History of what was read; ValueError when its parts do not fit each other."""
    total = len(one.keys)
    if any(len(getattr(one, name)) != total for name in COLUMNS):
        raise ValueError("columns of different lengths")
    if one.owners is None:
        fits = one.buys_each >= 0 and total == len(one.viewers) * one.buys_each
    else:
        fits = len(one.owners) == total and all(0 <= n < len(one.viewers) for n in one.owners)
    if not fits:
        raise ValueError("buys that are no viewer's")
    if any(not 0 <= answer[0] < total for answer in one.answers):
        raise ValueError("answers to no buy")
    firsts = [clock.first for clock in one.clocks]
    if not firsts or firsts[0] != 0 or firsts != sorted(firsts):
        raise ValueError("moments without a clock")
    history = History([], 0, [], "")
    history.viewers, history.buys_each, history.owners = one.viewers, one.buys_each, one.owners
    for name in COLUMNS:
        setattr(history, name, getattr(one, name))
    history.answers, history.clocks, history.endings = one.answers, one.clocks, one.endings
    history.given_up = Counter(one.given_up)
    history.tally = Counter(
        what for what, final in zip(one.outcome, one.final_ns, strict=True) if final > 0
    )
    history.unanswered = sum(not final for final in one.final_ns)
    history.beside = [_read(other) for other in one.beside]
    history.done = asyncio.Event()
    if history.unanswered == 0:
        history.done.set()
    return history
