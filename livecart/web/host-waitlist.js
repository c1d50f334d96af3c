// Who waits for units of an offer, first come first. Read again and again while it is open: units
// that come back, and other hosts, move it. Called by the cards.

import { Problem } from "./api.js";
import { at, h, keyed, say, tell } from "./dom.js";
import { desk, problemText } from "./host-desk.js";
import { shown } from "./host-dialog.js";
import { number, t, timeText } from "./text.js";

const AGAIN_MS = 1_500; // as often as the cards

/** Show the list of an offer, as it is, until the host closes it. */
export async function openWaitlist({ id, product }) {
  say(at("waitlist-title"), t("waitlist_of", { what: product.title }));
  tell(at("waitlist-outcome"), t("loading"));
  at("waitlist-empty").hidden = true;
  at("waitlist").replaceChildren();
  let open = true;
  const closed = shown(at("waitlist-dialog")).then(() => {
    open = false;
  });
  while (open) {
    if (!document.hidden) await read(id, () => open);
    await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, AGAIN_MS))]);
  }
}

/** Ask who waits, and show it unless the list was closed meanwhile. */
async function read(id, open) {
  try {
    const { items } = await desk.api.get(`/v1/offers/${id}/waitlist?limit=200`);
    if (!open()) return;
    tell(at("waitlist-outcome"), "");
    at("waitlist-empty").hidden = items.length > 0;
    keyed(at("waitlist"), items, (one) => one.viewer, makeRow, updateRow);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (!open()) return;
    if (problem.status === 401) desk.signOut(t("token_bad"));
    else tell(at("waitlist-outcome"), problemText(problem), "bad");
  }
}

function makeRow({ viewer }) {
  return h("li", { class: "entry" }, h("b"), h("span", { class: "wide" }, t("buyer", { id: viewer })),
    h("span"), h("span", { class: "dim" }));
}

function updateRow({ children: [position, , qty, joined] }, one) {
  say(position, number(one.position));
  say(qty, `× ${number(one.qty)}`);
  say(joined, timeText(one.joined_at));
}
