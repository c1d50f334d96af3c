"""Rubbish from many connections at once: answered as the protocol says, and nobody else notices.

A real `livecart up`; an innocent viewer watches and buys while others send what no client should.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import psutil
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.integration.up_rig import Up

JSON, MSGPACK = Subprotocol("livecart.v1.json"), Subprotocol("livecart.v1.msgpack")
GROWTH_BYTES_MAX = 48 * 2**20
AT_ONCE = 20


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    """One server for all attacks of this module."""
    path = Path(tempfile.mkdtemp(prefix="lc-rubbish-"))
    running = Up(path / "data")
    try:
        yield running
    finally:
        assert running.stop() == 0
        shutil.rmtree(path, ignore_errors=True)


def token(up: Up, **claims: Any) -> str:
    """Sign claims with the server's secret."""
    secret = Path(up.ready["secret_file"]).read_text().strip()
    whole = {"sub": "mallory", "role": "viewer", "exp": int(time.time()) + 600} | claims
    return jwt.encode(whole, secret, algorithm="HS256")


def url(up: Up, stream: str | None = None) -> str:
    return f"{up.ready['ws']}/v1/streams/{stream or up.ready['demo_stream']}/ws"


async def enter(
    up: Up, token_: str | None, subprotocol: Subprotocol = JSON
) -> tuple[ClientConnection, dict[str, Any]]:
    """Connect, say hello, and return the connection with its welcome."""
    socket = await connect(
        url(up), subprotocols=[subprotocol], compression=None, max_size=2**24, ping_interval=None
    )
    hello = {"type": "hello", "id": 1} | ({"token": token_} if token_ else {})
    await socket.send(json.dumps(hello))
    return socket, await read(socket, "welcome")


async def read(socket: ClientConnection, *types: str) -> dict[str, Any]:
    """Return the next message of these types."""
    async with asyncio.timeout(10):
        while True:
            event: dict[str, Any] = json.loads(await socket.recv())
            if event["type"] in types:
                return event


async def closing(socket: ClientConnection) -> int | None:
    """Return the code that the server closes with."""
    async with asyncio.timeout(10):
        try:
            while True:
                await socket.recv()
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


