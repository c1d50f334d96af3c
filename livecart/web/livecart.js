// livecart.js: the client of one stream, for browsers and Node. One ES module, no dependency.
//
// Generated from livecart/web/sdk/, where it is explained: `python -m livecart.bundle` writes it.
// SPDX-License-Identifier: Apache-2.0

const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 20_000;

function backoffMs(attempt) {
  return Math.random() * Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** attempt);
}

function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const NOT_A_MESSAGE = 4400;
const BAD_TOKEN = 4401;
const FORBIDDEN = 4403;
const NOT_FOUND = 4404;
const SILENT = 4408;
const TOO_MANY = 4429;
const DRAINING = 4503;

const LOST = 1006;

const FINAL_CODES = new Set([4400, 4401, 4403, 4404, 4413]);

const SAMPLES_MAX = 8;
const SLEPT_MS = 1_000;

class ServerClock {
  #samples = [];
  #wallOffset = Date.now() - performance.now();

  guess(serverNowMs) {
    this.#samples = [];
    this.#wallOffset = Date.now() - performance.now();
    this.#add(Infinity, serverNowMs - performance.now());
  }

  sample(sentMs, receivedMs, serverNowMs) {
    this.#add(receivedMs - sentMs, serverNowMs - (sentMs + receivedMs) / 2);
  }

