"""What selling speaks of: offers, orders, buys and their outcomes, as plain values.

Knows no Redis, no SQL and no sockets. Read by stock, ledger, selling and keeper, and by `livecart`,
which turns these into wire messages. Ids carry their prefix (`of_`, `or_`), money is in minor
units, times are integer milliseconds since the Unix epoch on Postgres' clock.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Literal, Protocol

import msgspec

OfferStatus = Literal["draft", "scheduled", "open", "paused", "sold_out", "closed"]
OfferMode = Literal["sale", "draw"]
OrderStatus = Literal["reserved", "confirmed", "shipped", "expired", "cancelled", "refunded"]
Eligibility = Literal["anyone", "ticket"]
KeywordMode = Literal["contains", "exact"]  # where in a comment a keyword counts
LIVE: tuple[OrderStatus, ...] = ("reserved", "confirmed", "shipped")
WAITLIST_MAX = 10_000  # entries of an offer, and
WAITLIST_HOLD_S = 60  # how long one that got units may pay, unless the offer says otherwise
DRAW_ENTRIES_MAX = 50_000  # of an offer that is drawn: it is drawn under one lock
SHIP_WITHIN_H = 72
BUCKETS_MAX = 64  # of an offer whose units are spread


class Why(StrEnum):
    """Why a buy or a change was refused; the values are the wire's codes."""

    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    NOT_LIVE = "not_live"
    NOT_OPEN = "not_open"
    CLOSED = "closed"
    SOLD_OUT = "sold_out"
    LIMIT_REACHED = "limit_reached"
    CONFLICT = "conflict"
    KEY_REUSED = "key_reused"
    INTERNAL = "internal"
    RETRY = "retry"


class Once(msgspec.Struct, frozen=True):
    """The key under which something is made once, and the SHA-256 of what was asked for."""

    key: str
    digest: bytes


class Offer(msgspec.Struct, kw_only=True, frozen=True):
    """An offer's row, with what the gate must know of its stream."""

    id: str
    stream: str
    shop: str
    product: str
    price_minor: int
    currency: str
    quantity: int
    taken: int
    confirmed: int
    per_viewer: int
    status: OfferStatus
    stream_status: Literal["scheduled", "live", "ended"]
    hold_s: int
    payment: Literal["required", "none"]
    epoch: int
    version: int
    last_movement: int
    announced: bool  # it left its draft once; until then it is its shop's alone
    opens_at: int | None = None
    closes_at: int | None = None
    keyword: str | None = None
    keyword_mode: KeywordMode = "contains"
    ship_within_h: int = SHIP_WITHIN_H  # after that an order that was not shipped is late
    extends: int = 0  # how often a viewer may move the deadline of an order
    waiting: int = 0  # entries of the waitlist
    waitlist_max: int = WAITLIST_MAX
    waitlist_hold_s: int = WAITLIST_HOLD_S  # for who got units by waiting
    mode: OfferMode = "sale"  # `draw`: when it opens, units go to the lowest scores of who entered
    seed_hash: str | None = None  # of a draw: hex of sha256(seed), from the start,
    seed: str | None = None  # and the seed in hex, once it is drawn
    eligibility: Eligibility = "anyone"  # `ticket`: who brings one of the shop's
    buckets: int = 1  # rows, locks and gates that its units are spread over,
    parent: str | None = None  # and of one of them, the offer
    step: int = 1  # from one rank to the next
    tax_bp: int | None = None  # the tax in its price, where its product states one

    @property
    def spread(self) -> bool:
        """Tell whether it has buckets, and neither a gate nor orders in its own row."""
        return self.buckets > 1

    @property
    def homes(self) -> list[str]:
        """Return what has a gate of its own: its buckets, or itself."""
        if not self.spread:
            return [self.id]
        return [home_of(self.id, bucket + 1) for bucket in range(self.buckets)]

    def home(self, viewer: str) -> str:
        """Return where a viewer's orders of it are, always the same: his bucket, or the offer.

        Of another offer it is another bucket: the first is served first when units run short.
        """
        if not self.spread:
            return self.id
        return home_of(self.id, zlib.crc32(f"{self.id} {viewer}".encode()) % self.buckets + 1)

    @property
    def left(self) -> int:
        """Units that no committed live order has."""
        return self.quantity - self.taken

    @property
    def active(self) -> bool:
        """Tell whether buys are decided by the gate in Redis rather than by the row alone."""
        return self.status not in ("draft", "closed")

    @property
    def undrawn(self) -> bool:
        """Tell whether this is a draw that has not been held, as far as this record knows."""
        return self.mode == "draw" and self.seed is None


def home_of(offer: str, bucket: int) -> str:
    """Return the id of the row that orders of this offer and bucket live under (01_words.sql)."""
    return f"{offer}~{bucket}" if bucket else offer


