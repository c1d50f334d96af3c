// @ts-check
// Server-Sent Events out of bytes. The browser's own EventSource cannot send a token.
//
// Pure; knows the format and no stream. `id` is not kept: the position is the room's own.

export class EventReader {
  #decoder = new TextDecoder();
  #rest = "";
  #name = "";
  /** @type {string[]} */
  #data = [];

  /**
   * The events that these bytes complete.
   * @param {Uint8Array} bytes
   * @returns {{name: string, data: string}[]}
   */
  take(bytes) {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#rest = lines.pop() ?? "";
    const events = [];
    for (const line of lines) {
      const event = this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (event !== null) events.push(event);
    }
    return events;
  }

  /** @param {string} line */
  #line(line) {
    if (line === "") {
      const event = { name: this.#name || "message", data: this.#data.join("\n") };
      const whole = this.#data.length > 0;
      this.#name = "";
      this.#data = [];
      return whole ? event : null;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#name = value;
    return null;
  }
}
