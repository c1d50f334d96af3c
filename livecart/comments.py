"""Chat on its way to the clerk, and the clerk's answers on their way to viewers.

Implements `streams.ports.Clerk` and `orders.comments.clerk.Teller`. Owns what is remembered of each
stream's keywords, so that a stream without any costs chat one look into a dict; the clerk reads
each line that matters anew. Knows no SQL. Built by `app`; called by hub, routes and clerk.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from livecart import views
from livecart.announce import Item, Teller
from livecart.links import Links, path_of
from livecart.rooms import Rooms
from orders.comments.clerk import Clerk
from orders.comments.comment import CHAT, Bought, Comment, Said
from orders.comments.grammar import Vocabulary
from orders.ledger.ledger import LedgerAway
from orders.records import Order
from streams.codes import Code
from streams.ports import Identity, Refused
from streams.protocol import CommentOrder, Message
from streams.tasks import Tasks

WORDS_AGE_S = 1.0  # how long after a live show got a new keyword chat may not know it
WORDS_KEPT_MAX = 1_000  # streams whose keywords are remembered

T = TypeVar("T")


class ChatClerk:
    """Hears chat for the clerk."""

    def __init__(self) -> None:
        self._clerk: Clerk | None = None  # set by `attach`, before anybody connects
        self._words: dict[str, tuple[Vocabulary, float]] = {}  # by stream, until monotonic time
        self._reading: set[str] = set()  # streams whose words are read behind the old ones
        self._tasks = Tasks("comments")

    def attach(self, clerk: Clerk) -> None:
        """Bring lines to this clerk."""
        self._clerk = clerk

    async def close(self) -> None:
        """End what is under way."""
        await self._tasks.close()

    def heeds(self, stream_id: str, user: Identity, text: str) -> bool:
        """Tell whether a line may ask for units; while its stream's words are not known, it may.

        Hosts say what viewers are to write: theirs are no orders.
        """
        if user.role != "viewer":
            return False
        known = self._words.get(stream_id)
        if known is None:
            return True
        words, until = known
        if until <= time.monotonic() and stream_id not in self._reading:
            self._reading.add(stream_id)
            self._tasks.spawn(self._read_behind(stream_id), "words", expected=Refused)
        return not words.empty and words.read(text) is not None

    async def hear(self, stream_id: str, lines: Sequence[tuple[Identity, Message]]) -> None:
        """Have the clerk keep lines, and buy for them behind this; raise `Refused(RETRY)`."""
        if self._clerk is None:
            return
        if stream_id not in self._words:
            await self._read(stream_id)
        said = [
            Said(comment=line.id, viewer=line.user, text=line.text, name=line.name, at=line.at)
            for user, line in lines
            if self.heeds(stream_id, user, line.text)
        ]
        if said:
            await _or_retry(self._clerk.take(stream_id, CHAT, said))

    async def _read_behind(self, stream_id: str) -> None:
        try:
            await self._read(stream_id)
        finally:
            self._reading.discard(stream_id)

    async def _read(self, stream_id: str) -> None:
        if self._clerk is None:
            return
        words = await _or_retry(self._clerk.vocabulary(stream_id))
        if len(self._words) >= WORDS_KEPT_MAX:
            self._words.clear()
        self._words[stream_id] = (words, time.monotonic() + WORDS_AGE_S)


class CommentTeller:
    """Tells viewers what became of what they wrote."""

    def __init__(self) -> None:
        self._teller: Teller | None = None  # set by `attach`, before anything is taken

    def attach(self, teller: Teller) -> None:
        """Tell through this; the hub is built after what it is told by."""
        self._teller = teller

    def answered(self, comment: Comment, bought: Sequence[Bought]) -> None:
        """Tell the viewer on all his connections to the stream."""
        if self._teller is not None:
            items: list[Item] = [
                (comment.viewer, event, None) for event in _events(comment, bought)
            ]
            self._teller.private(comment.stream, items)


def pay_links(links: Links, ttl_s: int) -> Callable[[Order], str | None]:
    """Return how the clerk makes the path under which an order may be paid, without an account."""

    def link(order: Order) -> str | None:
        if order.status != "reserved" or not links.made:
            return None
        token, _ = links.issue(order.viewer, [order.id], ttl_s)
        return path_of(token)

    return link


def barred_from(rooms: Rooms) -> Callable[[str], Awaitable[frozenset[str]]]:
    """Return how the clerk asks who is banned from a stream."""

    async def barred(stream: str) -> frozenset[str]:
        try:
            return await rooms.banned(stream)
        except Refused as refused:
            raise LedgerAway(str(refused)) from refused

    return barred


def _events(comment: Comment, bought: Sequence[Bought]) -> list[CommentOrder]:
    if not bought:
        code = "dismissed" if comment.state == "dismissed" else comment.why
        return [CommentOrder(comment=comment.comment, code=code)]
    return [
        CommentOrder(comment=comment.comment, order=views.order(one.order), link=one.link)
        if one.order is not None
        else CommentOrder(
            comment=comment.comment,
            code=one.answer.code,
            offer=one.answer.offer,
            qty=one.answer.qty,
        )
        for one in bought
    ]


async def _or_retry(work: Awaitable[T]) -> T:
    try:
        return await work
    except (LedgerAway, OverflowError) as error:
        raise Refused(Code.RETRY) from error
