// One product as it is sold: picture, price, stock, time, and the one big button.
//
// Draws what `Basket` says; the same card stands over the picture and in the drawer. Buttons are
// never `disabled`, which would throw the keyboard's focus away in the middle of a purchase.

import { clockText, h, say, tell } from "./dom.js";
import { money } from "./money.js";
import { language, number, reason, t, timeText } from "./text.js";
import { Presses } from "./viewer-state.js";

/** Cards over {basket, cart, places, pay(order)}: how to make one, and bring it up to date. */
export function cards(deps) {
  return {
    make: (item) => makeCard(item, deps),
    update: (card, item) => updateCard(card, item, deps),
    tick: (card, offer) => updateSale(card.parts, offer, deps),
  };
}

/** A product's picture, or its first character on a colour of its own. */
export function thumb(product) {
  const box = h("span", { class: "thumb", "aria-hidden": "true" }, [...product.title][0] ?? "");
  let hue = 0;
  for (const char of product.id) hue = (hue * 31 + char.codePointAt(0)) % 360;
  box.style.setProperty("--hue", String(hue));
  if (product.image_url?.startsWith("https:")) {
    const image = h("img", { alt: "", loading: "lazy", decoding: "async" });
    image.addEventListener("error", () => image.remove());
    image.src = product.image_url;
    box.append(image);
  }
  return box;
}

function makeCard({ product }, deps) {
  const button = (classes, press, ...inside) =>
    h("button", { type: "button", class: classes, onclick: press }, ...inside);
  const parts = {
    status: h("span", { class: "chip" }),
    title: h("h3"),
    price: h("strong", { class: "price" }),
    was: h("s", { class: "dim" }),
    description: h("p", { class: "description dim" }),
    sale: h("div", { class: "sale" }),
    meter: h("span", { class: "fill" }),
    stock: h("span", { class: "stock" }),
    limit: h("span", { class: "dim limit" }),
    countdown: h("span", { class: "countdown", role: "timer" }),
    qty: h("output", { class: "qty" }, "1"),
    presses: new Presses(),
  };
  const press = (verb) => () => act(verb, parts, deps);
  parts.big = button("buy", press("big"));
  parts.more = button("quiet", press("more"));
  parts.note = h("p", { class: "note" });
  parts.qtyBox = h("div", { class: "stepper", role: "group", "aria-label": t("qty") },
    h("button", { type: "button", "aria-label": t("less"), onclick: press("less") }, "−"),
    parts.qty,
    h("button", { type: "button", "aria-label": t("more"), onclick: press("plus") }, "+"));
  parts.bar = h("div", { class: "bar-row" },
    h("span", { class: "meter", "aria-hidden": "true" }, parts.meter), parts.stock);
  parts.sale.append(
    parts.bar,
    parts.note,
    h("div", { class: "act" }, parts.qtyBox, parts.big),
    parts.more,
  );
  const card = h("article", { class: "offer", tabindex: "-1" },
    h("div", { class: "product" },
      thumb(product),
      h("div", {},
        parts.title,
        h("p", { class: "facts" }, parts.price, parts.was, parts.status, parts.countdown),
        parts.limit,
        parts.description)),
    parts.sale);
  card.parts = parts;
  return card;
}

/** Take no tap for a moment: this card has just come where another one was. */
export function steady(card) {
  card.parts.presses.rest(performance.now());
}

function updateCard(card, { offer, product, pinned }, deps) {
  const { parts } = card;
  card.classList.toggle("is-pinned", pinned);
  say(parts.title, product.title);
  const price = offer ?? product;
  say(parts.price, money(price.price_minor, price.currency, language));
  const cheaper = offer !== undefined && offer.price_minor < product.price_minor;
  say(parts.was, cheaper ? money(product.price_minor, product.currency, language) : "");
  say(parts.description, product.description ?? "");
  parts.status.hidden = parts.sale.hidden = offer === undefined;
  if (offer === undefined) return;
  say(parts.limit, t("per_viewer", { n: number(offer.per_viewer) }));
  updateSale(parts, offer, deps);
}

