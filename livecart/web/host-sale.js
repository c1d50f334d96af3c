// The selling half of the host's page: products, offers, pins and orders of the chosen stream.
//
// Draws from the `desk` that host.js fills, and sends what the host does; host.js passes in how
// (`act` says in a section how a call went, `refresh` polls at once).

import { at, h, keyed, say, tell } from "./dom.js";
import { exponent, minorUnits, money } from "./money.js";
import { language, number, t, timeText } from "./text.js";

const CANCELLABLE = new Set(["reserved", "confirmed"]);
const STATUSES = ["reserved", "confirmed", "shipped", "expired", "cancelled", "refunded"];

let desk;
let act;
let refresh;

/** Wire the forms, once. */
export function wireSale(theDesk, theAct, theRefresh) {
  [desk, act, refresh] = [theDesk, theAct, theRefresh];
  const choices = STATUSES.map((status) => h("option", { value: status }, t(`order_${status}`)));
  at("orders-status").append(h("option", { value: "" }, t("status_all")), ...choices);
  at("orders-status").addEventListener("change", refresh);
  at("product-form").addEventListener("submit", createProduct);
  at("offer-form").addEventListener("submit", createOffer);
  at("offer-form").elements.product.addEventListener("change", suggestPrice);
}

function button(label, work, kind = "") {
  return h("button", { type: "button", class: kind, onclick: work }, label);
}

function priceText({ price_minor, currency }) {
  return money(price_minor, currency, language);
}

/** The typed price in minor units, or null after saying in `section` what is wrong. */
function priceOf(input, currency, section) {
  const minor = minorUnits(input.value, currency);
  if (minor === null) {
    tell(at(`${section}-outcome`), t("price_bad", { currency, digits: exponent(currency) }), "bad");
    input.focus();
  }
  return minor;
}

// --- products ---

export function showProducts() {
  at("products-empty").hidden = desk.products.length > 0;
  const make = (product) =>
    h("li", { class: "card" },
      h("b", {}, product.title),
      h("p", { class: "facts" },
        h("span", {}, priceText(product)),
        h("span", { class: "dim" }, product.sku)),
      button(t("pin"), () => pin({ product: product.id })));
  keyed(at("products"), desk.products, (product) => product.id, make);
  const select = at("offer-form").elements.product;
  keyed(select, desk.products, (product) => product.id, (product) =>
    h("option", { value: product.id }, `${product.title} (${product.sku})`));
  suggestPrice();
}

async function createProduct(event) {
  event.preventDefault();
  const { title, sku, currency, price, image_url, description } = event.target.elements;
  const price_minor = priceOf(price, currency.value, "products");
  if (price_minor === null) return;
  const body = { title: title.value.trim(), sku: sku.value.trim(), price_minor };
  body.currency = currency.value;
  if (image_url.value) body.image_url = image_url.value.trim();
  if (description.value.trim()) body.description = description.value.trim();
  let made;
  const worked = await act("products", async () => {
    made = await desk.api.post("/v1/products", body);
  }, t("created"));
  if (!worked) return;
  event.target.reset();
  event.target.parentElement.open = false;
  desk.products = [made, ...desk.products];
  showProducts();
  at("offer-form").elements.product.value = made.id; // it was most likely made to be sold
  suggestPrice();
}

// --- offers ---

function chosenProduct() {
  const { value } = at("offer-form").elements.product;
  return desk.products.find((product) => product.id === value);
}

function suggestPrice() {
  const product = chosenProduct();
  const currency = product?.currency ?? "TWD";
  say(at("offer-price-label"), t("field_price", { currency }));
  const { price } = at("offer-form").elements;
  const digits = exponent(currency);
  price.value = product ? String(product.price_minor / 10 ** digits) : "";
}

async function createOffer(event) {
  event.preventDefault();
  const fields = event.target.elements;
  const product = chosenProduct();
  if (!product) return tell(at("offers-outcome"), t("need_product"), "bad");
  const price_minor = priceOf(fields.price, product.currency, "offers");
  if (price_minor === null) return undefined;
  const body = { product: product.id, price_minor, payment: fields.payment.value };
  for (const name of ["quantity", "per_viewer", "hold_s"]) body[name] = fields[name].valueAsNumber;
  for (const name of ["opens_at", "closes_at"]) {
    if (fields[name].value) body[name] = new Date(fields[name].value).getTime();
  }
  const path = `/v1/streams/${desk.stream.id}/offers`;
  if (!(await act("offers", () => desk.api.post(path, body), t("created")))) return undefined;
  event.target.reset();
  event.target.parentElement.open = false;
  suggestPrice();
  return refresh();
}

export function showOffers() {
  at("offers-empty").hidden = desk.offers.length > 0;
  keyed(at("offers"), desk.offers, (offer) => offer.id, makeOffer, updateOffer);
}

