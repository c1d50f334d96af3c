// What a stream came to, once it has ended, and its orders as files. Files are fetched with the
// token in a header and handed over as a blob: a token never stands in an address.

import { at, h, keyed, say } from "./dom.js";
import { Problem } from "./api.js";
import { act, amount, desk, streamPath, titleOf } from "./host-desk.js";
import { mainSums } from "./host-figures.js";
import { number, t, timeText } from "./text.js";

const COLUMNS = ["orders", "units", "captured", "refunded", "net", "unpaid"];

/** Wire the exports, once. */
export function wireSummary() {
  at("export-csv").addEventListener("click", () => save("csv"));
  at("export-jsonl").addEventListener("click", () => save("jsonl"));
  for (const [id, first] of [["summary-head", "field_product"], ["minutes-head", "minute"]]) {
    at(id).append(...[t(first), ...COLUMNS.map((name) => t(`sum_${name}`))].map((text) =>
      h("th", { scope: "col" }, text)));
  }
}

/** Show the sums by product, in all, and by minute; only of a stream that is over. */
export function showSummary() {
  const { summary, stream } = desk;
  at("summary").hidden = stream.status !== "ended";
  if (stream.status !== "ended") return;
  const { totals = [], products = [], minutes = [] } = summary ?? {}; // not known yet: nothing
  at("summary-empty").hidden = !summary || totals.length > 0;
  const product = (sums) => titleOf(sums.product);
  rows("summary-rows", products, (sums) => `${sums.product} ${sums.currency}`, product);
  rows("summary-totals", mainSums(summary), (sums) => sums.currency, () => t("in_all"));
  rows("minutes-rows", minutes, (sums) => `${sums.at} ${sums.currency}`, (sums) => timeText(sums.at));
}

function rows(id, items, key, title) {
  keyed(at(id), items, key, () =>
    h("tr", {}, h("th", { scope: "row" }), ...COLUMNS.map(() => h("td"))), (row, sums) => {
    const cells = [
      title(sums), number(sums.orders), number(sums.units),
      ...["captured_minor", "refunded_minor", "net_minor"].map((name) => amount(sums[name], sums.currency)),
      `${number(sums.unpaid)} · ${amount(sums.unpaid_minor, sums.currency)}`,
    ];
    cells.forEach((text, index) => say(row.children[index], text));
  });
}

function save(kind) {
  return act("summary", async () => {
    const response = await fetch(streamPath(`/orders.${kind}`), {
      headers: { Authorization: `Bearer ${desk.token}` },
    }).catch((error) => {
      throw new Problem(0, { detail: error.message, code: "unreachable" });
    });
    if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
    // A file that was cut off fails here, so that no part is taken for the whole.
    const blob = await response.blob().catch((error) => {
      throw new Problem(0, { detail: error.message, code: "unreachable" });
    });
    const url = URL.createObjectURL(blob);
    const name = `${desk.stream.title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60)}-orders.${kind}`;
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    return true;
  }, t("exported"));
}
