"""WebSocket bytes of a viewer: the handshake, its frames, and the little it must decode.

Owns how protocol v1 looks on the wire from the client's side, in both subprotocols. Knows no
connection and keeps no state. Used by swarm; independent of the server's codec, so that two
implementations meet. Decoding is narrow on purpose: a viewer that parsed all it is sent would
cost more than the server under test.
"""

from __future__ import annotations

import base64
import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
from websockets.frames import Opcode

from streams.protocol import JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled wheel for this platform
    from websockets.utils import apply_mask

__all__ = [
    "DIALECTS",
    "HANDSHAKE_BYTES_MAX",
    "JSON",
    "MSGPACK",
    "WEBSOCKET_GUID",
    "Dialect",
    "Handshake",
    "Heard",
    "OrderHeard",
    "apply_mask",
    "handshake",
    "masked",
]

WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
HANDSHAKE_BYTES_MAX = 16 * 1024


class OrderHeard(msgspec.Struct, gc=False):
    """Of an order, what the audit compares with its row."""

    id: str
    rank: int
    key: str
    offer: str = ""
    status: str = ""
    version: int = 0
    expires_at: int | None = None


class Heard(msgspec.Struct, gc=False):
    """Of any server message, the fields that a buyer must know; the rest is skipped unparsed."""

    type: str
    re: int | None = None
    order: OrderHeard | None = None
    code: str = ""
    field: str | None = None
    bundle: str = ""
    retry_after_ms: int | None = None
    replayed: bool = False
    seq: int = 0
    cseq: int = 0
    at: int = 0
    now: int = 0
    epoch: str = ""
    recovered: bool | None = None
    orders: list[OrderHeard] | None = None


@dataclass(slots=True, frozen=True)
class Dialect:
    """One subprotocol: how to write a command and how to read what comes."""

    subprotocol: str
    data_byte: int  # first byte of a whole data frame from the server
    opcode: Opcode
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Heard]
    #: Starts of messages that no buyer needs, and how far into the payload they are looked for.
    skipped: tuple[bytes, ...]
    skip_offset: int


_SKIPPED = ("stock", "viewers", "reactions")

JSON = Dialect(
    subprotocol=JSON_SUBPROTOCOL,
    data_byte=0x80 | Opcode.TEXT,
    opcode=Opcode.TEXT,
    encode=msgspec.json.Encoder().encode,
    decode=msgspec.json.Decoder(Heard).decode,
    skipped=tuple(f'{{"type":"{name}"'.encode() for name in _SKIPPED),
    skip_offset=0,
)
MSGPACK = Dialect(
    subprotocol=MSGPACK_SUBPROTOCOL,
    data_byte=0x80 | Opcode.BINARY,
    opcode=Opcode.BINARY,
    encode=msgspec.msgpack.Encoder().encode,
    decode=msgspec.msgpack.Decoder(Heard).decode,
    skipped=tuple(b"\xa4type" + bytes([0xA0 | len(name)]) + name.encode() for name in _SKIPPED),
    skip_offset=1,  # behind the one byte of a small map's header
)
DIALECTS = {"json": JSON, "msgpack": MSGPACK}


def masked(opcode: Opcode, payload: bytes) -> bytes:
    """One whole client frame under a random mask."""
    mask, size = random.randbytes(4), len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + mask + apply_mask(payload, mask)


@dataclass(slots=True, frozen=True)
class Handshake:
    """The upgrade request, and what its answer must contain."""

    host: str
    port: int
    tls: bool
    request: bytes
    accept: bytes
    subprotocol: bytes

    def status(self, head: bytes) -> int:
        """HTTP status of an answer; 101 only when it accepts this very request."""
        if not (head.startswith(b"HTTP/1.") and head[9:12].isdigit()):
            return 0
        status = int(head[9:12])
        if status != 101:
            return status
        lines = {}
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            lines[name.lower()] = value.strip()
        right = (
            lines.get(b"sec-websocket-accept") == self.accept
            and lines.get(b"sec-websocket-protocol") == self.subprotocol
        )
        # 0 is no HTTP status: an upgrade to something that was not asked for.
        return 101 if right else 0


def handshake(url: str, dialect: Dialect) -> Handshake:
    """Build the upgrade for `url` (`ws://` or `wss://`) once; every viewer sends the same one."""
    parts = urlsplit(url)
    tls = parts.scheme == "wss"
    host = parts.hostname or "127.0.0.1"
    port = parts.port or (443 if tls else 80)
    key = base64.b64encode(os.urandom(16))
    request = (
        f"GET {parts.path}{'?' + parts.query if parts.query else ''} HTTP/1.1\r\n"
        f"Host: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {dialect.subprotocol}\r\n\r\n"
    ).encode()
    digest = hashlib.sha1(key + WEBSOCKET_GUID, usedforsecurity=False).digest()
    return Handshake(
        host, port, tls, request, base64.b64encode(digest), dialect.subprotocol.encode()
    )
