"""The fan-out benchmark works on both sides; how fast they are is not a test's business."""

from __future__ import annotations

from loadtest.scenarios.fanout import Fanned, Server, measure, plain_starlette, report
from streams import codec, protocol
from streams.ports import Socket
from tests.contract.wire_rig import Heard, Running, serving

VIEWERS, MESSAGES = 20, 3
YOU = protocol.You(id="u_1", role="host", name="U")
STREAM = protocol.Stream(id="st_1", shop="s", title="限時", status="live")
PRODUCT = protocol.Product(id="pr_1", shop="s", sku="x", title="t", price_minor=1, currency="TWD")


def broadcast_pins(running: Running) -> None:
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
            case protocol.Ping(id=number, t0=t0):
                answer = protocol.Pong(re=number, t0=t0, now=1)
            case protocol.PinCommand(id=number, product=product):
                pin = protocol.Pin(id=f"pin_{product}", product=PRODUCT, position=0)
                broadcast.append(
                    codec.Ready(protocol.Pinned(at=1, seq=len(broadcast) + 1, pin=pin))
                )
                for viewer in room:
                    viewer.write(broadcast[-1].frame(viewer.form))
                answer = protocol.Ok(re=number, pin=pin)
            case other:
                raise AssertionError(other)
        ear.socket.write(codec.Ready(answer).frame(ear.socket.form))

    broadcast: list[codec.Ready] = []
    running.front.on_message = take


def check(found: Fanned) -> None:
    assert found.viewers == VIEWERS
    assert len(found.skews_ms) == len(found.first_ms) == MESSAGES
    assert found.deliveries_per_s > 0


async def test_every_viewer_of_both_servers_is_counted() -> None:
    """Each pin is seen once by each viewer, of the peer and of frames that are built once."""
    async with plain_starlette() as peer:
        plain = await measure(peer, VIEWERS, MESSAGES)
    async with serving() as running:
        broadcast_pins(running)
        url = f"http://127.0.0.1:{running.port}"
        ready = await measure(Server("wire", url), VIEWERS, MESSAGES)
    check(plain)
    check(ready)
    assert "ratio" in report([plain, ready])
