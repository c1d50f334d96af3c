// What a client knows of one stream: the snapshot, and every event since applied to it.
//
// Pure state, no socket and no DOM; livecart.js feeds it. It keeps the position in both sequences
// (for `since`), sees gaps, and drops what is stale: a `stock` or an order of a lower version.

export const MESSAGES_MAX = 200;
export const ORDERS_MAX = 200;
export const TERMINAL = new Set(["expired", "cancelled", "refunded"]);

export class Room {
  stream = null;
  you = null;
  viewers = 0;
  reactions = {};
  pins = []; // newest first
  messages = []; // oldest first, at most MESSAGES_MAX
  offers = new Map(); // by id; a closed one stays until the next snapshot, to be shown as closed
  orders = new Map(); // by id, own orders only
  epoch = null;
  seq = 0;
  cseq = 0;
  #historySeq = 0; // recovered main events up to here are already in the snapshot

  /** The position to recover from, or null before the first snapshot. */
  since() {
    return this.epoch === null ? null : { epoch: this.epoch, seq: this.seq, cseq: this.cseq };
  }

  /** Take a `welcome` or a `resync`. */
  snapshot(frame) {
    if (frame.you) {
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
   * chat; `gap` when something was missed (reconnect with `since`); null when nothing changed.
   */
  apply(frame) {
    if (frame.type === "chat.skipped") {
      this.cseq = Math.max(this.cseq, frame.cseq);
      return null;
    }
    // By the field and not by the type: an event type of a later server counts too.
    for (const name of ["seq", "cseq"]) {
      const place = frame[name];
      if (!Number.isInteger(place)) continue;
      if (place <= this[name]) return null; // seen before
      if (place !== this[name] + 1) return "gap";
      this[name] = place;
    }
    if (Number.isInteger(frame.seq) && frame.seq <= this.#historySeq) return null;
    if (frame.type.startsWith("order.")) return this.putOrder(frame.order) ? "orders" : null;
    return this.#effect(frame);
  }

  #effect(frame) {
    switch (frame.type) {
      case "stream.started":
        this.stream = { ...this.stream, status: "live", started_at: frame.at };
        return "stream";
      case "stream.ended":
        this.stream = { ...this.stream, status: "ended", ended_at: frame.at };
        return "stream";
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
      default:
        return null;
    }
  }

  /** Keep an order unless a newer version of it is known. */
  putOrder(order) {
    const known = this.orders.get(order.id);
    if (known && known.version >= order.version) return false;
    this.orders.set(order.id, order);
    if (this.orders.size > ORDERS_MAX) this.orders.delete(this.myOrders().at(-1).id);
    return true;
  }

  /** Own orders, newest first. */
  myOrders() {
    return [...this.orders.values()].sort((a, b) => b.reserved_at - a.reserved_at);
  }

  /** Units of an offer that this viewer holds or has bought. */
  taken(offerId) {
    let units = 0;
    for (const order of this.orders.values()) {
      if (order.offer === offerId && !TERMINAL.has(order.status)) units += order.qty;
    }
    return units;
  }

  #putOffer(offer) {
    const known = this.offers.get(offer.id);
    // `stock` is not ordered with the main events, so a newer count may have come first.
    const stale = known && known.epoch === offer.epoch && known.version > offer.version;
    const counts = stale ? { left: known.left, version: known.version } : {};
    this.offers.set(offer.id, { ...offer, ...counts });
    return "offers";
  }

  #amend(offerId, fields) {
    const known = this.offers.get(offerId);
    if (!known) return null;
    this.offers.set(offerId, { ...known, ...fields });
    return "offers";
  }

  #stock({ offer, left, version }) {
    const known = this.offers.get(offer);
    if (!known || version < known.version) return null;
    return this.#amend(offer, { left, version });
  }
}
