// The host's page, served at /host: sign in, choose a stream, and keep what is shown as the server
// has it. The parts (host-*.js) draw from the `desk` and send what the host does.
//
// What the host does goes over HTTP, which names what is wrong (problem.detail). The WebSocket
// brings viewers, pins, stock and chat, and carries moderation; orders go to their buyers only, so
// they are asked for. Asking stops while nobody looks.

import { Api, Problem } from "./api.js";
import { at, claims, painter, say } from "./dom.js";
import { showPins, showProducts, wireCatalogue } from "./host-catalogue.js";
import { showMessages, showSlow, wireChat } from "./host-chat.js";
import { showComments, wireComments } from "./host-comments.js";
import { act, desk, problemText, streamPath } from "./host-desk.js";
import { wireDialogs } from "./host-dialog.js";
import { forgetFigures, sampleFigures, showFigures, wireFigures } from "./host-figures.js";
import { wireKeys } from "./host-keys.js";
import { wireOfferForm } from "./host-offer-form.js";
import { showOffers, wireOffers } from "./host-offers.js";
import { wireOrder } from "./host-order.js";
import { ordersPath, showOrders, wireOrders } from "./host-orders.js";
import { keepStream, showSince, showStreams, wireStreams } from "./host-streams.js";
import { showSummary, wireSummary } from "./host-summary.js";
import { askSystem, showLine, showTabs, wireFrame } from "./host-frame.js";
import { dropUndos } from "./host-undo.js";
import { backoffMs, LiveCart } from "./livecart.js";
import { enter, leave, renew } from "./session.js";
import { t, translatePage } from "./text.js";

const TOKEN_KEY = "livecart.host.token";
const POLL_MS = 1_500;
const SLOW_EVERY = 4; // polls: what changes seldom is asked for in each fourth
const SOON_MS = 400; // after an event: several come together

translatePage();

// --- signing in ---

function signIn(token) {
  const claimed = claims(token);
  if (claimed === null) return notice(t("token_unreadable"));
  if (!["host", "admin", "service"].includes(claimed.role)) {
    return notice(t("token_not_host", { role: claimed.role }));
  }
  sessionStorage.setItem(TOKEN_KEY, token);
  desk.token = token;
  desk.api = new Api(token);
  desk.shop = claimed.shop ?? claimed.sub;
  notice("");
  const name = claimed.name ? `${claimed.name} · ` : "";
  say(at("who"), name + t("shop_of", { shop: desk.shop }));
  at("sign-in").hidden = true;
  at("more").hidden = false;
  return load();
}

function signOut(text = "") {
  leave(TOKEN_KEY);
  dropUndos();
  desk.cart?.close();
  desk.api = desk.stream = desk.cart = null;
  desk.streams = [];
  say(at("who"), "");
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  showStreams();
  at("more").hidden = at("first").hidden = true;
  say(at("line"), "");
  say(at("system"), "");
  at("sign-in").hidden = false;
  at("token").value = "";
  notice(text);
}

/** A fresh token, for the connection and for calls: a show may be longer than one lasts. */
async function renewed() {
  const { api, cart, token } = desk;
  if (api === null) return token; // signed out meanwhile
  if ((claims(token)?.exp ?? Infinity) * 1000 <= cart.clock.now()) return token; // too late
  const fresh = (await renew(TOKEN_KEY)) ?? token;
  if (desk.api === api) {
    desk.token = fresh;
    api.use(fresh);
  }
  return fresh;
}

function notice(text) {
  say(at("notice"), text);
  at("notice").hidden = text === "";
}

// --- which stream ---

function shopPath(path) {
  return `${path}?shop=${encodeURIComponent(desk.shop)}`;
}

/** Ask for streams and products, again and again while there is no answer, and choose a stream. */
async function load(attempt = 0) {
  const { api } = desk;
  let unanswered = false;
  const loaded = await act("streams", async () => {
    try {
      [desk.streams, desk.products] = await Promise.all([
        api.all(shopPath("/v1/streams")), api.all(shopPath("/v1/products"))]);
    } catch (problem) {
      unanswered = problem.status === 0 || problem.status >= 500;
      throw problem;
    }
  }, "");
  if (desk.api !== api) return; // signed out meanwhile
  if (unanswered) setTimeout(() => desk.api === api && load(attempt + 1), backoffMs(attempt));
  if (!loaded) return;
  const wanted = new URLSearchParams(location.hash.slice(1)).get("stream");
  const live = desk.streams.find((stream) => stream.status === "live");
  const first = desk.streams.find((stream) => stream.id === wanted) ?? live ?? desk.streams[0];
  if (first) choose(first);
  else showStreams();
}

function choose(stream) {
  desk.cart?.close();
  Object.assign(desk, { stream, offers: [], orders: [], comments: [], figures: null, summary: null });
  forgetFigures();
  history.replaceState(null, "", `#stream=${encodeURIComponent(stream.id)}`);
  const cart = new LiveCart({ stream: stream.id, token: desk.token, getToken: renewed });
  desk.cart = cart;
  cart.addEventListener("change", ({ detail }) => cart === desk.cart && paint(detail.what));
  cart.addEventListener("status", () => cart === desk.cart && onStatus());
  cart.addEventListener("notice", ({ detail }) =>
    cart === desk.cart && detail.type === "draining" && notice(t("draining")));
  cart.connect();
  showStreams();
  showPins(); // nothing of the stream before stays to be pressed
  showOffers();
  showOrders();
  showComments();
  showMessages();
  showSummary();
  askSystem();
  paint("all");
  poll();
}

