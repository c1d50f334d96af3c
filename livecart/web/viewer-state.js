// What a viewer can do with an offer at this moment, and what of a stream is shown where.
//
// Pure: no DOM, no words, no socket. The server alone decides what a purchase comes to; this only
// says what to offer. Called by the viewer's page, and by tests without a browser.

const QTY_MAX = 1_000; // of one order, as the protocol has it
const SHELF = ["open", "scheduled", "paused", "sold_out", "closed"];
const STEADY_MS = 500; // what has just changed takes no press that was meant for what it was
const TWICE_MS = 700; // two presses within so long are one, of a finger that taps twice
const ALIVE = new Set(["reserved", "confirmed", "shipped"]);

/** When the button of a card takes a press. Times are performance.now(). */
export class Presses {
  #fromMs = 0;
  #act = null; // the last that was shown

  /** Say what the button does now; what does something else than before waits for a moment. */
  shows(act, nowMs) {
    if (act === null) return;
    if (this.#act !== null && this.#act !== act) this.rest(nowMs);
    this.#act = act;
  }

  /** Take no press for a moment. */
  rest(nowMs, ms = STEADY_MS) {
    this.#fromMs = Math.max(this.#fromMs, nowMs + ms);
  }

  /** Whether a press would be taken now. */
  ready(nowMs) {
    return nowMs >= this.#fromMs;
  }

  /** Take a press, or say that it is none. */
  take(nowMs) {
    if (!this.ready(nowMs)) return false;
    this.rest(nowMs, TWICE_MS);
    return true;
  }
}

/**
 * Status on server time: a scheduled offer opens at its second, on every screen at once. A draw does
 * not: it is drawn by the server, and only then is anything on sale.
 */
export function phaseOf(offer, nowMs) {
  const due = offer.mode !== "draw" && offer.status === "scheduled" && offer.opens_at && nowMs >= offer.opens_at;
  return due ? "open" : offer.status;
}

/** The viewer's newest order of an offer that still counts; undefined without one. */
export function ownOrder(room, offerId) {
  const mine = room.myOrders().filter((one) => one.offer === offerId && ALIVE.has(one.status));
  return mine.find((one) => one.status === "reserved") ?? mine[0];
}

/**
 * Where a viewer stands with an offer: {name, act, most, order}.
 *
 * `name`: buying, yours, waitlisted, closed, ended, sold_out, paused, scheduled, not_live, guest,
 * not_buyer, paid, limit, open. `act`: what the big button does (buy, pay, wait, leave, or null).
 * `more`: whether another purchase is open beside what is held. `place`: on the waitlist, or null.
 */
export function standing({ room, offer, nowMs, place, busy }) {
  const order = ownOrder(room, offer.id);
  const most = Math.min(offer.per_viewer - room.taken(offer.id), QTY_MAX);
  const phase = phaseOf(offer, nowMs);
  const bar = barrier(room, phase);
  const free = bar === null && most >= 1;
  const is = (name, act = null) => ({ name, act, most, order, phase, more: false });
  if (busy) return is("buying");
  if (order?.status === "reserved") return { ...is("yours", "pay"), more: free && phase === "open" };
  if (place !== null && phase !== "closed") return is("waitlisted", "leave");
  if (bar === "scheduled" && enters(room, offer, nowMs) && most >= 1) return is(bar, "wait");
  if (bar !== null) return is(bar);
  if (phase === "sold_out" && most >= 1) {
    return is("sold_out", offer.waitlist_max === 0 ? null : "wait");
  }
  if (most < 1) return is(order === undefined ? "limit" : "paid");
  return is("open", "buy");
}

/** Whether this viewer may enter the draw that an offer is: while the stream is live, until it is due. */
function enters(room, offer, nowMs) {
  const early = offer.opens_at === undefined || nowMs < offer.opens_at;
  return offer.mode === "draw" && early && room.you.role === "viewer" && room.stream.status === "live";
}

/** What keeps this viewer from buying whatever is left; null when nothing does. */
function barrier(room, phase) {
  const viewer = room.you.role === "viewer";
  const stream = room.stream.status;
  if (stream === "ended") return "ended";
  if (phase === "closed" || phase === "paused" || phase === "scheduled") return phase;
  if (phase === "sold_out" && !viewer) return "sold_out";
  if (room.you.role === "guest") return "guest";
  if (!viewer) return "not_buyer";
  return stream === "live" ? null : "not_live";
}

/** The offer that a pin is about: the one it names, else one of the same product. */
function offerOf(pin, offers) {
  if (pin.offer !== undefined) return offers.get(pin.offer);
  return [...offers.values()].find(
    (offer) => offer.product.id === pin.product.id && offer.status !== "closed",
  );
}

/** Pins first, newest on top, then the other offers; an offer appears once. */
export function shelf(pins, offers) {
  const items = new Map();
  for (const pin of pins) {
    const offer = offerOf(pin, offers);
    const key = offer ? offer.id : pin.id;
    if (!items.has(key)) items.set(key, { key, offer, product: pin.product, pinned: true });
  }
  const others = [...offers.values()]
    .filter((offer) => SHELF.includes(offer.status) && !items.has(offer.id))
    .sort((a, b) => SHELF.indexOf(a.status) - SHELF.indexOf(b.status));
  for (const offer of others) {
    items.set(offer.id, { key: offer.id, offer, product: offer.product, pinned: false });
  }
  return [...items.values()];
}

/** What the big card shows: what is pinned, else what is on sale or will be; or undefined. */
export function shownNow(items) {
  return items.find((item) => item.pinned) ?? items.find((item) => item.offer.status !== "closed");
}
