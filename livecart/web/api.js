// The HTTP side of the protocol: bearer token, problem documents, the same key again on 503.

import { backoffMs, freshKey } from "./livecart.js";

const ATTEMPTS_MAX = 6;
const PAGES_MAX = 10;
/** How many items of one list `all` reads; there may be more. */
export const ITEMS_MAX = PAGES_MAX * 200;
const ANSWER_MS_MAX = 20_000; // then a call counts as unanswered: a phone's network may hang for ever

/** A refused or failed call; `message` is the problem's detail, fit to show. */
export class Problem extends Error {
  constructor(status, body) {
    const fields = (body.errors ?? []).map((error) => `${error.path}: ${error.message}`);
    super([body.detail ?? body.title ?? `HTTP ${status}`, ...fields].join(" · "));
    this.status = status;
    this.code = body.code ?? null;
    this.retryAfterMs = body.retry_after_ms ?? 0;
  }
}

/** What a JSON object's text says; null when it is none. */
function parsed(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

export class Api {
  #token;

  constructor(token) {
    this.#token = token;
  }

  /** Call with another token from now on. */
  use(token) {
    this.#token = token;
  }

  /** One call; the parsed answer, or null for 204. Throws Problem (status 0: no answer). */
  async call(method, path, body, headers = {}) {
    let response;
    let text;
    try {
      response = await fetch(path, {
        method,
        headers: {
          ...(this.#token !== null && { Authorization: `Bearer ${this.#token}` }),
          ...(body !== undefined && { "Content-Type": "application/json" }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(ANSWER_MS_MAX),
      });
      text = await response.text();
    } catch (error) {
      throw new Problem(0, { detail: error.message, code: "unreachable" });
    }
    if (response.status === 204) return null;
    const answer = parsed(text);
    if (!response.ok) throw new Problem(response.status, answer ?? {});
    // Cut off, or some gateway's own page: what the call came to is not known.
    if (answer === null) throw new Problem(0, { detail: response.statusText, code: "unreachable" });
    return answer;
  }

  get(path) {
    return this.call("GET", path);
  }

  post(path, body = {}) {
    return this.call("POST", path, body);
  }

  /** A call with an Idempotency-Key: while the outcome is unknown, the same key again. */
  async postOnce(path, body, key = freshKey()) {
    const headers = { "Idempotency-Key": key };
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.call("POST", path, body, headers);
      } catch (problem) {
        const unknown = problem.status === 0 || problem.status >= 500;
        if (!unknown || attempt + 1 >= ATTEMPTS_MAX) throw problem;
        const waitMs = problem.retryAfterMs + backoffMs(attempt);
        await new Promise((resolve) => setTimeout(resolve, waitMs));
      }
    }
  }

  /** All items of a list that `keep` wants, over at most PAGES_MAX pages of 200. */
  async all(path, keep = () => true) {
    const items = [];
    let cursor = null;
    for (let page = 0; page < PAGES_MAX; page++) {
      const query = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
      const joint = path.includes("?") ? "&" : "?";
      const answer = await this.get(`${path}${joint}limit=200${query}`);
      items.push(...answer.items.filter(keep));
      cursor = answer.next_cursor ?? null;
      if (cursor === null) break;
    }
    return items;
  }
}
