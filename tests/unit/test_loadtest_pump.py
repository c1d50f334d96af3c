"""Sockets of a crowd on real connections: full ones, paused ones, and every way that one ends."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from loadtest import pump
from loadtest.pump import Link, Pump, resolved, source_of

ENDS_S = 10.0
SMALL_BYTES = 4096
#: What a socket with small buffers does not take at once, in pieces that differ.
PIECES = [b"%06d" % n * 100 for n in range(400)]


class Ear(asyncio.Protocol):
    """What a link told its viewer; a call that comes from within the viewer's own is noted."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost: list[Exception | None] = []
        self.told = asyncio.Event()
        self.ended = asyncio.Event()
        self.acting = False
        self.interrupted = False
        self.on_data: Callable[[], None] = lambda: None

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self.told.set()
        self.on_data()

    def connection_lost(self, exc: Exception | None) -> None:
        self.interrupted = self.interrupted or self.acting
        self.lost.append(exc)
        self.ended.set()

    def act(self, do: Callable[[], None]) -> None:
        """Do something to the link, as a viewer does."""
        self.acting = True
        do()
        self.acting = False


class Place:
    """A listening socket, and a pump to dial it with."""

    def __init__(self, listening: socket.socket) -> None:
        self.pump = Pump()
        self.listening = listening
        self.address: tuple[object, ...] = listening.getsockname()
        self.peers: list[socket.socket] = []

    async def dial(self) -> tuple[Link, Ear, socket.socket]:
        """One link with its viewer and the socket at its other end; small buffers all the way."""
        ear = Ear()
        link = await self.pump.dial(self.address, ear)
        link._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BYTES)
        peer, _ = await asyncio.get_running_loop().sock_accept(self.listening)
        self.peers.append(peer)
        return link, ear, peer


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        here = Place(listening)
        try:
            async with asyncio.timeout(ENDS_S):
                yield here
        finally:
            here.pump.close()
            for peer in here.peers:
                peer.close()


async def read_to_end(peer: socket.socket) -> bytes:
    """All that a peer gets until the other end closes or resets it."""
    loop, read = asyncio.get_running_loop(), b""
    try:
        while data := await loop.sock_recv(peer, 65_536):
            read += data
    except ConnectionResetError:
        return read
    return read


def reset(peer: socket.socket) -> None:
    """End a connection as a killed machine does, once it is back."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def files() -> set[str]:
    """What this process holds open."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            continue  # the listing's own
    return found


async def test_bytes_keep_their_order_through_a_socket_that_takes_a_part() -> None:
    """What the kernel does not take at once follows in its order, once the peer reads again."""
    async with place() as here:
        link, _, peer = await here.dial()
        read = b""
        for piece in PIECES:
            link.write(piece)
            if link._unsent:  # now there is room again, which the next piece must not take
                with suppress(BlockingIOError):
                    read += peer.recv(2 * SMALL_BYTES)
        assert link._unsent, "the socket took it all: nothing was tried"
        reading = asyncio.ensure_future(read_to_end(peer))
        link.close()
        assert read + await reading == b"".join(PIECES)


async def test_closing_sends_first_what_is_left() -> None:
    """A link that is closed while bytes are unsent ends behind the last of them, in order."""
    async with place() as here:
        link, ear, peer = await here.dial()
        link.write(b"".join(PIECES))
        ear.act(link.close)
        link.write(b"too late")
        await asyncio.sleep(0)
        assert ear.lost == []
        assert await read_to_end(peer) == b"".join(PIECES)
        await ear.ended.wait()
        assert ear.lost == [None]


async def test_aborting_sends_nothing_more() -> None:
    """A link that is aborted ends at once, whatever is unsent."""
    async with place() as here:
        link, ear, peer = await here.dial()
        link.write(b"".join(PIECES))
        ear.act(link.abort)
        await ear.ended.wait()
        assert 0 < len(await read_to_end(peer)) < sum(map(len, PIECES))


def full(link: Link, peer: socket.socket) -> None:
    for _ in range(3):
        link.write(b"x" * pump.UNSENT_BYTES_MAX)


def write_to_gone(link: Link, peer: socket.socket) -> None:
    reset(peer)
    link.write(b"x")
    link.write(b"x")


