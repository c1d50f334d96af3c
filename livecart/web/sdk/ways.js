// @ts-check
// Which way to try next: WebSocket, or events over HTTP. Pure.
//
// A WebSocket without a word is blocked on the way, or nobody is there. Which of them, the other
// way tells: so after a few they take turns, until one is welcomed. Where WebSocket did get through
// before, a server that is away is likelier, and more are tried.

const SOCKET_TRIES_MAX = 3;
const KNOWN_TRIES_MAX = 8;

/** @typedef {"socket" | "events"} Way */

export class Ways {
  #both;
  /** @type {Way} */
  #only;
  #silent = 0; // WebSockets in a row that never brought a word
  #triesMax = SOCKET_TRIES_MAX;

  /** @param {readonly Way[]} allowed */
  constructor(allowed) {
    this.#both = allowed.includes("socket") && allowed.includes("events");
    this.#only = allowed[0] ?? "socket";
  }

  /** Whether there is a better way to try while connected by this one. */
  get hasOther() {
    return this.#both;
  }

  /** @returns {Way} */
  next() {
    if (!this.#both) return this.#only;
    return this.#silent < this.#triesMax ? "socket" : "events";
  }

  /**
   * It ended before there was any word.
   * @param {Way} way
   */
  silent(way) {
    this.#silent = way === "socket" ? this.#silent + 1 : this.#triesMax - 1;
  }

  /** WebSocket gets through. */
  free() {
    this.#silent = 0;
    this.#triesMax = KNOWN_TRIES_MAX;
  }

  /** This is another network now: what got through before says nothing. */
  moved() {
    this.#triesMax = SOCKET_TRIES_MAX;
  }
}