function makeOffer({ id, product }) {
  const count = () => h("dd");
  const parts = {
    status: h("span", { class: "chip" }),
    facts: h("p", { class: "dim" }),
    left: count(),
    reserved: count(),
    confirmed: count(),
    quantity: count(),
    open: button(t("open_offer"), () => offerStep(id, "open"), "primary"),
    resume: button(t("resume_offer"), () => offerStep(id, "resume"), "primary"),
    pause: button(t("pause_offer"), () => offerStep(id, "pause")),
    close: button(t("close_offer"), () => confirm(t("close_sure")) && offerStep(id, "close")),
    restock: button(t("restock"), () => restock(id)),
    resize: button(t("set_quantity"), () => resize(id)),
    pin: button(t("pin"), () => pin({ product: product.id, offer: id })),
  };
  const cell = (label, value) => h("div", {}, h("dt", {}, t(label)), value);
  const card = h("article", { class: "card" },
    h("p", { class: "facts" }, h("b", {}, product.title), parts.status),
    parts.facts,
    h("dl", { class: "counts" },
      cell("left_now", parts.left), cell("reserved_now", parts.reserved),
      cell("confirmed_now", parts.confirmed), cell("total_now", parts.quantity)),
    h("div", { class: "controls" },
      parts.open, parts.resume, parts.pin, parts.restock, parts.resize, parts.pause,
      parts.close));
  card.parts = parts;
  return card;
}

function updateOffer({ parts }, offer) {
  say(parts.status, t(`offer_${offer.status}`));
  parts.status.dataset.status = offer.status;
  const facts = [priceText(offer), t("per_viewer", { n: number(offer.per_viewer) })];
  facts.push(t(`payment_${offer.payment}`));
  if (offer.status === "scheduled") facts.push(t("opens_at", { time: timeText(offer.opens_at) }));
  say(parts.facts, facts.join(" · "));
  for (const name of ["left", "reserved", "confirmed", "quantity"]) {
    say(parts[name], number(offer[name]));
  }
  const closed = offer.status === "closed";
  parts.open.hidden = !["draft", "scheduled"].includes(offer.status);
  parts.resume.hidden = offer.status !== "paused";
  parts.pause.hidden = offer.status !== "open";
  for (const name of ["restock", "resize", "pin", "close"]) parts[name].hidden = closed;
}

async function offerStep(id, step) {
  await act("offers", () => desk.api.post(`/v1/offers/${id}/${step}`));
  refresh();
}

/** Ask for a whole number; null when the host thought better of it or typed something else. */
function askNumber(question, section) {
  const typed = prompt(question)?.trim();
  if (!typed) return null;
  if (/^\d{1,7}$/.test(typed)) return Number(typed);
  tell(at(`${section}-outcome`), t("whole_number"), "bad");
  return null;
}

async function restock(id) {
  const add = askNumber(t("restock_ask"), "offers");
  if (add === null) return;
  await act("offers", () => desk.api.postOnce(`/v1/offers/${id}/restock`, { add }));
  refresh();
}

async function resize(id) {
  const quantity = askNumber(t("quantity_ask"), "offers");
  if (quantity === null) return undefined;
  const offer = desk.offers.find((known) => known.id === id);
  if (quantity < offer.reserved + offer.confirmed) {
    return tell(at("offers-outcome"), t("quantity_taken"), "bad");
  }
  await act("offers", () => desk.api.call("PATCH", `/v1/offers/${id}`, { quantity }));
  return refresh();
}

// --- pins ---

function pin(body) {
  return act("pins", () => desk.api.post(`/v1/streams/${desk.stream.id}/pins`, body));
}

function unpin(id) {
  const path = `/v1/streams/${desk.stream.id}/pins/${id}`;
  return act("pins", () => desk.api.call("DELETE", path));
}

export function showPins() {
  const { pins } = desk.cart.room;
  at("pins-empty").hidden = pins.length > 0;
  const make = (shown) =>
    h("li", { class: "card row" }, h("b", { class: "wide" }, shown.product.title),
      button(t("unpin"), () => unpin(shown.id)));
  keyed(at("pins"), pins, (shown) => shown.id, make);
}

// --- orders ---

export function showOrders() {
  at("orders-empty").hidden = desk.orders.length > 0;
  keyed(at("orders"), desk.orders, (order) => order.id, makeOrder, updateOrder);
}

function makeOrder(order) {
  const product = desk.products.find(({ id }) => id === order.product);
  const amount = money(order.amount_minor, order.currency, language);
  const parts = {
    status: h("span", { class: "chip" }),
    pay: button(t("mark_paid"), () => pay(order.id), "primary"),
    cancel: button(t("cancel_order"), () => confirm(t("cancel_sure")) && cancel(order.id)),
  };
  const what = `${product?.title ?? order.product} × ${number(order.qty)}`;
  const item = h("li", { class: "card" },
    h("p", { class: "facts" }, h("b", {}, what), parts.status),
    h("p", { class: "facts" },
      h("span", {}, amount),
      h("span", {}, t("buyer", { id: order.viewer })),
      h("span", { class: "dim" }, t("rank", { n: number(order.rank) })),
      h("span", { class: "dim" }, timeText(order.reserved_at))),
    h("div", { class: "controls" }, parts.pay, parts.cancel));
  item.parts = parts;
  return item;
}

function updateOrder({ parts }, order) {
  say(parts.status, t(`order_${order.status}`));
  parts.status.dataset.status = order.status;
  parts.pay.hidden = order.status !== "reserved";
  parts.cancel.hidden = !CANCELLABLE.has(order.status);
}

async function pay(id) {
  await act("orders", () => desk.api.post(`/v1/orders/${id}/pay`), t("paid"));
  refresh();
}

async function cancel(id) {
  await act("orders", () => desk.api.post(`/v1/orders/${id}/cancel`), t("order_cancelled"));
  refresh();
}
