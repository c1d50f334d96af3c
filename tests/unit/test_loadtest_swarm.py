"""Viewers against a small WebSocket server of another make: every buy ends, under its one key."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from loadtest.frames import DIALECTS, JSON, Dialect, Heard, handshake
from loadtest.history import History
from loadtest.patience import Patience
from loadtest.swarm import Swarm
from loadtest.viewer import READY, Viewer
from streams import protocol

QUICK = Patience(
    back_off_min_s=0.01,
    back_off_max_s=0.05,
    answer_timeout_s=0.3,
    handshake_timeout_s=2.0,
    retry_min_s=0.01,
    retry_max_s=0.05,
    attempts_max=30,
)
ENDS_S = 15.0


class Shop:
    """A server that sells; `twist` may answer a buy in its stead (True) or let it be."""

    def __init__(
        self, twist: Callable[[Shop, ServerConnection, dict[str, Any]], Awaitable[bool]]
    ) -> None:
        self.twist = twist
        self.seen: dict[str, list[str]] = defaultdict(list)  # key: tokens that sent it
        self.hellos: list[dict[str, Any]] = []
        self.orders: dict[str, int] = {}

    async def serve_one(self, socket: ServerConnection) -> None:
        async for frame in socket:
            command = self.read(frame)
            if command["type"] == "hello":
                self.hellos.append(command)
                socket.token = command["token"]  # type: ignore[attr-defined]
                await self.welcome(socket, command)
                continue
            self.seen[command["key"]].append(socket.token)  # type: ignore[attr-defined]
            if not await self.twist(self, socket, command):
                await self.sell(socket, command)

    @staticmethod
    def read(frame: str | bytes) -> dict[str, Any]:
        found = msgspec.json.decode(frame) if isinstance(frame, str) else msgpack.unpackb(frame)
        assert isinstance(found, dict)
        return found

    async def welcome(self, socket: ServerConnection, command: dict[str, Any]) -> None:
        since = command.get("since")
        message = {"type": "welcome", "re": command["id"], "epoch": "e1", "seq": 5, "cseq": 2}
        await self.say(socket, message | ({"recovered": True} if since else {}))

    async def say(self, socket: ServerConnection, message: dict[str, Any]) -> None:
        if socket.subprotocol == protocol.MSGPACK_SUBPROTOCOL:
            await socket.send(msgpack.packb(message))
        else:
            await socket.send(msgspec.json.encode(message).decode())

    async def sell(self, socket: ServerConnection, command: dict[str, Any]) -> None:
        rank = self.orders.setdefault(command["key"], len(self.orders) + 1)
        order = {"id": f"or_{rank}", "rank": rank, "key": command["key"], "status": "reserved"}
        await self.say(socket, {"type": "order.reserved", "order": order, "re": command["id"]})

    async def refuse(
        self, socket: ServerConnection, command: dict[str, Any], code: str, **more: Any
    ) -> None:
        await self.say(socket, {"type": "reject", "re": command["id"], "code": code, **more})


async def plain(shop: Shop, socket: ServerConnection, command: dict[str, Any]) -> bool:
    return False


def once(
    act: Callable[[Shop, ServerConnection, dict[str, Any]], Awaitable[None]],
) -> Callable[[Shop, ServerConnection, dict[str, Any]], Awaitable[bool]]:
    """Do `act` in place of the first answer to each key."""

    async def twist(shop: Shop, socket: ServerConnection, command: dict[str, Any]) -> bool:
        if len(shop.seen[command["key"]]) > 1:
            return False
        await act(shop, socket, command)
        return True

    return twist


@asynccontextmanager
async def sale(
    shop: Shop, dialect: Dialect = JSON, viewers: int = 10, patience: Patience = QUICK
) -> AsyncIterator[Swarm]:
    """A connected swarm of `viewers`, three buys each."""
    names = [Subprotocol(dialect.subprotocol)]
    async with serve(shop.serve_one, "127.0.0.1", 0, subprotocols=names) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        history = History([f"v{n}" for n in range(viewers)], 3, 1, "run")
        url = f"ws://127.0.0.1:{port}/v1/streams/st_1/ws"
        swarm = Swarm(url, [f"token-{n}" for n in range(viewers)], history, dialect, patience)
        swarm.build("of_1")
        try:
            await swarm.connect(ENDS_S)
            yield swarm
        finally:
            await swarm.close()


async def sold(swarm: Swarm) -> History:
    """Send everything and wait until each buy has ended."""
    await swarm.volley()
    async with asyncio.timeout(ENDS_S):
        await swarm.history.done.wait()
    return swarm.history


@pytest.mark.parametrize("name", ["json", "msgpack"])
async def test_every_buy_of_every_viewer_is_answered(name: str) -> None:
    """In both subprotocols each key arrives once, with its viewer's token."""
    shop = Shop(plain)
    async with sale(shop, DIALECTS[name]) as swarm:
        history = await sold(swarm)
    assert {buy.verdict for buy in history.buys()} == {"acknowledged"}
    assert [shop.seen[key] for key in history.keys] == [[f"token-{n // 3}"] for n in range(30)]
    assert swarm.faults == []


