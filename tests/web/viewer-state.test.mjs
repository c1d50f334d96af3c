// What the big button is for, in every state that a viewer can be in.

import assert from "node:assert/strict";
import { test } from "node:test";

import { pure } from "./pure.mjs";

const { Presses, phaseOf, shelf, shownNow, standing } = await pure("viewer-state.js");
const { Basket } = await pure("viewer-buy.js");
const NOW = 1_000_000;

/** A room of one viewer. */
function roomOf({ role = "viewer", status = "live", orders = [] } = {}) {
  return {
    you: { role },
    stream: { status },
    myOrders: () => orders,
    taken: (id) => orders.filter((one) => one.offer === id).reduce((sum, one) => sum + one.qty, 0),
  };
}
const order = (status, more = {}) => ({ id: "or_1", offer: "of_1", status, qty: 1, ...more });
const offerOf = (status, more = {}) => ({ id: "of_1", status, per_viewer: 2, product: { id: "pr_1" }, ...more });

/** The name and the act, as "open buy". */
function said(room, offer, more = {}) {
  const { name, act } = standing({ room, offer, nowMs: NOW, place: null, busy: false, ...more });
  return `${name} ${act}`;
}

test("each state has its name, and its one act", () => {
  const room = roomOf();
  assert.equal(said(room, offerOf("open")), "open buy");
  assert.equal(said(room, offerOf("open"), { busy: true }), "buying null");
  assert.equal(said(room, offerOf("sold_out")), "sold_out wait");
  assert.equal(said(room, offerOf("sold_out", { waitlist_max: 0 })), "sold_out null");
  assert.equal(said(room, offerOf("sold_out"), { place: 3 }), "waitlisted leave");
  assert.equal(said(room, offerOf("paused")), "paused null");
  assert.equal(said(room, offerOf("closed")), "closed null");
  assert.equal(said(room, offerOf("closed"), { place: 3 }), "closed null");
  assert.equal(said(room, offerOf("scheduled", { opens_at: NOW + 1 })), "scheduled null");
  assert.equal(said(roomOf({ role: "guest" }), offerOf("open")), "guest null");
  assert.equal(said(roomOf({ role: "guest" }), offerOf("sold_out")), "sold_out null");
  assert.equal(said(roomOf({ role: "host" }), offerOf("open")), "not_buyer null");
  assert.equal(said(roomOf({ status: "scheduled" }), offerOf("open")), "not_live null");
  assert.equal(said(roomOf({ status: "ended" }), offerOf("closed")), "ended null");
});

test("what is held is paid for, also when the show has ended or everything is sold", () => {
  const orders = [order("reserved")];
  assert.equal(said(roomOf({ orders }), offerOf("open")), "yours pay");
  assert.equal(said(roomOf({ orders }), offerOf("sold_out")), "yours pay");
  assert.equal(said(roomOf({ orders, status: "ended" }), offerOf("closed")), "yours pay");
});

test("another purchase is open beside what is held, as far as the limit goes", () => {
  const facts = { nowMs: NOW, place: null, busy: false, offer: offerOf("open") };
  const held = roomOf({ orders: [order("reserved")] });
  assert.equal(standing({ ...facts, room: held }).more, true);
  assert.equal(standing({ ...facts, room: held, offer: offerOf("sold_out") }).more, false);
  const full = roomOf({ orders: [order("reserved", { qty: 2 })] });
  assert.equal(standing({ ...facts, room: full }).more, false);
});

test("who has paid may buy again up to the limit, and is told of it then", () => {
  assert.equal(said(roomOf({ orders: [order("confirmed")] }), offerOf("open")), "open buy");
  assert.equal(said(roomOf({ orders: [order("confirmed", { qty: 2 })] }), offerOf("open")), "paid null");
  assert.equal(said(roomOf({ orders: [order("shipped", { qty: 2 })] }), offerOf("sold_out")), "paid null");
});

test("an order that has ended counts for nothing", () => {
  const room = { ...roomOf({ orders: [order("expired"), order("cancelled")] }), taken: () => 0 };
  assert.equal(said(room, offerOf("open")), "open buy");
});

test("a held order goes before a paid one", () => {
  const orders = [order("confirmed", { id: "or_2" }), order("reserved")];
  const { order: shown } = standing({
    room: roomOf({ orders }), offer: offerOf("open"), nowMs: NOW, place: null, busy: false,
  });
  assert.equal(shown.id, "or_1");
});

