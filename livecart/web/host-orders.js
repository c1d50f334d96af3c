// The order feed of the host's page: newest first, by status and by buyer, and the one press that
// each order most likely needs. What else can be done to an order is in host-order.js.

import { at, clockText, h, keyed, say } from "./dom.js";
import { amount, button, desk, titleOf } from "./host-desk.js";
import { markPaid, openOrder, showOrder } from "./host-order.js";
import { number, t, timeText } from "./text.js";

const STATUSES = ["reserved", "confirmed", "shipped", "expired", "cancelled", "refunded"];
const PAGE = 50;
const PAGE_MAX = 200;
const TYPED_WAIT_MS = 250;

let limit = PAGE;
let typing = null;

/** Wire the filters, once. */
export function wireOrders() {
  const choices = STATUSES.map((status) => h("option", { value: status }, t(`order_${status}`)));
  at("orders-status").append(h("option", { value: "" }, t("status_all")), ...choices);
  at("orders-status").addEventListener("change", () => again(PAGE));
  at("orders-search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => again(PAGE), TYPED_WAIT_MS);
  });
  at("orders-more").addEventListener("click", () => again(PAGE_MAX));
}

function again(n) {
  limit = n;
  desk.refresh();
}

/** The call that lists what is asked for. */
export function ordersPath() {
  const query = new URLSearchParams({ stream: desk.stream.id, limit: String(limit) });
  const status = at("orders-status").value;
  const sought = at("orders-search").value.trim();
  if (status) query.set("status", status);
  if (sought) query.set("q", sought);
  return `/v1/orders?${query}`;
}

/** Show the feed, and the order that is open. */
export function showOrders() {
  const narrowed = at("orders-status").value !== "" || at("orders-search").value.trim() !== "";
  at("orders-empty").hidden = desk.orders.length > 0;
  say(at("orders-empty"), t(narrowed ? "nothing_found" : "no_orders_host"));
  keyed(at("orders"), desk.orders, ({ id }) => id, makeOrder, updateOrder);
  at("orders-more").hidden = desk.orders.length < limit || limit >= PAGE_MAX;
  showOrder();
}

function makeOrder(order) {
  const parts = {
    what: h("b", { class: "wide one" }),
    status: h("span", { class: "chip" }),
    left: h("span", { class: "countdown" }),
    back: h("span", { class: "dim" }),
    pay: button(t("mark_paid"), () => markPaid(order), "small primary"),
  };
  const item = h("li", { class: "order feed" },
    h("p", { class: "facts" }, parts.status, parts.what),
    h("p", { class: "facts" },
      h("b", {}, amount(order.amount_minor, order.currency)),
      h("span", {}, t("buyer", { id: order.viewer })),
      h("span", { class: "dim" }, timeText(order.reserved_at)), parts.back, parts.left),
    h("div", { class: "controls" }, parts.pay,
      button(t("details"), () => openOrder(order), "small")));
  item.parts = parts;
  return item;
}

function updateOrder(item, order) {
  const { parts } = item;
  item.dataset.status = order.status;
  say(parts.what, `${titleOf(order.product)} × ${number(order.qty)}`);
  say(parts.status, t(order.late_at ? "order_late" : `order_${order.status}`));
  parts.status.dataset.status = order.late_at ? "late" : order.status;
  const back = order.refunded_minor > 0 && order.status !== "refunded";
  say(parts.back, back ? t("given_back", { amount: amount(order.refunded_minor, order.currency) }) : "");
  parts.pay.hidden = order.status !== "reserved";
  const held = order.status === "reserved" && order.expires_at;
  say(parts.left, held ? t("unpaid_for", { time: clockText(order.expires_at - desk.cart.clock.now()) }) : "");
}
