// @ts-check
// Whether a connection is alive, and what the server's clock says: pings, and how long it is quiet.
//
// Owns the heartbeat of one connection at a time. Knows no link: it is told what is heard, sends by
// a function, and says when to give up.

import { Timers } from "./timers.js";

/** @import { AnyEvent } from "./protocol.d.ts" */
/** @import { Times } from "./livecart.d.ts" */
/** @import { Fields } from "./tasks.js" */
/** @import { ServerClock } from "./clock.js" */

const CLOCK_PINGS = 4;

export class Pulse {
  #send;
  #dead;
  #times;
  #clock;
  #heartbeatMs = 0;
  #asks = false;
  #heardAt = 0;
  /** @type {number | null} of the ping that waits for its pong */
  #pingedAt = null;
  /** @type {Timers<"beat" | "probe">} */
  #timers = new Timers();

  /**
   * @param {{send: (fields: Fields, answer: (frame: AnyEvent) => void) => boolean,
   *   dead: () => void, times: Times, clock: ServerClock}} parts
   */
  constructor({ send, dead, times, clock }) {
    this.#send = send;
    this.#dead = dead;
    this.#times = times;
    this.#clock = clock;
  }

  /** Something came. */
  heard() {
    this.#heardAt = performance.now();
  }

  /**
   * A connection was welcomed.
   * @param {number} heartbeatMs how often the server is heard
   * @param {boolean} asks whether it can be pinged
   */
  start(heartbeatMs, asks) {
    this.#heartbeatMs = heartbeatMs;
    this.#asks = asks;
    if (asks) this.#measure();
    this.#beat();
  }

  stop() {
    this.#timers.stopAll();
    this.#pingedAt = null;
  }

  /** Make sure at once. */
  probe() {
    if (this.#timers.runs("probe")) return;
    const askedAt = performance.now();
    if (!this.#asks) {
      // Time asleep does not count as silence: nothing tells whether the line outlived it.
      const silent = askedAt - this.#heardAt > 1.5 * this.#heartbeatMs;
      if (silent || this.#clock.slept()) this.#dead();
      return;
    }
    this.#clock.renew();
    this.#measure();
    this.#timers.after("probe", this.#times.probeMs, () => {
      if (this.#heardAt < askedAt) this.#dead();
    });
  }

  #measure(left = CLOCK_PINGS) {
    this.#ping((alive) => alive && left > 1 && this.#measure(left - 1));
  }

  /** @param {((alive: boolean) => void)=} then */
  #ping(then) {
    const sentAt = performance.now();
    this.#pingedAt ??= sentAt;
    this.#send({ type: "ping", t0: Math.round(sentAt) }, (frame) => {
      this.#pingedAt = null;
      if (frame.type === "pong") this.#clock.sample(sentAt, performance.now(), frame.now);
      then?.(frame.type === "pong");
    });
  }

  #beat() {
    this.#timers.after("beat", this.#heartbeatMs / 2, () => {
      const now = performance.now();
      const silentMs = now - this.#heardAt;
      // A browser slows the timers of a hidden page, so silence alone proves nothing: only a
      // ping of ours that stayed unanswered does. Where none can be sent, there is only silence.
      const unanswered = this.#pingedAt !== null && now - this.#pingedAt > this.#times.pongMs;
      const dead = this.#asks
        ? unanswered && silentMs > this.#times.pongMs
        : silentMs > 2 * this.#heartbeatMs;
      if (dead) {
        this.#dead();
        return;
      }
      this.#beat();
      if (this.#clock.slept()) this.probe();
      else if (this.#asks && this.#pingedAt === null) this.#ping();
    });
  }
}
