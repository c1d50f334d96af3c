"""What the master of a Locust run asks of its desk; framed as loadtest/asks.py says.

Owns the messages. Knows neither end; both are of one release, so fields may change at will.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from loadtest.shares import Share, Sign, Stage


class Ask(msgspec.Struct, tag=True, kw_only=True):
    """Anything that the master asks."""


class Greet(Ask, kw_only=True):
    """Answer, once there is somebody at the desk."""


class Begin(Ask, kw_only=True):
    """Go live, draft the offers and open them; answered with a stage for nobody yet."""

    http: str
    database_url: str = ""
    gate_url: str = ""
    offers: int
    units: int
    per_viewer: int
    buys: int
    qty: int
    viewers: int  # that each worker may bring
    seed: int
    subprotocol: str
    network: str
    think_s: float
    answer_s: float
    configuration: dict[str, Any] = {}


class Enlist(Ask, kw_only=True):
    """Give a worker its stage: the nth one has viewers of its own."""

    worker: str


class Note(Ask, kw_only=True):
    """Take a worker's sign of life."""

    worker: str
    sign: Sign


class Take(Ask, kw_only=True):
    """Take a worker's share."""

    worker: str
    share: Share


class Lose(Ask, kw_only=True):
    """Take it that a worker's share will not come."""

    worker: str
    why: str


class Judge(Ask, kw_only=True):
    """Draw the result up, with an audit where there is a database; write the files."""

    out: str = ""
    history: str = ""


AnyAsk = Greet | Begin | Enlist | Note | Take | Lose | Judge


class Reply(msgspec.Struct, kw_only=True):
    """What came of an ask."""

    error: str = ""
    stage: Stage | None = None
    result: bytes = b""


class Asked(msgspec.Struct, array_like=True):
    """An ask on its way."""

    number: int
    ask: AnyAsk


class Replied(msgspec.Struct, array_like=True):
    """A reply on its way."""

    number: int
    reply: Reply


decode_asked: Final = msgspec.msgpack.Decoder(Asked).decode
decode_replied: Final = msgspec.msgpack.Decoder(Replied).decode
