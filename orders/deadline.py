"""Waiting with a deadline that a busy event loop does not mistake for a silent server.

Called by selling for every answer of Redis and Postgres that a buyer waits for. And how a loop ends
that has no end of its own; called by the keeper and by whoever leads it.
"""

from __future__ import annotations

import asyncio
from typing import Any

LATE_S = 0.05  # a loop that wakes so much later than it asked was busy itself


async def within(call: asyncio.Future[Any], seconds: float) -> bool:
    """Wait until the call is done or the time is over; tell whether it is done.

    Timers run before sockets are read: a loop that was itself late finds the deadline passed
    while the answer lies unread. Such a call gets as long again as the loop was late. Without
    this a crowd of buys made each probe "fail", and the crowd came back: an outage without a cause.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds
    while not call.done():
        await asyncio.wait({call}, timeout=max(0.0, due - loop.time()))
        late = loop.time() - due
        if late < LATE_S:
            break
        due = loop.time() + min(late, seconds)
    return call.done()


def end_if_cancelled() -> None:
    """Raise `CancelledError` when this task was cancelled and goes on nevertheless.

    A client library below may have taken the cancellation for an outcome of its call; what runs for
    ever would then never end, and whoever cancelled it would wait for as long.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
