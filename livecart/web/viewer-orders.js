// The viewer's own orders: what is held and for how long, paying, giving back.
//
// Whether something is paid is what the server says. A payment that needs a form of its own (cards)
// goes to /pay; any other is begun and waited for here.

import { at, clockText, h, keyed, say, tell } from "./dom.js";
import { money } from "./money.js";
import { language, number, reason, t, timeText } from "./text.js";
import { thumb } from "./viewer-card.js";

const LOOK_MS = 5_000; // between two questions after a payment whose notice has not come
const TITLE_AGAIN_MS = 10_000; // before a product that could not be had is asked for again
const SURE_MS = 4_000; // within that a second tap on "give back" means it

export class Orders {
  #cart;
  #api;
  #changed;
  #tellNow;
  #products; // id -> Product, of everything seen; null while it is fetched
  #payments = new Map(); // order id -> {id, text, kind}: what was begun here
  #lookedAt = 0;

  /** `tellNow(text)` reads out what comes of a payment. */
  constructor(cart, api, products, changed, tellNow) {
    this.#cart = cart;
    this.#api = api;
    this.#products = products;
    this.#changed = changed;
    this.#tellNow = tellNow;
  }

  /** The title of an order's product, which the order names by id only. */
  titleOf({ offer, product }) {
    const known = this.#cart.room.offers.get(offer)?.product;
    if (known) return known.title;
    this.#fetch(product);
    return this.#products.get(product)?.title ?? product;
  }

  /** Begin to pay an order, or go on with what was begun. */
  async pay(order) {
    this.#said(order, { text: t("loading"), kind: "" });
    try {
      const { payment, status } = await this.#api.post(`/v1/orders/${encodeURIComponent(order.id)}/pay`);
      const client = payment?.client ?? {};
      if (client.client_secret) return this.#leave(order);
      const text = client.instructions ?? (status === "reserved" ? t("payment_waits") : "");
      this.#said(order, { id: payment?.id, text, kind: "good" });
    } catch (problem) {
      // No provider is connected: the shop takes the money itself.
      const text = problem.code === "forbidden" ? t("pay_at_shop") : reason(problem);
      this.#said(order, { text, kind: problem.code === "forbidden" ? "good" : "bad" });
    }
  }

