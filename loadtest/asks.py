"""What a play asks of the processes that hold its viewers, and how that goes through a pipe.

Owns the messages and their framing: MessagePack behind a length of four bytes. An ask has a number,
its reply carries it; asks are carried out side by side, so that a pulse is answered in the middle
of a sale. Knows no viewer. Both ends are of one release, so fields may change at will.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from loadtest.deliveries import WrittenDeliveries
from loadtest.pulse import Pulse

LENGTH_BYTES: Final = 4
ASK_BYTES_MAX: Final = 256 * 1024 * 1024


class Ask(msgspec.Struct, tag=True, kw_only=True):
    """Anything that is asked."""


class Gather(Ask, kw_only=True):
    """Make viewers `first` to `first + viewers` of `of` in all; connect them unless `later`."""

    url: str  # of the stream's WebSocket
    secret: str  # tokens are made with it; empty: guests
    names: str  # each viewer's `sub` starts with it
    first: int
    viewers: int
    of: int
    buys_each: int
    qty: int
    key_prefix: str
    subprotocol: str = "json"
    network: str = "none"
    ramp_s: float = 0.0
    seed: int = 0
    deadline_s: float = 60.0
    later: bool = False
    patience: dict[str, Any] = {}


class Deed(msgspec.Struct, array_like=True):
    """One thing that one viewer does: `enter`, `buy`, `chat`, `react`, `ping` or `leave`."""

    ticket: int  # what comes of it is told by this number
    viewer: int  # of this process, from 0
    what: str
    due_ns: int  # on the machine's monotonic clock
    buy: int = 0  # which of the viewer's buys


class Act(Ask, kw_only=True):
    """Have these deeds done now; what comes of them is told to `Hear`."""

    deeds: list[Deed]


class Hear(Ask, kw_only=True):
    """Give what came of deeds since the last time; wait for something, but no longer than this."""

    within_s: float = 1.0


class Prepare(Ask, kw_only=True):
    """Build the frames of each viewer's buys `first` to `first + buys`, of this offer."""

    offer: str
    first: int
    buys: int


class Buy(Ask, kw_only=True):
    """Send these buys: all at one moment, or spread over `over_s`, most of them early.

    Spread, a viewer's next buy follows the answer to the one before after a think time that is
    drawn with mean `think_s`. Answered once all are sent (at once) or planned (spread).
    """

    first: int
    buys: int
    over_s: float = 0.0
    think_s: float = 0.0
    at_ns: int = 0  # the moment of the whole crowd, on the machine's monotonic clock; 0: now


class Settle(Ask, kw_only=True):
    """Wait until each of these buys has its final answer; `n` is how many have none by then."""

    first: int
    buys: int
    deadline_s: float


class Speak(Ask, kw_only=True):
    """Have viewers drawn at random `chat`, `react` or `ping`, so many a second, for a while."""

    what: str
    per_s: float
    seconds: float
    deadline_s: float = 10.0


class Cut(Ask, kw_only=True):
    """Lose the connections of a share of the viewers at one moment; wait until they are back."""

    share: float = 1.0
    deadline_s: float = 60.0


class Quiet(Ask, kw_only=True):
    """Wait until nobody was told anything for so long; `n` is 0 when it never came to that."""

    for_s: float = 0.3
    deadline_s: float = 10.0


class Leave(Ask, kw_only=True):
    """Have a share of the viewers go for good."""

    share: float


class Beat(Ask, kw_only=True):
    """Tell what was seen since the last time."""

    at_s: float


class Collect(Ask, kw_only=True):
    """Give the history of these buys; of those viewers alone who sent any, if `buyers_only`."""

    first: int
    buys: int
    buyers_only: bool = False


class Tell(Ask, kw_only=True):
    """Give what is known about events, and where the server broke the protocol."""


class Close(Ask, kw_only=True):
    """Leave, and end."""


AnyAsk = (
    Gather
    | Act
    | Hear
    | Prepare
    | Buy
    | Settle
    | Speak
    | Cut
    | Quiet
    | Leave
    | Beat
    | Collect
    | Tell
    | Close
)


class Seen(msgspec.Struct, array_like=True):
    """One main event, over all viewers of a process; times of the machine's monotonic clock."""

    number: int
    kind: str
    at_ms: int
    first_ns: int
    last_ns: int
    count: int


class Came(msgspec.Struct, array_like=True):
    """What came of a deed: `order.reserved`, `sold_out`, `ok`, `pong`, `welcome`, a refusal …"""

    ticket: int
    code: str  # empty: it has no answer, and gets none any more
    us: int  # from the moment when it was due


class Reply(msgspec.Struct, kw_only=True):
    """What came of an ask; fields that it does not need keep their defaults."""

    error: str = ""
    n: int = 0
    seconds: float = 0.0
    pulse: Pulse | None = None
    history: bytes = b""
    seen: list[Seen] = []
    faults: list[str] = []
    deliveries: WrittenDeliveries | None = None
    tally: dict[str, int] = {}
    came: list[Came] = []


class Asked(msgspec.Struct, array_like=True):
    """An ask on its way."""

    number: int
    ask: AnyAsk


class Replied(msgspec.Struct, array_like=True):
    """A reply on its way."""

    number: int
    reply: Reply


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE_ASKED = msgspec.msgpack.Decoder(Asked).decode
_DECODE_REPLIED = msgspec.msgpack.Decoder(Replied).decode


def packed(message: msgspec.Struct) -> bytes:
    """Return the bytes of a message, behind their length."""
    body = _ENCODE(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


async def read_asked(pipe: asyncio.StreamReader) -> Asked | None:
    """Read the next ask; None at the end of the pipe."""
    body = await read_message(pipe)
    return None if body is None else _DECODE_ASKED(body)


async def read_replied(pipe: asyncio.StreamReader) -> Replied | None:
    """Read the next reply; None at the end of the pipe."""
    body = await read_message(pipe)
    return None if body is None else _DECODE_REPLIED(body)


async def read_message(pipe: asyncio.StreamReader) -> bytes | None:
    """Read one message of any kind; None at the end of the pipe."""
    try:
        size = int.from_bytes(await pipe.readexactly(LENGTH_BYTES), "big")
        if size > ASK_BYTES_MAX:
            raise ValueError(f"a message of {size} bytes in the pipe of a station")
        return await pipe.readexactly(size)
    except asyncio.IncompleteReadError:
        return None
