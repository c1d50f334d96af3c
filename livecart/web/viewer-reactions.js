// The rail of reactions: taps out, totals in, and a few faces that rise with each increase.

import { at, h, keyed, say } from "./dom.js";
import { number, t } from "./text.js";

const FACES = { love: "❤️", like: "👍", laugh: "😂", wow: "😮", clap: "👏" };
const RISING_MAX = 12; // at once on the screen, however much a room claps
const RISE_MS = 2_200;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let before = null; // totals as last shown

/** Bring the rail up to the room's totals; `react(kind)` sends one tap. */
export function showReactions(totals, react) {
  const kinds = Object.keys(FACES);
  keyed(at("reactions"), kinds, (kind) => kind, (kind) => makeButton(kind, react), (button, kind) =>
    say(button.lastChild, totals[kind] ? compact(totals[kind]) : ""));
  for (const kind of kinds) {
    const more = before === null ? 0 : (totals[kind] ?? 0) - (before[kind] ?? 0);
    for (let each = 0; each < Math.min(more, 3); each++) rise(kind);
  }
  before = { ...totals };
}

function makeButton(kind, react) {
  const props = { type: "button", class: "react", "aria-label": t(`react_${kind}`) };
  const tap = () => {
    react(kind);
    if (before) before[kind] = (before[kind] ?? 0) + 1; // its echo need not rise again
    rise(kind);
  };
  return h("button", { ...props, onclick: tap },
    h("span", { class: "face", "aria-hidden": "true" }, FACES[kind]), h("span", { class: "count" }));
}

function rise(kind) {
  const sky = at("sky");
  if (calm.matches || document.hidden || sky.childElementCount >= RISING_MAX) return;
  const face = h("span", { class: "rising" }, FACES[kind]);
  sky.append(face);
  const aside = (Math.random() - 0.5) * 60;
  const frames = [
    { transform: "translate(0, 0) scale(0.6)", opacity: 0 },
    { transform: `translate(${aside / 2}px, -60px) scale(1.1)`, opacity: 1, offset: 0.2 },
    { transform: `translate(${aside}px, -260px) scale(1)`, opacity: 0 },
  ];
  face.animate(frames, { duration: RISE_MS, easing: "ease-out" }).onfinish = () => face.remove();
}

function compact(value) {
  return value < 10_000 ? number(value) : `${number(Math.floor(value / 1000))}k`;
}
