// The pure parts of livecart.js, each by itself. Run by test_sdk_parts.py, in Node's test runner.

import assert from "node:assert/strict";
import { test } from "node:test";

const sdk = new URL("../../livecart/web/sdk/", import.meta.url);
const { backoffMs, freshKey } = await import(new URL("backoff.js", sdk));
const { Room } = await import(new URL("room.js", sdk));
const { EventReader } = await import(new URL("sse.js", sdk));
const { Store } = await import(new URL("store.js", sdk));
const { watchSurroundings } = await import(new URL("surroundings.js", sdk));
const { Tokens, subjectOf } = await import(new URL("tokens.js", sdk));
const { Tasks } = await import(new URL("tasks.js", sdk));
const { Ways } = await import(new URL("ways.js", sdk));
const { ServerClock } = await import(new URL("clock.js", sdk));
const { Pulse } = await import(new URL("pulse.js", sdk));
const { askedOf, refusalOf } = await import(new URL("http.js", sdk));

const settled = () => new Promise((resolve) => setImmediate(resolve));
const EMPTY = { type: "welcome", epoch: "e", seq: 0, cseq: 0, pins: [], offers: [], orders: [] };
const jwt = (claims) => `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.s`;

test("events are whole wherever the bytes are cut", () => {
  const text = 'retry: 5\n\n:\n\nid: e:1:2\ndata: {"text":"限時🍵"}\n\n'
    + "event: close\r\ndata: a\r\ndata: b\r\n\r\n";
  const bytes = new TextEncoder().encode(text);
  const expected = [
    { name: "message", data: '{"text":"限時🍵"}' },
    { name: "close", data: "a\nb" },
  ];
  for (let size = 1; size <= bytes.length; size++) {
    const reader = new EventReader();
    const events = [];
    for (let at = 0; at < bytes.length; at += size) {
      events.push(...reader.take(bytes.subarray(at, at + size)));
    }
    assert.deepEqual(events, expected, `pieces of ${size}`);
  }
});

test("a value stays the same object until it changes, and is frozen", async () => {
  const facts = { list: [{ n: 1 }], other: 1 };
  const list = () => facts.list.map((item) => ({ ...item }));
  const store = new Store({ list, other: () => facts.other });
  const first = store.get("list");
  const state = store.state;
  store.mark("list");
  assert.equal(store.get("list"), first);
  assert.equal(store.state, state);
  assert.throws(() => first.push(1), TypeError);
  assert.throws(() => (first[0].n = 2), TypeError);
  facts.list = [{ n: 2 }];
  store.mark("list");
  assert.notEqual(store.get("list"), first);
  assert.deepEqual(first, [{ n: 1 }]);
  assert.notEqual(store.state, state);
});

test("a listener is told once a task, of what changed for it, until it ends", async () => {
  let n = 0;
  const store = new Store({ n: () => n, fixed: () => "x" });
  const told = [];
  const end = store.subscribe("n", (now, before) => told.push([now, before]));
  store.subscribe("fixed", () => told.push("fixed"));
  store.subscribe(({ n }) => n > 1, (now) => told.push(now));
  for (n = 1; n < 3; n++) store.mark("n", "fixed");
  await settled();
  assert.deepEqual(told, [[3, 0], true]);
  store.mark("n");
  await settled();
  end();
  n = 9;
  store.mark("n");
  await settled();
  assert.equal(told.length, 2);
});

test("one listener's mistake is uncaught, and the others are told", async () => {
  let n = 0;
  const store = new Store({ n: () => n });
  const caught = [];
  const told = [];
  const keep = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.once("uncaughtException", (error) => caught.push(error.message));
  store.subscribe("n", () => {
    throw new Error("a page's");
  });
  store.subscribe("n", (now) => told.push(now));
  n = 1;
  store.mark("n");
  await settled();
  await settled();
  for (const listener of keep) process.on("uncaughtException", listener);
  assert.deepEqual([caught, told], [["a page's"], [1]]);
});

