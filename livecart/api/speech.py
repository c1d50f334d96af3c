"""Chat and reactions over HTTP, for viewers whose events come by `events`.

The rules are those of the WebSocket; who may speak is `streams.permits`'.
"""

from __future__ import annotations

import msgspec

from livecart.api.calls import Call, answer_json
from livecart.api.operations import Operation
from livecart.api.orders import entered
from livecart.api.problems import Answer
from streams.codes import Code
from streams.permits import may_speak
from streams.ports import Refused
from streams.protocol import ChatText, Message, ReactionCount, ReactionKind
from streams.talk import new_message


class NewMessage(msgspec.Struct, kw_only=True):
    """What to say."""

    text: ChatText


class NewReaction(msgspec.Struct, kw_only=True):
    """How to react, and how often at once; without `n`, once."""

    kind: ReactionKind
    n: ReactionCount | None = None


async def say(call: Call, body: NewMessage) -> Answer:
    """Say something to everybody; 200 when an earlier call with this key said it."""
    stream, identity, services = call.id(), call.caller, call.services
    shop = await services.catalog.shop_of(stream)
    if shop is None:
        raise Refused(Code.NOT_FOUND)
    await entered(services, identity, stream)
    if not may_speak(identity, shop):
        raise Refused(Code.FORBIDDEN)
    now_ms = services.clock.now_ms()
    standing = await services.rooms.standing(stream, identity.sub)
    if standing.banned:  # just now: `entered` may not know of it yet
        raise Refused(Code.FORBIDDEN, "You are banned from this stream.")
    if standing.muted_until_ms > now_ms:
        raise Refused(Code.MUTED)
    if wait_ms := await services.hub.turn_ms(stream, identity, call.key):
        raise Refused(Code.RATE_LIMITED, "Slow mode.", retry_after_ms=wait_ms)
    message = new_message(identity, body.text, now_ms)
    said = await services.events.append_chat(stream, identity.sub, call.key, message)
    if services.ear.heeds(stream, identity, said.message.text):
        await services.ear.hear(stream, [(identity, said.message)])
    return answer_json(said.message, 201 if said.new else 200)


async def react(call: Call, body: NewReaction) -> None:
    """React; guests may too, and all of one address are counted as one."""
    stream = call.id()
    if call.identity is not None:
        await entered(call.services, call.identity, stream)
    await call.services.hub.react(stream, body.kind, 1 if body.n is None else body.n)


OPERATIONS = (
    Operation(
        method="POST", path="/v1/streams/{id}/chat", handle=say, who="member", status=201,
        summary="Chat", body=NewMessage, result=Message, keyed=True, replays=True, paced="chat",
        refusals=(Code.NOT_FOUND, Code.MUTED),
    ),
    Operation(
        method="POST", path="/v1/streams/{id}/reactions", handle=react, who="anyone", status=204,
        summary="React", body=NewReaction, paced="react",
        refusals=(Code.FORBIDDEN, Code.NOT_FOUND),
    ),
)  # fmt: skip
