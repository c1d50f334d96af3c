"""Problem documents: what an HTTP caller is told when a call is refused.

Owns `application/problem+json` (RFC 9457) as protocol v1 has it. Pure; called by `calls` and by the
application's handlers for unknown paths.
"""

from __future__ import annotations

import math
from http import HTTPStatus

import msgspec

from streams.codes import HTTP_STATUS, MESSAGE
from streams.ports import Refused

JSON = b"application/json"
PROBLEM = b"application/problem+json"
RETRY_AFTER_MS = 500  # when nothing better is known

Headers = list[tuple[bytes, bytes]]
_encode = msgspec.json.Encoder().encode


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field; the path is dotted."""

    path: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A refusal as a document."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] | None = None
    retry_after_ms: int | None = None


class Answer(msgspec.Struct, frozen=True):
    """A finished answer."""

    status: int
    body: bytes
    headers: Headers


def problem(refused: Refused, status: int | None = None, headers: Headers | None = None) -> Answer:
    """Return a refusal as an answer; `status` where HTTP has a closer one than the code's."""
    status = HTTP_STATUS[refused.code] if status is None else status
    retry_after_ms = refused.retry_after_ms
    more: Headers = list(headers or ())
    if status in (429, 503):
        retry_after_ms = RETRY_AFTER_MS if retry_after_ms is None else retry_after_ms
        more.append((b"retry-after", b"%d" % max(1, math.ceil(retry_after_ms / 1000))))
    elif status == 401:
        more.append((b"www-authenticate", b'Bearer realm="livecart"'))
    field = None if refused.field is None else [FieldError(refused.field, refused.message)]
    document = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=MESSAGE[refused.code] if field else refused.message,
        code=refused.code.value,
        errors=field,
        retry_after_ms=retry_after_ms,
    )
    return Answer(status, _encode(document), [(b"content-type", PROBLEM), *more])
