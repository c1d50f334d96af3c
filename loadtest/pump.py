"""Sockets of a crowd, with as little as can be between them and their viewers.

Owns reading, writing and closing of thousands of plain TCP connections beside asyncio: one epoll of
its own, watched by the loop as one file. A transport of the loop costs some 10 µs more for each
small message there and back (docs/loadtest.md), which a harness would take from the server on the
same machine. Knows no WebSocket and no viewer: an `asyncio.Protocol` is called as the loop would.
TLS, and systems without epoll, go by the loop's own transports.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Final, Protocol, cast

READ_BYTES: Final = 64 * 1024
#: Connections served before the loop's timers and tasks have their turn.
EVENTS_A_TURN_MAX: Final = 256
UNSENT_BYTES_MAX: Final = 1024 * 1024
#: Of one source address, where there are several: ports run out, and servers count addresses.
VIEWERS_AN_ADDRESS: Final = 4_000
_IP_BIND_ADDRESS_NO_PORT: Final = 24  # Linux: the port is chosen when dialling
_READ = getattr(select, "EPOLLIN", 0)
_WRITE = getattr(select, "EPOLLOUT", 0)
#: Of a link that wants nothing: its end, which epoll would tell again and again, is told once.
_ONCE = getattr(select, "EPOLLONESHOT", 0)

POSSIBLE: Final = hasattr(select, "epoll")


class Wire(Protocol):
    """What a viewer needs of a transport; a `Link`, or one of the loop's."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Link:
    """One connection."""

    __slots__ = ("_closing", "_fd", "_protocol", "_pump", "_reading", "_socket", "_unsent")

    def __init__(self, pump: Pump, dialled: socket.socket, protocol: asyncio.Protocol) -> None:
        self._pump = pump
        self._socket = dialled
        self._fd = dialled.fileno()
        self._protocol = protocol
        self._unsent = b""
        self._reading = True
        self._closing = False

    def write(self, data: bytes) -> None:
        """Send, or keep what the kernel does not take; a viewer never has much to say."""
        if self._fd < 0 or self._closing:
            return
        if self._unsent:
            self._keep(data)
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.lost(error)
            return
        if sent < len(data):
            self._keep(data[sent:])
            self._watch()

    def _keep(self, data: bytes) -> None:
        if len(self._unsent) + len(data) > UNSENT_BYTES_MAX:
            self.lost(BufferError(f"more than {UNSENT_BYTES_MAX} bytes are unsent"))
            return
        self._unsent += data

    def close(self) -> None:
        """End it once all is sent."""
        self._closing = True
        if not self._unsent:
            self.lost(None)

    def abort(self) -> None:
        """End it now."""
        self.lost(None)

    def pause_reading(self) -> None:
        """Leave what comes in the kernel, and the end too unless there is something to send."""
        self._reading = False
        self._watch()

    def resume_reading(self) -> None:
        """Read again."""
        self._reading = True
        self._watch()

    def turn(self, events: int) -> None:
        """Do what the socket is ready for."""
        if events & _WRITE:
            self._flush()
        if events & ~_WRITE and self._reading and self._fd >= 0:
            self._read()

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self.lost(error)
            return
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            if self._closing:
                self.lost(None)
            else:
                self._watch()

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.lost(error)
            return
        if not data:
            self.lost(None)
            return
        try:
            self._protocol.data_received(data)
        except Exception as error:
            # As a transport of the loop does: nobody knows what was understood of it.
            self.lost(error)
            raise

    def _watch(self) -> None:
        if self._fd >= 0:
            wanted = (_READ if self._reading else 0) | (_WRITE if self._unsent else 0)
            self._pump.watch(self._fd, wanted or _ONCE)

    def lost(self, error: Exception | None) -> None:
        """Close at once; the protocol is told on the loop's next turn, never in its own call."""
        if self._fd < 0:
            return
        self._pump.forget(self._fd)
        self._fd = -1
        self._socket.close()
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)


class Pump:
    """All links of one crowd; lives on one loop, from its first dial to `close`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._links: dict[int, Link] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._turn)

    def _turn(self) -> None:
        links = self._links
        for fd, events in self._epoll.poll(0, EVENTS_A_TURN_MAX):
            link = links.get(fd)
            # Lost in this very turn; a new one under its number finds nothing to read.
            if link is not None:
                link.turn(events)

    async def dial(
        self, address: tuple[object, ...], protocol: asyncio.Protocol, source: str = ""
    ) -> Link:
        """Connect to an address that `getaddrinfo` gave; OSError when nobody is there.

        `source`: own address to come from; empty leaves it to the system.
        """
        dialled = socket.socket(socket.AF_INET6 if len(address) == 4 else socket.AF_INET)
        try:
            dialled.setblocking(False)
            dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source:
                dialled.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                dialled.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(dialled, address)
            self._epoll.register(dialled.fileno(), _READ)
        except BaseException:
            dialled.close()
            raise
        link = self._links[dialled.fileno()] = Link(self, dialled, protocol)
        try:
            protocol.connection_made(cast("asyncio.Transport", link))
        except Exception as error:
            link.lost(error)
            raise
        return link

    def watch(self, fd: int, events: int) -> None:
        """Have a link told of these events alone (and of its end)."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Let go of a link that is about to be closed."""
        del self._links[fd]
        self._epoll.unregister(fd)

    def close(self) -> None:
        """Abort all that are left."""
        for link in list(self._links.values()):
            link.abort()
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()


async def resolved(host: str, port: int) -> tuple[object, ...]:
    """Return the first address of a host; OSError when it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return cast("tuple[object, ...]", found[0][4])


def source_of(address: tuple[object, ...], number: int, viewers: int) -> str:
    """Return where viewer `number` comes from: on this machine large crowds need many addresses."""
    host = str(address[0])
    if viewers <= VIEWERS_AN_ADDRESS or not host.startswith("127.") or not POSSIBLE:
        return ""
    return f"127.0.1.{1 + number // VIEWERS_AN_ADDRESS}"
