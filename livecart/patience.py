"""How long a caller waits for Postgres, and how long its work may go on behind the answer.

Used by HTTP operations and WebSocket commands alike; buys have limits of their own in `orders`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from streams.codes import Code
from streams.ports import Refused

ANSWER_S = 1.0  # after this the answer is `retry`: Postgres hangs
CHANGE_S = 5.0  # a change goes on behind that answer; only one that is stuck is given up

PROVIDER_S = 20.0  # a payment provider asks banks: its part of a call may take so long
PROVIDER_CHANGE_S = 60.0  # and go on for so long behind the answer

T = TypeVar("T")

log = logging.getLogger("livecart.patience")


async def bounded(work: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Return what the work returns; cut it off and raise `Refused(RETRY)` when it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await work()
    except TimeoutError as error:
        raise Refused(Code.RETRY) from error


def go_on(change: asyncio.Task[Any]) -> None:
    """Leave a change to itself whose caller was told `retry`: that it failed is logged."""
    change.add_done_callback(_ended)


def _ended(change: asyncio.Task[Any]) -> None:
    if not change.cancelled() and (error := change.exception()) is not None:
        log.warning("a change that was answered `retry` failed: %r", error)
