"""livecart as the measurements know it: spawned whole, with a live stream and a product in it.

Owns how its commands and events look in MessagePack. Speaks protocol v1 only. Called by the
stations and by what measures.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from loadtest.bench.subject import EVENT_BYTES, Subject
from loadtest.frames import DIALECTS, handshake, masked
from loadtest.server import cpu_by_part, spawned
from loadtest.web import Api, make_token
from streams.codec import encode
from streams.protocol import Chatted, Message

PRODUCT = {"title": "限量茶具組", "price_minor": 1999, "currency": "TWD", "sku": "HUB-BENCH"}
CHATTER = "chatter"

_DIALECT = DIALECTS["msgpack"]
#: Out of the way: they would answer `rate_limited`, and what they cost is there all the same.
BOUNDS = {
    f"LIVECART_{of}_{bound}": "1000000"
    for of in ("CHAT", "HOST", "CONNECTS")
    for bound in ("PER_S", "BURST")
} | {"LIVECART_HEARTBEAT_MS": "300000"}  # a crowd that is not measured just now answers no ping


def command(kind: str, n: int, **fields: Any) -> bytes:
    """One command of protocol v1 as a client frame."""
    return masked(_DIALECT.opcode, _DIALECT.encode({"type": kind, "id": n, **fields}))


def mark_of(kind: str) -> bytes:
    """Return what tells a message of this type in MessagePack."""
    return b"\xa4type" + bytes([0xA0 | len(kind)]) + kind.encode()


def text_of(size: int) -> str:
    """Return the text that makes a chat event so many bytes, once its number has three."""
    message = Message(id="msg_" + "x" * 16, user=CHATTER, name=CHATTER, text="", at=1 << 40)
    spent = len(encode(Chatted(at=1 << 40, cseq=300, message=message), True))
    # A text of more than 31 bytes has its length in two bytes more than an empty one… or one.
    return "x" * max(1, size - spent - 1)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have what is started meanwhile find these in its environment."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


@asynccontextmanager
async def livecart() -> AsyncIterator[Subject]:
    """All of `livecart up` with one worker, on the server's processor: the log's Redis as well."""
    async with AsyncExitStack() as stack:
        with environment(BOUNDS):
            target = await stack.enter_async_context(spawned())
        api = Api(target.http, target.host_token)
        stream = (await api.call("POST", "/v1/streams", {"title": "Bench"}))["id"]
        await api.call("POST", f"/v1/streams/{stream}/start")
        product = (await api.call("POST", "/v1/products", PRODUCT))["id"]
        shake = handshake(f"{target.http}/v1/streams/{stream}/ws", _DIALECT)
        text, pids = text_of(EVENT_BYTES), target.pids
        assert pids is not None
        token = make_token(target.secret, CHATTER, "viewer", name=CHATTER)
        yield Subject(
            "livecart",
            shake.port,
            pids.workers[0],
            lambda: sum(cpu_by_part(pids).values()),
            shake.request,
            lambda n: command("chat", n, text=text, key=f"key-{n:08d}"),
            mark_of("chat"),
            hello=command("hello", 0),
            welcome=mark_of("welcome"),
            speaker=(shake.request, command("hello", 0, token=token)),
            pin=lambda n: command("pin", n, product=product),
            pin_mark=mark_of("pinned"),
            host=(shake.request, command("hello", 0, token=target.host_token)),
            ping=command("ping", 1, t0=1),
            pong=mark_of("pong"),
            secret=target.secret,
            stream=stream,
            product=product,
            api=api,
        )
