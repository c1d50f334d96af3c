"""The Python client: watch a stream, buy, and come back after every kind of break.

Owns one viewer's or host's view of protocol v1: reconnecting with `since`, noticing gaps, sending a
buy again under its key until its outcome is known, and the offset of the server's clock. Speaks
through `websockets` with `msgpack` or the standard library's `json`, and shares no code with the
server's codec, so that two implementations meet on the wire. Used by whoever installs livecart.

    async with Client.connect("ws://127.0.0.1:8000", "st_demo", token=token) as client:
        async for event in client.events():
            if event["type"] == "offer.opened":
                print(await client.buy(event["offer"]["id"], qty=1))
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Literal, Self
from urllib.parse import quote

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from streams.outcome import Bought, BoughtBundle, ClientError, Disconnected, Rejected, Stopped
from streams.resume import (
    Backoff,
    Event,
    Progress,
    ServerClock,
    full_jitter_s,
    may_return,
    renew_in_s,
)

__all__ = [
    "Bought",
    "BoughtBundle",
    "Client",
    "ClientError",
    "Disconnected",
    "Event",
    "Rejected",
    "Stopped",
]

WELCOME_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 10.0  # then a command with a key is sent again
EVENTS_WAITING_MAX = 10_000  # beyond, the oldest are dropped and `client.dropped` says how many
MESSAGE_BYTES_MAX = 16 * 2**20  # a welcome carries every open offer
PASSING_CODES = frozenset({"retry", "rate_limited"})  # of a reject: the same key again

logger = logging.getLogger("streams.client")

Token = str | Callable[[], Awaitable[str]] | None  # a function is asked before every connection


class Client:
    """One stream as one user; made by `connect`, used as an async context manager."""

    def __init__(self, address: str, token: Token, subprotocol: Literal["json", "msgpack"]) -> None:
        self.address = address
        self.welcome: Event = {}  # the newest welcome or resync
        self._token = token
        self._msgpack = subprotocol == "msgpack"
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Event]] = {}  # of commands under way
        self._waiting: deque[Event] = deque()  # events that nobody has taken yet
        self._dropped = 0  # of those, since the last one was taken
        self._news = asyncio.Event()  # set when `_waiting` has grown, or nothing more will come
        self._progress = Progress()
        self._backoff = Backoff()
        self._clock = ServerClock()
        # The connection once it is welcome; replaced after each break, failed by `Stopped`.
        self._link: asyncio.Future[ClientConnection] = asyncio.Future()
        self._runner: asyncio.Task[None] | None = None

    @classmethod
    def connect(
        cls,
        url: str,
        stream: str,
        *,
        token: Token = None,
        subprotocol: Literal["json", "msgpack"] = "msgpack",
    ) -> Self:
        """Return a client of `stream` at `url` (ws, wss, http or https, without a path)."""
        base = url.rstrip("/")
        base = "ws" + base.removeprefix("http") if base.startswith("http") else base
        return cls(f"{base}/v1/streams/{quote(stream, safe='')}/ws", token, subprotocol)

    async def __aenter__(self) -> Self:
        self._runner = asyncio.create_task(self._run())
        try:
            await asyncio.shield(self._link)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._runner is not None:
            self._runner.cancel()
            with suppress(asyncio.CancelledError):
                await self._runner

    # --- what users call ---------------------------------------------------------------------

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield what comes without being asked for, in order; ends with `Stopped`.

        `welcome` and `resync` come first: replace all state. After `recovered: true`, events whose
        `seq` is not above `welcome["seq"]` are history.
        """
        while True:
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                yield {"type": "client.dropped", "count": dropped}
            while self._waiting:
                yield self._waiting.popleft()
            if self._link.done() and (stopped := self._link.exception()) is not None:
                raise stopped
            self._news.clear()
            await self._news.wait()

    async def buy(
        self, offer: str, qty: int = 1, key: str | None = None, *, deadline_s: float = 30.0
    ) -> Bought | Rejected:
        """Buy; the same key is sent again until the outcome is known or the deadline passed."""
        key = key or secrets.token_urlsafe(16)
        answer = await self._insist("buy", deadline_s, offer=offer, qty=qty, key=key)
        if answer["type"] != "reject":
            return Bought(answer["order"], key, bool(answer.get("replayed")))
        return Rejected(answer["code"], answer["message"], key, answer.get("field"))

    async def buy_bundle(
        self, lines: Sequence[tuple[str, int]], key: str | None = None, *, deadline_s: float = 30.0
    ) -> BoughtBundle | Rejected:
        """Buy of several offers, all or none: (offer, qty) pairs, sent again as with `buy`."""
        key = key or secrets.token_urlsafe(16)
        wanted = [{"offer": offer, "qty": qty} for offer, qty in lines]
        answer = await self._insist("buy", deadline_s, lines=wanted, key=key)
        if answer["type"] != "reject":
            replayed = bool(answer.get("replayed"))
            return BoughtBundle(answer["bundle"], answer["orders"], key, replayed)
        return Rejected(answer["code"], answer["message"], key, answer.get("field"))

    async def cancel(self, order: str, *, deadline_s: float = 30.0) -> Event:
        """Give a held order back; return an order event or `reject`.

        Sent again until answered: what is cancelled already is `conflict`.
        """
        return await self._insist("cancel", deadline_s, order=order)

    async def extend(self, order: Event, *, deadline_s: float = 30.0) -> Event:
        """Move the deadline of a reserved order; return an order event or `reject`.

        Sent again until answered: it counts once for the `version` of the order that is given.
        """
        return await self._insist("extend", deadline_s, order=order["id"], version=order["version"])

    async def wait(
        self, offer: str, qty: int = 1, key: str | None = None, *, deadline_s: float = 30.0
    ) -> Event:
        """Join an offer's waitlist; return `waitlisted`, an order event if stock is free, `reject`.

        The order that comes of waiting has this key; it is told among the `events`.
        """
        key = key or secrets.token_urlsafe(16)
        return await self._insist("waitlist", deadline_s, offer=offer, qty=qty, key=key)

    async def chat(self, text: str, key: str | None = None, *, deadline_s: float = 30.0) -> Event:
        """Say something; return `ok` or `reject`."""
        key = key or secrets.token_urlsafe(16)
        return await self._insist("chat", deadline_s, text=text, key=key)

    async def react(self, kind: str, n: int = 1) -> None:
        """Send reactions, which nobody answers."""
        await self._send(await self._linked(), "react", next(self._ids), {"kind": kind, "n": n})

    async def command(self, type_: str, **fields: object) -> Event:
        """Send any command once; return its answer, `reject` too, or raise `Disconnected`."""
        connection, number = await self._linked(), next(self._ids)
        answer = self._answers[number] = asyncio.Future()
        try:
            await self._send(connection, type_, number, fields)
            return await answer
        finally:
            del self._answers[number]

    def server_now_ms(self) -> float:
        """Return the server's time now; countdowns are shown on it."""
        return time.time() * 1000 + self._clock.offset_ms

    # --- connections -------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                stopped = await self._visit()
            except Exception as fault:  # a token that cannot be had, a server that talks nonsense
                self._break_off(fault)
                raise
            self._break_off(stopped)
            if stopped is not None:
                return
            await asyncio.sleep(self._backoff.next_s(time.monotonic() - began))

    async def _visit(self) -> Stopped | None:
        """Stay connected as long as possible; return why there is no coming back, or None."""
        refusal = ""
        beside: list[asyncio.Task[None]] = []  # what goes on beside the reading
        spoken = Subprotocol(f"livecart.v1.{'msgpack' if self._msgpack else 'json'}")
        try:
            token = await self._token() if callable(self._token) else self._token
            async with connect(
                self.address,
                subprotocols=[spoken],
                compression=None,
                max_size=MESSAGE_BYTES_MAX,
                ping_interval=None,  # `ping` commands do that, and set the clock too
            ) as connection:
                hello = {"token": token, "since": self._progress.since}
                present = {name: value for name, value in hello.items() if value is not None}
                await self._send(connection, "hello", 0, present)
                beside = [
                    asyncio.create_task(self._beat(connection)),
                    asyncio.create_task(self._renew(token)),
                ]
                with suppress(ConnectionClosed):
                    async for payload in connection:
                        event = self._decode(payload)
                        if not self._take(event):
                            break  # a gap: come back with `since`
                        if event["type"] == "welcome" and not self._link.done():
                            self._link.set_result(connection)
                        elif event["type"] == "reject" and event.get("re") == 0:
                            refusal = event["message"]
            code = connection.close_code
            if may_return(code, fresh_token=callable(self._token)):
                return None
            return Stopped(code or 0, connection.close_reason or refusal)
        except InvalidStatus as refused:
            status = refused.response.status_code
            return Stopped(status, "handshake refused") if 400 <= status < 429 else None
        except (OSError, TimeoutError, InvalidHandshake, Disconnected):
            return None
        finally:
            for task in beside:
                task.cancel()

    def _break_off(self, fault: Exception | None) -> None:
        """Tell those who wait for an answer, and get ready for the next connection."""
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Disconnected("the connection ended before the answer"))
        if self._link.done():
            self._link = asyncio.Future()
        if fault is not None:
            self._link.set_exception(fault)
            self._link.exception()  # retrieved: nobody may be waiting
            self._news.set()

    async def _linked(self) -> ClientConnection:
        return await asyncio.shield(self._link)

    async def _beat(self, connection: ClientConnection) -> None:
        """Ping each heartbeat; give the connection up after twice that in silence."""
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                await self._linked()
            heartbeat_s = self.welcome["heartbeat_ms"] / 1000
            while True:
                sent_ms, began = time.time() * 1000, time.perf_counter()
                async with asyncio.timeout(2 * heartbeat_s):
                    pong = await self.command("ping", t0=int(sent_ms))
                if pong["type"] == "pong":
                    trip_ms = (time.perf_counter() - began) * 1000
                    self._clock.sample(sent_ms, trip_ms, pong["now"])
                await asyncio.sleep(heartbeat_s)
        except TimeoutError:
            connection.transport.abort()
        except Disconnected:
            return

    async def _renew(self, token: str | None) -> None:
        """Say `auth` with a fresh token before the present one ends."""
        with suppress(Disconnected):
            await self._linked()
            while token is not None and callable(self._token):
                in_s = renew_in_s(token, self.server_now_ms())
                if in_s is None:
                    return
                await asyncio.sleep(in_s)
                try:
                    token = await self._token()
                except Exception:  # the connection lasts as long as its token
                    logger.warning(
                        "no fresh token; it is asked for again at the end", exc_info=True
                    )
                    return
                await self.command("auth", token=token)  # refused: another is asked for

    # --- messages ----------------------------------------------------------------------------

    async def _insist(self, type_: str, deadline_s: float, **fields: object) -> Event:
        """Send a command with a key until its outcome is known, or say `retry` at the deadline."""
        deadline = time.monotonic() + deadline_s
        answer: Event = {"type": "reject", "code": "retry", "message": "no answer in time"}
        for attempt in itertools.count():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            with suppress(Disconnected, TimeoutError):
                async with asyncio.timeout(min(left_s, ANSWER_TIMEOUT_S)):
                    answer = await self.command(type_, **fields)
                if answer["type"] != "reject" or answer["code"] not in PASSING_CODES:
                    break
            asked_s = answer.get("retry_after_ms", 0) / 1000
            await asyncio.sleep(min(left_s, max(asked_s, full_jitter_s(attempt))))
        return answer

    async def _send(
        self, connection: ClientConnection, type_: str, number: int, fields: Event
    ) -> None:
        message = {"type": type_, "id": number, **fields}
        packed = msgpack.packb(message) if self._msgpack else json.dumps(message)
        try:
            await connection.send(packed)
        except ConnectionClosed as closed:
            raise Disconnected("the connection ended before the command was sent") from closed

    def _decode(self, payload: str | bytes) -> Event:
        event = json.loads(payload) if isinstance(payload, str) else msgpack.unpackb(payload)
        if not isinstance(event, dict):
            raise ClientError("the server sent something that is not a message")
        return event

    def _take(self, event: Event) -> bool:
        """Hand an event to whom it is for; return False when one before it is missing."""
        kind, number = event["type"], event.get("re")
        if number is not None and kind != "welcome":
            if (answer := self._answers.get(number)) is not None and not answer.done():
                answer.set_result(event)
            return True
        verdict = self._progress.take(event)
        if verdict != "news":
            return verdict == "seen"
        if kind in ("welcome", "resync"):
            self.welcome = event
        elif kind == "draining":
            self._backoff.asked_ms = event["retry_after_ms"]
        if len(self._waiting) >= EVENTS_WAITING_MAX:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(event)
        self._news.set()
        return True