async def test_retry_is_sent_again_with_its_key() -> None:
    """A passing refusal ends in a final answer to the same key, after the time it names."""

    async def retry(shop: Shop, socket: ServerConnection, command: dict[str, Any]) -> None:
        await shop.refuse(socket, command, "retry", retry_after_ms=20)

    shop = Shop(once(retry))
    async with sale(shop) as swarm:
        history = await sold(swarm)
    assert swarm.tally["passing_retry"] == 30
    assert {len(tokens) for tokens in shop.seen.values()} == {2}
    assert all(buy.answered_ns - buy.sent_ns >= 20_000_000 for buy in history.buys())


async def test_endless_retry_is_given_up() -> None:
    """Attempts are bounded: the buy ends unknown, it does not go on for ever."""

    async def retry(shop: Shop, socket: ServerConnection, command: dict[str, Any]) -> bool:
        await shop.refuse(socket, command, "retry", retry_after_ms=0)
        return True

    async with sale(Shop(retry), viewers=1) as swarm:
        history = await sold(swarm)
    assert history.given_up == {"retry": 3}
    assert set(history.attempts) == {QUICK.attempts_max}


async def test_unanswered_buys_are_sent_again_after_a_lost_connection() -> None:
    """A connection that breaks costs no buy, and the viewer says where it was."""

    async def drop(shop: Shop, socket: ServerConnection, command: dict[str, Any]) -> None:
        socket.transport.abort()

    shop = Shop(once(drop))
    async with sale(shop) as swarm:
        history = await sold(swarm)
        assert swarm.tally["reconnects"] >= 10
    assert {buy.verdict for buy in history.buys()} == {"acknowledged"}
    assert history.contradictions() == []
    again = [hello for hello in shop.hellos if "since" in hello]
    assert again[0]["since"] == {"epoch": "e1", "seq": 5, "cseq": 2}


async def test_a_silent_connection_is_left() -> None:
    """A server that is stopped keeps connections open: silence alone makes a viewer reconnect."""

    async def silence(shop: Shop, socket: ServerConnection, command: dict[str, Any]) -> None:
        return

    async with sale(Shop(once(silence)), viewers=3) as swarm:
        history = await sold(swarm)
        assert swarm.tally["silent"] >= 3
    assert {buy.verdict for buy in history.buys()} == {"acknowledged"}


async def test_a_banned_viewer_does_not_come_back() -> None:
    """After a close that forbids it there is no reconnect, and its buys end unknown."""

    async def ban(shop: Shop, socket: ServerConnection, command: dict[str, Any]) -> bool:
        await socket.close(4403)
        return True

    shop = Shop(ban)
    async with sale(shop, viewers=2) as swarm:
        history = await sold(swarm)
    assert history.given_up == {"close_4403": 6}
    assert len(shop.hellos) == 2


