"""The shared vocabulary of `streams`: what it needs injected, and wire against session.

Everything here is a narrow Protocol or a small value. `livecart` implements `Doorkeeper`,
`RoomSource` and `Handler`; `streams.wire` and `streams.session` implement the two sides of the
socket. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from streams.codes import MESSAGE, Code
from streams.protocol import AnyCommand, Event, Message, Offer, Order, Pin, Stream


class Refused(Exception):
    """A call was refused for a reason that the client is told."""

    def __init__(
        self,
        code: Code,
        message: str | None = None,
        *,
        field: str | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        self.code = code
        self.message = message or MESSAGE[code]
        self.field = field
        self.retry_after_ms = retry_after_ms
        super().__init__(f"{code}: {self.message}")


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a verified token speaks for."""

    sub: str
    role: str  # viewer | host | admin | service | guest
    name: str
    shop: str  # whom a host acts for; the `sub` when the token names none
    exp_ms: int | None  # None: a guest, never expires
    streams: frozenset[str] | None = None  # None: every stream

    def may_enter(self, stream_id: str) -> bool:
        """Tell whether the token is good for this stream."""
        return self.streams is None or stream_id in self.streams

    def may_host(self, shop: str) -> bool:
        """Tell whether this identity may act for `shop`."""
        return self.role in ("admin", "service") or (self.role == "host" and self.shop == shop)


class RoomState(msgspec.Struct, kw_only=True):
    """What a newcomer is shown: drafts and closed offers left out, pins newest first.

    `fact_n` is the last fact that it has the effect of, read in the same snapshot (0: none yet).
    Without it the first fact of a fresh epoch costs every viewer a `resync`.
    """

    stream: Stream
    pins: list[Pin]
    offers: list[Offer]
    fact_n: int | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A user's standing in a stream."""

    banned: bool = False
    muted_until_ms: int = 0  # 0: not muted; 2**53 - 1: until unmuted


class Doorkeeper(Protocol):
    """Verifies tokens."""

    async def verify(self, token: str) -> Identity:
        """Return whom `token` speaks for; raise `Refused`: `unauthenticated`, or `bad_request`."""


class RoomSource(Protocol):
    """Reads the truth about a stream from Postgres; each call may raise `Refused(RETRY)`."""

    async def room(self, stream_id: str) -> RoomState | None:
        """Return the state now, or None when there is no such stream."""

    async def orders(self, stream_id: str, viewer: str) -> list[Order]:
        """Return the viewer's newest orders of the stream, 50 at the most (batched inside)."""

    async def standing(self, stream_id: str, user: str) -> Standing:
        """Return whether the user is muted or banned (batched inside)."""

    async def facts(self, stream_id: str, after_n: int, count: int) -> list[Fact]:
        """Return the stream's facts after one, in order, so many at the most."""

    async def peaks(self, viewers: Mapping[str, int]) -> None:
        """Keep how many viewers these streams have at once, where that is more than ever."""


class Caller(Protocol):
    """One connection, as a command handler sees it."""

    identity: Identity
    stream_id: str
    closed: bool

    def send(self, event: Event) -> None:
        """Send one message to this connection alone; does nothing once closed."""

    def reject(self, re: int | None, refused: Refused) -> None:
        """Answer a command with `reject`."""


class Handler(Protocol):
    """Takes the commands that are not `streams`' own (buy, cancel, pin, offer.*, mute, ban…)."""

    def handle(self, caller: Caller, command: AnyCommand) -> None:
        """Start the work and return at once; every command is answered exactly once, later or now.

        Never raises and never blocks: `buy` joins the present batch without a task of its own.
        The session has checked the caller's role already; ownership is the handler's.
        """


class Clerk(Protocol):
    """Who makes something of what is said, beside those who read it."""

    def heeds(self, stream_id: str, user: Identity, text: str) -> bool:
        """Tell whether it is to hear a line; at once, since every line of chat is asked about."""

    async def hear(self, stream_id: str, lines: Sequence[tuple[Identity, Message]]) -> None:
        """Take lines that are in the log, each perhaps a second time.

        Its sender is answered when this returns. Raise `Refused(RETRY)` when they may be lost.
        """


# --- the seam between wire and session -------------------------------------------------------


class Socket(Protocol):
    """What a session may do with its socket (`streams.wire.Wire`, `streams.outlet.Outlet`)."""

    form: int  # of `codec.FORMS`: how events are written to it
    heard_at: float  # monotonic time of the last sign of the client

    def write(self, frame: bytes) -> None:
        """Write one or more ready frames; never blocks, does nothing once closing.

        When the kernel does not take all of it, `Ear.stalled` is called a moment later.
        """

    def write_apart(self, frames: bytes) -> None:
        """Write a snapshot; `Ear.choked` is called when it is not taken within a minute."""

    def waiting_bytes(self) -> int:
        """Return how many written bytes the kernel has not taken yet."""

    def hold(self) -> None:
        """Read nothing from the client for now; what was read already waits."""

    def listen(self) -> None:
        """Read on; does nothing unless it was held."""

    def ping(self) -> None:
        """Write what keeps the connection alive, and shows whether it is."""

    def close(self, code: int, reason: str = "") -> None:
        """Write why it ends and end the connection soon after, answered or not."""

    def abort(self) -> None:
        """Drop the connection at once."""


class Ear(Protocol):
    """What a socket calls (`streams.session.Session`); no call may raise."""

    def received(self, payload: bytes, binary: bool) -> None:
        """Take one whole message."""

    def stalled(self) -> None:
        """Written bytes wait for the peer."""

    def drained(self) -> None:
        """None wait any more."""

    def choked(self) -> None:
        """A snapshot waits for too long."""

    def lost(self) -> None:
        """The connection is gone."""


class Front(Protocol):
    """Whom a socket asks at its handshake (`streams.hub.Hub`, found as `app_state["hub"]`)."""

    def client(self, peer: str, forwarded: str) -> str:
        """Return whose address counts; `forwarded`: what `X-Forwarded-For` says."""

    def turns_away(self, client: str) -> bool:
        """Tell whether a new connection from there is to be answered HTTP 503."""

    def deflates(self) -> bool:
        """Tell whether messages may be deflated where a client offers it."""

    def accept(self, socket: Socket, stream_id: str, header_token: str | None, client: str) -> Ear:
        """Make the session of a connection whose handshake was just answered."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One main event of a stream, as Postgres committed it.

    `n` counts from 1 per stream in commit order without gaps; it is the event's id (R9).
    """

    n: int
    event: Event


class FactLog(Protocol):
    """Where committed facts go (`streams.log.EventLog`)."""

    async def append_facts(self, stream_id: str, facts: Sequence[Fact]) -> int:
        """Append those not appended yet, in order of `n`; return the highest `n` the log has."""
