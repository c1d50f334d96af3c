"""What a measurement knows of a server: the bytes to send, the marks of what comes back, its pid.

Owns no process and no socket. Made by `ours` and `rivals`; used by the stations and whoever
measures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.web import Api

EVENT_BYTES = 200  # of an event, as viewers get it


class Absent(Exception):
    """A peer that is not here: why, and how to get it."""


@dataclass(slots=True, frozen=True)
class Subject:
    """A server under measurement."""

    name: str
    port: int
    pid: int  # of the process that holds the sockets
    cpu_s: Callable[[], float]  # of all its processes
    request: bytes  # a viewer's handshake
    event: Callable[[int], bytes]  # the n-th thing that is said, as a whole client frame
    mark: bytes  # of it, as viewers get it
    hello: bytes = b""
    welcome: bytes = b""
    greeting: bytes = b""  # mark of what it says before any hello
    speaker: tuple[bytes, bytes] = (b"", b"")  # who says events: handshake and hello
    pin: Callable[[int], bytes] | None = None
    pin_mark: bytes = b""
    host: tuple[bytes, bytes] = (b"", b"")  # who pins
    ping: bytes = b""
    pong: bytes = b""
    spins: bool = False  # has its processor busy all the time
    secret: str = field(default="", repr=False)  # of livecart: tokens are made with it
    stream: str = ""
    product: str = ""
    api: Api | None = None
    versions: dict[str, str] = field(default_factory=dict)  # of what runs, by name

    def rss_bytes(self) -> int:
        """Return the memory of the process that holds the sockets."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"{self.name} has ended")
