// The viewer's page, served at /s/{stream}: what is on sale, buying, own orders, chat.
//
// Draws what LiveCart's room says; decides nothing about stock, limits or outcomes itself.

import { Api } from "./api.js";
import { chatForm, showLine, showMessages } from "./chat.js";
import { at, clockText, h, keyed, painter, say, tell, tokenOf } from "./dom.js";
import { LiveCart } from "./livecart.js";
import { money } from "./money.js";
import { Places } from "./places.js";
import { language, number, reason, t, timeText, translatePage } from "./text.js";

const TOKEN_KEY = "livecart.viewer.token";
const TICK_MS = 250;
const QTY_MAX = 1_000;
const UNMUTED_MS = 1_000; // more than the clocks differ, less than anybody is muted for
const FACES = { like: "👍", love: "❤️", laugh: "😂", wow: "😮", clap: "👏" };

translatePage();
const streamId = decodeURIComponent(location.pathname.split("/")[2] ?? "");
const token = tokenOf(TOKEN_KEY);
const cart = new LiveCart({ stream: streamId, token });
const room = () => cart.room;
const buying = new Set(); // ids of offers whose buy is under way
const places = new Places(cart, token, () => paint("offers"));
const products = new Map(); // id -> Product, of everything seen; null while it is fetched

// --- products and offers ---

/** Pins first, newest on top, then the other offers; an offer appears once. */
function cardItems() {
  const items = new Map();
  for (const pin of room().pins) {
    const offer = room().offers.get(pin.offer);
    const key = offer ? offer.id : pin.id;
    if (!items.has(key)) items.set(key, { key, offer, product: pin.product, pinned: true });
  }
  const order = ["open", "scheduled", "paused", "sold_out", "closed", "draft"];
  const others = [...room().offers.values()].sort(
    (a, b) => order.indexOf(a.status) - order.indexOf(b.status),
  );
  for (const offer of others) {
    if (items.has(offer.id)) continue;
    items.set(offer.id, { key: offer.id, offer, product: offer.product, pinned: false });
  }
  return [...items.values()];
}

function makeCard({ key, product }) {
  const parts = {
    image: h("img", { class: "picture", alt: "", loading: "lazy", hidden: true }),
    pinned: h("span", { class: "chip accent" }, t("pinned")),
    status: h("span", { class: "chip" }),
    title: h("h3"),
    price: h("strong", { class: "price" }),
    was: h("s"),
    description: h("p", { class: "dim" }),
    sale: h("div", { class: "sale" }),
    meter: h("progress", { max: 1, value: 0, "aria-hidden": "true" }),
    stock: h("span"),
    limit: h("span", { class: "dim" }),
    countdown: h("p", { class: "countdown", role: "timer" }),
    qty: h("output", { class: "qty" }, "1"),
    buy: h("button", { type: "button", class: "primary wide", onclick: () => buy(key) }),
    wait: h("button", { type: "button", class: "wide", onclick: () => wait(key) }),
    place: h("p", { class: "facts", role: "status" }),
    outcome: h("p", { class: "outcome", role: "status" }),
  };
  const step = (sign, by, label) =>
    h("button", { type: "button", "aria-label": label, onclick: () => turn(key, by) }, sign);
  parts.qtyBox = h("div", { class: "stepper", role: "group", "aria-label": t("qty") },
    step("−", -1, t("less")), parts.qty, step("+", 1, t("more")));
  parts.sale.append(
    parts.meter,
    h("p", { class: "facts" }, parts.stock, parts.limit),
    parts.countdown,
    h("div", { class: "row" }, parts.qtyBox, parts.buy),
    h("div", { class: "row" }, parts.wait, parts.place),
    parts.outcome,
  );
  parts.image.addEventListener("error", () => (parts.image.hidden = true));
  if (product.image_url?.startsWith("https:")) {
    parts.image.src = product.image_url;
    parts.image.hidden = false;
  }
  const card = h("article", { class: "card" },
    h("div", { class: "product" },
      parts.image,
      h("div", {},
        h("p", { class: "facts" }, parts.pinned, parts.status),
        parts.title,
        h("p", { class: "facts" }, parts.price, parts.was),
        parts.description)),
    parts.sale);
  card.parts = parts;
  return card;
}

