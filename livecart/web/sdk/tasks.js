// @ts-check
// Commands that must be answered: sent again, under the same key, until the outcome is known.
//
// Owns their deadline, the pauses between attempts, and the keys of purchases whose outcome was
// never learnt. Knows no connection: cart.js says how to send, and when there is a way to.

import { backoffMs, freshKey } from "./backoff.js";

/** @import { AnyEvent, BundleLine, Order } from "./protocol.d.ts" */
/** @import { Outcome } from "./livecart.d.ts" */
/** @import { Room } from "./room.js" */

/**
 * A command without its `id`.
 * @typedef {{type: string, key?: string, offer?: string, qty?: number, order?: string,
 *   text?: string, lines?: BundleLine[], [name: string]: unknown}} Fields
 * @typedef {{fields: Fields, fulfils: (order: Order) => boolean, attempt: number,
 *   beganAt: number, resolve: (outcome: any) => void, timer?: ReturnType<typeof setTimeout>,
 *   limit?: ReturnType<typeof setTimeout>}} Task
 */

const TASKS_MAX = 100;
const OPENING_MS = 3_000; // how long a buy at the very moment of opening may meet `not_open`
const OPENING_AGAIN_MS = 250;
const LINE_WAIT_MAX_MS = 2_000; // a line that waits longer is given back: what it answers is past
const AGAIN = new Set(["retry", "rate_limited", "internal"]);
// No answer, or a refusal before the key was looked at: an attempt before may have gone through.
const UNSETTLED = new Set(["unknown", "unauthenticated", "rate_limited"]);

export class Tasks {
  /** @type {Set<Task>} */
  #tasks = new Set();
  /** @type {Map<string, string>} keys by offer, of purchases whose outcome was never learnt */
  #unresolved = new Map();
  #way;
  #times;

  /**
   * @param {{send: (fields: Fields, answer: (frame: AnyEvent) => void) => boolean,
   *   renewable: () => boolean, room: Room, nowMs: () => number,
   *   began: (fields: Fields) => void, ended: (fields: Fields, outcome: Outcome) => void}} way
   * @param {{answerMs: number, resendMs: number}} times without an answer for so long, a command
   *   is sent again; after so long its intention is old: ask the person, not the server
   */
  constructor(way, times) {
    this.#way = way;
    this.#times = times;
  }

  /**
   * The key to buy with. Asked again after an outcome that was never learnt, the purchase keeps
   * its key, also for another number of units: should the first one have gone through after all,
   * this one is its replay, or refused with `key_reused`, and not a second order.
   * @param {string} offer
   */
  keyFor(offer) {
    const before = this.#unresolved.get(offer);
    this.#unresolved.delete(offer);
    return before ?? freshKey();
  }

