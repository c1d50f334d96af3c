// The offers of the host's page: one card each, in the order in which they were made, so that the
// number on a card, which is also its key, stays the same while the host looks at the camera.
//
// What costs money asks first. Closing is done only when its seconds of undo are over (no call
// reverses it); a restock is done at once and undone by a call that lowers the quantity again.

import { at, clockText, h, keyed, say } from "./dom.js";
import { act, alone, amount, button, desk } from "./host-desk.js";
import { ask, counted, sure } from "./host-dialog.js";
import { pin, unpin } from "./host-catalogue.js";
import { openOfferForm } from "./host-offer-form.js";
import { Makings } from "./host-once.js";
import { done, later } from "./host-undo.js";
import { openWaitlist } from "./host-waitlist.js";
import { number, t, timeText } from "./text.js";

const LARGE_RESTOCK = 100; // units; more than that, or than there were in all, is asked about
const QUICK = [5, 10, 50];
const SHRINKS_MAX = 5; // tries to take units back from a total that others change, too
const SLOTS_MAX = 9;

const slots = new Map(); // offer id -> its digit, as long as the stream is shown
let slotsOf = null; // which stream that is
let known = new Map(); // offer id -> status, as shown last
const restocking = new Makings();
const closing = new Set(); // offers whose close waits for its undo to be over, on this screen

/** Wire what does not belong to a card, once. */
export function wireOffers() {
  at("offer-new").addEventListener("click", () => openOfferForm());
}

/** Offers that are not over, oldest first. */
function prepared() {
  return desk.offers.filter(({ status }) => status !== "closed").reverse();
}

/** The offer that is not over with that digit, 1 to 9. */
export function offerAt(digit) {
  return prepared().find(({ id }) => slots.get(id) === digit);
}

/** Give each offer a digit that it keeps; one of a closed offer goes on when there is no other. */
function giveSlots(alive) {
  if (slotsOf !== desk.stream?.id) slots.clear();
  slotsOf = desk.stream?.id;
  const free = (ids) => {
    const taken = new Set(ids.map((id) => slots.get(id)));
    return Array.from({ length: SLOTS_MAX }, (_, index) => index + 1).find((slot) => !taken.has(slot));
  };
  for (const { id } of alive.filter((offer) => !slots.has(offer.id))) {
    const slot = free([...slots.keys()]) ?? free(alive.map((offer) => offer.id));
    if (slot === undefined) return;
    for (const [other, its] of slots) if (its === slot) slots.delete(other);
    slots.set(id, slot);
  }
}

/** Show all cards; closed ones are folded away. */
export function showOffers() {
  const alive = prepared();
  const closed = desk.offers.filter(({ status }) => status === "closed");
  announce(alive);
  at("offers-empty").hidden = desk.offers.length > 0;
  keyed(at("offers"), alive, ({ id }) => id, makeCard, updateCard);
  giveSlots(alive);
  alive.forEach(({ id }, index) => {
    const { slot } = at("offers").children[index].parts;
    slot.hidden = !slots.has(id);
    say(slot, String(slots.get(id) ?? ""));
  });
  at("closed-box").hidden = closed.length === 0;
  say(at("closed-count"), t("closed_offers", { n: number(closed.length) }));
  keyed(at("closed"), closed, ({ id }) => id, makeCard, updateCard);
}

/** Tell who cannot see the cards what has sold out since they were last shown. */
function announce(offers) {
  const out = offers.filter(({ id, status }) => status === "sold_out" && known.get(id) === "open");
  if (out.length > 0) {
    say(at("news"), out.map(({ product }) => t("news_sold_out", { what: product.title })).join(" "));
  }
  known = new Map(offers.map(({ id, status }) => [id, status]));
}

function current(id) {
  return desk.offers.find((offer) => offer.id === id);
}

