"""However the network cuts the bytes, the same messages arrive; no bytes raise."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from streams.wire import Wire
from tests.contract.wire_rig import Recorder

REQUEST = (
    b"GET /v1/streams/st_1/ws HTTP/1.1\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Line(asyncio.Transport):
    """A transport to nowhere that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False

    def write(self, data: Any) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass  # nothing ever waits

    def abort(self) -> None:
        self.ended = True


def deliver(pieces: Sequence[bytes]) -> tuple[list[tuple[bytes, bool]], bytes, int]:
    """Return the messages heard, the bytes answered and how often the loss was told."""

    async def run() -> tuple[list[tuple[bytes, bool]], bytes, int]:
        front = Recorder()
        state = SimpleNamespace(connections=set())
        wire = Wire(cast(Any, None), cast(Any, state), {"hub": front})
        line = Line()
        wire.connection_made(line)
        wire.data_received(REQUEST)
        line.written = b""
        for piece in pieces:
            wire.data_received(piece)
        wire.connection_lost(None)
        assert not state.connections
        return front.ears[0].messages, line.written, front.ears[0].losses

    return asyncio.run(run())


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[tuple[bytes, bool]], bytes]:
    """Draw messages, each in one frame or in fragments with pings between, and their bytes."""
    expected, sent = [], b""
    lengths = st.integers(0, 300) | st.sampled_from([125, 126, 127, 16_000])
    for length in draw(st.lists(lengths, max_size=5)):
        binary, payload = draw(st.booleans()), draw(st.randoms()).randbytes(length)
        expected.append((payload, binary))
        cuts = sorted(draw(st.lists(st.integers(0, length), max_size=3)))
        parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, length], strict=True)]
        for number, part in enumerate(parts):
            opcode = Opcode.CONT if number else Opcode.BINARY if binary else Opcode.TEXT
            last = number == len(parts) - 1
            sent += Frame(opcode, part, fin=last).serialize(mask=True)
            control = draw(st.sampled_from([None, None, Opcode.PING, Opcode.PONG]))
            if control is not None:
                sent += Frame(control, b"beat").serialize(mask=True)
    return expected, sent


@unhurried
@given(conversations(), st.data())
def test_any_split_yields_the_same_messages(
    conversation: tuple[list[tuple[bytes, bool]], bytes], data: st.DataObject
) -> None:
    """Cutting valid frames anywhere changes neither the messages nor the answers."""
    expected, sent = conversation
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12)))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    messages, answers, losses = deliver(pieces)
    assert messages == expected
    assert (messages, answers, losses) == deliver([sent])
    assert losses == 1


@unhurried
@given(conversations())
def test_single_bytes_yield_the_same_messages(
    conversation: tuple[list[tuple[bytes, bool]], bytes],
) -> None:
    """Frames that come byte by byte are heard as if they came at once."""
    sent = conversation[1][:2_000]
    assert deliver([sent[n : n + 1] for n in range(len(sent))]) == deliver([sent])


@unhurried
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_random_bytes_never_raise(pieces: list[bytes]) -> None:
    """Noise is answered by at most a close frame, and the loss is told once."""
    assert deliver(pieces)[2] == 1


@unhurried
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=40))))
def test_random_headers_never_raise(frames: list[tuple[int, int, bytes]]) -> None:
    """Nearly right frames never raise either."""
    assert deliver([bytes((first, second)) + rest for first, second, rest in frames])[2] == 1


class Broken(Line):
    """A transport whose peer has broken off, which only the kernel knows yet."""

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, "not connected")


async def test_a_connection_that_is_broken_off_already_is_closed_all_the_same() -> None:
    """Closing raises nothing: one dead viewer would keep all others from being told."""
    front, line = Recorder(), Broken()
    wire = Wire(cast(Any, None), cast(Any, SimpleNamespace(connections=set())), {"hub": front})
    wire.connection_made(line)
    wire.data_received(REQUEST)
    wire.close(4503, "draining")
    assert line.ended
