// The video is behind the events: what is pinned waits here until the picture has it, too.
//
// Owns when a pin or an unpin shows, and what programme time (`EXT-X-PROGRAM-DATE-TIME`) a playhead
// is at. Knows no DOM, no socket and no clock of its own: times are handed in. Never delays what
// offers do. Called by the viewer's page, and by tests without a browser.

/** The longest that a pin waits for the picture; beyond it a wrong encoder clock would hide it. */
export const HOLD_MAX_MS = 5_000;

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
  let atMs = null;
  let startMs = null;
  let beforeMs = 0; // durations of segments before the first date
  for (const line of text.split(/\r?\n/)) {
    const duration = /^#EXTINF:([\d.]+)/.exec(line);
    const date = /^#EXT-X-PROGRAM-DATE-TIME:(.+)$/.exec(line);
    if (date) {
      const parsed = Date.parse(date[1].trim());
      if (Number.isNaN(parsed)) continue;
      atMs = parsed;
      startMs ??= parsed - beforeMs;
    } else if (duration) {
      const lengthMs = Number(duration[1]) * 1000;
      if (atMs === null) beforeMs += lengthMs;
      else atMs += lengthMs;
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
 * Programme time at position 0 of a video whose playlist was just read: a live one is aligned at
 * its edge (`seekableEndS`), since what slid out of it is not known; any other at its beginning.
 */
export function originMs(times, seekableEndS) {
  return times.live ? times.endMs - seekableEndS * 1000 : times.startMs;
}