// --- the chosen stream, live ---

const paint = painter((parts) => {
  const { room } = desk.cart ?? {};
  if (!room?.stream || !desk.stream) return;
  if (room.stream.status !== desk.stream.status) keepStream({ ...desk.stream, ...room.stream });
  const all = parts.has("all");
  if (all || parts.has("pins")) {
    showPins();
    showOffers(); // whose buttons say what is pinned
  }
  if (all || parts.has("chat")) showMessages();
  if (all || parts.has("viewers")) showFigures();
  if (parts.has("offers")) {
    desk.offers = desk.offers.map(withStock);
    showOffers();
  }
  if (all || ["offers", "pins", "stream"].some((part) => parts.has(part))) soon();
});

/** An offer with what the socket has said of its units since it was asked for. */
function withStock(offer) {
  const heard = desk.cart.room.offers.get(offer.id);
  const newer = heard && heard.epoch === offer.epoch && heard.version > offer.version;
  return newer ? { ...offer, left: heard.left, quantity: heard.quantity } : offer;
}

function onStatus() {
  askSystem();
  const { status, closeCode } = desk.cart;
  showLine();
  if (status === "stopped" && closeCode === 4401) signOut(t("token_bad"));
  else if (status === "stopped") notice(t(`stop_${closeCode}`));
  else if (status === "open") notice("");
}

// --- asking ---

let polling = null;
let polls = 0;
let asked = 0; // refreshes begun,
let under = 0; // and not ended
let coming = null;

// What is asked for, and what is done with the answer. Each is taken by itself: one that fails hides
// no other, and of two answers the one that was asked for later stays, whichever comes first.
const OFTEN = [
  { path: () => streamPath("/offers?limit=200"), take: ({ items }) => { desk.offers = items.map(withStock); } },
  { path: ordersPath, take: ({ items }) => { desk.orders = items; } },
  { path: () => streamPath("/figures"), take: (figures) => {
    desk.figures = figures;
    sampleFigures(figures);
  } },
];
const SELDOM = [
  { path: () => streamPath("/summary"), take: (summary) => { desk.summary = summary; } },
  { path: () => `${shopPath("/v1/streams")}&limit=20`, take: ({ items }) => {
    desk.streams = joined(items, desk.streams);
  } },
  { path: () => streamPath(), take: (stream) => {
    keepStream(stream);
    showSlow(stream);
  } },
  { path: () => `${shopPath("/v1/products")}&limit=50`, take: ({ items }) => {
    desk.products = joined(items, desk.products);
    showProducts();
  } },
  { path: () => streamPath("/comments?limit=50"), take: ({ items }) => {
    desk.comments = items;
    showComments();
  } },
];

/** Ask now, and every POLL_MS while the page is seen. */
async function poll() {
  clearTimeout(polling);
  try {
    if (desk.stream && !document.hidden) await refresh(polls++ % SLOW_EVERY === 0);
  } finally {
    clearTimeout(polling);
    if (desk.api) polling = setTimeout(poll, POLL_MS);
  }
}

/** Ask a little later, when nothing is asked any more. */
function soon() {
  coming ??= setTimeout(() => {
    coming = null;
    if (under > 0) soon();
    else refresh(false);
  }, SOON_MS);
}

/** Ask for what is shown; `whole`: also for what changes seldom. */
async function refresh(whole = true) {
  const { stream, api } = desk;
  if (!stream) return; // signed out meanwhile
  const turn = ++asked;
  under += 1;
  const parts = whole ? [...OFTEN, ...SELDOM] : OFTEN;
  const outcomes = await Promise.allSettled(parts.map(({ path }) => api.get(path())));
  under -= 1;
  if (desk.stream?.id !== stream.id) return;
  const failed = outcomes.filter(({ status }) => status === "rejected").map(({ reason }) => reason);
  for (const problem of failed) if (!(problem instanceof Problem)) throw problem;
  if (failed.some(({ status }) => status === 401)) return signOut(t("token_bad"));
  parts.forEach((part, index) => {
    const { status, value } = outcomes[index];
    if (status === "rejected" || turn < (part.turn ?? 0)) return;
    part.turn = turn;
    part.take(value);
  });
  if (failed.length > 0) notice(problemText(failed[0]));
  else if (desk.cart.status === "open") notice("");
  showOffers();
  showOrders();
  showFigures();
  showSummary();
  showTabs();
}

/** Two lists, newest first, the first of them the newer reading. */
function joined(newer, known) {
  const ids = new Set(newer.map(({ id }) => id));
  return [...newer, ...known.filter(({ id }) => !ids.has(id))];
}

desk.refresh = refresh;
desk.signOut = signOut;
wireFrame();
wireDialogs();
wireStreams(choose);
wireCatalogue();
wireOffers();
wireOfferForm();
wireOrders();
wireOrder();
wireFigures();
wireChat();
wireComments();
wireSummary();
wireKeys();
at("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(at("token").value.trim());
});
at("sign-out").addEventListener("click", () => signOut());
setInterval(() => {
  if (!desk.cart) return;
  showLine();
  showSince();
}, 1_000);
setInterval(() => desk.cart && !document.hidden && askSystem(), 5_000);
document.addEventListener("visibilitychange", () => document.hidden || !desk.cart || poll());
addEventListener("hashchange", begin);

/** Sign in with the token that this tab has, or was just given. */
async function begin() {
  const kept = await enter(TOKEN_KEY);
  if (kept && kept !== desk.token) await signIn(kept);
  else if (!kept) at("sign-in").hidden = false;
}

begin();