@pytest.mark.parametrize(
    ("end", "error"),
    [
        pytest.param(lambda link, peer: link.close(), None, id="close"),
        pytest.param(lambda link, peer: link.abort(), None, id="abort"),
        pytest.param(lambda link, peer: (link.abort(), link.close(), link.abort()), None, id="all"),
        pytest.param(lambda link, peer: peer.close(), None, id="the peer's close"),
        pytest.param(lambda link, peer: reset(peer), ConnectionResetError, id="the peer's reset"),
        pytest.param(write_to_gone, ConnectionError, id="a write to nobody"),
        pytest.param(full, BufferError, id="too much unsent"),
    ],
)
async def test_every_end_is_told_once_and_never_in_the_viewers_own_call(
    end: Callable[[Link, socket.socket], Any], error: type[Exception] | None
) -> None:
    """However a link ends, its viewer is told once, on a turn of the loop, with what was wrong."""
    async with place() as here:
        link, ear, peer = await here.dial()
        ear.act(lambda: end(link, peer))
        await ear.ended.wait()
        for also in (link.close, link.abort, link.pause_reading, link.resume_reading):
            ear.act(also)
        link.write(b"x")
        other_link, other, other_peer = await here.dial()
        other_peer.send(b"a turn later")
        await other.told.wait()
        assert not ear.interrupted
        assert len(ear.lost) == 1
        assert isinstance(ear.lost[0], error or type(None))
        assert here.pump._links == {other_link._fd: other_link}


async def test_an_end_within_a_read_is_told_on_a_later_turn() -> None:
    """A viewer who aborts when it hears something is not told so before its own call is over."""
    async with place() as here:
        link, ear, peer = await here.dial()
        ear.on_data = lambda: ear.act(link.abort)
        peer.send(b"one")
        await ear.ended.wait()
        assert not ear.interrupted
        assert ear.lost == [None]


async def test_unsent_bytes_are_bounded() -> None:
    """What is kept for a peer that does not read never passes its bound: the link ends instead."""
    async with place() as here:
        link, ear, _ = await here.dial()
        most = 0
        while not ear.ended.is_set():
            link.write(b"x" * 100_000)
            most = max(most, len(link._unsent))
            await asyncio.sleep(0)
        assert 0 < most <= pump.UNSENT_BYTES_MAX
        assert isinstance(ear.lost[0], BufferError)


async def test_a_paused_link_is_told_nothing_until_it_reads_again() -> None:
    """While reading is paused neither bytes nor the peer's reset are told; then both, in order."""
    async with place() as here:
        link, ear, peer = await here.dial()
        _, other, other_peer = await here.dial()
        link.pause_reading()
        peer.send(b"one")
        reset(peer)
        for _ in range(3):  # whatever came before on another link has been looked at by then
            other.told.clear()
            other_peer.send(b"x")
            await other.told.wait()
        assert (ear.heard, ear.lost) == (b"", [])
        assert here.pump._epoll.poll(0) == [], "the loop is woken for it without end"
        link.resume_reading()
        await ear.ended.wait()
        assert ear.heard == b"one"
        assert isinstance(ear.lost[0], ConnectionResetError)


async def test_a_link_that_was_paused_reads_on() -> None:
    """Bytes that came while it was paused, and those that come later, are told in their order."""
    async with place() as here:
        link, ear, peer = await here.dial()
        for _ in range(2):
            link.pause_reading()
            peer.send(b"one")
            ear.told.clear()
            link.resume_reading()
            await ear.told.wait()
        ear.told.clear()
        peer.send(b"two")
        await ear.told.wait()
        assert ear.heard == b"oneonetwo"


async def test_a_paused_link_sends_what_was_unsent() -> None:
    """Reading and writing are paused apart: a link that does not read still sends all it has."""
    async with place() as here:
        link, _, peer = await here.dial()
        link.write(b"".join(PIECES))
        link.pause_reading()
        link.close()
        assert await read_to_end(peer) == b"".join(PIECES)


