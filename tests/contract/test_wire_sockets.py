"""`Wire` on a real server and both event loops, against websockets' client and raw sockets."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from streams import codec
from streams.head import HEAD_BYTES_MAX, Head
from streams.ports import Socket
from streams.protocol import FRAME_BYTES_MAX, MSGPACK_SUBPROTOCOL
from streams.wire import UNSENT_BYTES_MAX, Wire
from tests.contract.wire_rig import Heard, Running, serving

REQUEST = (
    b"GET /v1/streams/st_1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\n"
    b"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
WAIT_S = 10.0
SIOCOUTQNSD = 0x894B  # of Linux: how many bytes of a socket were not sent yet

Test = Callable[[Running], Awaitable[None]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Test], None]:
    """Run a test against its own server, on either event loop."""

    async def main(test: Test) -> None:
        async with serving(http=Head) as running:
            running.front.on_message = echo
            await test(running)

    def start(test: Test) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main(test))

    return start


def echo(ear: Heard, payload: bytes, binary: bool) -> None:
    ear.socket.write(codec.frame(payload, binary))


def masked(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


@asynccontextmanager
async def raw(running: Running) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection and pass the handshake by hand."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        writer.write(REQUEST)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_S)
        assert b" 101 " in answer
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def client(running: Running, **options: Any) -> AsyncIterator[ClientConnection]:
    async with connect(running.url, proxy=None, **options) as connection:
        yield connection


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Read to the orderly end: a reset would raise."""
    return await asyncio.wait_for(reader.read(), WAIT_S)


async def close_code(connection: ClientConnection) -> int | None:
    async with asyncio.timeout(WAIT_S):
        await connection.wait_closed()
    return connection.close_code


def test_messages_of_both_kinds_arrive_and_return(run: Callable[[Test], None]) -> None:
    """Text and binary, short, long and fragmented, are heard as one message each."""

    async def test(running: Running) -> None:
        async with client(running) as c:
            for message in ("", "限時", "x" * 126, b"\x00" * FRAME_BYTES_MAX):
                await c.send(message)
                assert await c.recv() == message
            await c.send(["frag", "", "men", "ted"])
            assert await c.recv() == "fragmented"
            await (await c.ping(b"beat"))

    run(test)


def test_the_front_learns_who_comes(run: Callable[[Test], None]) -> None:
    """Stream, token of the header, subprotocol and address reach the front."""

    async def test(running: Running) -> None:
        headers = {"Authorization": "Bearer a.b.c"}
        spoken = [Subprotocol("chat"), Subprotocol(MSGPACK_SUBPROTOCOL)]
        async with client(running, additional_headers=headers, subprotocols=spoken) as c:
            assert c.subprotocol == MSGPACK_SUBPROTOCOL
            ear = running.front.ears[0]
            assert (ear.stream_id, ear.token, ear.peer) == ("st_1", "a.b.c", "127.0.0.1")
            assert ear.socket.form == codec.MSGPACK

    run(test)


def test_a_refused_handshake_is_answered_whole(run: Callable[[Test], None]) -> None:
    """A full house is 503 and a wrong address 404, both readable by an ordinary client."""

    async def test(running: Running) -> None:
        running.front.full = True
        with pytest.raises(InvalidStatus) as refused:
            await connect(running.url, proxy=None)
        response = refused.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
        with pytest.raises(InvalidStatus) as refused:
            await connect(running.url + "/x", proxy=None)
        assert refused.value.response.status_code == 404
        assert b'"code":"not_found"' in (refused.value.response.body or b"")
        assert not running.front.ears

    run(test)


def test_plain_http_is_left_to_the_application(run: Callable[[Test], None]) -> None:
    """A request without an upgrade does not reach the wire, and may precede one that does."""

    async def test(running: Running) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /v1/streams/st_1/ws HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"418" in await reader.readuntil(b"plain http\r\n0\r\n\r\n")
        writer.write(REQUEST + masked(Opcode.TEXT, b"hi"))
        assert (await reader.readuntil(b"\x81\x02hi")).startswith(b"HTTP/1.1 101 ")
        writer.transport.abort()

    run(test)


def test_frames_that_come_with_the_request_are_heard(run: Callable[[Test], None]) -> None:
    """Wherever the network cuts request and first frames, no frame is lost."""

    async def test(running: Running) -> None:
        sent = REQUEST + masked(Opcode.TEXT, b"one") + masked(Opcode.TEXT, b"two")
        for cut in (len(sent), len(REQUEST) - 3, len(REQUEST) - 1, len(REQUEST) + 1, 40):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(sent[:cut])
            await asyncio.sleep(0)
            writer.write(sent[cut:])
            end = b"\x81\x03one\x81\x03two"
            answer = await asyncio.wait_for(reader.readuntil(end), WAIT_S)
            assert answer.startswith(b"HTTP/1.1 101 ")
            writer.transport.abort()

    run(test)


