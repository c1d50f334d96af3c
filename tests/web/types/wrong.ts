// A page that gets each thing wrong once: every line that says so must fail, and no other.

import { LiveCart } from "livecart";

const cart = new LiveCart({ stream: "st_1" });
export const noStream = new LiveCart({ token: "t" }); // wrong
export const noWay = new LiveCart({ stream: "st_1", transports: ["pigeon"] }); // wrong
export const text = cart.buy("of_1", "1"); // wrong
export const part = cart.get("basket"); // wrong
cart.subscribe("pins", (pins) => pins.push(pins[0])); // wrong
cart.subscribe("stock", (stock) => (stock["of_1"].left = 0)); // wrong
cart.addEventListener("event", ({ detail }) => detail.frame.type === "offer.vanished"); // wrong
cart.react("hate"); // wrong
cart.moderate("explode", {}); // wrong
cart.status = "open"; // wrong
export const order = cart.buy("of_1", 1).then((bought) => bought.order.id); // wrong
