// The viewer's chat: the form, and new lines at the end, at most so many in the page.
//
// Two hundred messages a second must leave the page at ease: what is there is never moved or made
// again, only added to and cut, and nothing is measured: that the end stays in sight is the style's
// doing (a reversed column scrolls from its end).

import { at, guardComposition, h, tell } from "./dom.js";
import { chatReason, t } from "./text.js";

const LINES_MAX = 80;
const TEXT_MAX = 300; // code points, as the protocol counts

let waiting = null; // until the person may write again

/** Wire the form to the stream's client. */
export function chatForm(cart) {
  const input = at("chat-text");
  guardComposition(input);
  at("chat-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = input.value.trim();
    const outcome = at("chat-outcome");
    if (text === "") return;
    if ([...text].length > TEXT_MAX) {
      tell(outcome, t("chat_too_long"), "bad");
      return;
    }
    input.value = "";
    clearTimeout(waiting);
    const answer = await cart.chat(text);
    clearTimeout(waiting);
    const told = answer.code ? chatReason(answer) : "";
    tell(outcome, told, "bad");
    const waitMs = answer.retry_after_ms ?? 0;
    // No longer true then; read out once, and not with each second.
    if (waitMs > 0) waiting = setTimeout(() => outcome.textContent === told && tell(outcome, ""), waitMs);
    // What was refused comes back, unless the person is already writing something else.
    if (answer.code && input.value === "") input.value = text;
  });
}

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
