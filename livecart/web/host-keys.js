// Shortcuts of the host's page. One table says what there is: the help is made from it. None fires
// while something is typed or chosen, with a modifier of the system's, or behind a dialog; and they
// can be switched off, for who speaks to the computer or uses one hand.

import { at, h } from "./dom.js";
import { amount, desk } from "./host-desk.js";
import { dialogOpen, shown, sure } from "./host-dialog.js";
import { offerAt, openOffer, togglePin } from "./host-offers.js";
import { undoNewest } from "./host-undo.js";
import { number, t } from "./text.js";

const OFF_KEY = "livecart.host.keys-off";

const KEYS = [
  { keys: ["/"], words: "key_search", does: () => focus("search") },
  { keys: ["↑ ↓", "Enter"], words: "key_choose" }, // the search's own
  { keys: ["1 … 9"], words: "key_pin" },
  { keys: ["Shift 1 … 9"], words: "key_open" },
  { keys: ["n"], words: "key_prepare", does: () => at("offer-new").click() },
  { keys: ["u"], words: "key_undo", does: undoNewest },
  { keys: ["c"], words: "key_chat", does: () => focus("chat-text") },
  { keys: ["o"], words: "key_orders", does: () => focus("orders-search") },
  { keys: ["?"], words: "key_help", does: () => shown(at("help")) },
  { keys: ["Esc"], words: "key_escape" }, // the browser's and the search's own
];
const TAB_OF = { search: "catalogue", "chat-text": "talk", "orders-search": "orders" };

/** Listen, once. */
export function wireKeys() {
  at("help-keys").append(...KEYS.flatMap(({ keys, words }) => [
    h("dt", {}, ...keys.flatMap((key) => [h("kbd", {}, key), " "])), h("dd", {}, t(words))]));
  at("help-open").addEventListener("click", () => shown(at("help")));
  const on = at("keys-on");
  on.checked = localStorage.getItem(OFF_KEY) === null;
  on.addEventListener("change", () => {
    if (on.checked) localStorage.removeItem(OFF_KEY);
    else localStorage.setItem(OFF_KEY, "1");
  });
  document.addEventListener("keydown", (event) => {
    if (!on.checked || !desk.stream || unwanted(event)) return;
    const work = workOf(event);
    if (!work) return;
    event.preventDefault();
    work();
  });
}

/** Whether a key is somebody else's. */
function unwanted(event) {
  const { target } = event;
  const typing = target.closest("input, textarea, select, [contenteditable]");
  return typing !== null || event.isComposing || event.repeat || dialogOpen()
    || event.ctrlKey || event.metaKey || event.altKey;
}

function workOf(event) {
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code); // wherever Shift puts the signs
  if (digit) {
    const offer = offerAt(Number(digit[1]));
    if (!offer) return null;
    return () => (event.shiftKey ? openByKey(offer) : togglePin(offer.id));
  }
  const entry = KEYS.find(({ keys, does }) => does && keys[0] === event.key.toLowerCase());
  return entry && (() => entry.does());
}

/**
 * Ask, and open what can be opened: a digit is easily missed. A sold-out or paused offer is left
 * alone, it may be so on purpose.
 */
async function openByKey({ id, status, product, quantity, price_minor, currency }) {
  if (!["draft", "scheduled"].includes(status)) return;
  const cost = t("open_cost", { n: number(quantity), amount: amount(price_minor, currency) });
  if (await sure(t("open_title", { what: product.title }), [cost], t("open_offer"))) openOffer(id);
}

function focus(id) {
  document.querySelector(`#tabs [data-tab="${TAB_OF[id]}"]`).click();
  if (id === "chat-text") at("talk-chat").click();
  at(id).focus();
  at(id).select();
}
