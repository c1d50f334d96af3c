// Types of livecart.js; what they say of its sources is checked by a test.

import type {
  AnyEvent,
  BundleLine,
  ChatRemove,
  Draining,
  Message,
  Muted,
  Offer,
  OfferStatus,
  Order,
  Pin,
  ReactionKind,
  RejectCode,
  Since,
  Stream,
  Welcome,
  Resync,
  You,
} from "./protocol.d.ts";

export type * from "./protocol.d.ts";

/** `waiting`: for the next attempt; `stopped`: for good, see `closeCode`. */
export type Status = "idle" | "connecting" | "open" | "waiting" | "stopped";
export type Transport = "socket" | "events";

/** In ms; those that are left out keep their defaults. */
export interface Times {
  /** How long a new connection may take until it is welcomed (10,000). */
  welcomeMs: number;
  /** Without an answer for so long, a command is sent again (8,000). */
  answerMs: number;
  /** For how long at most; then its outcome is `unknown` (60,000). */
  resendMs: number;
  /** How long a ping may stay unanswered (9,000). */
  pongMs: number;
  /** The same, when somebody has just come back and looks (4,000). */
  probeMs: number;
  /** A connection that lasted so long starts back-off anew (10,000). */
  steadyMs: number;
  /** Over events: when WebSocket is first tried again; doubles up to 5 minutes (5,000). */
  trialMs: number;
}

export interface Options {
  /** `st_…` */
  stream: string;
  /** Without one, and without `getToken`: a guest, who may watch and react. */
  token?: string | null;
  /** Asked for a fresh token before the first connection, before one ends, and when one is refused. */
  getToken?: (() => Promise<string | null>) | null;
  /** `https://…`; in a page, its own origin. */
  origin?: string;
  transports?: readonly Transport[];
  times?: Partial<Times>;
}

export interface BuyOptions {
  /** An idempotency key of your own; without one, a fresh one is made. */
  key?: string;
  /** Where an offer's `eligibility` is `ticket`. */
  ticket?: string;
}

/** No success. `unknown`: no answer came in time; asked again, a buy keeps its key. */
export interface Refusal {
  code: RejectCode | "unknown";
  message: string;
  field?: string;
  retry_after_ms?: number;
  order?: undefined;
}
export interface OrderOutcome {
  order: Order;
  replayed: boolean;
  code?: undefined;
}
export interface BundleOutcome {
  bundle: string;
  orders: Order[];
  replayed: boolean;
  code?: undefined;
}
export interface WaitOutcome {
  position: number;
  key: string;
  order?: undefined;
  code?: undefined;
}
export interface ChatOutcome {
  message: Message;
  code?: undefined;
}
export interface DoneOutcome {
  pin?: Pin;
  code?: undefined;
}
export type Outcome =
  | Refusal
  | OrderOutcome
  | BundleOutcome
  | WaitOutcome
  | ChatOutcome
  | DoneOutcome;

/** An order, or one that is asked for: then without a rank, a version and a deadline. */
export type MyOrder = Omit<Order, "status" | "rank" | "version"> & {
  status: Order["status"] | "reserving";
  rank?: number;
  version?: number;
  /** What is under way with it; absent: nothing. */
  pending?: "reserving" | "cancelling";
};

/** A message; `pending` while the server has not taken it. */
export type ChatLine = Message & { pending?: boolean };

export interface Stock {
  left: number;
  quantity: number;
  status: OfferStatus;
}

/** What pages subscribe to. Every part is frozen, and the same object until it changes. */
export interface CartState {
  stream: Stream | null;
  you: You | null;
  viewers: number;
  reactions: Record<string, number>;
  /** Newest first. */
  pins: readonly Pin[];
  offers: readonly Offer[];
  /** By offer; what the server said, never what is hoped for. */
  stock: Readonly<Record<string, Readonly<Stock>>>;
  /** Own ones, newest first; those that are asked for on top. */
  orders: readonly MyOrder[];
  /** Oldest first; own lines on their way at the end. */
  chat: readonly ChatLine[];
  status: {
    status: Status;
    closeCode: number | null;
    /** performance.now() of the next attempt while waiting. */
    retryAt: number | null;
    transport: Transport | null;
  };
}

