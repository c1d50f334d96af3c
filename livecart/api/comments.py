"""Orders by comment over HTTP: comments of other platforms, and the host's queue of unread ones.

Owns the shapes and who may call; what a comment asks for and what becomes of it is the clerk's. A
stream's own chat needs no call: it comes to the clerk by itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from livecart import views
from livecart.api.bounds import hosted_stream, hosts
from livecart.api.calls import Call, Page, answer_json, listing
from livecart.api.operations import Operation
from livecart.api.problems import Answer
from livecart.auth import SUB_BYTES_MAX
from livecart.commands import refusal
from livecart.patience import ANSWER_S, bounded
from livecart.services import Services
from orders import records
from orders.comments.comment import CHAT, TEXT_CHARS_MAX, Comment, Said, viewer_of
from orders.comments.grammar import Ask
from streams.codes import Code
from streams.ports import Refused
from streams.protocol import LINE, Id, Order, Qty

BATCH_MAX = 100  # comments of one call
SERVE_S = 1.5  # past this a comment is answered `pending`: it is bought for behind the answer
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # of no use in a queue, nor in a terminal

Platform = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}\Z")]
Text = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
Name = Annotated[str, Meta(max_length=128, pattern=LINE)]
#: A relay's clock, in ms: until the year 2100.
SaidAt = Annotated[int, Meta(ge=0, le=4_102_444_800_000)]
State = Literal["new", "unread", "done", "dismissed"]


class NewComment(msgspec.Struct, kw_only=True):
    """What somebody wrote elsewhere: `id` and `user` as the platform has them."""

    platform: Platform
    id: Id
    user: Id
    text: Text
    name: Name | None = None
    at: SaidAt | None = None


class NewComments(msgspec.Struct, kw_only=True):
    """Comments as they came, each perhaps sent before."""

    comments: Annotated[list[NewComment], Meta(min_length=1, max_length=BATCH_MAX)]


class CommentLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Units of one offer that were asked for: the order, or the code of why there is none."""

    offer: str
    qty: int
    order: Order | None = None
    code: str | None = None
    link: str | None = None  # where the order may be paid


class CommentOutcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of one comment: `talk` asks for nothing, `pending` is still being bought for.

    `unread` is in the host's queue, `why` says what it is.
    """

    platform: str
    id: str
    outcome: Literal["talk", "pending", "done", "unread", "dismissed"]
    comment: str | None = None  # its id here
    why: str | None = None
    lines: list[CommentLine] | None = None


class CommentOutcomes(msgspec.Struct, kw_only=True):
    """One outcome for each comment, in the order in which they came."""

    comments: list[CommentOutcome]


class SeenComment(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A comment as the host sees it; `viewer` is whom its orders are for."""

    id: str
    stream: str
    platform: str
    comment: str
    viewer: str
    text: str
    at: int
    state: State
    name: str | None = None
    said_at: int | None = None
    why: str | None = None
    edited: str | None = None  # the last other text that came under its id; not obeyed
    edits: int = 0
    lines: list[CommentLine] | None = None


class CommentsQuery(Page, kw_only=True):
    """Which comments to list."""

    state: State = "unread"


class CommentReading(msgspec.Struct, kw_only=True):
    """What a comment asks for, as the host reads it."""

    offer: Id
    qty: Qty


async def take(call: Call, body: NewComments) -> Answer:
    """Take comments of other platforms; each is committed before this answers, and orders once.

    `pending`, or no answer: send the same again.
    """
    stream, _ = await bounded(partial(hosted_stream, call), ANSWER_S)
    clerk = call.services.clerk
    by_platform: dict[str, list[Said]] = {}
    for n, one in enumerate(body.comments):
        by_platform.setdefault(one.platform, []).append(_said(n, one))
    kept: dict[tuple[str, str], Comment] = {}
    working: dict[tuple[str, str], asyncio.Task[Comment]] = {}
    for platform, said in by_platform.items():
        taken = await bounded(partial(clerk.take, stream, platform, said), ANSWER_S)
        for id_, (comment, work) in taken.items():
            kept[platform, id_] = comment
            if work is not None:
                working[platform, id_] = work
    if working:
        await asyncio.wait(set(working.values()), timeout=SERVE_S)
    for where, work in working.items():
        if work.done() and not work.cancelled() and work.exception() is None:
            kept[where] = work.result()
    found = await bounded(partial(_orders, call.services, list(kept.values())), ANSWER_S)
    outcomes = [
        _outcome(call.services, one, kept.get((one.platform, one.id)), found)
        for one in body.comments
    ]
    return answer_json(CommentOutcomes(comments=outcomes))


async def listed(call: Call) -> dict[str, Any]:
    """List a stream's comments that asked for something, newest first."""
    query: CommentsQuery = call.query
    limit = query.size
    stream, _ = await hosted_stream(call)
    found = await call.services.clerk.book.page(stream, query.state, query.before, limit + 1)
    return listing(found, await _shown(call.services, found), limit)