def test_a_request_may_come_byte_by_byte(run: Callable[[Test], None]) -> None:
    """Request and frames in single bytes are as good as in one piece."""

    async def test(running: Running) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in REQUEST + masked(Opcode.BINARY, b"x" * 130) + masked(Opcode.PING, b"p"):
            writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        await asyncio.wait_for(reader.readuntil(b"\x82\x7e\x00\x82" + b"x" * 130), WAIT_S)
        assert await reader.readexactly(3) == b"\x8a\x01p"
        writer.transport.abort()

    run(test)


def test_an_endless_head_is_refused(run: Callable[[Test], None]) -> None:
    """A head beyond the bound is answered 431, not gathered."""

    async def test(running: Running) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(REQUEST[:-2] + b"x: " + b"a" * HEAD_BYTES_MAX)
        assert b" 431 " in await asyncio.wait_for(reader.readline(), WAIT_S)
        writer.transport.abort()

    run(test)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x81\x02hi", 1002),  # not masked
        (b"\xc1\x80mask", 1002),  # compressed, which was not agreed on
        (b"\x83\x80mask", 1002),  # an opcode that does not exist
        (b"\x09\x80mask", 1002),  # half a ping
        (b"\x89\xfe\x00\x7emask", 1002),  # a ping of 126 bytes
        (masked(Opcode.CONT, b"x"), 1002),  # a continuation of nothing
        (masked(Opcode.TEXT, b"a", fin=False) + masked(Opcode.TEXT, b"b"), 1002),
        (b"\x88\x81mask" + b"x", 1002),  # half a close code
        (masked(Opcode.CLOSE, b"\x03\xed"), 1002),  # 1005 may not be sent
        (masked(Opcode.CLOSE, b"\x03\xe8\xff"), 1007),  # a reason that is not UTF-8
        (b"\x82\xfe\x40\x01", 4413),  # 16 KiB and a byte, judged before a byte of it came
        (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", 4413),
        (masked(Opcode.TEXT, b"x" * FRAME_BYTES_MAX, fin=False) + b"\x80\xfe\x00\x80", 4413),
        (masked(Opcode.TEXT, b"x" * FRAME_BYTES_MAX, fin=False) + masked(Opcode.CONT, b"x"), 4413),
        (masked(Opcode.BINARY, b"x" * 2**20), 4413),
        (masked(Opcode.CLOSE, b"\x03\xe8bye"), 1000),
    ],
    ids=range(16),
)
def test_what_ends_a_connection_ends_it_in_order(
    run: Callable[[Test], None], sent: bytes, code: int
) -> None:
    """What came before is answered, then the close code, then the end of the stream, no reset."""

    async def test(running: Running) -> None:
        async with raw(running) as (reader, writer):
            writer.write(masked(Opcode.TEXT, b"hi") + sent + masked(Opcode.TEXT, b"late"))
            answer = await rest(reader)
            assert answer.startswith(b"\x81\x02hi\x88")
            assert int.from_bytes(answer[6:8], "big") == code
            writer.close()
        await running.until(lambda: running.front.ears[0].losses == 1)
        assert running.front.ears[0].messages == [(b"hi", False)]
        await running.until(lambda: not running.server.server_state.connections)

    run(test)


def test_an_empty_close_is_answered_alike(run: Callable[[Test], None]) -> None:
    """A close frame without a code is echoed without one."""

    async def test(running: Running) -> None:
        async with raw(running) as (reader, writer):
            writer.write(masked(Opcode.CLOSE, b""))
            assert await rest(reader) == b"\x88\x00"

    run(test)


def test_pongs_and_half_frames_count_as_signs_of_life(run: Callable[[Test], None]) -> None:
    """Every byte moves `heard_at`, and a pong reaches nobody."""

    async def test(running: Running) -> None:
        async with raw(running) as (reader, writer):
            ear = running.front.ears[0]
            ear.socket.ping()
            assert await reader.readexactly(2) == b"\x89\x00"
            for sent in (masked(Opcode.PONG, b""), masked(Opcode.TEXT, b"half")[:7]):
                ear.socket.heard_at = 0
                writer.write(sent)
                await running.until(lambda: ear.socket.heard_at > 0)
            assert not ear.messages

    run(test)


