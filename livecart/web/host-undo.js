// A few seconds in which a thing can be taken back, on this screen alone.
//
// Two kinds. `later`: nothing is done before the time is up, so taking it back costs nothing (what
// the server cannot reverse: closing an offer). `done`: it is done at once, and taking it back is a
// call of its own that the server may refuse (restocked units that were sold meanwhile). Leaving the
// page takes a `later` back: what was only intended must not happen unseen.

import { at, h, say } from "./dom.js";
import { button } from "./host-desk.js";
import { t } from "./text.js";

const UNDO_S = 6;

const open = []; // newest last: {undo}

/** Say what will be done, and do it unless it is taken back or dropped, which `undone` is told. */
export function later(text, commit, undone) {
  offer(text, "undo_later", undone, commit, undone);
}

/** Say what was done, and reverse it if asked to. */
export function done(text, reverse) {
  offer(text, "undo_done", reverse, () => {}, () => {});
}

/** Take the newest back; false when there is nothing to take back. */
export function undoNewest() {
  open.at(-1)?.undo();
  return open.length > 0;
}

/** Forget all, with nothing more done: nobody is signed in any more. */
export function dropUndos() {
  for (const entry of [...open]) entry.drop();
}

function offer(text, words, undone, over, dropped) {
  const left = h("span", { class: "countdown", "aria-hidden": "true" });
  const endsAt = performance.now() + UNDO_S * 1_000;
  const tick = () => {
    const seconds = Math.ceil((endsAt - performance.now()) / 1_000);
    if (seconds > 0) say(left, t("undo_left", { s: seconds }));
    else finish(over);
  };
  const finish = (then) => {
    clearInterval(timer);
    if (!open.includes(entry)) return;
    open.splice(open.indexOf(entry), 1);
    item.remove();
    then();
  };
  const entry = { undo: () => finish(undone), drop: () => finish(dropped) };
  const item = h("li", { class: "card row" },
    h("span", { class: "wide" }, h("b", {}, text), " ", h("span", { class: "dim" }, t(words))),
    left, button(t("undo"), entry.undo, "primary"));
  open.push(entry);
  at("undos").append(item);
  const timer = setInterval(tick, 250);
  tick();
}
