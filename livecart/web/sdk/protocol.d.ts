// Protocol v1 in TypeScript: objects, commands, events, codes.
//
// Generated from streams/protocol.py; do not edit: `python -m livecart.bundle` writes it.
// Money is an integer in the currency's minor unit, times are integer milliseconds since the Unix
// epoch by the server's clock. What is optional is left out when it has no value.

export type StreamStatus = "scheduled" | "live" | "ended";

export type OfferStatus = "draft" | "scheduled" | "open" | "paused" | "sold_out" | "closed";

export type OrderStatus = "reserved" | "confirmed" | "shipped" | "expired" | "cancelled" | "refunded";

export type OfferMode = "sale" | "draw";

export type Payment = "required" | "none";

export type ReactionKind = "like" | "love" | "laugh" | "wow" | "clap";

/** What a shop sells; `price_minor` in minor units of `currency`. */
export interface Product {
  id: string;
  shop: string;
  sku: string;
  title: string;
  price_minor: number;
  currency: string;
  description?: string;
  image_url?: string;
  gtin?: string;
  tax_bp?: number;
}

/** A show of one shop. */
export interface Stream {
  id: string;
  shop: string;
  title: string;
  status: StreamStatus;
  starts_at?: number;
  started_at?: number;
  ended_at?: number;
  playback_url?: string;
  language?: string;
  chat_every_s?: number;
  peak_viewers?: number;
}

/**
 * A limited quantity of a product at a price, within one stream.
 *
 * `left + reserved + confirmed == quantity`; `version` grows with every change of the offer and
 * is the same counter that `stock` carries.
 */
export interface Offer {
  id: string;
  stream: string;
  product: Product;
  price_minor: number;
  currency: string;
  quantity: number;
  left: number;
  reserved: number;
  confirmed: number;
  per_viewer: number;
  status: OfferStatus;
  hold_s: number;
  payment: Payment;
  epoch: number;
  version: number;
  opens_at?: number;
  closes_at?: number;
  keyword?: string;
  keyword_mode?: "exact";
  ship_within_h?: number;
  /** Absent: 0. */
  extends?: number;
  /** Absent: 0. */
  waiting?: number;
  waitlist_max?: number;
  waitlist_hold_s?: number;
  mode?: OfferMode;
  seed_hash?: string;
  seed?: string;
  eligibility?: "ticket";
  buckets?: number;
}

/** A product shown on the stream; position 0 is the newest. */
export interface Pin {
  id: string;
  product: Product;
  position: number;
  offer?: string;
  media_at?: number;
}

/** One viewer's units of one offer; ids only. */
export interface Order {
  id: string;
  stream: string;
  offer: string;
  product: string;
  viewer: string;
  qty: number;
  unit_price_minor: number;
  amount_minor: number;
  currency: string;
  status: OrderStatus;
  rank: number;
  key: string;
  version: number;
  reserved_at: number;
  expires_at?: number;
  confirmed_at?: number;
  bundle?: string;
  extends_left?: number;
  captured_at?: number;
  refunded_minor?: number;
  shipped_at?: number;
  carrier?: string;
  tracking?: string;
  late_at?: number;
  replaces?: string;
  tax_minor?: number;
}

/** One line of chat; `id` is `msg_…`, `user` the sender's `sub`. */
export interface Message {
  id: string;
  user: string;
  name: string;
  text: string;
  at: number;
}

/** Who the server takes this connection for. */
export interface You {
  id: string;
  role: string;
  name: string;
}

/** The last position that a client saw. */
export interface Since {
  /** At most 64 characters. */
  epoch: string;
  seq: number;
  cseq: number;
}

/** Units of one offer in a bundle; several lines of one offer are one sum. */
export interface BundleLine {
  /** At most 128 characters. */
  offer: string;
  /** 1 to 1000. */
  qty: number;
}

export interface Hello {
  type: "hello";
  id: number;
  token?: string;
  since?: Since;
}

export interface Auth {
  type: "auth";
  id: number;
  token: string;
}

/** Units of one offer (`offer` and `qty`), or of several, all or none (`lines`). */
export interface Buy {
  type: "buy";
  id: number;
  key: string;
  /** At most 128 characters. */
  offer?: string;
  /** 1 to 1000. */
  qty?: number;
  /** At most 20. */
  lines?: BundleLine[];
  /** At most 4096 characters. */
  ticket?: string;
}

export interface Cancel {
  type: "cancel";
  id: number;
  /** At most 128 characters. */
  order: string;
}

