// A page that uses the client as it is meant: must pass.

import { LiveCart, backoffMs, freshKey } from "livecart";
import type { CartState, Message, MyOrder, RejectCode } from "livecart";

const cart = new LiveCart({
  stream: "st_1",
  origin: "https://shop.example",
  getToken: async () => "a token",
  transports: ["socket", "events"],
  times: { answerMs: 5_000 },
});

const ends: (() => void)[] = [
  cart.subscribe("orders", (orders, before) => {
    const added: number = orders.length - before.length;
    const waits: MyOrder | undefined = orders.find((order) => order.pending === "reserving");
    console.log(added, waits?.rank, waits?.amount_minor);
  }),
  cart.subscribe("status", ({ status, retryAt }) => console.log(status, retryAt ?? 0)),
  cart.subscribe(
    (state: Readonly<CartState>) => state.stock["of_1"]?.left ?? 0,
    (left: number) => console.log(left),
  ),
];

cart.addEventListener("event", ({ detail: { frame, history } }) => {
  if (history) return;
  if (frame.type === "offer.opened") console.log(frame.offer.product.title, frame.seq);
  else if (frame.type === "order.expired") console.log(frame.order.rank);
});
cart.addEventListener("notice", ({ detail }) => {
  if (detail.type === "draining") console.log(detail.retry_after_ms);
  else if (detail.type === "muted") console.log(detail.until?.toFixed());
});

export async function sell(): Promise<number | RejectCode | "unknown"> {
  cart.connect();
  const bought = await cart.buy("of_1", 1, { key: freshKey() });
  if (bought.code !== undefined) return bought.code;
  const said = await cart.chat("got it");
  const message: Message | null = said.code === undefined ? said.message : null;
  cart.react("love");
  const waiting = await cart.wait("of_2", 1);
  if (waiting.code === undefined && waiting.order === undefined) console.log(waiting.position);
  await cart.moderate("mute", { user: message?.user });
  for (const end of ends) end();
  cart.close();
  return bought.order.amount_minor + backoffMs(0);
}