test("the ways take turns once WebSocket is silent, later where it got through before", () => {
  const tried = (ways, count) =>
    Array.from({ length: count }, () => {
      const way = ways.next();
      ways.silent(way);
      return way[0];
    }).join("");
  const ways = new Ways(["socket", "events"]);
  assert.equal(tried(ways, 7), "ssseses");
  ways.free();
  assert.equal(tried(ways, 11), "ssssssssese");
  ways.free();
  ways.moved();
  assert.equal(tried(ways, 5), "ssses");
  assert.equal(tried(new Ways(["socket"]), 5), "sssss");
  assert.equal(tried(new Ways(["events"]), 3), "eee");
});

test("a token is due when there is none, when it ended and when it was refused", async () => {
  let asked = 0;
  const ask = async () => jwt({ exp: 100 + ++asked });
  assert.equal(new Tokens("opaque", null).due(1e15), false);
  assert.equal(new Tokens(jwt({ exp: 5 }), null).due(1e15), false);
  const tokens = new Tokens(null, ask);
  assert.equal(tokens.due(0), true);
  await Promise.all([tokens.fetch(), tokens.fetch()]);
  assert.equal(asked, 1);
  assert.equal(tokens.endsAt(), 101_000);
  assert.equal(tokens.due(100_999), false);
  assert.equal(tokens.due(101_000), true);
  assert.deepEqual([1, 2, 3, 4].map(() => tokens.refused()), [true, true, true, false]);
  tokens.accepted();
  assert.equal(tokens.due(0), true);
  assert.equal(tokens.refused(), true);
  for (const value of ["", "a", "a.!.c", "a.e30.c"]) {
    assert.equal(new Tokens(value, ask).endsAt(), null, value);
    assert.equal(subjectOf(value), null, value);
  }
});

test("a token that the page gives outlasts one that was asked for before", async () => {
  let give;
  const tokens = new Tokens(null, () => new Promise((resolve) => (give = resolve)));
  const asking = tokens.fetch();
  tokens.replace("by the page");
  give("too late");
  await asking;
  assert.equal(tokens.value, "by the page");
});

test("a token is renewed in its second half, at most half an hour ahead, never in a hurry", () => {
  const tokens = (exp) => new Tokens(jwt({ exp }), async () => null);
  for (const ttl of [3, 60, 7_200, 1e8]) {
    const inMs = tokens(1_000 + ttl).renewInMs(1_000_000);
    assert.ok(inMs >= Math.max(ttl * 500, ttl * 1000 - 1_800_000) && inMs < ttl * 1000, String(inMs));
  }
  assert.equal(tokens(1_000).renewInMs(2_000_000), 1_000);
  assert.equal(new Tokens(jwt({ exp: 1 }), null).renewInMs(0), null);
});

test("a room tells news from what it has seen, and sees gaps in both sequences", () => {
  const room = new Room();
  const snapshot = { ...EMPTY, seq: 5, cseq: 2 };
  room.snapshot(snapshot);
  const chat = (cseq) => room.apply({ type: "chat", cseq, message: { id: `m${cseq}` } });
  assert.deepEqual([chat(2), chat(3), chat(5)], ["seen", "chat", "gap"]);
  assert.equal(room.apply({ type: "chat.skipped", cseq: 8 }), null);
  assert.equal(chat(9), "chat");
  assert.equal(room.apply({ type: "not.known.yet", seq: 6 }), null);
  assert.equal(room.apply({ type: "unpinned", seq: 8, pin: "p" }), "gap");
  assert.deepEqual(room.since(), { epoch: "e", seq: 6, cseq: 9 });
  room.snapshot({ ...snapshot, recovered: true, seq: 7 });
  const history = { type: "unpinned", seq: 7, pin: "p" };
  assert.deepEqual([room.apply(history), room.isHistory(history)], [null, true]);
  assert.equal(room.apply({ type: "unpinned", seq: 8, pin: "p" }), "pins");
});

test("an older order or stock changes nothing", () => {
  const room = new Room();
  const offer = { id: "of", version: 4, left: 3, epoch: 1, status: "open" };
  const order = { id: "or", version: 2, status: "confirmed", offer: "of", qty: 2, reserved_at: 1 };
  room.snapshot({ ...EMPTY, offers: [offer], orders: [order] });
  assert.equal(room.apply({ type: "stock", offer: "of", left: 9, version: 3 }), null);
  const older = { ...order, version: 1, status: "reserved" };
  assert.equal(room.apply({ type: "order.reserved", order: older }), null);
  assert.equal(room.apply({ type: "stock", offer: "of", left: 1, version: 5 }), "offers");
  room.apply({ type: "offer.restocked", seq: 1, offer: { ...offer, quantity: 9 } });
  assert.equal(room.offers.get("of").left, 1);
  assert.equal(room.taken("of"), 2);
});

