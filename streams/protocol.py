"""Every message of protocol v1 as a msgspec struct: the source of truth for the specs.

Knows shapes and limits only; no I/O, no state. Read by codec, session, hub, the Python client and
the HTTP routes. Money is an integer in the currency's minor unit, times are integer milliseconds
since the Unix epoch, optional fields without a value are left out of what is sent.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

INT_MAX = 2**53 - 1
FRAME_BYTES_MAX = 16 * 1024
TOKEN_BYTES_MAX = 4096
PINS_MAX = 3
LINES_MAX = 20  # of a bundle
ORDERS_IN_WELCOME_MAX = 50

JSON_SUBPROTOCOL = "livecart.v1.json"
MSGPACK_SUBPROTOCOL = "livecart.v1.msgpack"

# C0/C1 control characters end up in logs, CSV exports and terminals; titles and names have none.
# `\Z`, because `$` would let one newline through at the end; the specs are given `$` instead.
LINE = r"^[^\x00-\x1f\x7f-\x9f]*\Z"
TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*\Z"

Id = Annotated[str, Meta(min_length=1, max_length=128, pattern=LINE)]
Key = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._~-]{1,64}\Z")]
Qty = Annotated[int, Meta(ge=1, le=1_000)]
Quantity = Annotated[int, Meta(ge=0, le=1_000_000)]
RestockAdd = Annotated[int, Meta(ge=1, le=1_000_000)]
PriceMinor = Annotated[int, Meta(ge=0, le=10**12)]
TimeMs = Annotated[int, Meta(ge=0, le=INT_MAX)]
Title = Annotated[str, Meta(min_length=1, max_length=120, pattern=LINE)]
Description = Annotated[str, Meta(max_length=5_000, pattern=TEXT)]
Sku = Annotated[str, Meta(min_length=1, max_length=64, pattern=LINE)]
Keyword = Annotated[str, Meta(min_length=1, max_length=64, pattern=LINE)]
Url = Annotated[str, Meta(max_length=2_048, pattern=r"^https?://[^\x00-\x20\x7f-\x9f]+\Z")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
Language = Annotated[str, Meta(max_length=35, pattern=r"^[A-Za-z0-9-]+\Z")]
Extends = Annotated[int, Meta(ge=0, le=10)]
Version = Annotated[int, Meta(ge=1, le=INT_MAX)]
Gtin = Annotated[str, Meta(pattern=r"^[0-9]{8,14}\Z")]
TaxBp = Annotated[int, Meta(ge=0, le=10_000)]
ChatEveryS = Annotated[int, Meta(ge=0, le=3_600)]
ChatText = Annotated[str, Meta(min_length=1, max_length=300, pattern=TEXT)]
Ticket = Annotated[str, Meta(max_length=TOKEN_BYTES_MAX, pattern=LINE)]
# For the specs alone: who judges tokens judges their length too, wherever they were sent.
Token = Annotated[str, Meta(extra_json_schema={"maxLength": TOKEN_BYTES_MAX})]
ReactionKind = Literal["like", "love", "laugh", "wow", "clap"]
ReactionCount = Annotated[int, Meta(ge=1, le=20)]
CommandId = Annotated[int, Meta(ge=-INT_MAX, le=INT_MAX)]
Position_ = Annotated[int, Meta(ge=0, le=INT_MAX)]


class Shape(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An object of section 1; absent and null are the same."""


# --- objects --------------------------------------------------------------------------------

StreamStatus = Literal["scheduled", "live", "ended"]
OfferStatus = Literal["draft", "scheduled", "open", "paused", "sold_out", "closed"]
OrderStatus = Literal["reserved", "confirmed", "shipped", "expired", "cancelled", "refunded"]
OfferMode = Literal["sale", "draw"]
Payment = Literal["required", "none"]


class Stream(Shape, kw_only=True):
    """A show of one shop."""

    id: str
    shop: str
    title: str
    status: StreamStatus
    starts_at: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    playback_url: str | None = None
    language: str | None = None
    chat_every_s: int | None = None  # slow mode: seconds between a user's messages; absent: none
    peak_viewers: int | None = None  # connections at once, guests included; absent: nobody came


class Product(Shape, kw_only=True):
    """What a shop sells; `price_minor` in minor units of `currency`."""

    id: str
    shop: str
    sku: str
    title: str
    price_minor: int
    currency: str
    description: str | None = None
    image_url: str | None = None
    gtin: str | None = None
    tax_bp: int | None = None  # the tax in its price, in hundredths of a percent of the net price


