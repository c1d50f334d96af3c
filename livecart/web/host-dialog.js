// Dialogs of the host's page: a confirmation that names what a slip would cost, and a number asked
// for. Knows nothing of streams; called by the parts. Focus goes back by itself when one closes.

import { at, h, say } from "./dom.js";
import { button } from "./host-desk.js";
import { number, t } from "./text.js";

/** Wire what closes dialogs, once: their `data-close` buttons, and a press beside them. */
export function wireDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    });
  }
  at("ask-no").addEventListener("click", () => at("ask").close());
  at("sure-no").addEventListener("click", () => at("sure").close());
}

/** Whether a dialog is open: the page behind it takes no keys. */
export function dialogOpen() {
  return document.querySelector("dialog[open]") !== null;
}

/** Show a dialog; resolves when it closes. */
export function shown(dialog) {
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", resolve, { once: true });
  });
}

/**
 * Ask whether a thing is to be done that costs: `costs` are sentences, `action` is on the button.
 * Resolves to true only for a press on that button.
 */
export async function sure(title, costs, action) {
  say(at("sure-title"), title);
  at("sure-costs").replaceChildren(...costs.filter(Boolean).map((cost) => h("li", {}, cost)));
  const yes = at("sure-yes");
  say(yes, action);
  let meant = false;
  yes.onclick = () => {
    meant = true;
    at("sure").close();
  };
  await shown(at("sure"));
  return meant;
}

/** Ask for a whole number of `min` to `max`; null when the host thought better of it. */
export async function ask(title, label, action, { min, max, value, quick = [] }) {
  say(at("ask-title"), title);
  say(at("ask-label"), label);
  say(at("ask-yes"), action);
  const input = at("ask-value");
  Object.assign(input, { min, max, value });
  const put = (n) => {
    input.value = n;
    input.focus();
  };
  at("ask-quick").replaceChildren(...quick.map((n) => button(`+${number(n)}`, () => put(n))));
  let given = null;
  at("ask-form").onsubmit = (event) => {
    event.preventDefault();
    given = input.valueAsNumber;
    at("ask").close();
  };
  const closed = shown(at("ask"));
  input.focus();
  input.select();
  await closed;
  return given;
}

/** "12 unpaid orders" or "1 unpaid order": `name` has two forms, `<name>_1` and `<name>_n`. */
export function counted(name, n) {
  return t(`${name}_${n === 1 ? "1" : "n"}`, { n: number(n) });
}