async def test_a_gap_in_a_sequence_is_a_fault() -> None:
    """I7: an event that is not the next one is reported with both numbers."""

    async def gap(shop: Shop, socket: ServerConnection, command: dict[str, Any]) -> bool:
        for seq in (6, 8):
            await shop.say(socket, {"type": "offer.sold_out", "offer": "of_1", "seq": seq, "at": 1})
        return False

    async with sale(Shop(gap), viewers=1) as swarm:
        await sold(swarm)
    assert swarm.faults[0] == "I7: seq 8 after 6 (offer.sold_out)"


class Pipe(asyncio.Transport):
    """Takes what is written; nothing else is asked of it."""

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        return


def frame_of(message: dict[str, Any]) -> bytes:
    payload = msgspec.json.encode(message)
    size = len(payload)
    head = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return b"\x81" + head + payload


@pytest.mark.parametrize("bytes_each", [1, 2, 3, 7, 130, 100_000])
async def test_messages_may_arrive_in_any_pieces(bytes_each: int) -> None:
    """Where the network cuts the stream changes nothing that a viewer hears."""
    order = {"id": "or_1", "rank": 1, "key": "run.0", "status": "reserved", "note": "x" * 150}
    data = b"".join(
        frame_of(message)
        for message in (
            {"type": "stock", "offer": "of_1", "left": 3, "version": 2},
            {"type": "order.reserved", "order": order, "re": 1},
            {"type": "reject", "re": 2, "code": "sold_out", "message": "y" * 70_00},
            {"type": "offer.sold_out", "offer": "of_1", "seq": 1, "at": 1},
        )
    )
    history = History(["v0"], 2, 1, "run")
    swarm = Swarm("ws://127.0.0.1:9/x", ["token"], history, JSON)
    viewer = Viewer(swarm, 0)
    viewer.transport, viewer.phase = Pipe(), READY
    for start in range(0, len(data), bytes_each):
        viewer.data_received(data[start : start + bytes_each])
    assert history.outcome == ["order.reserved", "sold_out"]
    assert (viewer.seq, viewer.tail, swarm.faults) == (1, b"", [])


def test_skipped_messages_are_recognised_as_the_server_writes_them() -> None:
    """The cheap test on the first bytes fits both encodings of what no buyer needs."""
    for event in (
        protocol.Stock(offer="of_1", left=1, version=1),
        protocol.Viewers(count=5000),
        protocol.Reactions(counts={"like": 3}),
    ):
        for dialect, encode in (
            (DIALECTS["json"], msgspec.json.encode),
            (DIALECTS["msgpack"], msgspec.msgpack.encode),
        ):
            assert encode(event).startswith(dialect.skipped, dialect.skip_offset)


def test_what_a_buyer_must_know_is_read_from_whole_messages() -> None:
    """The narrow decoder reads a full order event and passes over the rest."""
    event = protocol.OrderReserved(
        re=7,
        order=protocol.Order(
            id="or_1",
            stream="st_1",
            offer="of_1",
            product="pr_1",
            viewer="ann",
            qty=1,
            unit_price_minor=1999,
            amount_minor=1999,
            currency="TWD",
            status="reserved",
            rank=3,
            key="k",
            version=1,
            reserved_at=1,
        ),
    )
    heard: Heard = JSON.decode(msgspec.json.encode(event))
    assert heard.order is not None
    assert (heard.type, heard.re, heard.order.id, heard.order.rank) == (
        "order.reserved",
        7,
        "or_1",
        3,
    )


def test_an_upgrade_to_something_else_is_refused() -> None:
    """A 101 with another accept key or subprotocol is no welcome."""
    shake = handshake("ws://127.0.0.1:80/v1/streams/st_1/ws", JSON)
    right = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: %b\r\n" % shake.accept
    named = right + b"sec-websocket-protocol: livecart.v1.json"
    assert shake.status(named) == 101
    assert shake.status(named.replace(b"json", b"msgpack")) == 0
    assert shake.status(right) == 0
    assert shake.status(b"HTTP/1.1 503 Service Unavailable") == 503
