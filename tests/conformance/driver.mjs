// Runs livecart.js for a test: one JSON document a line in, one out. Started by drivers.py.
//
//   in   {"n": 1, "do": "start", "with": {module, options, tokens, luck}}   makes and connects one
//        {"n": 2, "do": "call", "with": {"method": "buy", "args": ["of_1", 1]}}
//        {"n": 3, "do": "get", "with": {"part": "orders"}}
//        {"n": 4, "do": "watch", "with": {"part": "orders"}}   tells each value from then on
//   out  {"n": 2, "result": …} · {"event": frame} · {"status": {…}}
//        {"part": "orders", "value": …} · {"notice": …}

import { createInterface } from "node:readline";

const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
let cart;

async function start({ module, options, tokens, luck }) {
  // Drawn pauses would make a test long; a small draw is one of those that may come.
  if (luck !== null) Math.random = () => luck;
  const { LiveCart } = await import(module);
  // The last token is given again and again; an empty one stands for a shop that is away.
  const getToken = tokens && (async () => {
    const token = tokens.length > 1 ? tokens.shift() : tokens[0];
    if (token === "") throw new Error("no token now");
    return token;
  });
  cart = new LiveCart({ ...options, getToken });
  cart.addEventListener("event", ({ detail }) => say({ event: detail.frame }));
  cart.addEventListener("status", () => say({ status: cart.get("status") }));
  cart.addEventListener("notice", ({ detail }) => say({ notice: detail }));
  cart.addEventListener("token", ({ detail: { error } }) =>
    say({ notice: { type: "token", why: error.message } }));
  cart.connect();
}

const deeds = {
  ready: () => true,
  start,
  call: ({ method, args }) => cart[method](...args),
  get: ({ part }) => cart.get(part),
  watch({ part }) {
    cart.subscribe(part, (value) => say({ part, value }));
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { n, do: deed, with: what } = JSON.parse(line);
  // Not awaited: a buy that waits for its answer must not keep the next line waiting.
  Promise.resolve(deeds[deed](what)).then(
    (result) => say({ n, result: result ?? null }),
    (error) => say({ n, error: String(error?.stack ?? error) }),
  );
}
process.exit(0);
