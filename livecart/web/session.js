// How a page comes by its token: out of the address it was opened with, or out of this tab's memory.
//
// Owns what stands behind `#` (`code=`: traded for a token, once; `token=`: taken as it is), the
// tab's storage and the trade. Knows nothing of what a token is used for. Called by every page
// before it calls anything else. A token is never written into an address, and what came in one is
// out of sight before the first request goes out. Only a code that nobody answered to goes back there:
// it is still good, and loading the page again is what people do then.

const TRIES_MAX = 5;
const FIRST_WAIT_MS = 300;
const ANSWER_MS = 8_000;
const kept = new Map(); // what a tab remembers that may not store anything
const entering = new Map(); // storage key -> the promise of an `enter` under way

/** The token to call with, or null: nobody signed in. Never throws; a bad code is as none. */
export async function enter(storageKey) {
  const given = takeFragment();
  if (given.token) keep(storageKey, given.token);
  else if (given.code) entering.set(storageKey, tradeCode(storageKey, given));
  await entering.get(storageKey); // also for whoever asks while the first is still trading
  return found(storageKey);
}

/**
 * Trade the token for one that ends later, and keep it. The token as it is when the server gives no
 * other (none is made there, or it was renewed for as long as it may be); null once it is refused.
 */
export async function renew(storageKey) {
  const token = found(storageKey);
  if (token === null) return null;
  const answer = await post("/v1/page-tokens/renew", {}, token);
  if (answer.token) {
    if (found(storageKey) === token) keep(storageKey, answer.token); // else signed out meanwhile
  } else if (answer.status === 401) {
    if (found(storageKey) === token) leave(storageKey);
  }
  return found(storageKey);
}

/** Forget the token. */
export function leave(storageKey) {
  kept.delete(storageKey);
  entering.delete(storageKey);
  try {
    sessionStorage.removeItem(storageKey);
  } catch {
    // This tab may store nothing, so nothing is there.
  }
}

/** Take code and token out of the fragment; the rest of it stays. */
function takeFragment() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = {
    code: fragment.get("code"),
    once: fragment.get("once"),
    token: fragment.get("token"),
  };
  if (given.code === null && given.token === null) return given;
  for (const name of Object.keys(given)) fragment.delete(name);
  showFragment(fragment);
  return given;
}

function showFragment(fragment) {
  const rest = fragment.toString();
  history.replaceState(history.state, "", location.pathname + location.search + (rest && `#${rest}`));
}

/** Trade a code; `once` names this trade, so that its answer, should it get lost, is given again. */
async function tradeCode(storageKey, { code, once }) {
  const trade = { code, once: once ?? freshName() };
  const answer = await post("/v1/page-tokens", trade, null);
  if (unanswered(answer.status)) {
    const fragment = new URLSearchParams(location.hash.slice(1));
    if (!fragment.has("code") && !fragment.has("token")) {
      for (const [name, value] of Object.entries(trade)) fragment.set(name, value);
      showFragment(fragment);
    }
  }
  // A code that is used up says nothing against the token that this tab has: a page that was
  // loaded again with "back" comes with the same address.
  if (answer.token) keep(storageKey, answer.token);
}

/** Whether a call was not decided: nobody answered, or asked to come again. */
function unanswered(status) {
  return status === 0 || status === 429 || status >= 500;
}

/** 128 random bits in hex. */
function freshName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The answer with its status; tried again while none comes or the server asks for it. */
async function post(path, body, token) {
  const headers = { "Content-Type": "application/json" };
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  for (let attempt = 0; ; attempt++) {
    let status = 0;
    let answer = {};
    try {
      const signal = AbortSignal.timeout(ANSWER_MS); // a network in a tunnel never says no
      const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
      status = response.status;
      answer = await response.json();
    } catch {
      // No answer, or half of one: as if the server had asked to try again.
      if (status !== 0 && status < 500) status = 0;
    }
    if (!unanswered(status) || attempt + 1 >= TRIES_MAX) {
      return { status, token: status >= 200 && status < 300 ? answer.token : undefined };
    }
    const asked = answer.retry_after_ms ?? 0;
    const waitMs = asked + Math.random() * FIRST_WAIT_MS * 2 ** attempt;
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}

function keep(storageKey, token) {
  kept.set(storageKey, token);
  try {
    sessionStorage.setItem(storageKey, token);
  } catch {
    // Private windows of some browsers store nothing: the token lives as long as the page.
  }
}

function found(storageKey) {
  try {
    return sessionStorage.getItem(storageKey) || kept.get(storageKey) || null;
  } catch {
    return kept.get(storageKey) ?? null;
  }
}