class Innocent:
    """Watches the worker and the sale while others misbehave."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.worker = psutil.Process(up.pids()["workers"][0])

    async def __aenter__(self) -> Innocent:
        self.socket, _ = await enter(self.up, token(self.up, sub=f"innocent-{os.urandom(4).hex()}"))
        self.before = self.worker.memory_info().rss
        return self

    async def __aexit__(self, *exc: object) -> None:
        buy = {"type": "buy", "id": 7, "offer": self.up.ready["demo_offer"], "qty": 1, "key": "i"}
        await self.socket.send(json.dumps(buy))
        assert (await read(self.socket, "order.reserved", "reject"))["type"] == "order.reserved"
        await self.socket.close()
        assert self.up.pids()["workers"][0] == self.worker.pid
        assert self.worker.memory_info().rss - self.before < GROWTH_BYTES_MAX


NOT_MESSAGES: list[str | bytes] = [
    b"\x81\xa4type\xa3buy",
    "{",
    "[1]",
    "null",
    '{"type":"ping","id":NaN,"t0":1}',
    '{"type":"ping","id":1,"t0":1}{}',
    "[" * 8_000,
    '{"type":"ping","id":1,"t0":1,"x":' + "[" * 5_000 + "]" * 5_000 + "}",
    '{"type":"chat","id":1,"key":"k","text":"\\ud800"}',
]


@pytest.mark.parametrize("rubbish", NOT_MESSAGES, ids=range(len(NOT_MESSAGES)))
async def test_what_is_not_a_message_closes_4400(up: Up, rubbish: str | bytes) -> None:
    """Wrong frame kind, no JSON, no map, NaN, two values, deep nesting, lone surrogates."""

    async def one() -> int | None:
        socket, _ = await enter(up, token(up))
        await socket.send(rubbish)
        return await closing(socket)

    async with Innocent(up):
        assert set(await asyncio.gather(*(one() for _ in range(AT_ONCE)))) == {4400}


async def test_text_where_binary_is_due_closes_4400(up: Up) -> None:
    """A text frame on the MessagePack subprotocol is not a message."""
    async with (
        Innocent(up),
        connect(url(up), subprotocols=[MSGPACK], compression=None) as socket,
    ):
        await socket.send('{"type":"hello","id":1}')
        assert await closing(socket) == 4400


async def test_frames_of_a_megabyte_close_4413(up: Up) -> None:
    """A frame over 16 KiB is refused by its header; whole or in fragments, nothing is gathered."""

    async def one(n: int) -> int | None:
        socket, _ = await enter(up, token(up))
        whole = "x" * 2**20
        try:
            await socket.send(
                whole if n % 2 else [whole[i : i + 1000] for i in range(0, 2**20, 1000)]
            )
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None
        return await closing(socket)

    async with Innocent(up):
        assert set(await asyncio.gather(*(one(n) for n in range(AT_ONCE)))) == {4413}


async def test_half_a_message_is_kept_from_nobody(up: Up) -> None:
    """Connections that send half a frame and fall silent, or vanish, cost nothing."""
    async with Innocent(up):
        for _ in range(AT_ONCE):
            socket, _ = await enter(up, token(up))
            assert socket.transport is not None
            socket.transport.write(b"\x81\xfe\x10\x00abcd" + b"x" * 100)
            socket.transport.abort()


async def test_ten_thousand_unknown_types_are_ten_thousand_rejects(up: Up) -> None:
    """Each is answered `unknown_type` with its id, and the connection stays."""
    async with Innocent(up):
        socket, _ = await enter(up, token(up))

        async def send() -> None:
            for n in range(10_000):
                await socket.send(f'{{"type":"nothing.{n}","id":{n}}}')

        sending = asyncio.create_task(send())
        for n in range(10_000):
            reject = await read(socket, "reject")
            assert (reject["code"], reject["re"]) == ("unknown_type", n)
        await sending
        await socket.close()


ILL_TYPED: list[tuple[dict[str, Any], str]] = [
    ({"type": "buy", "offer": "of_1", "qty": "1", "key": "k"}, "qty"),
    ({"type": "buy", "offer": "of_1", "qty": 10**30, "key": "k"}, "qty"),
    ({"type": "buy", "offer": "of_1", "qty": 0, "key": "k"}, "qty"),
    ({"type": "buy", "offer": "of_1", "qty": 1.5, "key": "k"}, "qty"),
    ({"type": "buy", "offer": "of_1", "qty": 1, "key": "a\u0000b"}, "key"),
    ({"type": "buy", "offer": "of_1", "qty": 1, "key": "a:b"}, "key"),
    ({"type": "buy", "offer": "of_\u0000", "qty": 1, "key": "k"}, "offer"),
    ({"type": "buy", "offer": ["of_1"], "qty": 1, "key": "k"}, "offer"),
    ({"type": "chat", "text": "\u0000", "key": "k"}, "text"),
    ({"type": "chat", "text": "x" * 301, "key": "k"}, "text"),
    ({"type": "cancel", "order": None}, "order"),
    ({"type": "react", "kind": "like", "n": 21}, "n"),
]


async def test_ill_typed_commands_name_their_field(up: Up) -> None:
    """Wrong types, huge numbers, NUL and separators are `bad_request` with the field."""
    async with Innocent(up):
        socket, _ = await enter(up, token(up))
        for n, (command, field) in enumerate(ILL_TYPED):
            await socket.send(json.dumps(command | {"id": n}))
            reject = await read(socket, "reject")
            assert (reject["re"], reject["code"], reject["field"]) == (n, "bad_request", field)
        await socket.close()


async def test_separators_in_names_do_no_harm(up: Up) -> None:
    """A user whose name is full of separators buys, and his key is his own."""
    async with Innocent(up):
        for sub in ("a:b", "a|b,c;d", "{of_1}", "1:a", "'; drop table orders; --", "名:前", "a b"):
            socket, welcome = await enter(up, token(up, sub=sub))
            assert welcome["you"]["id"] == sub
            buy = {"type": "buy", "id": 2, "offer": up.ready["demo_offer"], "qty": 1, "key": "s"}
            await socket.send(json.dumps(buy))
            answer = await read(socket, "order.reserved", "reject")
            assert answer["order"]["viewer"] == sub
            await socket.close()


async def test_bad_tokens_close_4401_or_4403(up: Up) -> None:
    """Expired, forged, unsigned, shapeless: 4401; for other streams only: 4403."""
    expired = token(up, exp=int(time.time()) - 10)
    forged = jwt.encode({"sub": "x", "role": "host", "exp": 2**31}, "x" * 32, algorithm="HS256")
    unsigned = jwt.encode({"sub": "x", "role": "host", "exp": 2**31}, "", algorithm="none")
    shapeless = (token(up, sub=""), token(up, role="root"), token(up, sub="a\u0000b"), "x.y.z", "")
    expected = dict.fromkeys((expired, forged, unsigned, *shapeless), 4401)
    expected[token(up, streams=["st_other"])] = 4403
    async with Innocent(up):
        for bad, code in expected.items():
            async with connect(url(up), subprotocols=[JSON], compression=None) as socket:
                await socket.send(json.dumps({"type": "hello", "id": 1, "token": bad}))
                assert (await read(socket, "reject"))["re"] == 1
                assert await closing(socket) == code
        async with connect(url(up, "st_nowhere"), subprotocols=[JSON], compression=None) as socket:
            await socket.send(json.dumps({"type": "hello", "id": 1, "token": token(up)}))
            assert await closing(socket) == 4404


async def test_host_commands_are_for_the_streams_host(up: Up) -> None:
    """A viewer, a guest and another shop's host may not pin, open, ban or remove."""
    commands = [
        {"type": "pin", "product": "pr_1"},
        {"type": "offer.close", "offer": up.ready["demo_offer"]},
        {"type": "offer.restock", "offer": up.ready["demo_offer"], "add": 5, "key": "k"},
        {"type": "ban", "user": "innocent"},
        {"type": "chat.remove", "message": "msg_1"},
    ]
    async with Innocent(up):
        for who, code in (
            (token(up), "forbidden"),
            (token(up, role="host", shop="another"), "forbidden"),
            (None, "unauthenticated"),
        ):
            socket, _ = await enter(up, who)
            for n, command in enumerate(commands):
                await socket.send(json.dumps(command | {"id": n}))
                reject = await read(socket, "reject")
                assert (reject["re"], reject["code"]) == (n, code), command
            await socket.close()
