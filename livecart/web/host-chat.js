// The chat as a host sees it: the log, what the host says, what is done about a message or who wrote
// it, and slow mode. Drawn a few times a second at most, however much is said.

import { at, guardComposition, h, say, tell } from "./dom.js";
import { act, button, desk, streamPath } from "./host-desk.js";
import { shown, sure } from "./host-dialog.js";
import { chatReason, number, t, timeText } from "./text.js";

const TEXT_MAX = 300; // code points, as the protocol counts
const NEAR_END_PX = 80;
const DRAW_EVERY_MS = 250;
const SHOWN_MAX = 100;
const SLOW_S = [0, 3, 5, 10, 30, 60, 300];

let drawing = null;
let slowNow = 0; // as the server has it

/** Wire the form and the slow mode, once. */
export function wireChat() {
  const input = at("chat-text");
  guardComposition(input);
  at("chat-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text === "" || !desk.cart) return;
    if ([...text].length > TEXT_MAX) return tell(at("chat-outcome"), t("chat_too_long"), "bad");
    input.value = "";
    const answer = await desk.cart.chat(text);
    tell(at("chat-outcome"), answer.code ? chatReason(answer) : "", "bad");
    // What was refused comes back, unless the person is already writing something else.
    if (answer.code && input.value === "") input.value = text;
    return undefined;
  });
  at("slow").append(...SLOW_S.map((s) =>
    h("option", { value: s }, s === 0 ? t("slow_off") : t("slow_s", { s: number(s) }))));
  at("slow").addEventListener("change", async () => {
    const chat_every_s = Number(at("slow").value);
    const set = await act("chat", () => desk.api.call("PATCH", streamPath(), { chat_every_s }));
    if (set) slowNow = chat_every_s;
    else at("slow").value = slowNow;
    desk.refresh(); // an answer from before would put it back
  });
}

/** Show the slow mode as the server has it; one that is being chosen stays, unless it has changed. */
export function showSlow(stream) {
  const every = stream.chat_every_s ?? 0;
  const select = at("slow");
  if (every === slowNow) return;
  slowNow = every;
  if (!SLOW_S.includes(every) && !select.querySelector(`[value="${every}"]`)) {
    select.append(h("option", { value: every }, t("slow_s", { s: number(every) })));
  }
  select.value = every;
}

/** Draw the messages soon. */
export function showMessages() {
  drawing ??= setTimeout(() => {
    drawing = null;
    if (desk.cart) draw(desk.cart.room.messages.slice(-SHOWN_MAX));
  }, DRAW_EVERY_MS);
}

function draw(messages) {
  const list = at("messages");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END_PX;
  // Messages only come at the end and go: no need to compare places, which costs with so many.
  const fresh = new Map(messages.map((message) => [message.id, message]));
  for (const child of [...list.children]) {
    if (!fresh.delete(child.dataset.key)) child.remove();
  }
  list.append(...[...fresh.values()].map(makeMessage));
  list.dataset.empty = messages.length === 0 ? t("chat_empty") : "";
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function makeMessage(message) {
  const name = message.name || message.user;
  const label = t("moderate", { name });
  return h("div", { class: "message", "data-key": message.id },
    h("span", { class: "wide" }, h("b", {}, name), h("span", { class: "text" }, message.text)),
    h("button", { type: "button", class: "dots", "aria-label": label, title: label,
      onclick: () => openModeration(message) }, "⋯"));
}

/** What can be done about one message, and about who wrote it. */
function openModeration({ id, user, name, text, at: saidAt }) {
  const who = name || user;
  const dialog = at("moderate");
  say(at("moderate-title"), t("moderate", { name: who }));
  say(at("moderate-text"), `${timeText(saidAt)} · ${text}`);
  const does = (label, type, fields, asks = null) => button(t(label), async () => {
    dialog.close();
    if (asks && !(await sure(...asks))) return;
    const answer = await desk.cart.moderate(type, fields);
    tell(at("chat-outcome"), answer.code ? chatReason(answer) : t(`${label}_done`, { name: who }),
      answer.code ? "bad" : "good");
  });
  const actions = [does("remove", "chat.remove", { message: id })];
  if (user !== desk.cart.room.you.id) {
    actions.push(
      does("mute", "mute", { user }),
      does("unmute", "unmute", { user }),
      does("ban", "ban", { user }, [t("ban"), [t("ban_sure", { name: who })], t("ban")]));
  }
  at("moderate-actions").replaceChildren(...actions);
  return shown(dialog);
}
