// @ts-check
// Commands as HTTP calls, and their answers as the frames that a WebSocket would have brought.
//
// Pure but for reading a response's body. Moderation of people and messages has no HTTP call.

import { BAD_TOKEN, DRAINING, FORBIDDEN, NOT_A_MESSAGE, NOT_FOUND, TOO_MANY } from "./closes.js";

/** @import { AnyEvent, Order } from "./protocol.d.ts" */
/** @import { Fields } from "./tasks.js" */

/** What a refused `events` call means, in the close codes of a WebSocket. */
const CLOSES = new Map([
  [400, NOT_A_MESSAGE],
  [401, BAD_TOKEN],
  [403, FORBIDDEN],
  [404, NOT_FOUND],
  [429, TOO_MANY],
]);

/**
 * The call that a command is; null where there is none.
 * @param {string} base the stream's URL
 * @param {Fields} command
 * @returns {{method: string, url: string, body?: object} | null}
 */
export function askedOf(base, command) {
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

/**
 * The frame that answers a command.
 * @param {string} type the command's
 * @param {number} re its id
 * @param {Response} response
 * @returns {Promise<AnyEvent | null>} null: nobody waits for one
 */
export async function replyOf(type, re, response) {
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

/**
 * Why a stream could not be followed, as a close code, and for how long not to ask again.
 * @param {Response} response
 */
export async function refusalOf(response) {
  const problem = await response.json().catch(() => null); // a gateway's page is no document
  const retryAfterMs = Number(problem?.retry_after_ms) || 0;
  // What a gateway on the way refuses is over when it is: only the server's own word is final.
  const known = typeof problem?.code === "string" || response.status === 429;
  return { code: (known && CLOSES.get(response.status)) || DRAINING, retryAfterMs };
}
