// The stage: title, state of stream and line, the poster, and what is said across it.

import { at, h, say } from "./dom.js";
import { language, number, t, timeText } from "./text.js";

const CLAUSES = /(?<=[，。！？；：、｜])(?![，。！？；：、｜\p{Pe}\p{Pf}]|$)/u;
const OPENING = /[\p{Ps}\p{Pi}]$/u; // nothing breaks after a bracket that opens

/** Bring title, chip, count of viewers, poster and curtain up to the room. */
export function showStage(room, product) {
  const { stream, viewers } = room;
  document.title = `${stream.title} · livecart`;
  say(at("title"), stream.title);
  sayByWords(at("poster-title"), stream.title);
  say(at("live"), t(`status_${stream.status}`));
  at("live").dataset.status = stream.status;
  say(at("viewers"), t("viewers", { n: number(viewers) }));
  showPosterImage(product);
  const ended = stream.status === "ended";
  at("curtain").hidden = stream.status === "live";
  say(at("curtain-title"), t(ended ? "curtain_ended" : "curtain_scheduled"));
  const held = [...room.orders.values()].some((order) => order.status === "reserved");
  let more = "";
  if (ended && held) more = t("curtain_held");
  else if (!ended && stream.starts_at) more = t("curtain_starts", { time: timeText(stream.starts_at) });
  say(at("curtain-more"), more);
}

/**
 * Set text that breaks where a reader would: between clauses, and where one is too long for a line,
 * between its words, also where a language writes no spaces. The style has the other half.
 */
function sayByWords(element, text) {
  if (element.textContent === text) return;
  const words = new Intl.Segmenter(language, { granularity: "word" });
  const clauses = text.split(CLAUSES).map((clause) => {
    const parts = [];
    for (const { segment, isWordLike } of words.segment(clause)) {
      if (isWordLike && !OPENING.test(parts.at(-1) ?? "")) parts.push(h("wbr"));
      parts.push(segment);
    }
    return h("span", { class: "clause" }, ...parts);
  });
  element.replaceChildren(...clauses);
}

function showPosterImage(product) {
  const url = product?.image_url;
  const image = at("poster-image");
  if (!url?.startsWith("https:") || image.getAttribute("src") === url) return;
  image.hidden = true;
  image.onload = () => (image.hidden = false);
  image.src = url;
}

/** One line about the connection; it counts down while it waits, and is a dot while all is well. */
export function showLine(cart) {
  const line = at("line");
  const seconds = Math.max(0, Math.ceil((cart.retryAt - performance.now()) / 1000));
  const good = cart.status === "open";
  say(line, t(`line_${cart.status}`, { s: seconds }));
  line.dataset.kind = good ? "good" : "bad";
  // The count of seconds would be read out each second.
  line.setAttribute("aria-live", good ? "polite" : "off");
  const away = cart.status === "waiting" || (cart.status === "connecting" && cart.room.stream !== null);
  at("away").hidden = !away;
  say(at("away"), away ? t("away") : "");
}

/** A notice across the top; "" takes it away. */
export function notice(text) {
  say(at("notice"), text);
  at("notice").hidden = text === "";
}

/** Let a guest see why the form does not take words. */
export function showSpeaker(room) {
  const guest = room.you.role === "guest";
  const field = at("chat-text");
  field.disabled = at("chat-send").disabled = guest;
  field.placeholder = t(guest ? "guest_cannot_chat" : "chat_placeholder");
}

/** The languages of the pages, as a choice. */
export function showLanguages(known, current, speak) {
  const select = at("language");
  for (const { language, name } of known) {
    select.append(h("option", { value: language, lang: language, selected: language === current }, name));
  }
  select.addEventListener("change", () => speak(select.value));
}

/** In plain words, why the connection was ended for good. */
export function stopText(code) {
  return t(`stop_${code}`);
}