class Order(msgspec.Struct, kw_only=True, frozen=True):
    """An order's row; amounts in minor units of `currency`."""

    id: str
    stream: str
    offer: str
    product: str
    viewer: str
    key: str
    qty: int
    unit_price_minor: int
    currency: str
    status: OrderStatus
    rank: int
    version: int
    reserved_at: int
    expires_at: int | None = None
    confirmed_at: int | None = None
    bundle: str | None = None  # shared by orders that were bought together
    extends_left: int | None = None  # of a reserved order, where the offer allows any
    bucket: int = 0  # of its offer, which it is in; 0: it has none
    captured_at: int | None = None  # when its money moved
    refunded_minor: int | None = None  # of its amount, when any was given back
    shipped_at: int | None = None
    carrier: str | None = None
    tracking: str | None = None
    late_at: int | None = None  # when it was found not shipped in time
    replaces: str | None = None  # an order that expired before its payment came
    tax_bp: int | None = None  # the tax in its price, in hundredths of a percent, if one is stated

    @property
    def home(self) -> str:
        """Return the id of the row whose lock and gate it is under."""
        return home_of(self.offer, self.bucket)

    @property
    def amount_minor(self) -> int:
        """Price of all units."""
        return self.unit_price_minor * self.qty


class Accepted(msgspec.Struct, frozen=True):
    """The row is committed; `replayed` when an earlier buy with this key made it."""

    order: Order
    replayed: bool = False


class Refused(msgspec.Struct, frozen=True):
    """No row of this key was made by this buy, or (RETRY) it is not known yet."""

    why: Why
    retry_after_ms: int | None = None
    field: str | None = None  # of the request, which is at fault
    message: str = ""  # instead of what the code says anyway


Outcome = Accepted | Refused


class Waitlisted(msgspec.Struct, frozen=True):
    """The entry is committed; `replayed` when the viewer was on the list before."""

    offer: str
    position: int  # from 1
    replayed: bool = False


class Entry(msgspec.Struct, frozen=True):
    """Who waits for units of an offer, and where he stands."""

    offer: str
    stream: str
    viewer: str
    key: str
    qty: int
    rank: int
    position: int  # from 1
    joined_at: int

    @property
    def id(self) -> str:
        """Return what a page of entries goes on from."""
        return str(self.rank)


class Bundled(msgspec.Struct, frozen=True):
    """All rows of a bundle are committed, in the order in which its offers were first named."""

    bundle: str
    orders: list[Order]
    replayed: bool = False


BundleOutcome = Bundled | Refused


class Figures(msgspec.Struct, frozen=True):
    """An offer's counters after a change, for the conflated `stock` event and the gauges."""

    offer: str
    stream: str
    left: int
    version: int


class Listener(Protocol):
    """Whom selling and the keeper tell what was committed; calls return at once and never raise."""

    def sold(self, sales: Sequence[tuple[Buy, Order]], figures: Figures | None) -> None:
        """Rows of one batch are committed; each buyer was answered already.

        Of an offer in buckets the figures come on their own: no batch knows them.
        """

    def changed(self, orders: Sequence[Order]) -> None:
        """These orders are in another status than before."""

    def figures(self, figures: Figures) -> None:
        """An offer's counters changed otherwise than by a sale."""

    def told(self, stream: str) -> None:
        """The stream has facts to publish."""


class Screen(Protocol):
    """Who judges whether a viewer may buy at all; told nothing of stock."""

    def concerns(self, offer: Offer) -> bool:
        """Tell whether buys of this offer are to be judged."""

    async def judge(self, offer: Offer, viewer: str, ticket: str | None) -> Refused | None:
        """Return why he may not, None when he may; what is raised is told as `retry`."""


class Buy:
    """One buy on its way; `done` is called exactly once, on the event loop, and must not raise.

    `tag` is the caller's own (a session, a future); selling never looks at it.
    """

    asks_first: ClassVar[bool] = False  # part of what has an answer of its own

    __slots__ = (
        "at",
        "done",
        "id",
        "key",
        "offer",
        "parked_at",
        "qty",
        "rank",
        "stream",
        "tag",
        "ticket",
        "viewer",
    )

    def __init__(
        self,
        offer: str,
        viewer: str,
        qty: int,
        key: str,
        done: Callable[[Buy, Outcome], None],
        tag: Any = None,
        stream: str | None = None,
        ticket: str | None = None,
    ) -> None:
        self.offer = offer
        self.viewer = viewer
        self.qty = qty
        self.key = key
        self.done = done
        self.tag = tag
        self.stream = stream  # when given, an offer of another stream is not found
        self.ticket = ticket  # that the viewer may buy, in the words of who judges it
        self.id = ""  # the order id that this buy would make, or adopts
        self.rank = 0  # given by the gate; 0 while not held
        self.at = 0.0  # loop time of its arrival
        self.parked_at = 0.0  # loop time of its first parking; 0.0 when never


class Bundle:
    """Units of several offers of one stream on their way, all or nothing; as with a buy, `done` is
    called exactly once, and `tag` is the caller's own.
    """

    __slots__ = ("done", "key", "lines", "stream", "tag", "ticket", "viewer")

    def __init__(
        self,
        stream: str,
        viewer: str,
        lines: Sequence[tuple[str, int]],
        key: str,
        done: Callable[[Bundle, BundleOutcome], None],
        tag: Any = None,
        ticket: str | None = None,
    ) -> None:
        self.stream = stream
        self.viewer = viewer
        self.ticket = ticket
        self.lines = lines  # (offer, qty) as they came; one offer may have several
        self.key = key
        self.done = done
        self.tag = tag
