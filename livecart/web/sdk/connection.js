// @ts-check
// One stream's connection over time: which way to it, coming back, the token, silence.
//
// Owns back-off, the choice between WebSocket and Server-Sent Events, and renewal of the token.
// Knows no order and no offer: frames go to whoever made it, which says whether one before was
// missed.

import { backoffMs } from "./backoff.js";
import { BAD_TOKEN, FINAL_CODES, LOST, SILENT, TOO_MANY } from "./closes.js";
import { EventsLink, SocketLink } from "./links.js";
import { Pulse } from "./pulse.js";
import { Renewal } from "./renewal.js";
import { Timers } from "./timers.js";
import { subjectOf, Tokens } from "./tokens.js";
import { Ways } from "./ways.js";

/** @import { AnyEvent, Since, Welcome } from "./protocol.d.ts" */
/** @import { Status, Times } from "./livecart.d.ts" */
/** @import { Ears, Link } from "./links.js" */
/** @import { Fields } from "./tasks.js" */
/** @import { ServerClock } from "./clock.js" */

/**
 * Whom a connection tells. `frame` answers false when an event before this one is missing.
 * @typedef {{status: () => void, welcomed: () => void, since: () => Since | null,
 *   frame: (frame: AnyEvent) => boolean, tokenFailed: (error: unknown) => void}} Owner
 */

const TRIAL_MAX_MS = 300_000;

export class Connection {
  /** @type {Status} */
  status = "idle";
  /** @type {number | null} */
  closeCode = null;
  /** @type {number | null} performance.now() of the next attempt while waiting */
  retryAt = null;
  /** @type {"socket" | "events" | null} */
  transport = null;

  #base;
  #ways;
  #times;
  #clock;
  #owner;
  #tokens;
  /** @type {Link | null} */
  #link = null;
  /** @type {Link | null} a WebSocket that is tried beside a link of events */
  #trial = null;
  #turn = 0; // of opening; an older one that waited for its token is void
  #lastId = 0;
  /** @type {Map<number, (frame: AnyEvent) => void>} by command; emptied with the link */
  #replies = new Map();
  #attempt = 0;
  #trialMs;
  #welcomedAt = 0;
  #retryFloorMs = 0;
  #asleep = false;
  #pulse;
  #renewal;
  /** @type {Timers<"retry" | "welcome" | "trial">} */
  #timers = new Timers();

