// The queue of comments that could not be read as orders: the host reads them, and orders for who
// wrote them or lets them go. The queue is the server's; two hosts see the same.

import { at, h, keyed, say } from "./dom.js";
import { act, button, desk } from "./host-desk.js";
import { number, t, timeText } from "./text.js";

const settling = new Set(); // comments whose call is under way

/** Wire the two faces of the panel, once. */
export function wireComments() {
  at("talk-chat").addEventListener("click", () => face(false));
  at("talk-comments").addEventListener("click", () => face(true));
}

function face(comments) {
  at("talk-chat").setAttribute("aria-pressed", String(!comments));
  at("talk-comments").setAttribute("aria-pressed", String(comments));
  at("comments-box").hidden = !comments;
  at("messages").hidden = at("chat-form").hidden = at("slow-label").hidden = comments;
}

/** Show the queue. */
export function showComments() {
  say(at("talk-comments"), t("comments", { n: number(desk.comments.length) }));
  at("comments-empty").hidden = desk.comments.length > 0;
  keyed(at("comments"), desk.comments, ({ id }) => id, makeComment, updateComment);
}

function makeComment(comment) {
  const offer = h("select", { "aria-label": t("field_product") });
  const qty = h("input", { type: "number", min: 1, max: 1000, value: 1, "aria-label": t("qty") });
  const order = button(t("order_it"), () => settle(comment.id, "order", {
    offer: offer.value, qty: qty.valueAsNumber,
  }), "small primary");
  offer.addEventListener("change", () => updateComment(item, comment));
  const item = h("li", { class: "order unread" },
    h("p", { class: "facts" }, h("b", {}, comment.name ?? comment.viewer),
      h("span", { class: "dim" }, timeText(comment.at)),
      comment.why ? h("span", { class: "chip" }, whyText(comment.why)) : null),
    h("p", { class: "quote" }, comment.text),
    h("div", { class: "row" }, offer, qty, order,
      button(t("dismiss"), () => settle(comment.id, "dismiss", {}), "small")));
  item.parts = { offer, order };
  return item;
}

function whyText(why) {
  return ["ambiguous", "unreadable"].includes(why) ? t(`unread_${why}`) : why;
}

/** Offer what is on sale; a chosen offer that is gone becomes none, never the next one. */
function updateComment({ parts }, { id: comment }) {
  const chosen = parts.offer.value;
  const sold = desk.offers.filter(({ status }) => ["open", "sold_out", "paused"].includes(status));
  const choices = [{ id: "", product: { title: "–" } }, ...sold];
  keyed(parts.offer, choices, ({ id }) => id, ({ id, product }) => h("option", { value: id }, product.title));
  parts.offer.value = sold.some(({ id }) => id === chosen) ? chosen : "";
  parts.order.disabled = settling.has(comment) || parts.offer.value === "";
}

async function settle(id, how, body) {
  if (settling.has(id)) return;
  settling.add(id);
  showComments();
  try {
    await act("chat", () => desk.api.post(`/v1/comments/${id}/${how}`, body));
  } finally {
    settling.delete(id);
    showComments();
  }
  desk.refresh();
}