class Offer(Shape, kw_only=True):
    """A limited quantity of a product at a price, within one stream.

    `left + reserved + confirmed == quantity`; `version` grows with every change of the offer and
    is the same counter that `stock` carries.
    """

    id: str
    stream: str
    product: Product
    price_minor: int
    currency: str
    quantity: int
    left: int
    reserved: int
    confirmed: int
    per_viewer: int
    status: OfferStatus
    hold_s: int
    payment: Payment
    epoch: int
    version: int
    opens_at: int | None = None
    closes_at: int | None = None
    keyword: str | None = None
    keyword_mode: Literal["exact"] | None = None  # it counts alone only; absent: within text too
    ship_within_h: int | None = None  # hours after which an order is late; absent: 72
    extends: int = 0  # how often a viewer may move the deadline of an order
    waiting: int = 0  # viewers on the waitlist
    waitlist_max: int | None = None  # how many may be on it, 0: there is none; absent: 10,000
    waitlist_hold_s: int | None = None  # how long who got units so may pay; absent: 60
    mode: OfferMode | None = (
        None  # `draw`: who entered by `waitlist` in time may win; absent: `sale`
    )
    seed_hash: str | None = None  # of a draw: hex of sha256(seed), before anybody enters,
    seed: str | None = None  # and the seed in hex once it is drawn: lowest HMAC(seed, viewer) won
    eligibility: Literal["ticket"] | None = None  # a buyer needs one of the shop's
    buckets: int | None = None  # that its units are spread over; absent: 1


class Pin(Shape, kw_only=True):
    """A product shown on the stream; position 0 is the newest."""

    id: str
    product: Product
    position: int
    offer: str | None = None
    media_at: int | None = None


class Order(Shape, kw_only=True):
    """One viewer's units of one offer; ids only."""

    id: str
    stream: str
    offer: str
    product: str
    viewer: str
    qty: int
    unit_price_minor: int
    amount_minor: int
    currency: str
    status: OrderStatus
    rank: int
    key: str
    version: int
    reserved_at: int
    expires_at: int | None = None
    confirmed_at: int | None = None
    bundle: str | None = None  # `bu_…`, the same in orders that were bought together
    extends_left: int | None = None  # of a reserved order, where the offer allows any
    captured_at: int | None = None  # when its money moved; `confirmed` alone means authorised
    refunded_minor: int | None = None  # when any of its amount was given back
    shipped_at: int | None = None
    carrier: str | None = None
    tracking: str | None = None
    late_at: int | None = None  # it was not shipped in time
    replaces: str | None = None  # an order that expired before its payment came
    tax_minor: int | None = None  # what of its amount is tax, where the product states one


class Message(Shape, kw_only=True):
    """One line of chat; `id` is `msg_…`, `user` the sender's `sub`."""

    id: str
    user: str
    name: str
    text: str
    at: int


class You(Shape, kw_only=True):
    """Who the server takes this connection for."""

    id: str
    role: str
    name: str


class Since(Shape, kw_only=True):
    """The last position that a client saw."""

    epoch: Annotated[str, Meta(max_length=64, pattern=LINE)]
    seq: Position_
    cseq: Position_


# --- commands -------------------------------------------------------------------------------


class Command(msgspec.Struct, tag_field="type", kw_only=True):
    """What a client sends; `id` is echoed as `re`."""

    id: CommandId


class Hello(Command, tag="hello", kw_only=True):
    token: Token | None = None
    since: Since | None = None


class Auth(Command, tag="auth", kw_only=True):
    token: Token


class BundleLine(Shape, kw_only=True):
    """Units of one offer in a bundle; several lines of one offer are one sum."""

    offer: Id
    qty: Qty


Lines = Annotated[list[BundleLine], Meta(min_length=1, max_length=LINES_MAX)]


class Buy(Command, tag="buy", kw_only=True):
    """Units of one offer (`offer` and `qty`), or of several, all or none (`lines`)."""

    key: Key
    offer: Id | None = None
    qty: Qty | None = None
    lines: Lines | None = None
    ticket: Ticket | None = None

    def __post_init__(self) -> None:
        """Hold the command to one of its two forms, in the words of msgspec."""
        if self.lines is None:
            missing = "offer" if self.offer is None else "qty" if self.qty is None else None
            if missing is not None:
                raise ValueError(f"Object missing required field `{missing}`")
        elif self.offer is not None or self.qty is not None:
            raise ValueError("Expected either `offer` and `qty`, or `lines` - at `$.lines`")


class Cancel(Command, tag="cancel", kw_only=True):
    order: Id


