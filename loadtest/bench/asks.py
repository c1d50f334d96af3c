"""What is asked of a crowd process and what it answers: one JSON line each.

Only bytes, counts and times: the crowd is the same for every server and knows none of them.
"""

from __future__ import annotations

import msgspec


class Connect(msgspec.Struct, tag=True):
    """Bring viewers, and wait until each is welcome."""

    port: int
    request: bytes
    viewers: int
    hellos: list[bytes] = []  # one for all, one for each, or none: the handshake is all
    welcome: bytes = b""  # mark of the answer to a hello
    greeting: bytes = b""  # mark of what the server says first; none: it waits for the hello
    keep: bool = False  # all that comes from the hello on, for `Judge`
    drop: bool = False  # those who are there leave first, all at once, in the time that counts
    who: str = ""  # says this in between
    meanwhile: list[bytes] = []


class Enter(msgspec.Struct, tag=True):
    """Bring somebody who speaks, under a name."""

    who: str
    port: int
    request: bytes
    hello: bytes = b""
    welcome: bytes = b""
    greeting: bytes = b""


class Say(msgspec.Struct, tag=True):
    """Have these said, and wait until every viewer heard all; one at a time, or in bursts."""

    who: str
    frames: list[bytes]
    mark: bytes
    at_once: int = 1
    gap_s: float = 0.0  # between those of a burst
    exact: bool = False  # walk through every frame
    sample: int = 0  # of so many viewers, give back all that they read


class Flood(msgspec.Struct, tag=True):
    """Have `asks` said while a chat flows; each reaches everybody before the next is said."""

    chatter: str
    chats: list[bytes]
    chat_mark: bytes
    per_s: float
    who: str
    asks: list[bytes]
    mark: bytes
    pause_s: float
    timeout_s: float


class PingPong(msgspec.Struct, tag=True):
    """Have every viewer send this, and again as soon as it is answered, for so long."""

    frame: bytes
    mark: bytes
    seconds: float


class Drop(msgspec.Struct, tag=True):
    """Have every viewer leave at once."""


class Judge(msgspec.Struct, tag=True):
    """Judge what was kept of each viewer: recovered, and without a gap from a position on."""

    seq: int
    cseq: int
    until_cseq: int


Ask = Connect | Enter | Say | Flood | PingPong | Drop | Judge


class Answer(msgspec.Struct, kw_only=True):
    """What came of an ask."""

    error: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0  # of the crowd
    n: int = 0  # what was got: viewers, deliveries, answers; of `Flood`: chats, by one viewer
    firsts_s: list[float] = []  # from the saying to the first viewer's having it
    lasts_s: list[float] = []  # … to the last viewer's
    late: int = 0  # of `Flood`: asks that did not reach everybody in time
    said: int = 0  # of `Flood`: chats
    samples: list[bytes] = []
    welcome: bytes = b""  # a viewer's, as it came
    recovered: int = 0
    gaps: int = 0
    problem: str = ""  # of the first gap
