// livecart.js: the client of one stream. ES module, no dependency.
//
//   import { LiveCart } from "/static/livecart.js";
//   const cart = new LiveCart({ stream: "st_…", token });   // no token: a guest
//   cart.addEventListener("change", () => render(cart.room));
//   cart.connect();
//   const outcome = await cart.buy("of_…", 1);  // {order, replayed} or {code, message}
//
// Owns the WebSocket: hello, recovery, back-off, silence, the server's clock, and the sending again
// of unanswered commands under the same key. Knows no DOM. Events: `change` (detail.what: a part of
// the room), `status` (see `status`, `closeCode`, `retryAt`), `notice` (detail: a `muted` or
// `draining` frame).

import { ServerClock } from "./clock.js";
import { Room, TERMINAL } from "./room.js";

export { Room, ServerClock };

const SUBPROTOCOL = "livecart.v1.json";
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 20_000;
const WELCOME_WAIT_MS = 10_000;
const ANSWER_WAIT_MS = 8_000;
const PONG_WAIT_MS = 9_000; // silence since a `ping` for so long: the connection is dead
const PROBE_WAIT_MS = 4_000; // the same, when the page has just come back and somebody looks
const STEADY_MS = 10_000; // a connection that lasted so long starts back-off anew
const RESEND_MS = 60_000; // after that an intention is old: ask the person, not the server
const OPENING_MS = 3_000; // how long a buy at the very moment of opening may meet `not_open`
const REACT_MAX = 20;
const TASKS_MAX = 100;
const CLOCK_PINGS = 4;

/** Close codes after which the same attempt can only fail again (protocol, section 3). */
export const FINAL_CODES = new Set([4400, 4401, 4403, 4404, 4413]);
const AGAIN = new Set(["retry", "rate_limited", "internal"]);

/** Full jitter: anywhere below a ceiling that doubles from 0.5 s to 20 s. */
export function backoffMs(attempt) {
  return Math.random() * Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** attempt);
}

