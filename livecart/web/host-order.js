// One order in full: what happened to it, and what a shop can do about it: mark it paid, cancel,
// ship, give money back, decide on what is sent back. Read anew after each step. Called by the feed.

import { Problem } from "./api.js";
import { at, h, keyed, say, tell } from "./dom.js";
import { act, amount, button, desk, once, problemText, titleOf, told } from "./host-desk.js";
import { shown, sure } from "./host-dialog.js";
import { Makings } from "./host-once.js";
import { exponent, minorUnits } from "./money.js";
import { number, t, timeText } from "./text.js";

const READ_EVERY_MS = 1_000; // a return that is asked for, or decided, makes no version

let open = null; // the order that is shown,
let readAt = 0; // and when it was asked for, by performance.now()
const refunding = new Makings();

/** Wire the forms, once. */
export function wireOrder() {
  at("ship-form").addEventListener("submit", ship);
  at("refund-form").addEventListener("submit", refund);
}

/** Show an order until its dialog is closed. */
export async function openOrder(order) {
  open = desk.orders.find(({ id }) => id === order.id) ?? order; // a row of the feed is made once
  at("ship-form").reset();
  at("refund-form").reset();
  at("ship-box").open = at("refund-box").open = false;
  at("timeline").replaceChildren();
  at("returns").replaceChildren();
  tell(at("order-outcome"), "");
  draw();
  const closed = shown(at("order-dialog"));
  read();
  await closed;
  open = null;
}

/** Take what the feed has learnt of the order that is shown, and ask for what it has not. */
export function showOrder() {
  if (!open) return;
  const known = desk.orders.find(({ id }) => id === open.id);
  const newer = known && known.version > open.version;
  if (newer) {
    open = known;
    draw();
  }
  if (newer || performance.now() - readAt > READ_EVERY_MS) read();
}

/** Ask for its present state, its timeline and its returns. */
async function read() {
  const { id } = open;
  readAt = performance.now();
  try {
    const [order, timeline, returns] = await Promise.all(
      ["", "/timeline", "/returns"].map((rest) => desk.api.get(`/v1/orders/${id}${rest}`)));
    if (open?.id !== id || order.version < open.version) return; // an answer from before
    const changed = order.version > open.version;
    open = order;
    if (changed) draw(); // otherwise its buttons stay, and with them the focus
    showTimeline(timeline.steps);
    showReturns(returns.items);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    told(at("order-outcome"), problemText(problem), "bad");
  }
}

function draw() {
  const { status, currency, captured_at, refunded_minor = 0, amount_minor } = open;
  say(at("order-title"), `${titleOf(open.product)} × ${number(open.qty)}`);
  const facts = [
    t(`order_${status}`), amount(amount_minor, currency), t("buyer", { id: open.viewer }),
    t("rank", { n: number(open.rank) }), timeText(open.reserved_at),
    captured_at && t("money_in", { time: timeText(captured_at) }),
    refunded_minor > 0 && t("given_back", { amount: amount(refunded_minor, currency) }),
    open.carrier, open.tracking, open.late_at && t("order_late"),
  ];
  at("order-facts").replaceChildren(...facts.filter(Boolean).map((fact) => h("span", {}, fact)));
  const paid = ["confirmed", "shipped"].includes(status);
  at("order-actions").replaceChildren(
    ...(status === "reserved" ? [button(t("mark_paid"), () => markPaid(open, "order"), "primary")] : []),
    ...(["reserved", "confirmed"].includes(status) ? [button(t("cancel_order"), cancel)] : []));
  at("ship-box").hidden = !paid;
  at("refund-box").hidden = !paid || refunded_minor >= amount_minor;
  say(at("refund-label"), t("refund_amount", { amount: amount(amount_minor - refunded_minor, currency) }));
}

function showTimeline(steps) {
  keyed(at("timeline"), steps, (one) => `${one.at} ${one.what}`, (one) => {
    const what = stepText(one.what);
    return h("li", {}, h("span", { class: "dim" }, timeText(one.at)), " ", h("b", {}, what), " ",
      h("span", { class: "dim" }, one.who), one.why ? h("span", {}, ` · ${one.why}`) : null);
  });
}

