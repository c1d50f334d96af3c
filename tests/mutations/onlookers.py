"""A few viewers who buy nothing and note all they are sent: the auditor's record for I7.

Owns their connections, in both subprotocols, and the telling of a Deliveries. Judges nothing. Used
by `attacks`.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import msgpack

from loadtest.deliveries import Deliveries
from loadtest.server import Target, until
from tests.faults.links import Form, WebSocketLink

FORMS: tuple[Form, ...] = ("json", "msgpack", "json", "msgpack")
CONNECT_S = 10.0
PAUSE_S = 0.1
REST_S = 6.0  # for the last event to reach the last of them


class Onlooker:
    """One of them, over as many connections as it takes."""

    def __init__(self, number: int, form: Form, target: Target, stream: str, told: Deliveries):
        self.number = number
        self.form: Form = form
        self.told = told
        self.since: dict[str, Any] | None = None
        self.welcome = False
        self._url = f"{target.ws}/v1/streams/{stream}/ws"
        self._parts = urlsplit(target.http)

    async def run(self) -> None:
        """Watch for as long as nobody ends it."""
        while True:
            hello: dict[str, Any] = {"type": "hello", "id": 0}
            if self.since is not None:
                hello["since"] = self.since
            link = WebSocketLink(self.heard, self._url, self.form, hello)
            try:
                assert self._parts.hostname is not None
                assert self._parts.port is not None
                await link.dial(self._parts.hostname, self._parts.port, narrow=False)
                await link.lost
            except OSError:
                link.reset()
            finally:
                self.welcome = False
                link.reset()
            await asyncio.sleep(PAUSE_S)

    def heard(self, payload: str | bytes, id_: str | None) -> None:
        """Note one message."""
        told, number = self.told, self.number
        raw = payload.encode() if isinstance(payload, str) else payload
        event = json.loads(payload) if isinstance(payload, str) else msgpack.unpackb(payload)
        kind = event["type"]
        if kind in ("welcome", "resync"):
            at = event["epoch"], event["seq"], event["cseq"]
            if kind == "welcome":
                told.welcome(number, *at, recovered=event.get("recovered"))
                self.welcome = True
            else:
                told.resync(number, *at)
            if not event.get("recovered"):
                self.since = {"epoch": at[0], "seq": at[1], "cseq": at[2]}
        elif kind == "chat.skipped":
            told.skipped(number, event["cseq"])
        elif "seq" in event:
            told.main(number, event["seq"])
            told.content(number, event["seq"], raw)
        elif "cseq" in event:
            told.chat(number, event["cseq"])
            told.content(number, event["cseq"], raw, "chat")
        if self.since is not None:
            self.since |= {"seq": told.seq[number], "cseq": told.cseq[number]}


class Onlookers:
    """All of them, and what they were delivered."""

    def __init__(self, target: Target, stream: str) -> None:
        self.deliveries = Deliveries([f"onlooker-{n}" for n in range(len(FORMS))])
        self._all = [
            Onlooker(n, form, target, stream, self.deliveries) for n, form in enumerate(FORMS)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self) -> None:
        """Have everybody welcome, or nearly so."""
        self._tasks = [asyncio.ensure_future(one.run()) for one in self._all]
        await until(lambda: all(one.welcome for one in self._all), CONNECT_S)

    async def rested(self) -> None:
        """Note those who are connected as being at rest, once they are at one place or never."""
        told = self.deliveries
        await until(
            lambda: (
                all(one.welcome for one in self._all)
                and len({*zip(told.seq, told.cseq, strict=True)}) == 1
            ),
            REST_S,
        )
        told.rested(one.number for one in self._all if one.welcome)

    async def close(self) -> None:
        """Go home."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
