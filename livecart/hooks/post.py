"""Sends one message to one URL and says how that went; never raises for what a receiver does.

Owns the connections: to judged addresses only, by the name for TLS and Host, without proxies of
the environment, following no redirect, reading a bounded part of the answer as it is. On
`httpcore`, the transport of `httpx`, whose network backend is the place where a connection can be
held to a judged address while pooling stays by name. Knows no table. Called by the sender.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpcore
import httpx

from livecart.hooks.addresses import AddressRefused, judged, literal
from livecart.hooks.limits import HookLimits
from orders.ledger.hooks import Outcome

KEPT_ALIVE_S = 20.0
KEPT_MAX = 16  # idle connections; the pool looks at every one of them for each message
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

#: What a look-up of a name returns: addresses as text.
Resolve = Callable[[str, int], Awaitable[list[str]]]


class Sent(Outcome, frozen=True, kw_only=True):
    """An outcome, and how long the receiver asked to be left alone."""

    asked_s: float | None = None


class Poster:
    """Sends messages, over connections that it keeps for a while."""

    def __init__(
        self,
        limits: HookLimits,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits
        self._lookups: ThreadPoolExecutor | None = None
        if resolve is None:
            # Threads of its own: a name server that hangs must not keep the keeper from its own.
            self._lookups = ThreadPoolExecutor(limits.lookups_max, "hook-names")
            resolve = self._look_up
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or httpx.create_ssl_context(trust_env=False),
            max_connections=limits.sending_max * 2,
            max_keepalive_connections=KEPT_MAX,
            keepalive_expiry=KEPT_ALIVE_S,
            network_backend=_Judged(limits, resolve),
        )

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        """Send a body; success is a 2xx within the time."""
        started = time.monotonic()
        status, asked_s, answer = None, None, None
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                status, asked_s, answer = await self._post(url, headers, body)
            error = None if 200 <= status < 300 else f"answered {status}"
        except TimeoutError:
            error = f"no answer within {self._limits.timeout_s:g} s"
        except AddressRefused as refused:
            error = str(refused)
        except (httpcore.NetworkError, httpcore.TimeoutException, OSError) as failed:
            error = f"not reached: {_said(failed)}"
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol, ValueError) as failed:
            error = f"not understood: {_said(failed)}"
        return Sent(
            ok=error is None,
            duration_ms=round((time.monotonic() - started) * 1000),
            status=status,
            error=error,
            answer=answer,
            asked_s=asked_s,
        )

    async def _post(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, float | None, str]:
        target = httpx.URL(url)
        sent: dict[bytes | str, bytes | str] = {
            "Host": target.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "User-Agent": "livecart-webhooks/1",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
        sent.update(headers.items())
        where = httpcore.URL(
            scheme=target.raw_scheme,
            host=target.raw_host,
            port=target.port,
            target=target.raw_path,
        )
        limits = self._limits
        async with self._pool.stream("POST", where, headers=sent, content=body) as response:
            answer, size = bytearray(), 0
            async for part in response.aiter_stream():
                answer += part[: limits.answer_kept_max * 4 - len(answer)]
                size += len(part)
                if size > limits.answer_bytes_max:
                    break  # what is left unread ends the connection
            return response.status, _asked_s(response.headers), _shown(answer, limits)

    async def _look_up(self, host: str, port: int) -> list[str]:
        assert self._lookups is not None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._lookups, _addresses, host, port)

    async def close(self) -> None:
        """End all connections."""
        await self._pool.aclose()
        if self._lookups is not None:
            self._lookups.shutdown(wait=False, cancel_futures=True)


class _Judged(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were judged; TLS goes on by the name, as the pool asks for it."""

    def __init__(self, limits: HookLimits, resolve: Resolve) -> None:
        self._limits = limits
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers; raise `AddressRefused`."""
        found = [host] if literal(host) is not None else await self._resolve(host, port)
        failed: Exception = AddressRefused("the name leads nowhere")
        for address in judged(found, self._limits.networks):
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no URL names one."""
        raise AddressRefused("not a network address")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def _addresses(host: str, port: int) -> list[str]:
    """Look a name up; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _asked_s(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """Return a Retry-After of seconds; one that is a date is not worth a clock."""
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 10:
            return float(value)
    return None


def _shown(answer: bytearray, limits: HookLimits) -> str:
    """Return how an answer begins, as text that a table takes."""
    return _CONTROL.sub("�", answer.decode("utf-8", "replace"))[: limits.answer_kept_max]


def _said(error: Exception) -> str:
    """Return an error's words, in one bounded line."""
    return f"{type(error).__name__} {_CONTROL.sub(' ', str(error))}".strip()[:200]