def test_reject_then_close_both_arrive(run: Callable[[Test], None]) -> None:
    """A session's last words come through though the client is still sending."""

    async def test(running: Running) -> None:
        def refuse(ear: Heard, payload: bytes, binary: bool) -> None:
            ear.socket.write(codec.frame(b"no", False))
            ear.socket.close(4403, "banned")
            ear.socket.close(1000)
            ear.socket.write(codec.frame(b"never", False))

        running.front.on_message = refuse
        async with raw(running) as (reader, writer):
            writer.write(masked(Opcode.TEXT, b"hi") * 5_000)
            assert await rest(reader) == b"\x81\x02no\x88\x08\x11\x33banned"
            writer.write(masked(Opcode.TEXT, b"more") * 5_000)
            await writer.drain()
            assert running.front.ears[0].losses == 0
            writer.close()
            await running.until(lambda: running.front.ears[0].losses == 1)
        assert len(running.front.ears[0].messages) == 1

    run(test)


def test_what_waits_is_written_before_the_end(run: Callable[[Test], None]) -> None:
    """Bytes that the kernel had no room for arrive before the close frame."""

    async def test(running: Running) -> None:
        async with raw(running) as (reader, _):
            wire = running.front.ears[0].socket
            wire.write(codec.frame(b"x" * 20_000_000, True))
            assert wire.waiting_bytes() > 0
            wire.close(4508, "slow")
            answer = await rest(reader)
            assert len(answer) > 20_000_000
            assert answer.endswith(b"\x88\x06\x11\x9cslow")

    run(test)


def narrow(wire: Socket) -> None:
    """Have the kernel take little of what is written, as it does for a client far away."""
    assert isinstance(wire, Wire)
    sock = wire._transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def test_the_ear_is_told_when_bytes_wait_and_when_none_do(run: Callable[[Test], None]) -> None:
    """Once each time, and not in the middle of the write; a client that reads is no matter."""

    async def test(running: Running) -> None:
        async with raw(running) as (reader, _):
            ear = running.front.ears[0]
            ear.socket.write(codec.frame(b"x" * 100, True))
            assert ear.socket.waiting_bytes() == 0
            await reader.readexactly(102)
            for times in (1, 2):
                ear.socket.write(codec.frame(b"x" * 20_000_000, True))
                assert ear.stalls == times - 1
                await running.until(lambda times=times: ear.stalls == times)  # type: ignore[misc]
                ear.socket.write(codec.frame(b"more", True))
                await reader.readexactly(20_000_010 + 6)
                await running.until(lambda times=times: ear.drains == times)  # type: ignore[misc]
            assert ear.socket.waiting_bytes() == 0
            assert (ear.stalls, ear.drains, ear.chokes) == (2, 2, 0)

    run(test)


def test_what_is_written_when_nothing_waits_any_more_is_watched_too(
    run: Callable[[Test], None],
) -> None:
    """An ear that writes the next portion when the last one is out hears of that one, too."""

    async def test(running: Running) -> None:
        async with raw(running) as (reader, _):
            ear = running.front.ears[0]
            narrow(ear.socket)
            portions = [codec.frame(bytes([n]) * 300_000, True) for n in range(20)]
            total = sum(map(len, portions))

            def next_portion() -> None:
                ear.drains += 1
                if portions:
                    ear.socket.write(portions.pop(0))

            ear.drained = next_portion  # type: ignore[method-assign]
            ear.socket.write(portions.pop(0))
            got = await reader.readexactly(total)
            assert [got[n * 300_010 + 50] for n in range(20)] == list(range(20))
            await running.until(lambda: not portions and not ear.socket.waiting_bytes())

    run(test)


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.PING])
def test_who_reads_no_answers_is_not_read_either(
    run: Callable[[Test], None], opcode: Opcode
) -> None:
    """A client that only sends is held up; once it reads it gets every answer, in order."""
    count, body = 40_000, 60

    async def test(running: Running) -> None:
        def answer(ear: Heard, payload: bytes, binary: bool) -> None:
            ear.socket.write(codec.frame(payload, binary))
            if ear.socket.waiting_bytes() > 64 * 1024:
                ear.socket.hold()

        running.front.on_message = answer
        async with raw(running) as (reader, writer):
            ear = running.front.ears[0]
            ear.drained = ear.socket.listen  # type: ignore[method-assign]
            most = 0

            async def send() -> None:
                nonlocal most
                for n in range(count):
                    writer.write(masked(opcode, b"%060d" % n))
                    if n % 100 == 0:
                        await writer.drain()
                        most = max(most, ear.socket.waiting_bytes())

            sending = asyncio.create_task(send())
            wire = ear.socket
            assert isinstance(wire, Wire)
            await running.until(lambda: wire._held)
            for n in range(count):
                frame = await reader.readexactly(2 + body)
                assert int(frame[2:]) == n
            await sending
            assert most < 400_000  # what one reading of the socket brings, and its answers
            assert wire.waiting_bytes() == 0
            writer.write(masked(Opcode.TEXT, b"x"))
            assert await reader.readexactly(3) == b"\x81\x01x"

    run(test)


