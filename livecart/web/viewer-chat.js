// The viewer's chat: new lines at the end, at most so many in the page, once a frame.
//
// Two hundred messages a second must leave the page at ease: what is there is never moved or made
// again, only added to and cut, and nothing is measured: that the end stays in sight is the style's
// doing (a reversed column scrolls from its end).

import { at, h } from "./dom.js";
import { t } from "./text.js";

const LINES_MAX = 80;

/** Bring the log up to the room's messages (oldest first); the style keeps its end in sight. */
export function showChat(messages) {
  const list = at("messages");
  const wanted = messages.slice(-LINES_MAX);
  const ids = new Set(wanted.map((message) => message.id));
  const there = new Set();
  for (const line of [...list.children]) {
    if (ids.has(line.dataset.key)) there.add(line.dataset.key);
    else line.remove();
  }
  const added = wanted.filter((message) => !there.has(message.id)).map(makeLine);
  if (added.length > 0) list.append(...added);
  list.dataset.empty = messages.length === 0 ? t("chat_empty") : "";
}

function makeLine(message) {
  const line = h("li", {},
    h("b", {}, message.name || message.user), h("span", { class: "text" }, message.text));
  line.dataset.key = message.id;
  return line;
}