/** What also changes with time: countdown, number and button. */
function updateSale(parts, offer, deps) {
  const { basket, cart } = deps;
  const where = basket.standing(offer);
  parts.offer = offer;
  parts.where = where;
  say(parts.status, t(`offer_${where.phase}`));
  parts.status.dataset.status = where.phase;
  say(parts.countdown, countdown(offer, where.phase, cart.clock.now()));
  const part = Math.max(0, Math.min(1, offer.left / Math.max(1, offer.quantity)));
  parts.meter.style.setProperty("--part", String(part));
  parts.meter.classList.toggle("few", part <= 0.2);
  say(parts.stock, t("left", { left: number(offer.left), quantity: number(offer.quantity) }));
  parts.bar.hidden = !["open", "paused"].includes(where.phase);
  const qty = basket.qty(offer, where.most);
  say(parts.qty, number(qty));
  const counts = where.most > 1 && (["buy", "wait"].includes(where.act) || where.more);
  parts.qtyBox.hidden = !counts;
  const [less, , more] = parts.qtyBox.children;
  less.setAttribute("aria-disabled", String(qty <= 1));
  more.setAttribute("aria-disabled", String(qty >= where.most));
  const nowMs = performance.now();
  parts.presses.shows(where.act, nowMs);
  const ready = parts.presses.ready(nowMs);
  parts.big.setAttribute("aria-disabled", String(!ready || !does(where, cart)));
  parts.more.setAttribute("aria-disabled", String(!ready || cart.status === "stopped"));
  parts.big.dataset.act = where.act ?? "";
  parts.big.dataset.state = where.name;
  const amount = money(offer.price_minor * qty, offer.currency, language);
  say(parts.big, label(where, offer, amount, cart));
  parts.more.hidden = !where.more;
  say(parts.more, t("buy_more", { amount }));
  const [text, kind] = note(where, offer, deps);
  tell(parts.note, text, kind);
}

/** The big button's words: what happens when it is pressed, or why nothing would. */
function label(where, offer, amount, cart) {
  const { name, act, order } = where;
  const away = cart.status !== "open";
  if (name === "buying") return t("act_reserving");
  if (name === "yours") {
    if (!order.expires_at) return t("pay_now");
    return t("act_pay", { time: clockText(order.expires_at - cart.clock.now()) });
  }
  if (act === "buy") return t(away ? "buy_when_back" : "buy", { amount });
  const draw = where.phase === "scheduled"; // who waits before an offer opens is in a draw
  if (act === "wait") return t(draw ? "enter_draw" : "wait");
  if (act === "leave") return t(draw ? "leave_draw" : "leave_waitlist");
  if (name === "scheduled" && offer.opens_at) {
    return t("opens_in", { time: clockText(offer.opens_at - cart.clock.now()) });
  }
  return t(`state_${name === "paid" && offer.payment === "none" ? "confirmed" : name}`);
}

/** One line below: [text, kind]. */
function note({ name, act, order, phase }, offer, { basket, cart, places }) {
  const refused = basket.refused(offer, name);
  const away = cart.status !== "open";
  if (name === "buying") return [t(away ? "buying_again" : "note_reserving"), ""];
  if (refused) return [reason(refused), "bad"];
  if (name === "yours") {
    const time = order.expires_at ? timeText(order.expires_at) : "";
    return [t("note_yours", { qty: number(order.qty), time }), "good"];
  }
  if (phase === "scheduled" && (act === "wait" || name === "waitlisted")) {
    const time = offer.opens_at ? timeText(offer.opens_at) : "";
    return [t(act === "wait" ? "note_draw" : "entered_draw", { time }), act === "wait" ? "" : "good"];
  }
  if (name === "waitlisted") {
    return [t("waitlisted", { n: number(places.of(offer)) }), "good"];
  }
  if (name === "sold_out" && offer.waitlist_max !== 0) return [t("note_sold_out"), ""];
  if (name === "guest") return [t("guest_cannot_buy"), ""];
  if (order !== undefined) {
    const words = offer.payment === "none" ? "note_confirmed" : "note_paid";
    return [t(words, { qty: number(order.qty) }), "good"];
  }
  return ["", ""];
}

function countdown(offer, phase, nowMs) {
  if (phase !== "open" || !offer.closes_at) return "";
  return t("closes_in", { time: clockText(offer.closes_at - nowMs) });
}

/** Whether the big button does anything: only what is paid for needs no connection. */
function does({ act }, cart) {
  return act === "pay" || (act !== null && cart.status !== "stopped");
}

function act(verb, parts, { basket, cart, pay }) {
  const { offer, where } = parts;
  if (offer === undefined) return;
  if (verb === "less") basket.turn(offer, -1, where.most);
  else if (verb === "plus") basket.turn(offer, 1, where.most);
  else if (verb === "more" ? cart.status === "stopped" : !does(where, cart)) return;
  else if (!parts.presses.take(performance.now())) return;
  else if (verb === "more") basket.buy(offer, where.most);
  else if (where.act === "buy") basket.buy(offer, where.most);
  else if (where.act === "pay") pay(where.order);
  else basket.toggleWait(offer, where.most);
}
