// The viewer's page, served at /s/{stream}: the picture, what is on sale, own orders, chat.
//
// Wires the parts; draws what LiveCart's room says, and decides nothing about stock, limits or
// outcomes itself. Each part owns its corner of the page: stage, cards, orders, chat, drawers.

import { Api } from "./api.js";
import { at, claims, keyed, painter, say, tell } from "./dom.js";
import { LiveCart } from "./livecart.js";
import { PinHold } from "./media-time.js";
import { Places } from "./places.js";
import { enter, leave, renew } from "./session.js";
import { language, languages, number, speak, t, timeText, translatePage } from "./text.js";
import { Announcer } from "./viewer-announce.js";
import { Basket } from "./viewer-buy.js";
import { cards, steady } from "./viewer-card.js";
import { chatForm, showChat } from "./viewer-chat.js";
import { layDrawers, openDrawer } from "./viewer-drawers.js";
import { Film } from "./viewer-media.js";
import { Orders } from "./viewer-orders.js";
import { showReactions } from "./viewer-reactions.js";
import { notice, showLanguages, showLine, showSpeaker, showStage, stopText } from "./viewer-stage.js";
import { shelf, shownNow } from "./viewer-state.js";

const TOKEN_KEY = "livecart.viewer.token";
const TICK_MS = 250;
const CHAT_MS = 120; // between two drawings of the chat: in a full room each frame would have one
const UNMUTED_MS = 1_000; // more than the clocks differ, less than anybody is muted for

translatePage();
showLanguages(languages, language, speak);
const streamId = decodeURIComponent(location.pathname.split("/")[2] ?? "");
const token = await enter(TOKEN_KEY); // null: a guest
let latest = token; // as it was renewed last
const api = new Api(token);
const getToken = token === null ? null : renewed;
const cart = new LiveCart({ stream: streamId, token, getToken });
const room = () => cart.room;
const products = new Map(); // id -> Product, of everything seen; null while it is fetched

const places = new Places(cart, api, () => paint("offers"));
const answered = (offer, answer) => announcer.answered(offer, answer);
const basket = new Basket(cart, places, () => paint("offers"), answered);
const tellNow = (text) => announcer.now(text);
const orders = new Orders(cart, api, products, () => paint("orders"), tellNow);
const card = cards({ basket, cart, places, pay });
const hold = new PinHold();
const film = new Film(at("video"), () => paint("film"));
const announcer = new Announcer((order) => orders.titleOf(order), () => hold.release());

/** A fresh token, for the connection and for calls. */
async function renewed() {
  if ((claims(latest)?.exp ?? Infinity) * 1000 <= cart.clock.now()) return latest; // too late
  // Whom the server refuses is told so: nobody becomes a guest without having chosen it.
  const fresh = (await renew(TOKEN_KEY)) ?? latest;
  latest = fresh;
  api.use(fresh);
  return fresh;
}

function pay(order) {
  openDrawer("orders");
  orders.pay(order);
}

// --- drawing ---

function shownPins() {
  return hold.show(room().pins, {
    playheadMs: film.playheadMs(),
    serverMs: cart.clock.now(),
    nowMs: performance.now(),
  });
}

/** Draw both the big card and the shelf; says which product is on the big card. */
function showSale(pins) {
  const items = shelf(pins, room().offers);
  for (const { product } of items) products.set(product.id, product);
  const now = shownNow(items);
  const before = at("pinned").firstElementChild;
  keeping(at("pinned"), () =>
    keyed(at("pinned"), now ? [now] : [], (item) => item.key, card.make, card.update));
  const after = at("pinned").firstElementChild;
  if (before && after && before !== after) steady(after);
  at("now").hidden = now === undefined;
  at("sale-empty").hidden = items.length > 0;
  say(at("products-badge"), number(items.length));
  at("products-badge").hidden = items.length === 0;
  at("products-open").setAttribute("aria-label", t("products_open", { n: number(items.length) }));
  keeping(at("cards"), () =>
    keyed(at("cards"), items, (item) => item.key, card.make, card.update));
  return now?.product;
}

/** Draw, and give the keyboard's focus back to what was moved, or to the card that came instead. */
function keeping(container, draw) {
  const focused = document.activeElement;
  const inside = focused !== null && container.contains(focused);
  draw();
  if (!inside || document.activeElement === focused) return;
  if (focused.isConnected) focused.focus({ preventScroll: true });
  // On the card itself and not on its button: Enter must not buy what was not looked at.
  else container.firstElementChild?.focus({ preventScroll: true });
}

let product; // on the big card
const SALE = ["stream", "pins", "offers", "orders"];

const paint = painter((parts) => {
  if (parts.has("film")) showFilm();
  if (room().stream === null) return;
  const all = parts.has("all");
  if (all || SALE.some((part) => parts.has(part))) {
    if (all || parts.has("offers") || parts.has("pins") || parts.has("orders")) {
      announcer.look(room(), shownPins);
    }
    product = showSale(shownPins());
    keeping(at("orders-list"), () => orders.show());
  }
  if (all || parts.has("stream") || parts.has("viewers") || parts.has("pins")) {
    showStage(room(), product);
  }
  if (all || parts.has("stream")) {
    film.watch(room().stream.status === "live" ? (room().stream.playback_url ?? null) : null);
    showSpeaker(room());
  }
  if (all || parts.has("reactions")) showReactions(room().reactions, (kind) => cart.react(kind));
  if (all || parts.has("chat")) showChat(room().messages);
});

function showFilm() {
  const { state, url } = film;
  at("stage").dataset.film = state;
  at("sound").hidden = !["playing", "blocked", "loading"].includes(state);
  at("sound").setAttribute("aria-label", t(film.muted ? "sound_on" : "sound_off"));
  at("sound").dataset.muted = String(film.muted);
  at("play").hidden = state !== "blocked";
  at("watch").hidden = state !== "unplayable";
  if (state === "unplayable") at("watch").href = url;
  say(at("film-said"), state === "trouble" ? t("film_trouble") : "");
}

let chatTimer = null;

function paintChat() {
  chatTimer ??= setTimeout(() => {
    chatTimer = null;
    paint("chat");
  }, CHAT_MS);
}

function tick() {
  showLine(cart);
  if (document.hidden || room().stream === null) return;
  if (hold.holds) paint("pins");
  for (const container of [at("pinned"), at("cards")]) {
    if (container.closest("dialog:not([open])")) continue; // nobody sees it
    for (const element of container.children) {
      const { offer } = element.parts;
      const known = offer && room().offers.get(offer.id);
      if (known) card.tick(element, known);
    }
  }
  orders.tick();
  announcer.tick(room(), cart.clock.now());
}

// --- what happens ---

function onStatus() {
  tick();
  const stopped = cart.status === "stopped";
  if (stopped) notice(stopText(cart.closeCode));
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

layDrawers();
cart.addEventListener("change", ({ detail }) => {
  if (detail.what === "chat") paintChat();
  else paint(detail.what);
});
cart.addEventListener("status", onStatus);
cart.addEventListener("notice", onNotice);
chatForm(cart);
at("sound").addEventListener("click", () => film.toggleSound());
at("play").addEventListener("click", () => film.play());
at("as-guest").addEventListener("click", () => {
  leave(TOKEN_KEY);
  location.reload();
});
addEventListener("hashchange", async () => {
  if (!/[#&](?:code|token)=/.test(location.hash)) return;
  const given = await enter(TOKEN_KEY);
  if (given !== token) location.reload(); // another person: nothing of the first one stays
});
document.addEventListener("visibilitychange", () => document.hidden || paint("all"));
setInterval(tick, TICK_MS);
cart.connect();
