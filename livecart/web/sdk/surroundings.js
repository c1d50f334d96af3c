// @ts-check
// What happens around a connection: the page is hidden, frozen, shown again; the network changes.
//
// Turns the browser's events into four words. Where there is no page (Node, a worker) it hears
// what there is, which may be nothing.

/**
 * @param {{wake: () => void, sleep: () => void, look: () => void, moved: () => void}} told
 *   wake: the page is back after `sleep`; sleep: nothing runs from now on; look: somebody looks, or
 *   the network came or went: make sure that the line is alive; moved: the network is another one
 * @returns {() => void} ends it
 */
export function watchSurroundings({ wake, sleep, look, moved }) {
  const page = /** @type {Document | undefined} */ (globalThis.document);
  const network = /** @type {EventTarget | undefined} */ (
    /** @type {any} */ (globalThis.navigator)?.connection
  );
  const ended = new AbortController();
  const hear = (
    /** @type {EventTarget | undefined} */ where,
    /** @type {string} */ name,
    /** @type {() => void} */ then,
  ) => where?.addEventListener?.(name, then, { signal: ended.signal });
  const around = /** @type {EventTarget} */ (globalThis);
  hear(page, "visibilitychange", () => page?.visibilityState === "visible" && look());
  hear(page, "freeze", sleep);
  hear(page, "resume", wake);
  // A page with an open connection is not kept for "back"; without one it is, and comes at once.
  hear(around, "pagehide", sleep);
  hear(around, "pageshow", wake);
  hear(around, "online", look);
  hear(around, "offline", look);
  hear(network, "change", moved);
  return () => ended.abort();
}