function updateCard(card, { offer, product, pinned }) {
  const { parts } = card;
  products.set(product.id, product);
  parts.pinned.hidden = !pinned;
  say(parts.title, product.title);
  const price = offer ?? product;
  say(parts.price, money(price.price_minor, price.currency, language));
  const cheaper = offer !== undefined && offer.price_minor < product.price_minor;
  say(parts.was, cheaper ? money(product.price_minor, product.currency, language) : "");
  say(parts.description, product.description ?? "");
  parts.status.hidden = parts.sale.hidden = offer === undefined;
  if (offer === undefined) return;
  parts.meter.max = Math.max(1, offer.quantity);
  parts.meter.value = offer.left;
  say(parts.stock, t("left", { left: number(offer.left), quantity: number(offer.quantity) }));
  say(parts.limit, t("per_viewer", { n: number(offer.per_viewer) }));
  updateBuy(parts, offer);
}

/** The part of a card that also changes with time: countdown, quantity and button. */
function updateBuy(parts, offer) {
  const status = phase(offer);
  say(parts.status, t(`offer_${status}`));
  parts.status.dataset.status = status;
  say(parts.countdown, countdown(offer, status));
  const most = qtyMost(offer);
  const qty = Math.max(1, Math.min(Number(parts.qty.textContent), most));
  say(parts.qty, String(qty));
  const [less, more] = parts.qtyBox.querySelectorAll("button");
  less.disabled = qty <= 1;
  more.disabled = qty >= most;
  const busy = buying.has(offer.id);
  const why = busy ? "" : cannotBuy(offer, status, most);
  const waits = updateWait(parts, offer, status, most);
  parts.qtyBox.hidden = why !== "" && !waits;
  // Not `disabled`: that would throw the keyboard's focus away in the middle of a purchase.
  parts.buy.setAttribute("aria-disabled", String(busy || why !== "" || cart.status !== "open"));
  const amount = money(offer.price_minor * qty, offer.currency, language);
  say(parts.buy, busy ? t("buying") : why || t("buy", { amount }));
  if (busy && cart.status !== "open") tell(parts.outcome, t("buying_again"));
  // What the last purchase came to follows its order: cancelled, paid, expired.
  const order = busy ? undefined : room().orders.get(parts.outcome.dataset.order);
  if (order) tell(parts.outcome, gotText(order), order.status in GOT ? "good" : "");
}

/** The button to wait with, and the place on the list; tells whether a number may be chosen. */
function updateWait(parts, offer, status, most) {
  const may = status === "sold_out" && offer.waitlist_max !== 0 && !cannotBuy(offer, "open", most);
  if (may || places.of(offer) !== null) places.refresh(offer);
  const position = status === "closed" ? null : places.of(offer);
  parts.wait.hidden = position === null && !may;
  parts.wait.setAttribute("aria-disabled", String(cart.status !== "open"));
  say(parts.wait, t(position === null ? "wait" : "leave_waitlist"));
  say(parts.place, position === null ? "" : t("waitlisted", { n: number(position) }));
  return may && position === null;
}

async function wait(offerId) {
  const { parts } = cardOf(offerId);
  if (parts.wait.getAttribute("aria-disabled") === "true") return;
  const offer = room().offers.get(offerId);
  const { order, ...answer } = await places.toggle(offer, Number(parts.qty.textContent));
  if (order) parts.outcome.dataset.order = order.id;
  else tell(parts.outcome, answer.code ? reason(answer) : "", answer.code ? "bad" : "");
  paint("offers");
}

/** Status on server time: a scheduled offer opens at its second, on every screen at once. */
function phase(offer) {
  const due = offer.status === "scheduled" && offer.opens_at && cart.clock.now() >= offer.opens_at;
  return due ? "open" : offer.status;
}