def test_the_kernel_keeps_little_that_is_not_sent(run: Callable[[Test], None]) -> None:
    """What matters is not stuck behind megabytes that a client has no room for."""

    async def test(running: Running) -> None:
        async with raw(running):
            wire = running.front.ears[0].socket
            assert isinstance(wire, Wire)
            taken = 0
            while not wire.waiting_bytes():  # until the client's own buffer is full, and ours
                wire.write(codec.frame(b"x" * 1_000, True))
                taken += 1_004
                await asyncio.sleep(0)
            sock = wire._transport.get_extra_info("socket")
            unsent = fcntl.ioctl(sock.fileno(), SIOCOUTQNSD, b"\0" * 4)
            assert (
                int.from_bytes(unsent, sys.byteorder) <= 4 * UNSENT_BYTES_MAX
            )  # it rounds up to its segments

    run(test)


def test_a_snapshot_that_nobody_takes_does_not_wait_for_good(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that reads nothing is told of after a while; one that did read is not."""
    monkeypatch.setattr("streams.wire.APART_WITHIN_S", 0.2)

    async def test(running: Running) -> None:
        async with raw(running) as (reader, _), raw(running):
            reads, sleeps = running.front.ears
            narrow(sleeps.socket)
            for ear in (reads, sleeps):
                ear.socket.write_apart(codec.frame(b"x" * 3_000_000, True))
            await reader.readexactly(3_000_010)
            await running.until(lambda: sleeps.chokes == 1)
            assert reads.chokes == 0

    run(test)


def test_a_peer_that_never_finishes_is_dropped(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that neither reads nor closes is aborted at the end of the timeout."""
    monkeypatch.setattr("streams.wire.CLOSE_TIMEOUT_S", 0.05)

    async def test(running: Running) -> None:
        async with raw(running):
            ear = running.front.ears[0]
            ear.socket.write(codec.frame(b"x" * 20_000_000, True))
            ear.socket.close(4508, "slow")
            await running.until(lambda: ear.losses == 1)
            assert not running.server.server_state.connections

    run(test)


def test_a_connection_that_breaks_off_is_lost_once(run: Callable[[Test], None]) -> None:
    """Half a message and a dead client leave nothing behind, be it by FIN or by RST."""

    async def test(running: Running) -> None:
        for how in ("fin", "rst"):
            async with raw(running) as (_, writer):
                writer.write(masked(Opcode.TEXT, b"half a message")[:9])
                await writer.drain()
                ear = running.front.ears[-1]
                if how == "fin":
                    writer.write_eof()
                else:
                    linger = struct.pack("ii", 1, 0)  # closing sends RST
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                await running.until(lambda: running.front.ears[-1].losses)
            await running.until(lambda: not running.server.server_state.connections)
            ear.socket.write(b"late")
            ear.socket.write_apart(b"late")
            ear.socket.ping()
            ear.socket.close(1000)
            ear.socket.abort()
            assert (ear.losses, ear.messages) == (1, [])

    run(test)


def test_abort_drops_at_once(run: Callable[[Test], None]) -> None:
    """A session that aborts in the middle of a read hears nothing more of it."""

    async def test(running: Running) -> None:
        running.front.on_message = lambda ear, payload, binary: ear.socket.abort()
        async with raw(running) as (_, writer):
            writer.write(masked(Opcode.TEXT, b"hi") * 3)
            await running.until(lambda: running.front.ears[0].losses)
            assert len(running.front.ears[0].messages) == 1

    run(test)


def test_a_front_may_close_during_its_welcome(run: Callable[[Test], None]) -> None:
    """A connection that is closed while it is accepted gets its handshake and the code."""

    async def test(running: Running) -> None:
        running.front.on_accept = lambda ear: ear.socket.close(4429)
        async with client(running) as c:
            assert await close_code(c) == 4429

    run(test)


def test_small_frames_are_not_delayed(run: Callable[[Test], None]) -> None:
    """Nagle's algorithm is off, so a lone frame leaves at once."""

    async def test(running: Running) -> None:
        async with raw(running):
            wire = running.front.ears[0].socket
            assert isinstance(wire, Wire)
            sock = wire._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(test)


def test_answers_are_not_delayed(run: Callable[[Test], None]) -> None:
    """So it is for calls over HTTP, where head and body of an answer are two writes."""

    async def test(running: Running) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        try:
            await running.until(lambda: running.server.server_state.connections)
            (head,) = running.server.server_state.connections
            sock = head.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        finally:
            writer.close()
            await writer.wait_closed()

    run(test)


def test_a_stopping_server_says_draining(run: Callable[[Test], None]) -> None:
    """uvicorn's shutdown closes every connection with 4503, and then ends."""

    async def test(running: Running) -> None:
        async with client(running) as one, client(running) as two:
            running.server.should_exit = True
            assert [await close_code(one), await close_code(two)] == [4503, 4503]

    run(test)
