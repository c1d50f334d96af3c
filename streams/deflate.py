"""permessage-deflate (RFC 7692) without context: each message is packed by itself.

Owns what is agreed on and how one payload is packed and unpacked. Without a context that goes on
from message to message a broadcast is packed once, whoever it is for, and a connection keeps
nothing. It must never know a frame or an event. Called by `handshake`, `codec` and `wire`.
"""

from __future__ import annotations

import zlib

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.headers import build_extension, parse_extension

#: Of what is packed: 4 KB, which whoever agreed on more can unpack too.
WINDOW_BITS = 12
LEVEL = 6
MEMORY_LEVEL = 5
_TAIL = b"\x00\x00\xff\xff"  # that is not sent: RFC 7692, section 7.2.1

_factory = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True, client_no_context_takeover=True
)


class TooLarge(Exception):
    """What comes out has more bytes than are allowed."""


def agree(offered: bytes) -> bytes | None:
    """Return what a handshake's offer of extensions is answered with, None for no packing."""
    try:
        offers = parse_extension(offered.decode("latin-1"))
    except InvalidHeader:
        return None
    for name, parameters in offers:
        if name != PerMessageDeflate.name:
            continue
        try:
            agreed, extension = _factory.process_request_params(parameters, [])
        except NegotiationError:
            continue
        if extension.local_max_window_bits >= WINDOW_BITS:
            return build_extension([(name, agreed)]).encode()
    return None


def extension() -> PerMessageDeflate:
    """Return what unpacks messages that come in fragments."""
    return PerMessageDeflate(
        remote_no_context_takeover=True,
        local_no_context_takeover=True,
        remote_max_window_bits=zlib.MAX_WBITS,
        local_max_window_bits=WINDOW_BITS,
    )


def pack(payload: bytes) -> bytes:
    """Return a payload as it is sent."""
    packer = zlib.compressobj(LEVEL, wbits=-WINDOW_BITS, memLevel=MEMORY_LEVEL)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)


def unpack(data: bytes, bytes_max: int) -> bytes:
    """Return the payload of what came; raise `TooLarge`, or `ValueError` for what is no such."""
    unpacker = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        payload = unpacker.decompress(data + _TAIL, bytes_max + 1)
    except zlib.error as error:
        raise ValueError("not deflated") from error
    if len(payload) > bytes_max:
        raise TooLarge
    return payload
