// Who waits for units of an offer, first come first. Read when it is opened; called by the cards.

import { Problem } from "./api.js";
import { at, h, keyed, say, tell } from "./dom.js";
import { desk, problemText } from "./host-desk.js";
import { shown } from "./host-dialog.js";
import { number, t, timeText } from "./text.js";

/** Show the list of an offer. */
export async function openWaitlist(offer) {
  say(at("waitlist-title"), t("waitlist_of", { what: offer.product.title }));
  tell(at("waitlist-outcome"), t("loading"));
  at("waitlist-empty").hidden = true;
  at("waitlist").replaceChildren();
  const closed = shown(at("waitlist-dialog"));
  try {
    const { items } = await desk.api.get(`/v1/offers/${offer.id}/waitlist?limit=200`);
    tell(at("waitlist-outcome"), "");
    at("waitlist-empty").hidden = items.length > 0;
    keyed(at("waitlist"), items, (one) => one.viewer, (one) =>
      h("li", { class: "entry" }, h("b", {}, number(one.position)),
        h("span", { class: "wide" }, t("buyer", { id: one.viewer })),
        h("span", {}, `× ${number(one.qty)}`),
        h("span", { class: "dim" }, timeText(one.joined_at))));
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    tell(at("waitlist-outcome"), problemText(problem), "bad");
  }
  return closed;
}
