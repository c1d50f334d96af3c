// @ts-check
// LiveCart: one stream as one user, for pages. Puts the parts together and gives them one face.
//
// Owns what a page calls and hears; decides nothing itself. Where the connection goes is
// connection.js's, what is known room.js's, what is hoped for pending.js's.

import { freshKey } from "./backoff.js";
import { BAD_TOKEN } from "./closes.js";
import { ServerClock } from "./clock.js";
import { Connection } from "./connection.js";
import { Pending } from "./pending.js";
import { Room, TERMINAL } from "./room.js";
import { Store } from "./store.js";
import { watchSurroundings } from "./surroundings.js";
import { Tasks } from "./tasks.js";
import { subjectOf } from "./tokens.js";

/** @import { AnyEvent, BundleLine, Order } from "./protocol.d.ts" */
/** @import { BuyOptions, CartState, Options, Times } from "./livecart.d.ts" */

const REACT_MAX = 20;
const REACT_MS = 300; // taps of so long travel together

/** @type {Times} */
const TIMES = {
  welcomeMs: 10_000,
  answerMs: 8_000,
  resendMs: 60_000,
  pongMs: 9_000,
  probeMs: 4_000,
  steadyMs: 10_000,
  trialMs: 5_000,
};

/** What of the state may have changed when a part of the room did. */
const PARTS = /** @type {Record<string, (keyof CartState)[]>} */ ({
  offers: ["offers", "stock"],
  all: ["stream", "you", "viewers", "reactions", "pins", "offers", "stock", "orders", "chat"],
});

export class LiveCart extends EventTarget {
  room = new Room();
  clock = new ServerClock();
  #pending = new Pending(this.room, () => this.clock.now());
  #store;
  #connection;
  #tasks;
  /** @type {(() => void) | null} */
  #unwatch = null;
  /** @type {Map<string, number>} taps not sent yet, by kind */
  #reactions = new Map();