/** A fresh idempotency key; works on plain http too, where crypto.randomUUID does not exist. */
export function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class LiveCart extends EventTarget {
  status = "idle"; // idle, connecting, open, waiting (for the next attempt), stopped (for good)
  closeCode = null;
  retryAt = null; // performance.now() of the next attempt while waiting
  room = new Room();
  clock = new ServerClock();

  #url;
  #token;
  #socket = null;
  #lastId = 0;
  #replies = new Map(); // command id -> what to do with its answer; emptied with the socket
  #tasks = new Set(); // commands to be sent again until answered
  #unresolved = new Map(); // offer id -> {qty, key} of a buy whose outcome was never learnt
  #reactions = new Map(); // kind -> taps not sent yet
  #attempt = 0;
  #openedAt = 0;
  #heardAt = 0;
  #pingedAt = null; // of the ping that waits for its pong
  #heartbeatMs = 20_000;
  #retryFloorMs = 0;
  #timers = {};

  constructor({ stream, token = null, origin = location.origin }) {
    super();
    const path = `/v1/streams/${encodeURIComponent(stream)}/ws`;
    this.#url = origin.replace(/^http/, "ws") + path;
    this.#token = token;
  }

  connect() {
    if (this.#socket === null) this.#open();
  }

  /** Leave on purpose; `connect` starts again. */
  close() {
    this.#forget();
    this.#say("idle", null);
  }

  /** Go on with another token (null: as a guest). */
  setToken(token) {
    this.#token = token;
    this.#forget();
    this.#attempt = 0;
    this.#open();
  }

  // --- commands ---

  /** Buy; resolves to {order, replayed}, or {code, message} (`unknown`: no answer in a minute). */
  buy(offer, qty) {
    // Asked again after an outcome that was never learnt, the purchase keeps its key: should the
    // first one have gone through after all, this one is its replay and not a second order.
    const before = this.#unresolved.get(offer);
    const key = before?.qty === qty ? before.key : freshKey();
    this.#unresolved.delete(offer);
    return this.#persist(
      { type: "buy", offer, qty, key },
      (order) => order.offer === offer && order.key === key,
    );
  }

  /** Give a held order back; resolves to {order} or {code, message}. */
  cancel(order) {
    return this.#persist(
      { type: "cancel", order },
      (known) => known.id === order && TERMINAL.has(known.status),
    );
  }

  /** Wait for units of a sold-out offer; resolves to {position, key}, or as `buy` does. */
  wait(offer, qty) {
    const key = freshKey();
    return this.#persist(
      { type: "waitlist", offer, qty, key },
      (order) => order.offer === offer && order.key === key,
    );
  }

  /** Wait no more; resolves to {} or {code, message}. */
  leave(offer) {
    return this.#persist({ type: "waitlist.leave", offer }, () => false);
  }

  /** Speak; resolves to {message: Message} or {code, message: why}. */
  chat(text) {
    return this.#persist({ type: "chat", text, key: freshKey() }, () => false);
  }

  /** React; taps of a moment travel together. */
  react(kind) {
    this.#reactions.set(kind, Math.min(REACT_MAX, (this.#reactions.get(kind) ?? 0) + 1));
    this.#timers.react ??= setTimeout(() => {
      delete this.#timers.react;
      if (this.status === "open") {
        for (const [taps, n] of this.#reactions) this.#send({ type: "react", kind: taps, n });
      }
      this.#reactions.clear();
    }, 300);
  }

  /** Host: `mute`, `unmute`, `ban` {user}, `chat.remove` {message}; resolves to {} or {code, …}. */
  moderate(type, fields) {
    return this.#persist({ type, ...fields }, () => false);
  }

  /** Make sure at once that the line is alive (the page came back, the network changed). */
  probe() {
    if (this.status === "waiting") this.#open();
    else if (this.status === "open") {
      this.clock.renew();
      this.#measure();
      const askedAt = performance.now();
      clearTimeout(this.#timers.probe);
      this.#timers.probe = setTimeout(() => {
        if (this.#heardAt < askedAt) this.#lost(4408);
      }, PROBE_WAIT_MS);
    }
  }

  // --- connection ---

  #open() {
    clearTimeout(this.#timers.retry);
    const socket = new WebSocket(this.#url, SUBPROTOCOL);
    this.#socket = socket;
    this.#say("connecting", null);
    this.#timers.welcome = setTimeout(() => this.#lost(4408), WELCOME_WAIT_MS);
    socket.onopen = () => {
      const since = this.room.since();
      this.#send({
        type: "hello",
        ...(this.#token !== null && { token: this.#token }),
        ...(since !== null && { since }),
      });
    };
    socket.onmessage = (event) => socket === this.#socket && this.#receive(event.data);
    socket.onclose = (event) => socket === this.#socket && this.#lost(event.code);
  }

  #send(fields, answer) {
    const id = ++this.#lastId;
    if (answer) this.#replies.set(id, answer);
    this.#socket.send(JSON.stringify({ id, ...fields }));
    return id;
  }

  /** Let go of the socket and of everything that belonged to it. */
  #forget() {
    const socket = this.#socket;
    this.#socket = null;
    this.#replies.clear();
    this.#pingedAt = null;
    for (const name of ["retry", "welcome", "beat", "probe"]) clearTimeout(this.#timers[name]);
    for (const task of this.#tasks) clearTimeout(task.timer);
    socket?.close();
  }

  #lost(code) {
    this.#forget();
    if (FINAL_CODES.has(code)) {
      if (code !== 4401) for (const task of this.#tasks) this.#settle(task, { code: "unknown" });
      this.#say("stopped", code);
      return;
    }
    if (this.#openedAt > 0 && performance.now() - this.#openedAt > STEADY_MS) this.#attempt = 0;
    this.#openedAt = 0;
    if (code === 4429) this.#attempt = Math.max(this.#attempt, 3); // we were too eager
    const waitMs = this.#retryFloorMs + backoffMs(this.#attempt++);
    this.#retryFloorMs = 0;
    this.retryAt = performance.now() + waitMs;
    this.#timers.retry = setTimeout(() => this.#open(), waitMs);
    this.#say("waiting", code);
  }

  #say(status, code) {
    this.status = status;
    this.closeCode = code;
    this.dispatchEvent(new Event("status"));
  }

  #changed(what) {
    this.dispatchEvent(new CustomEvent("change", { detail: { what } }));
  }

  #receive(data) {
    this.#heardAt = performance.now();
    const frame = JSON.parse(data);
    if (frame.type === "welcome" || frame.type === "resync") this.#welcomed(frame);
    else {
      const what = this.room.apply(frame);
      if (what === "gap") {
        this.#lost(1000); // comes back with `since`
        return;
      }
      if (what) this.#changed(what);
      if (frame.order) this.#learn(frame.order, frame.replayed ?? false);
      this.#notice(frame);
    }
    const answer = this.#replies.get(frame.re);
    this.#replies.delete(frame.re);
    answer?.(frame);
  }

  #notice(frame) {
    if (frame.type === "draining") this.#retryFloorMs = frame.retry_after_ms;
    if (frame.type === "draining" || frame.type === "muted") {
      this.dispatchEvent(new CustomEvent("notice", { detail: frame }));
    }
  }

  #welcomed(frame) {
    this.room.snapshot(frame);
    this.clock.guess(frame.now);
    this.#heartbeatMs = frame.heartbeat_ms;
    this.#changed("all");
    for (const order of frame.orders) this.#learn(order, false);
    if (frame.type === "resync") return;
    clearTimeout(this.#timers.welcome);
    this.#openedAt = performance.now();
    this.#say("open", null);
    this.#measure();
    this.#beat();
    for (const task of this.#tasks) this.#sendTask(task);
  }

  // --- silence and the clock ---

  #measure(left = CLOCK_PINGS) {
    this.#ping((alive) => alive && left > 1 && this.#measure(left - 1));
  }

  #ping(then) {
    const sentAt = performance.now();
    this.#pingedAt ??= sentAt;
    this.#send({ type: "ping", t0: Math.round(sentAt) }, (frame) => {
      this.#pingedAt = null;
      if (frame.type === "pong") this.clock.sample(sentAt, performance.now(), frame.now);
      then?.(frame.type === "pong");
    });
  }

  #beat() {
    clearTimeout(this.#timers.beat);
    this.#timers.beat = setTimeout(() => {
      const now = performance.now();
      const silentMs = now - this.#heardAt;
      // A browser slows the timers of a hidden page, so silence alone proves nothing: only a
      // ping of ours that stayed unanswered does.
      const unanswered = this.#pingedAt !== null && now - this.#pingedAt > PONG_WAIT_MS;
      if (unanswered && silentMs > PONG_WAIT_MS) {
        this.#lost(4408);
        return;
      }
      if (this.clock.slept()) this.probe();
      else if (this.#pingedAt === null) this.#ping();
      this.#beat();
    }, this.#heartbeatMs / 2);
  }

  // --- commands that must be answered ---

  #persist(fields, fulfils) {
    if (this.#tasks.size >= TASKS_MAX) return Promise.resolve({ code: "rate_limited" });
    return new Promise((resolve) => {
      const task = { fields, fulfils, resolve, attempt: 0, timer: null, since: performance.now() };
      task.limit = setTimeout(() => this.#settle(task, { code: "unknown" }), RESEND_MS);
      this.#tasks.add(task);
      this.#sendTask(task);
    });
  }

  #sendTask(task) {
    clearTimeout(task.timer);
    if (this.status !== "open") return; // `welcome` sends it
    this.#send(task.fields, (frame) => this.#answered(task, frame));
    task.timer = setTimeout(() => this.#sendTask(task), ANSWER_WAIT_MS);
  }

  #answered(task, frame) {
    if (!this.#tasks.has(task)) return;
    if (frame.type !== "reject") {
      const { order, replayed = false, message, position } = frame;
      const { key } = task.fields;
      this.#settle(task, order ? { order, replayed } : { message, position, key });
      return;
    }
    const opening = frame.code === "not_open" && this.#justOpening(task.fields.offer);
    if (AGAIN.has(frame.code) || opening) {
      const waitMs = opening ? 250 : backoffMs(task.attempt++);
      clearTimeout(task.timer);
      task.timer = setTimeout(() => this.#sendTask(task), waitMs + (frame.retry_after_ms ?? 0));
      return;
    }
    this.#settle(task, frame);
  }

  /** Our clock may be a little ahead of the server's hand on the door. */
  #justOpening(offerId) {
    const opensAt = this.room.offers.get(offerId)?.opens_at;
    return Number.isInteger(opensAt) && Math.abs(this.clock.now() - opensAt) < OPENING_MS;
  }

  /** An order event, or the list in `welcome`, may answer a command whose reply was lost. */
  #learn(order, replayed) {
    if (this.#unresolved.get(order.offer)?.key === order.key) this.#unresolved.delete(order.offer);
    for (const task of this.#tasks) {
      if (task.fulfils(order)) this.#settle(task, { order, replayed });
    }
  }

  #settle(task, outcome) {
    clearTimeout(task.timer);
    clearTimeout(task.limit);
    this.#tasks.delete(task);
    const { type, offer, qty, key } = task.fields;
    if (type === "buy" && outcome.code === "unknown") this.#unresolved.set(offer, { qty, key });
    task.resolve(outcome);
  }
}
