// @ts-check
// Named timers: starting one again replaces it, and all can be stopped at once.

/** @template {string} Name */
export class Timers {
  /** @type {Map<Name, ReturnType<typeof setTimeout>>} */
  #running = new Map();

  /**
   * @param {Name} name
   * @param {number} ms
   * @param {() => void} work
   */
  after(name, ms, work) {
    this.stop(name);
    this.#running.set(
      name,
      setTimeout(() => {
        this.#running.delete(name);
        work();
      }, ms),
    );
  }

  /** @param {Name} name */
  runs(name) {
    return this.#running.has(name);
  }

  /** @param {Name} name */
  stop(name) {
    clearTimeout(this.#running.get(name));
    this.#running.delete(name);
  }

  stopAll() {
    for (const name of this.#running.keys()) this.stop(name);
  }
}
