"""Chat of one room on its way into the log: lines gather while one call is under way.

Owns the order in which this hub's lines are appended and the answers to their senders. Must never
know the tail: a sender sees its own line come back as everyone does. Called by session.
"""

from __future__ import annotations

import logging
import secrets

from streams.codes import Code
from streams.log import EventLog, Line, Said, chat_line, removal_line
from streams.permits import shown_name
from streams.ports import Identity, Refused
from streams.protocol import Chat, ChatRemove, Message, Ok
from streams.session import Session
from streams.tasks import Tasks

LINES_WAITING_MAX = 1_000
LINES_PER_CALL_MAX = 100

logger = logging.getLogger("streams.talk")


class Talk:
    """What is being said in one room, through this hub."""

    __slots__ = ("_busy", "_log", "_stream_id", "_tasks", "_waiting")

    def __init__(self, log: EventLog, stream_id: str, tasks: Tasks) -> None:
        self._log = log
        self._stream_id = stream_id
        self._tasks = tasks
        self._waiting: list[tuple[Line, Session, int]] = []
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
                    for (line, session, re), answer in zip(batch, said, strict=True):
                        _answer(line, session, re, answer)
        finally:
            self._busy = False


def new_message(user: Identity, text: str, now_ms: int) -> Message:
    """Return what a user says now."""
    return Message(
        id=f"msg_{secrets.token_urlsafe(12)}",
        user=user.sub,
        name=shown_name(user),
        text=text,
        at=now_ms,
    )


def _refuse(batch: list[tuple[Line, Session, int]], refused: Refused) -> None:
    for _, session, re in batch:
        session.reject(re, refused)


def _answer(line: Line, session: Session, re: int, said: Said | None) -> None:
    if said is None:
        session.reject(re, Refused(Code.NOT_FOUND, field="message"))
        return
    chat = line.same.startswith(b"c")
    session.send(Ok(re=re, message=said.message if chat else None))
