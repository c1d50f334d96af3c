"""HTTP/1.1 as far as the harness needs it: keep-alive, one request in flight a connection.

Owns the bytes of requests and answers, the host's calls that set a sale up, and tokens made with
a given secret. Knows no buys. A general client would cost more per call than the server under
test, so this one reads a status, a content length and a body, and nothing else.
"""

from __future__ import annotations

import abc
import asyncio
import time
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import jwt
import msgspec

HEAD_BYTES_MAX = 16 * 1024
TOKEN_TTL_S = 7 * 24 * 3600  # a soak may last for days, and comes back with its first token


@dataclass(slots=True, frozen=True)
class Address:
    """Where an HTTP server is."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> Address:
        parts = urlsplit(url)
        tls = parts.scheme in ("https", "wss")
        return cls(parts.hostname or "127.0.0.1", parts.port or (443 if tls else 80), tls)

    def request(
        self, method: str, path: str, token: str = "", body: bytes = b"", key: str = ""
    ) -> bytes:
        """One whole request; `key` becomes the `Idempotency-Key`."""
        head = [f"{method} {path} HTTP/1.1", f"host: {self.host}:{self.port}"]
        if token:
            head.append(f"authorization: Bearer {token}")
        if key:
            head.append(f"idempotency-key: {key}")
        if body:
            head.append("content-type: application/json")
        if method != "GET":
            head.append(f"content-length: {len(body)}")
        return ("\r\n".join(head) + "\r\n\r\n").encode() + body


class Connection(asyncio.Protocol, abc.ABC):
    """One connection; subclasses say what an answer and a loss mean."""

    __slots__ = ("tail", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.tail = b""

    @abc.abstractmethod
    def answered(self, status: int, head: bytes, body: bytes) -> None:
        """Take one whole answer."""

    @abc.abstractmethod
    def lost(self) -> None:
        """The connection is gone, whatever was asked on it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.tail = b""

    def data_received(self, data: bytes) -> None:
        if self.tail:
            data = self.tail + data
        body_at = data.find(b"\r\n\r\n") + 4
        if body_at < 4:
            self.tail = data
            if len(data) > HEAD_BYTES_MAX:
                self.abort()
            return
        head = data[:body_at].lower()
        size_at = head.find(b"\r\ncontent-length:")
        size = int(head[size_at + 17 : head.index(b"\r\n", size_at + 2)]) if size_at > 0 else 0
        if len(data) < body_at + size:
            self.tail = data
            return
        self.tail = data[body_at + size :]
        self.answered(int(data[9:12]), head, data[body_at : body_at + size])

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.lost()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class _Call(Connection):
    """A connection for one call, whose answer is awaited."""

    __slots__ = ("future", "request")

    def __init__(self, request: bytes, future: asyncio.Future[tuple[int, bytes]]) -> None:
        super().__init__()
        self.request = request
        self.future = future

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.write(self.request)

    def answered(self, status: int, head: bytes, body: bytes) -> None:
        if not self.future.done():
            self.future.set_result((status, body))
        self.abort()

    def lost(self) -> None:
        if not self.future.done():
            self.future.set_exception(ConnectionError("the connection ended before the answer"))


class ApiError(Exception):
    """The server refused a call that the harness needs; `code` is the refusal's, or ''."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Api:
    """JSON calls against one server, each on a connection of its own: rare, never hot."""

    def __init__(self, url: str, token: str = "") -> None:
        self.address = Address.of(url)
        self.token = token

    async def send(
        self, method: str, path: str, body: Any = None, key: str = "", timeout_s: float = 10.0
    ) -> tuple[int, dict[str, Any]]:
        """One call; OSError or TimeoutError when no answer came."""
        payload = b"" if body is None else msgspec.json.encode(body)
        request = self.address.request(method, path, self.token, payload, key)
        status, answer = await self._ask(request, timeout_s)
        return status, msgspec.json.decode(answer, type=dict[str, Any]) if answer else {}

    async def fetch(self, path: str, timeout_s: float = 10.0) -> tuple[int, bytes]:
        """GET what is not JSON; OSError or TimeoutError when no answer came."""
        return await self._ask(self.address.request("GET", path, self.token), timeout_s)

    async def _ask(self, request: bytes, timeout_s: float) -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        try:
            async with asyncio.timeout(timeout_s):
                transport, _ = await loop.create_connection(
                    lambda: _Call(request, future),
                    self.address.host,
                    self.address.port,
                    ssl=self.address.tls or None,
                )
                try:
                    return await future
                finally:
                    transport.abort()
        finally:
            future.cancel()  # out of time while connecting: nobody awaits its answer any more

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        key: str = "",
        deadline_s: float = 15.0,
        timeout_s: float = 10.0,
    ) -> dict[str, Any]:
        """One call that must succeed; 503 and lost connections are tried again until then."""
        ends = time.monotonic() + deadline_s
        pause_s = 0.05
        while True:
            try:
                status, answer = await self.send(method, path, body, key, timeout_s)
                problem = f"{status} {answer.get('code')}: {answer.get('detail')}"
            except (OSError, TimeoutError) as error:
                status, answer, problem = 503, {}, f"{type(error).__name__}: {error}"
            if status < 300:
                return answer
            if status != 503 or time.monotonic() > ends:
                code = str(answer.get("code", ""))
                raise ApiError(f"{method} {path} was answered {problem}", code)
            await asyncio.sleep(pause_s)
            pause_s = min(1.0, pause_s * 2)


def make_token(secret: str, sub: str, role: str, **claims: Any) -> str:
    """A token as protocol v1, section 2, describes it."""
    return jwt.encode(
        {"sub": sub, "role": role, "exp": int(time.time()) + TOKEN_TTL_S, **claims},
        secret,
        algorithm="HS256",
    )