async def test_the_number_of_a_file_may_be_taken_in_the_same_turn() -> None:
    """A link that is ended by another one's read is told nothing more, nor is who has its file."""
    async with place() as here:
        links, ears, peers = zip(*[await here.dial() for _ in range(2)], strict=True)
        taken: list[socket.socket] = []

        def ended_by(one: int) -> None:
            other = 1 - one
            if ears[other].heard:
                return
            number = links[other]._fd
            links[other].abort()
            near, far = socket.socketpair()
            far.send(b"not a viewer's")
            taken.extend((near, far))
            assert number in (near.fileno(), far.fileno())

        ears[0].on_data = lambda: ended_by(0)
        ears[1].on_data = lambda: ended_by(1)
        for peer in peers:
            peer.send(b"x")
        await asyncio.wait([asyncio.ensure_future(ear.ended.wait()) for ear in ears],
                           return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
        assert sorted((ear.heard, len(ear.lost)) for ear in ears) == [(b"", 1), (b"x", 0)]
        near, far = taken
        assert near.recv(100) == b"not a viewer's"
        near.close()
        far.close()
        _, again, peer = await here.dial()
        peer.send(b"new")
        await again.told.wait()
        assert again.heard == b"new"


async def test_what_a_viewer_raises_ends_its_link_alone() -> None:
    """A fault in one viewer's own call reaches the loop, and the others are served on."""
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    async with place() as here:
        _, ear, peer = await here.dial()
        _, other, other_peer = await here.dial()

        def fail() -> None:
            raise KeyError("of ours")

        ear.on_data = fail
        peer.send(b"x")
        await ear.ended.wait()
        other_peer.send(b"x")
        await other.told.wait()
    assert isinstance(faults[0]["exception"], KeyError)


async def test_dialling_nobody_leaves_nothing_open() -> None:
    """A dial that is refused raises OSError and closes its socket."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = nobody.getsockname()
    async with place() as here:
        before = files()
        with pytest.raises(ConnectionRefusedError):
            await here.pump.dial(address, Ear())
        assert files() == before


async def test_a_dial_that_is_given_up_leaves_nothing_open() -> None:
    """A dial that hangs at a full server closes its socket when it is cancelled."""
    with socket.socket() as full_up:
        full_up.bind(("127.0.0.1", 0))
        full_up.listen(0)
        address = full_up.getsockname()
        async with place() as here:
            hanging: list[asyncio.Task[Link]] = []
            done: set[asyncio.Task[Link]] = set()
            while len(done) == len(hanging):  # the queue of a listening socket takes one or two
                hanging.append(asyncio.ensure_future(here.pump.dial(address, Ear())))
                done, _ = await asyncio.wait(hanging, timeout=0.1)
            before = files()
            (last,) = set(hanging) - done
            last.cancel()
            with pytest.raises(asyncio.CancelledError):
                await last
            assert len(before) - len(files()) == 1


async def test_a_viewer_who_fails_at_once_leaves_nothing_open() -> None:
    """When a viewer raises as it is given its link, the dial raises and nothing is left of it."""

    class Clumsy(Ear):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            raise KeyError("of ours")

    async with place() as here:
        before = files()
        with pytest.raises(KeyError):
            await here.pump.dial(here.address, Clumsy())
        assert files() == before
        assert here.pump._links == {}


async def test_a_pump_that_closes_ends_every_link() -> None:
    """Every viewer is told once that its connection is gone, and no file is left."""
    before = files()
    async with place() as here:
        ears = [(await here.dial())[1] for _ in range(3)]
    for ear in ears:
        await ear.ended.wait()
    assert [ear.lost for ear in ears] == [[None]] * 3
    assert files() == before


async def test_a_host_is_looked_up_and_a_large_crowd_comes_from_many_addresses() -> None:
    """Ports of one address run out: each so many viewers of this machine have one of their own."""
    address = await resolved("localhost", 80)
    assert address[1] == 80
    here = ("127.0.0.1", 80)
    each = pump.VIEWERS_AN_ADDRESS
    assert source_of(here, 5, each) == ""
    assert source_of(("10.0.0.1", 80), 5, each + 1) == ""
    assert {source_of(here, n, 2 * each) for n in (0, each - 1)} == {"127.0.1.1"}
    assert source_of(here, each, 2 * each) == "127.0.1.2"
    async with place() as listening:
        dialled = await listening.pump.dial(listening.address, Ear(), "127.0.1.2")
        peer, came_from = await asyncio.get_running_loop().sock_accept(listening.listening)
        listening.peers.append(peer)
        assert came_from[0] == "127.0.1.2"
        dialled.abort()
