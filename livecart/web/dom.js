// The little that both pages need of the DOM. Text goes in as text nodes only, never as markup.

/** Make an element: h("button", { class: "x", onclick: f }, "text", child, null). */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The element of that id. */
export function at(id) {
  return document.getElementById(id);
}

/** Set text only when it differs, so that screen readers and selections are left in peace. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Fill a status line; `kind`: "good", "bad" or "". */
export function tell(element, text, kind = "") {
  say(element, text);
  element.dataset.kind = kind;
}

/**
 * Make `container` show `items` in order: `make(item)` returns an element once per key, and
 * `update(element, item)` brings it up to date. Elements stay, and with them focus and input.
 */
export function keyed(container, items, key, make, update) {
  const known = new Map([...container.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, index) => {
    const name = key(item);
    let element = known.get(name);
    if (!element) {
      element = make(item);
      element.dataset.key = name;
    }
    known.delete(name);
    update?.(element, item);
    const there = container.children[index];
    if (there !== element) container.insertBefore(element, there ?? null);
  });
  for (const element of known.values()) element.remove();
}

/** Call `render(parts)` once a frame with all parts that were marked as changed since. */
export function painter(render) {
  const parts = new Set();
  return (what) => {
    if (parts.size === 0) {
      // A hidden page has no animation frames; a timer would do there, but nobody looks.
      requestAnimationFrame(() => {
        const changed = new Set(parts);
        parts.clear();
        render(changed);
      });
    }
    parts.add(what);
  };
}

/** Take the token out of the fragment (and out of sight), or the one this tab has kept. */
export function tokenOf(storageKey) {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get("token");
  if (given !== null) {
    fragment.delete("token");
    const rest = fragment.toString();
    history.replaceState(null, "", location.pathname + location.search + (rest && `#${rest}`));
    sessionStorage.setItem(storageKey, given);
  }
  return sessionStorage.getItem(storageKey) || null;
}

/** What a JWT claims; read for display only, the server alone verifies it. Null if unreadable. */
export function claims(token) {
  try {
    const body = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(body), (char) => char.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

/** Keep an Enter that ends a Chinese or Japanese composition from sending the form. */
export function guardComposition(input) {
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.isComposing || event.keyCode === 229)) {
      event.preventDefault();
    }
  });
}

/** "3:05" or "1:00:00"; beyond a day, hours go on counting. */
export function clockText(ms) {
  const total = Math.max(0, Math.ceil(ms / 1000));
  const [hours, minutes, seconds] = [total / 3600, (total / 60) % 60, total % 60].map(Math.floor);
  const two = (value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
}