  now() {
    if (this.#samples.length === 0) return Date.now();
    const best = this.#samples.reduce((a, b) => (b.rtt < a.rtt ? b : a));
    return performance.now() + best.offset;
  }

  offset() {
    return this.now() - Date.now();
  }

  slept() {
    return Math.abs(this.#sleptMs()) > SLEPT_MS;
  }

  renew() {
    if (this.#samples.length === 0) return; // there is nothing to go on from
    this.guess(this.now() + (this.slept() ? this.#sleptMs() : 0));
  }

  #sleptMs() {
    return Date.now() - performance.now() - this.#wallOffset;
  }

  #add(rtt, offset) {
    this.#samples = [...this.#samples, { rtt, offset }].slice(-SAMPLES_MAX);
  }
}

const CLOSES = new Map([
  [400, NOT_A_MESSAGE],
  [401, BAD_TOKEN],
  [403, FORBIDDEN],
  [404, NOT_FOUND],
  [429, TOO_MANY],
]);

function askedOf(base, command) {
  const root = base.slice(0, base.indexOf("/v1/") + 3);
  const [offer, order, pin] = ["offer", "order", "pin"].map((name) =>
    encodeURIComponent(String(command[name] ?? "")));
  const { qty, ticket, lines, text, kind, n, version, add, product, media_at, every_s } = command;
  const post = (/** @type {string} */ url, body = {}) => ({ method: "POST", url, body });
  switch (command.type) {
    case "buy":
      return lines
        ? post(`${base}/bundles`, { lines, ticket })
        : post(`${root}/offers/${offer}/orders`, { qty, ticket });
    case "cancel":
      return post(`${root}/orders/${order}/cancel`);
    case "extend":
      return post(`${root}/orders/${order}/extend`, { version });
    case "waitlist":
      return post(`${root}/offers/${offer}/waitlist`, { qty, ticket });
    case "waitlist.leave":
      return { method: "DELETE", url: `${root}/offers/${offer}/waitlist` };
    case "chat":
      return post(`${base}/chat`, { text });
    case "react":
      return post(`${base}/reactions`, { kind, n });
    case "pin":
      return post(`${base}/pins`, { product, offer: command.offer, media_at });
    case "unpin":
      return { method: "DELETE", url: `${base}/pins/${pin}` };
    case "offer.open":
    case "offer.close":
    case "offer.pause":
    case "offer.resume":
      return post(`${root}/offers/${offer}/${command.type.slice("offer.".length)}`);
    case "offer.restock":
      return post(`${root}/offers/${offer}/restock`, { add });
    case "chat.slow":
      return { method: "PATCH", url: base, body: { chat_every_s: every_s } };
    default:
      return null;
  }
}

async function replyOf(type, re, response) {
  const body = response.status === 204 ? {} : await response.json();
  if (!response.ok) {
    const { code = "internal", detail = "", errors, retry_after_ms } = body;
    return { type: "reject", re, code, message: detail, field: errors?.[0]?.path, retry_after_ms };
  }
  const again = response.status === 200 ? true : undefined; // of a call with a key
  const told = (/** @type {Order} */ order, again = /** @type {true | undefined} */ (undefined)) =>
    /** @type {AnyEvent} */ ({ type: `order.${order.status}`, re, order, replayed: again });
  switch (type) {
    case "buy":
      if (!("orders" in body)) return told(body, again);
      return { type: "bundle", re, ...body, replayed: again };
    case "cancel":
    case "extend":
      return told(body);
    case "waitlist":
      return body.order ? told(body.order, again) : { type: "waitlisted", re, ...body };
    case "chat":
      return { type: "ok", re, message: body };
    case "pin":
      return { type: "ok", re, pin: body };
    case "react":
      return null;
    default:
      return { type: "ok", re };
  }
}

async function refusalOf(response) {
  const problem = await response.json().catch(() => null); // a gateway's page is no document
  const retryAfterMs = Number(problem?.retry_after_ms) || 0;
  const known = typeof problem?.code === "string" || response.status === 429;
  return { code: (known && CLOSES.get(response.status)) || DRAINING, retryAfterMs };
}

class EventReader {
  #decoder = new TextDecoder();
  #rest = "";
  #name = "";
  #data = [];

  take(bytes) {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#rest = lines.pop() ?? "";
    const events = [];
    for (const line of lines) {
      const event = this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (event !== null) events.push(event);
    }
    return events;
  }

  #line(line) {
    if (line === "") {
      const event = { name: this.#name || "message", data: this.#data.join("\n") };
      const whole = this.#data.length > 0;
      this.#name = "";
      this.#data = [];
      return whole ? event : null;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#name = value;
    return null;
  }
}

const SUBPROTOCOL = "livecart.v1.json";

class SocketLink {
  kind = /** @type {const} */ ("socket");
  #socket;

  constructor(base, ears) {
    const socket = new WebSocket(`${base.replace(/^http/, "ws")}/ws`, SUBPROTOCOL);
    socket.onopen = ears.opened;
    socket.onmessage = ({ data }) => {
      ears.heard();
      ears.frame(JSON.parse(data));
    };
    socket.onclose = ({ code }) => ears.closed(code);
    socket.onerror = () => setTimeout(() => this.#socket.onclose && ears.closed(LOST));
    this.#socket = socket;
  }

  greet({ token, since }) {
    const hello = { ...(token !== null && { token }), ...(since !== null && { since }) };
    this.send({ type: "hello", id: 0, ...hello });
  }

  send(command) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(command));
  }

  close() {
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }
}

class EventsLink {
  kind = /** @type {const} */ ("events");
  #base;
  #ears;
  #abort = new AbortController();
  #token = null;

  constructor(base, ears) {
    this.#base = base;
    this.#ears = ears;
    queueMicrotask(() => this.#live && ears.opened());
  }

  greet({ token, since }) {
    this.#token = token;
    const place = since && `${since.epoch}:${since.seq}:${since.cseq}`;
    this.#follow({
      Accept: "text/event-stream",
      ...this.#authorization(),
      ...(place && { "Last-Event-ID": place }),
    });
  }

  async send(command) {
    const asked = askedOf(this.#base, command);
    const { type, id, key } = command;
    let reply;
    if (asked === null) {
      const message = "Without a WebSocket this cannot be done.";
      reply = { type: "reject", re: id, code: "unknown_type", message };
    } else {
      try {
        const response = await fetch(asked.url, {
          method: asked.method,
          headers: {
            ...this.#authorization(),
            ...(asked.body && { "Content-Type": "application/json" }),
            ...(key !== undefined && { "Idempotency-Key": key }),
          },
          body: asked.body && JSON.stringify(asked.body),
          signal: this.#abort.signal,
        });
        reply = await replyOf(type, id, response);
      } catch (error) {
        if (!this.#live) return; // the next link sends it again
        const message = error instanceof Error ? error.message : String(error);
        reply = { type: "reject", re: id, code: "retry", message };
      }
    }
    if (this.#live && reply !== null) this.#ears.frame(reply);
  }

  close() {
    this.#abort.abort();
  }

  get #live() {
    return !this.#abort.signal.aborted;
  }

  #authorization() {
    return this.#token !== null && { Authorization: `Bearer ${this.#token}` };
  }

  async #follow(headers) {
    let code = LOST;
    let retryAfterMs = 0;
    try {
      const { signal } = this.#abort;
      const response = await fetch(`${this.#base}/events`, { headers, cache: "no-store", signal });
      if (response.ok && response.body) code = await this.#read(response.body);
      else ({ code, retryAfterMs } = await refusalOf(response));
    } catch (error) {
      if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
    }
    if (this.#live) {
      this.close();
      this.#ears.closed(code, retryAfterMs);
    }
  }

  async #read(body) {
    const reader = body.getReader();
    const events = new EventReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done || !this.#live) return LOST;
      this.#ears.heard();
      for (const { name, data } of events.take(value)) {
        if (name === "close") return Number(JSON.parse(data).code);
        this.#ears.frame(JSON.parse(data));
        if (!this.#live) return LOST;
      }
    }
  }
}

class Timers {
  #running = new Map();

  after(name, ms, work) {
    this.stop(name);
    this.#running.set(
      name,
      setTimeout(() => {
        this.#running.delete(name);
        work();
      }, ms),
    );
  }

  runs(name) {
    return this.#running.has(name);
  }

