// The drawers of products and orders: sheets over the picture on a phone, a column where there is
// room. The same sections move between the two, so that nothing is drawn twice.
//
// What is read out moves along: all outside of an open drawer is inert, its live regions too.
// Escape, the focus that stays inside and comes back afterwards are <dialog>'s own.

import { at } from "./dom.js";

const WIDE = matchMedia("(min-width: 75rem)");
const NAMES = ["products", "orders"];
const SAID = ["said", "said-now"];

/** Wire buttons and drawers; keep the sections where they belong as the window changes. */
export function layDrawers() {
  for (const name of NAMES) {
    const drawer = at(`${name}-drawer`);
    at(`${name}-open`).addEventListener("click", () => openDrawer(name));
    drawer.addEventListener("click", (event) => {
      // Beside the sheet is the dialog's own backdrop: a tap there closes.
      const close = event.target.closest("[data-close]");
      if (event.target === drawer || close) drawer.close();
    });
    // One drawer may stand over the other.
    drawer.addEventListener("close", () => sayIn(document.querySelector("dialog[open]") ?? document.body));
  }
  WIDE.addEventListener("change", place);
  place();
}

/** Show a drawer; in a wide window its section is there already, and is scrolled to. */
export function openDrawer(name) {
  if (WIDE.matches) at(name).scrollIntoView({ block: "nearest" });
  else if (!at(`${name}-drawer`).open) {
    at(`${name}-drawer`).showModal();
    sayIn(at(`${name}-drawer`));
  }
}

/** Have what is read out be said in there; what was said before is not said again. */
function sayIn(there) {
  for (const id of SAID) {
    const region = at(id);
    region.textContent = "";
    there.append(region);
  }
}

function place() {
  for (const name of NAMES) {
    const drawer = at(`${name}-drawer`);
    if (WIDE.matches && drawer.open) drawer.close();
    const there = WIDE.matches ? at("shelf") : drawer;
    if (at(name).parentElement !== there) there.append(at(name));
  }
}
