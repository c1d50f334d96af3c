// The live figures of the host's page: six numbers with a small line each, larger charts, and the
// refusals by reason. Draws what /figures, /summary and the offers say; the short lines are sampled
// here at each poll and begin anew with the page, the ones by minute are the server's.

import { at, h, keyed, say } from "./dom.js";
import { byMinute, chart, spark, sparkBox } from "./host-charts.js";
import { amount, desk, held } from "./host-desk.js";
import { number, reason, t } from "./text.js";

const SAMPLE_MS = 1_000; // the least between two: answers come faster when something happens
const SAMPLES_MAX = 120; // one each 1.5 s while nothing happens: two to three minutes
const MINUTES = 30;
const TILES = ["viewers", "rate", "revenue", "left", "unpaid", "refused"];
const REASONS_SHOWN = 2;

let samples = []; // {at, viewers, rate, refused}, oldest first, of the chosen stream
let last = null; // the figures of the sample before

/** Make the tiles, once. */
export function wireFigures() {
  at("tiles").append(...TILES.map((name) => {
    const parts = { value: h("dd", { class: "big" }), more: h("dd", { class: "dim" }), svg: sparkBox() };
    const tile = h("div", { class: `tile ${name}` }, h("dt", {}, t(`tile_${name}`)), parts.value, parts.more,
      h("dd", { class: "spark-box" }, parts.svg));
    tile.parts = parts;
    return tile;
  }));
  at("charts-toggle").addEventListener("click", () => {
    at("charts").hidden = !at("charts").hidden;
    at("charts-toggle").setAttribute("aria-expanded", String(!at("charts").hidden));
    showFigures();
  });
}

/** Begin anew, with another stream. */
export function forgetFigures() {
  samples = [];
  last = null;
}

/**
 * Take what /figures said. Orders a second are the server's, over ten seconds: it counts once a
 * second, so between two answers that are closer there would be peaks that never were.
 */
export function sampleFigures(figures) {
  if (samples.length > 0 && figures.now > samples.at(-1).at && figures.now < samples.at(-1).at + SAMPLE_MS) return;
  const refused = sum(figures.refusals);
  const seconds = last ? (figures.now - last.now) / 1_000 : 0;
  if (last && (seconds <= 0 || refused < last.refused)) last = null; // Redis began anew
  const per = (n) => (last && seconds > 0 ? Math.max(0, n) / seconds : 0);
  samples = [...samples, {
    at: figures.now,
    viewers: figures.viewers,
    rate: figures.orders_last_10_s / 10,
    refused: per(refused - (last?.refused ?? 0)),
  }].slice(-SAMPLES_MAX);
  last = { now: figures.now, refused };
}

function sum(counts) {
  return Object.values(counts).reduce((all, n) => all + n, 0);
}

/** The sums of the currency in which most was sold; others are named beside it. */
export function mainSums(summary) {
  return [...(summary?.totals ?? [])].sort((a, b) => b.orders - a.orders);
}

function put(name, value, more, values) {
  const { parts } = at("tiles").children[TILES.indexOf(name)];
  say(parts.value, value);
  parts.value.classList.toggle("long", value.length > 9);
  say(parts.more, more);
  spark(parts.svg, values);
}

/** Show all figures; the charts only where they are seen. */
export function showFigures() {
  const { figures, summary, cart } = desk;
  if (!cart) return;
  const [main, ...others] = mainSums(summary);
  const until = Math.min(cart.clock.now(), desk.stream.ended_at ?? Infinity);
  const minutes = (summary?.minutes ?? []).filter((one) => one.currency === main?.currency);
  const ofMinute = (value) => byMinute(minutes, until, MINUTES, value);
  const rate = (figures?.orders_last_10_s ?? 0) / 10;
  const line = (name) => samples.map((sample) => sample[name]);
  put("viewers", number(cart.room.viewers),
    t("tile_peak", { n: number(Math.max(figures?.peak_viewers ?? 0, cart.room.viewers)) }), line("viewers"));
  put("rate", number(rate), t("tile_orders", { n: number(orders(summary)) }), line("rate"));
  const revenue = main ? amount(main.net_minor, main.currency) : "–";
  put("revenue", revenue, [
    ...others.map((sums) => amount(sums.net_minor, sums.currency)),
    t("tile_units", { n: number(main?.units ?? 0) }),
  ].join(" · "), ofMinute((one) => one.net_minor).map((point) => point.value));
  const alive = desk.offers.filter(({ status }) => ["open", "paused", "sold_out"].includes(status));
  const of = (name) => alive.reduce((all, offer) => all + offer[name], 0);
  put("left", number(of("left")), t("tile_of", { n: number(of("quantity")) }), []);
  const { units, money: owed } = held();
  put("unpaid", number(units), owed, []);
  const reasons = Object.entries(figures?.refusals ?? {}).sort((a, b) => b[1] - a[1]);
  const short = reasons.slice(0, REASONS_SHOWN).map(([code, n]) => `${why(code)} ${number(n)}`);
  put("refused", number(sum(figures?.refusals ?? {})), short.join(" · "), line("refused"));
  if (at("charts").hidden && document.body.dataset.tab !== "figures") return;
  say(at("chart-revenue-label"), t("revenue_per_minute", { currency: main?.currency ?? "" }));
  const about = (label, write) => (high, now) => t("chart_about", { label, high: write(high), now: write(now) });
  const money = (minor) => (main ? amount(minor, main.currency) : "0");
  const perMinute = t("orders_per_minute");
  chart(at("chart-orders"), ofMinute((one) => one.orders), number, about(perMinute, number));
  chart(at("chart-revenue"), ofMinute((one) => one.net_minor), money,
    about(t("revenue_per_minute", { currency: main?.currency ?? "" }), money));
  const brief = (value) => number(Math.round(value * 10) / 10);
  chart(at("chart-rate"), samples.map((one) => ({ at: one.at, value: one.rate })), brief,
    about(t("orders_per_second"), brief));
  keyed(at("refusals"), reasons.length > 0 ? reasons : [["none", 0]], ([code]) => code,
    ([code]) => h("li", {}, h("span", {}, code === "none" ? t("no_refusals") : why(code)), h("b")),
    (item, [, n]) => say(item.lastChild, n > 0 ? number(n) : ""));
}

/** Orders of all currencies. */
function orders(summary) {
  return (summary?.totals ?? []).reduce((all, sums) => all + sums.orders, 0);
}

const SHORT = ["sold_out", "limit_reached", "not_open", "not_live", "closed", "retry", "not_found"];

/** Why buys were refused, in a word or two. */
function why(code) {
  return SHORT.includes(code) ? t(`why_${code}`) : reason({ code });
}