export interface CartEvents {
  /** A part of the room changed; `all` after a snapshot. */
  change: CustomEvent<{ what: string }>;
  status: Event;
  notice: CustomEvent<Muted | Draining>;
  /** `getToken` rejected; it is asked again in a while. */
  token: CustomEvent<{ error: unknown }>;
  /** Everything that the server said, once; `history`: the snapshot before had its effect. */
  event: CustomEvent<{ frame: AnyEvent; history: boolean }>;
}

export type HostCommand =
  | "pin"
  | "unpin"
  | "offer.open"
  | "offer.close"
  | "offer.pause"
  | "offer.resume"
  | "offer.restock"
  | "mute"
  | "unmute"
  | "ban"
  | "chat.slow"
  | ChatRemove["type"];

/** One stream as one user. */
export class LiveCart extends EventTarget {
  constructor(options: Options);
  readonly room: Room;
  readonly clock: ServerClock;
  get status(): Status;
  get closeCode(): number | null;
  get retryAt(): number | null;
  get transport(): Transport | null;
  get state(): Readonly<CartState>;

  connect(): void;
  close(): void;
  setToken(token: string | null): void;
  probe(): void;

  get<P extends keyof CartState>(part: P): CartState[P];
  subscribe<P extends keyof CartState>(
    part: P,
    listener: (now: CartState[P], before: CartState[P]) => void,
  ): () => void;
  subscribe<T>(
    selector: (state: Readonly<CartState>) => T,
    listener: (now: T, before: T) => void,
  ): () => void;

  buy(offer: string, qty: number, options?: BuyOptions): Promise<OrderOutcome | Refusal>;
  buyBundle(lines: BundleLine[], options?: BuyOptions): Promise<BundleOutcome | Refusal>;
  cancel(order: string): Promise<OrderOutcome | Refusal>;
  extend(order: string): Promise<OrderOutcome | Refusal>;
  wait(
    offer: string,
    qty: number,
    options?: BuyOptions,
  ): Promise<WaitOutcome | OrderOutcome | Refusal>;
  leave(offer: string): Promise<DoneOutcome | Refusal>;
  chat(text: string, options?: { key?: string }): Promise<ChatOutcome | Refusal>;
  react(kind: ReactionKind): void;
  /** A host's command with its fields, as in the protocol; a missing key is made. */
  moderate(type: HostCommand, fields: Record<string, unknown>): Promise<DoneOutcome | Refusal>;

  addEventListener<K extends keyof CartEvents>(
    type: K,
    listener: (event: CartEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** What the server said of a stream, without what is hoped for. Read it; do not write to it. */
export class Room {
  stream: Stream | null;
  you: You | null;
  viewers: number;
  reactions: Record<string, number>;
  pins: Pin[];
  messages: Message[];
  offers: Map<string, Offer>;
  orders: Map<string, Order>;
  epoch: string | null;
  seq: number;
  cseq: number;
  since(): Since | null;
  snapshot(frame: Welcome | Resync): void;
  apply(frame: AnyEvent): string | null;
  isHistory(frame: AnyEvent): boolean;
  putOrder(order: Order): boolean;
  myOrders(): Order[];
  taken(offer: string): number;
}

/** The server's time. */
export class ServerClock {
  guess(serverNowMs: number): void;
  sample(sentMs: number, receivedMs: number, serverNowMs: number): void;
  now(): number;
  offset(): number;
  slept(): boolean;
  renew(): void;
}

export function backoffMs(attempt: number): number;
export function freshKey(): string;
export const FINAL_CODES: Set<number>;
export const TERMINAL: Set<string>;
export const MESSAGES_MAX: number;
export const ORDERS_MAX: number;
