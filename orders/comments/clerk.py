"""The clerk: comments come in, are kept, read, bought for and answered.

Owns the order of those steps. A comment is committed before anybody is answered, so that a crash
after that loses none: whoever serves takes up what was not finished in time, and buys again under
the same keys. Must never know a platform or a socket; limits and stock are selling's, as for any
buy. Built once a server process by `livecart`: the keeper must never sell, so it takes up nothing.

Several asks of one comment are bought one by one, not as a bundle: somebody who asks for pink and
white and can only have the pink one wants the pink one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Protocol

import msgspec

from orders import failpoints
from orders.coalesce import Coalesced
from orders.comments.book import Book
from orders.comments.comment import CHAT, QTY_MAX, Answer, Bought, Comment, Said
from orders.comments.grammar import Ask, Reading, Vocabulary
from orders.ids import Ids
from orders.ledger.ledger import Ledger, LedgerAway
from orders.records import Accepted, Buy, Order, Outcome, Refused, Why
from orders.selling import Selling

LEASE_S = 5  # how long who took a comment up has to finish it; a buy is answered in two
TAKE_UP_EVERY_S = 1.0
TAKE_UP_MAX = 100  # comments at once
TRIES_MAX = 10  # of a comment that fails for no known reason
UNDER_WAY_MAX = 5_000  # comments being bought here; more wait in their table

log = logging.getLogger(__name__)

Link = Callable[[Order], str | None]


class Teller(Protocol):
    """Whom the clerk tells; the call returns at once and never raises."""

    def answered(self, comment: Comment, bought: Sequence[Bought]) -> None:
        """A comment has its answers; without any, its `state` and `why` say what became of it."""


class Clerk:
    """Takes comments and sees to it that each is answered."""

    def __init__(
        self, selling: Selling, ledger: Ledger, ids: Ids, teller: Teller,
        barred: Callable[[str], Awaitable[frozenset[str]]], link: Link | None = None,
    ) -> None:  # fmt: skip
        self.book = Book(ledger)
        self._selling = selling
        self._ids = ids
        self._teller = teller
        self._barred = barred  # who may not buy in a stream
        self._link = link  # where an order may be paid
        self._vocabularies: Coalesced[str, Vocabulary] = Coalesced(self.book.vocabularies)
        self._finishing: Coalesced[tuple[str, tuple[Answer, ...]], bool] = Coalesced(self._finish)
        self._under_way: dict[str, asyncio.Task[Comment]] = {}  # by comment
        self._sweeping: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to take up what others left."""
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep(), name="comments")

    async def close(self) -> None:
        """Leave what is not finished to others."""
        self._closing = True
        tasks: list[asyncio.Task[None] | asyncio.Task[Comment]] = list(self._under_way.values())
        if self._sweeping is not None:
            tasks.append(self._sweeping)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # --- what comes in ---------------------------------------------------------------------------

    async def vocabulary(self, stream: str) -> Vocabulary:
        """Return what words mean in a stream now; raises `LedgerAway` or `OverflowError`."""
        return await self._vocabularies.get(stream) or Vocabulary([])

    async def take(
        self, stream: str, platform: str, said: Sequence[Said]
    ) -> dict[str, tuple[Comment, asyncio.Task[Comment] | None]]:
        """Keep comments of one stream and begin to buy for them; raises `LedgerAway`.

        Returns those that are kept, by their id on the platform, each with the work on it if it is
        under way here; who is not in it only talked. What is returned is committed.
        """
        vocabulary = await self.vocabulary(stream)
        first: dict[str, Said] = {}
        last: dict[str, Said] = {}
        for one in said:  # a batch may have one twice: the later is an edit of it
            first.setdefault(one.comment, one)
            last[one.comment] = one
        kept = await self._record(stream, platform, list(first.values()), vocabulary)
        edits = [one for one in last.values() if one.text != first[one.comment].text]
        if edits:
            edited = await self._record(stream, platform, edits, vocabulary)
            for key, (comment, fresh) in edited.items():
                kept[key] = (comment, kept[key][1] if key in kept else fresh)
        await failpoints.reach("comment.recorded")
        return {
            comment.comment: (comment, self._begin(comment, fresh))
            for comment, fresh in kept.values()
        }

    async def _record(
        self, stream: str, platform: str, said: Sequence[Said], vocabulary: Vocabulary
    ) -> dict[str, tuple[Comment, bool]]:
        lines: list[tuple[str, Said, Reading]] = [
            (self._ids.new("cm"), one, vocabulary.read(one.text)) for one in said
        ]
        rows = await self.book.record(stream, platform, lines, LEASE_S)
        fresh = {id_ for id_, _, _ in lines}
        return {key: (comment, comment.id in fresh) for key, comment in rows.items()}

    def _begin(self, comment: Comment, fresh: bool) -> asyncio.Task[Comment] | None:
        """Begin to buy for a comment that nobody else has; return the work on it here."""
        # Who says a line of chat again was not answered; he may not have been told either.
        if comment.state == "unread" and (fresh or comment.platform == CHAT):
            self._teller.answered(comment, [])
        full = self._closing or len(self._under_way) >= UNDER_WAY_MAX
        if fresh and comment.state == "new" and not full:
            self._work(comment)
        return self._under_way.get(comment.id)

    # --- buying ----------------------------------------------------------------------------------

    def _work(self, comment: Comment) -> asyncio.Task[Comment]:
        task = asyncio.get_running_loop().create_task(self._serve(comment))
        self._under_way[comment.id] = task
        task.add_done_callback(lambda ended: self._ended(comment, ended))
        return task

    def _ended(self, comment: Comment, task: asyncio.Task[Comment]) -> None:
        if self._under_way.get(comment.id) is task:
            del self._under_way[comment.id]
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, LedgerAway | OverflowError):
                log.warning("comment %s waits to be taken up: %s", comment.id, error)
            else:
                log.error("comment %s waits to be taken up", comment.id, exc_info=error)

    async def _serve(self, comment: Comment) -> Comment:
        """Buy what a comment asks for, tell its viewer, and note it; or leave it for later."""
        barred = comment.viewer in await self._barred(comment.stream)
        outcomes = await asyncio.gather(*(self._buy(comment, ask, barred) for ask in comment.asks))
        bought = [_answered(*line) for line in zip(comment.asks, outcomes, strict=True)]
        if any(_unsure(answer, comment.tries) for answer, _ in bought):
            return comment  # whoever takes it up asks again, under the same key
        await failpoints.reach("comment.bought")
        answers = tuple(answer for answer, _ in bought)
        served = any(answer.order for answer in answers)
        if served or not comment.manual:
            # Before it is noted: after a crash he is told twice rather than never.
            self._teller.answered(
                comment, [Bought(answer, order, self.link(order)) for answer, order in bought]
            )
        await failpoints.reach("comment.told")
        await self._finishing.get((comment.id, answers))
        return msgspec.structs.replace(
            comment,
            state="done" if served or not comment.manual else "unread",
            answers=list(answers),
        )

    async def _buy(self, comment: Comment, ask: Ask, barred: bool) -> Outcome:
        if barred:
            return Refused(Why.FORBIDDEN)
        if ask.qty > QTY_MAX:
            return Refused(Why.BAD_REQUEST)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._selling.buy(
            Buy(ask.offer, comment.viewer, ask.qty, comment.key, _heard, future, comment.stream)
        )
        return await future

    def link(self, order: Order | None) -> str | None:
        """Return where an order may be paid, None where nowhere."""
        return None if order is None or self._link is None else self._link(order)

    async def _finish(
        self, done: Sequence[tuple[str, tuple[Answer, ...]]]
    ) -> dict[tuple[str, tuple[Answer, ...]], bool]:
        await self.book.finish(done)
        return dict.fromkeys(done, True)

    # --- what was left ---------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(TAKE_UP_EVERY_S)
            await self._quietly(self.take_up())

    async def take_up(self) -> int:
        """Take up what nobody finished in time; return how many. Raises `LedgerAway`."""
        room = min(TAKE_UP_MAX, UNDER_WAY_MAX - len(self._under_way))
        if room <= 0 or not self._selling.ledger_health.well:
            return 0
        found = await self.book.take_up(room, LEASE_S)
        for comment in found:
            if comment.id not in self._under_way:  # else it is slow, and asks again by itself
                self._work(comment)
        return len(found)

    async def _quietly(self, work: Coroutine[object, object, object]) -> None:
        try:
            await work
        except LedgerAway as away:
            log.warning("comments wait to be taken up: %s", away)
        except Exception:
            log.exception("comments could not be taken up")

    # --- the host's queue ------------------------------------------------------------------------

    async def order(self, comment: Comment, ask: Ask) -> Comment | Refused:
        """Buy for an unread comment what the host says; once. Raises `LedgerAway`.

        What is refused (sold out…) is left in the queue. Returned as it is then; still `new` when
        the outcome is not known yet.
        """
        word, now = await self.book.order(comment.id, [ask], LEASE_S)
        if now is None or word not in ("ok", "again"):
            return Refused(Why.NOT_FOUND if now is None else Why.CONFLICT)
        if word == "again":
            task = self._under_way.get(now.id)
            return now if task is None else await asyncio.shield(task)
        return await asyncio.shield(self._work(now))

    async def dismiss(self, comment: Comment) -> Comment | Refused:
        """Take an unread comment out of the queue, and tell its viewer. Raises `LedgerAway`."""
        word, now = await self.book.dismiss(comment.id)
        if now is None or word not in ("ok", "again"):
            return Refused(Why.NOT_FOUND if now is None else Why.CONFLICT)
        if word == "ok":
            self._teller.answered(now, [])
        return now


def _heard(buy: Buy, outcome: Outcome) -> None:
    future: asyncio.Future[Outcome] = buy.tag
    if not future.done():
        future.set_result(outcome)


def _answered(ask: Ask, outcome: Outcome) -> tuple[Answer, Order | None]:
    if isinstance(outcome, Accepted):
        return Answer(ask.offer, ask.qty, order=outcome.order.id), outcome.order
    return Answer(ask.offer, ask.qty, code=outcome.why.value), None


def _unsure(answer: Answer, tries: int) -> bool:
    """Tell whether it is not known yet what becomes of an ask."""
    return answer.code == Why.RETRY or (answer.code == Why.INTERNAL and tries < TRIES_MAX)
