// The host's page, served at /host: sign in, choose a stream, go live; the parts of a chosen
// stream (offers, orders, chat) are drawn by host-sale.js.
//
// Everything is done over HTTP, which names what is wrong (problem.detail); the WebSocket brings
// viewers, pins and chat, and carries moderation. Polling stops while nobody looks.

import { Api, Problem } from "./api.js";
import { chatForm, showLine, showMessages } from "./chat.js";
import { at, claims, h, keyed, painter, say, tell, tokenOf } from "./dom.js";
import { showOffers, showOrders, showPins, showProducts, wireSale } from "./host-sale.js";
import { LiveCart } from "./livecart.js";
import { number, reason, t, translatePage } from "./text.js";

const TOKEN_KEY = "livecart.host.token";
const POLL_MS = 2_000;
const ORDERS_SHOWN = 50;

/** What this page knows; the one mutable thing that its parts share. */
const desk = {
  token: null,
  api: null,
  shop: null,
  streams: [],
  products: [],
  stream: null, // the chosen one
  offers: [],
  orders: [],
  cart: null,
};

translatePage();

// Refusals whose detail says no more than their code does; those speak the page's language.
const OWN_WORDS = ["conflict", "closed", "not_live", "rate_limited", "retry", "unreachable"];

/** Do one thing and say in that section how it went; true when it worked. */
async function act(section, work, done = t("done")) {
  const outcome = at(`${section}-outcome`);
  tell(outcome, t("loading"));
  try {
    await work();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401) signOut(t("token_bad"));
    tell(outcome, problemText(problem), "bad");
    return false;
  }
  tell(outcome, done, "good");
  return true;
}

function problemText(problem) {
  return OWN_WORDS.includes(problem.code) ? reason(problem) : problem.message;
}

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
  at("panel").hidden = at("sign-out").hidden = false;
  return load();
}

function signOut(text = "") {
  sessionStorage.removeItem(TOKEN_KEY);
  desk.cart?.close();
  desk.api = desk.stream = desk.cart = null;
  say(at("who"), "");
  at("panel").hidden = at("room").hidden = at("sign-out").hidden = true;
  at("sign-in").hidden = false;
  at("token").value = "";
  notice(text);
}

function notice(text) {
  say(at("notice"), text);
  at("notice").hidden = text === "";
}

// --- streams ---

async function load() {
  const ours = (item) => item.shop === desk.shop;
  const loaded = await act("streams", async () => {
    desk.streams = await desk.api.all("/v1/streams", ours);
    desk.products = await desk.api.all("/v1/products", ours);
  }, "");
  if (!loaded) return;
  showStreams();
  showProducts();
  const wanted = new URLSearchParams(location.hash.slice(1)).get("stream");
  const live = desk.streams.find((stream) => stream.status === "live");
  const first = desk.streams.find((stream) => stream.id === wanted) ?? live ?? desk.streams[0];
  if (first) choose(first);
}

function showStreams() {
  at("streams-empty").hidden = desk.streams.length > 0;
  const make = () => h("button", { type: "button", onclick: pick });
  const pick = ({ currentTarget: { dataset } }) =>
    choose(desk.streams.find((stream) => stream.id === dataset.key));
  keyed(at("streams"), desk.streams, (stream) => stream.id, make, (button, stream) => {
    say(button, `${stream.title} · ${t(`status_${stream.status}`)}`);
    button.setAttribute("aria-pressed", String(stream.id === desk.stream?.id));
  });
}

function choose(stream) {
  desk.cart?.close();
  desk.stream = stream;
  desk.offers = [];
  desk.orders = [];
  history.replaceState(null, "", `#stream=${encodeURIComponent(stream.id)}`);
  desk.cart = new LiveCart({ stream: stream.id, token: desk.token });
  const { cart } = desk;
  cart.addEventListener("change", ({ detail }) => cart === desk.cart && paint(detail.what));
  cart.addEventListener("status", () => cart === desk.cart && onStatus());
  cart.connect();
  at("room").hidden = false;
  at("viewer-page").href = `/s/${encodeURIComponent(stream.id)}`;
  showStreams();
  showStream();
  paint("all");
  poll();
}

/** Take a stream as the server has just told it. */
function keep(stream) {
  desk.streams = desk.streams.map((known) => (known.id === stream.id ? stream : known));
  if (desk.stream?.id === stream.id) desk.stream = stream;
  showStreams();
  showStream();
}

function showStream() {
  const { stream } = desk;
  say(at("stream-title"), stream.title);
  say(at("live"), t(`status_${stream.status}`));
  at("live").dataset.status = stream.status;
  at("go-live").hidden = stream.status !== "scheduled";
  at("end").hidden = stream.status !== "live";
}

