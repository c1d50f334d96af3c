// Small line charts, drawn as SVG: a spark without words, and a chart with its highest value and
// its time. Pure drawing; knows nothing of sales. Shapes are set as attributes, colours by CSS.

import { timeText } from "./text.js";

const NS = "http://www.w3.org/2000/svg";
const SPARK = { width: 120, height: 28, top: 2, bottom: 2, left: 0, right: 0 };
const CHART = { width: 320, height: 140, top: 22, bottom: 22, left: 6, right: 6 };

function make(tag, attributes, text = null) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  return element;
}

/** An SVG element for `spark`; it is decoration, the number beside it says the same. */
export function sparkBox() {
  return make("svg", { class: "spark", "aria-hidden": "true", preserveAspectRatio: "none" });
}

/** The corners of a line through values, evenly apart, from zero up to the highest. */
function corners(values, box) {
  const high = Math.max(1, ...values);
  const wide = box.width - box.left - box.right;
  const tall = box.height - box.top - box.bottom;
  const step = wide / Math.max(1, values.length - 1);
  return values.map((value, index) => [
    Math.round((box.left + index * step) * 10) / 10,
    Math.round((box.top + tall * (1 - value / high)) * 10) / 10,
  ]);
}

function shapes(values, box) {
  const line = corners(values, box);
  const floor = box.height - box.bottom;
  const points = line.map((corner) => corner.join(",")).join(" ");
  const area = `${line[0][0]},${floor} ${points} ${line.at(-1)[0]},${floor}`;
  return [make("polygon", { class: "area", points: area }), make("polyline", { class: "stroke", points })];
}

/** Draw values, oldest first. */
export function spark(svg, values) {
  svg.setAttribute("viewBox", `0 0 ${SPARK.width} ${SPARK.height}`);
  svg.replaceChildren(...(values.length > 1 ? shapes(values, SPARK) : []));
}

/**
 * Draw `points` ({at, value}, oldest first, evenly apart) with the highest value and both ends of
 * its time; `about(highest, last)` says it in words, `write` writes a value.
 */
export function chart(svg, points, write, about) {
  svg.setAttribute("viewBox", `0 0 ${CHART.width} ${CHART.height}`);
  const floor = CHART.height - CHART.bottom;
  const base = make("line", { class: "base", x1: 0, x2: CHART.width, y1: floor, y2: floor });
  if (points.length === 0) {
    svg.setAttribute("aria-label", about(0, 0));
    svg.replaceChildren(base);
    return;
  }
  const values = points.map((point) => point.value);
  const high = Math.max(...values);
  const peak = values.indexOf(high);
  const [x, y] = corners(values, CHART)[peak];
  const anchor = x < 60 ? "start" : x > CHART.width - 60 ? "end" : "middle";
  const text = (at, right) =>
    make("text", { x: right ? CHART.width : 0, y: CHART.height - 5, "text-anchor": right ? "end" : "start" },
      timeText(at));
  svg.setAttribute("aria-label", about(high, values.at(-1)));
  svg.replaceChildren(
    base,
    ...(points.length > 1 ? shapes(values, CHART) : []), // of one alone: its dot and its number
    ...(high > 0 ? [
      make("circle", { class: "peak", cx: x, cy: y, r: 3 }),
      make("text", { class: "high", x, y: y - 7, "text-anchor": anchor }, write(high)),
    ] : []),
    text(points[0].at, false),
    ...(points.length > 1 ? [text(points.at(-1).at, true)] : []),
  );
}

/** One point a minute up to `untilMs`, `minutes` of them at most; what is not in `sums` is zero. */
export function byMinute(sums, untilMs, minutes, value) {
  const known = new Map(sums.map((sum) => [sum.at, value(sum)]));
  const last = Math.floor(untilMs / 60_000) * 60_000;
  const oldest = Math.min(last, ...known.keys());
  const first = Math.max(oldest, last - (minutes - 1) * 60_000);
  const points = [];
  for (let at = first; at <= last; at += 60_000) points.push({ at, value: known.get(at) ?? 0 });
  return points;
}