  stop(name) {
    clearTimeout(this.#running.get(name));
    this.#running.delete(name);
  }

  stopAll() {
    for (const name of this.#running.keys()) this.stop(name);
  }
}

const CLOCK_PINGS = 4;

class Pulse {
  #send;
  #dead;
  #times;
  #clock;
  #heartbeatMs = 0;
  #asks = false;
  #heardAt = 0;
  #pingedAt = null;
  #timers = new Timers();

  constructor({ send, dead, times, clock }) {
    this.#send = send;
    this.#dead = dead;
    this.#times = times;
    this.#clock = clock;
  }

  heard() {
    this.#heardAt = performance.now();
  }

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

  probe() {
    if (this.#timers.runs("probe")) return;
    const askedAt = performance.now();
    if (!this.#asks) {
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

const TIMER_MAX_MS = 2 ** 31 - 1;
const AGAIN_MS = 1_000;

class Renewal {
  #parts;
  #round = 0; // of connections; what an older one asked for is not handed over
  #timers = new Timers();

  constructor(parts) {
    this.#parts = parts;
  }

  start() {
    const inMs = this.#parts.tokens.renewInMs(this.#parts.clock.now());
    if (inMs === null) return;
    this.#timers.after("renew", Math.min(inMs, TIMER_MAX_MS), () =>
      inMs > TIMER_MAX_MS ? this.start() : this.#renew(0));
  }

  stop() {
    this.#round++;
    this.#timers.stopAll();
  }

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

const AHEAD_MS = 1_800_000;
const RENEW_MIN_MS = 1_000; // between two, whatever a token and a clock say
const REFUSALS_MAX = 3; // fresh tokens in a row that the server may refuse

class Tokens {
  value;
  #ask;
  #stale;
  #refusals = 0;
  #round = 0; // of tokens that the page gave by itself
  #asking = null;

  constructor(token, ask) {
    this.value = token;
    this.#ask = ask;
    this.#stale = token === null && ask !== null;
  }

  get renewable() {
    return this.#ask !== null;
  }

  due(nowMs) {
    return this.renewable && (this.#stale || (this.endsAt() ?? Infinity) <= nowMs);
  }

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

  replace(token) {
    this.#round++;
    this.#asking = null;
    this.value = token;
    this.#stale = false;
    this.#refusals = 0;
  }

  accepted() {
    this.#refusals = 0;
  }

  refused() {
    this.#stale = true;
    return this.renewable && ++this.#refusals <= REFUSALS_MAX;
  }

  endsAt() {
    const { exp } = claimsOf(this.value);
    return typeof exp === "number" ? exp * 1000 : null;
  }

  renewInMs(nowMs) {
    const endsAt = this.endsAt();
    if (!this.renewable || endsAt === null) return null;
    const leftMs = endsAt - nowMs;
    const aheadMs = Math.min(AHEAD_MS, leftMs / 2);
    return Math.max(RENEW_MIN_MS, leftMs - aheadMs * (0.6 + 0.4 * Math.random()));
  }
}

function subjectOf(token) {
  const { sub } = claimsOf(token);
  return typeof sub === "string" ? sub : null;
}

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

const SOCKET_TRIES_MAX = 3;
const KNOWN_TRIES_MAX = 8;

class Ways {
  #both;
  #only;
  #silent = 0; // WebSockets in a row that never brought a word
  #triesMax = SOCKET_TRIES_MAX;

  constructor(allowed) {
    this.#both = allowed.includes("socket") && allowed.includes("events");
    this.#only = allowed[0] ?? "socket";
  }

  get hasOther() {
    return this.#both;
  }

  next() {
    if (!this.#both) return this.#only;
    return this.#silent < this.#triesMax ? "socket" : "events";
  }

  silent(way) {
    this.#silent = way === "socket" ? this.#silent + 1 : this.#triesMax - 1;
  }

  free() {
    this.#silent = 0;
    this.#triesMax = KNOWN_TRIES_MAX;
  }

  moved() {
    this.#triesMax = SOCKET_TRIES_MAX;
  }
}

const TRIAL_MAX_MS = 300_000;

class Connection {
  status = "idle";
  closeCode = null;
  retryAt = null;
  transport = null;

  #base;
  #ways;
  #times;
  #clock;
  #owner;
  #tokens;
  #link = null;
  #trial = null;
  #turn = 0; // of opening; an older one that waited for its token is void
  #lastId = 0;
  #replies = new Map();
  #attempt = 0;
  #trialMs;
  #welcomedAt = 0;
  #retryFloorMs = 0;
  #asleep = false;
  #pulse;
  #renewal;
  #timers = new Timers();

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

  get renewable() {
    return this.#tokens.renewable && this.#tokens.value !== null;
  }

  get subject() {
    return subjectOf(this.#tokens.value);
  }

  open() {
    if (this.#link === null && this.status !== "connecting") this.#open();
  }

  close() {
    this.#asleep = false;
    this.#drop();
    this.#say("idle", null);
  }

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

  setToken(token) {
    this.#tokens.replace(token);
    this.#drop();
    this.#attempt = 0;
    this.#open();
  }

  send(fields, answer) {
    if (this.status !== "open" || this.#link === null) return false;
    const id = ++this.#lastId;
    if (answer) this.#replies.set(id, answer);
    this.#link.send({ ...fields, id });
    return true;
  }

  probe() {
    if (this.status !== "open" && this.#clock.slept()) this.#clock.renew();
    const hopeless = this.#asleep || globalThis.navigator?.onLine === false;
    if (this.status === "waiting" && !hopeless) this.#open();
    else if (this.status === "open") this.#pulse.probe();
  }

  moved() {
    this.#ways.moved();
    this.probe();
  }

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
    const link = new (kind === "events" ? EventsLink : SocketLink)(this.#base, ears);
    this.#link = link;
    this.transport = kind;
  }

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

  #later(code) {
    this.#turn++;
    const waitMs = this.#retryFloorMs + backoffMs(this.#attempt++);
    this.#retryFloorMs = 0;
    this.retryAt = performance.now() + waitMs;
    this.#timers.after("retry", waitMs, () => this.#open());
    this.#say("waiting", code);
  }

  #say(status, code) {
    this.status = status;
    this.closeCode = code;
    this.#owner.status();
  }

  #tryLater() {
    this.#trial = null;
    this.#timers.after("trial", this.#trialMs, () => {
      this.#trialMs = Math.min(TRIAL_MAX_MS, 2 * this.#trialMs);
      const link = new SocketLink(this.#base, this.#ears(() => link));
      this.#trial = link;
    });
  }

  #adopt(link) {
    this.#trial = null;
    this.#drop();
    this.#link = link;
    this.transport = "socket";
    this.#say("connecting", null);
    this.#timers.after("welcome", this.#times.welcomeMs, () => this.#lost(SILENT));
    this.#greet();
  }

  #hand(token, done) {
    if (token === null || this.transport === "events") this.#lost(1000);
    else this.send({ type: "auth", token }, (frame) => done(frame.type !== "reject"));
  }
}

const CLOCKS_MS = 1_000; // how much our idea of the server's time may be off
const SHOWN_MAX_MS = 10_000; // how long a line that was taken may wait for its place in the chat

class Pending {
  #orders = new Map();
  #lines = new Map();
  #cancelling = new Set();
  #room;
  #nowMs;

  constructor(room, nowMs) {
    this.#room = room;
    this.#nowMs = nowMs;
  }

  begin({ type, key = "", offer = "", qty = 0, order = "", text = "", lines }) {
    if (type === "buy") {
      const wanted = lines ?? [{ offer, qty }];
      this.#orders.set(key, wanted.map((line, n) => this.#hoped(key, line.offer, line.qty, n)));
      return "orders";
    }
    if (type === "cancel") {
      this.#cancelling.add(order);
      return "orders";
    }
    if (type === "chat") {
      const { id: user = "", name = "" } = this.#room.you ?? {};
      this.#lines.set(key, { id: key, user, name, text, at: this.#nowMs(), pending: true });
      return "chat";
    }
    return null;
  }

  end({ type, key = "", order = "" }, outcome) {
    if (type === "buy") return this.#orders.delete(key) ? "orders" : null;
    if (type === "cancel") return this.#cancelling.delete(order) ? "orders" : null;
    if (type !== "chat") return null;
    const message = "message" in outcome && typeof outcome.message === "object" && outcome.message;
    if (message) {
      const expires = performance.now() + SHOWN_MAX_MS;
      this.#lines.set(key, { ...message, pending: false, expires });
    } else this.#lines.delete(key);
    return "chat";
  }

  orders() {
    const known = this.#room.myOrders();
    const keys = new Set(known.map((order) => `${order.offer} ${order.key}`));
    const hoped = [...this.#orders.values()].flat();
    return [
      ...hoped.filter((order) => !keys.has(`${order.offer} ${order.key}`)).reverse(),
      ...known.map((order) => this.#shown(order)),
    ];
  }

  chat() {
    const { messages } = this.#room;
    const known = new Set(messages.map((message) => message.id));
    const taken = new Set(); // a message is one line's, though it was said twice
    const ours = [];
    for (const [key, { expires, ...line }] of this.#lines) {
      const over = expires !== undefined && expires < performance.now();
      if (over || known.has(line.id)) this.#lines.delete(key);
      else if (line.pending && isThere(line)) continue;
      else ours.push(line);
    }
    return [...messages, ...ours];

    function isThere({ user, text, at }) {
      const said = messages.find((message) => message.user === user && message.text === text
        && message.at > at - CLOCKS_MS && !taken.has(message.id));
      if (said) taken.add(said.id);
      return said !== undefined;
    }
  }

  #shown(order) {
    return this.#cancelling.has(order.id) ? { ...order, pending: "cancelling" } : order;
  }

  #hoped(key, offerId, qty, n) {
    const offer = this.#room.offers.get(offerId);
    const unit = offer?.price_minor ?? 0;
    return {
      id: `pending ${key} ${n}`,
      status: "reserving",
      pending: "reserving",
      stream: this.#room.stream?.id ?? "",
      offer: offerId,
      product: offer?.product.id ?? "",
      viewer: this.#room.you?.id ?? "",
      qty,
      unit_price_minor: unit,
      amount_minor: unit * qty,
      currency: offer?.currency ?? "",
      key,
      reserved_at: this.#nowMs(),
    };
  }
}

const MESSAGES_MAX = 200;
const ORDERS_MAX = 200;

const TERMINAL = new Set(["expired", "cancelled", "refunded"]);

class Room {
  stream = null;
  you = null;
  viewers = 0;
  reactions = {};
  pins = [];
  messages = [];
  offers = new Map();
  orders = new Map();
  epoch = null;
  seq = 0;
  cseq = 0;
  #historySeq = 0; // recovered main events up to here are already in the snapshot

  since() {
    return this.epoch === null ? null : { epoch: this.epoch, seq: this.seq, cseq: this.cseq };
  }

  snapshot(frame) {
    if (frame.type === "welcome" && frame.you) {
      if (this.you && this.you.id !== frame.you.id) this.orders.clear();
      this.you = frame.you;
    }
    this.stream = frame.stream;
    this.viewers = frame.viewers;
    this.pins = [...frame.pins].sort((a, b) => a.position - b.position);
    this.offers = new Map(frame.offers.map((offer) => [offer.id, offer]));
    for (const order of frame.orders) this.putOrder(order);
    this.#historySeq = frame.seq;
    if (frame.recovered === true) return; // what was missed follows, from our own position on
    this.epoch = frame.epoch;
    this.seq = frame.seq;
    this.cseq = frame.cseq;
    this.messages = [];
  }

  apply(frame) {
    if (frame.type === "chat.skipped") {
      this.cseq = Math.max(this.cseq, frame.cseq);
      return null;
    }
    const numbered = /** @type {{seq?: number, cseq?: number}} */ (frame);
    for (const name of /** @type {const} */ (["seq", "cseq"])) {
      const place = numbered[name];
      if (place === undefined || !Number.isInteger(place)) continue;
      if (place <= this[name]) return "seen";
      if (place !== this[name] + 1) return "gap";
      this[name] = place;
    }
    if (this.isHistory(frame)) return null;
    return this.#effect(frame);
  }

  isHistory(frame) {
    const { seq } = /** @type {{seq?: number}} */ (frame);
    return seq !== undefined && seq <= this.#historySeq;
  }

  #effect(frame) {
    switch (frame.type) {
      case "stream.started":
        return this.#turn({
          status: "live",
          started_at: this.stream?.started_at ?? frame.at, // it may have been live before
          ...(frame.playback_url && { playback_url: frame.playback_url }),
        });
      case "stream.ended":
        return this.#turn({ status: "ended", ended_at: frame.at });
      case "pinned":
        this.pins = [frame.pin, ...this.pins.filter((pin) => pin.id !== frame.pin.id)];
        return "pins";
      case "unpinned":
        this.pins = this.pins.filter((pin) => pin.id !== frame.pin);
        return "pins";
      case "offer.scheduled":
      case "offer.opened":
      case "offer.restocked":
        return this.#putOffer(frame.offer);
      case "offer.sold_out":
        return this.#amend(frame.offer, { status: "sold_out" });
      case "offer.paused":
        return this.#amend(frame.offer, { status: "paused" });
      case "offer.closed":
        return this.#amend(frame.offer, { status: "closed" });
      case "stock":
        return this.#stock(frame);
      case "viewers":
        this.viewers = frame.count;
        return "viewers";
      case "reactions":
        this.reactions = frame.counts;
        return "reactions";
      case "chat":
        this.messages = [...this.messages, frame.message].slice(-MESSAGES_MAX);
        return "chat";
      case "chat.removed":
        this.messages = this.messages.filter((message) => message.id !== frame.message);
        return "chat";
      case "bundle":
        return frame.orders.filter((order) => this.putOrder(order)).length > 0 ? "orders" : null;
      case "order.reserved":
      case "order.confirmed":
      case "order.cancelled":
      case "order.expired":
      case "order.refunded":
      case "order.shipped":
        return this.putOrder(frame.order) ? "orders" : null;
      default:
        return null;
    }
  }

  putOrder(order) {
    const known = this.orders.get(order.id);
    if (known && known.version >= order.version) return false;
    this.orders.set(order.id, order);
    const oldest = this.orders.size > ORDERS_MAX ? this.myOrders().at(-1) : undefined;
    if (oldest) this.orders.delete(oldest.id);
    return true;
  }

  myOrders() {
    return [...this.orders.values()].sort((a, b) => b.reserved_at - a.reserved_at);
  }

  taken(offerId) {
    let units = 0;
    for (const order of this.orders.values()) {
      if (order.offer === offerId && !TERMINAL.has(order.status)) units += order.qty;
    }
    return units;
  }

  #turn(fields) {
    if (this.stream === null) return null;
    this.stream = { ...this.stream, ...fields };
    return "stream";
  }

  #putOffer(offer) {
    const known = this.offers.get(offer.id);
    const stale = known && known.epoch === offer.epoch && known.version > offer.version;
    const counts = stale ? { left: known.left, version: known.version } : {};
    this.offers.set(offer.id, { ...offer, ...counts });
    return "offers";
  }

  #amend(offerId, fields) {
    const known = this.offers.get(offerId);
    if (!known) return null;
    this.offers.set(offerId, { ...known, ...fields });
    return "offers";
  }

  #stock({ offer, left, version }) {
    const known = this.offers.get(offer);
    if (!known || version < known.version) return null;
    return this.#amend(offer, { left, version });
  }
}

