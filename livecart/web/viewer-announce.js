// What a screen reader hears of the sale: offers politely and a few at a time, one's order at once.
//
// Compares the room with what it was; owns the two live regions. Chat is not read out: in a full
// room it would never end.

import { at } from "./dom.js";
import { money } from "./money.js";
import { language, number, t, timeText } from "./text.js";

const PAUSE_MS = 1_500; // between two polite sentences, so that one is finished
const ORDER_EVENTS = ["reserved", "confirmed", "expired", "cancelled", "refunded", "shipped"];

export class Announcer {
  #offers = null; // id -> status as heard; null before the first look
  #orders = new Map(); // id -> status
  #pin;
  #waiting = new Map(); // what it is about -> newest sentence
  #timer = null;
  #titleOf;
  #opened;

  /** `titleOf(productId)` names a product; `opened(offer)` is told of each opening. */
  constructor(titleOf, opened = () => {}) {
    this.#titleOf = titleOf;
    this.#opened = opened;
  }

  /** Look at the room once it has changed; the first look says nothing. */
  look(room, pins) {
    const first = this.#offers === null;
    const before = this.#offers ?? new Map();
    this.#offers = new Map([...room.offers.values()].map((offer) => [offer.id, offer.status]));
    for (const offer of room.offers.values()) {
      const was = before.get(offer.id);
      if (!first && was !== offer.status) this.#offer(offer, was);
    }
    this.#lookAtOrders(room, first);
    if (!first && pins[0] !== undefined && pins[0].id !== this.#pin) {
      this.#later("pin", t("said_pinned", { title: pins[0].product.title }));
    }
    this.#pin = pins[0]?.id;
  }

  #offer(offer, was) {
    const { title } = offer.product;
    if (offer.status === "open" && was === "sold_out") {
      this.#later(offer.id, t("said_restocked", { title, n: number(offer.left) }));
    } else if (offer.status === "open") {
      const price = money(offer.price_minor, offer.currency, language);
      this.#later(offer.id, t("said_opened", { title, price }));
    } else if (offer.status === "sold_out") this.#later(offer.id, t("said_sold_out", { title }));
    if (offer.status === "open") this.#opened(offer);
  }

  #lookAtOrders(room, first) {
    for (const order of room.orders.values()) {
      const was = this.#orders.get(order.id);
      this.#orders.set(order.id, order.status);
      if (first || was === order.status || !ORDER_EVENTS.includes(order.status)) continue;
      const gaps = { title: this.#titleOf(order.product), qty: number(order.qty) };
      if (order.expires_at) gaps.time = timeText(order.expires_at);
      at("said-now").textContent = t(`said_${order.status}`, gaps);
    }
  }

  #later(about, text) {
    this.#waiting.set(about, text);
    this.#timer ??= setTimeout(() => this.#speak(), PAUSE_MS);
  }

  #speak() {
    this.#timer = null;
    at("said").textContent = [...this.#waiting.values()].slice(-3).join(" ");
    this.#waiting.clear();
  }
}