test("a stream that starts says where its film is, and keeps when it started first", () => {
  const room = new Room();
  room.snapshot({ ...EMPTY, stream: { id: "st", status: "scheduled" } });
  const started = { type: "stream.started", seq: 1, at: 7, playback_url: "https://shop.example/a.m3u8" };
  assert.equal(room.apply(started), "stream");
  const live = { id: "st", status: "live", started_at: 7, playback_url: "https://shop.example/a.m3u8" };
  assert.deepEqual(room.stream, live);
  room.apply({ type: "stream.started", seq: 2, at: 9 });
  assert.deepEqual(room.stream, live);
});

test("after a sleep a line that cannot be asked is taken for dead", () => {
  let slept = false;
  const told = [];
  const clock = { slept: () => slept, renew() {} };
  const pulse = new Pulse({ send: () => false, dead: () => told.push(slept), times: {}, clock });
  pulse.heard();
  pulse.start(60_000, false);
  pulse.probe();
  slept = true;
  pulse.probe();
  pulse.stop();
  assert.deepEqual(told, [true]);
});

test("the clock goes on over a sleep, and has nothing to renew before it was told", () => {
  const { now } = Date;
  const clock = new ServerClock();
  const asleep = (ms) => (Date.now = () => now.call(Date) + ms);
  try {
    asleep(60_000);
    clock.renew();
    assert.equal(clock.slept(), true); // still the machine's own time, which is what it says
    assert.ok(Math.abs(clock.offset()) < 100);
    clock.guess(1_000_000);
    asleep(120_000);
    assert.equal(clock.slept(), true);
    clock.renew();
    assert.ok(Math.abs(clock.now() - 1_060_000) < 1_000);
    assert.equal(clock.slept(), false);
  } finally {
    Date.now = now;
  }
});

test("a refusal is final when the server itself has said it, and not a gateway's page", async () => {
  const codeOf = async (status, body) => (await refusalOf(new Response(body, { status }))).code;
  for (const [status, code] of [[400, 4400], [401, 4401], [403, 4403], [404, 4404]]) {
    assert.equal(await codeOf(status, '{"code":"some","detail":"why"}'), code);
    for (const page of ["<h1>Sign in</h1>", "null", "[]", '{"code":1}', ""]) {
      assert.equal(await codeOf(status, page), 4503, `${status} ${page}`);
    }
  }
  assert.equal(await codeOf(429, ""), 4429);
});

/** Tasks whose server answers as the test says; `sent` is what it was sent. */
function tasksOf(answers = []) {
  const sent = [];
  const way = {
    send(fields, answer) {
      sent.push(fields);
      const frame = answers.shift();
      if (frame) queueMicrotask(() => answer(frame));
      return true;
    },
    renewable: () => false,
    room: new Room(),
    nowMs: () => 0,
    began() {},
    ended() {},
  };
  return { tasks: new Tasks(way, { answerMs: 60_000, resendMs: 60_000 }), sent };
}

test("a purchase whose outcome is not known keeps its key until the key was looked at", async () => {
  const reject = (code) => ({ type: "reject", code });
  const { tasks } = tasksOf([null, reject("unauthenticated"), reject("key_reused")]);
  const buy = (qty) => {
    const key = tasks.keyFor("of");
    return { key, outcome: tasks.add({ type: "buy", offer: "of", qty, key }) };
  };
  const first = buy(1);
  tasks.fail();
  assert.equal((await first.outcome).code, "unknown");
  const more = buy(2); // another number, and refused before anybody looked at the key
  assert.deepEqual([more.key, (await more.outcome).code], [first.key, "unauthenticated"]);
  const again = buy(2);
  assert.deepEqual([again.key, (await again.outcome).code], [first.key, "key_reused"]);
  assert.notEqual(tasks.keyFor("of"), first.key);
});

