// The checkout's page, served at /pay: what a link is for, where it goes to, and paying.
//
// Either a link's token stands behind `#` (no server and no log sees it; it is sent in a header of
// its own), or `#order=` names an order of the viewer who came here from a show, in the same tab.
// Nothing is decided here: whether something is paid is what the server says.

import { Api } from "./api.js";
import { at, h, keyed, say, tell, tokenOf } from "./dom.js";
import { money } from "./money.js";
import { enter, renew } from "./session.js";
import { language, number, reason, t, translatePage } from "./text.js";

const LOOK_MS = 2_000;
const STRIPE_JS = "https://js.stripe.com/v3/";
const LINK_KEY = "livecart.checkout.token";
const VIEWER_KEY = "livecart.viewer.token";

translatePage();
const orderId = new URLSearchParams(location.hash.slice(1)).get("order");
const token = orderId === null ? tokenOf(LINK_KEY) : await enter(VIEWER_KEY);
const till = orderId === null ? linked(token) : owned(orderId, token);
let card = null; // Stripe's, once a payment is begun there: { stripe, elements }

/** A checkout by link: whoever has it may pay. */
function linked(secret) {
  const api = new Api(null);
  const headers = { "Livecart-Checkout": secret ?? "" };
  return {
    look: () => api.call("GET", "/v1/checkout", undefined, headers),
    begin: (body) => api.call("POST", "/v1/checkout/pay", body, headers),
  };
}

/** A viewer's own order, in the same shape. */
function owned(id, viewer) {
  const api = new Api(viewer);
  let product = null;
  // Paying may take longer than what is left of the token that came along from the show.
  if (viewer !== null) renew(VIEWER_KEY).then((fresh) => fresh !== null && api.use(fresh));
  return {
    async look() {
      const order = await api.get(`/v1/orders/${encodeURIComponent(id)}`);
      product ??= await api.get(`/v1/products/${encodeURIComponent(order.product)}`);
      const { items } = await api.get(`/v1/orders/${encodeURIComponent(id)}/payments`);
      // A look at a payment has its provider asked, should the notice have got lost.
      const begun = items.find((payment) => payment.state === "open");
      if (begun) await api.get(`/v1/payments/${encodeURIComponent(begun.id)}`);
      return { orders: [order], products: [product] };
    },
    begin: (body) => api.post("/v1/checkouts", { ...body, orders: [id] }),
  };
}

function show(checkout) {
  const products = new Map(checkout.products.map((product) => [product.id, product]));
  keyed(
    at("orders"),
    checkout.orders,
    (order) => order.id,
    () =>
      h("li", { class: "card line-item" },
        h("b"), h("span", { class: "chip" }), h("span", { class: "dim" }), h("strong")),
    (element, order) => {
      const [title, chip, count, amount] = element.children;
      say(title, products.get(order.product)?.title ?? order.product);
      say(chip, t(`order_${order.status}`));
      chip.dataset.status = order.status;
      say(count, `× ${number(order.qty)}`);
      say(amount, money(order.amount_minor, order.currency, language));
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
  showBack(checkout.orders[0]?.stream);
  const select = at("provider");
  // Of one's own order it is not said who is connected: the server takes the usual one.
  select.parentElement.hidden ||= checkout.providers === undefined;
  if (checkout.providers && select.options.length === 0) {
    for (const name of checkout.providers) select.append(h("option", { value: name }, name));
    select.parentElement.hidden = checkout.providers.length < 2;
    at("pay-button").disabled = checkout.providers.length === 0;
    if (checkout.providers.length === 0) tell(at("outcome"), t("pay_at_shop"));
  }
  return waiting.length > 0;
}

/** Only who came from a show goes back to it: a link may have been sent to somebody else. */
function showBack(stream) {
  at("back").hidden = orderId === null || stream === undefined;
  if (stream !== undefined) at("back").href = `/s/${encodeURIComponent(stream)}`;
}

async function refresh() {
  try {
    if (show(await till.look())) setTimeout(refresh, LOOK_MS);
  } catch (problem) {
    if ([401, 403, 404].includes(problem.status)) return turnAway();
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
    const words = known ? reason(problem) : problem.message;
    // No provider is connected: the shop takes the money itself.
    tell(at("outcome"), problem.code === "forbidden" ? t("pay_at_shop") : words, "bad");
  } finally {
    button.disabled = false;
  }
}

async function begin() {
  const body = { provider: at("provider").value || undefined, contact: contact() };
  const payment = await till.begin(body);
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
