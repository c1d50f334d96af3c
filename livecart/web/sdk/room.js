// @ts-check
// What a client knows of one stream: the snapshot, and every event since applied to it.
//
// Pure state, no socket and no DOM; cart.js feeds it. It keeps the position in both sequences
// (for `since`), sees gaps, and drops what is stale: a `stock` or an order of a lower version.
// Only what the server said is in here: what is merely hoped for is pending.js's.

/** @import { AnyEvent, Message, Offer, Order, Pin, Resync, Since, Stock } from "./protocol.d.ts" */
/** @import { Stream, Welcome, You } from "./protocol.d.ts" */

export const MESSAGES_MAX = 200;
export const ORDERS_MAX = 200;

/** Order statuses that never change again, and hold no units. */
export const TERMINAL = new Set(["expired", "cancelled", "refunded"]);

export class Room {
  /** @type {Stream | null} */
  stream = null;
  /** @type {You | null} */
  you = null;
  viewers = 0;
  /** @type {Record<string, number>} */
  reactions = {};
  /** @type {Pin[]} newest first */
  pins = [];
  /** @type {Message[]} oldest first, at most MESSAGES_MAX */
  messages = [];
  /** @type {Map<string, Offer>} by id; a closed one stays until the next snapshot */
  offers = new Map();
  /** @type {Map<string, Order>} by id, own orders only */
  orders = new Map();
  /** @type {string | null} */
  epoch = null;
  seq = 0;
  cseq = 0;
  #historySeq = 0; // recovered main events up to here are already in the snapshot

  /**
   * The position to recover from, or null before the first snapshot.
   * @returns {Since | null}
   */
  since() {
    return this.epoch === null ? null : { epoch: this.epoch, seq: this.seq, cseq: this.cseq };
  }

  /**
   * Take a `welcome` or a `resync`.
   * @param {Welcome | Resync} frame
   */
  snapshot(frame) {
    if (frame.type === "welcome" && frame.you) {
      if (this.you && this.you.id !== frame.you.id) this.orders.clear();
      this.you = frame.you;
    }
    this.stream = frame.stream;
    this.viewers = frame.viewers;
    this.pins = [...frame.pins].sort((a, b) => a.position - b.position);
    this.offers = new Map(frame.offers.map((offer) => [offer.id, offer]));
    for (const order of frame.orders) this.putOrder(order);
    this.#historySeq = frame.seq;
    if (frame.recovered === true) return; // what was missed follows, from our own position on
    this.epoch = frame.epoch;
    this.seq = frame.seq;
    this.cseq = frame.cseq;
    // Chat from before may have been removed meanwhile by an event that nobody holds any more.
    this.messages = [];
  }

  /**
   * Apply one event; says which part changed: stream, offers, pins, orders, viewers, reactions,
   * chat; `gap` when something was missed (reconnect with `since`); `seen` when it is no news;
   * null when nothing that is kept here changed.
   * @param {AnyEvent} frame
   */
  apply(frame) {
    if (frame.type === "chat.skipped") {
      this.cseq = Math.max(this.cseq, frame.cseq);
      return null;
    }
    // By the field and not by the type: an event type of a later server counts too.
    const numbered = /** @type {{seq?: number, cseq?: number}} */ (frame);
    for (const name of /** @type {const} */ (["seq", "cseq"])) {
      const place = numbered[name];
      if (place === undefined || !Number.isInteger(place)) continue;
      if (place <= this[name]) return "seen";
      if (place !== this[name] + 1) return "gap";
      this[name] = place;
    }
    if (this.isHistory(frame)) return null;
    return this.#effect(frame);
  }

  /**
   * Whether the last snapshot had the effect of this event already.
   * @param {AnyEvent} frame
   */
  isHistory(frame) {
    const { seq } = /** @type {{seq?: number}} */ (frame);
    return seq !== undefined && seq <= this.#historySeq;
  }

  /** @param {AnyEvent} frame */
  #effect(frame) {
    switch (frame.type) {
      case "stream.started":
        return this.#turn({
          status: "live",
          started_at: this.stream?.started_at ?? frame.at, // it may have been live before
          ...(frame.playback_url && { playback_url: frame.playback_url }),
        });
      case "stream.ended":
        return this.#turn({ status: "ended", ended_at: frame.at });
      case "pinned":
        this.pins = [frame.pin, ...this.pins.filter((pin) => pin.id !== frame.pin.id)];
        return "pins";
      case "unpinned":
        this.pins = this.pins.filter((pin) => pin.id !== frame.pin);
        return "pins";
      case "offer.scheduled":
      case "offer.opened":
      case "offer.restocked":
        return this.#putOffer(frame.offer);
      case "offer.sold_out":
        return this.#amend(frame.offer, { status: "sold_out" });
      case "offer.paused":
        return this.#amend(frame.offer, { status: "paused" });
      case "offer.closed":
        return this.#amend(frame.offer, { status: "closed" });
      case "stock":
        return this.#stock(frame);
      case "viewers":
        this.viewers = frame.count;
        return "viewers";
      case "reactions":
        this.reactions = frame.counts;
        return "reactions";
      case "chat":
        this.messages = [...this.messages, frame.message].slice(-MESSAGES_MAX);
        return "chat";
      case "chat.removed":
        this.messages = this.messages.filter((message) => message.id !== frame.message);
        return "chat";
      case "bundle":
        return frame.orders.filter((order) => this.putOrder(order)).length > 0 ? "orders" : null;
      case "order.reserved":
      case "order.confirmed":
      case "order.cancelled":
      case "order.expired":
      case "order.refunded":
      case "order.shipped":
        return this.putOrder(frame.order) ? "orders" : null;
      default:
        return null;
    }
  }

  /**
   * Keep an order unless a newer version of it is known.
   * @param {Order} order
   */
  putOrder(order) {
    const known = this.orders.get(order.id);
    if (known && known.version >= order.version) return false;
    this.orders.set(order.id, order);
    const oldest = this.orders.size > ORDERS_MAX ? this.myOrders().at(-1) : undefined;
    if (oldest) this.orders.delete(oldest.id);
    return true;
  }

  /** Own orders, newest first. */
  myOrders() {
    return [...this.orders.values()].sort((a, b) => b.reserved_at - a.reserved_at);
  }

  /**
   * Units of an offer that this viewer holds or has bought.
   * @param {string} offerId
   */
  taken(offerId) {
    let units = 0;
    for (const order of this.orders.values()) {
      if (order.offer === offerId && !TERMINAL.has(order.status)) units += order.qty;
    }
    return units;
  }

  /** @param {Partial<Stream>} fields */
  #turn(fields) {
    if (this.stream === null) return null;
    this.stream = { ...this.stream, ...fields };
    return "stream";
  }

  /** @param {Offer} offer */
  #putOffer(offer) {
    const known = this.offers.get(offer.id);
    // `stock` is not ordered with the main events, so a newer count may have come first.
    const stale = known && known.epoch === offer.epoch && known.version > offer.version;
    const counts = stale ? { left: known.left, version: known.version } : {};
    this.offers.set(offer.id, { ...offer, ...counts });
    return "offers";
  }

  /**
   * @param {string} offerId
   * @param {Partial<Offer>} fields
   */
  #amend(offerId, fields) {
    const known = this.offers.get(offerId);
    if (!known) return null;
    this.offers.set(offerId, { ...known, ...fields });
    return "offers";
  }

  /** @param {Stock} frame */
  #stock({ offer, left, version }) {
    const known = this.offers.get(offer);
    if (!known || version < known.version) return null;
    return this.#amend(offer, { left, version });
  }
}
