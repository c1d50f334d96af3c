// The video is behind the events: what is pinned waits here until the picture has it, too.
//
// Owns when a pin or an unpin shows, and what programme time (`EXT-X-PROGRAM-DATE-TIME`) a playhead
// is at. Knows no DOM, no socket and no clock of its own: times are handed in. Never delays what
// offers do. Called by the viewer's page, and by tests without a browser.

/** The longest that a pin waits for the picture; beyond it a wrong encoder clock would hide it. */
export const HOLD_MAX_MS = 5_000;

const DATE = "#EXT-X-PROGRAM-DATE-TIME:";
const READINGS_MAX = 5; // of a playlist; older ones may be from before a jump of the encoder
const CHANGES_MAX = 16; // pins that wait at once; more at a time is no show but a loop

/** Pins as they are shown: changes in their order, each when the playhead has reached it. */
export class PinHold {
  #shown = null; // what is shown now; null before the first snapshot
  #latest = []; // what the room said last
  #waiting = []; // {pins, mediaAt, sinceMs}: changes to come, oldest first

  /**
   * The pins to show. `pins` are the room's, `playheadMs` is the picture's programme time (null: no
   * video, nothing waits), `serverMs` the server's clock and `nowMs` any clock that never goes back.
   */
  show(pins, { playheadMs, serverMs, nowMs }) {
    if (this.#shown === null) this.#shown = this.#latest = pins;
    if (!same(pins, this.#latest)) {
      const mediaAt = momentOf(this.#latest, pins, serverMs);
      this.#latest = pins;
      this.#waiting = [...this.#waiting, { pins, mediaAt, sinceMs: nowMs }].slice(-CHANGES_MAX);
    }
    while (this.#waiting.length > 0 && due(this.#waiting[0], playheadMs, nowMs)) {
      this.#shown = this.#waiting.shift().pins;
    }
    return this.#shown;
  }

  /** Show everything now: an offer that opens must not wait for a picture of its product. */
  release() {
    this.#shown = this.#latest;
    this.#waiting = [];
  }

  /** Whether a change waits for the picture. */
  get holds() {
    return this.#waiting.length > 0;
  }
}

function due({ mediaAt, sinceMs }, playheadMs, nowMs) {
  if (mediaAt === null || playheadMs === null) return true;
  return playheadMs >= mediaAt || nowMs - sinceMs >= HOLD_MAX_MS;
}

function same(left, right) {
  return left.length === right.length && left.every((pin, index) => pin.id === right[index].id);
}

/** The programme time of a change: the newest pin's; an unpin's is when the server said it. */
function momentOf(before, after, serverMs) {
  const known = new Set(before.map((pin) => pin.id));
  const added = after.filter((pin) => !known.has(pin.id));
  if (added.length > 0) {
    const times = added.map((pin) => pin.media_at).filter((time) => Number.isFinite(time));
    return times.length > 0 ? Math.max(...times) : null;
  }
  const kept = new Set(after.map((pin) => pin.id));
  const timed = before.some((pin) => !kept.has(pin.id) && Number.isFinite(pin.media_at));
  return timed ? serverMs : null;
}

/**
 * Read a media playlist: {startMs, endMs, live} in programme time, or null without
 * EXT-X-PROGRAM-DATE-TIME. A date further on corrects what the durations before it have drifted.
 */
export function playlistTimes(text) {
  let atMs = null; // the end of the segments so far
  let startMs = null;
  let beforeMs = 0; // durations of segments before the first date
  let lengthMs = 0;
  let dateMs = NaN;
  for (const line of text.split(/\r?\n/)) {
    // Both stand before their segment's address, in either order.
    if (line.startsWith("#EXTINF:")) lengthMs = Number.parseFloat(line.slice(8)) * 1000;
    else if (line.startsWith(DATE)) dateMs = Date.parse(line.slice(DATE.length).trim());
    else if (line.trim() !== "" && !line.startsWith("#")) {
      if (!Number.isNaN(dateMs)) {
        atMs = dateMs;
        startMs ??= dateMs - beforeMs;
      }
      if (atMs === null) beforeMs += lengthMs;
      else atMs += lengthMs;
      dateMs = NaN;
    }
  }
  if (startMs === null) return null;
  return { startMs, endMs: atMs, live: !text.includes("#EXT-X-ENDLIST") };
}

/** The first variant of a master playlist, resolved against its own URL; null for a media one. */
export function variantUrl(text, base) {
  const lines = text.split(/\r?\n/);
  const index = lines.findIndex((line) => line.startsWith("#EXT-X-STREAM-INF"));
  const name = lines.slice(index + 1).find((line) => line.trim() !== "" && !line.startsWith("#"));
  return index < 0 || name === undefined ? null : new URL(name.trim(), base).href;
}

/**
 * Programme time at position 0 of what plays, from playlists read beside the player.
 *
 * A live one is aligned at its edge: what slid out of it is not known. The one just read may be a
 * segment ahead of the player's, which makes the origin too late and never too early; the earliest
 * of a few readings is therefore the best.
 */
export class Origins {
  #read = []; // ms, newest last

  /** Take one reading, made after the player's last position `edgeS` (seconds) was. */
  take(times, edgeS) {
    const ms = times.live ? times.endMs - edgeS * 1000 : times.startMs;
    this.#read = [...this.#read, ms].slice(-READINGS_MAX);
  }

  /** Programme time at position 0 in ms, or null before the first reading. */
  get ms() {
    return this.#read.length > 0 ? Math.min(...this.#read) : null;
  }

  /** Whether there are as many readings as are kept. */
  get enough() {
    return this.#read.length === READINGS_MAX;
  }
}
