// @ts-check
// The server's clock as seen from here: the offset of the smallest round trip of the last few.

const SAMPLES_MAX = 8;
const SLEPT_MS = 1_000;

export class ServerClock {
  /** @type {{rtt: number, offset: number}[]} in ms, newest last */
  #samples = [];
  #wallOffset = Date.now() - performance.now();

  /**
   * Take a coarse first guess (from `welcome`), worse than any measured sample.
   * @param {number} serverNowMs
   */
  guess(serverNowMs) {
    this.#samples = [];
    this.#wallOffset = Date.now() - performance.now();
    this.#add(Infinity, serverNowMs - performance.now());
  }

  /**
   * Take one `pong`: sent and received on performance.now(), `serverNowMs` in between.
   * @param {number} sentMs
   * @param {number} receivedMs
   * @param {number} serverNowMs
   */
  sample(sentMs, receivedMs, serverNowMs) {
    this.#add(receivedMs - sentMs, serverNowMs - (sentMs + receivedMs) / 2);
  }

  /** Milliseconds since the epoch, server time. */
  now() {
    if (this.#samples.length === 0) return Date.now();
    const best = this.#samples.reduce((a, b) => (b.rtt < a.rtt ? b : a));
    return performance.now() + best.offset;
  }

  /** What to add to Date.now() to have the server's time, in ms. */
  offset() {
    return this.now() - Date.now();
  }

  /** Whether this machine slept: performance.now() stood still, so the samples are worthless. */
  slept() {
    return Math.abs(this.#sleptMs()) > SLEPT_MS;
  }

  /** Forget the samples; what they said, and the time slept, serves until the next `pong`. */
  renew() {
    if (this.#samples.length === 0) return; // there is nothing to go on from
    this.guess(this.now() + (this.slept() ? this.#sleptMs() : 0));
  }

  #sleptMs() {
    return Date.now() - performance.now() - this.#wallOffset;
  }

  /**
   * @param {number} rtt
   * @param {number} offset
   */
  #add(rtt, offset) {
    this.#samples = [...this.#samples, { rtt, offset }].slice(-SAMPLES_MAX);
  }
}
