"""The two clients behind one face: what a scenario asks, whichever of them is under test.

Owns how each is started and spoken to. Used by the conformance tests and by nothing else; knows
no scenario.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pytest

import livecart
from streams.client import Bought, Client, Rejected, Stopped
from tests.contract.http_rig import Json
from tests.shop import until

MODULE = Path(livecart.__file__).parent / "web" / "livecart.js"
DRIVER = Path(__file__).with_name("driver.mjs")
ANSWER_MS = 400  # without an answer for so long, a command is sent again
LUCK = 0.02  # of every drawn pause: the clients come back at once


class Driver(Protocol):
    """One client of one stream."""

    heard: list[Json]  # what came without being asked for, in order
    stopped: int | None  # why it will not come back, once it will not

    async def buy(self, offer: str, qty: int = 1, key: str | None = None) -> Json:
        """Buy; return {order, replayed} or {code}."""

    async def cancel(self, order: str) -> Json:
        """Cancel; return {order} or {code}."""

    async def chat(self, text: str) -> Json:
        """Speak; return {message} or {code}."""

    async def wait(self, offer: str, qty: int = 1) -> Json:
        """Join the waitlist; return {position}, {order, replayed} or {code}."""


#: Makes a client of a stream at a port: a token, several to be asked for in turn, or none (guest).
Make = Callable[..., Any]
Tokens = Sequence[str | Callable[[], str]]  # a function makes one that is fresh when it starts


def kinds(driver: Driver, *types: str) -> list[Json]:
    """Return what a client has heard of some types."""
    return [event for event in driver.heard if event["type"] in types]


async def hears(driver: Driver, kind: str, count: int = 1) -> Json:
    """Wait for the n-th event of a type; return it."""
    await until(lambda: len(kinds(driver, kind)) >= count)
    return kinds(driver, kind)[count - 1]


class PythonDriver:
    """`streams.client`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.heard: list[Json] = []
        self.stopped: int | None = None
        self.listening: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        """Keep what comes until the end."""
        try:
            async for event in self.client.events():
                self.heard.append(event)
        except Stopped as stopped:
            self.stopped = stopped.code

    async def buy(self, offer: str, qty: int = 1, key: str | None = None) -> Json:
        """Buy."""
        outcome = await self.client.buy(offer, qty, key)
        match outcome:
            case Bought():
                return {"order": outcome.order, "replayed": outcome.replayed}
            case Rejected():
                return {"code": outcome.code}

    async def cancel(self, order: str) -> Json:
        """Cancel."""
        return _plain(await self.client.cancel(order))

    async def chat(self, text: str) -> Json:
        """Speak."""
        return _plain(await self.client.chat(text))

    async def wait(self, offer: str, qty: int = 1) -> Json:
        """Join the waitlist."""
        return _plain(await self.client.wait(offer, qty))


def _plain(answer: Json) -> Json:
    if answer["type"] == "reject":
        return {"code": answer["code"]}
    return {name: answer[name] for name in ("order", "message", "position") if name in answer}


def _made(token: str | Tokens | None) -> list[str]:
    if token is None or isinstance(token, str):
        return []
    return [each if isinstance(each, str) else each() for each in token]


@asynccontextmanager
async def python_client(
    port: int, stream: str, token: str | Tokens | None = None
) -> AsyncIterator[PythonDriver]:
    """Run the Python client, over JSON since the relay reads along."""
    tokens = _made(token)

    async def fresh() -> str:
        return tokens.pop(0) if len(tokens) > 1 else tokens[0]

    given = token if isinstance(token, str) or token is None else fresh
    url = f"http://127.0.0.1:{port}"
    client = Client.connect(url, stream, token=given, subprotocol="json")
    driver = PythonDriver(client)
    try:
        await client.__aenter__()
    except Stopped as stopped:
        driver.stopped = stopped.code
        yield driver
        return
    driver.listening = asyncio.create_task(driver.listen())
    try:
        yield driver
    finally:
        driver.listening.cancel()
        await asyncio.wait({driver.listening})
        await client.__aexit__(None, None, None)