class Extend(Command, tag="extend", kw_only=True):
    order: Id
    version: Version  # of the order, as the sender saw it: sent twice, it counts once


class Waitlist(Command, tag="waitlist", kw_only=True):
    """Wait for units of a sold-out offer, or enter a draw; the order to come has this key."""

    offer: Id
    qty: Qty
    key: Key
    ticket: Ticket | None = None


class WaitlistLeave(Command, tag="waitlist.leave", kw_only=True):
    offer: Id


class Chat(Command, tag="chat", kw_only=True):
    text: ChatText
    key: Key


class React(Command, tag="react", kw_only=True):
    kind: ReactionKind
    n: ReactionCount | None = None  # None: one


class Ping(Command, tag="ping", kw_only=True):
    t0: Annotated[int, Meta(ge=-INT_MAX, le=INT_MAX)]


class PinCommand(Command, tag="pin", kw_only=True):
    product: Id
    offer: Id | None = None
    media_at: TimeMs | None = None


class Unpin(Command, tag="unpin", kw_only=True):
    pin: Id


class OfferOpen(Command, tag="offer.open", kw_only=True):
    offer: Id


class OfferClose(Command, tag="offer.close", kw_only=True):
    offer: Id


class OfferPause(Command, tag="offer.pause", kw_only=True):
    offer: Id


class OfferResume(Command, tag="offer.resume", kw_only=True):
    offer: Id


class OfferRestock(Command, tag="offer.restock", kw_only=True):
    offer: Id
    add: RestockAdd
    key: Key


class ChatSlow(Command, tag="chat.slow", kw_only=True):
    """Slow mode: let each user speak once in so many seconds; 0 ends it."""

    every_s: ChatEveryS


class Mute(Command, tag="mute", kw_only=True):
    user: Id


class Unmute(Command, tag="unmute", kw_only=True):
    user: Id


class Ban(Command, tag="ban", kw_only=True):
    user: Id


class ChatRemove(Command, tag="chat.remove", kw_only=True):
    message: Id


AnyCommand = (
    Hello
    | Auth
    | Buy
    | Cancel
    | Extend
    | Waitlist
    | WaitlistLeave
    | Chat
    | React
    | Ping
    | PinCommand
    | Unpin
    | OfferOpen
    | OfferClose
    | OfferPause
    | OfferResume
    | OfferRestock
    | Mute
    | Unmute
    | Ban
    | ChatSlow
    | ChatRemove
)
#: Each command's class by its `type`.
COMMANDS: dict[str, type[Command]] = {str(c.__struct_config__.tag): c for c in get_args(AnyCommand)}
#: Only the stream's own host may send these.
HOST_COMMANDS = (
    PinCommand,
    Unpin,
    OfferOpen,
    OfferClose,
    OfferPause,
    OfferResume,
    OfferRestock,
    Mute,
    Unmute,
    Ban,
    ChatSlow,
    ChatRemove,
)


# --- events and replies ---------------------------------------------------------------------


class Event(msgspec.Struct, tag_field="type", omit_defaults=True, kw_only=True):
    """What the server sends."""


class Main(Event, kw_only=True):
    """Of the main sequence; `at` and `seq` are set when the log numbers it."""

    at: int
    seq: int = 0


class StreamStarted(Main, tag="stream.started", kw_only=True):
    reason: str | None = None
    playback_url: str | None = None  # where there is video, which the start may have brought


class StreamEnded(Main, tag="stream.ended", kw_only=True):
    reason: str | None = None


class Pinned(Main, tag="pinned", kw_only=True):
    pin: Pin


class Unpinned(Main, tag="unpinned", kw_only=True):
    pin: str


class OfferScheduled(Main, tag="offer.scheduled", kw_only=True):
    offer: Offer
    reason: str | None = None


class OfferOpened(Main, tag="offer.opened", kw_only=True):
    offer: Offer
    reason: str | None = None


class OfferRestocked(Main, tag="offer.restocked", kw_only=True):
    offer: Offer
    reason: str | None = None


class OfferSoldOut(Main, tag="offer.sold_out", kw_only=True):
    offer: str
    reason: str | None = None


class OfferPaused(Main, tag="offer.paused", kw_only=True):
    offer: str
    reason: str | None = None


class OfferClosed(Main, tag="offer.closed", kw_only=True):
    offer: str
    reason: str | None = None


AnyMain = (
    StreamStarted
    | StreamEnded
    | Pinned
    | Unpinned
    | OfferScheduled
    | OfferOpened
    | OfferRestocked
    | OfferSoldOut
    | OfferPaused
    | OfferClosed
)