  /** @param {Options} options */
  constructor({
    stream,
    token = null,
    getToken = null,
    origin = globalThis.location?.origin,
    transports = ["socket", "events"],
    times = {},
  }) {
    super();
    if (!origin) throw new TypeError("outside a page, LiveCart needs an origin");
    const base = `${origin.replace(/\/$/, "")}/v1/streams/${encodeURIComponent(stream)}`;
    const all = { ...TIMES, ...times };
    this.#store = new Store(this.#makers());
    this.#tasks = new Tasks(
      {
        send: (fields, answer) => this.#connection.send(fields, answer),
        renewable: () => this.#connection.renewable,
        room: this.room,
        nowMs: () => this.clock.now(),
        began: (fields) => this.#mark(this.#pending.begin(fields)),
        ended: (fields, outcome) => this.#mark(this.#pending.end(fields, outcome)),
      },
      all,
    );
    this.#connection = new Connection(
      { base, token, getToken, transports, times: all, clock: this.clock },
      {
        status: () => this.#onStatus(),
        welcomed: () => this.#tasks.resume(),
        since: () => this.room.since(),
        frame: (frame) => this.#onFrame(frame),
        tokenFailed: (error) => this.#say("token", { error }),
      },
    );
  }

  /** idle, connecting, open, waiting (for the next attempt), stopped (for good) */
  get status() {
    return this.#connection.status;
  }

  /** Why the last connection ended, or null. */
  get closeCode() {
    return this.#connection.closeCode;
  }

  /** performance.now() of the next attempt while waiting, else null. */
  get retryAt() {
    return this.#connection.retryAt;
  }

  /** By which way it is connected: `socket`, `events`, or null. */
  get transport() {
    return this.#connection.transport;
  }

  connect() {
    this.#unwatch ??= watchSurroundings({
      wake: () => this.#connection.wake(),
      sleep: () => this.#connection.sleep(),
      look: () => this.#connection.probe(),
      moved: () => this.#connection.moved(),
    });
    this.#connection.open();
  }

  /** Leave on purpose; `connect` starts again. */
  close() {
    this.#unwatch?.();
    this.#unwatch = null;
    this.#connection.close();
  }

  /**
   * Go on with another token (null: as a guest); what another person asked for ends as `unknown`.
   * @param {string | null} token
   */
  setToken(token) {
    const person = this.#connection.subject ?? this.room.you?.id ?? null;
    if (subjectOf(token) !== person) this.#tasks.forget();
    this.#connection.setToken(token);
  }

  /** Make sure at once that the line is alive. */
  probe() {
    this.#connection.probe();
  }

  // --- what is known ---

  /** All parts, frozen; the same object until one of them changes. */
  get state() {
    return this.#store.state;
  }

  /**
   * One part of the state, frozen; the same object until it changes.
   * @template {keyof CartState} P
   * @param {P} part
   */
  get(part) {
    return this.#store.get(part);
  }

  /**
   * Hear of changes: of a part by its name, or of what a function makes of the state.
   * @template T
   * @param {keyof CartState | ((state: Readonly<CartState>) => T)} what
   * @param {(now: any, before: any) => void} listener
   */
  subscribe(what, listener) {
    return this.#store.subscribe(what, listener);
  }

  // --- commands ---

  /**
   * Buy; resolves to {order, replayed}, or {code, message} (`unknown`: no answer in a minute).
   * @param {string} offer
   * @param {number} qty
   * @param {BuyOptions} options
   */
  buy(offer, qty, { key = this.#tasks.keyFor(offer), ticket } = {}) {
    const ours = (/** @type {Order} */ order) => order.offer === offer && order.key === key;
    return this.#tasks.add({ type: "buy", offer, qty, key, ticket }, ours);
  }

  /**
   * Buy of several offers, all or none; resolves to {bundle, orders, replayed} or {code, message}.
   * @param {BundleLine[]} lines
   * @param {BuyOptions} options
   */
  buyBundle(lines, { key = freshKey(), ticket } = {}) {
    return this.#tasks.add({ type: "buy", lines, key, ticket });
  }

  /**
   * Give a held order back; resolves to {order} or {code, message}.
   * @param {string} order
   */
  cancel(order) {
    return this.#tasks.add(
      { type: "cancel", order },
      (known) => known.id === order && TERMINAL.has(known.status),
    );
  }

  /**
   * Move the deadline of a held order; resolves to {order} or {code, message}.
   * @param {string} order
   */
  extend(order) {
    // The version that is seen now: sent twice, it counts once.
    const version = this.room.orders.get(order)?.version ?? 1;
    return this.#tasks.add({ type: "extend", order, version });
  }

  /**
   * Wait for units of a sold-out offer; resolves to {position, key}, or as `buy` does.
   * @param {string} offer
   * @param {number} qty
   * @param {BuyOptions} options
   */
  wait(offer, qty, { key = freshKey(), ticket } = {}) {
    const ours = (/** @type {Order} */ order) => order.offer === offer && order.key === key;
    return this.#tasks.add({ type: "waitlist", offer, qty, key, ticket }, ours);
  }

  /**
   * Wait no more; resolves to {} or {code, message}.
   * @param {string} offer
   */
  leave(offer) {
    return this.#tasks.add({ type: "waitlist.leave", offer });
  }

  /**
   * Speak; resolves to {message: Message} or {code, message: why}.
   * @param {string} text
   * @param {{key?: string}} options
   */
  chat(text, { key = freshKey() } = {}) {
    return this.#tasks.add({ type: "chat", text, key });
  }

  /**
   * React; taps of a moment travel together.
   * @param {string} kind
   */
  react(kind) {
    if (this.#reactions.size === 0) setTimeout(() => this.#sendReactions(), REACT_MS);
    this.#reactions.set(kind, Math.min(REACT_MAX, (this.#reactions.get(kind) ?? 0) + 1));
  }

  /**
   * A host's command, like `pin` or `mute`; resolves to {pin?} or {code, message}.
   * @param {string} type
   * @param {Record<string, unknown>} fields
   */
  moderate(type, fields) {
    // Units that are added twice would be sold twice.
    const keyed = type === "offer.restock" && { key: freshKey() };
    return this.#tasks.add({ type, ...keyed, ...fields });
  }

  // --- what is heard ---

  #sendReactions() {
    for (const [kind, n] of this.#reactions) this.#connection.send({ type: "react", kind, n });
    this.#reactions.clear();
  }

  /**
   * Take what came; false when an event before it is missing.
   * @param {AnyEvent} frame
   */
  #onFrame(frame) {
    if (frame.type === "welcome" || frame.type === "resync") {
      this.room.snapshot(frame);
      this.clock.guess(frame.now);
      this.#changed("all");
      this.#say("event", { frame, history: false });
      for (const order of frame.orders) this.#tasks.learn(order, false);
      return true;
    }
    const what = this.room.apply(frame);
    if (what === "gap") return false;
    if (what === "seen") return true;
    if (what) this.#changed(what);
    if (frame.type === "draining" || frame.type === "muted") this.#say("notice", frame);
    if (frame.type !== "pong") this.#say("event", { frame, history: this.room.isHistory(frame) });
    if ("order" in frame && frame.order) {
      this.#tasks.learn(frame.order, ("replayed" in frame && frame.replayed) || false);
    }
    return true;
  }

  #onStatus() {
    const { status, closeCode } = this.#connection;
    if (status !== "open") this.#tasks.pause();
    // With another token they may still be done; refused otherwise, they will not.
    if (status === "stopped" && closeCode !== BAD_TOKEN) this.#tasks.fail();
    this.#store.mark("status");
    this.dispatchEvent(new Event("status"));
  }

  /** @param {string} what */
  #changed(what) {
    this.#store.mark(...(PARTS[what] ?? [/** @type {keyof CartState} */ (what)]));
    this.#say("change", { what });
  }

  /** @param {keyof CartState | null} part */
  #mark(part) {
    if (part !== null) this.#store.mark(part);
  }

  /**
   * @param {string} name
   * @param {object} detail
   */
  #say(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** @returns {{[P in keyof CartState]: () => CartState[P]}} */
  #makers() {
    const { room } = this;
    return {
      stream: () => room.stream,
      you: () => room.you,
      viewers: () => room.viewers,
      reactions: () => ({ ...room.reactions }),
      pins: () => [...room.pins],
      offers: () => [...room.offers.values()],
      stock: () =>
        Object.fromEntries(
          [...room.offers.values()].map(({ id, left, quantity, status }) => [
            id,
            { left, quantity, status },
          ]),
        ),
      orders: () => this.#pending.orders(),
      chat: () => this.#pending.chat(),
      status: () => {
        const { status, closeCode, retryAt, transport } = this.#connection;
        return { status, closeCode, retryAt, transport };
      },
    };
  }
}