async function turn(step) {
  const path = `/v1/streams/${desk.stream.id}/${step}`;
  await act("stream", async () => keep(await desk.api.post(path)));
  refresh();
}

async function createStream(event) {
  event.preventDefault();
  const { title, starts_at, playback_url } = event.target.elements;
  const body = { title: title.value.trim() };
  if (starts_at.value) body.starts_at = new Date(starts_at.value).getTime();
  if (playback_url.value) body.playback_url = playback_url.value.trim();
  let made;
  const worked = await act("streams", async () => {
    made = await desk.api.post("/v1/streams", body);
  }, t("created"));
  if (!worked) return;
  event.target.reset();
  event.target.parentElement.open = false;
  desk.streams = [made, ...desk.streams];
  choose(made);
}

// --- the chosen stream, live ---

const paint = painter((parts) => {
  const { room } = desk.cart ?? {};
  if (!room?.stream) return;
  if (room.stream.status !== desk.stream.status) keep({ ...desk.stream, ...room.stream });
  say(at("viewers"), t("viewers", { n: number(room.viewers) }));
  const all = parts.has("all");
  if (all || parts.has("pins")) showPins();
  if (all || parts.has("chat")) showMessages(room.messages, controls);
});

/** What a host can do about a message, folded away so that the chat stays readable. */
function controls({ id, user, name }) {
  const button = (label, work) => h("button", { type: "button", onclick: work }, t(label));
  const buttons = [button("remove", () => moderate("chat.remove", { message: id }))];
  if (user !== desk.cart.room.you.id) {
    const ban = () => confirm(t("ban_sure", { name: name || user })) && moderate("ban", { user });
    buttons.push(
      button("mute", () => moderate("mute", { user })),
      button("unmute", () => moderate("unmute", { user })),
      button("ban", ban),
    );
  }
  const label = t("moderate", { name: name || user });
  return [
    h("details", {},
      h("summary", { "aria-label": label, title: label }, "⋯"),
      h("div", { class: "controls" }, ...buttons)),
  ];
}

async function moderate(type, fields) {
  const answer = await desk.cart.moderate(type, fields);
  tell(at("chat-outcome"), answer.code ? reason(answer) : t("done"), answer.code ? "bad" : "good");
}

function onStatus() {
  const { status, closeCode } = desk.cart;
  showLine(desk.cart);
  if (status === "stopped" && closeCode === 4401) signOut(t("token_bad"));
  else if (status === "stopped") notice(t(`stop_${closeCode}`));
  else if (status === "open") notice("");
}

// --- polling: orders go to their buyers only, so the host asks for them ---

let polling = null;

/** Refresh now, and every POLL_MS while the page is seen. */
async function poll() {
  clearTimeout(polling);
  if (desk.stream && !document.hidden) await refresh();
  clearTimeout(polling);
  if (desk.api) polling = setTimeout(poll, POLL_MS);
}

async function refresh() {
  const { stream, api } = desk;
  if (!stream) return; // signed out meanwhile
  const status = at("orders-status").value;
  const filter = status && `&status=${status}`;
  const id = encodeURIComponent(stream.id);
  try {
    const [offers, orders] = await Promise.all([
      api.get(`/v1/streams/${id}/offers?limit=200`),
      api.get(`/v1/orders?stream=${id}&limit=${ORDERS_SHOWN}${filter}`),
    ]);
    if (desk.stream?.id !== stream.id) return;
    desk.offers = offers.items;
    desk.orders = orders.items;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401) signOut(t("token_bad"));
    else notice(problemText(problem));
    return;
  }
  if (desk.cart?.status === "open") notice("");
  showOffers();
  showOrders();
}

wireSale(desk, act, refresh);
chatForm(() => desk.cart);
at("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(at("token").value.trim());
});
at("sign-out").addEventListener("click", () => signOut());
at("stream-form").addEventListener("submit", createStream);
at("go-live").addEventListener("click", () => turn("start"));
at("end").addEventListener("click", () => confirm(t("end_sure")) && turn("end"));
setInterval(() => desk.cart && showLine(desk.cart), 1_000);
document.addEventListener("visibilitychange", () => {
  if (document.hidden || !desk.cart) return;
  desk.cart.probe();
  poll();
});
addEventListener("online", () => desk.cart?.probe());
addEventListener("pagehide", () => desk.cart?.close());
addEventListener("pageshow", (event) => event.persisted && desk.cart?.connect());
addEventListener("hashchange", () => {
  const given = tokenOf(TOKEN_KEY);
  if (given && given !== desk.token) signIn(given);
});

at("sign-in").hidden = false;
const kept = tokenOf(TOKEN_KEY);
if (kept) signIn(kept);