async def order(call: Call, body: CommentReading) -> SeenComment:
    """Order for who wrote an unread comment; refused, it stays in the queue."""
    comment = await _hosted(call)
    now = await call.services.clerk.order(comment, Ask(body.offer, body.qty))
    if isinstance(now, records.Refused):
        raise refusal(now)
    if now.state == "new":
        raise Refused(Code.RETRY)
    if now.state == "unread" and now.answers:
        raise refusal(records.Refused(records.Why(now.answers[0].code or "internal")))
    return (await _shown(call.services, [now]))[0]


async def dismiss(call: Call) -> SeenComment:
    """Take an unread comment out of the queue."""
    now = await call.services.clerk.dismiss(await _hosted(call))
    if isinstance(now, records.Refused):
        raise refusal(now)
    return (await _shown(call.services, [now]))[0]


async def _hosted(call: Call) -> Comment:
    """Return the path's comment; another shop's is not found."""
    comment = await call.services.clerk.book.comment(call.id())
    if comment is not None:
        shop = await call.services.catalog.shop_of(comment.stream)
        if shop is not None and hosts(call.identity, shop, comment.stream):
            return comment
    raise Refused(Code.NOT_FOUND)


def _said(n: int, one: NewComment) -> Said:
    if one.platform == CHAT:
        what = "The stream's own chat is heard by itself"
        raise Refused(Code.BAD_REQUEST, what, field=f"comments[{n}].platform")
    viewer = viewer_of(one.platform, one.user)
    if len(viewer.encode()) > SUB_BYTES_MAX:
        what = f"Expected at most {SUB_BYTES_MAX} bytes, with the platform and a colon"
        raise Refused(Code.BAD_REQUEST, what, field=f"comments[{n}].user")
    text = _CONTROLS.sub(" ", one.text)
    return Said(comment=one.id, viewer=viewer, text=text, name=one.name, at=one.at)


async def _orders(services: Services, comments: Sequence[Comment]) -> dict[str, records.Order]:
    ids = [a.order for comment in comments for a in comment.answers if a.order is not None]
    return {one.id: one for one in await services.ledger.orders(ids)} if ids else {}


async def _shown(services: Services, comments: Sequence[Comment]) -> list[SeenComment]:
    found = await _orders(services, comments)
    return [
        SeenComment(
            id=one.id,
            stream=one.stream,
            platform=one.platform,
            comment=one.comment,
            viewer=one.viewer,
            text=one.text,
            at=one.at,
            state=one.state,
            name=one.name,
            said_at=one.said_at,
            why=one.why,
            edited=one.edited,
            edits=one.edits,
            lines=_lines(services, one, found),
        )
        for one in comments
    ]


def _outcome(
    services: Services, said: NewComment, comment: Comment | None, found: dict[str, records.Order]
) -> CommentOutcome:
    if comment is None:
        return CommentOutcome(platform=said.platform, id=said.id, outcome="talk")
    return CommentOutcome(
        platform=said.platform,
        id=said.id,
        outcome="pending" if comment.state == "new" else comment.state,
        comment=comment.id,
        why=comment.why,
        lines=_lines(services, comment, found),
    )


def _lines(
    services: Services, comment: Comment, found: dict[str, records.Order]
) -> list[CommentLine] | None:
    lines: list[CommentLine] = []
    for answer in comment.answers:
        order_ = None if answer.order is None else found.get(answer.order)
        lines.append(
            CommentLine(
                offer=answer.offer,
                qty=answer.qty,
                order=None if order_ is None else views.order(order_),
                code=answer.code,
                link=services.clerk.link(order_),
            )
        )
    return lines or None


_OF_ITS_STATE = (Code.NOT_FOUND, Code.CONFLICT)

OPERATIONS = (
    Operation(
        method="POST", path="/v1/streams/{id}/comments", handle=take, who="host",
        summary="Take comments of other platforms", body=NewComments, result=CommentOutcomes,
        bounded=True, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="GET", path="/v1/streams/{id}/comments", handle=listed, who="host",
        summary="List comments that asked for something: unread ones, unless a state is named",
        query=CommentsQuery, result=SeenComment,
        listed=True, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="POST", path="/v1/comments/{id}/order", handle=order, who="host",
        summary="Order for who wrote an unread comment", body=CommentReading, result=SeenComment,
        refusals=(
            *_OF_ITS_STATE, Code.NOT_LIVE, Code.NOT_OPEN, Code.CLOSED, Code.SOLD_OUT,
            Code.LIMIT_REACHED, Code.KEY_REUSED,
        ),
    ),
    Operation(
        method="POST", path="/v1/comments/{id}/dismiss", handle=dismiss, who="host",
        summary="Take an unread comment out of the queue", result=SeenComment,
        refusals=_OF_ITS_STATE,
    ),
)  # fmt: skip
