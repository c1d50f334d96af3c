// The host's catalogue: products found as one types, pinned with one press or by keyboard, and what
// is pinned now.

import { at, guardComposition, h, keyed, say, tell } from "./dom.js";
import { act, alone, amount, button, desk, once, streamPath, told } from "./host-desk.js";
import { shown } from "./host-dialog.js";
import { Making } from "./host-once.js";
import { asking, hasMore, matching, seek } from "./host-search.js";
import { exponent, minorUnits } from "./money.js";
import { number, t } from "./text.js";

const SHOWN_MAX = 60;

const making = new Making();

let found = [];
let current = 0; // which of the found Enter would pin

/** Wire the search and the form, once. */
export function wireCatalogue() {
  const search = at("search");
  guardComposition(search);
  search.addEventListener("input", ({ isComposing }) => {
    // What is not composed yet is no word to ask the server for.
    current = 0;
    sought(isComposing ? "" : search.value);
  });
  search.addEventListener("compositionend", () => sought());
  search.addEventListener("keydown", onKey);
  search.addEventListener("focus", showProducts);
  search.addEventListener("blur", showProducts);
  at("product-new").addEventListener("click", () => {
    tell(at("product-outcome"), "");
    shown(at("product-dialog"));
  });
  at("product-form").addEventListener("submit", (event) => {
    event.preventDefault();
    once(at("product-submit"), create);
  });
}

function sought(typed = at("search").value) {
  seek(typed, showProducts);
  showProducts();
}

function onKey(event) {
  if (event.isComposing) return;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    const step = event.key === "ArrowDown" ? 1 : -1;
    current = Math.max(0, Math.min(found.length - 1, current + step));
    showProducts();
    at("products").children[current]?.scrollIntoView({ block: "nearest" });
  } else if (event.key === "Enter") {
    event.preventDefault();
    if (found[current]) toggle(found[current]);
  } else if (event.key === "Escape") {
    if (at("search").value === "") at("search").blur();
    else at("search").value = "";
    current = 0;
    sought();
  }
}

/** Show what is found, the current one marked while the search is in use. */
export function showProducts() {
  const search = at("search");
  const all = matching(search.value);
  found = all.slice(0, SHOWN_MAX);
  const active = document.activeElement === search;
  const pinned = new Set((desk.cart?.room.pins ?? []).map((pin) => pin.product.id));
  const empty = at("products-empty");
  empty.hidden = found.length > 0 && all.length === found.length;
  if (hasMore(search.value)) say(empty, t("found_many", { n: number(all.length) }));
  else if (all.length > found.length) say(empty, t("found_more", { n: number(all.length - found.length) }));
  else if (asking(search.value)) say(empty, t("loading"));
  else say(empty, search.value === "" ? t("no_products") : t("nothing_found"));
  keyed(at("products"), found, ({ id }) => id, makeProduct, (row, product) => {
    const on = active && found[current] === product;
    row.setAttribute("aria-selected", String(on));
    if (on) search.setAttribute("aria-activedescendant", row.id);
    const isPinned = pinned.has(product.id);
    row.classList.toggle("pinned", isPinned);
    say(row.toggle, isPinned ? t("unpin") : t("pin"));
  });
  if (!active) search.removeAttribute("aria-activedescendant");
}

function makeProduct(product) {
  // Part of the list box, so that Tab does not stop at each of sixty: the keyboard pins by Enter.
  const pin = h("span", { class: "press" });
  // The second click of a double click would take down what the first has pinned.
  const onclick = ({ detail }) => detail < 2 && toggle(product);
  const row = h("li", { id: `p-${product.id}`, role: "option", class: "entry", onclick },
    h("span", { class: "wide" }, h("b", { class: "two", title: product.title }, product.title),
      h("span", { class: "dim" }, `${amount(product.price_minor, product.currency)} · ${product.sku}`)), pin);
  row.toggle = pin;
  row.addEventListener("mousedown", (event) => event.preventDefault()); // the search keeps focus
  return row;
}

/** Pin a product, with its newest offer if it has one that is not over; or take its pins away. */
function toggle(product) {
  const pins = desk.cart.room.pins.filter((pin) => pin.product.id === product.id);
  if (pins.length > 0) return Promise.all(pins.map((pin) => unpin(pin.id)));
  const alive = (offer) => offer.product.id === product.id && !["draft", "closed"].includes(offer.status);
  const offer = desk.offers.find(alive);
  return pin({ product: product.id, offer: offer?.id });
}

/** Show a product on the stream; while it is asked for, once. */
export function pin(body) {
  const work = () => desk.api.post(streamPath("/pins"), body);
  return alone(`pin ${body.product}`, () => act("pins", work, t("pin_done")));
}

/** Take a pin away. */
export function unpin(id) {
  const work = () => desk.api.call("DELETE", streamPath(`/pins/${id}`));
  return alone(`unpin ${id}`, () => act("pins", work, t("unpin_done")));
}

/** Show what viewers see pinned now, newest first. */
export function showPins() {
  const { pins } = desk.cart.room;
  at("pins-empty").hidden = pins.length > 0;
  keyed(at("pins"), pins, ({ id }) => id, (one) =>
    h("li", { class: "entry" }, h("b", { class: "wide two", title: one.product.title }, one.product.title),
      button(t("unpin"), () => unpin(one.id), "small")));
  showProducts();
}

async function create() {
  const form = at("product-form");
  const { title, sku, currency, price, image_url, description } = form.elements;
  const price_minor = minorUnits(price.value, currency.value);
  if (price_minor === null) {
    const digits = exponent(currency.value);
    tell(at("product-outcome"), t("price_bad", { currency: currency.value, digits }), "bad");
    return price.focus();
  }
  const body = { title: title.value.trim(), sku: sku.value.trim(), price_minor };
  body.currency = currency.value;
  if (image_url.value) body.image_url = image_url.value.trim();
  if (description.value.trim()) body.description = description.value.trim();
  const made = await act("product", () => making.post(desk.api, "/v1/products", body), "");
  if (!made) return undefined;
  form.reset();
  at("product-dialog").close();
  told(at("products-outcome"), t("created"), "good");
  desk.products = [made, ...desk.products.filter(({ id }) => id !== made.id)]; // asked for meanwhile
  return showProducts();
}