  /**
   * @param {{base: string, token: string | null, getToken: (() => Promise<string | null>) | null,
   *   transports: readonly ("socket" | "events")[], times: Times, clock: ServerClock}} options
   * @param {Owner} owner
   */
  constructor({ base, token, getToken, transports, times, clock }, owner) {
    this.#base = base;
    this.#ways = new Ways(transports);
    this.#times = times;
    this.#trialMs = times.trialMs;
    this.#clock = clock;
    this.#owner = owner;
    const tokens = new Tokens(token, getToken);
    this.#tokens = tokens;
    this.#renewal = new Renewal({
      tokens,
      clock,
      failed: owner.tokenFailed,
      hand: (fresh, done) => this.#hand(fresh, done),
    });
    this.#pulse = new Pulse({
      send: (fields, answer) => this.send(fields, answer),
      dead: () => this.#lost(SILENT),
      times,
      clock,
    });
  }

  /** Whether a refusal may be the token's, which is replaced by a fresh one then. */
  get renewable() {
    return this.#tokens.renewable && this.#tokens.value !== null;
  }

  /** Whose token it goes by; null: a guest's, or it does not say. */
  get subject() {
    return subjectOf(this.#tokens.value);
  }

  /** Connect, at once if it was about to later. */
  open() {
    if (this.#link === null && this.status !== "connecting") this.#open();
  }

  /** Leave on purpose; `open` starts again. */
  close() {
    this.#asleep = false;
    this.#drop();
    this.#say("idle", null);
  }

  /** Nothing runs from now on: let go, to come back by `wake`. */
  sleep() {
    if (this.#asleep || this.status === "idle" || this.status === "stopped") return;
    this.#asleep = true;
    this.#drop();
    this.retryAt = null;
    this.#say("waiting", null);
  }

  wake() {
    if (!this.#asleep) return;
    this.#attempt = 0;
    this.open();
  }

  /**
   * Go on with another token (null: as a guest).
   * @param {string | null} token
   */
  setToken(token) {
    this.#tokens.replace(token);
    this.#drop();
    this.#attempt = 0;
    this.#open();
  }

  /**
   * Send a command; false when there is no connection to send it by.
   * @param {Fields} fields
   * @param {((frame: AnyEvent) => void)=} answer
   */
  send(fields, answer) {
    if (this.status !== "open" || this.#link === null) return false;
    const id = ++this.#lastId;
    if (answer) this.#replies.set(id, answer);
    this.#link.send({ ...fields, id });
    return true;
  }

  /** Make sure at once that the line is alive (the page came back, the network changed). */
  probe() {
    // Whether the token has ended, and how long something is held, is asked before there is a line.
    if (this.status !== "open" && this.#clock.slept()) this.#clock.renew();
    const hopeless = this.#asleep || globalThis.navigator?.onLine === false;
    if (this.status === "waiting" && !hopeless) this.#open();
    else if (this.status === "open") this.#pulse.probe();
  }

  /** The network is another one. */
  moved() {
    this.#ways.moved();
    this.probe();
  }

  // --- opening ---

  #open() {
    this.#asleep = false;
    this.#timers.stop("retry");
    const turn = ++this.#turn;
    this.retryAt = null;
    this.#timers.after("welcome", this.#times.welcomeMs, () => this.#lost(SILENT));
    this.#say("connecting", null);
    if (turn !== this.#turn) return; // whoever was told has closed it
    if (!this.#tokens.due(this.#clock.now())) {
      this.#dial();
      return;
    }
    this.#tokens.fetch().then(
      () => turn === this.#turn && this.#dial(),
      (error) => {
        if (turn !== this.#turn) return;
        this.#drop();
        this.#owner.tokenFailed(error);
        this.#later(BAD_TOKEN);
      },
    );
  }

  #dial() {
    const kind = this.#ways.next();
    const ears = this.#ears(() => link);
    /** @type {Link} */
    const link = new (kind === "events" ? EventsLink : SocketLink)(this.#base, ears);
    this.#link = link;
    this.transport = kind;
  }

  /** @type {(own: () => Link) => Ears} what a link hears with */
  #ears(own) {
    const ours = () => own() === this.#link;
    const tried = () => own() === this.#trial;
    return {
      opened: () => {
        if (tried()) this.#adopt(own());
        else if (ours()) this.#greet();
      },
      heard: () => void (ours() && this.#pulse.heard()),
      frame: (frame) => void (ours() && this.#receive(frame)),
      closed: (code, retryAfterMs = 0) => {
        if (tried()) this.#tryLater();
        if (!ours()) return;
        this.#retryFloorMs = Math.max(this.#retryFloorMs, retryAfterMs);
        this.#lost(code);
      },
    };
  }

  #greet() {
    this.#link?.greet({ token: this.#tokens.value, since: this.#owner.since() });
  }

  /** @param {AnyEvent} frame */
  #receive(frame) {
    const link = this.#link;
    if (frame.type === "draining") this.#retryFloorMs = frame.retry_after_ms;
    const whole = this.#owner.frame(frame);
    if (link !== this.#link) return; // whoever was told has closed it
    if (!whole) return this.#lost(1000); // comes back with `since`
    if (frame.type === "welcome") this.#welcomed(frame);
    const re = "re" in frame ? (frame.re ?? null) : null;
    if (re === null) return;
    const answer = this.#replies.get(re);
    this.#replies.delete(re);
    answer?.(frame);
  }

  /** @param {Welcome} frame */
  #welcomed(frame) {
    this.#timers.stop("welcome");
    this.#welcomedAt = performance.now();
    this.#tokens.accepted();
    const bySocket = this.transport === "socket";
    if (bySocket) {
      this.#ways.free();
      this.#trialMs = this.#times.trialMs;
    } else if (this.#ways.hasOther) this.#tryLater();
    this.#renewal.start();
    this.#say("open", null);
    if (this.status !== "open") return; // whoever was told has closed it
    this.#pulse.start(frame.heartbeat_ms, bySocket);
    this.#owner.welcomed();
  }

  // --- ending ---

  /** Let go of the link and of everything that belonged to it. */
  #drop() {
    this.#turn++;
    const link = this.#link;
    this.#link = null;
    this.#welcomedAt = 0;
    this.transport = null;
    this.#replies.clear();
    this.#timers.stopAll();
    this.#pulse.stop();
    this.#renewal.stop();
    this.#trial?.close();
    this.#trial = null;
    link?.close();
  }

  /** @param {number} code */
  #lost(code) {
    const welcomed = this.#welcomedAt > 0;
    if (this.transport && !welcomed && (code === LOST || code === SILENT)) {
      this.#ways.silent(this.transport);
    }
    const steady = welcomed && performance.now() - this.#welcomedAt > this.#times.steadyMs;
    this.#drop();
    const renewed = code === BAD_TOKEN && this.#tokens.refused();
    if (FINAL_CODES.has(code) && !renewed) return this.#say("stopped", code);
    if (steady) this.#attempt = 0;
    if (code === TOO_MANY) this.#attempt = Math.max(this.#attempt, 3); // we were too eager
    this.#later(code);
  }

  /** @param {number} code */
  #later(code) {
    this.#turn++;
    const waitMs = this.#retryFloorMs + backoffMs(this.#attempt++);
    this.#retryFloorMs = 0;
    this.retryAt = performance.now() + waitMs;
    this.#timers.after("retry", waitMs, () => this.#open());
    this.#say("waiting", code);
  }

  /**
   * @param {Status} status
   * @param {number | null} code
   */
  #say(status, code) {
    this.status = status;
    this.closeCode = code;
    this.#owner.status();
  }

  // --- back to WebSocket ---

  #tryLater() {
    this.#trial = null;
    this.#timers.after("trial", this.#trialMs, () => {
      this.#trialMs = Math.min(TRIAL_MAX_MS, 2 * this.#trialMs);
      /** @type {Link} */
      const link = new SocketLink(this.#base, this.#ears(() => link));
      this.#trial = link;
    });
  }

  /**
   * WebSocket gets through again: go on by it, from where we are.
   * @param {Link} link
   */
  #adopt(link) {
    this.#trial = null;
    this.#drop();
    this.#link = link;
    this.transport = "socket";
    this.#say("connecting", null);
    this.#timers.after("welcome", this.#times.welcomeMs, () => this.#lost(SILENT));
    this.#greet();
  }

  // --- the token ---

  /**
   * Say `auth`; events have no such word, so come back by the fresh one.
   * @param {string | null} token
   * @param {(taken: boolean) => void} done
   */
  #hand(token, done) {
    if (token === null || this.transport === "events") this.#lost(1000);
    else this.send({ type: "auth", token }, (frame) => done(frame.type !== "reject"));
  }
}