function makeCard({ id, product }) {
  const count = () => h("dd");
  const bar = () => h("i");
  const parts = {
    slot: h("kbd", { class: "slot" }),
    status: h("span", { class: "chip" }),
    facts: h("p", { class: "dim" }),
    left: count(), reserved: count(), confirmed: count(), waiting: count(),
    sold: bar(), held: bar(),
    open: button(t("open_offer"), () => openOffer(id), "primary"),
    resume: button(t("resume_offer"), () => step(id, "resume"), "primary"),
    restock: button(t("restock"), () => restock(id)),
    pause: button(t("pause_offer"), () => step(id, "pause")),
    pin: button("", ({ detail }) => detail < 2 && togglePin(id)), // a double click is one
    edit: button(t("edit"), () => openOfferForm(current(id), true)),
    resize: button(t("set_quantity"), () => resize(id)),
    waitlist: button(t("waitlist"), () => openWaitlist(current(id))),
    close: button(t("close_offer"), () => close(id)),
  };
  parts.meter = h("div", { class: "meter", "aria-hidden": "true" }, parts.sold, parts.held);
  const cell = (label, value) => h("div", {}, h("dt", {}, t(label)), value);
  const more = h("details", { class: "menu" }, h("summary", {}, t("more")),
    h("div", { class: "sheet" }, parts.edit, parts.resize,
      button(t("duplicate"), () => openOfferForm(current(id))), parts.waitlist, parts.close));
  const card = h("article", { class: "card offer" },
    h("div", { class: "offer-head" }, parts.slot, h("h3", { class: "wide" }, product.title), parts.status),
    parts.facts, parts.meter,
    h("dl", { class: "counts" }, cell("left_now", parts.left), cell("reserved_now", parts.reserved),
      cell("confirmed_now", parts.confirmed), cell("waiting_now", parts.waiting)),
    h("div", { class: "controls" },
      parts.open, parts.resume, parts.pin, parts.restock, parts.pause, more));
  card.parts = parts;
  return card;
}

function updateCard(card, offer) {
  const { parts } = card;
  const { status, quantity } = offer;
  card.dataset.status = status;
  say(parts.status, t(closing.has(offer.id) ? "closing" : `offer_${status}`));
  parts.status.dataset.status = status;
  say(parts.facts, facts(offer).join(" · "));
  for (const name of ["left", "reserved", "confirmed"]) say(parts[name], number(offer[name]));
  say(parts.waiting, number(offer.waiting ?? 0));
  const share = (units) => `${quantity === 0 ? 0 : (100 * units) / quantity}%`;
  parts.sold.style.width = share(offer.confirmed);
  parts.held.style.width = share(offer.reserved);
  const unopened = ["draft", "scheduled"].includes(status);
  const over = status === "closed";
  parts.open.hidden = !unopened;
  parts.edit.hidden = status !== "draft";
  parts.resume.hidden = status !== "paused";
  parts.pause.hidden = status !== "open";
  parts.restock.hidden = unopened || over;
  parts.restock.classList.toggle("primary", status === "sold_out");
  parts.resize.hidden = over;
  parts.close.hidden = over || closing.has(offer.id);
  parts.pin.hidden = over || desk.stream.status === "ended";
  parts.waitlist.hidden = unopened;
  const pinned = pinsOf(offer).length > 0;
  say(parts.pin, pinned ? t("unpin") : t("pin"));
  parts.pin.setAttribute("aria-pressed", String(pinned));
}

function facts(offer) {
  const list = [amount(offer.price_minor, offer.currency), t("per_viewer", { n: number(offer.per_viewer) })];
  list.push(offer.payment === "none" ? t("payment_none") : t("pay_in", { time: clockText(offer.hold_s * 1000) }));
  if (offer.keyword) list.push(t("keyword", { word: offer.keyword }));
  if (offer.status === "scheduled") list.push(t("opens_at", { time: timeText(offer.opens_at) }));
  if (offer.closes_at && offer.status !== "closed") list.push(t("closes_at", { time: timeText(offer.closes_at) }));
  return list;
}

function pinsOf(offer) {
  return (desk.cart?.room.pins ?? []).filter((shown) => shown.offer === offer.id);
}

