"""The sequenced event log in Redis: number, append once, recover (I7, R2, R5, R9).

Owns the keys `{log:00}`…`{log:63}` and the scripts in `lua/`. Two sequences a stream and epoch,
main and chat; numbering and appending are one script. It is a cache with a stated retention: when
Redis loses it, a new epoch begins inside the next script that touches the stream. Must never know a
socket or SQL. Called by hub and rooms, and by livecart, which publishes committed facts here.

Every method raises `Refused(RETRY)` when Redis is away, hangs or is loading.
"""

from __future__ import annotations

import logging
import secrets
import zlib
from collections.abc import Mapping, Sequence
from typing import cast

import msgspec

from streams.calls import CALL_TIMEOUT_S, Arg, Caller, Client, Reply, Script
from streams.metrics import LOG_APPENDS
from streams.ports import Fact
from streams.protocol import (
    AnyChat,
    AnyMain,
    AnySequenced,
    ChatEvent,
    ChatRemoved,
    Chatted,
    Event,
    Main,
    Message,
    Since,
)

TAGS = 64
KEYS_PER_CALL_MAX = 200  # streams in one `positions` call: keeps each script call short

logger = logging.getLogger("streams.log")
_encode = msgspec.msgpack.Encoder().encode
_main = msgspec.msgpack.Decoder(AnyMain)
_chat = msgspec.msgpack.Decoder(AnyChat)


class LogLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the log; livecart.settings fills them in."""

    main_entries_max: int = 2_000
    chat_entries_max: int = 2_000
    tail_entries_max: int = 10_000
    retention_ms: int = 24 * 3600 * 1000  # since the last write, or since the last viewer was there
    facts_per_call_max: int = 500
    call_timeout_s: float = CALL_TIMEOUT_S


class Position(msgspec.Struct, frozen=True):
    """How far a stream's log is."""

    epoch: str
    seq: int
    cseq: int
    fact_n: int  # the last fact in it; -1: none yet, and none known to come next
    base_n: int  # the fact before its first one

    def since(self) -> Since:
        """Return it as a client would say it."""
        return Since(epoch=self.epoch, seq=self.seq, cseq=self.cseq)


class Logged(msgspec.Struct, frozen=True):
    """One entry of the log, its event carrying `seq` or `cseq`."""

    epoch: str
    event: AnySequenced
    n: int = 0  # of a main event: its fact
    size: int = 0  # bytes of its payload


class Said(msgspec.Struct, frozen=True):
    """What the log has of one chat line: the first message under its key."""

    message: Message
    cseq: int
    new: bool


class Line(msgspec.Struct, frozen=True):
    """One chat event to append, and what makes it the same when sent again."""

    same: bytes
    event: AnyChat


def tag_of(stream_id: str) -> str:
    """Return the hash tag that a stream's keys carry; the same in every process and release."""
    return f"{{log:{zlib.crc32(stream_id.encode()) % TAGS:02d}}}"


def tail_key(tag: str) -> str:
    """Return the key of the stream that every append under a tag is also written to."""
    return f"{tag}:tail"


def chat_line(user: str, key: str, message: Message) -> Line:
    """Return a message as a line; the same user and key are the same line."""
    name = user.encode()
    same = b"c%d:%b:%b" % (len(name), name, key.encode())  # R5: lengths, no separator to forge
    return Line(same, Chatted(at=message.at, message=message))


def removal_line(message_id: str, at: int) -> Line:
    """Return the removal of a message as a line; a second removal says nothing new."""
    return Line(b"r" + message_id.encode(), ChatRemoved(at=at, message=message_id))


