"""Chat that a clerk heeds, on a real Redis: he has it before its sender is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from streams.codes import Code
from streams.ports import Identity, Refused
from streams.protocol import CommentOrder, Message
from tests.hub_rig import Truth, open_stage


class Heeding:
    """A clerk of lines with a plus, who is told when he may go on."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.go = asyncio.Event()
        self.refused: Refused | None = None

    def heeds(self, stream_id: str, user: Identity, text: str) -> bool:
        return "+" in text

    async def hear(self, stream_id: str, lines: Sequence[tuple[Identity, Message]]) -> None:
        self.heard += [(user.sub, message.text) for user, message in lines]
        await self.go.wait()
        if self.refused is not None:
            raise self.refused


async def test_a_line_is_answered_once_the_clerk_has_it(redis_url: str) -> None:
    """Everybody reads it at once, other lines are answered meanwhile, and its sender after him."""
    clerk = Heeding()
    async with open_stage(redis_url, Truth(fact_n=0), clerk=clerk) as stage:
        ann, bob = await stage.enter("viewer/ann"), await stage.enter("viewer/bob")
        asked = ann.say("chat", text="A01+1", key="a")
        await bob.get("chat", 1)
        assert (await bob.answer(bob.say("chat", text="hi", key="b")))["type"] == "ok"
        assert clerk.heard == [("ann", "A01+1")]
        assert all(event.get("re") != asked for event in ann.events)
        clerk.go.set()
        answer = await ann.answer(asked)
        assert answer["message"]["text"] == "A01+1"


async def test_a_line_that_may_be_lost_is_said_again(redis_url: str) -> None:
    """Told `retry`, its sender says the same again, and the clerk hears what the log has of it."""
    clerk = Heeding()
    clerk.go.set()
    clerk.refused = Refused(Code.RETRY)
    async with open_stage(redis_url, Truth(fact_n=0), clerk=clerk) as stage:
        ann = await stage.enter("viewer/ann")
        refused = await ann.answer(ann.say("chat", text="A01+1", key="a"))
        assert (refused["type"], refused["code"]) == ("reject", "retry")
        clerk.refused = None
        again = await ann.answer(ann.say("chat", text="A01+9", key="a"))
        assert again["message"]["text"] == "A01+1"
        assert clerk.heard == [("ann", "A01+1")] * 2
        assert len(ann.of("chat")) == 1


async def test_a_clerk_who_hangs_holds_up_nobody(redis_url: str) -> None:
    """Past its time a line is told `retry`; what he was told of is bounded, and then freed."""
    clerk = Heeding()
    async with open_stage(redis_url, Truth(fact_n=0), clerk=clerk) as stage:
        ann = await stage.enter("viewer/ann")
        refused = await ann.answer(ann.say("chat", text="A01+1", key="a"))
        assert (refused["type"], refused["code"]) == ("reject", "retry")
        room = stage.hub.rooms[stage.truth.stream_id]
        assert room.talk._heard == 0


async def test_an_answer_to_a_comment_crosses_hubs(redis_url: str) -> None:
    """`comment.order` reaches its viewer on every hub, and nobody else."""
    async with (
        open_stage(redis_url, Truth(fact_n=0)) as stage,
        open_stage(redis_url, stage.truth) as other,
    ):
        here, there = await stage.enter("viewer/ann"), await other.enter("viewer/ann")
        bob = await other.enter("viewer/bob")
        event = CommentOrder(comment="msg_1", code="sold_out", offer="of_1", qty=2)
        stage.hub.private(stage.truth.stream_id, [("ann", event, None)])
        for screen in (here, there):
            told = await screen.get("comment.order")
            assert (told["comment"], told["code"], told["qty"]) == ("msg_1", "sold_out", 2)
        assert (await bob.answer(bob.say("chat", text="hi", key="b")))["type"] == "ok"
        assert bob.of("comment.order") == []