@cache
def node() -> list[str]:
    """Return how to start Node.js with a WebSocket; without one, skip, but fail in CI."""
    found = shutil.which("node")
    asked = [found, "--version"] if found else []
    version = subprocess.run(asked, capture_output=True, text=True).stdout if asked else ""
    major = re.match(r"v(\d+)", version)
    if found is None or major is None or int(major[1]) < 20:
        message = "Node.js 20 or newer is missing: make setup-browser"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return [found, "--no-warnings", *(["--experimental-websocket"] if int(major[1]) < 22 else [])]


class SdkDriver:
    """`livecart.js` in a Node.js process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.heard: list[Json] = []
        self.stopped: int | None = None
        self.status: Json = {"status": "idle"}
        self.statuses: list[str] = []
        self.values: list[Any] = []  # of watched parts
        self.notices: list[Json] = []
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def listen(self) -> None:
        """Take what the process says."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self._take(json.loads(line))

    def _take(self, said: Json) -> None:
        if "event" in said:
            # What answers a command is heard by whoever sent it, as in the other client.
            if said["event"].get("re") is None or said["event"]["type"] == "welcome":
                self.heard.append(said["event"])
        elif "status" in said:
            self.status = said["status"]
            self.statuses.append(self.status["status"])
            if self.status["status"] == "stopped":
                self.stopped = self.status["closeCode"]
        elif "part" in said:
            self.values.append(said["value"])
        elif "notice" in said:
            self.notices.append(said["notice"])
        elif "error" in said:
            self._answers.pop(said["n"]).set_exception(RuntimeError(said["error"]))
        else:
            self._answers.pop(said["n"]).set_result(said["result"])

    async def do(self, deed: str, **what: Any) -> Any:
        """Have the driver do something; return its result."""
        assert self.process.stdin is not None
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        line = {"n": number, "do": deed, "with": what}
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        return await asyncio.wait_for(answer, 20)

    async def call(self, method: str, *args: Any) -> Json:
        """Call a method of LiveCart."""
        result: Json = await self.do("call", method=method, args=args)
        return result

    async def buy(self, offer: str, qty: int = 1, key: str | None = None) -> Json:
        """Buy."""
        return await self.call("buy", offer, qty, {} if key is None else {"key": key})

    async def cancel(self, order: str) -> Json:
        """Cancel."""
        return await self.call("cancel", order)

    async def chat(self, text: str) -> Json:
        """Speak."""
        return await self.call("chat", text)

    async def wait(self, offer: str, qty: int = 1) -> Json:
        """Join the waitlist."""
        return await self.call("wait", offer, qty)


@asynccontextmanager
async def sdk_client(
    port: int, stream: str, token: str | Tokens | None = None, **options: Any
) -> AsyncIterator[SdkDriver]:
    """Run the SDK until the block ends, connected; `options` are LiveCart's."""
    process = await asyncio.create_subprocess_exec(
        *node(), str(DRIVER), stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**24
    )
    driver = SdkDriver(process)
    listening = asyncio.create_task(driver.listen())
    times = {"answerMs": ANSWER_MS} | options.pop("times", {})
    origin = f"http://127.0.0.1:{port}"
    made = {"stream": stream, "origin": origin, "times": times} | options
    if isinstance(token, str):
        made["token"] = token
    try:
        await driver.do("ready")  # a short token must not end while Node.js starts
        tokens = _made(token) or None
        await driver.do("start", module=MODULE.as_uri(), options=made, tokens=tokens, luck=LUCK)
        await until(lambda: driver.heard or driver.stopped or listening.done())
        yield driver
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0
        await listening


CLIENTS: dict[str, Make] = {"python": python_client, "sdk": sdk_client}
