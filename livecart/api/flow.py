"""An answer without a known length, written as it is made: exports.

Owns the way of such an answer to a client that may be slow, silent or gone: each piece must be
taken in time, all of it within a bound, and whatever makes the pieces is closed in any case. An
answer that cannot be finished is cut off, so that no client takes a part for the whole. Knows no
format. Called by `operations`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.types import Receive, Scope, Send

from livecart.api.problems import Headers

FLOW_S = 900.0  # for all of an answer
PIECE_S = 30.0  # for one piece to be taken by the client
END_S = 1.0  # for the server to notice that a connection was cut

log = logging.getLogger("livecart.api")


class Flow(msgspec.Struct, frozen=True):
    """An answer that is made piece by piece; nothing is made before the first is asked for."""

    headers: Headers
    pieces: AsyncGenerator[bytes, None]


async def pour(flow: Flow, scope: Scope, receive: Receive, send: Send, head: bool = False) -> None:
    """Send an answer, or its headers alone; cut the connection where it cannot be finished."""
    async with aclosing(flow.pieces) as pieces:
        await send({"type": "http.response.start", "status": 200, "headers": flow.headers})
        if head:
            await send({"type": "http.response.body", "body": b""})
            return
        gone = asyncio.create_task(_gone(receive), name="flow")
        try:
            async with asyncio.timeout(FLOW_S):
                async for piece in pieces:
                    async with asyncio.timeout(PIECE_S):
                        await _put(send, piece)
                    if gone.done():
                        return
            await send({"type": "http.response.body", "body": b""})
        except Exception as error:  # noqa: BLE001 - the client sees that the answer is cut off
            log.warning("an answer was cut off: %r", error)
            scope["state"]["transport"].abort()
            await asyncio.wait({gone}, timeout=END_S)
        finally:
            gone.cancel()


async def _put(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # a body, which nobody asked for
