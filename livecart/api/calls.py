"""One HTTP call: who asks, what for, and the answer.

Owns reading and judging a request (token, path, query, key, body within bounds) and writing the
answer; a handler sees typed values only and raises `Refused`. Plain ASGI, no middleware. Must never
know a table. Used by every file of this folder.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import re
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from livecart.api.problems import JSON, Answer, Headers, problem
from livecart.auth import TokenVerifier
from livecart.patience import ANSWER_S
from livecart.services import Services
from orders.ledger.ledger import LedgerAway
from orders.records import Once
from orders.stock.gate import GateAway, GateBroken
from streams.codes import Code
from streams.ports import Identity, Refused

PAGE_MAX = 200
PAGE = 50
QUERY_BYTES_MAX = 8_192
CURSOR_CHARS_MAX = 400
MESSAGE_CHARS_MAX = 200

_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}\Z")
_KEY = re.compile(r"[A-Za-z0-9._~-]{1,64}\Z")
_PATH = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`\Z")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`\Z")

log = logging.getLogger("livecart.api")
encode = msgspec.json.Encoder().encode

T = TypeVar("T")
Q = TypeVar("Q", bound=msgspec.Struct)


class Call:
    """One request under way."""

    __slots__ = (
        "_peer", "headers", "identity", "key", "params", "patience_s", "query", "services",
    )  # fmt: skip

    def __init__(self, services: Services, scope: Scope) -> None:
        self.services = services
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.params: Mapping[str, str] = scope["path_params"]
        self._peer: tuple[str, int] | None = scope["client"]  # None: a Unix socket
        self.query: Any = None  # the operation's query struct
        self.identity: Identity | None = None
        self.key = ""  # Idempotency-Key, where the operation has one
        self.patience_s = ANSWER_S  # raised by who asks somebody slower than Postgres

    @property
    def caller(self) -> Identity:
        """Whom the token speaks for; only where the operation asks for one."""
        assert self.identity is not None
        return self.identity

    @property
    def client(self) -> str:
        """The address that this call counts for."""
        peer = self._peer[0] if self._peer is not None else ""
        forwarded = b",".join(v for name, v in self.headers if name == b"x-forwarded-for")
        return self.services.hub.client(peer, forwarded.decode("latin-1"))

    def id(self, name: str = "id") -> str:
        """Return an id of the path; one that cannot be is not found."""
        value = self.params[name]
        if _ID.match(value) is None:
            raise Refused(Code.NOT_FOUND)
        return value


class Page(msgspec.Struct, kw_only=True):
    """The query of a list."""

    limit: int | None = None
    cursor: str | None = None

    @property
    def size(self) -> int:
        """How many items are wanted."""
        if self.limit is None:
            return PAGE
        if not 1 <= self.limit <= PAGE_MAX:
            raise Refused(Code.BAD_REQUEST, f"Expected 1 to {PAGE_MAX}", field="limit")
        return self.limit

    @property
    def before(self) -> str | None:
        """The id that the page comes after; None: the first page."""
        if self.cursor is None:
            return None
        try:
            if len(self.cursor) > CURSOR_CHARS_MAX:
                raise ValueError("too long")
            padded = self.cursor + "=" * (-len(self.cursor) % 4)
            value = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise _bad_cursor() from error
        if _ID.match(value) is None:
            raise _bad_cursor()
        return value


def _bad_cursor() -> Refused:
    return Refused(Code.BAD_REQUEST, "Not a cursor of this list", field="cursor")


def listing(items: list[Any], shown: list[Any], limit: int) -> dict[str, Any]:
    """Return a list; `items` is what was read, one more than `limit` when there is a next page."""
    more = len(items) > limit
    last = items[limit - 1].id if more else ""
    cursor = base64.urlsafe_b64encode(last.encode()).decode().rstrip("=") if more else None
    return {"items": shown[:limit], "next_cursor": cursor}


# --- reading -----------------------------------------------------------------------------------


def header(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return a header; raise `Refused(BAD_REQUEST)` when it is there twice."""
    found = None
    for key, value in headers:
        if key == name:
            if found is not None:
                title = name.decode().title()
                raise Refused(Code.BAD_REQUEST, "Sent more than once", field=title)
            found = value
    return found


async def identify(verifier: TokenVerifier, headers: list[tuple[bytes, bytes]]) -> Identity | None:
    """Return whom the bearer token speaks for, None without one; raise `Refused`."""
    token = bearer(headers)
    if token is None:
        return None
    return verifier.known(token) or await verifier.verify(token)


