// The checkout's page, served at /pay: what a link is for, where it goes to, and paying.
//
// The token stands behind `#`: no server and no log sees it, and it is sent in a header of its own.
// Nothing is decided here: whether something is paid is what the server says.

import { Api } from "./api.js";
import { at, h, keyed, say, tell, tokenOf } from "./dom.js";
import { money } from "./money.js";
import { language, reason, t, translatePage } from "./text.js";

const LOOK_MS = 2_000;
const STRIPE_JS = "https://js.stripe.com/v3/";

translatePage();
const token = tokenOf("livecart.checkout.token");
const api = new Api(null);
const asked = (method, path, body) =>
  api.call(method, path, body, { "Livecart-Checkout": token ?? "" });
let card = null; // Stripe's, once a payment is begun there: { stripe, elements }

function show(checkout) {
  const products = new Map(checkout.products.map((product) => [product.id, product]));
  keyed(
    at("orders"),
    checkout.orders,
    (order) => order.id,
    () => h("li", { class: "card" }, h("span"), h("span", { class: "chip" })),
    (element, order) => {
      const title = products.get(order.product)?.title ?? order.product;
      const amount = money(order.amount_minor, order.currency, language);
      say(element.children[0], `${title} × ${order.qty}　${amount}`);
      say(element.children[1], t(`order_${order.status}`));
    },
  );
  const waiting = checkout.orders.filter((order) => order.status === "reserved");
  const total = waiting.reduce((sum, order) => sum + order.amount_minor, 0);
  const currency = (waiting[0] ?? checkout.orders[0])?.currency;
  say(at("total"), currency === undefined ? "" : money(total, currency, language));
  at("pay-form").hidden = waiting.length === 0;
  if (waiting.length === 0) {
    const paid = checkout.orders.some((order) => ["confirmed", "shipped"].includes(order.status));
    tell(at("outcome"), t(paid ? "paid_thanks" : "nothing_to_pay"), paid ? "good" : "");
  }
  const select = at("provider");
  if (select.options.length === 0) {
    for (const name of checkout.providers) select.append(h("option", { value: name }, name));
    select.parentElement.hidden = checkout.providers.length < 2;
    at("pay-button").disabled = checkout.providers.length === 0;
    if (checkout.providers.length === 0) tell(at("outcome"), t("pay_at_shop"));
  }
  return waiting.length > 0;
}

async function refresh() {
  try {
    if (show(await asked("GET", "/v1/checkout"))) setTimeout(refresh, LOOK_MS);
  } catch (problem) {
    if (problem.status === 401) return turnAway();
    setTimeout(refresh, LOOK_MS);
  }
}

function turnAway() {
  at("notice").hidden = false;
  say(at("notice"), t("link_bad"));
  at("all").hidden = true;
}

/** The address that was typed, or nothing when none was. */
function contact() {
  const fields = Object.fromEntries(
    [...new FormData(at("pay-form"))].filter(([name, value]) => name !== "provider" && value.trim()),
  );
  if (Object.keys(fields).length === 0) return undefined;
  if (fields.country) fields.country = fields.country.toUpperCase();
  return fields;
}

async function pay(event) {
  event.preventDefault();
  const button = at("pay-button");
  button.disabled = true;
  tell(at("outcome"), t("loading"));
  try {
    if (card !== null) await confirmCard();
    else await begin();
  } catch (problem) {
    const known = problem.code && problem.code !== "bad_request"; // that one names the field
    tell(at("outcome"), known ? reason(problem) : problem.message, "bad");
  } finally {
    button.disabled = false;
  }
}

async function begin() {
  const body = { provider: at("provider").value || undefined, contact: contact() };
  const payment = await asked("POST", "/v1/checkout/pay", body);
  const client = payment.client ?? {};
  if (client.instructions) tell(at("outcome"), client.instructions, "good");
  else if (client.client_secret && client.publishable_key) await showCard(client);
  else tell(at("outcome"), t("payment_waits"));
}

/** Have Stripe's own form asked for the card: no card number ever comes near this page. */
async function showCard(client) {
  await new Promise((resolve, reject) => {
    const script = h("script", { src: STRIPE_JS });
    script.onload = resolve;
    script.onerror = () => reject(new Error(t("code_unreachable")));
    document.head.append(script);
  });
  const stripe = window.Stripe(client.publishable_key);
  const elements = stripe.elements({ clientSecret: client.client_secret });
  elements.create("payment").mount("#card");
  card = { stripe, elements };
  tell(at("outcome"), "");
}

async function confirmCard() {
  const { error } = await card.stripe.confirmPayment({
    elements: card.elements,
    redirect: "if_required",
  });
  if (error) throw error;
  tell(at("outcome"), t("payment_waits"));
}

at("pay-form").addEventListener("submit", pay);
if (token === null) turnAway();
else refresh();
