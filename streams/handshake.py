"""The opening handshake as a pure function: a request's head in, the bytes of the answer out.

Owns the address of a stream's socket, the choice of subprotocol and every HTTP status that stands
in place of an upgrade. It must never know a transport or a room. Called by `wire`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

import msgspec

from streams.codes import Code
from streams.deflate import agree
from streams.protocol import JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL

RETRY_AFTER_S = 2  # of a 503; clients add their own jitter
STREAM_ID_CHARS_MAX = 128
NO_STREAM = ""  # an id that no stream has

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_PATH = re.compile(rb"/v1/streams/(?P<id>[^/?#]+)/ws(?:\?.*)?\Z", re.DOTALL)
_STREAM_ID = re.compile(r"[^\x00-\x20\x7f-\x9f/]+\Z")
_ONCE = (b"sec-websocket-key", b"sec-websocket-version", b"authorization")
_ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)


class Upgrade(msgspec.Struct, frozen=True):
    """The handshake is good; `response` is what makes it a WebSocket."""

    response: bytes
    stream_id: str  # NO_STREAM where the address names what can be no id: hello is answered so
    binary: bool  # livecart.v1.msgpack was agreed on
    deflated: bool  # permessage-deflate was agreed on
    token: str | None  # of the Authorization header
    forwarded: str  # of X-Forwarded-For


class NoUpgrade(msgspec.Struct, frozen=True):
    """The handshake is refused; `response` is a whole HTTP answer."""

    status: HTTPStatus
    response: bytes


def shake_hands(head: bytes, deflates: bool = False) -> Upgrade | NoUpgrade:
    """Judge a request's head, which ends before the empty line and whose names are lower case.

    `deflates`: permessage-deflate is agreed to where it is offered.
    """
    request_line, *lines = head.split(b"\r\n")
    method, _, rest = request_line.partition(b" ")
    target = rest.rpartition(b" ")[0]
    headers = _headers(lines)
    if headers is None:
        return _bad("A header that may appear once appears twice.")
    if method != b"GET":
        return _refuse(HTTPStatus.METHOD_NOT_ALLOWED, Code.BAD_REQUEST, "Use GET.", "Allow: GET")
    if (stream_id := _stream_id(target)) is None:
        return _refuse(HTTPStatus.NOT_FOUND, Code.NOT_FOUND, "No WebSocket lives here.")
    if headers.get(b"upgrade", b"").lower() != b"websocket":
        return _bad("The Upgrade header must say websocket.")
    if headers.get(b"sec-websocket-version") != b"13":
        detail = "Only version 13 of the WebSocket protocol is spoken."
        extra = "Sec-WebSocket-Version: 13"
        return _refuse(HTTPStatus.UPGRADE_REQUIRED, Code.BAD_REQUEST, detail, extra)
    key = headers.get(b"sec-websocket-key", b"")
    if not _is_key(key):
        return _bad("Sec-WebSocket-Key must be 16 bytes in base64.")
    offered = [name.strip() for name in headers.get(b"sec-websocket-protocol", b"").split(b",")]
    offered = [name for name in offered if name]
    agreed = next((name for name in offered if name in _SUBPROTOCOLS), None)
    if offered and agreed is None:
        return _bad(f"Subprotocols: {JSON_SUBPROTOCOL}, {MSGPACK_SUBPROTOCOL}.")
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    chosen = b"\r\nSec-WebSocket-Protocol: " + agreed if agreed else b""
    packing = agree(headers.get(b"sec-websocket-extensions", b"")) if deflates else None
    if packing is not None:
        chosen += b"\r\nSec-WebSocket-Extensions: " + packing
    return Upgrade(
        response=_ACCEPTED + accept + chosen + b"\r\n\r\n",
        stream_id=stream_id,
        binary=agreed == MSGPACK_SUBPROTOCOL.encode(),
        deflated=packing is not None,
        token=_bearer(headers.get(b"authorization", b"")),
        forwarded=headers.get(b"x-forwarded-for", b"").decode("latin-1"),
    )


def overloaded() -> NoUpgrade:
    """Answer that there is no room for a new connection at present."""
    return _refuse(
        HTTPStatus.SERVICE_UNAVAILABLE,
        Code.RETRY,
        "Too many connections; try again soon.",
        f"Retry-After: {RETRY_AFTER_S}",
        retry_after_ms=RETRY_AFTER_S * 1000,
    )


_SUBPROTOCOLS = frozenset((JSON_SUBPROTOCOL.encode(), MSGPACK_SUBPROTOCOL.encode()))


def _headers(lines: list[bytes]) -> dict[bytes, bytes] | None:
    """Return the headers, repeated ones joined; None when one of `_ONCE` is repeated."""
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if name in headers:
            if name in _ONCE:
                return None
            value = headers[name] + b"," + value
        headers[name] = value
    return headers


def _stream_id(target: bytes) -> str | None:
    """Return whose socket that is the address of, None when it is no socket's."""
    if (found := _PATH.match(target)) is None:
        return None
    try:
        stream_id = unquote_to_bytes(found["id"]).decode()
    except UnicodeDecodeError:
        return NO_STREAM
    if len(stream_id) > STREAM_ID_CHARS_MAX or _STREAM_ID.match(stream_id) is None:
        return NO_STREAM  # of any length: it is not kept, nor asked for
    return stream_id


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def _bearer(value: bytes) -> str | None:
    """Return the token; another scheme is a proxy's business, not ours."""
    scheme, _, token = value.partition(b" ")
    return (token.strip().decode("latin-1") or None) if scheme.lower() == b"bearer" else None


def _bad(detail: str) -> NoUpgrade:
    return _refuse(HTTPStatus.BAD_REQUEST, Code.BAD_REQUEST, detail)


def _refuse(
    status: HTTPStatus, code: Code, detail: str, *extra: str, retry_after_ms: int | None = None
) -> NoUpgrade:
    problem: dict[str, str | int] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "code": code,
    }
    if retry_after_ms is not None:
        problem["retry_after_ms"] = retry_after_ms
    body = msgspec.json.encode(problem)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *extra,
    )
    return NoUpgrade(status, "\r\n".join(head).encode() + b"\r\n\r\n" + body)
