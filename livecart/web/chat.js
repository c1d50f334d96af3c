// The chat box of both pages: the log, the form, and where the host's buttons go.

import { at, guardComposition, h, keyed, say, tell } from "./dom.js";
import { reason, t, timeText } from "./text.js";

const TEXT_MAX = 300; // code points, as the protocol counts
const NEAR_END_PX = 80;

/** Wire the form to `cart()`; it is asked on every use, for the host page changes its stream. */
export function chatForm(cart) {
  const input = at("chat-text");
  guardComposition(input);
  at("chat-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = input.value.trim();
    const outcome = at("chat-outcome");
    if (text === "" || !cart()) return;
    if ([...text].length > TEXT_MAX) {
      tell(outcome, t("chat_too_long"), "bad");
      return;
    }
    input.value = "";
    const answer = await cart().chat(text);
    tell(outcome, answer.code ? reason(answer) : "", "bad");
    // What was refused comes back, unless the person is already writing something else.
    if (answer.code && input.value === "") input.value = text;
  });
}

/** Show the messages, and stay at the end unless the reader has scrolled up. */
export function showMessages(messages, controls = () => []) {
  const list = at("messages");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END_PX;
  const make = (message) =>
    h(
      "li",
      { title: timeText(message.at) },
      h("b", {}, message.name || message.user),
      h("span", { class: "text" }, message.text),
      ...controls(message),
    );
  keyed(list, messages, (message) => message.id, make);
  list.dataset.empty = messages.length === 0 ? t("chat_empty") : "";
  if (atEnd) list.scrollTop = list.scrollHeight;
}

/** One line about the connection; ticks while it waits. */
export function showLine(cart) {
  const line = at("line");
  const seconds = Math.max(0, Math.ceil((cart.retryAt - performance.now()) / 1000));
  say(line, t(`line_${cart.status}`, { s: seconds }));
  line.dataset.kind = cart.status === "open" ? "good" : "bad";
}