class ChatEvent(Event, kw_only=True):
    """Of the chat sequence; `at` and `cseq` are set when the log numbers it."""

    at: int
    cseq: int = 0


class Chatted(ChatEvent, tag="chat", kw_only=True):
    message: Message


class ChatRemoved(ChatEvent, tag="chat.removed", kw_only=True):
    message: str


class ChatSkipped(Event, tag="chat.skipped", kw_only=True):
    cseq: int


AnyChat = Chatted | ChatRemoved
AnySequenced = AnyMain | AnyChat


class Snapshot(Event, kw_only=True):
    """The fields that `welcome` and `resync` share."""

    stream: Stream
    epoch: str
    seq: int
    cseq: int
    now: int
    pins: list[Pin]
    offers: list[Offer]
    orders: list[Order]
    viewers: int
    heartbeat_ms: int
    recovered: bool | None = None


class Welcome(Snapshot, tag="welcome", kw_only=True):
    re: int | None
    you: You


class Resync(Snapshot, tag="resync", kw_only=True):
    pass


class Stock(Event, tag="stock", kw_only=True):
    offer: str
    left: int
    version: int


class Viewers(Event, tag="viewers", kw_only=True):
    count: int


class Reactions(Event, tag="reactions", kw_only=True):
    counts: dict[str, int]


class OrderEvent(Event, kw_only=True):
    """Private, or the answer to a command when `re` is set; the higher `order.version` wins."""

    order: Order
    re: int | None = None
    replayed: bool | None = None


class OrderReserved(OrderEvent, tag="order.reserved", kw_only=True):
    pass


class OrderConfirmed(OrderEvent, tag="order.confirmed", kw_only=True):
    pass


class OrderCancelled(OrderEvent, tag="order.cancelled", kw_only=True):
    pass


class OrderExpired(OrderEvent, tag="order.expired", kw_only=True):
    pass


class OrderRefunded(OrderEvent, tag="order.refunded", kw_only=True):
    pass


class OrderShipped(OrderEvent, tag="order.shipped", kw_only=True):
    pass


#: The event that tells of an order in that status.
ORDER_EVENT: dict[str, type[OrderEvent]] = {
    "reserved": OrderReserved,
    "confirmed": OrderConfirmed,
    "cancelled": OrderCancelled,
    "expired": OrderExpired,
    "refunded": OrderRefunded,
    "shipped": OrderShipped,
}
AnyOrderEvent = (
    OrderReserved | OrderConfirmed | OrderCancelled | OrderExpired | OrderRefunded | OrderShipped
)


class CommentOrder(Event, tag="comment.order", kw_only=True):
    """What became of a comment that asked for units: one for each offer that it named.

    `code` in place of `order`: why there is none, a code of `reject`; or `ambiguous`, `unreadable`:
    the host has it to look at, or `dismissed`: he has looked. After a crash it may come twice.
    """

    comment: str  # the id of the message, or what the comment has on its platform
    order: Order | None = None
    code: str | None = None
    offer: str | None = None  # of what there is no order,
    qty: int | None = None  # and how many
    link: str | None = None  # where the order may be paid


AnyPrivate = AnyOrderEvent | CommentOrder


class Bundle(Event, tag="bundle", kw_only=True):
    """Answers a `buy` of `lines`: an order of each offer, in the order of the lines."""

    re: int | None
    bundle: str
    orders: list[Order]
    replayed: bool | None = None


class Waitlisted(Event, tag="waitlisted", kw_only=True):
    """Answers `waitlist` where nothing is left, or a draw is to come; `position` is from 1.

    Before a draw it is that of the entry, which wins nothing by it.
    """

    re: int | None
    offer: str
    position: int


class Muted(Event, tag="muted", kw_only=True):
    until: int | None = None


class Draining(Event, tag="draining", kw_only=True):
    retry_after_ms: int


class Ok(Event, tag="ok", kw_only=True):
    re: int | None
    pin: Pin | None = None
    message: Message | None = None


class Pong(Event, tag="pong", kw_only=True):
    re: int | None
    t0: int
    now: int


class Reject(Event, tag="reject", kw_only=True):
    re: int | None
    code: str
    message: str
    field: str | None = None
    retry_after_ms: int | None = None


AnyEvent = (
    AnyMain
    | AnyChat
    | AnyPrivate
    | Bundle
    | Waitlisted
    | ChatSkipped
    | Welcome
    | Resync
    | Stock
    | Viewers
    | Reactions
    | Muted
    | Draining
    | Ok
    | Pong
    | Reject
)
