// @ts-check
// The token of a connection: where it comes from, when it ends, and whether a fresh one is due.
//
// Reads `exp` and `sub` and nothing else of a token; the server alone judges it.

// How long before its end a token is renewed, if it lasts long enough: a phone that is locked
// meanwhile must not come back to a token that has ended, which nobody renews.
const AHEAD_MS = 1_800_000;
const RENEW_MIN_MS = 1_000; // between two, whatever a token and a clock say
const REFUSALS_MAX = 3; // fresh tokens in a row that the server may refuse

export class Tokens {
  /** @type {string | null} */
  value;
  #ask;
  #stale;
  #refusals = 0;
  #round = 0; // of tokens that the page gave by itself
  /** @type {Promise<void> | null} */
  #asking = null;

  /**
   * @param {string | null} token
   * @param {(() => Promise<string | null>) | null} ask
   */
  constructor(token, ask) {
    this.value = token;
    this.#ask = ask;
    this.#stale = token === null && ask !== null;
  }

  /** Whether another token can be had. */
  get renewable() {
    return this.#ask !== null;
  }

  /**
   * Whether to ask for a fresh one before the next connection.
   * @param {number} nowMs server time
   */
  due(nowMs) {
    return this.renewable && (this.#stale || (this.endsAt() ?? Infinity) <= nowMs);
  }

  /**
   * Ask for a fresh one; rejects as the page's `getToken` does. Asked twice, it asks once.
   * @returns {Promise<void>}
   */
  fetch() {
    if (this.#asking !== null) return this.#asking;
    const asking = this.#fetch().finally(() => {
      if (this.#asking === asking) this.#asking = null;
    });
    this.#asking = asking;
    return asking;
  }

  async #fetch() {
    const round = this.#round;
    const token = (await this.#ask?.()) ?? null;
    if (round !== this.#round) return; // the page gave another one meanwhile
    this.value = token;
    this.#stale = false;
  }

  /**
   * Go on with another one.
   * @param {string | null} token
   */
  replace(token) {
    this.#round++;
    this.#asking = null;
    this.value = token;
    this.#stale = false;
    this.#refusals = 0;
  }

  /** The server took it. */
  accepted() {
    this.#refusals = 0;
  }

  /** The server refused it; says whether to come back with another one. */
  refused() {
    this.#stale = true;
    return this.renewable && ++this.#refusals <= REFUSALS_MAX;
  }

  /** When it ends, ms since the epoch; null when it does not say. */
  endsAt() {
    const { exp } = claimsOf(this.value);
    return typeof exp === "number" ? exp * 1000 : null;
  }

  /**
   * In how many ms to renew it, null: never. Drawn, so that a crowd does not come at once.
   * @param {number} nowMs server time
   */
  renewInMs(nowMs) {
    const endsAt = this.endsAt();
    if (!this.renewable || endsAt === null) return null;
    const leftMs = endsAt - nowMs;
    const aheadMs = Math.min(AHEAD_MS, leftMs / 2);
    return Math.max(RENEW_MIN_MS, leftMs - aheadMs * (0.6 + 0.4 * Math.random()));
  }
}

/**
 * Whose a token is; null when it does not say.
 * @param {string | null} token
 */
export function subjectOf(token) {
  const { sub } = claimsOf(token);
  return typeof sub === "string" ? sub : null;
}

/**
 * What a token says; nothing when it is no JWT, or one that only the server can read.
 * @param {string | null} token
 * @returns {{exp?: unknown, sub?: unknown}}
 */
function claimsOf(token) {
  const claims = token?.split(".")[1];
  if (!claims) return {};
  try {
    const text = atob(claims.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(text, (char) => char.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) ?? {};
  } catch {
    return {};
  }
}
