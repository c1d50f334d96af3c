// Pins and the video's delay: when a pin shows, and what time a playhead is at.

import assert from "node:assert/strict";
import { test } from "node:test";

import { pure } from "./pure.mjs";

const { HOLD_MAX_MS, Origins, PinHold, playlistTimes, variantUrl } = await pure("media-time.js");
const T = Date.parse("2026-11-29T12:00:00Z");
const pin = (id, mediaAt) => ({ id, ...(mediaAt !== undefined && { media_at: mediaAt }) });
const ids = (pins) => pins.map((one) => one.id).join();

/** A hold, with clocks that the test sets. */
function stage() {
  const hold = new PinHold();
  const at = { playheadMs: T, serverMs: T + 4_000, nowMs: 0 };
  return { hold, at, show: (pins, more = {}) => ids(hold.show(pins, Object.assign(at, more))) };
}

test("what a snapshot shows at first waits for nothing", () => {
  const { show } = stage();
  assert.equal(show([pin("a", T + 60_000)]), "a");
});

test("a pin shows when the playhead has reached its media_at, and not before", () => {
  const { show } = stage();
  show([]);
  const pins = [pin("a", T + 3_000)];
  assert.equal(show(pins, { playheadMs: T + 1_000, nowMs: 1_000 }), "");
  assert.equal(show(pins, { playheadMs: T + 2_999, nowMs: 2_999 }), "");
  assert.equal(show(pins, { playheadMs: T + 3_000, nowMs: 3_000 }), "a");
});

test("a pin never waits longer than the limit, wherever the playhead is", () => {
  const { show } = stage();
  show([]);
  const pins = [pin("a", T + 3_600_000)];
  assert.equal(show(pins), "");
  assert.equal(show(pins, { nowMs: HOLD_MAX_MS - 1 }), "");
  assert.equal(show(pins, { nowMs: HOLD_MAX_MS }), "a");
  assert.equal(HOLD_MAX_MS, 5_000);
});

test("without a video, or without media_at, a pin shows at once", () => {
  const still = stage();
  still.show([]);
  assert.equal(still.show([pin("a", T + 9_000)], { playheadMs: null }), "a");
  const plain = stage();
  plain.show([]);
  assert.equal(plain.show([pin("a")]), "a");
});

test("a video that goes away lets go of what waited", () => {
  const { show } = stage();
  show([]);
  const pins = [pin("a", T + 4_000)];
  assert.equal(show(pins), "");
  assert.equal(show(pins, { playheadMs: null }), "a");
});

test("an unpin of a timed pin waits for the moment at which the server said it", () => {
  const { show } = stage();
  show([pin("a", T - 9_000)]);
  assert.equal(show([], { playheadMs: T, serverMs: T + 2_000 }), "a");
  assert.equal(show([], { playheadMs: T + 2_000, serverMs: T + 4_000, nowMs: 2_000 }), "");
});

test("an unpin of a pin without a time is seen at once", () => {
  const { show } = stage();
  show([pin("a")]);
  assert.equal(show([]), "");
});

test("changes keep their order: a later one without a time waits for the one before", () => {
  const { show } = stage();
  show([]);
  const first = [pin("a", T + 2_000)];
  const second = [pin("b"), ...first];
  assert.equal(show(first), "");
  assert.equal(show(second, { nowMs: 10 }), "");
  assert.equal(show(second, { playheadMs: T + 2_000, nowMs: 2_000 }), "b,a");
});

test("the same pins again are no change", () => {
  const { hold, show } = stage();
  show([pin("a")]);
  show([pin("a")]);
  assert.equal(hold.holds, false);
});

test("release shows everything at once, for an offer that opens", () => {
  const { hold, show } = stage();
  show([]);
  const pins = [pin("a", T + 4_000)];
  assert.equal(show(pins), "");
  assert.equal(hold.holds, true);
  hold.release();
  assert.equal(show(pins), "a");
  assert.equal(hold.holds, false);
});

test("a storm of pins shows the newest in the end", () => {
  const { show } = stage();
  show([]);
  let pins = [];
  for (let n = 0; n < 40; n++) {
    pins = [pin(`p${n}`, T + 1_000 + n)];
    show(pins, { nowMs: n });
  }
  assert.equal(show(pins, { playheadMs: T + 2_000, nowMs: 100 }), "p39");
});

const LIVE = `#EXTM3U
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-PROGRAM-DATE-TIME:2026-11-29T12:00:00.500Z
#EXTINF:2.0,
7.ts
#EXTINF:1.5,
8.ts
`;

test("a live playlist's times run from its first date to the end of its last segment", () => {
  assert.deepEqual(playlistTimes(LIVE), { startMs: T + 500, endMs: T + 4_000, live: true });
});

test("a date further on reaches back to the segments before it, and corrects those after", () => {
  const text = `#EXTM3U\r\n#EXTINF:2,\r\n0.ts\r\n#EXT-X-PROGRAM-DATE-TIME:2026-11-29T20:00:02+08:00\r\n#EXTINF:2,\r\n1.ts\r\n#EXT-X-PROGRAM-DATE-TIME:2026-11-29T12:00:05Z\r\n#EXTINF:2,\r\n2.ts\r\n#EXT-X-ENDLIST\r\n`;
  assert.deepEqual(playlistTimes(text), { startMs: T, endMs: T + 7_000, live: false });
});

test("a date after its segment's duration, as ffmpeg writes it, says the same", () => {
  const text = "#EXTM3U\n#EXTINF:2.0,\n#EXT-X-PROGRAM-DATE-TIME:2026-11-29T12:00:00.000+0000\n0.ts\n#EXTINF:2.0,\n#EXT-X-PROGRAM-DATE-TIME:2026-11-29T12:00:02.000+0000\n1.ts\n";
  assert.deepEqual(playlistTimes(text), { startMs: T, endMs: T + 4_000, live: true });
});

test("a playlist without a date, or with one that is none, has no times", () => {
  assert.equal(playlistTimes("#EXTM3U\n#EXTINF:2,\n0.ts\n"), null);
  assert.equal(playlistTimes("#EXTM3U\n#EXT-X-PROGRAM-DATE-TIME:soon\n#EXTINF:2,\n0.ts\n"), null);
});

test("a master playlist leads to its first variant, beside it", () => {
  const text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow/index.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nhigh.m3u8\n";
  assert.equal(variantUrl(text, "https://v.example/a/master.m3u8"), "https://v.example/a/low/index.m3u8");
  assert.equal(variantUrl(LIVE, "https://v.example/a/index.m3u8"), null);
});

test("position 0 of a recording is its beginning", () => {
  const origins = new Origins();
  assert.equal(origins.ms, null);
  origins.take({ startMs: T, endMs: T + 60_000, live: false }, 12);
  assert.equal(origins.ms, T);
});

test("position 0 of a live video is the earliest of the last few readings at its edge", () => {
  const origins = new Origins();
  origins.take({ startMs: T, endMs: T + 10_000, live: true }, 6); // read a segment ahead
  assert.equal(origins.ms, T + 4_000);
  origins.take({ startMs: T, endMs: T + 12_000, live: true }, 10);
  assert.equal(origins.ms, T + 2_000);
  assert.equal(origins.enough, false);
  for (let n = 0; n < 5; n++) origins.take({ startMs: T, endMs: T + 90_000, live: true }, 30);
  assert.equal(origins.enough, true);
  assert.equal(origins.ms, T + 60_000); // the encoder jumped: what was before is forgotten
});