  /** Show the orders, and how many of them wait for money on the button that opens them. */
  show() {
    const orders = this.#cart.room.myOrders();
    at("orders-empty").hidden = orders.length > 0;
    keyed(at("orders-list"), orders, (order) => order.id, (order) => this.#make(order),
      (item, order) => this.#update(item, order));
    this.#showButton(orders);
  }

  /** What changes with time alone; asks after payments whose notice is late. */
  tick() {
    for (const item of at("orders-list").children) {
      const order = this.#cart.room.orders.get(item.dataset.key);
      if (order) this.#update(item, order);
    }
    this.#showButton(this.#cart.room.myOrders());
    const nowMs = performance.now();
    if (nowMs - this.#lookedAt < LOOK_MS) return;
    this.#lookedAt = nowMs;
    for (const [id, begun] of this.#payments) {
      if (begun.id && this.#cart.room.orders.get(id)?.status === "reserved") this.#look(begun.id);
    }
  }

  #showButton(orders) {
    const held = orders.filter((order) => order.status === "reserved");
    const ends = held.map((order) => order.expires_at ?? Infinity);
    const leftMs = Math.min(...ends) - this.#cart.clock.now();
    const badge = at("orders-badge");
    badge.hidden = orders.length === 0;
    say(badge, Number.isFinite(leftMs) && leftMs > 0 ? clockText(leftMs) : number(orders.length));
    badge.classList.toggle("due", held.length > 0);
    say(at("orders-name"), t("orders_open", { n: number(orders.length) }));
  }

  #make(order) {
    const parts = {
      thumb: h("span", { class: "thumb" }),
      title: h("b"),
      status: h("span", { class: "chip" }),
      facts: h("span"),
      rank: h("span", { class: "dim" }),
      time: h("p", { class: "countdown" }),
      said: h("p", { class: "note" }),
      pay: h("button", { type: "button", class: "buy", onclick: () => this.#payNow(order.id) }, t("pay_now")),
      cancel: h("button", { type: "button", class: "quiet" }, t("cancel_order")),
      form: h("a", { class: "quiet", href: payPath(order) }, t("pay_form")),
    };
    parts.cancel.addEventListener("click", () => this.#cancel(order.id, parts));
    const item = h("li", { class: "order", tabindex: "-1" },
      h("div", { class: "product" }, parts.thumb,
        h("div", {},
          parts.title,
          h("p", { class: "facts" }, parts.status, parts.facts, parts.rank),
          parts.time)),
      parts.said,
      h("div", { class: "act" }, parts.pay),
      h("p", { class: "row" }, parts.form, parts.cancel));
    item.parts = parts;
    return item;
  }

  #update({ parts }, order) {
    say(parts.title, this.titleOf(order));
    const product = this.#products.get(order.product);
    if (product && !parts.pictured) {
      parts.pictured = true;
      parts.thumb.replaceWith(thumb(product));
    }
    say(parts.status, t(`order_${order.status}`));
    parts.status.dataset.status = order.status;
    const unit = money(order.unit_price_minor, order.currency, language);
    const amount = money(order.amount_minor, order.currency, language);
    say(parts.facts, order.qty > 1 ? `${unit} × ${number(order.qty)} = ${amount}` : amount);
    say(parts.rank, t("rank", { n: number(order.rank) }));
    const held = order.status === "reserved";
    const leftMs = held && order.expires_at ? order.expires_at - this.#cart.clock.now() : null;
    for (const part of [parts.pay, parts.cancel, parts.form, parts.time]) part.hidden = !held;
    const over = leftMs !== null && leftMs <= 0;
    parts.pay.setAttribute("aria-disabled", String(over));
    if (leftMs === null) say(parts.time, "");
    else if (over) say(parts.time, t("hold_over"));
    else {
      const gaps = { time: timeText(order.expires_at), left: clockText(leftMs) };
      say(parts.time, t("held_until", gaps));
    }
    const said = this.#payments.get(order.id);
    if (held && said) tell(parts.said, said.text, said.kind);
    else tell(parts.said, order.status === "confirmed" ? t("paid_thanks") : "", "good");
  }

  #payNow(id) {
    const order = this.#cart.room.orders.get(id);
    const leftMs = (order?.expires_at ?? Infinity) - this.#cart.clock.now();
    if (order?.status === "reserved" && leftMs > 0) this.pay(order);
  }

  /** Give a held order back; asks for a second tap, since its units are then for others. */
  async #cancel(id, parts) {
    const nowMs = performance.now();
    if (!(nowMs - (parts.askedAt ?? -Infinity) < SURE_MS)) {
      parts.askedAt = nowMs;
      say(parts.cancel, t("cancel_sure"));
      setTimeout(() => say(parts.cancel, t("cancel_order")), SURE_MS);
      return;
    }
    const answer = await this.#cart.cancel(id);
    if (answer.code) this.#said({ id }, { text: reason(answer), kind: "bad" });
  }

  #leave(order) {
    location.assign(payPath(order));
  }

  #said(order, what) {
    this.#payments.set(order.id, what);
    if (what.text !== "" && what.kind !== "") this.#tellNow(what.text);
    this.#changed();
  }

  /** The server asks the provider on each look; what it learns comes as an event. */
  async #look(payment) {
    try {
      await this.#api.get(`/v1/payments/${encodeURIComponent(payment)}`);
    } catch (problem) {
      console.warn("no answer about", payment, problem.message); // asked again in a while
    }
  }

  async #fetch(id) {
    if (this.#products.has(id)) return;
    this.#products.set(id, null);
    try {
      this.#products.set(id, await this.#api.get(`/v1/products/${encodeURIComponent(id)}`));
      this.#changed();
    } catch (problem) {
      // The order is shown with its id instead; nothing else depends on the title.
      console.warn("no title for", id, problem.message);
      setTimeout(() => this.#products.get(id) === null && this.#products.delete(id), TITLE_AGAIN_MS);
    }
  }
}

/** Where an order is paid with a form; behind `#`, so that no log has it. */
function payPath(order) {
  return `/pay#order=${encodeURIComponent(order.id)}`;
}