  /**
   * Have a command done; resolves to what it came to, never rejects.
   * @param {Fields} fields
   * @param {(order: Order) => boolean} fulfils whether an order is this command's outcome
   * @returns {Promise<any>}
   */
  add(fields, fulfils = () => false) {
    if (this.#tasks.size >= TASKS_MAX) {
      this.#keep(fields);
      return Promise.resolve({ code: "rate_limited", message: "Too much is under way." });
    }
    return new Promise((resolve) => {
      /** @type {Task} */
      const task = { fields, fulfils, resolve, attempt: 0, beganAt: Date.now() };
      task.limit = setTimeout(() => this.#settle(task, UNKNOWN), this.#times.resendMs);
      this.#tasks.add(task);
      this.#way.began(fields);
      this.#send(task);
    });
  }

  /** Whether anything waits for its answer. */
  get busy() {
    return this.#tasks.size > 0;
  }

  /** There is a new connection: send everything again. */
  resume() {
    for (const task of this.#tasks) this.#send(task);
  }

  /** There is no connection: nothing to send again until the next one. */
  pause() {
    for (const task of this.#tasks) clearTimeout(task.timer);
  }

  /** There will be no connection any more. */
  fail() {
    for (const task of this.#tasks) this.#settle(task, UNKNOWN);
  }

  /** What comes is another person's: nothing of this one is sent from now on. */
  forget() {
    this.fail();
    this.#unresolved.clear();
  }

  /**
   * An order event, or the list in `welcome`, may answer a command whose reply was lost.
   * @param {Order} order
   * @param {boolean} replayed
   */
  learn(order, replayed) {
    if (this.#unresolved.get(order.offer) === order.key) this.#unresolved.delete(order.offer);
    for (const task of this.#tasks) {
      if (task.fulfils(order)) this.#settle(task, { order, replayed });
    }
  }

  /** @param {Task} task */
  #send(task) {
    clearTimeout(task.timer);
    // By the wall's clock: no timer runs in a page that is frozen or kept for "back".
    if (Date.now() - task.beganAt > this.#times.resendMs) {
      this.#settle(task, UNKNOWN);
      return;
    }
    if (!this.#way.send(task.fields, (frame) => this.#answered(task, frame))) return;
    task.timer = setTimeout(() => this.#send(task), this.#times.answerMs);
  }

  /**
   * @param {Task} task
   * @param {AnyEvent} frame
   */
  #answered(task, frame) {
    if (!this.#tasks.has(task)) return;
    if (frame.type !== "reject") {
      this.#settle(task, outcomeOf(frame, task.fields.key));
      return;
    }
    const opening = frame.code === "not_open" && this.#justOpening(task.fields.offer);
    const renewed = frame.code === "unauthenticated" && this.#way.renewable();
    const askedMs = frame.retry_after_ms ?? 0;
    const tooLong = frame.code === "rate_limited" && askedMs > this.#patienceMs(task);
    if (!tooLong && (AGAIN.has(frame.code) || opening || renewed)) {
      const waitMs = opening ? OPENING_AGAIN_MS : backoffMs(task.attempt++);
      clearTimeout(task.timer);
      task.timer = setTimeout(() => this.#send(task), waitMs + askedMs);
      return;
    }
    this.#settle(task, frame);
  }

  /**
   * How long a command may be told to wait; beyond that its person hears so at once.
   * @param {Task} task
   */
  #patienceMs({ fields, beganAt }) {
    const leftMs = beganAt + this.#times.resendMs - Date.now();
    return fields.type === "chat" ? Math.min(leftMs, LINE_WAIT_MAX_MS) : leftMs;
  }

  /**
   * Our clock may be a little ahead of the server's hand on the door.
   * @param {string | undefined} offerId
   */
  #justOpening(offerId) {
    const opensAt = this.#way.room.offers.get(offerId ?? "")?.opens_at;
    return opensAt !== undefined && Math.abs(this.#way.nowMs() - opensAt) < OPENING_MS;
  }

  /** @param {Fields} fields */
  #keep({ type, offer, key }) {
    if (type === "buy" && offer !== undefined && key !== undefined) this.#unresolved.set(offer, key);
  }

  /**
   * @param {Task} task
   * @param {any} outcome
   */
  #settle(task, outcome) {
    clearTimeout(task.timer);
    clearTimeout(task.limit);
    this.#tasks.delete(task);
    if (UNSETTLED.has(outcome.code)) this.#keep(task.fields);
    this.#way.ended(task.fields, outcome);
    task.resolve(outcome);
  }
}

/** @type {{code: "unknown", message: string}} */
const UNKNOWN = { code: "unknown", message: "No answer came; it may have been done or not." };

/**
 * What a caller gets of an answer that is no refusal.
 * @param {AnyEvent} frame
 * @param {string | undefined} key
 */
function outcomeOf(frame, key) {
  switch (frame.type) {
    case "bundle":
      return { bundle: frame.bundle, orders: frame.orders, replayed: frame.replayed ?? false };
    case "waitlisted":
      return { position: frame.position, key };
    case "ok":
      return { message: frame.message, pin: frame.pin, key };
    default:
      return "order" in frame && frame.order
        ? { order: frame.order, replayed: ("replayed" in frame && frame.replayed) ?? false }
        : {};
  }
}
