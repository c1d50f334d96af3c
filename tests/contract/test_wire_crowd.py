"""The crowd counts what real servers send it; how fast they are is not a test's business."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtest.bench.ours import command, mark_of
from loadtest.bench.stations import Failed, Station, stations
from loadtest.bench.subject import Subject
from loadtest.frames import DIALECTS, handshake
from streams import codec, protocol
from streams.ports import Socket
from tests.contract.wire_rig import Heard, Running, serving

VIEWERS, EVENTS = 20, 3
YOU = protocol.You(id="u_1", role="host", name="U")
STREAM = protocol.Stream(id="st_1", shop="s", title="限時", status="live")
PRODUCT = protocol.Product(id="pr_1", shop="s", sku="x", title="t", price_minor=1, currency="TWD")


def broadcast_pins(running: Running, times: int = 1) -> None:
    """Let the rig's front do what the hub does with a pin: one frame, built once, to everyone."""
    room: list[Socket] = []

    def take(ear: Heard, payload: bytes, binary: bool) -> None:
        answer: protocol.Event
        match codec.decode(payload, binary, ear.socket.form == codec.MSGPACK):
            case protocol.Hello(id=number):
                room.append(ear.socket)
                answer = protocol.Welcome(
                    re=number, stream=STREAM, epoch="e", seq=0, cseq=0, now=1, you=YOU, pins=[],
                    offers=[], orders=[], viewers=1, heartbeat_ms=20_000,
                )  # fmt: skip
            case protocol.PinCommand(id=number, product=product):
                pin = protocol.Pin(id=f"pin_{product}", product=PRODUCT, position=0)
                ready = codec.Ready(protocol.Pinned(at=1, seq=1, pin=pin))
                for viewer in room * times:
                    viewer.write(ready.frame(viewer.form))
                answer = protocol.Ok(re=number, pin=pin)
            case other:
                raise AssertionError(other)
        ear.socket.write(codec.Ready(answer).frame(ear.socket.form))

    running.front.on_message = take


def wire(running: Running) -> Subject:
    """The rig, as a measurement knows a server."""
    shake = handshake(f"http://127.0.0.1:{running.port}/v1/streams/st_1/ws", DIALECTS["msgpack"])
    hello = command("hello", 0)
    return Subject(
        "wire",
        running.port,
        os.getpid(),
        lambda: 0.0,
        shake.request,
        lambda n: command("pin", n, product="pr_1"),
        mark_of("pinned"),
        hello=hello,
        welcome=mark_of("welcome"),
        speaker=(shake.request, hello),
        host=(shake.request, hello),
    )


@asynccontextmanager
async def at_the_rig(running: Running) -> AsyncIterator[Station]:
    """Bring a speaker and viewers to the rig."""

    @asynccontextmanager
    async def started() -> AsyncIterator[Subject]:
        yield wire(running)

    async with stations({"wire": started}, ("wire",), {}, pytest.fail) as all_:
        station = all_["wire"]
        await station.speakers()
        await station.fill(VIEWERS)
        yield station


async def test_every_viewer_is_counted_once_for_each_event() -> None:
    """A frame that is built once reaches each viewer, and is seen there as often as it was said."""
    async with serving() as running:
        broadcast_pins(running)
        async with at_the_rig(running) as station:
            answer = await station.say(EVENTS, exact=True)
    assert answer.n == VIEWERS * EVENTS
    assert len(answer.firsts_s) == len(answer.lasts_s) == EVENTS
    assert all(
        0 < first <= last for first, last in zip(answer.firsts_s, answer.lasts_s, strict=True)
    )


async def test_an_event_too_many_fails() -> None:
    """A server that sends everything twice is not taken for one that is twice as fast."""
    async with serving() as running:
        broadcast_pins(running, times=2)
        async with at_the_rig(running) as station:
            with pytest.raises(Failed, match="more than was said"):
                await station.say(1, exact=True)
