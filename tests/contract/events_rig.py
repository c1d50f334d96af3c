"""A client of a stream's Server-Sent Events, as a browser reads them.

Used by the contract tests of the events over HTTP and by nothing else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.contract.http_rig import Json, Shop, bearer
from tests.shop import until


@dataclass
class Told:
    """One event, and the last `id` that the client has had with it."""

    event: Json
    id: str | None
    moved: bool  # this event brought the `id`


@dataclass
class Viewer:
    """One open stream; keeps all that it is sent."""

    response: httpx.Response
    told: list[Told] = field(default_factory=list)
    comments: int = 0
    retry_ms: int | None = None
    closed: Json | None = None  # of the last event, `close`
    ended: bool = False
    _listening: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Begin to read."""
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        last_id, moved, kind, data = None, False, "message", None
        try:
            async for line in self.response.aiter_lines():
                name, _, value = line.partition(": ")
                if line == "":
                    if data is not None and kind == "close":
                        self.closed = json.loads(data)
                    elif data is not None:
                        assert kind == "message"
                        self.told.append(Told(json.loads(data), last_id, moved))
                    moved, kind, data = False, "message", None
                elif line == ":":
                    self.comments += 1
                elif name == "retry":
                    self.retry_ms = int(value)
                elif name == "id":
                    last_id, moved = value, True
                elif name == "event":
                    kind = value
                else:
                    assert name == "data", line
                    assert data is None
                    data = value
        except httpx.HTTPError:
            pass  # cut off
        finally:
            self.ended = True

    @property
    def events(self) -> list[Json]:
        """What came so far."""
        return [told.event for told in self.told]

    def of(self, *kinds: str) -> list[Json]:
        """Return the events of some types."""
        return [event for event in self.events if event["type"] in kinds]

    async def get(self, kind: str, count: int = 1, timeout_s: float = 10.0) -> Json:
        """Wait for the n-th event of a type and return it; fails when the stream ends before."""

        def there() -> bool:
            found = len(self.of(kind))
            assert found >= count or not self.ended, f"{found} of {count} {kind}: {self.closed}"
            return found >= count

        await until(there, timeout_s)
        return self.of(kind)[count - 1]

    async def end(self) -> None:
        """Wait until the server has ended it."""
        await until(lambda: self.ended)

    async def leave(self) -> None:
        """Drop the connection."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
        await self.response.aclose()


def address(stream: str) -> str:
    """Return where a stream's events are."""
    return f"/v1/streams/{stream}/events"


@asynccontextmanager
async def following(
    shop: Shop, stream: str, who: str | None = None, last: str | None = None
) -> AsyncIterator[Viewer]:
    """Follow a stream with a token, or without one as a guest."""
    headers = {} if who is None else bearer(who)
    if last is not None:
        headers["Last-Event-ID"] = last
    request = shop.http.build_request("GET", address(stream), headers=headers, timeout=None)
    viewer = Viewer(await shop.http.send(request, stream=True))
    assert viewer.response.status_code == 200, await viewer.response.aread()
    viewer.listen()
    try:
        await viewer.get("welcome")
        yield viewer
    finally:
        await viewer.leave()
