// The form of an offer: prepare a new one, one like another, or change a draft. With a time to open
// it is scheduled and opens by itself. Called by the offers' cards.

import { at, h, keyed, say, tell } from "./dom.js";
import { act, desk, fieldOf, once, streamPath, timeOf } from "./host-desk.js";
import { shown } from "./host-dialog.js";
import { Making } from "./host-once.js";
import { exponent, minorUnits } from "./money.js";
import { t } from "./text.js";

const TIMES = ["opens_at", "closes_at"];

let editing = null; // the draft that is changed; null: a new offer is made
const making = new Making();

/** Wire the form, once. */
export function wireOfferForm() {
  at("offer-form").addEventListener("submit", save);
  at("offer-form").elements.product.addEventListener("change", suggestPrice);
}

/** Show the form: empty, filled as `like` is, or to change `like` itself. */
export function openOfferForm(like = null, change = false) {
  if (desk.products.length === 0) return tell(at("offers-outcome"), t("need_product"), "bad");
  editing = change ? like : null;
  making.renew();
  const form = at("offer-form");
  const fields = form.elements;
  form.reset();
  // What a live show was told to write is not taken back.
  const stays = change && Boolean(like.keyword) && desk.stream.status !== "scheduled";
  fields.keyword.disabled = stays;
  tell(at("offer-outcome"), stays ? t("keyword_stays") : "");
  keyed(fields.product, desk.products, ({ id }) => id, (product) =>
    h("option", { value: product.id }, `${product.title} (${product.sku})`));
  const words = change ? "edit_offer" : like ? "duplicate_offer" : "new_offer";
  say(at("offer-dialog-title"), t(words));
  say(at("offer-submit"), t(change ? "save" : "create"));
  if (like) {
    fields.product.value = like.product.id;
    for (const name of ["quantity", "per_viewer", "hold_s", "payment"]) fields[name].value = like[name];
    if (change) for (const name of TIMES) fields[name].value = like[name] ? fieldOf(like[name]) : "";
    // A keyword belongs to one offer of a stream that is not over.
    if (change || like.status === "closed") fields.keyword.value = like.keyword ?? "";
  }
  suggestPrice();
  if (like) fields.price.value = String(like.price_minor / 10 ** exponent(like.currency));
  return shown(at("offer-dialog"));
}

function chosen() {
  const { value } = at("offer-form").elements.product;
  return desk.products.find((product) => product.id === value);
}

function suggestPrice() {
  const product = chosen();
  const currency = product?.currency ?? "TWD";
  say(at("offer-price-label"), t("field_price", { currency }));
  const { price } = at("offer-form").elements;
  price.value = product ? String(product.price_minor / 10 ** exponent(currency)) : "";
}

function save(event) {
  event.preventDefault();
  return once(at("offer-submit"), send);
}

async function send() {
  const fields = at("offer-form").elements;
  const product = chosen();
  const price_minor = minorUnits(fields.price.value, product.currency);
  if (price_minor === null) {
    const digits = exponent(product.currency);
    tell(at("offer-outcome"), t("price_bad", { currency: product.currency, digits }), "bad");
    return fields.price.focus();
  }
  const body = { product: product.id, price_minor, payment: fields.payment.value };
  for (const name of ["quantity", "per_viewer", "hold_s"]) body[name] = fields[name].valueAsNumber;
  if (fields.keyword.value.trim()) body.keyword = fields.keyword.value.trim();
  for (const name of TIMES) body[name] = timeOf(fields[name]);
  // Of a draft, what is empty now is to be so; it has no time to open, or it would be scheduled.
  if (editing) body.clear = ["keyword", "closes_at"].filter((name) => body[name] === undefined);
  const work = editing
    ? () => desk.api.call("PATCH", `/v1/offers/${editing.id}`, body)
    : () => making.post(desk.api, streamPath("/offers"), body);
  if (!(await act("offer", work, ""))) return undefined;
  at("offer-dialog").close();
  tell(at("offers-outcome"), t(editing ? "saved" : "created"), "good");
  return desk.refresh();
}
