// @ts-check
// What pages subscribe to: frozen snapshots of parts, made when somebody asks, told once a change.
//
// Knows no protocol: cart.js says how each part is made and when it may have changed. A value that
// is equal to the last one is the last one, so that a page can compare by identity.

/**
 * @template {object} State
 */
export class Store {
  /** @type {{[P in keyof State]: () => State[P]}} */
  #makers;
  /** @type {Partial<State>} */
  #values = {};
  /** @type {Set<keyof State>} parts that may have changed since they were made */
  #stale;
  /** @type {Set<{pick: () => any, listener: (now: any, before: any) => void, last: any}>} */
  #listeners = new Set();
  /** @type {Readonly<State> | null} */
  #state = null;
  #due = false;

  /** @param {{[P in keyof State]: () => State[P]}} makers */
  constructor(makers) {
    this.#makers = makers;
    this.#stale = new Set(this.#parts());
  }

  /**
   * One part as it is now; the same object until it changes.
   * @template {keyof State} P
   * @param {P} part
   * @returns {State[P]}
   */
  get(part) {
    if (this.#stale.delete(part)) {
      const made = this.#makers[part]();
      const before = this.#values[part];
      if (!(part in this.#values) || !same(made, before)) this.#values[part] = frozen(made);
    }
    return /** @type {State[P]} */ (this.#values[part]);
  }

  /**
   * All parts as they are now; the same object until one changes.
   * @returns {Readonly<State>}
   */
  get state() {
    const parts = this.#parts();
    const known = this.#state;
    for (const part of parts) this.get(part);
    if (known !== null && parts.every((part) => known[part] === this.#values[part])) return known;
    this.#state = Object.freeze(/** @type {State} */ ({ ...this.#values }));
    return this.#state;
  }

  /**
   * Call `listener(now, before)` whenever a part, or what a function makes of the state, changes.
   * @template T
   * @param {keyof State | ((state: Readonly<State>) => T)} what
   * @param {(now: any, before: any) => void} listener
   * @returns {() => void} ends it
   */
  subscribe(what, listener) {
    const pick = typeof what === "function" ? () => what(this.state) : () => this.get(what);
    const entry = { pick, listener, last: pick() };
    this.#listeners.add(entry);
    return () => void this.#listeners.delete(entry);
  }

  /**
   * Say that parts may have changed; whoever listens is told at the end of this task.
   * @param {(keyof State)[]} parts
   */
  mark(...parts) {
    for (const part of parts) this.#stale.add(part);
    if (this.#due || this.#listeners.size === 0) return;
    this.#due = true;
    queueMicrotask(() => this.#tell());
  }

  #tell() {
    this.#due = false;
    for (const entry of [...this.#listeners]) {
      try {
        const now = entry.pick();
        if (Object.is(now, entry.last) || !this.#listeners.has(entry)) continue;
        const before = entry.last;
        entry.last = now;
        entry.listener(now, before);
      } catch (error) {
        // One page's mistake is reported as uncaught, and does not keep the news from the others.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  #parts() {
    return /** @type {(keyof State)[]} */ (Object.keys(this.#makers));
  }
}

/**
 * Freeze what is not frozen yet, all the way down.
 * @template T
 * @param {T} value
 * @returns {T}
 */
function frozen(value) {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.values(value).forEach(frozen);
    Object.freeze(value);
  }
  return value;
}

/**
 * Whether two values are alike: themselves, or all that they hold, is the same or alike.
 * @param {any} a
 * @param {any} b
 * @returns {boolean}
 */
function same(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const names = Object.keys(a);
  if (Array.isArray(a) !== Array.isArray(b) || names.length !== Object.keys(b).length) return false;
  return names.every((name) => name in b && same(a[name], b[name]));
}
