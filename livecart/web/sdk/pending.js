// @ts-check
// What this user has asked for and not been answered yet, drawn beside what is true.
//
// A buy shows at once as an order that is `reserving`, a chat line at once in its place, an order
// being cancelled as `cancelling`; a refusal takes each back. Stock is never guessed: how much is
// left is the server's to say, and a bar that falls and rises again would be a lie twice.

/** @import { Order } from "./protocol.d.ts" */
/** @import { ChatLine, MyOrder, Outcome } from "./livecart.d.ts" */
/** @import { Fields } from "./tasks.js" */
/** @import { Room } from "./room.js" */

const CLOCKS_MS = 1_000; // how much our idea of the server's time may be off
const SHOWN_MAX_MS = 10_000; // how long a line that was taken may wait for its place in the chat

export class Pending {
  /** @type {Map<string, MyOrder[]>} by key */
  #orders = new Map();
  /** @type {Map<string, ChatLine & {expires?: number}>} by key */
  #lines = new Map();
  /** @type {Set<string>} ids */
  #cancelling = new Set();
  /** @type {Room} */
  #room;
  /** @type {() => number} */
  #nowMs;

  /**
   * @param {Room} room
   * @param {() => number} nowMs server time
   */
  constructor(room, nowMs) {
    this.#room = room;
    this.#nowMs = nowMs;
  }

  /**
   * A command is under way; says which part that changes, null if none.
   * @param {Fields} fields
   */
  begin({ type, key = "", offer = "", qty = 0, order = "", text = "", lines }) {
    if (type === "buy") {
      const wanted = lines ?? [{ offer, qty }];
      this.#orders.set(key, wanted.map((line, n) => this.#hoped(key, line.offer, line.qty, n)));
      return "orders";
    }
    if (type === "cancel") {
      this.#cancelling.add(order);
      return "orders";
    }
    if (type === "chat") {
      const { id: user = "", name = "" } = this.#room.you ?? {};
      this.#lines.set(key, { id: key, user, name, text, at: this.#nowMs(), pending: true });
      return "chat";
    }
    return null;
  }

  /**
   * Its outcome is known, or was never learnt; says which part that changes, null if none.
   * @param {Fields} fields
   * @param {Outcome} outcome
   */
  end({ type, key = "", order = "" }, outcome) {
    if (type === "buy") return this.#orders.delete(key) ? "orders" : null;
    if (type === "cancel") return this.#cancelling.delete(order) ? "orders" : null;
    if (type !== "chat") return null;
    // The answer and the line itself come apart: until the line is there, ours stands for it.
    const message = "message" in outcome && typeof outcome.message === "object" && outcome.message;
    if (message) {
      const expires = performance.now() + SHOWN_MAX_MS;
      this.#lines.set(key, { ...message, pending: false, expires });
    } else this.#lines.delete(key);
    return "chat";
  }

  /**
   * Own orders, newest first, those asked for on top.
   * @returns {MyOrder[]}
   */
  orders() {
    const known = this.#room.myOrders();
    const keys = new Set(known.map((order) => `${order.offer} ${order.key}`));
    const hoped = [...this.#orders.values()].flat();
    return [
      ...hoped.filter((order) => !keys.has(`${order.offer} ${order.key}`)).reverse(),
      ...known.map((order) => this.#shown(order)),
    ];
  }

  /**
   * The chat, oldest first, own lines that are on their way at the end.
   * @returns {ChatLine[]}
   */
  chat() {
    const { messages } = this.#room;
    const known = new Set(messages.map((message) => message.id));
    const taken = new Set(); // a message is one line's, though it was said twice
    const ours = [];
    for (const [key, { expires, ...line }] of this.#lines) {
      const over = expires !== undefined && expires < performance.now();
      if (over || known.has(line.id)) this.#lines.delete(key);
      else if (line.pending && isThere(line)) continue;
      else ours.push(line);
    }
    return [...messages, ...ours];

    /** @param {ChatLine} line whose answer comes after the message itself, mostly */
    function isThere({ user, text, at }) {
      const said = messages.find((message) => message.user === user && message.text === text
        && message.at > at - CLOCKS_MS && !taken.has(message.id));
      if (said) taken.add(said.id);
      return said !== undefined;
    }
  }

  /**
   * @param {Order} order
   * @returns {MyOrder}
   */
  #shown(order) {
    return this.#cancelling.has(order.id) ? { ...order, pending: "cancelling" } : order;
  }

  /**
   * @param {string} key
   * @param {string} offerId
   * @param {number} qty
   * @param {number} n which of its bundle, from 0
   * @returns {MyOrder}
   */
  #hoped(key, offerId, qty, n) {
    const offer = this.#room.offers.get(offerId);
    const unit = offer?.price_minor ?? 0;
    return {
      id: `pending ${key} ${n}`,
      status: "reserving",
      pending: "reserving",
      stream: this.#room.stream?.id ?? "",
      offer: offerId,
      product: offer?.product.id ?? "",
      viewer: this.#room.you?.id ?? "",
      qty,
      unit_price_minor: unit,
      amount_minor: unit * qty,
      currency: offer?.currency ?? "",
      key,
      reserved_at: this.#nowMs(),
    };
  }
}
