// @ts-check
// The two ways to a stream, alike from outside: a WebSocket, and Server-Sent Events with ordinary
// HTTP calls for commands, for networks where WebSocket does not get through.
//
// A link is opened, greeted (`hello`), sent commands and closed, once; it tells its user what it
// hears. It knows nothing of coming back: that is connection.js's.

import { LOST } from "./closes.js";
import { askedOf, refusalOf, replyOf } from "./http.js";
import { EventReader } from "./sse.js";

/** @import { AnyEvent, Since } from "./protocol.d.ts" */
/** @import { Fields } from "./tasks.js" */

/**
 * `heard` also for what is no message; `closed` once, never after `close`.
 * @typedef {{opened: () => void, frame: (frame: AnyEvent) => void, heard: () => void,
 *   closed: (code: number, retryAfterMs?: number) => void}} Ears
 * @typedef {{token: string | null, since: Since | null}} Greeting
 * @typedef {{kind: "socket" | "events", greet: (greeting: Greeting) => void,
 *   send: (command: Fields & {id: number}) => void, close: () => void}} Link
 */

const SUBPROTOCOL = "livecart.v1.json";

/** @implements {Link} */
export class SocketLink {
  kind = /** @type {const} */ ("socket");
  #socket;

  /**
   * @param {string} base the stream's URL over HTTP
   * @param {Ears} ears
   */
  constructor(base, ears) {
    const socket = new WebSocket(`${base.replace(/^http/, "ws")}/ws`, SUBPROTOCOL);
    socket.onopen = ears.opened;
    socket.onmessage = ({ data }) => {
      ears.heard();
      ears.frame(JSON.parse(data));
    };
    socket.onclose = ({ code }) => ears.closed(code);
    // A browser's `error` is followed by `close` at once; in Node 20 nothing may follow it.
    socket.onerror = () => setTimeout(() => this.#socket.onclose && ears.closed(LOST));
    this.#socket = socket;
  }

  /** @param {Greeting} greeting */
  greet({ token, since }) {
    const hello = { ...(token !== null && { token }), ...(since !== null && { since }) };
    this.send({ type: "hello", id: 0, ...hello });
  }

  /** @param {Fields & {id: number}} command */
  send(command) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(command));
  }

  close() {
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }
}

/** @implements {Link} */
export class EventsLink {
  kind = /** @type {const} */ ("events");
  #base;
  #ears;
  #abort = new AbortController();
  /** @type {string | null} */
  #token = null;

  /**
   * @param {string} base the stream's URL over HTTP
   * @param {Ears} ears
   */
  constructor(base, ears) {
    this.#base = base;
    this.#ears = ears;
    queueMicrotask(() => this.#live && ears.opened());
  }

  /** @param {Greeting} greeting */
  greet({ token, since }) {
    this.#token = token;
    const place = since && `${since.epoch}:${since.seq}:${since.cseq}`;
    this.#follow({
      Accept: "text/event-stream",
      ...this.#authorization(),
      ...(place && { "Last-Event-ID": place }),
    });
  }

  /** @param {Fields & {id: number}} command */
  async send(command) {
    const asked = askedOf(this.#base, command);
    const { type, id, key } = command;
    /** @type {AnyEvent | null} */
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

  /** @param {Record<string, string>} headers */
  async #follow(headers) {
    let code = LOST;
    let retryAfterMs = 0;
    try {
      const { signal } = this.#abort;
      const response = await fetch(`${this.#base}/events`, { headers, cache: "no-store", signal });
      if (response.ok && response.body) code = await this.#read(response.body);
      else ({ code, retryAfterMs } = await refusalOf(response));
    } catch (error) {
      // A break of the network is not told apart from a server that is away: both are LOST.
      if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
    }
    if (this.#live) {
      this.close();
      this.#ears.closed(code, retryAfterMs);
    }
  }

  /**
   * Tell events until the last; returns the code that it ended with.
   * @param {ReadableStream<Uint8Array>} body
   */
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