test("a scheduled offer opens at its second on the server's clock", () => {
  assert.equal(phaseOf(offerOf("scheduled", { opens_at: NOW }), NOW - 1), "scheduled");
  assert.equal(phaseOf(offerOf("scheduled", { opens_at: NOW }), NOW), "open");
  assert.equal(phaseOf(offerOf("scheduled"), NOW), "scheduled");
});

test("a draw is entered while it is scheduled, and nothing of it is bought by the clock", () => {
  const draw = (more = {}) => offerOf("scheduled", { mode: "draw", opens_at: NOW + 1, ...more });
  assert.equal(said(roomOf(), draw()), "scheduled wait");
  assert.equal(said(roomOf(), draw(), { place: 1 }), "waitlisted leave");
  assert.equal(said(roomOf(), draw({ opens_at: NOW })), "scheduled null");
  assert.equal(said(roomOf({ role: "guest" }), draw()), "scheduled null");
  assert.equal(said(roomOf({ status: "scheduled" }), draw()), "scheduled null");
  assert.equal(said(roomOf(), { ...draw(), status: "open" }), "open buy");
});

test("pins come first and an offer appears once, also when its pin does not name it", () => {
  const offers = new Map([
    ["of_1", offerOf("closed")],
    ["of_2", offerOf("open", { id: "of_2", product: { id: "pr_2" } })],
    ["of_3", offerOf("sold_out", { id: "of_3", product: { id: "pr_3" } })],
    ["of_4", offerOf("draft", { id: "of_4", product: { id: "pr_4" } })],
  ]);
  const pins = [{ id: "pin_1", product: { id: "pr_3" } }, { id: "pin_2", product: { id: "pr_9" } }];
  const items = shelf(pins, offers);
  assert.deepEqual(items.map((item) => item.key), ["of_3", "pin_2", "of_2", "of_1"]);
  assert.equal(shownNow(items).key, "of_3");
});

test("without a pin the big card is what is on sale; what is closed is never", () => {
  const open = offerOf("open", { id: "of_2", product: { id: "pr_2" } });
  const both = new Map([["of_1", offerOf("closed")], ["of_2", open]]);
  assert.equal(shownNow(shelf([], both)).key, "of_2");
  assert.equal(shownNow(shelf([], new Map([["of_1", offerOf("closed")]]))), undefined);
});

test("a finger that taps twice presses once", () => {
  const presses = new Presses();
  assert.deepEqual([0, 10, 699, 700, 1_399].map((at) => presses.take(at)), [true, false, false, true, false]);
});

test("what becomes another button under the finger takes no press for a moment", () => {
  const presses = new Presses();
  presses.shows("buy", 0);
  presses.shows(null, 1_000); // under way
  presses.shows("pay", 2_000);
  assert.equal(presses.take(2_499), false);
  assert.equal(presses.take(2_500), true);
});

test("an offer that opens, or goes on after a pause, can be bought at once", () => {
  const presses = new Presses();
  presses.shows(null, 0);
  presses.shows("buy", 1_000);
  assert.equal(presses.take(1_000), true);
  presses.shows(null, 2_000);
  presses.shows("buy", 3_000);
  assert.equal(presses.take(3_000), true);
});

/** A basket whose server refuses with `code`, and what it says while the offer is as given. */
async function refusedWith(code) {
  const room = { ...roomOf(), offers: new Map() };
  const cart = { room, clock: { now: () => NOW }, buy: async () => ({ code }) };
  const basket = new Basket(cart, { of: () => null, refresh() {} }, () => {});
  await basket.buy(offerOf("open"), 2);
  return (status) => {
    const offer = offerOf(status);
    return basket.refused(offer, basket.standing(offer).name)?.code;
  };
}

test("a refusal stays while the viewer stands where he met it, and no longer", async () => {
  const said = await refusedWith("rate_limited");
  assert.deepEqual(["open", "open", "paused", "open"].map(said), ["rate_limited", "rate_limited", undefined, undefined]);
});

test("a refusal stays when its cause becomes known, until that is gone", async () => {
  const said = await refusedWith("sold_out");
  assert.deepEqual(["open", "sold_out", "sold_out", "open"].map(said), ["sold_out", "sold_out", "sold_out", undefined]);
});
