// Which of a shop's products match what is typed: at once among those that are here, and by asking the
// server where the shop has more than were loaded. Called by the catalogue, which shows them.

import { ITEMS_MAX } from "./api.js";
import { act, desk } from "./host-desk.js";

const TYPED_WAIT_MS = 250;
const TYPED_MAX = 100; // of the server; who looks for more words has found it by then
const KEPT_MAX = 2 * ITEMS_MAX; // products that are here, found ones among them

let waiting = null; // until typing has paused
let sought = null; // what the server is asked for, or will be
let answered = { typed: null, ids: new Set(), more: false };

function form(text) {
  return text.normalize("NFKC").toLocaleLowerCase();
}

/** Those with every word of what is typed somewhere in the title or the SKU, newest first. */
export function matching(typed) {
  const words = form(typed).split(/\s+/).filter(Boolean);
  const said = answered.typed === typed ? answered.ids : new Set();
  return desk.products.filter((product) => {
    const text = form(`${product.title} ${product.sku}`);
    return said.has(product.id) || words.every((word) => text.includes(word));
  });
}

/** Whether the server is still to say what it finds of this. */
export function asking(typed) {
  return sought === typed;
}

/** Whether the server found more of this than it said. */
export function hasMore(typed) {
  return answered.more && answered.typed === typed;
}

/** Ask the server, too, once typing has paused; `heard` is called when there is something to show. */
export function seek(typed, heard) {
  clearTimeout(waiting);
  const elsewhere = desk.products.length >= ITEMS_MAX && typed.trim() !== "";
  sought = elsewhere && answered.typed !== typed ? typed : null;
  if (sought !== null) waiting = setTimeout(() => ask(typed, heard), TYPED_WAIT_MS);
}

async function ask(typed, heard) {
  const { api, shop } = desk;
  const q = [...typed.trim()].slice(0, TYPED_MAX).join("");
  const query = new URLSearchParams({ shop, q, limit: "200" });
  const found = await act("products", () => api.get(`/v1/products?${query}`), "");
  if (desk.api !== api || sought !== typed) return; // something else is looked for by now
  sought = null;
  if (found) {
    answered = { typed, ids: new Set(found.items.map(({ id }) => id)), more: found.next_cursor !== null };
    const others = desk.products.filter(({ id }) => !answered.ids.has(id));
    const kept = others.slice(0, KEPT_MAX - found.items.length);
    // An id begins with the time of its making.
    desk.products = [...kept, ...found.items].sort((one, other) => (one.id < other.id ? 1 : -1));
  }
  heard();
}
