"""A server process that browsers visit and that may be killed: one worker and one keeper.

Owns the two processes, the port that outlives them, and what is asked of the server and of Postgres
beside the pages. Knows no page. Used by the tests in this folder and by `screenshots`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import websockets

from livecart.auth import issue
from livecart.embedded.child import SELF, launch_command
from orders.payments.trial import deliver
from orders.payments.trial_bank import TrialBank
from orders.sealing import new_key
from tests.integration.up_rig import ROOT, environment

WAIT_S = 30.0
LOOK_S = 0.02  # between two looks at what does not tell
MANUAL_TEXT = "Please transfer to account 808-1234."
_numbers = itertools.count(1)

Json = dict[str, Any]


async def until(met: Callable[[], Awaitable[bool]], what: str, timeout_s: float = WAIT_S) -> None:
    """Wait for a condition that does not tell when it is met; say what never came."""
    ends_s = time.monotonic() + timeout_s
    while not await met():
        if time.monotonic() > ends_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(LOOK_S)


class Server:
    """One worker on a port of its own, and the keeper beside it, on real Redis and Postgres."""

    def __init__(self, redis_url: str, database_url: str, folder: Path) -> None:
        self.database_url = database_url
        self.bank = TrialBank(folder / "bank")
        self.shots = folder / "shots"
        self.shots.mkdir()
        self._mark = folder / "ready"
        self._log = folder / "server.log"
        self._secret = secrets.token_urlsafe(32)
        self._environ = environment() | {
            "LIVECART_SECRET": self._secret,
            "LIVECART_DATA_KEY": new_key(),
            "LIVECART_REDIS_URL": redis_url,
            "LIVECART_DATABASE_URL": database_url,
            "LIVECART_TESTING": "yes",
            "LIVECART_FAILPOINTS": str(self.shots),
            "LIVECART_PAYMENTS": "trial,manual",
            "LIVECART_TRIAL_BANK": str(folder / "bank"),
            "LIVECART_MANUAL_TEXT": MANUAL_TEXT,
            # A crowd of few: each of them may say as much as a hundred would.
            "LIVECART_CHAT_PER_S": "100",
            "LIVECART_CHAT_BURST": "100",
            "LIVECART_DRAIN_S": "3",
        }
        self._port = 0
        self._worker: subprocess.Popen[bytes] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self.shop = self.host = ""
        self.new_shop()

    @property
    def http(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self._port}"

    def token(self, role: str, sub: str, **more: Any) -> str:
        """Return a good token."""
        return issue(self._secret, role=role, sub=sub, **more)

    def new_shop(self) -> None:
        """Have what is made from now on be of a shop of its own, without others' things."""
        self.shop = f"shop-{next(_numbers)}"
        self.host = self.token("host", "host-1", name="Mei", shop=self.shop)

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start both processes, on the same port as before, and wait until they serve."""
        # Closed here at once: while nobody serves, the port refuses, as after a real crash.
        with socket.create_server(("127.0.0.1", self._port), backlog=256) as listening:
            self._port = listening.getsockname()[1]
            self._mark.unlink(missing_ok=True)
            serve = ["-m", "livecart.serve", "--fd", str(listening.fileno())]
            self._worker = self._spawn(*serve, "--mark", str(self._mark), fd=listening.fileno())
        self._keeper = self._spawn("-m", "livecart.cli", "worker")
        await until(self._ready, "the server is ready")

    async def kill(self) -> None:
        """SIGKILL both at once."""
        for process in (self._worker, self._keeper):
            if process is not None:
                process.kill()
                await asyncio.to_thread(process.wait)

    async def shot_dead(self, point: str) -> None:
        """Wait until the worker has died of the shot laid at a point; the keeper goes with it."""
        worker = self._worker
        assert worker is not None
        await asyncio.wait_for(asyncio.to_thread(worker.wait), WAIT_S)
        assert worker.returncode == -signal.SIGKILL, self.said()
        assert not list(self.shots.glob(f"{point}*")), "it died of something else"
        await self.kill()

    def lay(self, point: str) -> None:
        """Have the process that reaches this point of `orders.failpoints` kill itself."""
        (self.shots / f"{point}=kill").touch()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Have the worker stand still, with its connections, for the length of the block."""
        assert self._worker is not None
        self._worker.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._worker.send_signal(signal.SIGCONT)

    def drain(self) -> None:
        """Ask the worker for an orderly end, as a deploy does; do not wait for it."""
        assert self._worker is not None
        self._worker.send_signal(signal.SIGTERM)

    async def stop(self) -> None:
        """End both in order."""
        for process in (self._worker, self._keeper):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in (self._worker, self._keeper):
            if process is not None:
                await asyncio.wait_for(asyncio.to_thread(process.wait), WAIT_S)

    def said(self) -> str:
        """The end of the log, for who wants to know what happened."""
        return self._log.read_text("utf-8", "replace")[-4000:]

    def _spawn(self, *arguments: str, fd: int | None = None) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                launch_command(
                    [sys.executable, *arguments], die_signal=signal.SIGKILL, identity=SELF
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
                cwd=ROOT,
                pass_fds=() if fd is None else (fd,),
                start_new_session=True,
            )

    async def _ready(self) -> bool:
        assert self._worker is not None
        assert self._worker.poll() is None, self.said()
        return self._mark.exists() and self._mark.read_text() == str(self._worker.pid)

    # --- asking ----------------------------------------------------------------------------------

    async def call(self, method: str, path: str, body: object = None, token: str = "") -> Json:
        """Make a call, as the host unless another token is given, that must succeed."""
        headers = {"Authorization": f"Bearer {token or self.host}"}
        headers["Idempotency-Key"] = f"key-{os.getpid()}-{next(_numbers)}"
        async with httpx.AsyncClient(base_url=self.http, timeout=WAIT_S) as http:
            answer = await http.request(method, path, json=body, headers=headers)
        assert answer.is_success, (path, answer.status_code, answer.text)
        result: Json = answer.json() if answer.content else {}
        return result

    async def stream(self, title: str, *, live: bool = True, **fields: object) -> str:
        """Return a fresh stream of the shop."""
        made = await self.call("POST", "/v1/streams", {"title": title} | fields)
        if live:
            await self.call("POST", f"/v1/streams/{made['id']}/start")
        stream: str = made["id"]
        return stream

    async def product(self, title: str, **fields: object) -> str:
        """Return a fresh product of the shop."""
        terms = {"price_minor": 199_900, "currency": "TWD"} | fields
        body = {"sku": f"SKU-{next(_numbers)}", "title": title} | terms
        product: str = (await self.call("POST", "/v1/products", body))["id"]
        return product

    async def offer(self, stream: str, product: str, *, opened: bool = True, **fields: Any) -> str:
        """Return a fresh offer."""
        body = {"product": product, "price_minor": 150_000, "quantity": 10} | fields
        offer: str = (await self.call("POST", f"/v1/streams/{stream}/offers", body))["id"]
        if opened:
            await self.call("POST", f"/v1/offers/{offer}/open")
        return offer

    async def pin(self, stream: str, product: str, offer: str | None = None) -> None:
        """Show a product."""
        await self.call("POST", f"/v1/streams/{stream}/pins", {"product": product, "offer": offer})

    async def buy(self, offer: str, viewer: str, qty: int = 1) -> Json:
        """Buy over HTTP."""
        token = self.token("viewer", viewer)
        return await self.call("POST", f"/v1/offers/{offer}/orders", {"qty": qty}, token)

    async def turn_away(self, offer: str, viewer: str) -> None:
        """Have a buy refused that comes too late."""
        headers = {"Authorization": f"Bearer {self.token('viewer', viewer)}"}
        headers["Idempotency-Key"] = f"late-{next(_numbers)}"
        async with httpx.AsyncClient(base_url=self.http, timeout=WAIT_S) as http:
            path = f"/v1/offers/{offer}/orders"
            answer = await http.post(path, json={"qty": 1}, headers=headers)
        assert answer.status_code == 409, answer.text

    async def say(self, stream: str, lines: Iterable[tuple[str, str]]) -> None:
        """Have viewers, by their names, say these in order."""
        url = self.http.replace("http", "ws") + f"/v1/streams/{stream}/ws"
        for name, text in lines:
            async with websockets.connect(url) as socket:
                hello = {"type": "hello", "id": 1, "token": self.token("viewer", name, name=name)}
                await socket.send(json.dumps(hello))
                chat = {"type": "chat", "id": 2, "text": text, "key": f"say-{next(_numbers)}"}
                await socket.send(json.dumps(chat))
                async for data in socket:
                    if json.loads(data).get("re") == 2:
                        break

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask Postgres."""
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(self.database_url)
        try:
            return list(await connection.fetch(sql, *arguments))
        finally:
            await connection.close()

    async def begun(self, viewer: str) -> str:
        """Wait until a payment of this viewer's is open at the bank; return its reference."""
        found: list[asyncpg.Record] = []

        async def there() -> bool:
            found[:] = await self.fetch(
                "select ref from payments where viewer = $1 and state = 'open'", viewer
            )
            return bool(found)

        await until(there, f"{viewer} began to pay")
        ref: str = found[0]["ref"]
        return ref

    async def settle(self, ref: str) -> None:
        """Have the bank authorise a payment, and send the notices of it."""
        self.bank.authorise(ref)
        async with httpx.AsyncClient(base_url=self.http, timeout=WAIT_S) as http:

            async def post(body: bytes, headers: Any) -> int:
                sent = await http.post("/v1/hooks/trial", content=body, headers=dict(headers))
                return sent.status_code

            assert await deliver(self.bank, post) >= 1