export interface Extend {
  type: "extend";
  id: number;
  /** At most 128 characters. */
  order: string;
  version: number;
}

/** Wait for units of a sold-out offer, or enter a draw; the order to come has this key. */
export interface Waitlist {
  type: "waitlist";
  id: number;
  /** At most 128 characters. */
  offer: string;
  /** 1 to 1000. */
  qty: number;
  key: string;
  /** At most 4096 characters. */
  ticket?: string;
}

export interface WaitlistLeave {
  type: "waitlist.leave";
  id: number;
  /** At most 128 characters. */
  offer: string;
}

export interface Chat {
  type: "chat";
  id: number;
  /** At most 300 characters. */
  text: string;
  key: string;
}

export interface React {
  type: "react";
  id: number;
  kind: ReactionKind;
  /** 1 to 20. */
  n?: number;
}

export interface Ping {
  type: "ping";
  id: number;
  t0: number;
}

export interface PinCommand {
  type: "pin";
  id: number;
  /** At most 128 characters. */
  product: string;
  /** At most 128 characters. */
  offer?: string;
  media_at?: number;
}

export interface Unpin {
  type: "unpin";
  id: number;
  /** At most 128 characters. */
  pin: string;
}

export interface OfferOpen {
  type: "offer.open";
  id: number;
  /** At most 128 characters. */
  offer: string;
}

export interface OfferClose {
  type: "offer.close";
  id: number;
  /** At most 128 characters. */
  offer: string;
}

export interface OfferPause {
  type: "offer.pause";
  id: number;
  /** At most 128 characters. */
  offer: string;
}

export interface OfferResume {
  type: "offer.resume";
  id: number;
  /** At most 128 characters. */
  offer: string;
}

export interface OfferRestock {
  type: "offer.restock";
  id: number;
  /** At most 128 characters. */
  offer: string;
  /** 1 to 1000000. */
  add: number;
  key: string;
}

export interface Mute {
  type: "mute";
  id: number;
  /** At most 128 characters. */
  user: string;
}

export interface Unmute {
  type: "unmute";
  id: number;
  /** At most 128 characters. */
  user: string;
}

export interface Ban {
  type: "ban";
  id: number;
  /** At most 128 characters. */
  user: string;
}

/** Slow mode: let each user speak once in so many seconds; 0 ends it. */
export interface ChatSlow {
  type: "chat.slow";
  id: number;
  /** 0 to 3600. */
  every_s: number;
}

export interface ChatRemove {
  type: "chat.remove";
  id: number;
  /** At most 128 characters. */
  message: string;
}

export interface StreamStarted {
  type: "stream.started";
  at: number;
  seq: number;
  reason?: string;
  playback_url?: string;
}

export interface StreamEnded {
  type: "stream.ended";
  at: number;
  seq: number;
  reason?: string;
}

export interface Pinned {
  type: "pinned";
  at: number;
  seq: number;
  pin: Pin;
}

export interface Unpinned {
  type: "unpinned";
  at: number;
  seq: number;
  pin: string;
}

export interface OfferScheduled {
  type: "offer.scheduled";
  at: number;
  seq: number;
  offer: Offer;
  reason?: string;
}

export interface OfferOpened {
  type: "offer.opened";
  at: number;
  seq: number;
  offer: Offer;
  reason?: string;
}

export interface OfferRestocked {
  type: "offer.restocked";
  at: number;
  seq: number;
  offer: Offer;
  reason?: string;
}

export interface OfferSoldOut {
  type: "offer.sold_out";
  at: number;
  seq: number;
  offer: string;
  reason?: string;
}

export interface OfferPaused {
  type: "offer.paused";
  at: number;
  seq: number;
  offer: string;
  reason?: string;
}

export interface OfferClosed {
  type: "offer.closed";
  at: number;
  seq: number;
  offer: string;
  reason?: string;
}

export interface Chatted {
  type: "chat";
  at: number;
  cseq: number;
  message: Message;
}

export interface ChatRemoved {
  type: "chat.removed";
  at: number;
  cseq: number;
  message: string;
}

export interface OrderReserved {
  type: "order.reserved";
  order: Order;
  re?: number;
  replayed?: boolean;
}

export interface OrderConfirmed {
  type: "order.confirmed";
  order: Order;
  re?: number;
  replayed?: boolean;
}

export interface OrderCancelled {
  type: "order.cancelled";
  order: Order;
  re?: number;
  replayed?: boolean;
}

export interface OrderExpired {
  type: "order.expired";
  order: Order;
  re?: number;
  replayed?: boolean;
}

