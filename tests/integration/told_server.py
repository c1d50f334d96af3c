"""A small HTTP server that answers as it is told, or does not: what a payment provider may do.

Real sockets on 127.0.0.1. Used by the tests of the provider `stripe`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec


class Request(msgspec.Struct, frozen=True):
    """What was asked; header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    form: dict[str, str]
    body: bytes


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What to answer: a status with a body; or `hang`, `close` or `trickle`."""

    status: int = 200
    body: bytes = b"{}"
    does: str = "answer"


class Server:
    """Answers each request with the next of `answers`; notes them all."""

    def __init__(self) -> None:
        self.answers: deque[Told] = deque()
        self.requests: list[Request] = []
        self.url = ""

    def will(self, *answers: Told) -> None:
        """Have these be the next answers."""
        self.answers.extend(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until it is closed."""
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                if not await _answer(self.answers.popleft(), writer):
                    break
        except ConnectionError:
            pass  # the client had enough, which is what it was made to have
        finally:
            writer.close()


def error(status: int, **error: Any) -> Told:
    """An error in Stripe's shape."""
    return Told(status=status, body=json.dumps({"error": error}).encode())


def fields(**fields: Any) -> Told:
    """An object."""
    return Told(body=json.dumps(fields).encode())


@asynccontextmanager
async def told_server() -> AsyncIterator[Server]:
    """Run one; yield it with its `url`."""
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, target, _ = head[0].split(" ")
    pairs = (line.split(": ", 1) for line in head[1:] if line)
    headers = {name.lower(): value for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    url = urlsplit(target)
    query, form = dict(parse_qsl(url.query)), dict(parse_qsl(body.decode()))
    return Request(method, url.path, query, headers, form, body)


async def _answer(told: Told, writer: asyncio.StreamWriter) -> bool:
    """Answer; False: and close."""
    if told.does == "close":
        return False
    if told.does == "hang":
        await asyncio.Event().wait()  # until the connection's task is ended with the test
    head = f"HTTP/1.1 {told.status} x\r\ncontent-type: application/json\r\nrequest-id: req_1\r\n"
    if told.does == "trickle":
        writer.write(f"{head}content-length: 1000000\r\n\r\n".encode())
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)
    writer.write(f"{head}content-length: {len(told.body)}\r\n\r\n".encode() + told.body)
    await writer.drain()
    return True