function countdown(offer, status) {
  const now = cart.clock.now();
  if (status === "scheduled" && offer.opens_at) {
    return t("opens_in", { time: clockText(offer.opens_at - now) });
  }
  if (status === "open" && offer.closes_at) {
    return t("closes_in", { time: clockText(offer.closes_at - now) });
  }
  return "";
}

/** Why this viewer cannot buy now, in words; "" if they can try. */
function cannotBuy(offer, status, most) {
  if (status !== "open") return t(`offer_${status}`);
  if (room().you.role === "guest") return t("guest_cannot_buy");
  if (room().you.role !== "viewer") return t("not_a_buyer");
  if (room().stream.status !== "live") return t(`status_${room().stream.status}`);
  if (most < 1) return t("limit_used");
  return "";
}

function qtyMost(offer) {
  return Math.min(offer.per_viewer - room().taken(offer.id), QTY_MAX);
}

function cardOf(key) {
  return [...at("cards").children].find((card) => card.dataset.key === key);
}

function turn(offerId, by) {
  const { qty } = cardOf(offerId).parts;
  qty.textContent = String(Math.max(1, Number(qty.textContent) + by));
  paint("offers");
}

async function buy(offerId) {
  const { parts } = cardOf(offerId);
  if (parts.buy.getAttribute("aria-disabled") === "true") return;
  buying.add(offerId);
  delete parts.outcome.dataset.order;
  tell(parts.outcome, t("buying"));
  paint("offers");
  const { order, ...refused } = await cart.buy(offerId, Number(parts.qty.textContent));
  buying.delete(offerId);
  if (order) parts.outcome.dataset.order = order.id;
  else tell(parts.outcome, reason(refused), "bad");
  paint("offers");
}

const GOT = {
  reserved: (order) => t("got_reserved", { qty: order.qty, time: timeText(order.expires_at) }),
  confirmed: (order) => t("got_confirmed", { qty: order.qty }),
};

function gotText(order) {
  const words = GOT[order.status];
  return words ? words(order) : t("got_other", { status: t(`order_${order.status}`) });
}

// --- own orders ---

/** The title of an order's product, which the order names by id only. */
function productTitle(id) {
  if (!products.has(id)) {
    products.set(id, null);
    new Api(token).get(`/v1/products/${encodeURIComponent(id)}`).then(
      (product) => {
        products.set(id, product);
        paint("orders");
      },
      // The order is shown with its id instead; nothing else depends on the title.
      (problem) => console.warn("no title for", id, problem.message),
    );
  }
  return products.get(id)?.title ?? id;
}

function makeOrder(order) {
  const parts = {
    title: h("b"),
    status: h("span", { class: "chip" }),
    facts: h("span"),
    rank: h("span", { class: "dim" }),
    time: h("p", { class: "countdown" }),
    cancel: h("button", { type: "button", onclick: () => cancel(order.id) }, t("cancel_order")),
  };
  const item = h("li", { class: "card" },
    h("p", { class: "facts" }, parts.title, parts.status),
    h("p", { class: "facts" }, parts.facts, parts.rank),
    parts.time,
    parts.cancel);
  item.parts = parts;
  return item;
}

function updateOrder({ parts }, order) {
  say(parts.title, productTitle(order.product));
  say(parts.status, t(`order_${order.status}`));
  parts.status.dataset.status = order.status;
  const unit = money(order.unit_price_minor, order.currency, language);
  const amount = money(order.amount_minor, order.currency, language);
  say(parts.facts, `${unit} × ${number(order.qty)} = ${amount}`);
  say(parts.rank, t("rank", { n: number(order.rank) }));
  const held = order.status === "reserved";
  parts.cancel.hidden = parts.time.hidden = !held;
  if (held && order.expires_at) {
    const left = order.expires_at - cart.clock.now();
    say(parts.time, left > 0 ? t("pay_within", { time: clockText(left) }) : t("hold_over"));
  }
}

