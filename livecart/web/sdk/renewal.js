// @ts-check
// Renews the token of an open connection before it ends.
//
// Owns when, and what happens when no fresh one is to be had: again and again, until the old one
// ends and the connection with it. Knows no link: how a token is handed over is its user's.

import { BACKOFF_MAX_MS } from "./backoff.js";
import { Timers } from "./timers.js";

/** @import { ServerClock } from "./clock.js" */
/** @import { Tokens } from "./tokens.js" */

const TIMER_MAX_MS = 2 ** 31 - 1;
const AGAIN_MS = 1_000;

export class Renewal {
  #parts;
  #round = 0; // of connections; what an older one asked for is not handed over
  /** @type {Timers<"renew">} */
  #timers = new Timers();

  /**
   * @param {{tokens: Tokens, clock: ServerClock, failed: (error: unknown) => void,
   *   hand: (token: string | null, done: (taken: boolean) => void) => void}} parts
   */
  constructor(parts) {
    this.#parts = parts;
  }

  /** A connection was welcomed with the present token. */
  start() {
    const inMs = this.#parts.tokens.renewInMs(this.#parts.clock.now());
    if (inMs === null) return;
    // Beyond what a timer can hold, it looks again then.
    this.#timers.after("renew", Math.min(inMs, TIMER_MAX_MS), () =>
      inMs > TIMER_MAX_MS ? this.start() : this.#renew(0));
  }

  stop() {
    this.#round++;
    this.#timers.stopAll();
  }

  /** @param {number} attempt */
  #renew(attempt) {
    const { tokens, hand, failed } = this.#parts;
    const round = this.#round;
    const againMs = Math.min(BACKOFF_MAX_MS, AGAIN_MS * 2 ** attempt);
    const again = () => this.#timers.after("renew", againMs, () => this.#renew(attempt + 1));
    tokens.fetch().then(
      () => {
        if (round === this.#round) hand(tokens.value, (taken) => (taken ? this.start() : again()));
      },
      (error) => {
        if (round !== this.#round) return;
        again();
        failed(error);
      },
    );
  }
}