// --- what a host does with one ---

async function step(id, what) {
  const work = () => desk.api.post(`/v1/offers/${id}/${what}`);
  const offer = await alone(`${what} ${id}`, () => act("offers", work));
  desk.refresh();
  return offer;
}

/** Open an offer, and pin it: what is sold now should be seen. */
export async function openOffer(id) {
  const offer = await step(id, "open");
  if (offer?.status === "open" && pinsOf(offer).length === 0) {
    await pin({ product: offer.product.id, offer: id });
  }
}

/** Pin an offer, or take its pins away. */
export function togglePin(id) {
  const offer = current(id);
  const pins = pinsOf(offer);
  if (pins.length > 0) return Promise.all(pins.map((shown) => unpin(shown.id)));
  return pin({ product: offer.product.id, offer: id });
}

async function close(id) {
  if (closing.has(id)) return;
  const offer = current(id);
  const costs = [
    t("close_final"),
    offer.left > 0 && t("close_left", { n: number(offer.left) }),
    offer.reserved > 0 && t("close_held", { holds: counted("unpaid_holds", offer.reserved) }),
    offer.waiting > 0 && t("close_waiting", { n: number(offer.waiting) }),
  ];
  if (!(await sure(t("close_title", { what: offer.product.title }), costs, t("close_offer")))) return;
  closing.add(id);
  showOffers();
  const over = () => {
    closing.delete(id);
    showOffers();
  };
  later(t("closing_of", { what: offer.product.title }), () => step(id, "close").finally(over), over);
}

async function restock(id) {
  const offer = current(id);
  const add = await ask(t("restock_title", { what: offer.product.title }), t("restock_ask"), t("restock"),
    { min: 1, max: 1_000_000, value: 10, quick: QUICK });
  if (add === null) return;
  if (!(await sureOfMore(offer, add, t("restock")))) return;
  const work = () => restocking.of(id).post(desk.api, `/v1/offers/${id}/restock`, { add });
  const restocked = await act("offers", work);
  if (!restocked) return;
  desk.refresh();
  done(t("restocked", { n: number(add), what: offer.product.title }), () => shrink(restocked, add));
}

/** Ask when `add` is a lot more than there was. */
async function sureOfMore({ quantity, product }, add, action) {
  if (add <= Math.max(LARGE_RESTOCK, quantity)) return true;
  const cost = t("restock_large", { n: number(add), before: number(quantity), after: number(quantity + add) });
  return sure(t("restock_title", { what: product.title }), [cost], action);
}

/** Set an offer's total, if it still is what it was when that was chosen. */
function setQuantity({ id, quantity: if_quantity }, quantity) {
  return desk.api.call("PATCH", `/v1/offers/${id}`, { quantity, if_quantity });
}

/**
 * Take `by` restocked units back from what the offer was then. Another host's change of the total
 * stays; the server refuses once more is taken than would be left in all.
 */
async function shrink(offer, by) {
  await act("offers", async () => {
    for (let was = offer, tries = 1; ; tries++) {
      try {
        return await setQuantity(was, was.quantity - by);
      } catch (problem) {
        if (problem.code !== "conflict" || tries === SHRINKS_MAX) throw problem;
        const now = await desk.api.get(`/v1/offers/${was.id}`);
        if (now.quantity === was.quantity) throw problem; // it is for the units: they are taken
        was = now;
      }
    }
  }, t("undone"));
  desk.refresh();
}

async function resize(id) {
  const offer = current(id);
  const taken = offer.reserved + offer.confirmed;
  const quantity = await ask(t("set_quantity"), t("quantity_ask", { n: number(taken) }), t("set_quantity"),
    { min: taken, max: 1_000_000, value: offer.quantity });
  if (quantity === null) return;
  if (!(await sureOfMore(offer, quantity - offer.quantity, t("set_quantity")))) return;
  await act("offers", () => setQuantity(offer, quantity));
  desk.refresh();
}
