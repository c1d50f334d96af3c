"""Reject codes and WebSocket close codes, each with what a client should do about it.

Owned here because every layer that answers a client needs the same words; knows nothing else.
Source: protocol v1, sections 2 and 3.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Code(StrEnum):
    """Why a command or an HTTP call was refused."""

    BAD_REQUEST = "bad_request"
    UNKNOWN_TYPE = "unknown_type"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    MUTED = "muted"
    NOT_FOUND = "not_found"
    NOT_LIVE = "not_live"
    NOT_OPEN = "not_open"
    CLOSED = "closed"
    SOLD_OUT = "sold_out"
    LIMIT_REACHED = "limit_reached"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    KEY_REUSED = "key_reused"
    RATE_LIMITED = "rate_limited"
    INTERNAL = "internal"
    RETRY = "retry"


#: HTTP status of each code (protocol v1, section 2).
HTTP_STATUS: dict[Code, int] = {
    Code.BAD_REQUEST: 400,
    Code.UNKNOWN_TYPE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.FORBIDDEN: 403,
    Code.MUTED: 403,
    Code.NOT_FOUND: 404,
    Code.NOT_LIVE: 409,
    Code.NOT_OPEN: 409,
    Code.CLOSED: 409,
    Code.SOLD_OUT: 409,
    Code.LIMIT_REACHED: 409,
    Code.CONFLICT: 409,
    Code.TOO_LARGE: 413,
    Code.KEY_REUSED: 422,
    Code.RATE_LIMITED: 429,
    Code.INTERNAL: 500,
    Code.RETRY: 503,
}

#: What a refusal says to a person when nothing more precise is known.
MESSAGE: dict[Code, str] = {
    Code.BAD_REQUEST: "The request is not well formed.",
    Code.UNKNOWN_TYPE: "No such kind of message.",
    Code.UNAUTHENTICATED: "A valid token is needed.",
    Code.FORBIDDEN: "This token may not do that.",
    Code.MUTED: "You are muted in this stream.",
    Code.NOT_FOUND: "There is no such thing, or it is not yours to see.",
    Code.NOT_LIVE: "The stream has not started.",
    Code.NOT_OPEN: "The offer is not open.",
    Code.CLOSED: "The offer is closed.",
    Code.SOLD_OUT: "Not enough units are left.",
    Code.LIMIT_REACHED: "The limit for one viewer is reached.",
    Code.CONFLICT: "That does not fit its present state.",
    Code.TOO_LARGE: "The request is too large.",
    Code.KEY_REUSED: "This key was used for a different request.",
    Code.RATE_LIMITED: "Too many requests; slow down.",
    Code.INTERNAL: "Something broke on our side.",
    Code.RETRY: "The outcome is not known yet; send the same key again.",
}


class Close(IntEnum):
    """WebSocket close codes; the comment is what a client does."""

    NORMAL = 1000  # reconnect if wanted
    GOING_AWAY = 1001  # reconnect if wanted
    NOT_A_MESSAGE = 4400  # do not reconnect: the client is broken
    BAD_TOKEN = 4401  # fetch a new token, then reconnect
    FORBIDDEN = 4403  # do not reconnect
    NOT_FOUND = 4404  # do not reconnect
    TIMEOUT = 4408  # reconnect with jitter
    TOO_LARGE = 4413  # do not reconnect
    TOO_MANY = 4429  # reconnect after a back-off
    DRAINING = 4503  # reconnect with jitter
    SLOW = 4508  # reconnect with `since`


#: The close that a refused `hello` is followed by.
HELLO_CLOSE: dict[Code, Close] = {
    Code.UNAUTHENTICATED: Close.BAD_TOKEN,
    Code.BAD_REQUEST: Close.BAD_TOKEN,  # a token that passes a limit
    Code.FORBIDDEN: Close.FORBIDDEN,
    Code.NOT_FOUND: Close.NOT_FOUND,
    Code.RETRY: Close.DRAINING,
    Code.RATE_LIMITED: Close.TOO_MANY,  # too many connections
}
