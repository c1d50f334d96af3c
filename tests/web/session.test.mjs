// How a page trades its code: what stands in the address, and what is sent, when nobody answers.

import assert from "node:assert/strict";
import { test } from "node:test";

import { pure } from "./pure.mjs";

const { enter } = await pure("session.js");
const URL_OF = new URL("https://shop.example/s/st_1?a=b");

/** A tab opened at a fragment, whose calls are answered with these statuses, the last one for good. */
function opened(hash, ...statuses) {
  const store = new Map();
  const sent = [];
  const { pathname, search } = URL_OF;
  const location = { pathname, search, hash };
  const replaceState = (_, __, url) => (location.hash = new URL(url, URL_OF).hash);
  const sessionStorage = {
    getItem: (key) => store.get(key) ?? null,
    setItem: (key, value) => store.set(key, value),
  };
  async function fetch(_, { body }) {
    sent.push({ ...JSON.parse(body), shown: location.hash });
    const status = statuses.length > 1 ? statuses.shift() : statuses[0];
    if (status === 0) throw new TypeError("no network");
    return new Response(JSON.stringify({ token: "good" }), { status });
  }
  Object.assign(globalThis, { location, history: { state: null, replaceState }, sessionStorage, fetch });
  return { location, sent };
}

/** Enter without the drawn pauses between tries. */
async function entered(key) {
  const { random } = Math;
  Math.random = () => 0;
  try {
    return await enter(key);
  } finally {
    Math.random = random;
  }
}

test("all tries of one trade have one name, and none is made with the code in sight", async () => {
  const { location, sent } = opened("#code=c1&stream=st_1", 0, 502, 200);
  assert.equal(await entered("a"), "good");
  assert.equal(location.hash, "#stream=st_1");
  assert.equal(sent.length, 3);
  assert.equal(new Set(sent.map(({ once }) => once)).size, 1);
  assert.match(sent[0].once, /^[0-9a-f]{32}$/);
  assert.deepEqual(sent.map(({ shown, code }) => [shown, code]), Array(3).fill(["#stream=st_1", "c1"]));
});

test("a code that nobody answered to is traded again after a reload, as the same trade", async () => {
  for (const status of [0, 429, 500]) {
    const first = opened("#code=c1", status);
    assert.equal(await entered(`b${status}`), null);
    const second = opened(first.location.hash, 200);
    assert.equal(await entered(`c${status}`), "good");
    assert.deepEqual([second.sent[0].code, second.sent[0].once], ["c1", first.sent[0].once]);
    assert.equal(second.location.hash, "");
  }
});

test("a code that was refused does not come back", async () => {
  const { location, sent } = opened("#code=c1", 400);
  assert.equal(await entered("d"), null);
  assert.deepEqual([location.hash, sent.length], ["", 1]);
});