export interface OrderRefunded {
  type: "order.refunded";
  order: Order;
  re?: number;
  replayed?: boolean;
}

export interface OrderShipped {
  type: "order.shipped";
  order: Order;
  re?: number;
  replayed?: boolean;
}

/**
 * What became of a comment that asked for units: one for each offer that it named.
 *
 * `code` in place of `order`: why there is none, a code of `reject`; or `ambiguous`, `unreadable`:
 * the host has it to look at, or `dismissed`: he has looked. After a crash it may come twice.
 */
export interface CommentOrder {
  type: "comment.order";
  comment: string;
  order?: Order;
  code?: string;
  offer?: string;
  qty?: number;
  link?: string;
}

/** Answers a `buy` of `lines`: an order of each offer, in the order of the lines. */
export interface Bundle {
  type: "bundle";
  re: number | null;
  bundle: string;
  orders: Order[];
  replayed?: boolean;
}

/**
 * Answers `waitlist` where nothing is left, or a draw is to come; `position` is from 1.
 *
 * Before a draw it is that of the entry, which wins nothing by it.
 */
export interface Waitlisted {
  type: "waitlisted";
  re: number | null;
  offer: string;
  position: number;
}

export interface ChatSkipped {
  type: "chat.skipped";
  cseq: number;
}

export interface Welcome {
  type: "welcome";
  stream: Stream;
  epoch: string;
  seq: number;
  cseq: number;
  now: number;
  pins: Pin[];
  offers: Offer[];
  orders: Order[];
  viewers: number;
  heartbeat_ms: number;
  recovered?: boolean;
  re: number | null;
  you: You;
}

export interface Resync {
  type: "resync";
  stream: Stream;
  epoch: string;
  seq: number;
  cseq: number;
  now: number;
  pins: Pin[];
  offers: Offer[];
  orders: Order[];
  viewers: number;
  heartbeat_ms: number;
  recovered?: boolean;
}

export interface Stock {
  type: "stock";
  offer: string;
  left: number;
  version: number;
}

export interface Viewers {
  type: "viewers";
  count: number;
}

export interface Reactions {
  type: "reactions";
  counts: Record<string, number>;
}

export interface Muted {
  type: "muted";
  until?: number;
}

export interface Draining {
  type: "draining";
  retry_after_ms: number;
}

export interface Ok {
  type: "ok";
  re: number | null;
  pin?: Pin;
  message?: Message;
}

export interface Pong {
  type: "pong";
  re: number | null;
  t0: number;
  now: number;
}

export interface Reject {
  type: "reject";
  re: number | null;
  code: string;
  message: string;
  field?: string;
  retry_after_ms?: number;
}

/** What a client sends. */
export type AnyCommand =
  | Hello
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
  | ChatRemove;

/** The main sequence: in one order for everybody. */
export type AnyMain =
  | StreamStarted
  | StreamEnded
  | Pinned
  | Unpinned
  | OfferScheduled
  | OfferOpened
  | OfferRestocked
  | OfferSoldOut
  | OfferPaused
  | OfferClosed;

/** The chat sequence. */
export type AnyChat =
  | Chatted
  | ChatRemoved;

/** What became of an order; its buyer's alone. */
export type AnyOrderEvent =
  | OrderReserved
  | OrderConfirmed
  | OrderCancelled
  | OrderExpired
  | OrderRefunded
  | OrderShipped;

/** What the server sends. */
export type AnyEvent =
  | StreamStarted
  | StreamEnded
  | Pinned
  | Unpinned
  | OfferScheduled
  | OfferOpened
  | OfferRestocked
  | OfferSoldOut
  | OfferPaused
  | OfferClosed
  | Chatted
  | ChatRemoved
  | OrderReserved
  | OrderConfirmed
  | OrderCancelled
  | OrderExpired
  | OrderRefunded
  | OrderShipped
  | CommentOrder
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
  | Reject;

/** Why a command or a call was refused. */
export type RejectCode =
  | "bad_request"
  | "unknown_type"
  | "unauthenticated"
  | "forbidden"
  | "muted"
  | "not_found"
  | "not_live"
  | "not_open"
  | "closed"
  | "sold_out"
  | "limit_reached"
  | "conflict"
  | "too_large"
  | "key_reused"
  | "rate_limited"
  | "internal"
  | "retry";

/** Why a connection ended; beside these, those of WebSocket itself. */
export type CloseCode =
  | 1000
  | 1001
  | 4400
  | 4401
  | 4403
  | 4404
  | 4408
  | 4413
  | 4429
  | 4503
  | 4508;
