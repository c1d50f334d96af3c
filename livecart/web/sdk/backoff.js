// @ts-check
// How long to wait before the next attempt, and fresh keys. Pure; everything else here uses it.

export const BACKOFF_FIRST_MS = 500;
export const BACKOFF_MAX_MS = 20_000;

/**
 * Full jitter: anywhere below a ceiling that doubles from 0.5 s to 20 s.
 * @param {number} attempt counted from 0
 */
export function backoffMs(attempt) {
  return Math.random() * Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** attempt);
}

/** A fresh idempotency key; works on plain http too, where crypto.randomUUID does not exist. */
export function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
