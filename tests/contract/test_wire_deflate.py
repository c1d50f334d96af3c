"""permessage-deflate on a real server: against websockets' client, and byte by byte."""

from __future__ import annotations

import asyncio
import zlib

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode

from streams import codec, deflate
from streams.codec import JSON_DEFLATED
from streams.protocol import FRAME_BYTES_MAX
from tests.contract.wire_rig import Heard, serving

WAIT_S = 10.0
HEAD = (
    b"GET /v1/streams/st_1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


def packed(payload: bytes) -> bytes:
    """Deflate as any client would, with all of the window."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def masked(opcode: Opcode, data: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    plain = Frame(opcode, data, fin).serialize(mask=True)
    return bytes((plain[0] | 0x40,)) + plain[1:] if rsv1 else plain


def echo(ear: Heard, payload: bytes, binary: bool) -> None:
    ear.socket.write(codec.frame(deflate.pack(payload), binary, deflated=True))


@pytest.mark.parametrize("bits", [None, 12, 15])
async def test_a_client_of_the_library_is_understood_both_ways(bits: int | None) -> None:
    """Short and long, text and binary, whole and in fragments, whatever window it asks for."""
    async with serving() as running:
        running.front.deflate = True
        running.front.on_message = echo
        offer = ClientPerMessageDeflateFactory(
            server_max_window_bits=bits, client_max_window_bits=True
        )
        async with connect(running.url, proxy=None, compression=None, extensions=[offer]) as c:
            assert [extension.name for extension in c.protocol.extensions] == [offer.name]
            for message in ("", "限時", "x" * 126, "ab" * 8_000, b"\x00" * FRAME_BYTES_MAX):
                await c.send(message)
                assert await c.recv() == message
            await c.send(["frag", "", "men", "ted"])
            assert await c.recv() == "fragmented"
            await (await c.ping(b"beat"))
        assert running.front.ears[0].socket.form == JSON_DEFLATED


async def test_nothing_is_deflated_unless_both_want_it() -> None:
    """Off by default, whatever a client offers; and on for nobody who does not offer."""
    for allowed, offered in ((False, "deflate"), (True, None)):
        async with serving() as running:
            running.front.deflate = allowed
            running.front.on_message = lambda ear, payload, binary: ear.socket.write(
                codec.frame(payload, binary)
            )
            async with connect(running.url, proxy=None, compression=offered) as c:
                assert c.protocol.extensions == []
                await c.send("hi")
                assert await c.recv() == "hi"


BOMB = packed(b"x" * 2**24)
ONE_TOO_MANY = packed(b"x" * (FRAME_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (masked(Opcode.TEXT, ONE_TOO_MANY, rsv1=True), 4413),
        (masked(Opcode.TEXT, BOMB[:FRAME_BYTES_MAX], rsv1=True), 4413),
        (
            masked(Opcode.TEXT, ONE_TOO_MANY[:20], fin=False, rsv1=True)
            + masked(Opcode.CONT, ONE_TOO_MANY[20:]),
            4413,
        ),
        (masked(Opcode.TEXT, BOMB[:16_000], fin=False, rsv1=True), 4413),
        (masked(Opcode.TEXT, b"\xff\xff\xff", rsv1=True), 1002),  # not deflated
        (masked(Opcode.TEXT, b"\xff\xff\xff", fin=False, rsv1=True), 1002),
        (masked(Opcode.TEXT, b"a", fin=False) + masked(Opcode.CONT, b"b", rsv1=True), 1002),
        (masked(Opcode.PING, b"a", rsv1=True), 1002),
        (b"\xa1\x80mask", 1002),  # RSV2
        (
            masked(Opcode.TEXT, b"a", fin=False) + masked(Opcode.TEXT, packed(b"b"), rsv1=True),
            1002,
        ),
    ],
    ids=range(10),
)
async def test_what_cannot_be_unpacked_ends_the_connection(sent: bytes, code: int) -> None:
    """With the code of what is too large, or is no such frame; what came before is heard."""
    async with serving() as running:
        running.front.deflate = True
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(HEAD + OFFER + b"\r\n")
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_S)
        assert b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context" in answer
        writer.write(masked(Opcode.TEXT, packed(b"hi"), rsv1=True) + sent)
        closing = await asyncio.wait_for(reader.read(), WAIT_S)
        assert (closing[0], int.from_bytes(closing[2:4], "big")) == (0x88, code)
        writer.close()
        await running.until(lambda: running.front.ears[0].losses == 1)
        assert running.front.ears[0].messages == [(b"hi", False)]


async def test_a_client_that_would_have_a_smaller_window_is_served_without() -> None:
    """What many are sent is packed with one window for all."""
    async with serving() as running:
        running.front.deflate = True
        running.front.on_message = hang_up
        offer = ClientPerMessageDeflateFactory(server_max_window_bits=11)
        async with connect(running.url, proxy=None, compression=None, extensions=[offer]) as c:
            assert c.protocol.extensions == []
            await c.send("hi")
            with pytest.raises(ConnectionClosed):
                await c.recv()


def hang_up(ear: Heard, payload: bytes, binary: bool) -> None:
    assert (payload, binary) == (b"hi", False)
    ear.socket.close(1000)