const STATUSES = ["reserved", "confirmed", "shipped", "expired", "cancelled", "refunded"];
const STEPS = [
  "captured", "refunded_in_part", "late", "extended", "replaced", "tracking", "changed", "payment",
  "return_asked", "return_accepted", "return_refused",
];

function stepText(what) {
  if (STATUSES.includes(what)) return t(`order_${what}`);
  return STEPS.includes(what) ? t(`step_${what}`) : what;
}

function showReturns(items) {
  at("returns-box").hidden = items.length === 0;
  keyed(at("returns"), items, (one) => `${one.id} ${one.state}`, (one) =>
    h("li", { class: "order" },
      h("p", { class: "facts" }, h("b", { class: "wide" }, one.reason),
        h("span", { class: "chip" }, t(`return_${one.state}`))),
      one.photo_url
        ? h("a", { href: one.photo_url, target: "_blank", rel: "noopener noreferrer" }, t("photo")) : null,
      one.note ? h("p", { class: "dim" }, one.note) : null,
      one.state === "asked" ? h("p", { class: "row" },
        button(t("accept_return"), () => decide(one.id, "accept"), "primary"),
        button(t("refuse_return"), () => decide(one.id, "refuse"))) : null));
}

// --- steps ---

async function step(what, body, said) {
  await act("order", () => desk.api.post(`/v1/orders/${open.id}/${what}`, body), said);
  after();
}

function after() {
  if (open) read();
  desk.refresh();
}

/** Ask, and mark an order as paid; the list may have moved under the finger, so it is named. */
export async function markPaid(order, section = "orders") {
  const costs = [t("paid_cost", named(order)), t("paid_final")];
  if (!(await sure(t("mark_paid"), costs, t("mark_paid")))) return;
  await act(section, () => desk.api.post(`/v1/orders/${order.id}/pay`), t("paid"));
  after();
}

/** What a question about an order names. */
function named({ product, qty, viewer, amount_minor, refunded_minor = 0, currency }) {
  const left = amount(amount_minor - refunded_minor, currency);
  return { what: titleOf(product), qty: number(qty), id: viewer, amount: left };
}

function who() {
  return { n: number(open.rank), id: open.viewer, amount: amount(open.amount_minor, open.currency) };
}

async function cancel() {
  const costs = [t("cancel_cost", who()), t(open.captured_at ? "cancel_money" : "cancel_units")];
  if (await sure(t("cancel_order"), costs, t("cancel_order"))) step("cancel", {}, t("done"));
}

async function ship(event) {
  event.preventDefault();
  const { carrier, tracking } = event.target.elements;
  const body = {};
  if (carrier.value.trim()) body.carrier = carrier.value.trim();
  if (tracking.value.trim()) body.tracking = tracking.value.trim();
  await step("ship", body, t("shipped"));
}

function refund(event) {
  event.preventDefault();
  return once(at("refund-submit"), giveBack);
}

async function giveBack() {
  const { amount: typed, reason, restock } = at("refund-form").elements;
  const { id } = open;
  const rest = open.amount_minor - (open.refunded_minor ?? 0);
  const whole = typed.value.trim() === "";
  const minor = whole ? rest : minorUnits(typed.value, open.currency);
  if (minor === null || minor < 1 || minor > rest) {
    tell(at("order-outcome"), t("price_bad", { currency: open.currency, digits: exponent(open.currency) }), "bad");
    return typed.focus();
  }
  const costs = [
    t("refund_cost", { ...who(), amount: amount(minor, open.currency) }),
    t(whole || minor === rest ? "refund_whole" : "refund_part"),
    restock.checked && t("refund_restock"),
  ];
  if (!(await sure(t("refund"), costs, t("refund")))) return undefined;
  const body = { restock: restock.checked };
  if (!whole) body.amount_minor = minor;
  if (reason.value.trim()) body.reason = reason.value.trim();
  const work = () => refunding.of(id).post(desk.api, `/v1/orders/${id}/refund`, body);
  const begun = await act("order", work, t("refund_begun"));
  if (begun && open?.id === id) at("refund-form").reset(); // otherwise what was typed stays
  return after();
}

async function decide(id, how) {
  const costs = [t("accept_cost", named(open))];
  if (how === "accept" && !(await sure(t("accept_return"), costs, t("accept_return")))) return;
  await act("order", () => desk.api.post(`/v1/returns/${id}/${how}`));
  after();
}