def bearer(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Return the bearer token, whoever it speaks for; None without one. Raise `Refused`."""
    value = header(headers, b"authorization")
    if value is None:
        return None
    scheme, _, token = value.decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(Code.UNAUTHENTICATED, "Only bearer tokens are taken.")
    return token.strip()


def key_of(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the Idempotency-Key; raise `Refused(BAD_REQUEST)`."""
    value = (header(headers, b"idempotency-key") or b"").decode("latin-1")
    if _KEY.match(value) is None:
        what = "Expected 1 to 64 of A-Z a-z 0-9 . _ ~ -"
        raise Refused(Code.BAD_REQUEST, what, field="Idempotency-Key")
    return value


def once(call: Call, body: msgspec.Struct) -> Once | None:
    """Return under which key a body is to have its effect once; None when it came without.

    Null is as absent: both have the same digest.
    """
    if not call.key:
        return None
    said = {
        name: value for name, value in msgspec.structs.asdict(body).items() if value is not None
    }
    canonical = msgspec.json.encode(said, order="deterministic")
    return Once(call.key, hashlib.sha256(canonical).digest())


async def read_body(scope: Scope, receive: Receive, bytes_max: int) -> bytes:
    """Return the body; raise `Refused(TOO_LARGE)` before more than the bound was read."""
    length = header(scope["headers"], b"content-length")
    if length is not None and length.isdigit() and int(length[:20]) > bytes_max:
        raise Refused(Code.TOO_LARGE)
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":  # gone before it said all
            raise Refused(Code.BAD_REQUEST, "The request was cut off.")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            raise Refused(Code.TOO_LARGE)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Return a typed body; an empty one equals `{}`. Raise `Refused(BAD_REQUEST)`."""
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into the strings that it skips
        return decoder.decode(body or b"{}")
    except msgspec.ValidationError as error:
        field, message = locate(str(error))
        raise Refused(Code.BAD_REQUEST, message, field=field) from error
    except (ValueError, RecursionError) as error:
        raise Refused(Code.BAD_REQUEST, "The body is not JSON in UTF-8.") from error


def decode_query(kind: type[Q], raw: bytes) -> Q:
    """Return a typed query; unknown names are ignored. Raise `Refused(BAD_REQUEST)`."""
    if len(raw) > QUERY_BYTES_MAX:
        raise Refused(Code.BAD_REQUEST, "The query is too long.")
    try:
        pairs = dict(
            parse_qsl(
                raw.decode("latin-1"), keep_blank_values=True, errors="strict", max_num_fields=50
            )
        )
        made = msgspec.convert(pairs, kind, strict=False)
    except msgspec.ValidationError as error:
        field, message = locate(str(error))
        raise Refused(Code.BAD_REQUEST, message, field=field) from error
    except ValueError as error:
        raise Refused(Code.BAD_REQUEST, "The query cannot be read.") from error
    for name in kind.__struct_fields__:
        if name in pairs and getattr(made, name) is None:  # `null` in whatever case
            raise Refused(Code.BAD_REQUEST, "Leave it out for none", field=name)
    return made


def locate(error: str) -> tuple[str | None, str]:
    """Split msgspec's words into the path of the field and what is wrong with it."""
    field = ""
    if found := _PATH.search(error):
        field, error = found["path"], error[: found.start()]
    if missing := _MISSING.search(error):
        field = f"{field}.{missing['name']}" if field else missing["name"]
    if " matching regex " in error:  # a pattern is no help to a person
        error = "Characters or length that are not allowed"
    return field or None, error[:MESSAGE_CHARS_MAX]


# --- answering ---------------------------------------------------------------------------------


async def write(send: Send, answer: Answer, head: bool = False) -> None:
    """Send an answer; `head`: its headers alone."""
    headers: Headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    if answer.status == 204:
        headers.pop()
    start = {"type": "http.response.start", "status": answer.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": b"" if head else answer.body})


def answer_json(value: object, status: int = 200) -> Answer:
    """Return a value as an answer."""
    return Answer(status, encode(value), [(b"content-type", JSON)])


def answer_error(error: Exception) -> Answer:
    """Return what went wrong as an answer; what nobody expected is logged and says nothing."""
    if isinstance(error, Refused):
        if error.code is Code.TOO_LARGE:  # the rest of the body is not read
            return problem(error, headers=[(b"connection", b"close")])
        return problem(error)
    if isinstance(error, LedgerAway | GateAway | GateBroken | OverflowError):
        return problem(Refused(Code.RETRY))
    log.error("an HTTP call failed", exc_info=error)
    return problem(Refused(Code.INTERNAL))