test("who has to wait for long is told at once, and a purchase keeps its key", async () => {
  const limited = (retry_after_ms) => ({ type: "reject", code: "rate_limited", retry_after_ms });
  const { tasks, sent } = tasksOf([limited(2_001), limited(1), { type: "ok" }, limited(60_001)]);
  const line = { type: "chat", text: "hello", key: "k" };
  assert.deepEqual(await tasks.add(line), limited(2_001));
  assert.deepEqual(sent, [line]);
  assert.equal((await tasks.add(line)).code, undefined); // a moment is waited for
  assert.deepEqual(sent, [line, line, line]);
  const key = tasks.keyFor("of");
  assert.deepEqual(await tasks.add({ type: "buy", offer: "of", qty: 1, key }), limited(60_001));
  assert.equal(tasks.keyFor("of"), key);
  assert.equal(tasks.busy, false);
});

test("nothing of one person is sent for the next", async () => {
  const { tasks, sent } = tasksOf();
  const key = tasks.keyFor("of");
  const outcome = tasks.add({ type: "buy", offer: "of", qty: 1, key });
  tasks.forget();
  tasks.resume();
  assert.equal((await outcome).code, "unknown");
  assert.equal(sent.length, 1);
  assert.notEqual(tasks.keyFor("of"), key);
});

test("what was asked for before a long freeze is not asked for after it", async () => {
  const { tasks, sent } = tasksOf();
  const key = tasks.keyFor("of");
  const outcome = tasks.add({ type: "buy", offer: "of", qty: 1, key });
  const now = Date.now;
  try {
    Date.now = () => now.call(Date) + 59_000;
    tasks.resume();
    assert.equal(sent.length, 2);
    Date.now = () => now.call(Date) + 61_000; // no timer has run meanwhile
    tasks.resume();
  } finally {
    Date.now = now;
  }
  assert.equal((await outcome).code, "unknown");
  assert.equal(sent.length, 2);
  assert.equal(tasks.keyFor("of"), key);
});

test("back-off is drawn below a ceiling that doubles from 0.5 s to 20 s", () => {
  const random = Math.random;
  Math.random = () => 1;
  try {
    const ceilings = [0, 1, 2, 3, 4, 5, 6, 60].map(backoffMs);
    assert.deepEqual(ceilings, [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000]);
  } finally {
    Math.random = random;
  }
  assert.match(freshKey(), /^[0-9a-f]{32}$/);
});

test("the page's events are heard until the end, and none is needed", () => {
  const [page, network, around] = [new EventTarget(), new EventTarget(), new EventTarget()];
  const told = [];
  const say = (word) => () => told.push(word);
  const words = { wake: say("wake"), sleep: say("sleep"), look: say("look"), moved: say("moved") };
  watchSurroundings(words)();
  Object.assign(page, { visibilityState: "hidden" });
  const hear = around.addEventListener.bind(around);
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.assign(globalThis, { document: page, addEventListener: hear });
  const value = { connection: network };
  Object.defineProperty(globalThis, "navigator", { value, configurable: true });
  const end = watchSurroundings(words);
  const happens = () => {
    page.dispatchEvent(new Event("visibilitychange"));
    page.visibilityState = "visible";
    page.dispatchEvent(new Event("visibilitychange"));
    network.dispatchEvent(new Event("change"));
    for (const name of ["freeze", "resume"]) page.dispatchEvent(new Event(name));
    for (const name of ["pagehide", "pageshow", "online", "offline"]) {
      around.dispatchEvent(new Event(name));
    }
  };
  happens();
  end();
  happens();
  delete globalThis.document;
  delete globalThis.addEventListener;
  if (before) Object.defineProperty(globalThis, "navigator", before);
  else delete globalThis.navigator;
  const expected = ["look", "moved", "sleep", "wake", "sleep", "wake", "look", "look"];
  assert.deepEqual(told, expected);
});

test("ids are escaped in the paths of HTTP calls", () => {
  const base = "https://shop.example/v1/streams/st_1";
  const asked = askedOf(base, { type: "cancel", order: "../a b" });
  assert.equal(asked.url, "https://shop.example/v1/orders/..%2Fa%20b/cancel");
  assert.equal(askedOf(base, { type: "ban", user: "u" }), null);
});
