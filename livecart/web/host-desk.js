// The desk: what the host's page knows, and how one of its parts asks for something to be done.
//
// The one mutable thing that all host-*.js share. It holds what the server said last, and nothing
// that the server does not know: two hosts of one stream see the same. host.js fills it and sets
// `refresh` and `signOut`; the parts draw from it.

import { Problem } from "./api.js";
import { at, h, tell } from "./dom.js";
import { money } from "./money.js";
import { language, reason, t } from "./text.js";

export const desk = {
  token: null,
  api: null,
  shop: null,
  streams: [],
  products: [], // newest first
  stream: null, // the chosen one
  offers: [], // newest first, drafts too
  orders: [], // those that are asked for, newest first
  comments: [], // that could not be read as orders
  figures: null, // of /figures
  summary: null, // of /summary
  cart: null, // the LiveCart of the chosen stream
  keyless: false, // whether this server has no keys for encoders
  refresh: async () => {}, // ask the server again, now
  signOut: () => {},
};

const SLOW_MS = 400; // what takes longer is said to be under way
const SHOWN_MS = { good: 4_000, bad: 12_000 };

// Refusals whose detail says no more than their code does; those speak the page's language.
const OWN_WORDS = [
  "conflict", "closed", "not_live", "not_open", "sold_out", "limit_reached", "rate_limited",
  "retry", "unreachable",
];

/** What a refused or failed call says to a person. */
export function problemText(problem) {
  return OWN_WORDS.includes(problem.code) ? reason(problem) : problem.message;
}

/** Do one thing, say in `#<section>-outcome` how it went; what it came to, undefined if refused. */
export async function act(section, work, done = t("done")) {
  const outcome = at(`${section}-outcome`);
  const slow = setTimeout(() => tell(outcome, t("loading")), SLOW_MS);
  let answer;
  try {
    answer = await work();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401) desk.signOut(t("token_bad"));
    told(outcome, problemText(problem), "bad");
    return undefined;
  } finally {
    clearTimeout(slow);
  }
  told(outcome, done, "good");
  return answer ?? true;
}

/** Do a thing with its button disabled meanwhile: pressed twice it is done once. */
export async function once(pressed, work) {
  if (pressed.disabled) return undefined;
  const focused = document.activeElement === pressed;
  pressed.disabled = true;
  try {
    return await work();
  } finally {
    pressed.disabled = false;
    // A disabled button loses the focus, and the keyboard its place; unless it went elsewhere.
    if (focused && document.activeElement === document.body) pressed.focus({ preventScroll: true });
  }
}

const underWay = new Set();

/** Do a thing that has this name unless it is under way: pressed again meanwhile it is done once. */
export async function alone(name, work) {
  if (underWay.has(name)) return undefined;
  underWay.add(name);
  try {
    return await work();
  } finally {
    underWay.delete(name);
  }
}

/** Fill an outcome for as long as it takes to read. */
export function told(outcome, text, kind) {
  tell(outcome, text, kind);
  setTimeout(() => outcome.textContent === text && tell(outcome, ""), SHOWN_MS[kind]);
}

/** What is held and not paid for now, over all offers: units, and their money by currency. */
export function held() {
  const owed = new Map();
  let units = 0;
  for (const offer of desk.offers) {
    // Of an offer that asks for no payment, every order is confirmed at once: nothing is held.
    if (offer.reserved === 0) continue;
    units += offer.reserved;
    owed.set(offer.currency, (owed.get(offer.currency) ?? 0) + offer.reserved * offer.price_minor);
  }
  return { units, money: [...owed].map(([currency, minor]) => amount(minor, currency)).join(" + ") };
}

/** A path below the chosen stream. */
export function streamPath(rest = "") {
  return `/v1/streams/${encodeURIComponent(desk.stream.id)}${rest}`;
}

/** A button that does `work`. */
export function button(label, work, kind = "") {
  return h("button", { type: "button", class: kind, onclick: work }, label);
}

const WRITTEN_MAX = 2_000;
const written = new Map(); // amounts as text: most are shown again and again, and cost to write

/** Money in the page's language. */
export function amount(minor, currency) {
  const name = `${minor} ${currency}`;
  if (!written.has(name)) {
    if (written.size >= WRITTEN_MAX) written.clear();
    written.set(name, money(minor, currency, language));
  }
  return written.get(name);
}

/** The title of a product, its id while it is not known. */
export function titleOf(id) {
  return desk.products.find((product) => product.id === id)?.title ?? id;
}

/** What a datetime-local field is to hold for a time in ms since the epoch, to the second. */
export function fieldOf(ms) {
  const local = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 19);
}

/** What a datetime-local field holds as ms since the epoch; undefined when it is empty. */
export function timeOf(input) {
  return input.value ? new Date(input.value).getTime() : undefined;
}
