"""Chat of one room on its way into the log: lines gather while one call is under way.

Owns the order in which this hub's lines are appended and the answers to their senders; lines that a
clerk heeds are answered once he has them, and hold up no other. Must never know the tail: a sender
sees its own line come back as everyone does. Called by session.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence

from streams.codes import Code
from streams.log import EventLog, Line, Said, chat_line, removal_line
from streams.permits import shown_name
from streams.ports import Clerk, Identity, Refused
from streams.protocol import Chat, ChatRemove, Chatted, Message, Ok
from streams.session import Session
from streams.tasks import Tasks

LINES_WAITING_MAX = 1_000
LINES_PER_CALL_MAX = 100
LINES_HEARD_MAX = 2_000  # that the clerk is being told of
HEAR_S = 1.0  # past this a line's sender is told `retry`

Asked = tuple[Line, Session, int]  # and what its sender waits for an answer to

logger = logging.getLogger("streams.talk")


class Talk:
    """What is being said in one room, through this hub."""

    __slots__ = ("_busy", "_clerk", "_heard", "_log", "_stream_id", "_tasks", "_waiting")

    def __init__(
        self, log: EventLog, stream_id: str, tasks: Tasks, clerk: Clerk | None = None
    ) -> None:
        self._log = log
        self._clerk = clerk
        self._heard = 0  # lines that the clerk is being told of
        self._stream_id = stream_id
        self._tasks = tasks
        self._waiting: list[Asked] = []
        self._busy = False

    def say(self, session: Session, command: Chat, now_ms: int) -> None:
        """Append a message; answers `ok` with the message that the log has under this key."""
        user = session.identity
        message = new_message(user, command.text, now_ms)
        self._append(chat_line(user.sub, command.key, message), session, command.id)

    def remove(self, session: Session, command: ChatRemove, now_ms: int) -> None:
        """Append the removal of a message; answers `ok`, or that there is none."""
        self._append(removal_line(command.message, now_ms), session, command.id)

    def _append(self, line: Line, session: Session, re: int) -> None:
        if len(self._waiting) >= LINES_WAITING_MAX:
            session.reject(re, Refused(Code.RATE_LIMITED, retry_after_ms=1_000))
            return
        self._waiting.append((line, session, re))
        if not self._busy:
            self._busy = True
            self._tasks.spawn(self._work(), f"talk {self._stream_id}")

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:LINES_PER_CALL_MAX]
                del self._waiting[:LINES_PER_CALL_MAX]
                try:
                    said = await self._log.append_lines(self._stream_id, [b[0] for b in batch])
                except Refused as refused:
                    _refuse(batch, refused)
                except Exception:
                    logger.exception("%d lines of %s failed", len(batch), self._stream_id)
                    _refuse(batch, Refused(Code.INTERNAL))
                else:
                    self._answer(batch, said)
        finally:
            self._busy = False

    def _answer(self, batch: list[Asked], said: Sequence[Said | None]) -> None:
        heeded: list[tuple[Asked, Said]] = []
        for asked, answer in zip(batch, said, strict=True):
            if answer is not None and self._heeds(asked, answer):
                heeded.append((asked, answer))
            else:
                _answer(*asked, answer)
        if heeded and self._clerk is not None:
            self._heard += len(heeded)
            self._tasks.spawn(self._hear(self._clerk, heeded), f"hear {self._stream_id}")

    def _heeds(self, asked: Asked, said: Said) -> bool:
        """Tell whether the clerk wants a line, of which the log may have had an earlier one."""
        line, session, _ = asked
        if self._clerk is None or not isinstance(line.event, Chatted):
            return False
        return self._clerk.heeds(self._stream_id, session.identity, said.message.text)

    async def _hear(self, clerk: Clerk, heeded: list[tuple[Asked, Said]]) -> None:
        """Answer lines once the clerk has them; the log has them already."""
        lines = [(asked[1].identity, said.message) for asked, said in heeded]
        try:
            if self._heard > LINES_HEARD_MAX:
                raise Refused(Code.RETRY)
            async with asyncio.timeout(HEAR_S):
                await clerk.hear(self._stream_id, lines)
        except (Refused, TimeoutError) as error:
            refused = error if isinstance(error, Refused) else Refused(Code.RETRY)
            _refuse([asked for asked, _ in heeded], refused)
        except Exception:
            logger.exception("%d lines of %s were not heard", len(lines), self._stream_id)
            _refuse([asked for asked, _ in heeded], Refused(Code.INTERNAL))
        else:
            for asked, said in heeded:
                _answer(*asked, said)
        finally:
            self._heard -= len(heeded)


def new_message(user: Identity, text: str, now_ms: int) -> Message:
    """Return what a user says now."""
    return Message(
        id=f"msg_{secrets.token_urlsafe(12)}",
        user=user.sub,
        name=shown_name(user),
        text=text,
        at=now_ms,
    )


def _refuse(batch: Sequence[Asked], refused: Refused) -> None:
    for _, session, re in batch:
        session.reject(re, refused)


def _answer(line: Line, session: Session, re: int, said: Said | None) -> None:
    if said is None:
        session.reject(re, Refused(Code.NOT_FOUND, field="message"))
        return
    chat = line.same.startswith(b"c")
    session.send(Ok(re=re, message=said.message if chat else None))
