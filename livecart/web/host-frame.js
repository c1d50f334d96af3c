// The frame of the host's page: the state of the line and of the server in plain words, the menu,
// and on a phone the tabs that bring one part to the front. Called by host.js.

import { at, h, say } from "./dom.js";
import { desk, held } from "./host-desk.js";
import { showFigures } from "./host-figures.js";
import { language, languages, number, speak, t } from "./text.js";

const READY_WAIT_MS = 4_000;

/** Wire the menu and the tabs, once. */
export function wireFrame() {
  document.addEventListener("click", ({ target }) => {
    for (const menu of document.querySelectorAll(".menu[open]")) {
      if (!menu.contains(target) || target.closest("button, a")) menu.open = false;
    }
  });
  document.addEventListener("keydown", ({ key, target }) => {
    const menu = target.closest(".menu[open]");
    if (key !== "Escape" || !menu) return;
    menu.open = false;
    menu.firstElementChild.focus();
  });
  at("languages").append(...languages.map(({ language: tag, name }) =>
    h("option", { value: tag, lang: tag }, name)));
  at("languages").value = language;
  at("languages").addEventListener("change", ({ target }) => speak(target.value));
  for (const tab of at("tabs").children) tab.addEventListener("click", () => show(tab.dataset.tab));
}

function show(name) {
  document.body.dataset.tab = name;
  for (const tab of at("tabs").children) {
    if (tab.dataset.tab === name) tab.setAttribute("aria-current", "true");
    else tab.removeAttribute("aria-current");
  }
  if (name === "figures") at("charts").hidden = false;
  if (desk.stream) showFigures();
}

/** Put on the tabs what waits behind them: units that are held unpaid, unread comments. */
export function showTabs() {
  const waiting = {
    orders: held().units,
    talk: desk.comments.length,
  };
  for (const tab of at("tabs").children) {
    const n = waiting[tab.dataset.tab] ?? 0;
    say(tab.firstElementChild, n > 0 ? number(n) : "");
  }
}

/** One line about the connection; ticks while it waits. */
export function showLine() {
  const { cart } = desk;
  const line = at("line");
  const seconds = Math.max(0, Math.ceil((cart.retryAt - performance.now()) / 1_000));
  say(line, t(`line_${cart.status}`, { s: seconds }));
  line.dataset.kind = cart.status === "open" ? "good" : "bad";
  // The count of seconds would be read out each second.
  line.setAttribute("aria-live", cart.status === "waiting" ? "off" : "polite");
}

/** Ask whether the server can serve, and say so; what it lacks is told in plain words. */
export async function askSystem() {
  let words = "sys_ready";
  try {
    const response = await fetch("/readyz", { signal: AbortSignal.timeout(READY_WAIT_MS) });
    if (!response.ok) words = lacking((await response.json()).detail);
  } catch (error) {
    console.warn("/readyz:", error.message);
    words = "sys_away";
  }
  const system = at("system");
  say(system, t(words));
  system.dataset.kind = words === "sys_ready" ? "good" : "bad";
}

function lacking(detail) {
  if (detail === "Draining.") return "sys_draining";
  if (detail.includes("Postgres")) return "sys_postgres";
  return detail.includes("Redis") ? "sys_redis" : "sys_starting";
}
