// The server's clock as seen from here: the offset of the smallest round trip of the last few.

const SAMPLES_MAX = 8;

export class ServerClock {
  #samples = []; // {rtt, offset} in ms, newest last
  #wallOffset = Date.now() - performance.now();

  /** Take a coarse first guess (from `welcome`), worse than any measured sample. */
  guess(serverNowMs) {
    this.#restart();
    this.#add(Infinity, serverNowMs - performance.now());
  }

  /** Take one `pong`: sent and received on performance.now(), `serverNowMs` in between. */
  sample(sentMs, receivedMs, serverNowMs) {
    this.#add(receivedMs - sentMs, serverNowMs - (sentMs + receivedMs) / 2);
  }

  /** Milliseconds since the epoch, server time. */
  now() {
    if (this.#samples.length === 0) return Date.now();
    const best = this.#samples.reduce((a, b) => (b.rtt < a.rtt ? b : a));
    return performance.now() + best.offset;
  }

  /** Whether this machine slept: performance.now() stood still, so the samples are worthless. */
  slept() {
    return Math.abs(this.#sleptMs()) > 1_000;
  }

  /** Forget the samples; what they said, and the time slept, serves until the next `pong`. */
  renew() {
    this.guess(this.now() + (this.slept() ? this.#sleptMs() : 0));
  }

  #sleptMs() {
    return Date.now() - performance.now() - this.#wallOffset;
  }

  #restart() {
    this.#samples = [];
    this.#wallOffset = Date.now() - performance.now();
  }

  #add(rtt, offset) {
    this.#samples = [...this.#samples, { rtt, offset }].slice(-SAMPLES_MAX);
  }
}