class Store {
  #makers;
  #values = {};
  #stale;
  #listeners = new Set();
  #state = null;
  #due = false;

  constructor(makers) {
    this.#makers = makers;
    this.#stale = new Set(this.#parts());
  }

  get(part) {
    if (this.#stale.delete(part)) {
      const made = this.#makers[part]();
      const before = this.#values[part];
      if (!(part in this.#values) || !same(made, before)) this.#values[part] = frozen(made);
    }
    return /** @type {State[P]} */ (this.#values[part]);
  }

  get state() {
    const parts = this.#parts();
    const known = this.#state;
    for (const part of parts) this.get(part);
    if (known !== null && parts.every((part) => known[part] === this.#values[part])) return known;
    this.#state = Object.freeze(/** @type {State} */ ({ ...this.#values }));
    return this.#state;
  }

  subscribe(what, listener) {
    const pick = typeof what === "function" ? () => what(this.state) : () => this.get(what);
    const entry = { pick, listener, last: pick() };
    this.#listeners.add(entry);
    return () => void this.#listeners.delete(entry);
  }

  mark(...parts) {
    for (const part of parts) this.#stale.add(part);
    if (this.#due || this.#listeners.size === 0) return;
    this.#due = true;
    queueMicrotask(() => this.#tell());
  }

  #tell() {
    this.#due = false;
    for (const entry of [...this.#listeners]) {
      try {
        const now = entry.pick();
        if (Object.is(now, entry.last) || !this.#listeners.has(entry)) continue;
        const before = entry.last;
        entry.last = now;
        entry.listener(now, before);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  #parts() {
    return /** @type {(keyof State)[]} */ (Object.keys(this.#makers));
  }
}

function frozen(value) {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.values(value).forEach(frozen);
    Object.freeze(value);
  }
  return value;
}

function same(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const names = Object.keys(a);
  if (Array.isArray(a) !== Array.isArray(b) || names.length !== Object.keys(b).length) return false;
  return names.every((name) => name in b && same(a[name], b[name]));
}

function watchSurroundings({ wake, sleep, look, moved }) {
  const page = /** @type {Document | undefined} */ (globalThis.document);
  const network = /** @type {EventTarget | undefined} */ (
    /** @type {any} */ (globalThis.navigator)?.connection
  );
  const ended = new AbortController();
  const hear = (
    /** @type {EventTarget | undefined} */ where,
    /** @type {string} */ name,
    /** @type {() => void} */ then,
  ) => where?.addEventListener?.(name, then, { signal: ended.signal });
  const around = /** @type {EventTarget} */ (globalThis);
  hear(page, "visibilitychange", () => page?.visibilityState === "visible" && look());
  hear(page, "freeze", sleep);
  hear(page, "resume", wake);
  hear(around, "pagehide", sleep);
  hear(around, "pageshow", wake);
  hear(around, "online", look);
  hear(around, "offline", look);
  hear(network, "change", moved);
  return () => ended.abort();
}

const TASKS_MAX = 100;
const OPENING_MS = 3_000; // how long a buy at the very moment of opening may meet `not_open`
const OPENING_AGAIN_MS = 250;
const LINE_WAIT_MAX_MS = 2_000; // a line that waits longer is given back: what it answers is past
const AGAIN = new Set(["retry", "rate_limited", "internal"]);
const UNSETTLED = new Set(["unknown", "unauthenticated", "rate_limited"]);

class Tasks {
  #tasks = new Set();
  #unresolved = new Map();
  #way;
  #times;

  constructor(way, times) {
    this.#way = way;
    this.#times = times;
  }

  keyFor(offer) {
    const before = this.#unresolved.get(offer);
    this.#unresolved.delete(offer);
    return before ?? freshKey();
  }

  add(fields, fulfils = () => false) {
    if (this.#tasks.size >= TASKS_MAX) {
      this.#keep(fields);
      return Promise.resolve({ code: "rate_limited", message: "Too much is under way." });
    }
    return new Promise((resolve) => {
      const task = { fields, fulfils, resolve, attempt: 0, beganAt: Date.now() };
      task.limit = setTimeout(() => this.#settle(task, UNKNOWN), this.#times.resendMs);
      this.#tasks.add(task);
      this.#way.began(fields);
      this.#send(task);
    });
  }

  get busy() {
    return this.#tasks.size > 0;
  }

  resume() {
    for (const task of this.#tasks) this.#send(task);
  }

  pause() {
    for (const task of this.#tasks) clearTimeout(task.timer);
  }

  fail() {
    for (const task of this.#tasks) this.#settle(task, UNKNOWN);
  }

  forget() {
    this.fail();
    this.#unresolved.clear();
  }

  learn(order, replayed) {
    if (this.#unresolved.get(order.offer) === order.key) this.#unresolved.delete(order.offer);
    for (const task of this.#tasks) {
      if (task.fulfils(order)) this.#settle(task, { order, replayed });
    }
  }

  #send(task) {
    clearTimeout(task.timer);
    if (Date.now() - task.beganAt > this.#times.resendMs) {
      this.#settle(task, UNKNOWN);
      return;
    }
    if (!this.#way.send(task.fields, (frame) => this.#answered(task, frame))) return;
    task.timer = setTimeout(() => this.#send(task), this.#times.answerMs);
  }

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

  #patienceMs({ fields, beganAt }) {
    const leftMs = beganAt + this.#times.resendMs - Date.now();
    return fields.type === "chat" ? Math.min(leftMs, LINE_WAIT_MAX_MS) : leftMs;
  }

  #justOpening(offerId) {
    const opensAt = this.#way.room.offers.get(offerId ?? "")?.opens_at;
    return opensAt !== undefined && Math.abs(this.#way.nowMs() - opensAt) < OPENING_MS;
  }

  #keep({ type, offer, key }) {
    if (type === "buy" && offer !== undefined && key !== undefined) this.#unresolved.set(offer, key);
  }

  #settle(task, outcome) {
    clearTimeout(task.timer);
    clearTimeout(task.limit);
    this.#tasks.delete(task);
    if (UNSETTLED.has(outcome.code)) this.#keep(task.fields);
    this.#way.ended(task.fields, outcome);
    task.resolve(outcome);
  }
}

const UNKNOWN = { code: "unknown", message: "No answer came; it may have been done or not." };

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

const REACT_MAX = 20;
const REACT_MS = 300; // taps of so long travel together

const TIMES = {
  welcomeMs: 10_000,
  answerMs: 8_000,
  resendMs: 60_000,
  pongMs: 9_000,
  probeMs: 4_000,
  steadyMs: 10_000,
  trialMs: 5_000,
};

const PARTS = /** @type {Record<string, (keyof CartState)[]>} */ ({
  offers: ["offers", "stock"],
  all: ["stream", "you", "viewers", "reactions", "pins", "offers", "stock", "orders", "chat"],
});

class LiveCart extends EventTarget {
  room = new Room();
  clock = new ServerClock();
  #pending = new Pending(this.room, () => this.clock.now());
  #store;
  #connection;
  #tasks;
  #unwatch = null;
  #reactions = new Map();

  constructor({
    stream,
    token = null,
    getToken = null,
    origin = globalThis.location?.origin,
    transports = ["socket", "events"],
    times = {},
  }) {
    super();
    if (!origin) throw new TypeError("outside a page, LiveCart needs an origin");
    const base = `${origin.replace(/\/$/, "")}/v1/streams/${encodeURIComponent(stream)}`;
    const all = { ...TIMES, ...times };
    this.#store = new Store(this.#makers());
    this.#tasks = new Tasks(
      {
        send: (fields, answer) => this.#connection.send(fields, answer),
        renewable: () => this.#connection.renewable,
        room: this.room,
        nowMs: () => this.clock.now(),
        began: (fields) => this.#mark(this.#pending.begin(fields)),
        ended: (fields, outcome) => this.#mark(this.#pending.end(fields, outcome)),
      },
      all,
    );
    this.#connection = new Connection(
      { base, token, getToken, transports, times: all, clock: this.clock },
      {
        status: () => this.#onStatus(),
        welcomed: () => this.#tasks.resume(),
        since: () => this.room.since(),
        frame: (frame) => this.#onFrame(frame),
        tokenFailed: (error) => this.#say("token", { error }),
      },
    );
  }

  get status() {
    return this.#connection.status;
  }

  get closeCode() {
    return this.#connection.closeCode;
  }

  get retryAt() {
    return this.#connection.retryAt;
  }

  get transport() {
    return this.#connection.transport;
  }

  connect() {
    this.#unwatch ??= watchSurroundings({
      wake: () => this.#connection.wake(),
      sleep: () => this.#connection.sleep(),
      look: () => this.#connection.probe(),
      moved: () => this.#connection.moved(),
    });
    this.#connection.open();
  }

  close() {
    this.#unwatch?.();
    this.#unwatch = null;
    this.#connection.close();
  }

  setToken(token) {
    const person = this.#connection.subject ?? this.room.you?.id ?? null;
    if (subjectOf(token) !== person) this.#tasks.forget();
    this.#connection.setToken(token);
  }

  probe() {
    this.#connection.probe();
  }

  get state() {
    return this.#store.state;
  }

  get(part) {
    return this.#store.get(part);
  }

  subscribe(what, listener) {
    return this.#store.subscribe(what, listener);
  }

  buy(offer, qty, { key = this.#tasks.keyFor(offer), ticket } = {}) {
    const ours = (/** @type {Order} */ order) => order.offer === offer && order.key === key;
    return this.#tasks.add({ type: "buy", offer, qty, key, ticket }, ours);
  }

  buyBundle(lines, { key = freshKey(), ticket } = {}) {
    return this.#tasks.add({ type: "buy", lines, key, ticket });
  }

  cancel(order) {
    return this.#tasks.add(
      { type: "cancel", order },
      (known) => known.id === order && TERMINAL.has(known.status),
    );
  }

  extend(order) {
    const version = this.room.orders.get(order)?.version ?? 1;
    return this.#tasks.add({ type: "extend", order, version });
  }

  wait(offer, qty, { key = freshKey(), ticket } = {}) {
    const ours = (/** @type {Order} */ order) => order.offer === offer && order.key === key;
    return this.#tasks.add({ type: "waitlist", offer, qty, key, ticket }, ours);
  }

  leave(offer) {
    return this.#tasks.add({ type: "waitlist.leave", offer });
  }

  chat(text, { key = freshKey() } = {}) {
    return this.#tasks.add({ type: "chat", text, key });
  }

  react(kind) {
    if (this.#reactions.size === 0) setTimeout(() => this.#sendReactions(), REACT_MS);
    this.#reactions.set(kind, Math.min(REACT_MAX, (this.#reactions.get(kind) ?? 0) + 1));
  }

  moderate(type, fields) {
    const keyed = type === "offer.restock" && { key: freshKey() };
    return this.#tasks.add({ type, ...keyed, ...fields });
  }

  #sendReactions() {
    for (const [kind, n] of this.#reactions) this.#connection.send({ type: "react", kind, n });
    this.#reactions.clear();
  }

  #onFrame(frame) {
    if (frame.type === "welcome" || frame.type === "resync") {
      this.room.snapshot(frame);
      this.clock.guess(frame.now);
      this.#changed("all");
      this.#say("event", { frame, history: false });
      for (const order of frame.orders) this.#tasks.learn(order, false);
      return true;
    }
    const what = this.room.apply(frame);
    if (what === "gap") return false;
    if (what === "seen") return true;
    if (what) this.#changed(what);
    if (frame.type === "draining" || frame.type === "muted") this.#say("notice", frame);
    if (frame.type !== "pong") this.#say("event", { frame, history: this.room.isHistory(frame) });
    if ("order" in frame && frame.order) {
      this.#tasks.learn(frame.order, ("replayed" in frame && frame.replayed) || false);
    }
    return true;
  }

  #onStatus() {
    const { status, closeCode } = this.#connection;
    if (status !== "open") this.#tasks.pause();
    if (status === "stopped" && closeCode !== BAD_TOKEN) this.#tasks.fail();
    this.#store.mark("status");
    this.dispatchEvent(new Event("status"));
  }

  #changed(what) {
    this.#store.mark(...(PARTS[what] ?? [/** @type {keyof CartState} */ (what)]));
    this.#say("change", { what });
  }

  #mark(part) {
    if (part !== null) this.#store.mark(part);
  }

  #say(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #makers() {
    const { room } = this;
    return {
      stream: () => room.stream,
      you: () => room.you,
      viewers: () => room.viewers,
      reactions: () => ({ ...room.reactions }),
      pins: () => [...room.pins],
      offers: () => [...room.offers.values()],
      stock: () =>
        Object.fromEntries(
          [...room.offers.values()].map(({ id, left, quantity, status }) => [
            id,
            { left, quantity, status },
          ]),
        ),
      orders: () => this.#pending.orders(),
      chat: () => this.#pending.chat(),
      status: () => {
        const { status, closeCode, retryAt, transport } = this.#connection;
        return { status, closeCode, retryAt, transport };
      },
    };
  }
}

export { backoffMs, freshKey, LiveCart, ServerClock, FINAL_CODES, MESSAGES_MAX, ORDERS_MAX, Room, TERMINAL };
