// Every word that the pages say comes from `words/<language>.json`; the server chooses which
// (`/words.js`) by the browser's languages, or by what was chosen on a page (`speak`).
//
// `{name}` is filled in by t(); markup is never used. A language is added by a file.

import words, { languages } from "/words.js";

/** What there is to choose from: [{language, name}]. */
export { languages };

/** Page language, a BCP 47 tag. */
export const language = words.language;

const TEXT = words.words;

/** The text of that name in the page's language, with its gaps filled; without one, the name. */
export function t(name, gaps = {}) {
  return (TEXT[name] ?? name).replace(/\{(\w+)\}/g, (_, gap) => String(gaps[gap]));
}

/** Why a command was refused, in plain words; a code of a later server shows its own message. */
export function reason({ code, message }) {
  return `code_${code}` in TEXT ? t(`code_${code}`) : (message ?? code);
}

/** Why something in the chat was refused; too soon, in how many seconds it is one's turn. */
export function chatReason(answer) {
  const waitS = Math.ceil((answer.retry_after_ms ?? 0) / 1000);
  if (answer.code === "rate_limited" && waitS > 0) return t("chat_wait", { s: number(waitS) });
  return answer.code === "unknown" ? t("chat_unknown") : reason(answer); // it is no order
}

/** Fill the words of the static page: data-t is an element's text, data-t-… an attribute's. */
export function translatePage() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-t]")) {
    element.textContent = t(element.dataset.t);
  }
  for (const name of ["placeholder", "aria-label"]) {
    for (const element of document.querySelectorAll(`[data-t-${name}]`)) {
      element.setAttribute(name, t(element.getAttribute(`data-t-${name}`)));
    }
  }
}

/** Have every page in another language from now on. */
export function speak(tag) {
  document.cookie = `livecart_language=${tag}; path=/; max-age=31536000; samesite=lax`;
  location.reload();
}

// Made once: a formatter costs more than a hundred uses of it, and pages count down all the time.
const NUMBER = new Intl.NumberFormat(language);
const TIME = new Intl.DateTimeFormat(language, { timeStyle: "short" });
const DATE_AND_TIME = new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "short" });

/** A number with the language's grouping. */
export function number(value) {
  return NUMBER.format(value);
}

/** A time of day, with the date when it is not today. */
export function timeText(ms) {
  const date = new Date(ms);
  const today = date.toDateString() === new Date().toDateString();
  return (today ? TIME : DATE_AND_TIME).format(date);
}
