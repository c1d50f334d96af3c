"""What a call of the Python client ends in: an order, a refusal, or one of two errors.

Owns words only; made by `client`, matched by whoever calls it.

    ClientError
    ├── Disconnected   the connection ended before the answer; the outcome is not known
    └── Stopped        the server said that coming back is of no use
"""

from __future__ import annotations

from dataclasses import dataclass

from streams.resume import Event


class ClientError(Exception):
    """What a client raises."""


class Disconnected(ClientError):
    """The connection ended before the answer came."""


class Stopped(ClientError):
    """The server ended the connection for good; `code` is the close code or HTTP status."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code} {reason}")


@dataclass(frozen=True, slots=True)
class Bought:
    """An order that is committed; `replayed` when an earlier buy with this key had made it."""

    order: Event
    key: str
    replayed: bool


@dataclass(frozen=True, slots=True)
class BoughtBundle:
    """Orders of several offers, all committed; `bundle` is the id that they share."""

    bundle: str
    orders: list[Event]
    key: str
    replayed: bool


@dataclass(frozen=True, slots=True)
class Rejected:
    """A refusal; with the code `retry` the outcome is unknown and `key` may be sent again."""

    code: str
    message: str
    key: str
    field: str | None = None
