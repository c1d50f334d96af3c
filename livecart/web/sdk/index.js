// @ts-check
// What livecart.js exports.

export { backoffMs, freshKey } from "./backoff.js";
export { LiveCart } from "./cart.js";
export { ServerClock } from "./clock.js";
export { FINAL_CODES } from "./closes.js";
export { MESSAGES_MAX, ORDERS_MAX, Room, TERMINAL } from "./room.js";