class EventLog:
    """The log of every stream, as one process sees it."""

    def __init__(self, redis: Client, limits: LogLimits | None = None) -> None:
        self.limits = limits or LogLimits()
        self.caller = Caller(redis, self.limits.call_timeout_s)
        self._append_facts = Script("append_facts")
        self._append_chat = Script("append_chat")
        self._positions = Script("positions")
        self._since = Script("since")
        self._recent = Script("recent")
        self._settle = Script("settle")
        self._begin = Script("begin")

    async def close(self) -> None:
        """Wait for the calls under way; before the client is closed."""
        await self.caller.close()

    # --- writing ------------------------------------------------------------------------------

    async def append_facts(self, stream_id: str, facts: Sequence[Fact]) -> int:
        """Append those not appended yet, in order of `n`; return the highest `n` the log has.

        A number below the last one given means a gap: nothing was appended, read the facts again
        from there. `facts` have contiguous `n`; -1 is returned for none in an untouched log.
        """
        if any(fact.n != facts[0].n + i for i, fact in enumerate(facts)):
            raise ValueError("facts must have contiguous n")
        if not facts:
            return (await self.position(stream_id)).fact_n
        limits, highest = self.limits, -1
        for start in range(0, len(facts), limits.facts_per_call_max):
            part = facts[start : start + limits.facts_per_call_max]
            LOG_APPENDS.inc(len(part))
            args: list[Arg] = [limits.main_entries_max, limits.tail_entries_max, stream_id]
            args.append(part[0].n)
            args.extend(_encode(fact.event) for fact in part)
            keys = [*_keys(stream_id), tail_key(tag_of(stream_id))]
            reply = await self._run(self._append_facts, keys, args)
            highest = cast("list[int]", reply)[0]
            if highest < part[-1].n:
                break
        return highest

    async def append_chat(self, stream_id: str, user: str, key: str, message: Message) -> Said:
        """Append a message, or return the one that this user and key said first."""
        said = (await self.append_lines(stream_id, [chat_line(user, key, message)]))[0]
        assert said is not None  # only a removal can be of nothing
        return said

    async def append_chat_removed(self, stream_id: str, message_id: str, at: int) -> bool:
        """Append the removal of a message, once; False when the log does not hold the message."""
        return (await self.append_lines(stream_id, [removal_line(message_id, at)]))[0] is not None

    async def append_lines(self, stream_id: str, lines: Sequence[Line]) -> list[Said | None]:
        """Append chat lines in their order, in one call; return what the log has of each.

        None: the removal of a message that the log does not hold.
        """
        LOG_APPENDS.inc(len(lines))
        limits = self.limits
        args: list[Arg] = [limits.chat_entries_max, limits.tail_entries_max, stream_id]
        for line in lines:
            args += (line.same, _encode(line.event), _message_id(line.event))
        keys = [*_keys(stream_id), tail_key(tag_of(stream_id))]
        replies = cast(
            "list[tuple[int, bytes, int]]", await self._run(self._append_chat, keys, args)
        )
        answers: list[Said | None] = []
        for line, (cseq, payload, new) in zip(lines, replies, strict=True):
            if cseq == 0:
                answers.append(None)
                continue
            held = line.event if new else _chat.decode(payload)
            message = held.message
            if isinstance(message, str):  # a removal: there is no text to give back
                message = Message(id=message, user="", name="", text="", at=held.at)
            answers.append(Said(message, cseq, bool(new)))
        return answers

    # --- reading ------------------------------------------------------------------------------

    async def position(self, stream_id: str) -> Position:
        """Return how far the log of a stream is; begins its epoch where it has none."""
        return (await self.positions(tag_of(stream_id), [stream_id]))[1][0]

    async def positions(self, tag: str, stream_ids: Sequence[str]) -> tuple[str, list[Position]]:
        """Return the last id of a tag's tail (or '') and the positions of streams of that tag."""
        newest, positions = "", []
        for start in range(0, len(stream_ids), KEYS_PER_CALL_MAX):
            part = stream_ids[start : start + KEYS_PER_CALL_MAX]
            keys = [tail_key(tag), *(key for stream_id in part for key in _keys(stream_id))]
            args: list[Arg] = [self.limits.retention_ms, *(_fresh_epoch() for _ in part)]
            reply = await self.caller.script(self._positions, keys, args)
            tail, *rest = cast("list[Reply]", reply)
            newest = cast("bytes", tail).decode()
            positions += [_position(head) for head in rest]
        return newest, positions

    async def since(self, stream_id: str, since: Since) -> list[Logged] | None:
        """Return everything after a position, main before chat, or None if not all is held."""
        args: list[Arg] = [since.epoch, since.seq, since.cseq]
        reply = cast("list[Reply]", await self._run(self._since, _keys(stream_id), args))
        if len(reply) < 7:
            return None
        try:
            return _entries(since.epoch, reply[5], _main) + _entries(since.epoch, reply[6], _chat)
        except msgspec.MsgspecError:  # written by a newer release: to be skipped as a whole
            logger.exception("an entry of %s cannot be read; its log counts as lost", stream_id)
            return None

    async def recent(
        self, stream_id: str, entries_max: int, bytes_max: int
    ) -> tuple[Position, list[Logged]]:
        """Return the position and the newest entries that lead up to it without a gap.

        Of each sequence at most so many, and no more once their payloads have so many bytes.
        """
        reply = cast(
            "list[Reply]", await self._run(self._recent, _keys(stream_id), [entries_max, bytes_max])
        )
        position = _position(reply)
        entries: list[Logged] = []
        for held, decoder, head in (
            (reply[5], _main, position.seq),
            (reply[6], _chat, position.cseq),
        ):
            try:
                part = _entries(position.epoch, held, decoder)
            except msgspec.MsgspecError:
                logger.exception("an entry of %s cannot be read", stream_id)
                part = []
            if part and _number(part[0].event) == head:  # newest first
                entries += reversed(part)
        return position, entries

    async def settle(self, stream_id: str, epoch: str, fact_n: int) -> Position:
        """Tell which facts a snapshot of this epoch has, where the log does not know it yet."""
        reply = await self._run(self._settle, _keys(stream_id), [epoch, fact_n])
        return _position(reply)

    async def begin(self, stream_id: str, doubted_epoch: str) -> Position:
        """Begin a new epoch unless somebody did already; return the position."""
        return _position(await self._run(self._begin, _keys(stream_id), [doubted_epoch]))

    async def _run(self, script: Script, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
        first: list[Arg] = [_fresh_epoch(), self.limits.retention_ms]
        return await self.caller.script(script, keys, [*first, *args])


def read_tail(fields: Mapping[bytes, bytes]) -> Logged | None:
    """Return one entry of a tail, None when it cannot be read (its room finds the gap)."""
    epoch, payload = fields[b"e"].decode(), fields[b"d"]
    try:
        if (seq := fields.get(b"q")) is not None:
            main = _main.decode(payload)
            main.seq = int(seq)
            return Logged(epoch, main, int(fields[b"n"]), len(payload))
        chat = _chat.decode(payload)
        chat.cseq = int(fields[b"c"])
        return Logged(epoch, chat, size=len(payload))
    except msgspec.MsgspecError:
        logger.exception("an entry of a tail cannot be read")
        return None


def _number(event: Event) -> int:
    if isinstance(event, Main):
        return event.seq
    assert isinstance(event, ChatEvent)
    return event.cseq


def _message_id(event: AnyChat) -> str:
    return event.message if isinstance(event, ChatRemoved) else event.message.id


def _fresh_epoch() -> str:
    return secrets.token_urlsafe(9)


def _keys(stream_id: str) -> list[str]:
    tag = tag_of(stream_id)
    return [f"{tag}:{stream_id}:{part}" for part in ("meta", "main", "chat", "said")]


def _position(reply: Reply) -> Position:
    epoch, seq, cseq, fact_n, base_n = cast("list[Reply]", reply)[:5]
    numbers = cast("tuple[int, int, int, int]", (seq, cseq, fact_n, base_n))
    return Position(cast("bytes", epoch).decode(), *numbers)


def _entries(
    epoch: str,
    reply: Reply,
    decoder: msgspec.msgpack.Decoder[AnyMain] | msgspec.msgpack.Decoder[AnyChat],
) -> list[Logged]:
    entries = []
    for entry_id, fields in cast("list[tuple[bytes, list[bytes]]]", reply):
        payload = fields[3]  # main: n, fact, d, payload; chat: k, field, d, payload…
        event = decoder.decode(payload)
        number = int(entry_id.partition(b"-")[0])
        if isinstance(event, Main):
            event.seq = number
            entries.append(Logged(epoch, event, int(fields[1]), len(payload)))
        else:
            event.cseq = number
            entries.append(Logged(epoch, event, size=len(payload)))
    return entries
