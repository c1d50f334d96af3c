// What a screen reader hears of the sale: offers politely and a few at a time, one's order at once.
//
// Compares the room with what it was; owns the two live regions. Cards and orders are none, since
// the same offer may stand on two of them, and would be read out twice. Chat is not read out: in a
// full room it would never end.

import { at } from "./dom.js";
import { money } from "./money.js";
import { language, number, reason, t, timeText } from "./text.js";

const PAUSE_MS = 1_500; // between two polite sayings, so that one is finished
const SENTENCES_MAX = 3; // of one saying; what else happened meanwhile is counted
const SOON_MS = 60_000; // before a hold ends one is told, or when a third of its time is left
const ORDER_EVENTS = ["reserved", "confirmed", "expired", "cancelled", "refunded", "shipped"];

export class Announcer {
  #offers = null; // id -> status as heard; null before the first look
  #orders = new Map(); // id -> status
  #warned = new Set(); // order id and end of its hold
  #pin;
  #waiting = new Map(); // what it is about -> newest sentence
  #timer = null;
  #titleOf;
  #opened;

  /** `titleOf(order)` names its product; `opened(offer)` is told of each opening. */
  constructor(titleOf, opened = () => {}) {
    this.#titleOf = titleOf;
    this.#opened = opened;
  }

  /**
   * Look at the room once it has changed; the first look says nothing. `shownPins()` are the pins
   * that show, asked for after an opening had its say in that.
   */
  look(room, shownPins) {
    const first = this.#offers === null;
    const before = this.#offers ?? new Map();
    this.#offers = new Map([...room.offers.values()].map((offer) => [offer.id, offer.status]));
    for (const offer of room.offers.values()) {
      const was = before.get(offer.id);
      if (!first && was !== offer.status) this.#offer(offer, was);
    }
    this.#lookAtOrders(room, first);
    const pins = shownPins();
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
    const news = [];
    for (const order of room.orders.values()) {
      const was = this.#orders.get(order.id);
      this.#orders.set(order.id, order.status);
      if (first || was === order.status || !ORDER_EVENTS.includes(order.status)) continue;
      const gaps = { title: this.#titleOf(order), qty: number(order.qty) };
      if (order.expires_at) gaps.time = timeText(order.expires_at);
      news.push(t(`said_${order.status}`, gaps));
    }
    if (news.length > 0) this.now(news.join(" "));
  }

  /** Say what came of something one did, at once. */
  now(text) {
    at("said-now").textContent = text;
  }

  /** Say what was answered to a purchase or a place on a list; an order is heard of by itself. */
  answered(offer, answer) {
    if (answer.code) this.now(reason(answer));
    else if (answer.position === undefined || answer.position === null) return;
    else if (offer.status === "scheduled") {
      this.now(t("entered_draw", { time: offer.opens_at ? timeText(offer.opens_at) : "" }));
    } else this.now(t("waitlisted", { n: number(answer.position) }));
  }

  /** Warn once of each hold that is about to end; called a few times a second, `nowMs` is server time. */
  tick(room, nowMs) {
    const news = [];
    for (const order of room.orders.values()) {
      if (order.status !== "reserved" || !order.expires_at) continue;
      const leftMs = order.expires_at - nowMs;
      const soonMs = Math.min(SOON_MS, (order.expires_at - order.reserved_at) / 3);
      const key = `${order.id} ${order.expires_at}`;
      if (leftMs > soonMs || leftMs <= 0 || this.#warned.has(key)) continue;
      this.#warned.add(key);
      news.push(t("said_soon", { title: this.#titleOf(order), s: number(Math.ceil(leftMs / 1000)) }));
    }
    if (news.length > 0) this.now(news.join(" "));
  }

  #later(about, text) {
    this.#waiting.delete(about); // the newest is what is said when there is too much
    this.#waiting.set(about, text);
    this.#timer ??= setTimeout(() => this.#speak(), PAUSE_MS);
  }

  #speak() {
    this.#timer = null;
    const sentences = [...this.#waiting.values()].slice(-SENTENCES_MAX);
    const more = this.#waiting.size - sentences.length;
    if (more > 0) sentences.push(t("said_more", { n: number(more) }));
    at("said").textContent = sentences.join(" ");
    this.#waiting.clear();
  }
}