async function cancel(orderId) {
  if (!confirm(t("cancel_sure"))) return;
  const answer = await cart.cancel(orderId);
  if (answer.code) tell(at("order-outcome"), reason(answer), "bad");
  else tell(at("order-outcome"), t(`order_${answer.order.status}`), "good");
}

// --- drawing ---

function showHead() {
  const { stream, viewers } = room();
  document.title = `${stream.title} · livecart`;
  say(at("title"), stream.title);
  say(at("live"), t(`status_${stream.status}`));
  at("live").dataset.status = stream.status;
  say(at("viewers"), t("viewers", { n: number(viewers) }));
  const watch = at("watch");
  watch.hidden = !/^https?:/.test(stream.playback_url ?? "");
  if (!watch.hidden) watch.href = stream.playback_url;
  const guest = room().you.role === "guest";
  for (const control of at("chat-form").elements) control.disabled = guest;
  if (guest) tell(at("chat-outcome"), t("guest_cannot_chat"));
}

function showReactions() {
  keyed(at("reactions"), Object.keys(FACES), (kind) => kind, makeReaction, (button, kind) =>
    say(button.lastChild, number(room().reactions[kind] ?? 0)));
}

function makeReaction(kind) {
  const props = { type: "button", class: "react", "aria-label": t(`react_${kind}`) };
  return h("button", { ...props, onclick: () => cart.react(kind) },
    h("span", { "aria-hidden": "true" }, FACES[kind]), h("span", { class: "dim" }));
}

const paint = painter((parts) => {
  if (room().stream === null) return;
  const all = parts.has("all");
  if (all || parts.has("stream") || parts.has("viewers")) showHead();
  if (all || ["stream", "pins", "offers", "orders"].some((part) => parts.has(part))) {
    const items = cardItems();
    at("sale-empty").hidden = items.length > 0;
    keyed(at("cards"), items, (item) => item.key, makeCard, updateCard);
    const orders = room().myOrders();
    at("orders-empty").hidden = orders.length > 0;
    keyed(at("orders"), orders, (order) => order.id, makeOrder, updateOrder);
  }
  if (all || parts.has("reactions")) showReactions();
  if (all || parts.has("chat")) showMessages(room().messages);
});

function tick() {
  showLine(cart);
  if (document.hidden || room().stream === null) return;
  for (const card of at("cards").children) {
    const offer = room().offers.get(card.dataset.key);
    if (offer) updateBuy(card.parts, offer);
  }
  for (const item of at("orders").children) {
    const order = room().orders.get(item.dataset.key);
    if (order) updateOrder(item, order);
  }
}

function notice(text) {
  say(at("notice"), text);
  at("notice").hidden = text === "";
}

function onStatus() {
  tick();
  const stopped = cart.status === "stopped";
  if (stopped) notice(t(`stop_${cart.closeCode}`));
  else if (cart.status === "open") notice("");
  at("as-guest").hidden = !(stopped && token !== null && [4401, 4403].includes(cart.closeCode));
}

function onNotice({ detail }) {
  if (detail.type === "draining") {
    notice(t("draining"));
    return;
  }
  const { until } = detail;
  if (until !== undefined && until - cart.clock.now() < UNMUTED_MS) {
    tell(at("chat-outcome"), t("unmuted"), "good"); // a mute that is undone ends now
    return;
  }
  const text = until ? t("muted_until", { time: timeText(until) }) : t("muted");
  tell(at("chat-outcome"), text, "bad");
}

cart.addEventListener("change", ({ detail }) => paint(detail.what));
cart.addEventListener("status", onStatus);
cart.addEventListener("notice", onNotice);
chatForm(() => cart);
at("as-guest").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN_KEY);
  location.reload();
});
addEventListener("hashchange", () => {
  const given = tokenOf(TOKEN_KEY);
  if (given !== token) location.reload(); // another person: nothing of the first one stays
});
addEventListener("online", () => cart.probe());
document.addEventListener("visibilitychange", () => document.hidden || cart.probe());
addEventListener("pagehide", () => cart.close());
addEventListener("pageshow", (event) => event.persisted && cart.connect());
setInterval(tick, TICK_MS);
cart.connect();
